/* A backend that hands its records to its successor: backplane.state/1 on top of a store. One chunk is one record: '+'
 * and "uri\0data", or '-' and the uri of a deleted one. The snapshot is taken when it is asked for; the rest says what
 * units have put or deleted since. */
#include <backplane/state.h>
#include "toy_store.h"

typedef struct state {
  toy base;
  store store; /* its lock is over all that follows */
  /* URIs that have changed since the snapshot was begun, each once. */
  bp_view *journal;
  uint32_t journal_count, journal_room;
  bool noting;
  /* The export under way. */
  bp_token token;
  bp_view *chunks;
  uint32_t next, end, credits;
  bool emitting;
} state;

static void views_free(bp_view *views, uint32_t count) {
  for (uint32_t index = 0; index < count; index++) free((void *)(uintptr_t)views[index].data);
  free(views);
}

static void note(store *store, bp_view uri) {
  state *self = (state *)(void *)((char *)store - offsetof(state, store));
  if (!self->noting) return;
  for (uint32_t index = 0; index < self->journal_count; index++)
    if (self->journal[index].size == uri.size && memcmp(self->journal[index].data, uri.data, uri.size) == 0) return;
  if (self->journal_count == self->journal_room) {
    self->journal_room = self->journal_room * 2 + 16;
    self->journal = realloc(self->journal, self->journal_room * sizeof *self->journal);
  }
  bp_view copy = {(const uint8_t *)bytes_copy(uri), uri.size};
  self->journal[self->journal_count++] = copy;
}

static void forget(state *self) {
  views_free(self->journal, self->journal_count);
  self->journal = NULL;
  self->journal_count = self->journal_room = 0;
}

static bp_view chunk_of(bp_view uri, const stored *record) {
  uint64_t size = 1 + uri.size + (record == NULL ? 0 : 1 + record->data_size);
  uint8_t *bytes = malloc(size);
  bytes[0] = record == NULL ? '-' : '+';
  memcpy(bytes + 1, uri.data, uri.size);
  if (record != NULL) {
    bytes[1 + uri.size] = 0;
    memcpy(bytes + 2 + uri.size, record->data, record->data_size);
  }
  bp_view chunk = {bytes, size};
  return chunk;
}

/* Copies what is to be exported, so that units may go on meanwhile. */
static void collect(state *self, uint32_t phase) {
  bool all = phase == BP_STATE_SNAPSHOT;
  self->end = all ? self->store.count : self->journal_count;
  self->next = 0;
  self->chunks = calloc(self->end + 1, sizeof *self->chunks);
  for (uint32_t index = 0; index < self->end; index++) {
    stored *record = &self->store.records[index];
    bp_view uri = {(const uint8_t *)record->uri, record->uri_size};
    if (!all) uri = self->journal[index];
    self->chunks[index] = chunk_of(uri, all ? record : store_find(&self->store, uri));
  }
  forget(self);
}

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

/* Ends the export under way, once. Not under the lock. */
static void end(state *self, bp_code code, const char *message) {
  pthread_mutex_lock(&self->store.lock);
  bp_token token = self->token;
  self->token = 0;
  views_free(self->chunks, self->end);
  self->chunks = NULL;
  self->next = self->end = 0;
  pthread_mutex_unlock(&self->store.lock);
  bp_result result = result_of(sizeof result, code, message);
  if (token != 0) self->base.host->complete(self->base.instance, token, &result);
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
    bp_view bytes = self->chunks[self->next];
    self->chunks[self->next++].data = NULL;
    bp_chunk chunk = {sizeof chunk, 1, bytes};
    self->credits--;
    bp_token token = self->token;
    pthread_mutex_unlock(&self->store.lock);
    code = self->base.host->emit(self->base.instance, token, &chunk);
    free((void *)(uintptr_t)bytes.data);
    pthread_mutex_lock(&self->store.lock);
  }
  self->emitting = false;
  bool done = code != BP_OK || self->next == self->end;
  pthread_mutex_unlock(&self->store.lock);
  if (done) end(self, code, "");
}

static void export_state(void *pointer, const bp_call *call, const bp_state_export *request, bp_token token) {
  state *self = pointer;
  (void)call;
  if (request->phase == BP_STATE_ABANDON) {
    pthread_mutex_lock(&self->store.lock);
    forget(self);
    self->noting = false;
    pthread_mutex_unlock(&self->store.lock);
    bp_result done = result_of(sizeof done, BP_OK, "");
    self->base.host->complete(self->base.instance, token, &done);
    return;
  }
  pthread_mutex_lock(&self->store.lock);
  bool follows = request->phase == BP_STATE_SNAPSHOT || self->noting;
  if (!follows) {
    pthread_mutex_unlock(&self->store.lock);
    bp_result refused = result_of(sizeof refused, BP_FAILED_PRECONDITION, "no snapshot was exported before");
    self->base.host->complete(self->base.instance, token, &refused);
    return;
  }
  collect(self, request->phase);
  self->noting = request->phase == BP_STATE_SNAPSHOT;
  self->token = token;
  self->credits = request->credits;
  pthread_mutex_unlock(&self->store.lock);
  pump(self);
}

static void cancel(void *pointer, bp_token token) {
  state *self = pointer;
  pthread_mutex_lock(&self->store.lock);
  bool mine = token != 0 && token == self->token;
  pthread_mutex_unlock(&self->store.lock);
  if (mine) end(self, BP_CANCELLED, "");
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
    bp_view uri = {request->bytes.data + 1, request->bytes.size - 1};
    const uint8_t *zero = memchr(uri.data, 0, uri.size);
    pthread_mutex_lock(&self->store.lock);
    if (zero == NULL) {
      store_remove(&self->store, uri);
    } else {
      uint64_t data_size = (uint64_t)(uri.data + uri.size - zero - 1);
      uri.size = (uint64_t)(zero - uri.data);
      bp_view data = {zero + 1, data_size};
      store_put(&self->store, uri, data, BP_CONTENT_JSON, 0, 0);
    }
    pthread_mutex_unlock(&self->store.lock);
  }
  self->base.host->complete(self->base.instance, token, &result);
}

/* Completes an export that waits for credit. */
static bp_code stop(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  (void)deadline_ns, (void)report;
  end(pointer, BP_UNAVAILABLE, "the instance stops");
  return BP_OK;
}

static void destroy(void *pointer) {
  state *self = pointer;
  store_clear(&self->store);
  views_free(self->journal, self->journal_count);
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
  self->store.changed = note;
  self->base.plugin.destroy = destroy;
  self->base.plugin.cancel = cancel;
  self->base.plugin.grant = grant;
  self->base.plugin.stop = stop;
  return &self->base.plugin;
}

TOY_ENTRY("org.example.toy.state", "backend", create)
