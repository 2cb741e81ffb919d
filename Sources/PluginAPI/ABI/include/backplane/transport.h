/*
 * backplane/transport.h - the kind `transport`: carries a protocol between clients and the node.
 *
 * A transport borrows listening sockets from the kernel (backplane.listener/1), speaks its protocol on threads of its
 * own, and uses the node through backplane.node/1 (node.h). It is replaced without refusing a connection: the successor
 * accepts from the same socket before the old one is asked to quiesce.
 *
 * quiesce of a transport: stop accepting at once; answer the next request of each connection with the protocol's way of
 * saying goodbye (HTTP: `Connection: close`); close idle connections only at the deadline. A reset on an idle, reused
 * connection is a failure of ours. Manifest: kinds ["transport"], listeners [{name, config_key, default}].
 */
#ifndef BACKPLANE_TRANSPORT_H
#define BACKPLANE_TRANSPORT_H

#include "core.h"

#ifdef __cplusplus
extern "C" {
#endif

#define BP_TRANSPORT_ID "backplane.transport/1"

/* What a transport's instance returns for its kind. A transport is called through its life cycle alone. */
typedef struct bp_transport {
  uint32_t size;
  uint32_t flags; /* none yet; 0 */

  /* How many connections are open now; for status. A proxy answers with the last number that its child has sent.
   * [any-thread] [no-block]
   * [states: SERVING, QUIESCED] */
  uint64_t (*connections)(void *self);
} bp_transport;

#define BP_LISTENER_ID "backplane.listener/1"

typedef struct bp_listener_socket {
  uint32_t size;
  int32_t descriptor; /* a dup of the kernel's listening descriptor, close-on-exec, non-blocking; the borrower closes it */
  uint32_t port;      /* the bound port, also when 0 was configured; 0 for a Unix socket */
  uint32_t reserved;
} bp_listener_socket;

/* A host table. */
typedef struct bp_listener {
  uint32_t size;
  uint32_t reserved;

  /* Lends the listening socket that the manifest declares under `name`; the kernel bound it before start. The borrower
   * neither listens, shuts down nor changes flags on it: they are shared with every generation. Fills *socket up to the
   * size the caller set. BP_NOT_FOUND: the manifest declares no such listener. [any-thread] [states: start, SERVING] */
  bp_code (*borrow)(bp_instance instance, bp_view name, bp_listener_socket *socket);
} bp_listener;

BP_STATIC_ASSERT(sizeof(bp_transport) == 16, "bp_transport");
BP_STATIC_ASSERT(sizeof(bp_listener_socket) == 16, "bp_listener_socket");
BP_STATIC_ASSERT(sizeof(bp_listener) == 16, "bp_listener");

#ifdef __cplusplus
}
#endif

#endif
