/* What the C toys have in common: an instance with a life cycle that does nothing, and the entry. A toy overrides what
 * it needs in its own `toy_create`. */
#ifndef TOY_H
#define TOY_H

#include <backplane/core.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct toy {
  bp_plugin plugin; /* first, so that a toy is its table */
  const bp_host *host;
  bp_instance instance;
} toy;

static inline bool view_is(bp_view view, const char *text) {
  return view.size == strlen(text) && memcmp(view.data, text, view.size) == 0;
}

static inline bool view_contains(bp_view view, const char *text) {
  size_t length = strlen(text);
  for (uint64_t at = 0; at + length <= view.size; at++)
    if (memcmp(view.data + at, text, length) == 0) return true;
  return false;
}

static inline bp_view view_of(const char *text) {
  bp_view view = {(const uint8_t *)text, strlen(text)};
  return view;
}

/* The head of a result struct of `size` bytes. */
static inline bp_result result_of(size_t size, bp_code code, const char *message) {
  bp_result result = {(uint32_t)size, code, 0, 0, view_of(message), {NULL, 0}};
  return result;
}

static inline void toy_report(const bp_report *report, const char *pointer, const char *message) {
  bp_diagnostic diagnostic = {sizeof diagnostic, BP_SEVERITY_ERROR, view_of(pointer), view_of(message)};
  report->add(report->context, &diagnostic);
}

/* Refuses a configuration that contains "refuse me", takes any other. */
static bp_code toy_configure(void *self, const bp_configuration *configuration, const bp_report *report) {
  (void)self;
  if (view_contains(configuration->json, "refuse me")) {
    toy_report(report, "/refuse", "this toy refuses what asks to be refused; take the key out");
    return BP_INVALID_ARGUMENT;
  }
  return BP_OK;
}

static bp_code toy_nothing(void *self, uint64_t deadline_ns, const bp_report *report) {
  (void)self, (void)deadline_ns, (void)report;
  return BP_OK;
}

static void toy_free(void *self) { free(self); }

static inline toy *toy_make(size_t size, const bp_host *host, bp_instance instance,
                     const void *(*extension)(void *self, bp_view id)) {
  toy *made = calloc(1, size);
  if (made == NULL) return NULL;
  bp_plugin plugin = {sizeof plugin, 0,           made,     toy_configure, toy_nothing, toy_nothing,
                      toy_nothing,   toy_free,    NULL,     NULL,          extension};
  made->plugin = plugin;
  made->host = host;
  made->instance = instance;
  return made;
}

#define TOY_ENTRY(id_text, kind_text, create_function)                                                            \
  static const bp_view toy_kinds[] = {BP_VIEW(kind_text)};                                                        \
  static const bp_entry toy_entry = {sizeof(bp_entry),  BP_ABI_MAJOR,     BP_ABI_MINOR, 1,                        \
                                     BP_VIEW(id_text),  BP_VIEW("1.0.0"), toy_kinds,    create_function};         \
  const bp_entry *backplane_plugin_v1(void) { return &toy_entry; }

#endif
