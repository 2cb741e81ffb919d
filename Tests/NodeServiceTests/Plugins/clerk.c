/* A service that writes down what happens to it: a line "VERSION what" in the file `events` of its state directory. When
 * the node serves it writes mutable://open/clerk/ready, when it is about to end mutable://open/clerk/ending, each with
 * its version, and notes the answer. What its configuration contains makes it misbehave:
 *   "late"     it completes node_ready only when a file `go` lies in its state directory
 *   "fails"    it completes node_ready with a failure
 *   "deaf"     it never completes node_ending
 *   "ticks"    it sets a timer when the node serves, and another each time one has come; the first ten are noted
 *   "hoards"   it sets as many timers as it gets, far in the future, notes how many, and cancels the first
 *   "counts"   it notes what the node has counted of its operations, and how the slots are, when it is about to end */
#include <backplane/manifest.h>
#include <backplane/node.h>
#include <backplane/service.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include "toy.h"

BACKPLANE_MANIFEST("manifest.json")

typedef struct clerk {
  toy base;
  char directory[512];
  char configuration[512];
  pthread_t thread;
  bool waits;
  atomic_bool stopping;
  bp_token late;
  atomic_uint ticks;
  bp_token first_timer;
} clerk;

static bool asked(clerk *self, const char *what) { return strstr(self->configuration, what) != NULL; }

static void note(clerk *self, const char *what) {
  char path[600];
  snprintf(path, sizeof path, "%s/events", self->directory);
  int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (file < 0) return;
  dprintf(file, "%s %s\n", CLERK_VERSION, what);
  close(file);
}

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void complete(clerk *self, bp_token token, bp_code code, const char *message) {
  bp_result result = result_of(sizeof result, code, message);
  self->base.host->complete(self->base.instance, token, &result);
}

/* A write on its way, and the notice that it belongs to. */
typedef struct writing {
  clerk *self;
  bp_token notice;
  bool is_end;
} writing;

static void written(void *context, const bp_result *result) {
  writing *open = context;
  char line[64];
  snprintf(line, sizeof line, "%s %u", open->is_end ? "ending" : "ready", result->code);
  note(open->self, line);
  complete(open->self, open->notice, BP_OK, "");
  free(open);
}

static void release(void *owner) { free(owner); }

static void write_record(clerk *self, const char *uri, bp_token notice, bool is_end) {
  const bp_node *node = self->base.host->extension(self->base.instance, view_of(BP_NODE_ID));
  char *text = malloc(64);
  writing *open = malloc(sizeof *open);
  *open = (writing){self, notice, is_end};
  int size = snprintf(text, 64, "\"%s\"", CLERK_VERSION);
  bp_call call = {.size = sizeof call};
  bp_receive request = {
      sizeof request, BP_CONTENT_JSON, view_of(uri), {(const uint8_t *)text, (uint64_t)size, text, release}};
  bp_completion completion = {open, written, NULL};
  node->receive(self->base.instance, &call, &request, completion);
}

static const bp_timer *timers(clerk *self) {
  return self->base.host->extension(self->base.instance, view_of(BP_TIMER_ID));
}

static void ticked(void *context, const bp_result *result) {
  clerk *self = context;
  unsigned count = atomic_fetch_add(&self->ticks, 1) + 1;
  char line[64];
  snprintf(line, sizeof line, "tick %u %u", count, result->code);
  if (count <= 10 || result->code != BP_OK) note(self, line);
  if (result->code != BP_OK) return;
  bp_completion completion = {self, ticked, NULL};
  timers(self)->after(self->base.instance, now_ns() + 20000000u, completion);
}

static void hoarded(void *context, const bp_result *result) {
  clerk *self = context;
  char line[64];
  snprintf(line, sizeof line, "timer %u", result->code);
  if (result->code != BP_CANCELLED || atomic_fetch_add(&self->ticks, 1) == 0) note(self, line);
}

static void hoard(clerk *self) {
  bp_completion completion = {self, hoarded, NULL};
  unsigned count = 0;
  for (;; count++) {
    bp_token token = timers(self)->after(self->base.instance, now_ns() + 3600000000000u, completion);
    if (token == 0) break;
    if (count == 0) self->first_timer = token;
  }
  char line[64];
  snprintf(line, sizeof line, "hoards %u", count);
  note(self, line);
  self->base.host->cancel(self->base.instance, self->first_timer);
}

