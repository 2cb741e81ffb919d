/*
 * backplane/node.h - host tables: backplane.node/1, the node as plugins use it, and backplane.observe/1, what is known
 * about it. A transport calls them for its clients, a validator for its reads, a service for its work.
 *
 * Every function that takes a bp_completion is submit + complete (core.h): it returns a token for cancel, or 0 when the
 * call was completed before it returned. Views in requests are needed only until the function returns.
 */
#ifndef BACKPLANE_NODE_H
#define BACKPLANE_NODE_H

#include "message.h"

#ifdef __cplusplus
extern "C" {
#endif

#define BP_NODE_ID "backplane.node/1"

typedef struct bp_receive {
  uint32_t size;
  uint32_t content; /* BP_CONTENT_*; JSON must be valid: the transport has checked it, the node does not look */
  bp_view uri;      /* as received; the node normalises */
  bp_buffer data;   /* ownership passes to the node, whatever the answer */
} bp_receive;

/* One answer of read_multi: `index` into the request's array. */
typedef struct bp_read_item {
  bp_chunk chunk;
  uint32_t index;
  uint32_t reserved;
  const bp_read_result *read;
} bp_read_item;

#define BP_SORT_NONE 0u /* the backend's stable order */
#define BP_SORT_NAME 1u /* ICU root collation of the URI */
#define BP_SORT_TIMESTAMP 2u

#define BP_LIST_DESCENDING 1u

typedef struct bp_list {
  uint32_t size;
  uint32_t flags;   /* BP_LIST_* */
  bp_view uri;      /* records strictly below it, by path segment */
  bp_view pattern;  /* ICU regular expression, unanchored, on the whole URI; empty: all. One that does not compile gives
                       an empty page */
  uint32_t sort;    /* BP_SORT_* */
  uint32_t reserved;
  uint64_t page;    /* from 1 */
  uint64_t limit;   /* 1 .. list_page_records_max */
} bp_list;

typedef struct bp_list_result {
  bp_result result;
  const bp_view *uris;
  uint64_t uris_count;
  uint64_t total; /* of all pages */
  uint64_t page;
  uint64_t limit;
} bp_list_result;

typedef struct bp_node {
  uint32_t size;
  uint32_t reserved;

  /* Receives a message: normalise, judge, write (bp_write_result). BP_REJECTED: the schema's refusal, its text is the
   * message. [any-thread] [no-block] [states: SERVING] */
  bp_token (*receive)(bp_instance instance, const bp_call *call, const bp_receive *request, bp_completion completion);

  /* Reads one record: backends in order, the first that has it (bp_read_result). Result views are valid during complete.
   * BP_NOT_FOUND when every backend answered and none has it. [any-thread] [no-block] [states: SERVING] */
  bp_token (*read)(bp_instance instance, const bp_call *call, bp_view uri, bp_completion completion);

  /* Reads up to limits.batch_messages_max records: a bp_read_item chunk for each, in any order, one at a time, then
   * complete (bp_result). Without credits: the number is bounded and each chunk is one record.
   * [any-thread] [no-block] [states: SERVING] */
  bp_token (*read_multi)(bp_instance instance, const bp_call *call, const bp_view *uris, uint32_t uris_count,
                         bp_completion completion);

  /* Lists (bp_list_result). [any-thread] [no-block] [states: SERVING] */
  bp_token (*list)(bp_instance instance, const bp_call *call, const bp_list *request, bp_completion completion);

  /* Deletes exactly one record (bp_write_result). BP_NOT_FOUND when no backend had it.
   * [any-thread] [no-block] [states: SERVING] */
  bp_token (*remove)(bp_instance instance, const bp_call *call, bp_view uri, bp_completion completion);

  /* The programs that the schemas list, in order. [any-thread] [no-block] [states: SERVING] */
  void (*programs)(bp_instance instance, void *context, void (*add)(void *context, bp_view key));

  /* Writes the normal form of a URI and BP_OK, or BP_INVALID_ARGUMENT when it is none. Pure; also in a probe.
   * [any-thread] [no-block] [states: any] */
  bp_code (*normalise)(bp_instance instance, bp_view uri, bp_sink sink);
} bp_node;

#define BP_OBSERVE_ID "backplane.observe/1"

/* One slot, as /health shows it. */
typedef struct bp_slot_health {
  uint32_t size;
  uint32_t state;     /* BP_HEALTH_* */
  bp_view slot;       /* "primary" */
  bp_view kind;       /* "backend"; "peer": a backend slot that is another node beside this one */
  bp_view plugin;     /* "org.backplane.sqlite" */
  bp_view version;
  bp_view scheme;     /* the scheme of its URL, "sqlite"; empty when it has none */
  bp_view message;    /* empty, or one sentence */
} bp_slot_health;

/* What the node has counted of one of its own operations since it began, over all transports and services: receive,
 * read, read_multi, list, remove. */
typedef struct bp_operation_counts {
  uint32_t size;
  uint32_t buckets_count;
  bp_view name;            /* "receive" */
  uint64_t calls;          /* that have ended */
  uint64_t failures;       /* of which neither went well nor were refused for the request's own sake (BP_UNAVAILABLE,
                              BP_DEADLINE_EXCEEDED, BP_INTERNAL and the like; not BP_NOT_FOUND, not BP_REJECTED) */
  uint64_t time_ns;        /* that they took together */
  const uint64_t *buckets; /* calls by time: bucket i is below 256 ns << i, the last is all above; valid during the call */
} bp_operation_counts;

#define BP_READY 1u /* the node serves: everything configured is in place */

typedef struct bp_observe {
  uint32_t size;
  uint32_t reserved;

  /* Calls add for each slot in configured order, then returns flags (BP_READY) with the worst state in *state.
   * [any-thread] [states: SERVING] */
  uint32_t (*health)(bp_instance instance, uint32_t *state, void *context,
                     void (*add)(void *context, const bp_slot_health *slot));

  /* Writes all metrics in OpenMetrics text. [any-thread] [states: SERVING] */
  void (*metrics)(bp_instance instance, bp_sink sink);

  /* Calls add for each of the node's operations. [any-thread] [states: SERVING] */
  void (*operations)(bp_instance instance, void *context,
                     void (*add)(void *context, const bp_operation_counts *counts));
} bp_observe;

BP_STATIC_ASSERT(sizeof(bp_receive) == 56 && offsetof(bp_receive, data) == 24, "bp_receive");
BP_STATIC_ASSERT(sizeof(bp_read_item) == 40, "bp_read_item");
BP_STATIC_ASSERT(sizeof(bp_list) == 64 && offsetof(bp_list, page) == 48, "bp_list");
BP_STATIC_ASSERT(sizeof(bp_list_result) == 88, "bp_list_result");
BP_STATIC_ASSERT(sizeof(bp_node) == 64, "bp_node");
BP_STATIC_ASSERT(sizeof(bp_slot_health) == 104, "bp_slot_health");
BP_STATIC_ASSERT(sizeof(bp_operation_counts) == 56, "bp_operation_counts");
BP_STATIC_ASSERT(sizeof(bp_observe) == 32, "bp_observe");

#ifdef __cplusplus
}
#endif

#endif
