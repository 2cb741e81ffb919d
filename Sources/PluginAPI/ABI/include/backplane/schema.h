/*
 * backplane/schema.h - the kind `schema`: judges a message and answers what is to be written.
 *
 * A schema serves PROGRAMS, the first two parts of a URI ("mutable://open"). The kernel routes each message by its
 * program; several schemas compose, and two that claim one program are refused by name. A verdict is a list of ops with
 * preconditions: most schemas answer one PUT of the message itself, a schema of envelopes answers the envelope and its
 * outputs. All ops of a message, over all schemas that had a say, are one unit: nothing is written before everything is
 * judged.
 */
#ifndef BACKPLANE_SCHEMA_H
#define BACKPLANE_SCHEMA_H

#include "message.h"

#ifdef __cplusplus
extern "C" {
#endif

#define BP_SCHEMA_ID "backplane.schema/1"

/* bp_op.flags, in a verdict: this op is to be judged by the schema of its own program before it counts; that schema's
 * verdict takes its place (depth 16, 100,001 ops for a message). Without it the op is final. The kernel normalises the
 * URI of every op; one that is not a URI refuses the message. */
#define BP_OP_TO_JUDGE 1u

/* One message to judge. Views live until the token is completed; ops of the verdict may point into them. */
typedef struct bp_message {
  uint32_t size;
  uint32_t verb;        /* BP_VERB_PUT; BP_VERB_DELETE only with BP_SCHEMA_JUDGES_DELETES */
  uint32_t content;     /* BP_CONTENT_* */
  uint32_t depth;       /* 0: as received; else how many verdicts above asked for this judgement */
  uint64_t ts_ms;
  bp_view uri;          /* normalised; empty when uri_received is not a URI: only the fallback schema sees those, so that
                           the refusal is in its own words */
  bp_view uri_received; /* as the client wrote it: quote this one in errors */
  bp_view program;      /* "mutable://open", the beginning of uri */
  bp_view data;
} bp_message;

/* BP_OK with ops_count >= 1 accepts; BP_REJECTED with a message refuses (the text goes to the client as it is); another
 * code is a failure of the schema, not a verdict. Ops are copied before complete returns, unless they point into the
 * message. */
typedef struct bp_verdict {
  bp_result result;
  const bp_op *ops;
  uint32_t ops_count;
  uint32_t reserved;
} bp_verdict;

/* The key is empty and every program that no other schema claims comes here. At most one schema may have it. */
#define BP_PROGRAM_FALLBACK 1u
/* canonical_uri is called for URIs of this program, on read, list, delete and write. */
#define BP_PROGRAM_CANONICAL 2u
/* Not named in the list of programs that clients see. */
#define BP_PROGRAM_UNLISTED 4u

typedef struct bp_program {
  uint32_t size;
  uint32_t flags;
  bp_view key; /* "mutable://open"; matches ^[a-z][a-z0-9+.-]*://[^/]*$ */
} bp_program;

/* DELETE is judged too. */
#define BP_SCHEMA_JUDGES_DELETES 1u

typedef struct bp_schema {
  uint32_t size;
  uint32_t flags;      /* BP_SCHEMA_* */
  uint32_t judge_mode; /* BP_MODE_*. A validator that reads through the node is ASYNC */
  uint32_t reserved;

  /* Says which programs it serves: add is called for each before this returns; the order is the order clients see.
   * Asked once for each instance, after configure. [control] [states: CONFIGURED] */
  void (*programs)(void *self, void *context, void (*add)(void *context, const bp_program *program));

  /* Judges one message (bp_verdict). To read while judging, call backplane.node/1 with call.parent = token: such a read
   * sees the earlier ops of the same message, and the backends in the order that reads use. [any-thread]
   * [states: SERVING] */
  void (*judge)(void *self, const bp_call *call, const bp_message *message, bp_token token);

  /* Writes the canonical form of a normalised URI (hash://sha256/ABC -> hash://sha256/abc) and returns BP_OK, or writes
   * nothing when it is canonical already. Pure, so that a proxy may remember the answers of a child. NULL when no program asks for it. [any-thread] [no-block]
   * [states: SERVING] */
  bp_code (*canonical_uri)(void *self, bp_view uri, bp_sink sink);
} bp_schema;

BP_STATIC_ASSERT(sizeof(bp_message) == 88 && offsetof(bp_message, uri) == 24, "bp_message");
BP_STATIC_ASSERT(sizeof(bp_verdict) == 64 && offsetof(bp_verdict, ops) == 48, "bp_verdict");
BP_STATIC_ASSERT(sizeof(bp_program) == 24, "bp_program");
BP_STATIC_ASSERT(sizeof(bp_schema) == 40 && offsetof(bp_schema, judge) == 24, "bp_schema");

#ifdef __cplusplus
}
#endif

#endif
