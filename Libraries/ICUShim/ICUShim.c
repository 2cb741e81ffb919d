#include "ICUShim.h"

#include <limits.h>
#include <stdlib.h>
#include <time.h>
#include <unicode/ucol.h>
#include <unicode/uregex.h>
#include <unicode/ustring.h>

typedef struct {
  UChar *units;
  int32_t count;
  int32_t capacity;
} utf16_buffer;

struct icu_shim_collator {
  UCollator *collator;
  utf16_buffer text;
};

struct icu_shim_regex {
  URegularExpression *regex;
  utf16_buffer text;
  int64_t deadline_ns;
  uint32_t places;
};

// UTF-16 never has more units than UTF-8 has bytes. Returns 0 when the text does not fit into memory.
static int widen(utf16_buffer *buffer, const uint8_t *text, size_t length) {
  if (length > INT32_MAX / 4) return 0;
  int32_t count = (int32_t)length;
  if (buffer->capacity < count + 1) {
    int32_t capacity = count + 1 < 256 ? 256 : (count + 1) * 2;
    UChar *units = realloc(buffer->units, (size_t)capacity * sizeof(UChar));
    if (units == NULL) return 0;
    buffer->units = units;
    buffer->capacity = capacity;
  }
  uint8_t seen = 0;
  for (int32_t index = 0; index < count; index++) {
    seen |= text[index];
    buffer->units[index] = text[index];
  }
  buffer->count = count;
  if (seen < 0x80) return 1;
  UErrorCode status = U_ZERO_ERROR;
  u_strFromUTF8WithSub(
      buffer->units, buffer->capacity, &buffer->count, (const char *)text, count, 0xFFFD, NULL, &status);
  return U_SUCCESS(status);
}

int32_t icu_shim_collator_open(icu_shim_collator **out) {
  *out = NULL;
  icu_shim_collator *collator = calloc(1, sizeof *collator);
  if (collator == NULL) return U_MEMORY_ALLOCATION_ERROR;
  UErrorCode status = U_ZERO_ERROR;
  collator->collator = ucol_open("root", &status);
  if (U_FAILURE(status)) {
    free(collator);
    return status;
  }
  *out = collator;
  return U_ZERO_ERROR;
}

void icu_shim_collator_close(icu_shim_collator *collator) {
  if (collator == NULL) return;
  ucol_close(collator->collator);
  free(collator->text.units);
  free(collator);
}

int32_t icu_shim_collator_sort_key(
    icu_shim_collator *collator, const uint8_t *text, size_t length, uint8_t *key, int32_t capacity) {
  if (!widen(&collator->text, text, length)) return 0;
  return ucol_getSortKey(collator->collator, collator->text.units, collator->text.count, key, capacity);
}

int32_t icu_shim_collator_compare(
    icu_shim_collator *collator, const uint8_t *left, size_t left_length, const uint8_t *right, size_t right_length,
    int32_t *code) {
  if (left_length > INT32_MAX / 4 || right_length > INT32_MAX / 4) {
    *code = U_ILLEGAL_ARGUMENT_ERROR;
    return 0;
  }
  UErrorCode status = U_ZERO_ERROR;
  int32_t order = ucol_strcollUTF8(
      collator->collator, (const char *)left, (int32_t)left_length, (const char *)right, (int32_t)right_length, &status);
  *code = status;
  return order;
}

static UBool U_CALLCONV has_time_left(const void *context, int32_t steps) {
  (void)steps;
  return icu_shim_now_ns() < ((const icu_shim_regex *)context)->deadline_ns;
}

// Called for every place where a match could begin, too often to ask the clock each time. It is needed beside the other
// one, which counts backtracking only: a loop over a set at every place of a long text backtracks little.
static UBool U_CALLCONV has_time_left_at(const void *context, int64_t index) {
  (void)index;
  icu_shim_regex *regex = (icu_shim_regex *)context;
  return ++regex->places % 32 != 0 || has_time_left(regex, 0);
}

int32_t icu_shim_regex_open(
    const uint8_t *pattern, size_t length, int32_t steps_max, int32_t stack_bytes_max, icu_shim_regex **out) {
  *out = NULL;
  icu_shim_regex *regex = calloc(1, sizeof *regex);
  if (regex == NULL || !widen(&regex->text, pattern, length)) {
    free(regex);
    return U_MEMORY_ALLOCATION_ERROR;
  }
  UErrorCode status = U_ZERO_ERROR;
  UParseError place;
  regex->regex = uregex_open(regex->text.units, regex->text.count, 0, &place, &status);
  if (U_SUCCESS(status)) {
    uregex_setTimeLimit(regex->regex, steps_max, &status);
    uregex_setStackLimit(regex->regex, stack_bytes_max, &status);
    uregex_setMatchCallback(regex->regex, has_time_left, regex, &status);
    uregex_setFindProgressCallback(regex->regex, has_time_left_at, regex, &status);
  }
  if (U_FAILURE(status)) {
    icu_shim_regex_close(regex);
    return status;
  }
  *out = regex;
  return U_ZERO_ERROR;
}

void icu_shim_regex_close(icu_shim_regex *regex) {
  if (regex == NULL) return;
  uregex_close(regex->regex);
  free(regex->text.units);
  free(regex);
}

int icu_shim_is_pattern_error(int32_t code) {
  return (code >= U_REGEX_ERROR_START && code < U_REGEX_ERROR_LIMIT && code != U_REGEX_INTERNAL_ERROR)
      || code == U_ILLEGAL_ARGUMENT_ERROR;
}

icu_shim_search_result icu_shim_regex_find(
    icu_shim_regex *regex, const uint8_t *text, size_t length, int64_t deadline_ns) {
  if (!widen(&regex->text, text, length)) return ICU_SHIM_FAILED;
  regex->deadline_ns = deadline_ns;
  UErrorCode status = U_ZERO_ERROR;
  uregex_setText(regex->regex, regex->text.units, regex->text.count, &status);
  UBool found = uregex_find(regex->regex, 0, &status);
  switch (status) {
    case U_REGEX_TIME_OUT:
    case U_REGEX_STOPPED_BY_CALLER:
      return ICU_SHIM_TIMED_OUT;
    case U_REGEX_STACK_OVERFLOW:
      return ICU_SHIM_STACK_FULL;
    default:
      if (U_FAILURE(status)) return ICU_SHIM_FAILED;
      return found ? ICU_SHIM_MATCH : ICU_SHIM_NO_MATCH;
  }
}

int64_t icu_shim_now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

const char *icu_shim_error_name(int32_t code) { return u_errorName((UErrorCode)code); }
