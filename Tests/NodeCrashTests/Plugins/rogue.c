/* A backend in memory that ruins its host. What it does is in the last part of a record's URI:
 *   read-segv, read-abort, read-trap, ...   it dies in `read`, `apply` (apply-...) or `scan` (scan-...)
 *   read-stuck, apply-stuck                 the call does not come back while the file `hold` is in its folder
 *   read-lost, apply-lost                   the call comes back and is never completed
 *   read-twice                              it is completed twice
 *   read-close                              it closes the node's control socket and a listening socket, then answers
 * and, in the folder that its URL names (rogue:///folder), files: `thread-segv` (a thread of its own dies), `stop-segv`
 * (it dies in `stop`), `start-segv`, `stop-stuck`. In a probe it behaves. */
#include <backplane/manifest.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
#include "toy_store.h"

BACKPLANE_MANIFEST("manifest.json")

#ifndef ROGUE_READ_MODE
#define ROGUE_READ_MODE BP_MODE_DIRECT
#endif
#ifndef ROGUE_APPLY_MODE
#define ROGUE_APPLY_MODE BP_MODE_BLOCKING
#endif

typedef struct rogue {
  toy base;
  store store;
  pthread_t thread;
  volatile bool started, stopping;
  char folder[512];
} rogue;

static bool in_probe(void) {
  char line[4096] = {0};
  int file = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
  ssize_t count = file < 0 ? 0 : read(file, line, sizeof line - 1);
  if (file >= 0) close(file);
  for (ssize_t at = 0; at + 7 < count; at++)
    if (memcmp(line + at, "__probe", 7) == 0) return true;
  return false;
}

static bool has(rogue *self, const char *name) {
  char path[600];
  if (self->folder[0] == 0 || in_probe()) return false;
  snprintf(path, sizeof path, "%s/%s", self->folder, name);
  return access(path, F_OK) == 0;
}

__attribute__((noinline)) static void rogue_dies(const char *how) {
  if (strcmp(how, "segv") == 0) *(volatile int *)16 = 1;
  if (strcmp(how, "abort") == 0) abort();
  if (strcmp(how, "trap") == 0) __builtin_trap();
  if (strcmp(how, "fpe") == 0) raise(SIGFPE);
  if (strcmp(how, "overflow") == 0) {
    volatile char block[65536];
    block[0] = 1;
    rogue_dies(how);
    block[1] = block[0];
  }
}

/* The first listening socket of each family: the node's own, as those that it lends are younger. */
static void close_listeners(void) {
  int closed_network = 0, closed_local = 0;
  for (int descriptor = 3; descriptor < 256; descriptor++) {
    int listens = 0;
    socklen_t size = sizeof listens;
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    if (getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || !listens) continue;
    if (getsockname(descriptor, (struct sockaddr *)&address, &length) != 0) continue;
    int *closed = address.ss_family == AF_UNIX ? &closed_local : &closed_network;
    if ((*closed)++ == 0) close(descriptor);
  }
}

/* Looks whether the URI ends in `verb`-something. True when the call is not to be answered. */
static bool misbehaves(rogue *self, const char *verb, bp_view uri) {
  static const char *const deaths[] = {"segv", "abort", "trap", "fpe", "overflow"};
  char wanted[64];
  for (size_t index = 0; index < sizeof deaths / sizeof deaths[0]; index++) {
    snprintf(wanted, sizeof wanted, "/%s-%s", verb, deaths[index]);
    if (view_contains(uri, wanted)) rogue_dies(deaths[index]);
  }
  snprintf(wanted, sizeof wanted, "/%s-stuck", verb);
  if (view_contains(uri, wanted)) {
    while (has(self, "hold")) usleep(2000);
  }
  snprintf(wanted, sizeof wanted, "/%s-close", verb);
  if (view_contains(uri, wanted)) close_listeners();
  snprintf(wanted, sizeof wanted, "/%s-lost", verb);
  return view_contains(uri, wanted);
}

static void apply(void *pointer, const bp_unit *units, uint32_t count) {
  rogue *self = pointer;
  for (uint32_t index = 0; index < count; index++) {
    const bp_unit *unit = (const bp_unit *)(const void *)((const char *)units + (size_t)index * units->size);
    if (!misbehaves(self, "apply", unit->ops->uri)) store_apply(&self->base, &self->store, unit);
  }
}

