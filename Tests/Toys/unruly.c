/* A backend in memory that misbehaves as its slot's configuration says:
 *
 *   manner        segfault, trap, abort, exit: the process ends so
 *                 spin, deadlock:  never comes back, with and without using the processor
 *                 leak:            takes leak_mib MiB (16) for good and uses them; aborts when there is no more
 *                 close-descriptors: closes every descriptor from 3 on; then goes on as if nothing had happened
 *                 twice, never:    completes the call so often
 *                 stray:           completes tokens that were never given, then the call
 *                 slow:            waits delay_ms (1000) before it goes on
 *                 fail:            the call, or the step, fails
 *                 outlive:         leaves a thread behind that no stop ends, and that goes on completing old tokens
 *   in            read, apply, scan, configure, start, quiesce, stop or destroy; "" or absent: nowhere
 *   match         calls misbehave when their URI contains it (the scan's prefix); "" or absent: every one
 *   own_thread    true: in a thread of the plugin's own, which then completes the call; stop joins it
 *   mode          async (the default), direct or blocking: how it says that its calls are to be made
 *   obeys_cancel  true: a call that was never completed is, when it is cancelled
 *   probed        true: a probe sees it too
 *
 * Otherwise it keeps records as it should. A record whose URI ends with /version reads as its own version. */
#define _GNU_SOURCE
#include <backplane/manifest.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
#include "toy_store.h"

BACKPLANE_MANIFEST("manifest.json")

#define OPEN_CALLS_MAX 1024
#define THREADS_MAX 1024

typedef struct backend {
  toy base;
  bp_backend table;
  store store;
  bool serves, own_thread, obeys_cancel;
  char manner[32], place[32], match[128];
  uint32_t delay_ms, leak_mib;
  uint32_t reads_count, threads_count;
  bp_token reads[OPEN_CALLS_MAX]; /* of reads and scans that were never completed */
  bp_token units[OPEN_CALLS_MAX]; /* likewise of units */
  uint32_t units_count;
  pthread_t threads[THREADS_MAX];
} backend;

/* What a thread of the plugin's own is to do. */
typedef struct errand {
  backend *self;
  enum { READ, APPLY, SCAN } kind;
  union {
    bp_read read;
    bp_unit unit;
    bp_scan scan;
  } call;
} errand;

static void forever(void) {
  for (;;) pause();
}

static void deadlock(void) {
  pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&lock);
  pthread_mutex_lock(&lock);
  forever();
}

static bool is(backend *self, const char *manner) { return strcmp(self->manner, manner) == 0; }

static bool misbehaves(backend *self, const char *place) {
  return self->serves && self->manner[0] != 0 && strcmp(self->place, place) == 0;
}

/* Tokens of the past, and some that never were, from a thread that nobody joins. */
static void *outliving(void *argument) {
  backend *self = argument; /* of which destroy makes a husk and no more: see there */
  for (uint64_t token = 1;; token++) {
    bp_write_result result = {result_of(sizeof result, BP_OK, ""), 0, 0, 0, 0, 0};
    self->base.host->complete(self->base.instance, token, &result.result);
    usleep(10000);
  }
  return NULL;
}

/* What does not depend on the call. */
static void behave(backend *self) {
  if (is(self, "segfault")) {
    /* A real fault at a small address, which no compiler can see coming. */
    volatile uintptr_t address = 8;
    *(volatile int *)address = 1;
  }
  if (is(self, "trap")) __builtin_trap();
  if (is(self, "abort")) abort();
  if (is(self, "exit")) _exit(3);
  if (is(self, "spin"))
    for (volatile uint64_t turns = 0;; turns++) continue;
  if (is(self, "deadlock")) deadlock();
  if (is(self, "slow")) usleep(self->delay_ms * 1000);
  if (is(self, "close-descriptors"))
    for (int descriptor = 3; descriptor < 4096; descriptor++) close(descriptor);
  if (is(self, "leak")) {
    size_t size = (size_t)self->leak_mib << 20;
    volatile char *taken = malloc(size);
    if (taken == NULL) abort();
    for (size_t at = 0; at < size; at += 4096) taken[at] = 1;
  }
  if (is(self, "outlive")) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, outliving, self) == 0) pthread_detach(thread);
  }
}

