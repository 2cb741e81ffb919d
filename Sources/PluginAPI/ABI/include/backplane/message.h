/*
 * backplane/message.h - what backends, schemas and the node have in common: content kinds, ops, units, records.
 *
 * A message is a URI and bytes with a content kind. The bytes are the exact bytes received; nothing on the way decodes
 * or re-encodes them. URIs are normalised once, by the kernel, before any plugin sees them: scheme in lower case, dot
 * segments resolved, no empty segments, no query, no fragment, reserved and non-ASCII bytes percent-encoded.
 */
#ifndef BACKPLANE_MESSAGE_H
#define BACKPLANE_MESSAGE_H

#include "core.h"

#ifdef __cplusplus
extern "C" {
#endif

#define BP_CONTENT_JSON 0u  /* one JSON text, valid UTF-8, checked on the way in */
#define BP_CONTENT_BYTES 1u /* anything */

#define BP_VERB_PUT 0u
#define BP_VERB_DELETE 1u

/* A precondition is checked inside the unit, by the backend, against the record as earlier ops of the unit left it. */
#define BP_IF_ANY 0u     /* none */
#define BP_IF_ABSENT 1u  /* there must be no record */
#define BP_IF_PRESENT 2u /* there must be one */
#define BP_IF_VERSION 3u /* there must be one, with version == if_version */

/* How safe an acknowledged write is. The numbers are ordered. */
#define BP_DURABILITY_NONE 0u
#define BP_DURABILITY_MEMORY 1u /* survives nothing */
#define BP_DURABILITY_OS 2u     /* survives a crash of the process, not of the machine */
#define BP_DURABILITY_DISK 3u   /* survives a crash of the machine */
#define BP_DURABILITY_QUORUM 4u /* on disk on several machines */

/* One change of one record. */
typedef struct bp_op {
  uint32_t size;
  uint32_t verb;
  uint32_t condition;
  uint32_t content;    /* PUT: BP_CONTENT_* */
  uint64_t if_version; /* BP_IF_VERSION */
  uint32_t flags;      /* BP_OP_*; a backend ignores them */
  uint32_t reserved;
  bp_view uri;
  bp_view data;    /* PUT */
  bp_view refusal; /* in a verdict: what the client is told when the condition does not hold; empty: the node's own
                      words. A backend ignores it */
} bp_op;

/* A record as stored. ts_ms is the node's clock at acceptance, milliseconds since 1970, given by the kernel and the same
 * in every backend. version is a number that the kernel gives, unique and rising for all writes of a node; 0 when the
 * backend does not keep it (then BP_IF_VERSION is refused with BP_UNIMPLEMENTED). */
typedef struct bp_record {
  uint32_t size;
  uint32_t content;
  uint64_t ts_ms;
  uint64_t version;
  bp_view data;
} bp_record;

/* The end of a read, of a backend or of the node. BP_OK or BP_NOT_FOUND or a failure; record holds for BP_OK. */
typedef struct bp_read_result {
  bp_result result;
  bp_record record;
} bp_read_result;

/* The end of a write, of a backend's unit or of a whole message. */
typedef struct bp_write_result {
  bp_result result;
  uint32_t durability;   /* reached before this completion, never overstated: BP_DURABILITY_* */
  uint32_t absent_count; /* how many DELETE ops found no record; they count as done */
  uint32_t failed_op;    /* BP_FAILED_PRECONDITION: the index of the op; else 0 */
  uint32_t reserved;
  uint64_t ts_ms;        /* the node's: what the message was stamped with */
} bp_write_result;

BP_STATIC_ASSERT(sizeof(bp_op) == 80 && offsetof(bp_op, data) == 48 && offsetof(bp_op, refusal) == 64, "bp_op");
BP_STATIC_ASSERT(sizeof(bp_record) == 40 && offsetof(bp_record, data) == 24, "bp_record");
BP_STATIC_ASSERT(sizeof(bp_read_result) == 88 && offsetof(bp_read_result, record) == 48, "bp_read_result");
BP_STATIC_ASSERT(sizeof(bp_write_result) == 72 && offsetof(bp_write_result, ts_ms) == 64, "bp_write_result");

#ifdef __cplusplus
}
#endif

#endif
