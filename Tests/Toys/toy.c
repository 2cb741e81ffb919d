/* A backend in memory that misbehaves as it is told: when it is compiled, by the macros below, and while it runs, by
 * files in the folder that its URL names (toy:///folder):
 *   events        it appends a line for every step of its life: "VERSION step"
 *   hold          while it is there, calls whose URI contains "/slow" wait; a thread of the toy's own completes them
 *   fail-writes   every write fails
 *   fail-reads    every read fails
 * In a probe it has no events and holds nothing. */
#include <backplane/manifest.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include "toy_store.h"

BACKPLANE_MANIFEST("manifest.json")

#ifndef TOY_ABI_MAJOR
#define TOY_ABI_MAJOR BP_ABI_MAJOR
#endif
#ifndef TOY_HANG
#define TOY_HANG ""
#endif
#ifndef TOY_FAIL
#define TOY_FAIL ""
#endif

#define HELD_MAX 256

typedef struct backend {
  toy base;
  store store;
  pthread_t thread;
  pthread_cond_t wake;
  bool started, stopping;
  uint32_t held_count;
  bp_unit units[HELD_MAX]; /* either a unit or a read */
  bp_read reads[HELD_MAX];
  char folder[512];
} backend;

static bool in_probe(void) {
  char line[4096] = {0};
  int file = open("/proc/self/cmdline", O_RDONLY);
  ssize_t count = file < 0 ? 0 : read(file, line, sizeof line - 1);
  if (file >= 0) close(file);
  for (ssize_t at = 0; at + 7 < count; at++)
    if (memcmp(line + at, "__probe", 7) == 0) return true;
  return false;
}

static void hang(void) {
  for (;;) sleep(1000);
}

/* What is asked for at compile time: "start", or "start!" when the probe is to see it too. */
static bool asked(const char *step, const char *wanted) {
  size_t length = strlen(step);
  if (strncmp(wanted, step, length) != 0) return false;
  if (wanted[length] == '!') return true;
  return wanted[length] == 0 && !in_probe();
}

static bool has(backend *self, const char *name) {
  char path[600];
  if (self->folder[0] == 0) return false;
  snprintf(path, sizeof path, "%s/%s", self->folder, name);
  return access(path, F_OK) == 0;
}

static void event(backend *self, const char *step) {
  char path[600];
  if (self->folder[0] == 0 || in_probe()) return;
  snprintf(path, sizeof path, "%s/events", self->folder);
  int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (file < 0) return;
  dprintf(file, "%s %s\n", TOY_VERSION, step);
  close(file);
}

static void fail_unit(backend *self, const bp_unit *unit, bp_code code, const char *message) {
  bp_write_result result = {result_of(sizeof result, code, message), 0, 0, 0, 0, unit->ts_ms};
  self->base.host->complete(self->base.instance, unit->token, &result.result);
}

static void end_read(backend *self, const bp_read *read) {
  if (view_contains(read->uri, "/version") || view_contains(read->uri, "/slow")) {
    static const char text[] = "{\"version\":\"" TOY_VERSION "\"}";
    bp_record record = {sizeof record, BP_CONTENT_JSON, 1, 1, BP_VIEW(text)};
    bp_read_result result = {result_of(sizeof result, BP_OK, ""), record};
    self->base.host->complete(self->base.instance, read->token, &result.result);
  } else if (has(self, "fail-reads")) {
    bp_read_result result = {result_of(sizeof result, BP_UNAVAILABLE, "the toy was told to fail reads"),
                             {sizeof(bp_record), 0, 0, 0, {NULL, 0}}};
    self->base.host->complete(self->base.instance, read->token, &result.result);
  } else {
    store_read(&self->base, &self->store, read);
  }
}

static void end_unit(backend *self, const bp_unit *unit) {
  if (has(self, "fail-writes"))
    fail_unit(self, unit, BP_UNAVAILABLE, "the toy was told to fail writes");
  else
    store_apply(&self->base, &self->store, unit);
}

/* Looks every few milliseconds whether the file `hold` is gone. */
static void *work(void *argument) {
  backend *self = argument;
  for (;;) {
    pthread_mutex_lock(&self->store.lock);
    bool stopping = self->stopping;
    uint32_t index = self->held_count;
    bool ends = index > 0 && (stopping || !has(self, "hold"));
    bp_unit unit;
    bp_read read;
    if (ends) {
      self->held_count = --index;
      unit = self->units[index];
      read = self->reads[index];
    }
    pthread_mutex_unlock(&self->store.lock);
    if (!ends) {
      if (stopping) return NULL;
      usleep(2000);
    } else if (unit.token != 0) {
      if (stopping)
        fail_unit(self, &unit, BP_UNAVAILABLE, "the toy stops");
      else
        end_unit(self, &unit);
    } else {
      end_read(self, &read);
    }
  }
}

static bool hold(backend *self, const bp_unit *unit, const bp_read *read) {
  bp_view uri = unit != NULL ? unit->ops->uri : read->uri;
  if (!view_contains(uri, "/slow") || !has(self, "hold")) return false;
  bool taken = false;
  pthread_mutex_lock(&self->store.lock);
  if (self->held_count < HELD_MAX) {
    bp_unit no_unit = {0};
    bp_read no_read = {0};
    self->units[self->held_count] = unit != NULL ? *unit : no_unit;
    self->reads[self->held_count++] = read != NULL ? *read : no_read;
    taken = true;
  }
  pthread_mutex_unlock(&self->store.lock);
  if (taken) event(self, "holds");
  return taken;
}

