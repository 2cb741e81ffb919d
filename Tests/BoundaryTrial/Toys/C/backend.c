/* A backend in memory. A unit whose first URI contains "/hold" waits until one that contains "/release" comes, or until
 * it is cancelled; one with "/stubborn" does not listen to cancel. Held units are applied by a thread of the toy's own,
 * out of the request's memory, which the host must have kept. "/crash" ends the process (for the child). */
#include "toy_store.h"

#define HELD_MAX 64

typedef struct backend {
  toy base;
  store store;
  pthread_t thread;
  pthread_cond_t wake;
  bool started, stopping, releasing;
  bp_unit held[HELD_MAX];
  bool cancelled[HELD_MAX];
  uint32_t held_count;
} backend;

static void end_held(backend *self, const bp_unit *unit, bool cancelled) {
  if (!cancelled) {
    store_apply(&self->base, &self->store, unit);
    return;
  }
  bp_write_result result = {result_of(sizeof result, self->stopping ? BP_UNAVAILABLE : BP_CANCELLED, "given up"), 0, 0,
                            0, 0, unit->ts_ms};
  self->base.host->complete(self->base.instance, unit->token, &result.result);
}

static void *work(void *argument) {
  backend *self = argument;
  pthread_mutex_lock(&self->store.lock);
  for (;;) {
    uint32_t index = 0;
    while (index < self->held_count && !self->releasing && !self->stopping && !self->cancelled[index]) index++;
    if (index == self->held_count) {
      self->releasing = false;
      if (self->stopping) break;
      pthread_cond_wait(&self->wake, &self->store.lock);
      continue;
    }
    bp_unit unit = self->held[index];
    bool cancelled = self->cancelled[index] || self->stopping;
    self->held_count--;
    memmove(&self->held[index], &self->held[index + 1], (self->held_count - index) * sizeof unit);
    memmove(&self->cancelled[index], &self->cancelled[index + 1], (self->held_count - index) * sizeof(bool));
    pthread_mutex_unlock(&self->store.lock);
    end_held(self, &unit, cancelled);
    pthread_mutex_lock(&self->store.lock);
  }
  pthread_mutex_unlock(&self->store.lock);
  return NULL;
}

static void apply(void *pointer, const bp_unit *units, uint32_t count) {
  backend *self = pointer;
  for (uint32_t index = 0; index < count; index++) {
    const bp_unit *unit = (const bp_unit *)(const void *)((const char *)units + (size_t)index * units->size);
    bp_view uri = unit->ops->uri;
    if (view_contains(uri, "/crash")) abort();
    bool hold = view_contains(uri, "/hold") || view_contains(uri, "/stubborn");
    pthread_mutex_lock(&self->store.lock);
    if (hold && self->held_count < HELD_MAX) {
      self->cancelled[self->held_count] = false;
      self->held[self->held_count++] = *unit;
    }
    if (view_contains(uri, "/release")) {
      self->releasing = true;
      pthread_cond_signal(&self->wake);
    }
    pthread_mutex_unlock(&self->store.lock);
    if (!hold) store_apply(&self->base, &self->store, unit);
  }
}

static void cancel(void *pointer, bp_token token) {
  backend *self = pointer;
  pthread_mutex_lock(&self->store.lock);
  for (uint32_t index = 0; index < self->held_count; index++)
    if (self->held[index].token == token && !view_contains(self->held[index].ops->uri, "/stubborn"))
      self->cancelled[index] = true;
  pthread_cond_signal(&self->wake);
  pthread_mutex_unlock(&self->store.lock);
}

static void read_records(void *pointer, const bp_read *reads, uint32_t count) {
  backend *self = pointer;
  for (uint32_t index = 0; index < count; index++)
    store_read(&self->base, &self->store,
               (const bp_read *)(const void *)((const char *)reads + (size_t)index * reads->size));
}

static void scan_records(void *pointer, const bp_scan *scan) {
  backend *self = pointer;
  store_scan(&self->base, &self->store, scan);
}

static bp_code start(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  backend *self = pointer;
  (void)deadline_ns;
  if (pthread_create(&self->thread, NULL, work, self) != 0) {
    toy_report(report, "", "no thread could be started");
    return BP_RESOURCE_EXHAUSTED;
  }
  self->started = true;
  self->base.host->log(self->base.instance, BP_LOG_INFO, view_of("toy backend started"), NULL, 0);
  return BP_OK;
}

static bp_code stop(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  backend *self = pointer;
  (void)deadline_ns, (void)report;
  if (!self->started) return BP_OK;
  pthread_mutex_lock(&self->store.lock);
  self->stopping = true;
  pthread_cond_signal(&self->wake);
  pthread_mutex_unlock(&self->store.lock);
  pthread_join(self->thread, NULL);
  self->started = false;
  return BP_OK;
}

static void destroy(void *pointer) {
  backend *self = pointer;
  store_clear(&self->store);
  pthread_cond_destroy(&self->wake);
  pthread_mutex_destroy(&self->store.lock);
  free(self);
}

static const bp_backend table = {sizeof table,         BP_BACKEND_ATOMIC | BP_BACKEND_VERSIONS,
                                 BP_MODE_ASYNC,        BP_MODE_DIRECT,
                                 BP_MODE_DIRECT,       BP_DURABILITY_MEMORY,
                                 apply,                read_records,
                                 scan_records};

static const void *extension(void *self, bp_view id) {
  (void)self;
  return view_is(id, BP_BACKEND_ID) ? &table : NULL;
}

static const bp_plugin *create(const bp_host *host, bp_instance instance, const bp_report *report) {
  backend *self = (backend *)toy_make(sizeof *self, host, instance, extension);
  if (self == NULL) {
    toy_report(report, "", "out of memory");
    return NULL;
  }
  pthread_mutex_init(&self->store.lock, NULL);
  pthread_cond_init(&self->wake, NULL);
  self->base.plugin.start = start;
  self->base.plugin.stop = stop;
  self->base.plugin.destroy = destroy;
  self->base.plugin.cancel = cancel;
  return &self->base.plugin;
}

TOY_ENTRY("org.example.toy.backend", "backend", create)
