/* An oracle without manners: the feed says which one it breaks. The test host must notice every one. */
#include <backplane/draft/oracle.h>
#include "toy.h"

typedef struct rude {
  toy base;
  bp_token left;
} rude;

static void observe(void *pointer, const bp_call *call, bp_view feed, bp_token token) {
  rude *self = pointer;
  toy *toy = &self->base;
  (void)call;
  bp_observation seen = {result_of(sizeof seen, BP_OK, ""), 0, 0, 1, 0, 0, 0, {NULL, 0}, {NULL, 0}};
  bp_chunk chunk = {sizeof chunk, 1, {NULL, 0}};
  if (view_is(feed, "never")) {
    self->left = token;
    return;
  }
  if (view_is(feed, "direct")) return;
  if (view_is(feed, "small")) seen.result.size = sizeof(bp_result);
  if (view_is(feed, "text")) seen.result.message = view_of("\xff\xfe");
  if (view_is(feed, "unknown")) toy->host->complete(toy->instance, token + (1u << 20), &seen.result);
  if (view_is(feed, "foreign")) toy->host->complete(toy->instance, token ^ (3ull << 48), &seen.result);
  if (view_is(feed, "credit")) {
    toy->host->emit(toy->instance, token, &chunk);
    toy->host->emit(toy->instance, token, &chunk);
  }
  if (view_is(feed, "metric")) {
    bp_metric metric = {sizeof metric, BP_METRIC_GAUGE, BP_VIEW("late"), BP_VIEW(""), BP_VIEW(""), NULL, 0, 0};
    uint32_t handle;
    toy->host->metric(toy->instance, &metric, &handle);
  }
  toy->host->complete(toy->instance, token, &seen.result);
  if (view_is(feed, "twice")) toy->host->complete(toy->instance, token, &seen.result);
  if (view_is(feed, "after")) toy->host->emit(toy->instance, token, &chunk);
}

/* Completes after stop and after destroy, which here is the same thread: a host cannot tell. */
static void destroy(void *pointer) {
  rude *self = pointer;
  bp_observation seen = {result_of(sizeof seen, BP_OK, ""), 0, 0, 1, 0, 0, 0, {NULL, 0}, {NULL, 0}};
  if (self->left != 0) self->base.host->complete(self->base.instance, self->left, &seen.result);
  free(self);
}

static const bp_oracle table = {sizeof table, 0, observe};

static const void *extension(void *self, bp_view id) {
  (void)self;
  return view_is(id, BP_ORACLE_ID) ? &table : NULL;
}

static const bp_plugin *create(const bp_host *host, bp_instance instance, const bp_report *report) {
  toy *self = toy_make(sizeof(rude), host, instance, extension);
  if (self == NULL) {
    toy_report(report, "", "out of memory");
    return NULL;
  }
  self->plugin.destroy = destroy;
  return &self->plugin;
}

TOY_ENTRY("org.example.toy.rude", "oracle", create)
