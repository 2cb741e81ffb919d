/*
 * backplane/backend.h - the kind `backend`: keeps records. Three functions: apply, read, scan.
 *
 * A backend stores what it is given and knows nothing of schemas, policies or paging: the kernel has validated and
 * normalised, gives time stamps and versions, and does pattern, sort, total and paging once, above scan. A backend that
 * knows the total without going over the records can say so by backplane.backend.query/1 (backend_query.h).
 * Manifest: kinds ["backend"], schemes: the URL schemes that choose it (["sqlite"]); the slot's configuration then has
 * "url". `volatile: true` when the records die with the instance.
 */
#ifndef BACKPLANE_BACKEND_H
#define BACKPLANE_BACKEND_H

#include "message.h"

#ifdef __cplusplus
extern "C" {
#endif

#define BP_BACKEND_ID "backplane.backend/1"

/* A unit: 1..n ops that happen together or not at all, with one completion (bp_write_result). */
typedef struct bp_unit {
  uint32_t size;
  uint32_t ops_count; /* 1 .. 100,000 */
  const bp_op *ops;
  bp_token token;
  const bp_call *call;
  uint64_t ts_ms;   /* what every record this unit puts is stamped with */
  uint64_t version; /* likewise */
} bp_unit;

/* Leave record.data empty: only existence, ts_ms and version are asked for. Advice; a backend may ignore it. */
#define BP_READ_WITHOUT_DATA 1u

typedef struct bp_read {
  uint32_t size;
  uint32_t flags;
  bp_token token;
  const bp_call *call;
  bp_view uri;
} bp_read;

/* One page of a scan. */
typedef struct bp_scan {
  uint32_t size;
  uint32_t flags;     /* none yet; 0 */
  bp_token token;
  const bp_call *call;
  bp_view prefix;     /* records whose URI begins with these bytes ("mutable://open/a/"); empty: all */
  bp_view cursor;     /* empty: from the beginning; else what the page before returned */
  uint32_t credits;   /* at most so many items, 1 .. 65,536; fewer are fine */
  uint32_t reserved;
} bp_scan;

typedef struct bp_scan_item {
  bp_view uri;
  uint64_t ts_ms;
  uint64_t version;
  uint64_t size_bytes; /* of the data */
  uint32_t content;
  uint32_t reserved;
} bp_scan_item;

typedef struct bp_scan_result {
  bp_result result;
  const bp_scan_item *items;
  uint32_t items_count;
  uint32_t item_size; /* sizeof(bp_scan_item) of the plugin's header: the stride of items */
  bp_view cursor;     /* where the next page begins; empty: this was the last. Opaque, at most 4 KiB. A cursor stays
                         good while records come and go: one that exists throughout is seen exactly once */
} bp_scan_result;

/* A unit of several ops is all or nothing. Without this flag such a unit is refused by the kernel, never split. */
#define BP_BACKEND_ATOMIC 1u
/* Keeps bp_record.version and honours BP_IF_VERSION. */
#define BP_BACKEND_VERSIONS 2u
/* The records are another node's, which receives each message anew over a protocol that does not carry everything: ts_ms
 * of what is read and scanned is that node's own, BP_IF_ABSENT and BP_IF_PRESENT may be BP_UNIMPLEMENTED, a scan takes a
 * prefix that names a program at least ("mutable://open/") and refuses shorter ones with BP_UNIMPLEMENTED, and of an item
 * only the URI is sure. Units of several ops come to it although it is not ATOMIC: one whose ops are what follows from
 * its first (an envelope and its outputs) is applied by sending that first one on, as a whole as far as the other node
 * can; any other is BP_UNIMPLEMENTED. Everything else holds. */
#define BP_BACKEND_REMOTE 4u

typedef struct bp_backend {
  uint32_t size;
  uint32_t flags;          /* BP_BACKEND_* */
  uint32_t apply_mode;     /* BP_MODE_* */
  uint32_t read_mode;
  uint32_t scan_mode;
  uint32_t durability_max; /* the best that apply can acknowledge */

  /* Applies units. Each unit has its own token and is completed on its own (bp_write_result), in any order; the backend
   * may share one commit among them, but a unit that fails fails no other. Ops of a unit apply in order; a later op to
   * the same URI wins. A unit whose precondition does not hold changes nothing and completes with
   * BP_FAILED_PRECONDITION and failed_op. Units submitted by one call to apply, and by calls one after the other on one
   * thread, to the same URI take effect in that order. The completion comes when the durability it states is reached.
   * The unit structs themselves are valid until this returns; ops, their views and call until the unit's token is
   * completed. Putting identical bytes again is a change: ts_ms and version move. [any-thread] [states: SERVING] */
  void (*apply)(void *self, const bp_unit *units, uint32_t units_count);

  /* Reads records: each has its own token and its own completion (bp_read_result; BP_NOT_FOUND when there is none), in
   * any order and as soon as it is there: the first does not wait for the last. A read sees every unit that was completed
   * before it was submitted. One call carries the records that are asked for together, up to 256 (a read-multi; a direct
   * `read` gets them one at a time): ask for them in one round trip where that helps. The same URI may come twice. The
   * bp_read structs are valid until this returns, their views until the token is completed.
   * [any-thread] [states: SERVING] */
  void (*read)(void *self, const bp_read *reads, uint32_t reads_count);

  /* One page of records in ONE STABLE ORDER of the backend's choice (bp_scan_result). [any-thread] [states: SERVING] */
  void (*scan)(void *self, const bp_scan *scan);
} bp_backend;

BP_STATIC_ASSERT(sizeof(bp_unit) == 48 && offsetof(bp_unit, token) == 16, "bp_unit");
BP_STATIC_ASSERT(sizeof(bp_read) == 40 && offsetof(bp_read, uri) == 24, "bp_read");
BP_STATIC_ASSERT(sizeof(bp_scan) == 64 && offsetof(bp_scan, credits) == 56, "bp_scan");
BP_STATIC_ASSERT(sizeof(bp_scan_item) == 48, "bp_scan_item");
BP_STATIC_ASSERT(sizeof(bp_scan_result) == 80 && offsetof(bp_scan_result, cursor) == 64, "bp_scan_result");
BP_STATIC_ASSERT(sizeof(bp_backend) == 48 && offsetof(bp_backend, apply) == 24, "bp_backend");

#ifdef __cplusplus
}
#endif

#endif