/* True when the call is not to be completed any more. */
static bool misbehaves_in_call(backend *self, bool is_unit, bp_token token, const bp_result *failure) {
  behave(self);
  if (is(self, "stray")) {
    self->base.host->complete(self->base.instance, token + (1ull << 20), failure);
    self->base.host->complete(self->base.instance, token ^ (3ull << 48), failure);
    self->base.host->complete(self->base.instance, 0, failure);
  }
  if (is(self, "fail")) {
    self->base.host->complete(self->base.instance, token, failure);
    return true;
  }
  if (!is(self, "never")) return false;
  pthread_mutex_lock(&self->store.lock);
  if (is_unit && self->units_count < OPEN_CALLS_MAX) self->units[self->units_count++] = token;
  if (!is_unit && self->reads_count < OPEN_CALLS_MAX) self->reads[self->reads_count++] = token;
  pthread_mutex_unlock(&self->store.lock);
  return true;
}

static void end_read(backend *self, const bp_read *read, bool rude) {
  bp_read_result result = {result_of(sizeof result, BP_INTERNAL, "the toy was told to fail"),
                           {sizeof(bp_record), 0, 0, 0, {NULL, 0}}};
  bp_token token = read->token;
  if (rude && misbehaves_in_call(self, false, token, &result.result)) return;
  if (view_contains(read->uri, "/version")) {
    static const char text[] = "{\"version\":\"" TOY_VERSION "\"}";
    bp_record record = {sizeof record, BP_CONTENT_JSON, 1, 1, BP_VIEW(text)};
    bp_read_result found = {result_of(sizeof found, BP_OK, ""), record};
    self->base.host->complete(self->base.instance, token, &found.result);
  } else {
    store_read(&self->base, &self->store, read);
  }
  if (rude && is(self, "twice")) self->base.host->complete(self->base.instance, token, &result.result);
}

static void end_unit(backend *self, const bp_unit *unit, bool rude) {
  bp_write_result result = {result_of(sizeof result, BP_INTERNAL, "the toy was told to fail"), 0, 0, 0, 0, unit->ts_ms};
  bp_token token = unit->token;
  if (rude && misbehaves_in_call(self, true, token, &result.result)) return;
  store_apply(&self->base, &self->store, unit);
  if (rude && is(self, "twice")) self->base.host->complete(self->base.instance, token, &result.result);
}

static void end_scan(backend *self, const bp_scan *scan, bool rude) {
  bp_scan_result result = {result_of(sizeof result, BP_INTERNAL, "the toy was told to fail"), NULL, 0,
                           sizeof(bp_scan_item), {NULL, 0}};
  bp_token token = scan->token;
  if (rude && misbehaves_in_call(self, false, token, &result.result)) return;
  store_scan(&self->base, &self->store, scan);
  if (rude && is(self, "twice")) self->base.host->complete(self->base.instance, token, &result.result);
}

static void *run_errand(void *argument) {
  errand it = *(errand *)argument;
  free(argument);
  if (it.kind == READ) end_read(it.self, &it.call.read, true);
  if (it.kind == APPLY) end_unit(it.self, &it.call.unit, true);
  if (it.kind == SCAN) end_scan(it.self, &it.call.scan, true);
  return NULL;
}

/* False when the caller has to do it itself. */
static bool send_on_errand(backend *self, errand it) {
  if (!self->own_thread) return false;
  errand *copy = malloc(sizeof *copy);
  if (copy == NULL) return false;
  *copy = it;
  copy->self = self;
  pthread_mutex_lock(&self->store.lock);
  bool sent = self->threads_count < THREADS_MAX &&
              pthread_create(&self->threads[self->threads_count], NULL, run_errand, copy) == 0;
  if (sent) self->threads_count++;
  pthread_mutex_unlock(&self->store.lock);
  if (!sent) free(copy);
  return sent;
}

