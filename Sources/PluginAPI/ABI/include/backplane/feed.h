/*
 * backplane/feed.h - a host table: backplane.feed/1, accepted messages as they are accepted. A transport subscribes for
 * its clients, a service for its work.
 *
 * The node keeps the last accepted writes in one bounded ring, and a subscription is a place in it: a subscriber that
 * is slow costs no memory, and one that falls off the end is told so (BP_FEED_GAP) and goes on with the oldest that is
 * left. Places outlive the subscription, so that a client which comes back goes on where it stopped; they do not outlive
 * the process (another epoch is a gap).
 */
#ifndef BACKPLANE_FEED_H
#define BACKPLANE_FEED_H

#include "message.h"

#ifdef __cplusplus
extern "C" {
#endif

#define BP_FEED_ID "backplane.feed/1"

/* URI, time and place only: for those who read what they want themselves. */
#define BP_SUBSCRIBE_WITHOUT_DATA 1u

typedef struct bp_subscribe {
  uint32_t size;
  uint32_t flags;    /* BP_SUBSCRIBE_* */
  bp_view prefix;    /* a URI: its record and all below it, by path segment, as list does; empty: everything */
  uint64_t epoch;    /* 0: from now on. Else with position: what came after that place */
  uint64_t position;
  uint32_t credits;  /* items that may come before the first grant */
  uint32_t reserved;
} bp_subscribe;

/* Items before this one were lost: they were overwritten before they could be handed over, or the place that was asked
 * for is not in the ring; or nobody can say in which order two writes of a record were made. Read again whatever depends
 * on having seen everything. */
#define BP_FEED_GAP 1u
/* The data is not here, because it was not asked for or is larger than feed.item_size_bytes_max: read the record. */
#define BP_FEED_NO_DATA 2u
/* No write: where the subscription stands now, and with BP_FEED_GAP that something was lost. The first item of every
 * subscription is one; one that hears nothing while others do gets another when the ring has turned over by a quarter,
 * at most one a second, so that the place it knows stays in the ring. It takes a credit. */
#define BP_FEED_PLACE 4u

/* One write, or one place. Views are valid during the call. Items of one record come in the order of its versions;
 * a message of several writes comes as neighbours, in the order of its ops. */
typedef struct bp_feed_item {
  bp_chunk chunk;    /* count is 1 */
  uint32_t flags;    /* BP_FEED_* */
  uint32_t verb;     /* BP_VERB_* */
  uint32_t content;  /* BP_CONTENT_* */
  uint32_t reserved;
  uint64_t epoch;
  uint64_t position; /* rising, not without holes */
  uint64_t ts_ms;
  uint64_t version;
  bp_view uri;       /* in normal form */
  bp_view data;
} bp_feed_item;

typedef struct bp_feed {
  uint32_t size;
  uint32_t reserved;

  /* Subscribes: a bp_feed_item chunk for each write that was accepted (bp_completion.chunk, which must not be NULL; one
   * at a time, on a thread of the host's, possibly before this function returns), as far as there are credits; more by
   * bp_host.grant(token), also from within chunk. It ends with bp_host.cancel(token), and when the instance is stopped:
   * BP_CANCELLED; and when the node ends or goes on in another process: BP_UNAVAILABLE. A subscription is no request: it
   * holds no lease and has no deadline.
   * BP_INVALID_ARGUMENT: the prefix is no URI. BP_RESOURCE_EXHAUSTED: feed.subscriptions_max. BP_UNAVAILABLE, retryable:
   * the node is not up yet.
   * [any-thread] [no-block] [states: SERVING] */
  bp_token (*subscribe)(bp_instance instance, const bp_call *call, const bp_subscribe *request,
                        bp_completion completion);
} bp_feed;

BP_STATIC_ASSERT(sizeof(bp_subscribe) == 48 && offsetof(bp_subscribe, epoch) == 24, "bp_subscribe");
BP_STATIC_ASSERT(sizeof(bp_feed_item) == 104 && offsetof(bp_feed_item, epoch) == 40, "bp_feed_item");
BP_STATIC_ASSERT(sizeof(bp_feed) == 16, "bp_feed");

#ifdef __cplusplus
}
#endif

#endif
