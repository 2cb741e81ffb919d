/* A backend in memory that misbehaves when a URI tells it to:
 *   /segv /trap /abort /exit  it dies of it
 *   /overflow                 its stack runs over
 *   /spin                     its thread runs for ever
 *   /deadlock                 it waits for ever for a lock that it holds
 *   /leak                     it allocates until it gets nothing any more, and then dies
 *   /closeall                 it closes every descriptor but the standard ones
 *   /twice                    it completes the call twice
 *   /foreign                  it completes calls that are not its own
 *   /never                    it never completes the call, whoever cancels
 *   /patient                  it completes the call when it is cancelled, with what it knows of the deadline
 *   /echo/N                   reads answer N bytes
 *   /pid                      reads answer its process
 * Compiled with MISFIT_HANG="start" it hangs there. */
#include <backplane/manifest.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "toy_store.h"

BACKPLANE_MANIFEST("manifest.json")

#ifndef MISFIT_HANG
#define MISFIT_HANG ""
#endif

typedef struct backend {
  toy base;
  store store;
  bp_token patient;
  uint64_t patient_deadline_ns;
  bp_token never;
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

static void hang(const char *step) {
  if (strcmp(step, MISFIT_HANG) != 0 || in_probe()) return;
  for (;;) sleep(1000);
}

__attribute__((noinline)) static int run_over(volatile char *before) {
  volatile char frame[4096];
  frame[0] = before == NULL ? 0 : before[0];
  return run_over(frame) + frame[0];
}

__attribute__((noinline)) static void leak_until_nothing_is_left(void) {
  for (;;) {
    char *block = malloc(1 << 20);
    if (block == NULL) abort();
    memset(block, 1, 1 << 20);
  }
}

__attribute__((noinline)) static void fall_over(bp_view uri) {
  if (view_contains(uri, "/segv")) *(volatile int *)8 = 1;
  if (view_contains(uri, "/trap")) __builtin_trap();
  if (view_contains(uri, "/abort")) abort();
  if (view_contains(uri, "/exit")) _exit(3);
  if (view_contains(uri, "/overflow")) run_over(NULL);
  if (view_contains(uri, "/spin"))
    for (volatile int turn = 0;; turn++) {}
  if (view_contains(uri, "/leak")) leak_until_nothing_is_left();
  if (view_contains(uri, "/closeall")) close_range(3, ~0u, 0);
  if (view_contains(uri, "/deadlock")) {
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    pthread_mutex_lock(&lock);
  }
}

static void answer_read(backend *self, bp_token token, bp_view data) {
  bp_record record = {sizeof record, BP_CONTENT_JSON, 1, 1, data};
  bp_read_result result = {result_of(sizeof result, BP_OK, ""), record};
  self->base.host->complete(self->base.instance, token, &result.result);
}

static void answer_number(backend *self, bp_token token, uint64_t number) {
  char text[32];
  int count = snprintf(text, sizeof text, "%llu", (unsigned long long)number);
  bp_view data = {(const uint8_t *)text, (uint64_t)count};
  answer_read(self, token, data);
}

static void echo(backend *self, const bp_read *read) {
  uint64_t size = 0;
  for (uint64_t at = 0; at < read->uri.size; at++) {
    uint8_t byte = read->uri.data[at];
    size = byte >= '0' && byte <= '9' ? size * 10 + (byte - '0') : 0;
  }
  uint8_t *bytes = malloc(size + 2);
  memset(bytes, 'e', size + 2);
  bytes[0] = '"';
  bytes[size + 1] = '"';
  bp_view data = {bytes, size + 2};
  answer_read(self, read->token, data);
  free(bytes);
}

static void read_records(void *pointer, const bp_read *reads, uint32_t count) {
  backend *self = pointer;
  for (uint32_t index = 0; index < count; index++) {
    const bp_read *read = (const bp_read *)(const void *)((const char *)reads + (size_t)index * reads->size);
    fall_over(read->uri);
    if (view_contains(read->uri, "/never")) {
      self->never = read->token;
    } else if (view_contains(read->uri, "/patient")) {
      self->patient_deadline_ns = read->call->deadline_ns;
      self->patient = read->token;
    } else if (view_contains(read->uri, "/pid")) {
      answer_number(self, read->token, (uint64_t)getpid());
    } else if (view_contains(read->uri, "/echo/")) {
      echo(self, read);
    } else if (view_contains(read->uri, "/twice")) {
      answer_number(self, read->token, 1);
      answer_number(self, read->token, 2);
    } else if (view_contains(read->uri, "/foreign")) {
      for (bp_token token = read->token - 1000; token < read->token; token++) answer_number(self, token, 3);
      answer_number(self, read->token, 1);
    } else {
      store_read(&self->base, &self->store, read);
    }
  }
}

static void cancel(void *pointer, bp_token token) {
  backend *self = pointer;
  if (token != self->patient) return;
  self->patient = 0;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  uint64_t now_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
  char path[64];
  snprintf(path, sizeof path, "cancelled-%d", getpid());
  FILE *file = fopen(path, "w");
  if (file != NULL) {
    fprintf(file, "%lld\n", (long long)(now_ns - self->patient_deadline_ns) / 1000000);
    fclose(file);
  }
  answer_number(self, token, 4);
}

static void apply(void *pointer, const bp_unit *units, uint32_t count) {
  backend *self = pointer;
  for (uint32_t index = 0; index < count; index++) {
    const bp_unit *unit = (const bp_unit *)(const void *)((const char *)units + (size_t)index * units->size);
    fall_over(unit->ops->uri);
    store_apply(&self->base, &self->store, unit);
  }
}

static void scan_records(void *pointer, const bp_scan *scan) {
  backend *self = pointer;
  store_scan(&self->base, &self->store, scan);
}

static bp_code configure(void *pointer, const bp_configuration *configuration, const bp_report *report) {
  (void)pointer, (void)configuration, (void)report;
  hang("configure");
  return BP_OK;
}

static bp_code start(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  (void)pointer, (void)deadline_ns, (void)report;
  hang("start");
  return BP_OK;
}

static bp_code quiesce(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  (void)pointer, (void)deadline_ns, (void)report;
  hang("quiesce");
  return BP_OK;
}

static bp_code stop(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  (void)pointer, (void)deadline_ns, (void)report;
  hang("stop");
  return BP_OK;
}

static void destroy(void *pointer) {
  backend *self = pointer;
  hang("destroy");
  store_clear(&self->store);
  free(self);
}

static const bp_backend table = {sizeof table,  BP_BACKEND_ATOMIC | BP_BACKEND_VERSIONS,
                                 BP_MODE_ASYNC, BP_MODE_ASYNC,
                                 BP_MODE_ASYNC, BP_DURABILITY_MEMORY,
                                 apply,         read_records,
                                 scan_records};

static const void *extension(void *self, bp_view id) {
  (void)self;
  return view_is(id, BP_BACKEND_ID) ? &table : NULL;
}

static const bp_plugin *create(const bp_host *host, bp_instance instance, const bp_report *report) {
  (void)report;
  backend *self = (backend *)toy_make(sizeof *self, host, instance, extension);
  if (self == NULL) return NULL;
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
static const bp_entry entry = {sizeof(bp_entry),           BP_ABI_MAJOR,        BP_ABI_MINOR, 1,
                               BP_VIEW("org.example.misfit"), BP_VIEW(MISFIT_VERSION), kinds,   create};

const bp_entry *backplane_plugin_v1(void) { return &entry; }