static void *wait_for_go(void *argument) {
  clerk *self = argument;
  char path[600];
  snprintf(path, sizeof path, "%s/go", self->directory);
  while (!self->stopping && access(path, F_OK) != 0) usleep(2000);
  if (!self->stopping) note(self, "late");
  complete(self, self->late, self->stopping ? BP_UNAVAILABLE : BP_OK, "");
  return NULL;
}

static void node_ready(void *pointer, const bp_call *call, bp_token token) {
  clerk *self = pointer;
  note(self, call->deadline_ns > now_ns() ? "told" : "told too late");
  if (asked(self, "fails")) return complete(self, token, BP_UNAVAILABLE, "the clerk was told to fail");
  if (asked(self, "late")) {
    self->late = token;
    self->waits = pthread_create(&self->thread, NULL, wait_for_go, self) == 0;
    return;
  }
  bp_completion completion = {self, ticked, NULL};
  if (asked(self, "ticks")) timers(self)->after(self->base.instance, now_ns() + 20000000u, completion);
  if (asked(self, "hoards")) hoard(self);
  write_record(self, "mutable://open/clerk/ready", token, false);
}

static void count(void *context, const bp_operation_counts *counts) {
  char line[160];
  uint64_t sum = 0;
  for (uint32_t index = 0; index < counts->buckets_count; index++) sum += counts->buckets[index];
  snprintf(line, sizeof line, "counted %.*s %llu %llu %llu %s", (int)counts->name.size, (const char *)counts->name.data,
           (unsigned long long)counts->calls, (unsigned long long)counts->failures, (unsigned long long)sum,
           counts->time_ns > 0 ? "timed" : "untimed");
  note(context, line);
}

static void slot(void *context, const bp_slot_health *slot) {
  char line[160];
  snprintf(line, sizeof line, "slot %.*s %.*s %u", (int)slot->slot.size, (const char *)slot->slot.data,
           (int)slot->kind.size, (const char *)slot->kind.data, slot->state);
  note(context, line);
}

static void node_ending(void *pointer, const bp_call *call, bp_token token) {
  clerk *self = pointer;
  (void)call;
  note(self, "ends");
  if (asked(self, "deaf")) return;
  if (asked(self, "counts")) {
    const bp_observe *observe = self->base.host->extension(self->base.instance, view_of(BP_OBSERVE_ID));
    uint32_t worst = 9;
    observe->operations(self->base.instance, self, count);
    observe->health(self->base.instance, &worst, self, slot);
  }
  write_record(self, "mutable://open/clerk/ending", token, true);
}

static bp_code configure(void *pointer, const bp_configuration *configuration, const bp_report *report) {
  clerk *self = pointer;
  (void)report;
  if (configuration->json.size >= sizeof self->configuration) return BP_INVALID_ARGUMENT;
  memcpy(self->configuration, configuration->json.data, configuration->json.size);
  if (configuration->state_directory.size < sizeof self->directory)
    memcpy(self->directory, configuration->state_directory.data, configuration->state_directory.size);
  return BP_OK;
}

static bp_code start(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  (void)deadline_ns, (void)report;
  note(pointer, "start");
  return BP_OK;
}

static bp_code quiesce(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  (void)deadline_ns, (void)report;
  note(pointer, "quiesce");
  return BP_OK;
}

static bp_code stop(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  clerk *self = pointer;
  (void)deadline_ns, (void)report;
  self->stopping = true;
  if (self->waits) pthread_join(self->thread, NULL);
  note(self, "stop");
  return BP_OK;
}

static const bp_service table = {sizeof table, 0, node_ready, node_ending};

static const void *extension(void *self, bp_view id) {
  (void)self;
  return view_is(id, BP_SERVICE_ID) ? &table : NULL;
}

static const bp_plugin *create(const bp_host *host, bp_instance instance, const bp_report *report) {
  (void)report;
  clerk *self = (clerk *)toy_make(sizeof *self, host, instance, extension);
  if (self == NULL) return NULL;
  self->base.plugin.configure = configure;
  self->base.plugin.start = start;
  self->base.plugin.quiesce = quiesce;
  self->base.plugin.stop = stop;
  return &self->base.plugin;
}

static const bp_view kinds[] = {BP_VIEW("service")};
static const bp_entry entry = {sizeof(bp_entry),         BP_ABI_MAJOR,           BP_ABI_MINOR, 1,
                               BP_VIEW("org.example.clerk"), BP_VIEW(CLERK_VERSION), kinds,        create};
const bp_entry *backplane_plugin_v1(void) { return &entry; }