static bool matches(backend *self, const char *place, bp_view uri) {
  return misbehaves(self, place) && view_contains(uri, self->match);
}

static void apply(void *pointer, const bp_unit *units, uint32_t count) {
  backend *self = pointer;
  for (uint32_t index = 0; index < count; index++) {
    const bp_unit *unit = (const bp_unit *)(const void *)((const char *)units + (size_t)index * units->size);
    bool rude = matches(self, "apply", unit->ops->uri);
    errand it = {.kind = APPLY, .call.unit = *unit};
    if (!rude || !send_on_errand(self, it)) end_unit(self, unit, rude);
  }
}

static void read_records(void *pointer, const bp_read *reads, uint32_t count) {
  backend *self = pointer;
  for (uint32_t index = 0; index < count; index++) {
    const bp_read *read = (const bp_read *)(const void *)((const char *)reads + (size_t)index * reads->size);
    bool rude = matches(self, "read", read->uri);
    errand it = {.kind = READ, .call.read = *read};
    if (!rude || !send_on_errand(self, it)) end_read(self, read, rude);
  }
}

static void scan_records(void *pointer, const bp_scan *scan) {
  backend *self = pointer;
  bool rude = matches(self, "scan", scan->prefix);
  errand it = {.kind = SCAN, .call.scan = *scan};
  if (!rude || !send_on_errand(self, it)) end_scan(self, scan, rude);
}

static void cancel(void *pointer, bp_token token) {
  backend *self = pointer;
  bool is_read = false, is_unit = false;
  if (!self->obeys_cancel) return;
  pthread_mutex_lock(&self->store.lock);
  for (uint32_t index = 0; index < self->reads_count; index++)
    if (self->reads[index] == token) {
      self->reads[index] = self->reads[--self->reads_count];
      is_read = true;
      break;
    }
  for (uint32_t index = 0; index < self->units_count; index++)
    if (self->units[index] == token) {
      self->units[index] = self->units[--self->units_count];
      is_unit = true;
      break;
    }
  pthread_mutex_unlock(&self->store.lock);
  bp_read_result read = {result_of(sizeof read, BP_CANCELLED, "it was cancelled"),
                         {sizeof(bp_record), 0, 0, 0, {NULL, 0}}};
  bp_write_result unit = {result_of(sizeof unit, BP_CANCELLED, "it was cancelled"), 0, 0, 0, 0, 0};
  if (is_read) self->base.host->complete(self->base.instance, token, &read.result);
  if (is_unit) self->base.host->complete(self->base.instance, token, &unit.result);
}

/* The value of a member of the outermost object, without quotes; "" when it is absent. The slot's JSON is one object of
 * scalars, so that the first "name" is the one. */
static void member(bp_view json, const char *name, char *value, size_t size) {
  char quoted[64];
  snprintf(quoted, sizeof quoted, "\"%s\"", name);
  value[0] = 0;
  char *text = calloc(1, json.size + 1);
  if (text == NULL) return;
  memcpy(text, json.data, json.size);
  char *at = strstr(text, quoted);
  if (at != NULL) {
    at += strlen(quoted);
    while (*at == ' ' || *at == ':' || *at == '\n') at++;
    const char *ends = *at == '"' ? "\"" : ",} \n";
    if (*at == '"') at++;
    size_t length = strcspn(at, ends);
    if (length >= size) length = size - 1;
    memcpy(value, at, length);
    value[length] = 0;
    /* Foundation writes a slash as \/ . */
    char *to = value;
    for (char *from = value; *from != 0; from++)
      if (from[0] != '\\' || from[1] != '/') *to++ = *from;
    *to = 0;
  }
  free(text);
}

