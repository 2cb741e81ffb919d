// The part of ICU that lists need: root collation and regular expressions. ICU renames its symbols with each version by
// macros, which Swift cannot see; behind these functions the version is whatever the system's headers say.
//
// Text goes in as UTF-8; what is malformed in it becomes U+FFFD. A handle is used by one thread at a time and owns a
// buffer that grows to the longest text given, in UTF-16. Every function that returns a code returns ICU's UErrorCode:
// positive means failure.
#ifndef BACKPLANE_ICU_SHIM_H
#define BACKPLANE_ICU_SHIM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct icu_shim_collator icu_shim_collator;
typedef struct icu_shim_regex icu_shim_regex;

/// What became of one search.
typedef enum {
  ICU_SHIM_NO_MATCH = 0,
  ICU_SHIM_MATCH = 1,
  /// The time allowed has passed, or the step limit was reached.
  ICU_SHIM_TIMED_OUT = 2,
  /// The backtracking stack reached its limit.
  ICU_SHIM_STACK_FULL = 3,
  /// Anything else, such as no memory.
  ICU_SHIM_FAILED = 4,
} icu_shim_search_result;

/// Opens the root collator with its default attributes (tertiary, non-ignorable). The caller closes it.
/// `*out` is NULL on failure.
int32_t icu_shim_collator_open(icu_shim_collator **out);
void icu_shim_collator_close(icu_shim_collator *collator);

/// Writes the sort key of a text: comparing two keys as bytes is comparing the texts. Keys end with a zero byte.
/// Returns the size of the whole key in bytes; when that exceeds `capacity` the key is incomplete, and 0 means failure.
int32_t icu_shim_collator_sort_key(
    icu_shim_collator *collator, const uint8_t *text, size_t length, uint8_t *key, int32_t capacity);

/// Compares two texts as their sort keys would: negative, 0 or positive. Cheaper than a key, and much cheaper where they
/// begin alike. `*code` is a UErrorCode.
int32_t icu_shim_collator_compare(
    icu_shim_collator *collator, const uint8_t *left, size_t left_length, const uint8_t *right, size_t right_length,
    int32_t *code);

/// Compiles a pattern: case-sensitive, no flags. `steps_max` bounds one match in steps of the engine, `stack_bytes_max`
/// its backtracking stack. The caller closes it. `*out` is NULL on failure.
int32_t icu_shim_regex_open(
    const uint8_t *pattern, size_t length, int32_t steps_max, int32_t stack_bytes_max, icu_shim_regex **out);
void icu_shim_regex_close(icu_shim_regex *regex);

/// Whether a code from `icu_shim_regex_open` says that the pattern is at fault, rather than the machine.
int icu_shim_is_pattern_error(int32_t code);

/// Looks for the pattern anywhere in the text. The search ends about when the monotonic clock reaches `deadline_ns`.
icu_shim_search_result icu_shim_regex_find(
    icu_shim_regex *regex, const uint8_t *text, size_t length, int64_t deadline_ns);

/// The monotonic clock, in ns.
int64_t icu_shim_now_ns(void);

/// ICU's name of an error code, such as `U_FILE_ACCESS_ERROR`; static memory.
const char *icu_shim_error_name(int32_t code);

#ifdef __cplusplus
}
#endif

#endif
