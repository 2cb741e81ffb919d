/* A service that takes a connection over and sends back what it gets, until it gets "bye". One connection at a time. */
#include <backplane/draft/http.h>
#include <backplane/draft/service.h>
#include "toy.h"

typedef struct upgrade {
  toy base;
  bp_token open;
} upgrade;

static void end(upgrade *self, bp_code code) {
  bp_http_result result = {result_of(sizeof result, code, ""), 101, 0, NULL, {NULL, 0}};
  bp_token token = __atomic_exchange_n(&self->open, 0, __ATOMIC_ACQ_REL);
  if (token != 0) self->base.host->complete(self->base.instance, token, &result.result);
}

static void open_connection(void *pointer, const bp_call *call, const bp_http_request *request, bp_token token) {
  upgrade *self = pointer;
  (void)call, (void)request;
  __atomic_store_n(&self->open, token, __ATOMIC_RELEASE);
}

static uint32_t input(void *pointer, bp_token token, bp_view bytes) {
  upgrade *self = pointer;
  bp_chunk chunk = {sizeof chunk, 1, bytes};
  if (view_is(bytes, "bye")) {
    end(self, BP_OK);
    return 0;
  }
  return self->base.host->emit(self->base.instance, token, &chunk) == BP_OK ? 4096 : 0;
}

static void cancel(void *pointer, bp_token token) {
  upgrade *self = pointer;
  if (token == __atomic_load_n(&self->open, __ATOMIC_ACQUIRE)) end(self, BP_CANCELLED);
}

static void grant(void *pointer, bp_token token, uint32_t credits) { (void)pointer, (void)token, (void)credits; }

static bp_code stop(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  (void)deadline_ns, (void)report;
  end(pointer, BP_UNAVAILABLE);
  return BP_OK;
}

static void node_ready(void *pointer, const bp_call *call, bp_token token) {
  toy *self = pointer;
  (void)call;
  bp_result result = result_of(sizeof result, BP_OK, "");
  self->host->complete(self->instance, token, &result);
}

static const bp_service service = {sizeof service, 0, node_ready};
static const bp_http_upgrade table = {sizeof table, 0, open_connection, input};

static const void *extension(void *self, bp_view id) {
  (void)self;
  if (view_is(id, BP_SERVICE_ID)) return &service;
  return view_is(id, BP_HTTP_UPGRADE_ID) ? &table : NULL;
}

static const bp_plugin *create(const bp_host *host, bp_instance instance, const bp_report *report) {
  upgrade *self = (upgrade *)toy_make(sizeof *self, host, instance, extension);
  if (self == NULL) {
    toy_report(report, "", "out of memory");
    return NULL;
  }
  self->base.plugin.cancel = cancel;
  self->base.plugin.grant = grant;
  self->base.plugin.stop = stop;
  return &self->base.plugin;
}

TOY_ENTRY("org.example.toy.upgrade", "service", create)
