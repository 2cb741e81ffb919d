/*
 * backplane/backend_query.h - backplane.backend.query/1: a backend that can say how many records lie below a prefix, and
 * give one page of them from the middle, without going over all of them.
 *
 * Offered by bp_plugin.extension(BP_BACKEND_QUERY_ID), by a backend, beside its bp_backend. Optional: whatever it answers
 * can be had by scanning, and `backplane plugin check` compares the two. The kernel uses it for a list without a pattern
 * and in the backend's own order; a pattern and a collation are its own business and make it scan, because they must be
 * the same above every backend. Offer it when it is much cheaper than handing over every record: a count that is kept or
 * read from an index, a database or another node on the far side of a network. One that would go over the records anyway
 * leaves it out.
 */
#ifndef BACKPLANE_BACKEND_QUERY_H
#define BACKPLANE_BACKEND_QUERY_H

#include "backend.h"

#ifdef __cplusplus
extern "C" {
#endif

#define BP_BACKEND_QUERY_ID "backplane.backend.query/1"

typedef struct bp_query {
  uint32_t size;
  uint32_t flags;   /* none yet; 0 */
  bp_token token;
  const bp_call *call;
  bp_view prefix;   /* as bp_scan.prefix, and it ends with a slash or is empty */
  uint64_t offset;  /* records to pass over, in the order of scan */
  uint32_t limit;   /* at most so many items, 0 .. 65,536; 0: only the total */
  uint32_t reserved;
} bp_query;

typedef struct bp_query_result {
  bp_result result;
  const bp_scan_item *items; /* records number offset, offset + 1, ... of a scan from its beginning */
  uint32_t items_count;
  uint32_t item_size;        /* sizeof(bp_scan_item) of the plugin's header: the stride of items */
  uint64_t total;            /* records whose URI begins with the prefix, on all pages */
} bp_query_result;

typedef struct bp_backend_query {
  uint32_t size;
  uint32_t mode; /* BP_MODE_*, of query */

  /* Answers one page and the total (bp_query_result). Without writes in between it is exactly what a scan gives: the same
   * records in the same order, fewer than `limit` only at the end. Page and total should be of one moment; a write that
   * comes between them may show in one and not in the other, and no worse.
   *
   * BP_UNIMPLEMENTED says that this query is not cheaper than scanning - the offset is too far in, say - and the kernel
   * scans. It costs the caller nothing but the call, so answer it at once. Any other failure is the list's, as a failure
   * of scan would be. [any-thread] [states: SERVING] */
  void (*query)(void *self, const bp_query *query);
} bp_backend_query;

BP_STATIC_ASSERT(sizeof(bp_query) == 56 && offsetof(bp_query, offset) == 40, "bp_query");
BP_STATIC_ASSERT(sizeof(bp_query_result) == 72 && offsetof(bp_query_result, total) == 64, "bp_query_result");
BP_STATIC_ASSERT(sizeof(bp_backend_query) == 16, "bp_backend_query");

#ifdef __cplusplus
}
#endif

#endif
