/*
 * backplane/draft/state.h - DRAFT, not promised: backplane.state/1, moving what a plugin keeps in memory to its
 * successor. Order (fixed by the kernel): export SNAPSHOT while the old instance serves; fence; export REST; import on
 * the successor; publish. Failure before publish unfences the old instance.
 */
#ifndef BACKPLANE_DRAFT_STATE_H
#define BACKPLANE_DRAFT_STATE_H

#include "../core.h"

#ifdef __cplusplus
extern "C" {
#endif

#define BP_STATE_ID "backplane.state/1"

#define BP_STATE_SNAPSHOT 0u
/* What has changed since the snapshot was begun: records put again, and records deleted. */
#define BP_STATE_REST 1u

typedef struct bp_state_export {
  uint32_t size;
  uint32_t phase;   /* BP_STATE_* */
  uint32_t credits; /* chunks that may be emitted at once; more by grant */
  uint32_t reserved;
} bp_state_export;

/* The last chunk of a phase. It may be empty: while exporting, nobody knows which chunk is the last. */
#define BP_STATE_LAST 1u

typedef struct bp_state_import {
  uint32_t size;
  uint32_t flags;          /* BP_STATE_LAST */
  uint32_t format_version; /* of the exporter */
  uint32_t phase;
  uint64_t sequence;       /* chunk number, from 0 in each phase */
  bp_view bytes;           /* one exported chunk, whole */
} bp_state_import;

typedef struct bp_state {
  uint32_t size;
  uint32_t format_version;        /* what export writes */
  uint32_t format_version_oldest; /* the oldest that import reads: gates rollback */
  uint32_t reserved;

  /* A stream of bp_chunk, then complete (bp_result). A chunk is at most 1 MiB. [any-thread] [states: SERVING] */
  void (*export_state)(void *self, const bp_call *call, const bp_state_export *request, bp_token token);

  /* One chunk; the completion is the back-pressure. BP_UNIMPLEMENTED refuses the format: a cold start, said in the
   * receipt. Called after start and before any other data call. [any-thread] [states: SERVING] */
  void (*import_state)(void *self, const bp_call *call, const bp_state_import *request, bp_token token);
} bp_state;

BP_STATIC_ASSERT(sizeof(bp_state_export) == 16, "bp_state_export");
BP_STATIC_ASSERT(sizeof(bp_state_import) == 40, "bp_state_import");
BP_STATIC_ASSERT(sizeof(bp_state) == 32, "bp_state");

#ifdef __cplusplus
}
#endif

#endif
