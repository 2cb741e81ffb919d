/* A backend that hands its records to its successor: backplane.state/1 on top of a store. One chunk is one record:
 * "uri\0data". Everything is in the snapshot; the rest is what came after it. */
#include <backplane/draft/state.h>
#include "toy_store.h"

typedef struct state {
  toy base;
  store store;
  uint32_t exported; /* records that the snapshot has carried */
  /* The export under way, under the lock. */
  bp_token token;
  uint32_t next, end, credits;
  bool emitting;
} state;

static void apply(void *pointer, const bp_unit *units, uint32_t count) {
  state *self = pointer;
  for (uint32_t index = 0; index < count; index++)
    store_apply(&self->base, &self->store,
                (const bp_unit *)(const void *)((const char *)units + (size_t)index * units->size));
}

static void read_records(void *pointer, const bp_read *reads, uint32_t count) {
  state *self = pointer;
  for (uint32_t index = 0; index < count; index++)
    store_read(&self->base, &self->store,
               (const bp_read *)(const void *)((const char *)reads + (size_t)index * reads->size));
}

static void scan_records(void *pointer, const bp_scan *scan) {
  state *self = pointer;
  store_scan(&self->base, &self->store, scan);
}

/* Emits while there is credit. One thread at a time emits: a grant that comes during an emit only adds credit. */
static void pump(state *self) {
  pthread_mutex_lock(&self->store.lock);
  if (self->emitting || self->token == 0) {
    pthread_mutex_unlock(&self->store.lock);
    return;
  }
  self->emitting = true;
  bp_code code = BP_OK;
  while (code == BP_OK && self->next < self->end && self->credits > 0) {
    stored *record = &self->store.records[self->next];
    uint64_t size = record->uri_size + 1 + record->data_size;
    uint8_t *bytes = malloc(size);
    memcpy(bytes, record->uri, record->uri_size);
    bytes[record->uri_size] = 0;
    memcpy(bytes + record->uri_size + 1, record->data, record->data_size);
    bp_chunk chunk = {sizeof chunk, 1, {bytes, size}};
    self->next++;
    self->credits--;
    bp_token token = self->token;
    pthread_mutex_unlock(&self->store.lock);
    code = self->base.host->emit(self->base.instance, token, &chunk);
    free(bytes);
    pthread_mutex_lock(&self->store.lock);
  }
  self->emitting = false;
  bool done = code != BP_OK || self->next == self->end;
  bp_token token = self->token;
  if (done) {
    self->exported = self->next;
    self->token = 0;
  }
  pthread_mutex_unlock(&self->store.lock);
  if (!done) return;
  bp_result result = result_of(sizeof result, code, "");
  self->base.host->complete(self->base.instance, token, &result);
}

static void export_state(void *pointer, const bp_call *call, const bp_state_export *request, bp_token token) {
  state *self = pointer;
  (void)call;
  pthread_mutex_lock(&self->store.lock);
  self->token = token;
  self->next = request->phase == BP_STATE_SNAPSHOT ? 0 : self->exported;
  self->end = self->store.count;
  self->credits = request->credits;
  pthread_mutex_unlock(&self->store.lock);
  pump(self);
}

static void grant(void *pointer, bp_token token, uint32_t credits) {
  state *self = pointer;
  pthread_mutex_lock(&self->store.lock);
  if (token == self->token) self->credits += credits;
  pthread_mutex_unlock(&self->store.lock);
  pump(self);
}

static void import_state(void *pointer, const bp_call *call, const bp_state_import *request, bp_token token) {
  state *self = pointer;
  (void)call;
  bp_result result = result_of(sizeof result, BP_OK, "");
  if (request->format_version != 1) {
    result = result_of(sizeof result, BP_UNIMPLEMENTED, "only format 1 is read");
  } else if (request->bytes.size > 0) {
    const uint8_t *zero = memchr(request->bytes.data, 0, request->bytes.size);
    bp_view uri = {request->bytes.data, (uint64_t)(zero - request->bytes.data)};
    bp_view data = {zero + 1, request->bytes.size - uri.size - 1};
    pthread_mutex_lock(&self->store.lock);
    store_put(&self->store, uri, data, BP_CONTENT_JSON, 0, 0);
    pthread_mutex_unlock(&self->store.lock);
  }
  self->base.host->complete(self->base.instance, token, &result);
}

/* Completes an export that waits for credit. */
static bp_code stop(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  state *self = pointer;
  (void)deadline_ns, (void)report;
  pthread_mutex_lock(&self->store.lock);
  bp_token token = self->token;
  self->token = 0;
  pthread_mutex_unlock(&self->store.lock);
  bp_result result = result_of(sizeof result, BP_UNAVAILABLE, "the instance stops");
  if (token != 0) self->base.host->complete(self->base.instance, token, &result);
  return BP_OK;
}

static void destroy(void *pointer) {
  state *self = pointer;
  store_clear(&self->store);
  pthread_mutex_destroy(&self->store.lock);
  free(self);
}

static const bp_backend backend = {sizeof backend, BP_BACKEND_ATOMIC,    BP_MODE_DIRECT, BP_MODE_DIRECT, BP_MODE_DIRECT,
                                   BP_DURABILITY_MEMORY, apply, read_records, scan_records};
static const bp_state table = {sizeof table, 1, 1, 0, export_state, import_state};

static const void *extension(void *self, bp_view id) {
  (void)self;
  if (view_is(id, BP_BACKEND_ID)) return &backend;
  return view_is(id, BP_STATE_ID) ? &table : NULL;
}

static const bp_plugin *create(const bp_host *host, bp_instance instance, const bp_report *report) {
  state *self = (state *)toy_make(sizeof *self, host, instance, extension);
  if (self == NULL) {
    toy_report(report, "", "out of memory");
    return NULL;
  }
  pthread_mutex_init(&self->store.lock, NULL);
  self->base.plugin.destroy = destroy;
  self->base.plugin.grant = grant;
  self->base.plugin.stop = stop;
  return &self->base.plugin;
}

TOY_ENTRY("org.example.toy.state", "backend", create)
