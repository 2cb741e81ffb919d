/* A backend in memory that hands its records over, or excludes its successor, or is worse than its predecessor: for tests
 * of what a reload does with slots. Compiled with LEDGER_VERSION, LEDGER_FORMAT (of its state; 0: it hands nothing over)
 * and LEDGER_OLDEST (the oldest it reads). Its slot's configuration:
 *   lock           a file that it locks from start to stop; start fails while another has it
 *   fail_start     start fails
 *   delay_ms       reads take so long, on a thread of their own
 *   fail_each      every so many reads fail (1: all)
 *   fail_export    "snapshot" or "rest": that export fails
 *   hold_rest_ms   exporting the rest takes so long */
#include <backplane/manifest.h>
#include <backplane/state.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>
#include "toy_store.h"

BACKPLANE_MANIFEST("manifest.json")

typedef struct backend {
  toy base;
  store store;
  char lock[512];
  char fail_export[16];
  bool fail_start;
  uint32_t delay_ms, fail_each, hold_rest_ms;
  uint32_t reads, pending;
  int lock_file;
  /* The export that waits for credits. */
  bp_token exporting;
  uint32_t exported;
  /* URIs that were put or deleted since the snapshot began. */
  bool noting;
  uint32_t noted_count;
  char *noted[STORE_RECORDS_MAX];
} backend;

static bool text_of(const char *json, const char *key, char *value, size_t size) {
  char wanted[64];
  snprintf(wanted, sizeof wanted, "\"%s\":\"", key);
  const char *start = strstr(json, wanted);
  if (start == NULL) return false;
  start += strlen(wanted);
  const char *end = strchr(start, '"');
  if (end == NULL || (size_t)(end - start) >= size) return false;
  memcpy(value, start, (size_t)(end - start));
  value[end - start] = 0;
  return true;
}

static uint32_t number_of(const char *json, const char *key) {
  char wanted[64];
  snprintf(wanted, sizeof wanted, "\"%s\":", key);
  const char *start = strstr(json, wanted);
  return start == NULL ? 0 : (uint32_t)strtoul(start + strlen(wanted), NULL, 10);
}

static bp_code configure(void *pointer, const bp_configuration *configuration, const bp_report *report) {
  backend *self = pointer;
  (void)report;
  char json[4096] = {0};
  memcpy(json, configuration->json.data,
         configuration->json.size < sizeof json ? configuration->json.size : sizeof json - 1);
  text_of(json, "lock", self->lock, sizeof self->lock);
  text_of(json, "fail_export", self->fail_export, sizeof self->fail_export);
  self->fail_start = strstr(json, "\"fail_start\":true") != NULL;
  self->delay_ms = number_of(json, "delay_ms");
  self->fail_each = number_of(json, "fail_each");
  self->hold_rest_ms = number_of(json, "hold_rest_ms");
  return BP_OK;
}

