/* A transport that follows the node's feed and writes what it sees to `items` in its state directory, a line for each:
 * flags, verb, URI and data. It grants one item at a time, and the end is a line too. */
#include <backplane/feed.h>
#include <backplane/manifest.h>
#include <backplane/transport.h>
#include <stdio.h>
#include <unistd.h>
#include "toy.h"

BACKPLANE_MANIFEST("manifest.json")

typedef struct follower {
  toy base;
  char path[4096];
  pthread_t thread;
  pthread_mutex_t lock;
  bp_token token;
  unsigned owed; /* credits that could not be granted yet, because the token was not known */
  bool started, subscribed, ends;
} follower;

static void write_line(follower *self, const char *line) {
  FILE *file = fopen(self->path, "ae");
  if (file == NULL) abort();
  fputs(line, file);
  fclose(file);
}

static void chunk(void *context, const bp_chunk *chunk) {
  follower *self = context;
  const bp_feed_item *item = (const void *)chunk;
  char line[8192];
  snprintf(line, sizeof line, "%u %u %.*s %.*s\n", item->flags, item->verb, (int)item->uri.size,
           (const char *)item->uri.data, (int)(item->data.size < 4096 ? item->data.size : 4096),
           (const char *)item->data.data);
  write_line(self, line);
  pthread_mutex_lock(&self->lock);
  bp_token token = self->token;
  if (token == 0) self->owed++;
  pthread_mutex_unlock(&self->lock);
  if (token != 0) self->base.host->grant(self->base.instance, token, 1);
}

static void complete(void *context, const bp_result *result) {
  follower *self = context;
  char line[256];
  if (result->code != BP_UNAVAILABLE) {
    snprintf(line, sizeof line, "ended %u\n", result->code);
    write_line(self, line);
  }
  pthread_mutex_lock(&self->lock);
  self->token = 0;
  self->subscribed = false;
  pthread_mutex_unlock(&self->lock);
}

/* Until the node is up. */
static void *work(void *argument) {
  follower *self = argument;
  const bp_feed *feed = self->base.host->extension(self->base.instance, view_of(BP_FEED_ID));
  if (feed == NULL) abort();
  for (;;) {
    pthread_mutex_lock(&self->lock);
    bool ends = self->ends, subscribed = self->subscribed;
    self->subscribed = true;
    pthread_mutex_unlock(&self->lock);
    if (ends) return NULL;
    if (!subscribed) {
      bp_subscribe request = {sizeof request, 0, view_of("mutable://open/followed"), 0, 0, 1, 0};
      bp_completion completion = {self, complete, chunk};
      bp_call call = {.size = sizeof call};
      bp_token token = feed->subscribe(self->base.instance, &call, &request, completion);
      pthread_mutex_lock(&self->lock);
      if (self->subscribed) self->token = token;
      unsigned owed = self->owed;
      self->owed = 0;
      pthread_mutex_unlock(&self->lock);
      if (token != 0 && owed > 0) self->base.host->grant(self->base.instance, token, owed);
    }
    usleep(10000);
  }
}

static bp_code configure(void *pointer, const bp_configuration *configuration, const bp_report *report) {
  follower *self = pointer;
  (void)report;
  snprintf(self->path, sizeof self->path, "%.*s/items", (int)configuration->state_directory.size,
           (const char *)configuration->state_directory.data);
  return BP_OK;
}

static bp_code start(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  follower *self = pointer;
  (void)deadline_ns, (void)report;
  self->started = pthread_create(&self->thread, NULL, work, self) == 0;
  return self->started ? BP_OK : BP_RESOURCE_EXHAUSTED;
}

static bp_code stop(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  follower *self = pointer;
  (void)deadline_ns, (void)report;
  pthread_mutex_lock(&self->lock);
  self->ends = true;
  pthread_mutex_unlock(&self->lock);
  if (self->started) pthread_join(self->thread, NULL);
  self->started = false;
  return BP_OK;
}

static uint64_t connections(void *pointer) { return pointer == NULL; }
static const bp_transport table = {sizeof table, 0, connections};

static const void *extension(void *self, bp_view id) {
  (void)self;
  return view_is(id, BP_TRANSPORT_ID) ? &table : NULL;
}

static const bp_plugin *create(const bp_host *host, bp_instance instance, const bp_report *report) {
  follower *self = (follower *)toy_make(sizeof *self, host, instance, extension);
  (void)report;
  if (self == NULL) return NULL;
  pthread_mutex_init(&self->lock, NULL);
  self->base.plugin.configure = configure;
  self->base.plugin.start = start;
  self->base.plugin.stop = stop;
  return &self->base.plugin;
}

TOY_ENTRY("org.example.follower", "transport", create)
