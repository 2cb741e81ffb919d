/*
 * backplane/core.h - the boundary between the Backplane kernel and a plugin. ABI 0.1 (draft: a kernel refuses any other).
 *
 * THIS HEADER IS THE SPECIFICATION. It names no kind of plugin: backend.h, schema.h, transport.h, state.h and the drafts
 * under draft/ each add one table on top of it, and nothing here changes when a kind is added.
 *
 * The shape, in six sentences. A plugin is a shared library that exports one function, backplane_plugin_v1(), which
 * returns a constant bp_entry. The kernel calls bp_entry.create() once for each slot and gets an INSTANCE, a bp_plugin
 * table; many instances of one image live side by side, in several generations. What an instance can do is asked of
 * bp_plugin.extension("backplane.backend/1") and the like; what the host can do is asked of bp_host.extension().
 * Life-cycle functions are synchronous and run on a control thread. Data functions are SUBMIT AND COMPLETE: they get a
 * token, return, and the plugin completes the token exactly once, at any time and from any thread. Nothing else crosses:
 * no exception, no unwinding, no allocator, no symbol of the host's.
 *
 * READING THE PROSE. Above each function: what it does, who owns what, then a line of tags.
 *   [control]    called on a kernel control thread, one call at a time for each instance; may block up to its deadline.
 *   [any-thread] may be called from any thread, at the same time as any other call of the same instance.
 *   [no-block]   must not block: no lock held for long, no I/O, no waiting. The caller may be an event loop.
 *   [states: ..] the states of the instance (see "Life cycle") in which the call happens or is allowed.
 *
 * STRUCTS. Every struct that may grow begins with its own size, set by whoever fills it. A reader tests `size` before it
 * touches a field that was not in the first release; a writer never writes past the `size` it was given. Structs grow at
 * the tail only. Fields are of fixed width; there are no enums, bools or bit-fields in structs, because their layout is
 * the compiler's choice; padding is named and zero. Arrays of sized structs are walked by the size of their first element.
 *
 * OWNERSHIP IS IN THE TYPE'S NAME. A bp_view is borrowed. A bp_buffer is owned and carries its own release. Whoever
 * allocates frees: two images may carry two allocators.
 */