static bp_code start(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  backend *self = pointer;
  (void)deadline_ns;
  if (self->fail_start) {
    toy_report(report, "/fail_start", "the ledger was told to fail");
    return BP_UNAVAILABLE;
  }
  if (self->lock[0] == 0) return BP_OK;
  self->lock_file = open(self->lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (self->lock_file < 0 || flock(self->lock_file, LOCK_EX | LOCK_NB) != 0) {
    toy_report(report, "/lock", "another ledger has the lock");
    return BP_UNAVAILABLE;
  }
  return BP_OK;
}

static bp_code quiesce(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  (void)pointer, (void)deadline_ns, (void)report;
  return BP_OK;
}

static bp_code stop(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  backend *self = pointer;
  (void)deadline_ns, (void)report;
  while (__atomic_load_n(&self->pending, __ATOMIC_ACQUIRE) > 0) usleep(1000);
  if (self->lock_file >= 0) close(self->lock_file);
  self->lock_file = -1;
  return BP_OK;
}

static void forget(backend *self) {
  while (self->noted_count > 0) free(self->noted[--self->noted_count]);
  self->noting = false;
}

static void destroy(void *pointer) {
  backend *self = pointer;
  if (self->lock_file >= 0) close(self->lock_file);
  forget(self);
  store_clear(&self->store);
  pthread_mutex_destroy(&self->store.lock);
  free(self);
}

/* Called by the store under its lock. */
static void changed(store *store, bp_view uri) {
  backend *self = (backend *)(void *)((char *)store - offsetof(backend, store));
  if (!self->noting) return;
  for (uint32_t index = 0; index < self->noted_count; index++)
    if (strlen(self->noted[index]) == uri.size && memcmp(self->noted[index], uri.data, uri.size) == 0) return;
  if (self->noted_count == STORE_RECORDS_MAX) return;
  char *copy = calloc(1, uri.size + 1);
  memcpy(copy, uri.data, uri.size);
  self->noted[self->noted_count++] = copy;
}

static void apply(void *pointer, const bp_unit *units, uint32_t count) {
  backend *self = pointer;
  for (uint32_t index = 0; index < count; index++)
    store_apply(&self->base, &self->store,
                (const bp_unit *)(const void *)((const char *)units + (size_t)index * units->size));
}

typedef struct late {
  backend *self;
  bp_read read;
} late;

static void end_read(backend *self, const bp_read *read) {
  uint32_t number = __atomic_add_fetch(&self->reads, 1, __ATOMIC_RELAXED);
  if (view_contains(read->uri, "/version")) {
    static const char text[] = "\"" LEDGER_VERSION "\"";
    bp_record record = {sizeof record, BP_CONTENT_JSON, 1, 1, BP_VIEW(text)};
    bp_read_result result = {result_of(sizeof result, BP_OK, ""), record};
    self->base.host->complete(self->base.instance, read->token, &result.result);
  } else if (self->fail_each > 0 && number % self->fail_each == 0) {
    bp_read_result result = {result_of(sizeof result, BP_INTERNAL, "the ledger was told to fail"),
                             {sizeof(bp_record), 0, 0, 0, {NULL, 0}}};
    self->base.host->complete(self->base.instance, read->token, &result.result);
  } else {
    store_read(&self->base, &self->store, read);
  }
}

static void *read_later(void *argument) {
  late *one = argument;
  usleep(one->self->delay_ms * 1000);
  end_read(one->self, &one->read);
  __atomic_sub_fetch(&one->self->pending, 1, __ATOMIC_RELEASE);
  free(one);
  return NULL;
}

static void read_records(void *pointer, const bp_read *reads, uint32_t count) {
  backend *self = pointer;
  for (uint32_t index = 0; index < count; index++) {
    const bp_read *read = (const bp_read *)(const void *)((const char *)reads + (size_t)index * reads->size);
    pthread_t thread;
    late *one = self->delay_ms > 0 && !view_contains(read->uri, "/version") ? malloc(sizeof *one) : NULL;
    if (one == NULL) {
      end_read(self, read);
      continue;
    }
    one->self = self;
    one->read = *read;
    __atomic_add_fetch(&self->pending, 1, __ATOMIC_RELAXED);
    if (pthread_create(&thread, NULL, read_later, one) == 0)
      pthread_detach(thread);
    else
      read_later(one);
  }
}

static void scan_records(void *pointer, const bp_scan *scan) {
  backend *self = pointer;
  store_scan(&self->base, &self->store, scan);
}

/* One chunk a record: verb, content, ts_ms, version, length of the URI, URI, data. */
typedef struct header {
  uint32_t verb, content;
  uint64_t ts_ms, version, uri_size;
} header;

static bp_code emit_record(backend *self, bp_token token, uint32_t verb, const char *uri, uint64_t uri_size,
                           const stored *record) {
  header head = {verb, record == NULL ? 0 : record->content, record == NULL ? 0 : record->ts_ms,
                 record == NULL ? 0 : record->version, uri_size};
  size_t data_size = record == NULL ? 0 : record->data_size;
  size_t size = sizeof head + uri_size + data_size;
  char *bytes = malloc(size);
  memcpy(bytes, &head, sizeof head);
  memcpy(bytes + sizeof head, uri, uri_size);
  if (data_size > 0) memcpy(bytes + sizeof head + uri_size, record->data, data_size);
  bp_chunk chunk = {sizeof chunk, 1, {(const uint8_t *)bytes, size}};
  bp_code code = self->base.host->emit(self->base.instance, token, &chunk);
  free(bytes);
  return code;
}

static void end_export(backend *self, bp_token token, bp_code code, const char *message) {
  bp_result result = result_of(sizeof result, code, message);
  self->base.host->complete(self->base.instance, token, &result);
}

/* Emits as far as credits go. The caller holds the lock. */
static bool go_on(backend *self) {
  while (self->exported < self->store.count) {
    stored *record = &self->store.records[self->exported];
    bp_code code = emit_record(self, self->exporting, BP_VERB_PUT, record->uri, record->uri_size, record);
    if (code != BP_OK) return code != BP_RESOURCE_EXHAUSTED;
    self->exported++;
  }
  return true;
}

static void export_state(void *pointer, const bp_call *call, const bp_state_export *request, bp_token token) {
  backend *self = pointer;
  (void)call;
  if (request->phase == BP_STATE_ABANDON) {
    pthread_mutex_lock(&self->store.lock);
    forget(self);
    pthread_mutex_unlock(&self->store.lock);
    return end_export(self, token, BP_OK, "");
  }
  const char *name = request->phase == BP_STATE_SNAPSHOT ? "snapshot" : "rest";
  if (strcmp(self->fail_export, name) == 0) return end_export(self, token, BP_INTERNAL, "told to fail its export");
  if (request->phase == BP_STATE_REST) {
    if (self->hold_rest_ms > 0) usleep(self->hold_rest_ms * 1000);
    /* At most 512 notes, and this toy's tests write fewer than it has credits for at a time: wait for them. */
    for (uint32_t index = 0; index < self->noted_count; index++) {
      bp_view uri = {(const uint8_t *)self->noted[index], strlen(self->noted[index])};
      stored *record = store_find(&self->store, uri);
      uint32_t verb = record == NULL ? BP_VERB_DELETE : BP_VERB_PUT;
      bp_code code;
      while ((code = emit_record(self, token, verb, self->noted[index], uri.size, record)) == BP_RESOURCE_EXHAUSTED)
        usleep(200);
      if (code != BP_OK) break;
    }
    forget(self);
    return end_export(self, token, BP_OK, "");
  }
  pthread_mutex_lock(&self->store.lock);
  forget(self);
  self->noting = true;
  self->exporting = token;
  self->exported = 0;
  bool is_over = go_on(self);
  pthread_mutex_unlock(&self->store.lock);
  if (is_over) end_export(self, token, BP_OK, "");
}

static void grant(void *pointer, bp_token token, uint32_t credits) {
  backend *self = pointer;
  (void)credits;
  pthread_mutex_lock(&self->store.lock);
  bool is_over = self->exporting == token && go_on(self);
  if (is_over) self->exporting = 0;
  pthread_mutex_unlock(&self->store.lock);
  if (is_over) end_export(self, token, BP_OK, "");
}

static void import_state(void *pointer, const bp_call *call, const bp_state_import *request, bp_token token) {
  backend *self = pointer;
  (void)call;
  bp_code code = BP_OK;
  header head;
  if (request->format_version < LEDGER_OLDEST) {
    code = BP_UNIMPLEMENTED;
  } else if (request->bytes.size >= sizeof head) {
    memcpy(&head, request->bytes.data, sizeof head);
    const uint8_t *uri = request->bytes.data + sizeof head;
    bp_view key = {uri, head.uri_size};
    bp_view data = {uri + head.uri_size, request->bytes.size - sizeof head - head.uri_size};
    pthread_mutex_lock(&self->store.lock);
    if (head.verb == BP_VERB_DELETE)
      store_remove(&self->store, key);
    else
      store_put(&self->store, key, data, head.content, head.ts_ms, head.version);
    pthread_mutex_unlock(&self->store.lock);
  }
  end_export(self, token, code, "");
}

static const bp_backend table = {sizeof table,   BP_BACKEND_ATOMIC | BP_BACKEND_VERSIONS,
                                 BP_MODE_DIRECT, BP_MODE_ASYNC,
                                 BP_MODE_DIRECT, BP_DURABILITY_MEMORY,
                                 apply,          read_records,
                                 scan_records};
static const bp_state state = {sizeof state, LEDGER_FORMAT, LEDGER_OLDEST, 0, export_state, import_state};

static const void *extension(void *self, bp_view id) {
  (void)self;
  if (view_is(id, BP_STATE_ID) && LEDGER_FORMAT > 0) return &state;
  return view_is(id, BP_BACKEND_ID) ? &table : NULL;
}

static const bp_plugin *create(const bp_host *host, bp_instance instance, const bp_report *report) {
  (void)report;
  backend *self = (backend *)toy_make(sizeof *self, host, instance, extension);
  if (self == NULL) return NULL;
  pthread_mutex_init(&self->store.lock, NULL);
  self->store.changed = changed;
  self->lock_file = -1;
  self->base.plugin.configure = configure;
  self->base.plugin.start = start;
  self->base.plugin.quiesce = quiesce;
  self->base.plugin.stop = stop;
  self->base.plugin.destroy = destroy;
  self->base.plugin.grant = grant;
  return &self->base.plugin;
}

static const bp_view kinds[] = {BP_VIEW("backend")};
static const bp_entry entry = {sizeof(bp_entry),          BP_ABI_MAJOR,             BP_ABI_MINOR, 1,
                               BP_VIEW("org.example.ledger"), BP_VIEW(LEDGER_VERSION), kinds,        create};

const bp_entry *backplane_plugin_v1(void) { return &entry; }
