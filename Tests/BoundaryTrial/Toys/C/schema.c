/* A schema of two programs. toy://plain takes anything but "bad", and "/once" is written once. toy://child takes a
 * message only when the record it names exists: it reads through the node while it judges. */
#include <backplane/node.h>
#include <backplane/schema.h>
#include "toy.h"

typedef struct reading {
  toy *toy;
  bp_token token;
  const bp_message *message; /* valid until the token is completed */
} reading;

static void accept(toy *self, const bp_message *message, bp_token token, uint32_t condition) {
  bp_op op = {sizeof op, message->verb, condition, message->content, 0, 0, 0, message->uri, message->data, {NULL, 0}};
  bp_verdict verdict = {result_of(sizeof verdict, BP_OK, ""), &op, 1, 0};
  self->host->complete(self->instance, token, &verdict.result);
}

static void refuse(toy *self, bp_token token, bp_code code, const char *text) {
  bp_verdict verdict = {result_of(sizeof verdict, code, text), NULL, 0, 0};
  self->host->complete(self->instance, token, &verdict.result);
}

static void parent_read(void *context, const bp_result *result) {
  reading *reading = context;
  if (result->code == BP_OK)
    accept(reading->toy, reading->message, reading->token, BP_IF_ANY);
  else if (result->code == BP_NOT_FOUND)
    refuse(reading->toy, reading->token, BP_REJECTED, "the record it names does not exist");
  else
    refuse(reading->toy, reading->token, result->code, "the record it names could not be read");
  free(reading);
}

static void judge(void *pointer, const bp_call *call, const bp_message *message, bp_token token) {
  toy *self = pointer;
  (void)call;
  if (view_contains(message->data, "bad")) {
    refuse(self, token, BP_REJECTED, "bad is not taken");
  } else if (view_is(message->program, "toy://child")) {
    const bp_node *node = self->host->extension(self->instance, view_of(BP_NODE_ID));
    reading *context = malloc(sizeof *context);
    if (node == NULL || context == NULL) {
      free(context);
      refuse(self, token, BP_UNAVAILABLE, "there is no node");
      return;
    }
    context->toy = self;
    context->token = token;
    context->message = message;
    bp_call header = {sizeof header, 0, 0, 0, 0, 0, 0, 0, token, 0, {NULL, 0}};
    bp_completion completion = {context, parent_read, NULL};
    node->read(self->instance, &header, message->data, completion);
  } else {
    accept(self, message, token, view_contains(message->uri, "/once") ? BP_IF_ABSENT : BP_IF_ANY);
  }
}

static void programs(void *pointer, void *context, void (*add)(void *context, const bp_program *program)) {
  (void)pointer;
  bp_program plain = {sizeof plain, BP_PROGRAM_CANONICAL, BP_VIEW("toy://plain")};
  bp_program child = {sizeof child, 0, BP_VIEW("toy://child")};
  add(context, &plain);
  add(context, &child);
}

static bp_code canonical_uri(void *pointer, bp_view uri, bp_sink sink) {
  (void)pointer;
  for (uint64_t index = 0; index < uri.size; index++) {
    if (uri.data[index] < 'A' || uri.data[index] > 'Z') continue;
    for (uint64_t at = 0; at < uri.size; at++) {
      uint8_t byte = uri.data[at];
      if (byte >= 'A' && byte <= 'Z') byte = (uint8_t)(byte + 32);
      bp_view one = {&byte, 1};
      sink.write(sink.context, one);
    }
    break;
  }
  return BP_OK;
}

static const bp_schema table = {sizeof table, 0, BP_MODE_ASYNC, 0, programs, judge, canonical_uri};

static const void *extension(void *self, bp_view id) {
  (void)self;
  return view_is(id, BP_SCHEMA_ID) ? &table : NULL;
}

static const bp_plugin *create(const bp_host *host, bp_instance instance, const bp_report *report) {
  toy *self = toy_make(sizeof *self, host, instance, extension);
  if (self == NULL) toy_report(report, "", "out of memory");
  return self == NULL ? NULL : &self->plugin;
}

TOY_ENTRY("org.example.toy.schema", "schema", create)
