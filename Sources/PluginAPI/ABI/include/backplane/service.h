/*
 * backplane/service.h - the kind `service`: works on its own account. It uses the node through backplane.node/1 and
 * backplane.feed/1 as a client would, is woken by backplane.timer/1, and may propose a configuration of the node by
 * backplane.proposal/1. What it does between start and quiesce is its own affair; how it does is bp_host.health.
 *
 * Manifest: kinds ["service"].
 */
#ifndef BACKPLANE_SERVICE_H
#define BACKPLANE_SERVICE_H

#include "core.h"

#ifdef __cplusplus
extern "C" {
#endif

#define BP_SERVICE_ID "backplane.service/1"

typedef struct bp_service {
  uint32_t size;
  uint32_t flags; /* none yet; 0 */

  /* The node serves: the generation that this instance came with has been published. Once for each instance, after
   * start, and in a process that took the node over as well. Not within start, because a service may use what only
   * serves after it, other services among it. Completed with bp_result; a failure makes the slot unhealthy with its
   * message and does not undo the publication. The call has a deadline (reload.start_timeout_ms): work that goes on
   * is begun here and not waited for. NULL: it does not want to know. [any-thread] [states: SERVING] */
  void (*node_ready)(void *self, const bp_call *call, bp_token token);

  /* The node is about to end, and still serves: the last moment to use it ("offline" is written here). Not called when
   * only this instance goes (another version, another configuration), nor when another process takes the node over.
   * Completed with bp_result; the end goes on at the call's deadline whether it was or not. quiesce follows. NULL: it
   * does not want to know. [any-thread] [states: SERVING] */
  void (*node_ending)(void *self, const bp_call *call, bp_token token);
} bp_service;

#define BP_TIMER_ID "backplane.timer/1"

/* A host table for every kind. */
typedef struct bp_timer {
  uint32_t size;
  uint32_t reserved;

  /* Completes (bp_result) at due_ns (CLOCK_MONOTONIC) or later, or with BP_CANCELLED after bp_host.cancel(token) and
   * when the instance is stopped. One shot; resolution about 10 ms; completed on a thread of the host's, which must not
   * be blocked. BP_RESOURCE_EXHAUSTED, at once: more than 1,024 timers of one instance. Returns the token, or 0 when it
   * was completed before it returned. [any-thread] [no-block] [states: SERVING, QUIESCED] */
  bp_token (*after)(bp_instance instance, uint64_t due_ns, bp_completion completion);
} bp_timer;

#define BP_PROPOSAL_ID "backplane.proposal/1"

/* Slots that the node loses by the proposal may take records with them that only they had in memory. Without it such
 * a proposal is refused. */
#define BP_PROPOSAL_LOSES_STATE 1u
/* What was refused before is tried again, though nothing of it has changed (`backplane reload --retry`). */
#define BP_PROPOSAL_RETRIES 2u

/* A configuration that a service wants the node to have: a layer of its own over the files, the environment and the
 * flags, as JSON with keys of backplane.yaml:
 *
 *   {"replaces": ["backend"],                    kinds whose slots of the lower layers go, unless they are named here
 *    "node": {"name": …, "write_policy": …},     these two keys and no other
 *    "backends": [{"url": "memory://", …}, …],   backend slots without names, in order: one whose url a slot of the lower
 *                                                layers or of the proposal before has is that slot (and keeps what it
 *                                                holds); others are named by their scheme, as BACKEND_URL does it.
 *                                                What else an entry has are keys of the slot
 *    "slots": {"http": {"port": 8080}, …}}       as in a file: merged key by key, null takes a slot out
 *
 * The proposal may not touch slots of the kind service, nor name a plugin_path outside the plugin directories and the
 * proposing instance's state directory. That directory's folder plugins.d, if there is one, counts as the last of the
 * plugin directories: a file there takes the place of one with the same id. A proposal is kept in memory, outlives the
 * instance that made it (a successor in the same slot may replace it), goes with the node into another process, and goes
 * when its slot is no longer configured or loses `may_propose`. */
typedef struct bp_proposal {
  uint32_t size;
  uint32_t flags; /* BP_PROPOSAL_* */
  bp_view json;   /* the whole proposal, at most 1 MiB; it replaces the one before. Empty: withdraws it */
} bp_proposal;

/* How it ended. result.detail is the receipt as JSON, as `backplane reload --json` prints it; empty when there is none. */
typedef struct bp_proposal_result {
  bp_result result;
  uint64_t receipt; /* the receipt's id; 0: none */
  uint64_t generation; /* that serves now */
} bp_proposal_result;

typedef struct bp_proposals {
  uint32_t size;
  uint32_t reserved;

  /* Proposes a configuration: one reload transaction, whole or not at all, with a receipt. Completes with
   * bp_proposal_result:
   *   BP_OK                 it is in place, or was already
   *   BP_INVALID_ARGUMENT   it is no configuration; the message names what is wrong, with JSON pointers into the proposal
   *   BP_REJECTED           the reload refused it; the message has the receipt's reasons. Retryable: none of them is the
   *                         proposal's own fault (a database that cannot be reached), so that the same may be taken later
   *   BP_PERMISSION_DENIED  the slot has no `may_propose: true`
   *   BP_UNAVAILABLE        the node is ending, or goes on in another process
   * Unless BP_OK the proposal before stays in place. The reload may replace the proposing instance's neighbours while the
   * call is open, never the instance itself. There is no deadline but limits.reload_timeout_ms.
   * [any-thread] [no-block] [states: SERVING] */
  bp_token (*propose)(bp_instance instance, const bp_call *call, const bp_proposal *proposal, bp_completion completion);
} bp_proposals;

BP_STATIC_ASSERT(sizeof(bp_service) == 24, "bp_service");
BP_STATIC_ASSERT(sizeof(bp_timer) == 16, "bp_timer");
BP_STATIC_ASSERT(sizeof(bp_proposal) == 24 && offsetof(bp_proposal, json) == 8, "bp_proposal");
BP_STATIC_ASSERT(sizeof(bp_proposal_result) == 64 && offsetof(bp_proposal_result, receipt) == 48, "bp_proposal_result");
BP_STATIC_ASSERT(sizeof(bp_proposals) == 16, "bp_proposals");

#ifdef __cplusplus
}
#endif

#endif
