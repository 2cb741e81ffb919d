/*
 * backplane/draft/service.h - DRAFT, not promised: the kind `service`, and backplane.timer/1. A service uses the node
 * through backplane.node/1 and works on its own account between start and quiesce.
 */
#ifndef BACKPLANE_DRAFT_SERVICE_H
#define BACKPLANE_DRAFT_SERVICE_H

#include "../core.h"

#ifdef __cplusplus
extern "C" {
#endif

#define BP_SERVICE_ID "backplane.service/1"

typedef struct bp_service {
  uint32_t size;
  uint32_t flags;

  /* The node is complete and serves: everything of this generation has started. Not before, so that services may use
   * each other. Completed with bp_result; a failure makes the slot unhealthy, it does not undo the publication.
   * [any-thread] [states: SERVING] */
  void (*node_ready)(void *self, const bp_call *call, bp_token token);
} bp_service;

#define BP_TIMER_ID "backplane.timer/1"

/* A host table: completes (bp_result) at due_ns or on cancel (BP_CANCELLED). One shot; resolution about 10 ms; never on
 * a plugin's thread. [any-thread] [no-block] */
typedef struct bp_timer {
  uint32_t size;
  uint32_t reserved;
  bp_token (*after)(bp_instance instance, uint64_t due_ns, bp_completion completion);
} bp_timer;

BP_STATIC_ASSERT(sizeof(bp_service) == 16, "bp_service");
BP_STATIC_ASSERT(sizeof(bp_timer) == 16, "bp_timer");

#ifdef __cplusplus
}
#endif

#endif