static void read_records(void *pointer, const bp_read *reads, uint32_t count) {
  rogue *self = pointer;
  for (uint32_t index = 0; index < count; index++) {
    const bp_read *read = (const bp_read *)(const void *)((const char *)reads + (size_t)index * reads->size);
    bool twice = view_contains(read->uri, "/read-twice");
    bp_token token = read->token;
    if (misbehaves(self, "read", read->uri)) continue;
    store_read(&self->base, &self->store, read);
    if (twice) {
      bp_read_result again = {result_of(sizeof again, BP_NOT_FOUND, ""), {sizeof(bp_record), 0, 0, 0, {NULL, 0}}};
      self->base.host->complete(self->base.instance, token, &again.result);
    }
  }
}

static void scan_records(void *pointer, const bp_scan *scan) {
  rogue *self = pointer;
  if (!misbehaves(self, "scan", scan->prefix)) store_scan(&self->base, &self->store, scan);
}

static void *work(void *argument) {
  rogue *self = argument;
  while (!self->stopping) {
    if (has(self, "thread-segv")) rogue_dies("segv");
    usleep(2000);
  }
  return NULL;
}

static bp_code configure(void *pointer, const bp_configuration *configuration, const bp_report *report) {
  rogue *self = pointer;
  (void)report;
  char text[1024] = {0};
  memcpy(text, configuration->json.data,
         configuration->json.size < sizeof text ? configuration->json.size : sizeof text - 1);
  char *start = strstr(text, "rogue://");
  char *end = start == NULL ? NULL : strchr(start, '"');
  if (end != NULL && (size_t)(end - start) - 8 < sizeof self->folder)
    memcpy(self->folder, start + 8, (size_t)(end - start) - 8);
  return BP_OK;
}

static bp_code start(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  rogue *self = pointer;
  (void)deadline_ns, (void)report;
  if (has(self, "start-segv")) rogue_dies("segv");
  if (pthread_create(&self->thread, NULL, work, self) != 0) return BP_RESOURCE_EXHAUSTED;
  self->started = true;
  return BP_OK;
}

static bp_code stop(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  rogue *self = pointer;
  (void)deadline_ns, (void)report;
  if (has(self, "stop-segv")) rogue_dies("segv");
  while (has(self, "stop-stuck")) usleep(2000);
  if (!self->started) return BP_OK;
  self->stopping = true;
  pthread_join(self->thread, NULL);
  self->started = false;
  return BP_OK;
}

static void destroy(void *pointer) {
  rogue *self = pointer;
  store_clear(&self->store);
  pthread_mutex_destroy(&self->store.lock);
  free(self);
}

static const bp_backend table = {
    sizeof table,    BP_BACKEND_ATOMIC | BP_BACKEND_VERSIONS,
    ROGUE_APPLY_MODE, ROGUE_READ_MODE,
    BP_MODE_DIRECT,  BP_DURABILITY_MEMORY,
    apply,           read_records,
    scan_records};

static const void *extension(void *self, bp_view id) {
  (void)self;
  return view_is(id, BP_BACKEND_ID) ? &table : NULL;
}

static const bp_plugin *create(const bp_host *host, bp_instance instance, const bp_report *report) {
  (void)report;
  rogue *self = (rogue *)toy_make(sizeof *self, host, instance, extension);
  if (self == NULL) return NULL;
  pthread_mutex_init(&self->store.lock, NULL);
  self->base.plugin.configure = configure;
  self->base.plugin.start = start;
  self->base.plugin.stop = stop;
  self->base.plugin.destroy = destroy;
  return &self->base.plugin;
}

static const bp_view kinds[] = {BP_VIEW("backend")};
static const bp_entry entry = {sizeof(bp_entry),           BP_ABI_MAJOR,            BP_ABI_MINOR, 1,
                               BP_VIEW("org.example.rogue"), BP_VIEW(ROGUE_VERSION), kinds,        create};

const bp_entry *backplane_plugin_v1(void) { return &entry; }