static bp_code step(backend *self, const char *place, const bp_report *report) {
  if (!misbehaves(self, place)) return BP_OK;
  behave(self);
  if (!is(self, "fail")) return BP_OK;
  toy_report(report, "", "the toy was told to fail");
  return BP_UNAVAILABLE;
}

static bp_code configure(void *pointer, const bp_configuration *configuration, const bp_report *report) {
  backend *self = pointer;
  char text[32];
  member(configuration->json, "manner", self->manner, sizeof self->manner);
  member(configuration->json, "in", self->place, sizeof self->place);
  member(configuration->json, "match", self->match, sizeof self->match);
  member(configuration->json, "own_thread", text, sizeof text);
  self->own_thread = strcmp(text, "true") == 0;
  member(configuration->json, "obeys_cancel", text, sizeof text);
  self->obeys_cancel = strcmp(text, "true") == 0;
  member(configuration->json, "delay_ms", text, sizeof text);
  self->delay_ms = text[0] == 0 ? 1000 : (uint32_t)atoi(text);
  member(configuration->json, "leak_mib", text, sizeof text);
  self->leak_mib = text[0] == 0 ? 16 : (uint32_t)atoi(text);
  member(configuration->json, "mode", text, sizeof text);
  uint32_t mode = strcmp(text, "direct") == 0     ? BP_MODE_DIRECT
                  : strcmp(text, "blocking") == 0 ? BP_MODE_BLOCKING
                                                  : BP_MODE_ASYNC;
  self->table.apply_mode = self->table.read_mode = self->table.scan_mode = mode;
  member(configuration->json, "probed", text, sizeof text);
  self->serves = configuration->purpose == BP_PURPOSE_SERVE || strcmp(text, "true") == 0;
  return step(self, "configure", report);
}

static bp_code start(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  (void)deadline_ns;
  return step(pointer, "start", report);
}

static bp_code quiesce(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  (void)deadline_ns;
  return step(pointer, "quiesce", report);
}

static bp_code stop(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  backend *self = pointer;
  (void)deadline_ns;
  bp_code code = step(self, "stop", report);
  for (uint32_t index = 0; index < self->threads_count; index++) pthread_join(self->threads[index], NULL);
  self->threads_count = 0;
  return code;
}

static void destroy(void *pointer) {
  backend *self = pointer;
  step(self, "destroy", NULL);
  store_clear(&self->store);
  /* A thread that was left behind still looks at it. */
  if (is(self, "outlive")) return;
  pthread_mutex_destroy(&self->store.lock);
  free(self);
}

static const void *extension(void *pointer, bp_view id) {
  backend *self = pointer;
  return view_is(id, BP_BACKEND_ID) ? &self->table : NULL;
}

static const bp_plugin *create(const bp_host *host, bp_instance instance, const bp_report *report) {
  backend *self = (backend *)toy_make(sizeof *self, host, instance, extension);
  if (self == NULL) {
    toy_report(report, "", "out of memory");
    return NULL;
  }
  bp_backend table = {sizeof table,  BP_BACKEND_ATOMIC | BP_BACKEND_VERSIONS,
                      BP_MODE_ASYNC, BP_MODE_ASYNC,
                      BP_MODE_ASYNC, BP_DURABILITY_MEMORY,
                      apply,         read_records,
                      scan_records};
  self->table = table;
  pthread_mutex_init(&self->store.lock, NULL);
  self->base.plugin.configure = configure;
  self->base.plugin.start = start;
  self->base.plugin.quiesce = quiesce;
  self->base.plugin.stop = stop;
  self->base.plugin.destroy = destroy;
  self->base.plugin.cancel = cancel;
  return &self->base.plugin;
}

static const bp_view kinds[] = {BP_VIEW("backend")};
static const bp_entry entry = {sizeof(bp_entry),              BP_ABI_MAJOR,         BP_ABI_MINOR, 1,
                               BP_VIEW("org.example.unruly"), BP_VIEW(TOY_VERSION), kinds,        create};

const bp_entry *backplane_plugin_v1(void) { return &entry; }
