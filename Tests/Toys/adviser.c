/* A service that proposes what a test tells it. In its state directory a file NAME.propose holds the flags of a proposal
 * on its first line and the proposal behind it; NAME.answer then holds the answer: code, retryable (1 or 0), receipt and
 * generation on the first line, the message on the second (without line breaks), the receipt's JSON behind it.
 *
 * What is there when the instance begins to serve is proposed as well, so that the first generation proposes too. */
#include <backplane/manifest.h>
#include <backplane/service.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>
#include "toy.h"

BACKPLANE_MANIFEST("manifest.json")

typedef struct adviser {
  toy base;
  char directory[512];
  pthread_t thread;
  bool works;
  atomic_bool ending;
} adviser;

typedef struct proposing {
  adviser *self;
  char name[256];
} proposing;

static void answered(void *context, const bp_result *result) {
  proposing *open = context;
  const bp_proposal_result *whole = (const bp_proposal_result *)result;
  char path[1024], unfinished[1040];
  snprintf(path, sizeof path, "%s/%s.answer", open->self->directory, open->name);
  snprintf(unfinished, sizeof unfinished, "%s.part", path);
  FILE *file = fopen(unfinished, "w");
  if (file != NULL) {
    fprintf(file, "%u %u %llu %llu\n", result->code, result->flags & BP_RETRYABLE,
            (unsigned long long)whole->receipt, (unsigned long long)whole->generation);
    for (uint64_t at = 0; at < result->message.size; at++)
      fputc(result->message.data[at] == '\n' ? ' ' : result->message.data[at], file);
    fputc('\n', file);
    fwrite(result->detail.data, 1, result->detail.size, file);
    fclose(file);
    rename(unfinished, path);
  }
  free(open);
}

static void propose(adviser *self, const char *name) {
  char path[1024];
  snprintf(path, sizeof path, "%s/%s.propose", self->directory, name);
  FILE *file = fopen(path, "r");
  if (file == NULL) return;
  static const size_t size_max = (1 << 20) + 4096;
  char *text = malloc(size_max + 1);
  size_t size = fread(text, 1, size_max, file);
  fclose(file);
  text[size] = 0;
  unlink(path);
  char *json = memchr(text, '\n', size);
  json = json == NULL ? text + size : json + 1;
  const bp_proposals *table = self->base.host->extension(self->base.instance, view_of(BP_PROPOSAL_ID));
  proposing *open = calloc(1, sizeof *open);
  open->self = self;
  snprintf(open->name, sizeof open->name, "%s", name);
  bp_proposal proposal = {
      sizeof proposal, (uint32_t)atoi(text), {(const uint8_t *)json, (uint64_t)(size - (size_t)(json - text))}};
  bp_call call = {.size = sizeof call};
  bp_completion completion = {open, answered, NULL};
  table->propose(self->base.instance, &call, &proposal, completion);
  /* The text is borrowed for the call only. */
  memset(text, '#', size);
  free(text);
}

static void *work(void *argument) {
  adviser *self = argument;
  while (!self->ending) {
    DIR *folder = opendir(self->directory);
    struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL && !self->ending) {
      size_t length = strlen(entry->d_name);
      if (length <= 8 || length > 255 || strcmp(entry->d_name + length - 8, ".propose") != 0) continue;
      char name[256];
      memcpy(name, entry->d_name, length - 8);
      name[length - 8] = 0;
      propose(self, name);
    }
    if (folder != NULL) closedir(folder);
    usleep(3000);
  }
  return NULL;
}

static void node_ready(void *pointer, const bp_call *call, bp_token token) {
  adviser *self = pointer;
  (void)call;
  self->works = pthread_create(&self->thread, NULL, work, self) == 0;
  bp_result result = result_of(sizeof result, BP_OK, "");
  self->base.host->complete(self->base.instance, token, &result);
}

static bp_code configure(void *pointer, const bp_configuration *configuration, const bp_report *report) {
  adviser *self = pointer;
  (void)report;
  if (configuration->state_directory.size < sizeof self->directory)
    memcpy(self->directory, configuration->state_directory.data, configuration->state_directory.size);
  return BP_OK;
}

static bp_code quiesce(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  adviser *self = pointer;
  (void)deadline_ns, (void)report;
  self->ending = true;
  if (self->works) pthread_join(self->thread, NULL);
  self->works = false;
  return BP_OK;
}

static const bp_service table = {sizeof table, 0, node_ready, NULL};

static const void *extension(void *self, bp_view id) {
  (void)self;
  return view_is(id, BP_SERVICE_ID) ? &table : NULL;
}

static const bp_plugin *create(const bp_host *host, bp_instance instance, const bp_report *report) {
  (void)report;
  adviser *self = (adviser *)toy_make(sizeof *self, host, instance, extension);
  if (self == NULL) return NULL;
  self->base.plugin.configure = configure;
  self->base.plugin.quiesce = quiesce;
  self->base.plugin.stop = quiesce;
  return &self->base.plugin;
}

static const bp_view kinds[] = {BP_VIEW("service")};
static const bp_entry entry = {sizeof(bp_entry),
                               BP_ABI_MAJOR,
                               BP_ABI_MINOR,
                               1,
                               BP_VIEW("org.example.adviser"),
                               BP_VIEW(ADVISER_VERSION),
                               kinds,
                               create};
const bp_entry *backplane_plugin_v1(void) { return &entry; }
