/*
 * backplane/state.h - backplane.state/1: what a plugin keeps in memory moves to its successor, so that replacing or
 * reconfiguring the plugin loses nothing.
 *
 * Offered by bp_plugin.extension(BP_STATE_ID), by a plugin of any kind. The manifest says the same number as
 * format_version under "state_version"; the kernel compares them, and a difference refuses the plugin. A backend whose
 * records die with the instance (manifest: `volatile: true`) and that does not offer this cannot be replaced without
 * loss: the kernel refuses to, unless it is told to lose them.
 *
 * THE ORDER, which the kernel keeps:
 *
 *   1. The successor is created, configured and started. No data call has reached it, and none will before step 5.
 *   2. SNAPSHOT: the old instance exports what it holds, chunk by chunk, while it serves as ever. The successor imports
 *      each chunk as it comes.
 *   3. The fence: new units to the slot are parked, those already submitted finish. From here the old instance gets no
 *      change; reads stay with it.
 *   4. REST: the old instance exports what has changed since its snapshot was begun - records put again, and deletions.
 *      The successor imports it. This is the time that callers wait for, so it is proportional to the changes and not to
 *      the whole.
 *   5. Publish: parked units go to the successor. The old instance quiesces, stops and is destroyed.
 *
 * Whatever fails before step 5 - an export or import that answers an error, a bound on size or time that is hit - leaves
 * the old instance in its place: ABANDON, the fence is lifted, and it serves on as though nothing had been asked. The
 * successor is stopped and destroyed, half full as it is. A later handover begins with a new SNAPSHOT.
 *
 * Rolling back is the same in the other direction: a fresh instance of the older image imports from the newer one.
 *
 * A PHASE IS ONE BYTE STREAM, cut into chunks of at most 1 MiB. The cuts mean nothing: a record may be larger than a
 * chunk, and a chunk may hold many. The successor gets the same chunks in the same order. What is in the stream is the
 * plugin's own business, but: it must not depend on the process (addresses, a hash seed, a byte order), since instances
 * may run in different ones; and import must check what it reads, since a stream may come from another version, or be
 * torn. A stream that is not understood is an error, never a crash.
 */
#ifndef BACKPLANE_STATE_H
#define BACKPLANE_STATE_H

#include "core.h"

#ifdef __cplusplus
extern "C" {
#endif

#define BP_STATE_ID "backplane.state/1"

/* All that the instance holds. The instance begins to note which of its records change, and goes on noting until REST or
 * ABANDON; by key, so that it is bounded by the number of records and not by the number of changes. It need not be one
 * moment's picture: a record that changes meanwhile may be in it or not, old or new, since it comes again in REST. What
 * was there throughout must be in it. A second SNAPSHOT starts over: what was noted is forgotten. */
#define BP_STATE_SNAPSHOT 0u

/* What has changed since the snapshot was begun: records put again, and deletions. SNAPSHOT and REST together are exactly
 * what the instance holds at the fence. Only after a SNAPSHOT that ended with BP_OK (else BP_FAILED_PRECONDITION). With
 * it the instance stops noting: should the handover fail now, there will be another SNAPSHOT, never a second REST. */
#define BP_STATE_REST 1u

/* No REST will come: forget what was noted. Emits nothing and completes with BP_OK at once, also when there is nothing to
 * forget. Export only; never imported. */
#define BP_STATE_ABANDON 2u

#define BP_STATE_CHUNK_BYTES_MAX 1048576u

typedef struct bp_state_export {
  uint32_t size;
  uint32_t phase;   /* BP_STATE_* */
  uint32_t credits; /* chunks that may be emitted at once, 1 .. 1024; more by grant */
  uint32_t reserved;
} bp_state_export;

/* The last chunk of a phase. It may be empty: while exporting, nobody knows which chunk is the last. */
#define BP_STATE_LAST 1u

typedef struct bp_state_import {
  uint32_t size;
  uint32_t flags;          /* BP_STATE_LAST */
  uint32_t format_version; /* of the exporter */
  uint32_t phase;          /* BP_STATE_SNAPSHOT, then BP_STATE_REST */
  uint64_t sequence;       /* chunk number, from 0 in each phase, without a gap */
  bp_view bytes;           /* one exported chunk, whole; valid until the token is completed */
} bp_state_import;

typedef struct bp_state {
  uint32_t size;
  uint32_t format_version;        /* what export writes; at least 1; state_version of the manifest */
  uint32_t format_version_oldest; /* the oldest that import reads. It gates rollback: an older image is not gone back to
                                     when it cannot read what the newer one writes */
  uint32_t reserved;

  /* Exports one phase: a stream of bp_chunk (bp_host.emit; count 1, at most BP_STATE_CHUNK_BYTES_MAX bytes each), then a
   * completion (bp_result). At most one export is open on an instance, save that ABANDON may follow a cancel whose
   * completion has not come yet.
   *
   * Returns soon: it emits from a thread of the plugin's own, or at once as far as its credits go. When they are used up,
   * emit answers BP_RESOURCE_EXHAUSTED and takes nothing until bp_plugin.grant(token, n); waiting for that inside this
   * function would be waiting for the thread that called it. The kernel grants as the successor has taken chunks, so an
   * exporter holds a few chunks in memory and never the whole. In SNAPSHOT calls go on meanwhile: hold no lock for long.
   * bp_plugin.cancel(token) ends the export with BP_CANCELLED.
   *
   * Any completion but BP_OK refuses the change, with its message. [any-thread] [no-block] [states: SERVING] */
  void (*export_state)(void *self, const bp_call *call, const bp_state_export *request, bp_token token);

  /* Imports one chunk. The completion (bp_result) is the back-pressure: the next chunk comes only after it, so calls never
   * overlap and chunks are in order, though not on one thread. Called after start and before any data call. The instance
   * must be complete when the chunk with BP_STATE_LAST of REST is completed: data calls may come before that completion
   * has returned. The completion says:
   *   BP_OK                  taken.
   *   BP_UNIMPLEMENTED       this format_version is not read. Said to the first chunk of SNAPSHOT and to no other, with
   *                          nothing kept. It is legal: the instance is published as it is, a cold start, and the receipt
   *                          says so.
   *   BP_RESOURCE_EXHAUSTED  it does not fit this instance's limits; the message names the key and both numbers. The
   *                          change is refused with the message: a smaller bound must not throw records away.
   *   anything else          the stream is torn or foreign, or something broke. The change is refused with the message.
   * After anything but BP_OK and BP_UNIMPLEMENTED the instance gets no other call than stop and destroy.
   *
   * The caller is no event loop: it may take as long as a chunk takes. bp_plugin.cancel(token) gives the import up.
   * [any-thread] [states: SERVING] */
  void (*import_state)(void *self, const bp_call *call, const bp_state_import *request, bp_token token);
} bp_state;

BP_STATIC_ASSERT(sizeof(bp_state_export) == 16, "bp_state_export");
BP_STATIC_ASSERT(sizeof(bp_state_import) == 40 && offsetof(bp_state_import, sequence) == 16 &&
                   offsetof(bp_state_import, bytes) == 24,
                 "bp_state_import");
BP_STATIC_ASSERT(sizeof(bp_state) == 32 && offsetof(bp_state, export_state) == 16, "bp_state");

#ifdef __cplusplus
}
#endif

#endif
