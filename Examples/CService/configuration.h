/* Looks at the keys of a configuration, so that a typing mistake is an error instead of a silence. The host has checked
 * that the text is a JSON object; this walks its first level and reads nothing deeper. Replace it with a JSON library
 * when the plugin's settings outgrow it. */
#ifndef CONFIGURATION_H
#define CONFIGURATION_H

#include <backplane/core.h>
#include <stdio.h>
#include <string.h>

/* A key and the first bytes that its value may have: "\"" a text, "-0123456789" a number, "tf" true or false. */
typedef struct known_key {
  const char *name;
  const char *first_bytes;
  const char *what;
} known_key;

static void configuration_problem(const bp_report *report, const char *key, size_t key_size, const char *what) {
  char pointer[128], message[256];
  int size = key_size < 64 ? (int)key_size : 64;
  int pointer_size = snprintf(pointer, sizeof pointer, "/%.*s", size, key);
  int message_size = snprintf(message, sizeof message, "%s", what);
  bp_diagnostic diagnostic = {sizeof diagnostic, BP_SEVERITY_ERROR, {(const uint8_t *)pointer, (uint64_t)pointer_size},
                              {(const uint8_t *)message, (uint64_t)message_size}};
  report->add(report->context, &diagnostic);
}

/* Just behind the text that begins at `from`, a quotation mark. */
static const char *behind_text(const char *from, const char *end) {
  for (const char *at = from + 1; at < end; at++) {
    if (*at == '\\') at++;
    else if (*at == '"') return at + 1;
  }
  return end;
}

/* Just behind the value that begins at `from`. */
static const char *behind_value(const char *from, const char *end) {
  int depth = 0;
  const char *at = from;
  while (at < end) {
    if (*at == '"') {
      at = behind_text(at, end);
      if (depth == 0) return at;
      continue;
    }
    if (*at == '{' || *at == '[') depth++;
    if (*at == '}' || *at == ']') {
      if (depth == 0) return at;
      if (--depth == 0) return at + 1;
    }
    if (*at == ',' && depth == 0) return at;
    at++;
  }
  return end;
}

static const char *skip_space(const char *at, const char *end) {
  while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) at++;
  return at;
}

/* BP_OK when every key is known and its value is of the right type; else every mistake is in the report. */
static bp_code check_configuration(const bp_configuration *configuration, const bp_report *report, const known_key *keys,
                                   size_t keys_count) {
  const char *at = (const char *)configuration->json.data, *end = at + configuration->json.size;
  bp_code code = BP_OK;
  at = skip_space(at, end);
  if (at < end && *at == '{') at++;
  while ((at = skip_space(at, end)) < end && *at == '"') {
    const char *key = at + 1;
    at = behind_text(at, end);
    size_t key_size = (size_t)(at - key) - 1;
    at = skip_space(at, end);
    if (at >= end || *at != ':') break;
    at = skip_space(at + 1, end);
    const known_key *known = NULL;
    for (size_t index = 0; index < keys_count; index++) {
      if (strlen(keys[index].name) == key_size && memcmp(keys[index].name, key, key_size) == 0) known = &keys[index];
    }
    if (known == NULL) {
      configuration_problem(report, key, key_size, "this plugin has no such key; remove it or correct its name");
      code = BP_INVALID_ARGUMENT;
    } else if (at >= end || strchr(known->first_bytes, *at) == NULL) {
      configuration_problem(report, key, key_size, known->what);
      code = BP_INVALID_ARGUMENT;
    }
    at = skip_space(behind_value(at, end), end);
    if (at < end && *at == ',') at++;
  }
  return code;
}

#endif
