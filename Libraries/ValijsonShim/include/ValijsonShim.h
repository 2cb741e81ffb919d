// JSON Schema (drafts 4 and 7) by valijson, bounded: the parts of it that recurse without end, take quadratic time or
// run std::regex are replaced in ValijsonShim.cpp. No C++ exception leaves these functions.
//
// Schemas come prepared (see JSONSchema in Libraries/RuleBook): `$ref` only within the document, no circles of
// references alone, patterns in ICU's dialect.
#ifndef BACKPLANE_VALIJSON_SHIM_H
#define BACKPLANE_VALIJSON_SHIM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// A compiled schema. Any number of threads may check with it at a time.
typedef struct valijson_shim_schema valijson_shim_schema;

typedef enum {
  VALIJSON_SHIM_FITS = 0,
  VALIJSON_SHIM_DIFFERS = 1,
  /// More schemas inside one another than `depth_max`.
  VALIJSON_SHIM_TOO_DEEP = 2,
  /// The deadline has passed.
  VALIJSON_SHIM_TOO_SLOW = 3,
  /// The value is not JSON that doubles and 64-bit integers can hold.
  VALIJSON_SHIM_UNREADABLE = 4,
  /// Anything else, such as no memory.
  VALIJSON_SHIM_FAILED = 5,
} valijson_shim_result;

typedef struct {
  /// CLOCK_MONOTONIC. Asked every few dozen steps and during every match of a pattern.
  int64_t deadline_ns;
  /// Schemas that may be open inside one another; each costs about 2 KB of stack (6 KB without optimisation).
  uint32_t depth_max;
  /// Most differences that are reported.
  uint32_t differences_max;
} valijson_shim_bounds;

/// One thing that does not fit: where in the value (JSON pointer), which keyword says so, and a sentence. Borrowed for
/// the call.
typedef void (*valijson_shim_difference)(
    void *context, const char *pointer, size_t pointer_size, const char *keyword, const char *text, size_t text_size);

/// Compiles `json` for draft 4 or 7. NULL on failure; then `problem` (of `capacity` bytes) holds a text that ends with a
/// zero byte. The caller closes the schema.
///
/// Compiling recurses through every reference: up to 10 KB of stack for each schema in the document (2 KB with
/// optimisation). With `stack_size` above 0 it happens on a thread that has so much, and this waits for it.
valijson_shim_schema *valijson_shim_open(
    const uint8_t *json, size_t size, int32_t draft, size_t stack_size, char *problem, size_t capacity);

/// No check with it may be running.
void valijson_shim_close(valijson_shim_schema *schema);

/// Checks `json`, nested at most 128 deep, against the schema. With a `report` everything that differs is told (up to
/// the bound); without, the first difference ends the check.
valijson_shim_result valijson_shim_check(
    valijson_shim_schema *schema, const uint8_t *json, size_t size, const valijson_shim_bounds *bounds, void *context,
    valijson_shim_difference report);

#ifdef __cplusplus
}
#endif

#endif
