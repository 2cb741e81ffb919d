/*
 * backplane/probe.h - optional extensions that the probe and `backplane plugin check` use, in a child process.
 */
#ifndef BACKPLANE_PROBE_H
#define BACKPLANE_PROBE_H

#include "core.h"

#ifdef __cplusplus
extern "C" {
#endif

#define BP_SELF_TEST_ID "backplane.self_test/1"

/* Proves that the image works before it touches anything real. Called on an instance that was configured with purpose
 * TEST, never started, in a child process under limits; it may write into scratch_directory and nowhere else. Host
 * extensions answer BP_UNAVAILABLE. BP_OK or a report. [control] [states: CONFIGURED] */
typedef struct bp_self_test {
  uint32_t size;
  uint32_t reserved;
  bp_code (*run)(void *self, bp_view scratch_directory, uint64_t deadline_ns, const bp_report *report);
} bp_self_test;

#define BP_PREFLIGHT_ID "backplane.preflight/1"

/* Looks whether the configured resource is there: may connect, must not write. Called on an instance configured with the
 * real configuration and purpose CHECK. [control] [states: CONFIGURED] */
typedef struct bp_preflight {
  uint32_t size;
  uint32_t reserved;
  bp_code (*run)(void *self, uint64_t deadline_ns, const bp_report *report);
} bp_preflight;

BP_STATIC_ASSERT(sizeof(bp_self_test) == 16, "bp_self_test");
BP_STATIC_ASSERT(sizeof(bp_preflight) == 16, "bp_preflight");

#ifdef __cplusplus
}
#endif

#endif
