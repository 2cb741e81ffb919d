/* A service that takes a connection over and sends back what it gets, until the client ends its side. One connection at
 * a time. It holds what it cannot send yet, and allows the host no more input than it can hold: end-to-end back-pressure
 * in a buffer of eight bytes. Input beyond what was granted is the host's breach and ends the connection. */
#include <backplane/draft/http.h>
#include <backplane/service.h>
#include "toy.h"

#define HELD_BYTES_MAX 8

typedef struct upgrade {
  toy base;
  pthread_mutex_t lock; /* over all that follows */
  bp_token open;
  uint8_t held[HELD_BYTES_MAX];
  uint32_t held_count;
  uint32_t granted; /* what the host may still put in */
  uint32_t credits; /* what may still be sent */
  bool ended, sending;
} upgrade;

/* Ends the connection, once. Not under the lock (core.h, RE-ENTRY). */
static void end(upgrade *self, bp_token token, bp_code code) {
  bp_http_result result = {result_of(sizeof result, code, ""), 101, 0, NULL, {NULL, 0}};
  pthread_mutex_lock(&self->lock);
  bool mine = token != 0 && self->open == token;
  if (mine) self->open = 0;
  pthread_mutex_unlock(&self->lock);
  if (mine) self->base.host->complete(self->base.instance, token, &result.result);
}

/* Sends what is held as far as there is credit, and lets in as much as has left. One thread at a time sends: whoever
 * comes meanwhile has only to leave its bytes or its credit behind. */
static void pump(upgrade *self) {
  pthread_mutex_lock(&self->lock);
  if (self->sending) {
    pthread_mutex_unlock(&self->lock);
    return;
  }
  self->sending = true;
  bp_token token = self->open;
  bp_code code = BP_OK;
  while (code == BP_OK && self->open == token && self->held_count > 0 && self->credits > 0) {
    uint8_t piece[HELD_BYTES_MAX];
    uint32_t count = self->held_count < self->credits ? self->held_count : self->credits;
    memcpy(piece, self->held, count);
    self->held_count -= count;
    memmove(self->held, self->held + count, self->held_count);
    self->credits -= count;
    pthread_mutex_unlock(&self->lock);
    bp_chunk chunk = {sizeof chunk, count, {piece, count}};
    code = self->base.host->emit(self->base.instance, token, &chunk);
    pthread_mutex_lock(&self->lock);
    self->granted += count;
    pthread_mutex_unlock(&self->lock);
    if (code == BP_OK) self->base.host->grant(self->base.instance, token, count);
    pthread_mutex_lock(&self->lock);
  }
  self->sending = false;
  bool done = code != BP_OK || (self->ended && self->held_count == 0);
  pthread_mutex_unlock(&self->lock);
  if (done) end(self, token, code);
}

static void open_connection(void *pointer, const bp_call *call, const bp_http_open *request, bp_token token) {
  upgrade *self = pointer;
  (void)call;
  bp_field header = {BP_VIEW("upgrade"), BP_VIEW("toy")};
  bp_http_accept accept = {{sizeof accept, 1, {NULL, 0}}, 101, 1, &header};
  pthread_mutex_lock(&self->lock);
  self->open = token;
  self->held_count = 0;
  self->granted = HELD_BYTES_MAX;
  self->credits = request->credits - 1; /* the head costs one */
  self->ended = false;
  pthread_mutex_unlock(&self->lock);
  bp_code code = self->base.host->emit(self->base.instance, token, &accept.chunk);
  if (code != BP_OK)
    end(self, token, code);
  else
    self->base.host->grant(self->base.instance, token, HELD_BYTES_MAX);
}

static void input(void *pointer, bp_token token, bp_view bytes, uint32_t flags) {
  upgrade *self = pointer;
  pthread_mutex_lock(&self->lock);
  bool mine = token == self->open;
  bool breach = bytes.size > self->granted || self->ended;
  if (mine && !breach) {
    if (bytes.size > 0) memcpy(self->held + self->held_count, bytes.data, bytes.size);
    self->held_count += (uint32_t)bytes.size;
    self->granted -= (uint32_t)bytes.size;
    self->ended = (flags & BP_HTTP_INPUT_END) != 0;
  }
  pthread_mutex_unlock(&self->lock);
  if (mine && breach)
    end(self, token, BP_INTERNAL);
  else if (mine)
    pump(self);
}

static void grant(void *pointer, bp_token token, uint32_t credits) {
  upgrade *self = pointer;
  pthread_mutex_lock(&self->lock);
  if (token == self->open) self->credits += credits;
  pthread_mutex_unlock(&self->lock);
  pump(self);
}

static void cancel(void *pointer, bp_token token) { end(pointer, token, BP_CANCELLED); }

static bp_code stop(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  upgrade *self = pointer;
  (void)deadline_ns, (void)report;
  pthread_mutex_lock(&self->lock);
  bp_token token = self->open;
  pthread_mutex_unlock(&self->lock);
  end(self, token, BP_UNAVAILABLE);
  return BP_OK;
}

static void destroy(void *pointer) {
  upgrade *self = pointer;
  pthread_mutex_destroy(&self->lock);
  free(self);
}

static void node_ready(void *pointer, const bp_call *call, bp_token token) {
  toy *self = pointer;
  (void)call;
  bp_result result = result_of(sizeof result, BP_OK, "");
  self->host->complete(self->instance, token, &result);
}

static const bp_service service = {sizeof service, 0, node_ready, NULL};
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
  pthread_mutex_init(&self->lock, NULL);
  self->base.plugin.cancel = cancel;
  self->base.plugin.grant = grant;
  self->base.plugin.stop = stop;
  self->base.plugin.destroy = destroy;
  return &self->base.plugin;
}

TOY_ENTRY("org.example.toy.upgrade", "service", create)
