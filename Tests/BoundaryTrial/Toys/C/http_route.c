/* A service that answers GET /toy with a page of its own. */
#include <backplane/draft/http.h>
#include <backplane/service.h>
#include "toy.h"

static void node_ready(void *pointer, const bp_call *call, bp_token token) {
  toy *self = pointer;
  (void)call;
  bp_result result = result_of(sizeof result, BP_OK, "");
  self->host->complete(self->instance, token, &result);
}

static void routes(void *pointer, void *context, void (*add)(void *context, bp_view method, bp_view prefix)) {
  (void)pointer;
  add(context, view_of("GET"), view_of("/toy"));
}

static void handle(void *pointer, const bp_call *call, const bp_http_request *request, bp_token token) {
  toy *self = pointer;
  (void)call;
  bp_field type = {BP_VIEW("content-type"), BP_VIEW("text/plain")};
  bp_http_result result = {result_of(sizeof result, BP_OK, ""), 200, 1, &type, request->target};
  self->host->complete(self->instance, token, &result.result);
}

static const bp_service service = {sizeof service, 0, node_ready, NULL};
static const bp_http_route table = {sizeof table, 0, routes, handle};

static const void *extension(void *self, bp_view id) {
  (void)self;
  if (view_is(id, BP_SERVICE_ID)) return &service;
  return view_is(id, BP_HTTP_ROUTE_ID) ? &table : NULL;
}

static const bp_plugin *create(const bp_host *host, bp_instance instance, const bp_report *report) {
  toy *self = toy_make(sizeof *self, host, instance, extension);
  if (self == NULL) toy_report(report, "", "out of memory");
  return self == NULL ? NULL : &self->plugin;
}

TOY_ENTRY("org.example.toy.route", "service", create)