#ifndef BACKPLANE_CORE_H
#define BACKPLANE_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define BP_STATIC_ASSERT(condition, sentence) static_assert(condition, sentence)
extern "C" {
#else
#define BP_STATIC_ASSERT(condition, sentence) _Static_assert(condition, sentence)
#endif

/* The version this header describes. While the major is 0 a kernel refuses a plugin with any other minor, since nothing
 * is promised yet. From 1 on it refuses another major only: an unknown minor is fine both ways, because every struct says
 * its size and every extension has a numbered name. */
#define BP_ABI_MAJOR 0u
#define BP_ABI_MINOR 1u

/* The one exported symbol. */
#define BP_ENTRY_SYMBOL "backplane_plugin_v1"

#if defined(__GNUC__)
#define BP_EXPORT __attribute__((visibility("default")))
#else
#define BP_EXPORT
#endif

/* ------------------------------------------------------------------------------------------------------------------
 * Bytes
 */

/* Borrowed bytes. Text is UTF-8 and is not terminated. How long they stay valid is said where the view stands; the rules:
 *   - in a request to a PLUGIN, until the plugin has completed the token that came with it;
 *   - in a request to the HOST, until the function returns: the host copies what it keeps;
 *   - in a result, chunk, diagnostic, log record or report, until the function it was passed to returns;
 *   - in a bp_entry, for ever.
 * data may be NULL when size is 0. */
typedef struct bp_view {
  const uint8_t *data;
  uint64_t size;
} bp_view;

/* A view of a string literal. */
#define BP_VIEW(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}

/* Owned bytes. Whoever receives a bp_buffer calls release(owner) exactly once, on any thread, as soon as the bytes are
 * no longer needed; release may be NULL (static bytes). A buffer that came from a plugin pins its instance: the host
 * releases every one before it calls destroy. After `stop` has begun release is the only function of an instance that
 * may still be called, so it must not depend on the plugin's threads. [any-thread] [no-block] */
typedef struct bp_buffer {
  const uint8_t *data;
  uint64_t size;
  void *owner;
  void (*release)(void *owner);
} bp_buffer;

/* Where text goes that is produced in pieces. write is called any number of times before the function that was given
 * the sink returns, on its thread; the view is valid during the call. */
typedef struct bp_sink {
  void *context;
  void (*write)(void *context, bp_view bytes);
} bp_sink;

/* ------------------------------------------------------------------------------------------------------------------
 * Names for things that must outlive pointers
 */

/* One submitted call. An index into a slab and a sequence number, never a pointer: completing an unknown, finished or
 * foreign token is a counted no-op, and cancel may name a token that is already finished. 0 is no token. */
typedef uint64_t bp_token;

/* One instance, as the host knows it; the first argument of every host function. The same kind of name as a token: a
 * host call after destroy answers BP_CLOSED (or does nothing) instead of crashing. */
typedef uint64_t bp_instance;

/* ------------------------------------------------------------------------------------------------------------------
 * Results
 */

/* The closed list of codes. 0-16 are gRPC's, with gRPC's meaning, so that nobody has to learn a second list. A code that
 * a reader does not know is BP_UNKNOWN. */
typedef uint32_t bp_code;
#define BP_OK 0u
#define BP_CANCELLED 1u
#define BP_UNKNOWN 2u
#define BP_INVALID_ARGUMENT 3u
#define BP_DEADLINE_EXCEEDED 4u
#define BP_NOT_FOUND 5u
#define BP_ALREADY_EXISTS 6u
#define BP_PERMISSION_DENIED 7u
#define BP_RESOURCE_EXHAUSTED 8u   /* a bound was hit; the message names it */
#define BP_FAILED_PRECONDITION 9u  /* an op's precondition did not hold */
#define BP_ABORTED 10u
#define BP_OUT_OF_RANGE 11u
#define BP_UNIMPLEMENTED 12u
#define BP_INTERNAL 13u
#define BP_UNAVAILABLE 14u
#define BP_DATA_LOSS 15u
#define BP_UNAUTHENTICATED 16u
#define BP_QUOTA 17u       /* a budget of the caller's is used up */
#define BP_DURABILITY 18u  /* accepted, but not as durably as was asked */
#define BP_REJECTED 19u    /* a schema judged the message and refused it; the message says why */
#define BP_CLOSED 20u      /* the instance is gone or is going */

/* result.flags: the same request may succeed later, unchanged. */
#define BP_RETRYABLE 1u

/* How a call ended. Every kind's result begins with one, so that the core can complete calls of kinds it does not know.
 * Errors are values: message is one sentence for a person (empty for BP_OK), detail is JSON for a program or empty. */
typedef struct bp_result {
  uint32_t size;            /* of the whole result, the kind's part included */
  bp_code code;
  uint32_t flags;
  uint32_t retry_after_ms;  /* 0: no advice */
  bp_view message;
  bp_view detail;
} bp_result;

/* One piece of a stream. A kind's chunk begins with one. count is what it costs in credits, at least 1. */
typedef struct bp_chunk {
  uint32_t size;
  uint32_t count;
  bp_view bytes;
} bp_chunk;

/* ------------------------------------------------------------------------------------------------------------------
 * Calls
 *
 * SUBMIT. A data function of a plugin gets the call header, a request and a token, and returns nothing. The plugin
 * completes the token with bp_host.complete exactly once: inside the function, later, from any thread. A call that the
 * caller has given up (deadline, cancel) is still completed; until then the host keeps the request's memory, the token
 * and the lease on the generation, even though its own client has had an answer.
 *
 * RE-ENTRY. complete may run host code and other plugins', and may call back into the same instance before it returns:
 * hold no lock across it. The host trampolines inline completions nested deeper than 8.
 *
 * MODES. A kind's table says of each of its data functions how it behaves (BP_MODE_*). The kernel calls a DIRECT one on
 * the event loop itself; it measures: a direct call over 1 ms is counted, five within a minute - and within 100 calls,
 * so that a busy machine is not taken for a slow plugin - demote the function to threads, and health names it.
 */
#define BP_MODE_ASYNC 0u    /* returns at once and completes later, from a thread of the plugin's own */
#define BP_MODE_DIRECT 1u   /* completes before it returns and never blocks */
#define BP_MODE_BLOCKING 2u /* may block: the kernel calls it on threads it keeps for the instance, and a function that
                               promises an order (bp_backend.apply) on one thread alone */

/* The request comes from another node, not from a client: this node neither pushes it to its peers nor asks them on its
 * behalf, or two nodes that point at each other would never end. A transport sets it when the request says so; the node
 * hands it on with every call that is part of the request, and sets it on calls to the backends that are its peers; a
 * backend that carries a call to another node says so there (HTTP: the header `backplane-forwarded: 1`). */
#define BP_CALL_FORWARDED 1u

/* What comes with every call. Valid, like the request, until the token is completed. */
typedef struct bp_call {
  uint32_t size;
  uint32_t flags;               /* BP_CALL_* */
  uint64_t deadline_ns;         /* CLOCK_MONOTONIC; 0: none. The host enforces it; a plugin may use it to give up early */
  uint64_t trace_id_high;       /* W3C trace id, 0/0: none */
  uint64_t trace_id_low;
  uint64_t span_id;
  uint64_t idempotency_key_high; /* 0/0: none. The same key within the retry window is the same request */
  uint64_t idempotency_key_low;
  bp_token parent;              /* calls to the HOST: the token being handled, so that deadline, lease and trace are
                                   inherited and the call is never parked; 0 for a call that begins here. Calls to a
                                   PLUGIN: 0 */
  uint64_t generation;          /* calls to a PLUGIN: the number of the generation the caller holds; else 0 */
  bp_view peer;                 /* who asks, for logs and `backplane generations`: "192.0.2.7:50212"; may be empty */
} bp_call;

/* How a plugin hears of a call that it made to the HOST. complete is called exactly once, on any thread, possibly before
 * the submitting function returns; chunk any number of times before it, and may be NULL when the function has no stream.
 * Both must not block and must not throw; the plugin hops to its own loop itself. Never called after destroy. */
typedef struct bp_completion {
  void *context;
  void (*complete)(void *context, const bp_result *result);
  void (*chunk)(void *context, const bp_chunk *chunk);
} bp_completion;

/* ------------------------------------------------------------------------------------------------------------------
 * Reports: what a life-cycle function has to say
 */
#define BP_SEVERITY_ERROR 0u
#define BP_SEVERITY_WARNING 1u
#define BP_SEVERITY_NOTE 2u

typedef struct bp_diagnostic {
  uint32_t size;
  uint32_t severity;
  bp_view pointer;  /* RFC 6901 into the configuration ("/pool/size"), "" for the whole, or empty */
  bp_view message;  /* one sentence: what is wrong and what to do. Never a secret's value */
} bp_diagnostic;

/* add may be called any number of times before the function that was given the report returns, on its thread. A function
 * that returns a code other than BP_OK should have added an error first: the operator reads nothing else. */
typedef struct bp_report {
  void *context;
  void (*add)(void *context, const bp_diagnostic *diagnostic);
} bp_report;

/* ------------------------------------------------------------------------------------------------------------------
 * The host table: one constant, static for the life of the process
 */
#define BP_LOG_ERROR 0u
#define BP_LOG_WARNING 1u
#define BP_LOG_INFO 2u
#define BP_LOG_DEBUG 3u
#define BP_LOG_TRACE 4u

typedef struct bp_field {
  bp_view key;
  bp_view value;
} bp_field;

#define BP_METRIC_COUNTER 0u
#define BP_METRIC_GAUGE 1u
#define BP_METRIC_HISTOGRAM 2u /* of seconds or bytes; the host chooses the buckets by unit */

/* One time series. The host adds plugin, slot, version and generation as labels. */
typedef struct bp_metric {
  uint32_t size;
  uint32_t type;
  bp_view name;  /* snake_case, unit last, no prefix: "commit_batch_units" */
  bp_view help;
  bp_view unit;  /* "seconds", "bytes" or empty */
  const bp_field *labels;
  uint32_t labels_count;
  uint32_t reserved;
} bp_metric;

#define BP_HEALTH_HEALTHY 0u
#define BP_HEALTH_DEGRADED 1u  /* serves, but somebody should look */
#define BP_HEALTH_UNHEALTHY 2u /* does not serve */

typedef struct bp_host {
  uint32_t size;
  uint32_t abi_major;
  uint32_t abi_minor;
  uint32_t reserved;

  /* Completes a call that was submitted to this instance. Views in the result need to live only until this returns; it
   * may run the caller's code before it returns. A token that is unknown, finished or another instance's is counted
   * (backplane_completions_ignored_total) and ignored. [any-thread] [states: from start until destroy] */
  void (*complete)(bp_instance instance, bp_token token, const bp_result *result);

  /* Hands one chunk of a stream to whoever made the call. BP_OK: taken. BP_RESOURCE_EXHAUSTED: there was no credit for
   * it; nothing was taken, wait for bp_plugin.grant. BP_CANCELLED: nobody listens any more; complete the token soon.
   * BP_CLOSED: not a live token of this instance. [any-thread] */
  bp_code (*emit)(bp_instance instance, bp_token token, const bp_chunk *chunk);

  /* Gives up a call that this instance made to the host. Best effort: the completion still comes, BP_CANCELLED or not.
   * [any-thread] [no-block] */
  void (*cancel)(bp_instance instance, bp_token token);

  /* Allows `credits` more units of a stream that this instance reads from the host, or of the input of a call that it
   * handles (draft/http.h, upgrade). BP_CLOSED when it has ended.
   * [any-thread] [no-block] */
  bp_code (*grant)(bp_instance instance, bp_token token, uint32_t credits);

  /* One log event. message is constant text ("commit was slow"), what varies goes into the fields. Rate-limited for each
   * instance; what is dropped is counted and said. The host redacts passwords in URLs, but a plugin must not log
   * secrets. [any-thread] [no-block] */
  void (*log)(bp_instance instance, uint32_t level, bp_view message, const bp_field *fields, uint32_t fields_count);

  /* Defines a time series and writes its handle. Allowed in `start` only (so that dashboards do not change under load);
   * at most 256 for each instance, then BP_RESOURCE_EXHAUSTED. [control] */
  bp_code (*metric)(bp_instance instance, const bp_metric *metric, uint32_t *handle);

  /* Adds to a counter, sets a gauge, observes into a histogram. An unknown handle is ignored. [any-thread] [no-block] */
  void (*record)(bp_instance instance, uint32_t handle, double value);

  /* Says how the instance is. The last word holds; an instance begins healthy when start returns BP_OK. message is for
   * the operator: one sentence. [any-thread] [no-block] */
  void (*health)(bp_instance instance, uint32_t state, bp_view message);

  /* A host table by name ("backplane.node/1"), or NULL when this host does not have it. The table is static for the life
   * of the process. In a probe only core is alive: functions of extensions answer BP_UNAVAILABLE.
   * [any-thread] [no-block] */
  const void *(*extension)(bp_instance instance, bp_view id);
} bp_host;

/* ------------------------------------------------------------------------------------------------------------------
 * Life cycle of an instance
 *
 *   create -> CREATED -> configure* -> CONFIGURED -> start -> SERVING -> quiesce -> QUIESCED -> stop -> STOPPED -> destroy
 *
 * Any state may go to destroy; a started instance is stopped first. A failed start leaves nothing behind that destroy
 * does not clean up. There is no process-global initialisation, because many instances of many generations share an
 * image; `atexit` and static destructors must not be relied on, because the image is never unmapped.
 */
#define BP_PURPOSE_SERVE 0u /* will be started */
#define BP_PURPOSE_CHECK 1u /* thrown away afterwards: `backplane config check`, the probe */
#define BP_PURPOSE_TEST 2u  /* synthetic configuration for a self-test: the configuration is {} or what the manifest's
                               example says; must not touch a configured resource */

typedef struct bp_configuration {
  uint32_t size;
  uint32_t purpose;
  bp_view slot;             /* the slot's name, "primary" */
  bp_view json;             /* the slot's configuration: one JSON object, secrets resolved, at most 1 MiB */
  bp_view state_directory;  /* absolute; the instance's own place for data, exists; empty when purpose is CHECK */
} bp_configuration;

typedef struct bp_plugin {
  uint32_t size;
  uint32_t reserved;
  void *self; /* the first argument of every function of this instance, in this table and in every extension's */

  /* Takes and validates a configuration. No side effects and no I/O but reading files that the configuration names: a
   * throwaway instance is configured for every `config check`. Everything that is wrong is added to the report, with
   * JSON pointers, not only the first thing; unknown keys are errors. May be called again before start; the last one
   * that returned BP_OK holds. [control] [states: CREATED, CONFIGURED] */
  bp_code (*configure)(void *self, const bp_configuration *configuration, const bp_report *report);

  /* Acquires resources and begins to serve: when it returns BP_OK calls may come at once. deadline_ns is when the host
   * stops waiting: an instance that is not back by then is abandoned, named and never called again.
   * [control] [states: CONFIGURED] */
  bp_code (*start)(void *self, uint64_t deadline_ns, const bp_report *report);

  /* Stop background work and finish what is in flight; no new call will come, except completions of calls that the
   * instance made to the host. A transport stops accepting here. BP_DEADLINE_EXCEEDED when something is left at
   * deadline_ns. [control] [states: SERVING] */
  bp_code (*quiesce)(void *self, uint64_t deadline_ns, const bp_report *report);

  /* Release every resource, complete every token still open (BP_UNAVAILABLE will do), join the plugin's own threads.
   * Before it is called the host has completed every call that the instance made to the host, with BP_CANCELLED or
   * BP_CLOSED at the latest, so no completion comes after it. From here on no function of the instance is called but
   * release and destroy. [control] [states: SERVING, QUIESCED] */
  bp_code (*stop)(void *self, uint64_t deadline_ns, const bp_report *report);

  /* Frees the instance, this table included. Returns only when no thread of the instance's can run its code any more:
   * a thread that completed a call may still be returning through it. [control] [states: any but SERVING] */
  void (*destroy)(void *self);

  /* The caller of `token` has given up. Best effort; the completion still comes, BP_CANCELLED if nothing was done. May
   * name a token that is finished. NULL: this plugin cannot cancel. [any-thread] [no-block] [states: SERVING, QUIESCED] */
  void (*cancel)(void *self, bp_token token);

  /* `credits` more units of the stream `token` may be emitted. May name a token that is finished. NULL: no streams.
   * [any-thread] [no-block] [states: SERVING, QUIESCED] */
  void (*grant)(void *self, bp_token token, uint32_t credits);

  /* A table of this instance's by name, or NULL. An instance may run in a child process, behind a proxy of the host's:
   * there the host asks only for extensions that it can carry, and others are absent. The answer depends on nothing but the id, and the table lives until
   * destroy. For every kind in the manifest the kind's table must be here. [any-thread] [no-block] [states: any] */
  const void *(*extension)(void *self, bp_view id);
} bp_plugin;

/* ------------------------------------------------------------------------------------------------------------------
 * The entry
 */
typedef struct bp_entry {
  uint32_t size;
  uint32_t abi_major; /* BP_ABI_MAJOR and BP_ABI_MINOR of the header it was built with */
  uint32_t abi_minor;
  uint32_t kinds_count;
  bp_view id;           /* reverse DNS: "org.example.ledger" */
  bp_view version;      /* semantic version: "1.4.0" */
  const bp_view *kinds; /* "backend", "schema", ... */

  /* Makes an instance: cheap, no I/O, no threads. host is static; instance is the handle for host calls. NULL on
   * failure, with the reason in the report. Id, version, kinds and ABI are compared with the manifest before this is
   * called; a difference refuses the plugin. [control] */
  const bp_plugin *(*create)(const bp_host *host, bp_instance instance, const bp_report *report);
} bp_entry;

/* The one exported symbol: pure, no side effects, the same address at every call, never NULL. */
BP_EXPORT const bp_entry *backplane_plugin_v1(void);

/* ------------------------------------------------------------------------------------------------------------------
 * Layout, pinned. A plugin built with another compiler must agree to the byte.
 */
BP_STATIC_ASSERT(sizeof(void *) == 8 && sizeof(void (*)(void)) == 8, "Backplane plugins are 64-bit");
BP_STATIC_ASSERT(sizeof(bp_view) == 16 && offsetof(bp_view, size) == 8, "bp_view");
BP_STATIC_ASSERT(sizeof(bp_buffer) == 32 && offsetof(bp_buffer, owner) == 16, "bp_buffer");
BP_STATIC_ASSERT(sizeof(bp_sink) == 16, "bp_sink");
BP_STATIC_ASSERT(sizeof(bp_result) == 48 && offsetof(bp_result, message) == 16, "bp_result");
BP_STATIC_ASSERT(sizeof(bp_chunk) == 24 && offsetof(bp_chunk, bytes) == 8, "bp_chunk");
BP_STATIC_ASSERT(sizeof(bp_call) == 88 && offsetof(bp_call, deadline_ns) == 8 && offsetof(bp_call, parent) == 56 &&
                   offsetof(bp_call, generation) == 64 && offsetof(bp_call, peer) == 72,
                 "bp_call");
BP_STATIC_ASSERT(sizeof(bp_completion) == 24, "bp_completion");
BP_STATIC_ASSERT(sizeof(bp_diagnostic) == 40 && offsetof(bp_diagnostic, pointer) == 8, "bp_diagnostic");
BP_STATIC_ASSERT(sizeof(bp_report) == 16, "bp_report");
BP_STATIC_ASSERT(sizeof(bp_field) == 32, "bp_field");
BP_STATIC_ASSERT(sizeof(bp_metric) == 72 && offsetof(bp_metric, labels) == 56, "bp_metric");
BP_STATIC_ASSERT(sizeof(bp_host) == 88 && offsetof(bp_host, complete) == 16 && offsetof(bp_host, extension) == 80,
                 "bp_host");
BP_STATIC_ASSERT(sizeof(bp_configuration) == 56 && offsetof(bp_configuration, json) == 24, "bp_configuration");
BP_STATIC_ASSERT(sizeof(bp_plugin) == 80 && offsetof(bp_plugin, self) == 8 && offsetof(bp_plugin, extension) == 72,
                 "bp_plugin");
BP_STATIC_ASSERT(sizeof(bp_entry) == 64 && offsetof(bp_entry, id) == 16 && offsetof(bp_entry, create) == 56, "bp_entry");

#ifdef __cplusplus
}
#endif

#endif