static void apply(void *pointer, const bp_unit *units, uint32_t count) {
  for (uint32_t index = 0; index < count; index++) {
    const bp_unit *unit = (const bp_unit *)(const void *)((const char *)units + (size_t)index * units->size);
    if (!hold(pointer, unit, NULL)) end_unit(pointer, unit);
  }
}

static void read_records(void *pointer, const bp_read *reads, uint32_t count) {
  for (uint32_t index = 0; index < count; index++) {
    const bp_read *read = (const bp_read *)(const void *)((const char *)reads + (size_t)index * reads->size);
    if (!hold(pointer, NULL, read)) end_read(pointer, read);
  }
}

static void scan_records(void *pointer, const bp_scan *scan) {
  backend *self = pointer;
  store_scan(&self->base, &self->store, scan);
}

static bp_code configure(void *pointer, const bp_configuration *configuration, const bp_report *report) {
  backend *self = pointer;
  if (asked("configure", TOY_HANG)) hang();
  if (asked("configure", TOY_FAIL)) abort();
  if (view_contains(configuration->json, "\"refuse\"")) {
    toy_report(report, "/refuse", "this toy refuses what asks to be refused; take the key out");
    return BP_INVALID_ARGUMENT;
  }
  char text[1024] = {0};
  memcpy(text, configuration->json.data,
         configuration->json.size < sizeof text ? configuration->json.size : sizeof text - 1);
  char *start = strstr(text, "toy://");
  char *end = start == NULL ? NULL : strchr(start, '"');
  if (end != NULL && (size_t)(end - start) - 6 < sizeof self->folder) memcpy(self->folder, start + 6, (size_t)(end - start) - 6);
  return BP_OK;
}

static bp_code start(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  backend *self = pointer;
  (void)deadline_ns;
  if (asked("start", TOY_HANG)) {
    event(self, "hangs in start");
    hang();
  }
  if (asked("start", TOY_FAIL)) {
    toy_report(report, "", "the toy was built to fail in start");
    return BP_UNAVAILABLE;
  }
  if (pthread_create(&self->thread, NULL, work, self) != 0) return BP_RESOURCE_EXHAUSTED;
  self->started = true;
  event(self, "start");
  return BP_OK;
}

static bp_code quiesce(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  (void)deadline_ns, (void)report;
  event(pointer, "quiesce");
  if (asked("quiesce", TOY_HANG)) hang();
  return BP_OK;
}

static bp_code stop(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  backend *self = pointer;
  (void)deadline_ns, (void)report;
  event(self, "stop");
  if (asked("stop", TOY_HANG)) hang();
  if (!self->started) return BP_OK;
  pthread_mutex_lock(&self->store.lock);
  self->stopping = true;
  pthread_mutex_unlock(&self->store.lock);
  pthread_join(self->thread, NULL);
  self->started = false;
  return BP_OK;
}

static void destroy(void *pointer) {
  backend *self = pointer;
  event(self, "destroy");
  if (asked("destroy", TOY_HANG)) hang();
  store_clear(&self->store);
  pthread_mutex_destroy(&self->store.lock);
  free(self);
}

static const bp_backend table = {sizeof table,         BP_BACKEND_ATOMIC | BP_BACKEND_VERSIONS,
                                 BP_MODE_ASYNC,        BP_MODE_ASYNC,
                                 BP_MODE_ASYNC,        BP_DURABILITY_MEMORY,
                                 apply,                read_records,
                                 scan_records};

static const void *extension(void *self, bp_view id) {
  (void)self;
  return view_is(id, BP_BACKEND_ID) ? &table : NULL;
}

static const bp_plugin *create(const bp_host *host, bp_instance instance, const bp_report *report) {
  if (asked("create", TOY_HANG)) hang();
  if (asked("create", TOY_FAIL)) abort();
  if (asked("null", TOY_FAIL)) {
    toy_report(report, "", "the toy was built to fail in create");
    return NULL;
  }
  backend *self = (backend *)toy_make(sizeof *self, host, instance, extension);
  if (self == NULL) return NULL;
  pthread_mutex_init(&self->store.lock, NULL);
  self->base.plugin.configure = configure;
  self->base.plugin.start = start;
  self->base.plugin.quiesce = quiesce;
  self->base.plugin.stop = stop;
  self->base.plugin.destroy = destroy;
  return &self->base.plugin;
}

__attribute__((constructor)) static void constructor(void) {
  if (asked("constructor", TOY_HANG)) hang();
  if (asked("constructor", TOY_FAIL)) abort();
}

static const bp_view kinds[] = {BP_VIEW("backend")};
static const bp_entry entry = {sizeof(bp_entry),        TOY_ABI_MAJOR,         BP_ABI_MINOR, 1,
                               BP_VIEW("org.example.toy"), BP_VIEW(TOY_VERSION), kinds,        create};

#ifdef TOY_WITHOUT_ENTRY
BP_EXPORT const bp_entry *backplane_plugin_v999(void);
const bp_entry *backplane_plugin_v999(void) { return &entry; }
#else
const bp_entry *backplane_plugin_v1(void) { return &entry; }
#endif
