/* A language model that says the numbers from 1 to as many as the request's JSON number asks for, one chunk each, as far
 * as credit goes. One stream at a time. */
#include <backplane/draft/llm.h>
#include <stdio.h>
#include "toy.h"

typedef struct llm {
  toy base;
  pthread_mutex_t lock;
  bp_token token;
  uint32_t next, last;
  uint64_t credits;
  bool emitting, cancelled;
} llm;

static void end(llm *self, bp_token token, bp_code code, uint64_t said) {
  bp_llm_result result = {result_of(sizeof result, code, code == BP_OK ? "" : "the stream was given up"),
                          BP_LLM_USAGE_ESTIMATED, 0, 1, 0, said, view_of("stop"), view_of("toy-1")};
  self->base.host->complete(self->base.instance, token, &result.result);
}

static void pump(llm *self) {
  pthread_mutex_lock(&self->lock);
  if (self->emitting || self->token == 0) {
    pthread_mutex_unlock(&self->lock);
    return;
  }
  self->emitting = true;
  bp_code code = BP_OK;
  while (code == BP_OK && !self->cancelled && self->credits > 0 && self->next < self->last) {
    char text[16];
    int size = snprintf(text, sizeof text, "%u", ++self->next);
    bp_view bytes = {(const uint8_t *)text, (uint64_t)size};
    bp_llm_chunk chunk = {{sizeof chunk, 1, bytes}, BP_LLM_TEXT, self->next - 1};
    bp_token token = self->token;
    self->credits--;
    pthread_mutex_unlock(&self->lock);
    code = self->base.host->emit(self->base.instance, token, &chunk.chunk);
    pthread_mutex_lock(&self->lock);
  }
  self->emitting = false;
  bool done = self->cancelled || code != BP_OK || self->next == self->last;
  if (self->cancelled) code = BP_CANCELLED;
  bp_token token = self->token;
  uint64_t said = self->next;
  if (done) self->token = 0;
  pthread_mutex_unlock(&self->lock);
  if (done) end(self, token, code, said);
}

static void generate(void *pointer, const bp_call *call, const bp_llm_request *request, bp_token token) {
  llm *self = pointer;
  (void)call;
  uint32_t last = 0;
  for (uint64_t index = 0; index < request->json.size; index++)
    last = last * 10 + (uint32_t)(request->json.data[index] - '0');
  pthread_mutex_lock(&self->lock);
  bool busy = self->token != 0;
  if (!busy) {
    self->token = token;
    self->next = 0;
    self->last = last;
    self->credits = request->credits;
    self->cancelled = false;
  }
  pthread_mutex_unlock(&self->lock);
  if (busy)
    end(self, token, BP_RESOURCE_EXHAUSTED, 0);
  else
    pump(self);
}

static void grant(void *pointer, bp_token token, uint32_t credits) {
  llm *self = pointer;
  pthread_mutex_lock(&self->lock);
  if (token == self->token) self->credits += credits;
  pthread_mutex_unlock(&self->lock);
  pump(self);
}

static void cancel(void *pointer, bp_token token) {
  llm *self = pointer;
  pthread_mutex_lock(&self->lock);
  if (token == self->token) self->cancelled = true;
  pthread_mutex_unlock(&self->lock);
  pump(self);
}

static bp_code stop(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  llm *self = pointer;
  (void)deadline_ns, (void)report;
  pthread_mutex_lock(&self->lock);
  bp_token token = self->token;
  pthread_mutex_unlock(&self->lock);
  cancel(self, token);
  return BP_OK;
}

static void destroy(void *pointer) {
  llm *self = pointer;
  pthread_mutex_destroy(&self->lock);
  free(self);
}

static const bp_llm table = {sizeof table, 0, generate};

static const void *extension(void *self, bp_view id) {
  (void)self;
  return view_is(id, BP_LLM_ID) ? &table : NULL;
}

static const bp_plugin *create(const bp_host *host, bp_instance instance, const bp_report *report) {
  llm *self = (llm *)toy_make(sizeof *self, host, instance, extension);
  if (self == NULL) {
    toy_report(report, "", "out of memory");
    return NULL;
  }
  pthread_mutex_init(&self->lock, NULL);
  self->base.plugin.cancel = cancel;
  self->base.plugin.grant = grant;
  self->base.plugin.stop = stop;
  self->base.plugin.destroy = destroy;
  return &self->base.plugin;
}

TOY_ENTRY("org.example.toy.llm", "llm", create)
