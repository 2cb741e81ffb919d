/*
 * backplane/draft/oracle.h - DRAFT, not promised: the kind `oracle`, a source of observed values. Quorum, staleness and
 * deviation are the kernel's business: a plugin reports what it saw, and when.
 */
#ifndef BACKPLANE_DRAFT_ORACLE_H
#define BACKPLANE_DRAFT_ORACLE_H

#include "../core.h"

#ifdef __cplusplus
extern "C" {
#endif

#define BP_ORACLE_ID "backplane.oracle/1"

#define BP_ORACLE_OPEN 0u
#define BP_ORACLE_CLOSED 1u /* the market is closed: a state of its own, neither an error nor a value */

typedef struct bp_observation {
  bp_result result;
  uint32_t state;      /* BP_ORACLE_* */
  int32_t exponent;    /* value * 10^exponent */
  int64_t value;
  uint64_t confidence; /* half width, same exponent; 0: not known */
  uint64_t observed_at_ms;
  uint64_t sequence;   /* rising for each source */
  bp_view source;
  bp_view signature;   /* over the observation, the source's own form; may be empty */
} bp_observation;

typedef struct bp_oracle {
  uint32_t size;
  uint32_t flags;

  /* The newest observation of a feed (bp_observation). [any-thread] [states: SERVING] */
  void (*observe)(void *self, const bp_call *call, bp_view feed, bp_token token);
} bp_oracle;

BP_STATIC_ASSERT(sizeof(bp_observation) == 120, "bp_observation");
BP_STATIC_ASSERT(sizeof(bp_oracle) == 16, "bp_oracle");

#ifdef __cplusplus
}
#endif

#endif
