/* A service: when the node is ready it writes one record, and says how that went. */
#include <backplane/service.h>
#include <backplane/node.h>
#include "toy.h"

typedef struct writing {
  toy *toy;
  bp_token token;
} writing;

static void written(void *context, const bp_result *result) {
  writing *writing = context;
  bp_result answer = result_of(sizeof answer, result->code, result->code == BP_OK ? "" : "the record was not written");
  toy *self = writing->toy;
  self->host->health(self->instance, result->code == BP_OK ? BP_HEALTH_HEALTHY : BP_HEALTH_DEGRADED,
                     view_of(result->code == BP_OK ? "the record is written" : "the node refused"));
  self->host->complete(self->instance, writing->token, &answer);
  free(writing);
}

static void node_ready(void *pointer, const bp_call *call, bp_token token) {
  toy *self = pointer;
  (void)call;
  const bp_node *node = self->host->extension(self->instance, view_of(BP_NODE_ID));
  writing *context = malloc(sizeof *context);
  if (node == NULL || context == NULL) {
    bp_result answer = result_of(sizeof answer, BP_UNAVAILABLE, "there is no node");
    free(context);
    self->host->complete(self->instance, token, &answer);
    return;
  }
  context->toy = self;
  context->token = token;
  bp_call header = {sizeof header, 0, 0, 0, 0, 0, 0, 0, token, 0, {NULL, 0}};
  bp_receive request = {sizeof request, BP_CONTENT_JSON, view_of("toy://plain/service"),
                        {(const uint8_t *)"\"ready\"", 7, NULL, NULL}};
  bp_completion completion = {context, written, NULL};
  node->receive(self->instance, &header, &request, completion);
}

static const bp_service table = {sizeof table, 0, node_ready, NULL};

static const void *extension(void *self, bp_view id) {
  (void)self;
  return view_is(id, BP_SERVICE_ID) ? &table : NULL;
}

static const bp_plugin *create(const bp_host *host, bp_instance instance, const bp_report *report) {
  toy *self = toy_make(sizeof *self, host, instance, extension);
  if (self == NULL) toy_report(report, "", "out of memory");
  return self == NULL ? NULL : &self->plugin;
}

TOY_ENTRY("org.example.toy.service", "service", create)
