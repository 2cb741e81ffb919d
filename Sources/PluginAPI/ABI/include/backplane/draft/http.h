/*
 * backplane/draft/http.h - DRAFT, not promised: how a service answers HTTP requests (backplane.http.route/1) and takes
 * over a connection (backplane.http.upgrade/1) without knowing the transport, and without a descriptor: bytes go through
 * the host with credits, so it works under TLS and from a child process.
 */
#ifndef BACKPLANE_DRAFT_HTTP_H
#define BACKPLANE_DRAFT_HTTP_H

#include "../core.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct bp_http_request {
  uint32_t size;
  uint32_t headers_count;
  bp_view method;
  bp_view target; /* as received */
  const bp_field *headers;
  bp_view body;
} bp_http_request;

typedef struct bp_http_result {
  bp_result result;
  uint32_t status;
  uint32_t headers_count;
  const bp_field *headers;
  bp_view body;
} bp_http_result;

#define BP_HTTP_ROUTE_ID "backplane.http.route/1"

typedef struct bp_http_route {
  uint32_t size;
  uint32_t flags;
  /* Names the routes: method ("GET", or "*") and path prefix. Two owners of one route are refused by name.
   * [control] [states: CONFIGURED] */
  void (*routes)(void *self, void *context, void (*add)(void *context, bp_view method, bp_view prefix));
  /* Answers one request (bp_http_result). [any-thread] [states: SERVING] */
  void (*handle)(void *self, const bp_call *call, const bp_http_request *request, bp_token token);
} bp_http_route;

#define BP_HTTP_UPGRADE_ID "backplane.http.upgrade/1"

typedef struct bp_http_open {
  uint32_t size;
  uint32_t credits; /* bytes that may be emitted at once; more by grant */
  const bp_http_request *request;
} bp_http_open;

/* The first chunk of an upgrade: the answer's head. Chunks after it are bare bp_chunk; count is their bytes. */
typedef struct bp_http_accept {
  bp_chunk chunk;
  uint32_t status; /* 101; anything else is an ordinary answer, with the bytes that follow as its body */
  uint32_t headers_count;
  const bp_field *headers;
} bp_http_accept;

/* The client has ended its side; no input follows. */
#define BP_HTTP_INPUT_END 1u

typedef struct bp_http_upgrade {
  uint32_t size;
  uint32_t flags;
  /* The call is the connection's life: bytes to the client go by emit, complete closes, and cancel says that the client
   * has gone. It holds no lease between messages. [any-thread] [states: SERVING] */
  void (*open)(void *self, const bp_call *call, const bp_http_open *request, bp_token token);
  /* Bytes from the client, never more than the plugin has allowed by bp_host.grant(token); none before the first grant.
   * The view is valid during the call. [any-thread] [no-block] */
  void (*input)(void *self, bp_token token, bp_view bytes, uint32_t flags);
} bp_http_upgrade;

BP_STATIC_ASSERT(sizeof(bp_http_open) == 16, "bp_http_open");
BP_STATIC_ASSERT(sizeof(bp_http_accept) == 40, "bp_http_accept");

BP_STATIC_ASSERT(sizeof(bp_http_request) == 64, "bp_http_request");
BP_STATIC_ASSERT(sizeof(bp_http_result) == 80, "bp_http_result");
BP_STATIC_ASSERT(sizeof(bp_http_route) == 24, "bp_http_route");
BP_STATIC_ASSERT(sizeof(bp_http_upgrade) == 24, "bp_http_upgrade");

#ifdef __cplusplus
}
#endif

#endif
