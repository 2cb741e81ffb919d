/* CBackend: a backend that keeps its records in memory, in one array sorted by URI.
 *
 * backplane/backend.h says what every function here owes its caller. */
#define _POSIX_C_SOURCE 200809L
#include <backplane/backend.h>
#include <backplane/manifest.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "configuration.h"

BACKPLANE_MANIFEST("manifest.json")

/* Must agree with manifest.json: the kernel compares them. */
#define PLUGIN_ID "org.example.c-backend"
#define PLUGIN_VERSION "1.0.0"

/* Not changed once it is in the array. Whoever uses one without the lock holds a reference. */
typedef struct record {
  uint32_t references;
  uint32_t content;
  uint64_t ts_ms, version;
  bp_view uri, data; /* into bytes */
  uint8_t bytes[];
} record;

typedef struct store {
  bp_plugin plugin;
  const bp_host *host;
  bp_instance instance;
  pthread_mutex_t lock; /* guards the rest; never held while a call is completed */
  record **records;
  size_t count, capacity;
} store;

static bp_view text(const char *literal) { return (bp_view){(const uint8_t *)literal, strlen(literal)}; }

static bp_result result_of(size_t size, bp_code code, const char *message) {
  return (bp_result){(uint32_t)size, code, 0, 0, text(message), {NULL, 0}};
}

static int compare(bp_view left, bp_view right) {
  size_t size = left.size < right.size ? left.size : right.size;
  int order = size == 0 ? 0 : memcmp(left.data, right.data, size);
  return order != 0 ? order : (left.size > right.size) - (left.size < right.size);
}

static bool has_prefix(bp_view view, bp_view prefix) {
  return prefix.size == 0 || (view.size >= prefix.size && memcmp(view.data, prefix.data, prefix.size) == 0);
}

static void release(record *old) {
  if (old != NULL && __atomic_sub_fetch(&old->references, 1, __ATOMIC_ACQ_REL) == 0) free(old);
}

static record *make_record(const bp_unit *unit, const bp_op *op) {
  record *made = malloc(sizeof *made + op->uri.size + op->data.size);
  if (made == NULL) return NULL;
  uint8_t *data = made->bytes + op->uri.size;
  memcpy(made->bytes, op->uri.data, op->uri.size);
  if (op->data.size > 0) memcpy(data, op->data.data, op->data.size);
  made->references = 1;
  made->content = op->content;
  made->ts_ms = unit->ts_ms;
  made->version = unit->version;
  made->uri = (bp_view){made->bytes, op->uri.size};
  made->data = (bp_view){data, op->data.size};
  return made;
}

/* The index of the first record whose URI is not less. */
static size_t position(const store *self, bp_view uri) {
  size_t low = 0, high = self->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (compare(self->records[middle]->uri, uri) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

static record *find(const store *self, bp_view uri) {
  size_t index = position(self, uri);
  return index < self->count && compare(self->records[index]->uri, uri) == 0 ? self->records[index] : NULL;
}

/* Puts `next` (NULL: nothing) in the place of what is there, which is returned. There is room. */
static record *replace(store *self, bp_view uri, record *next) {
  size_t index = position(self, uri);
  record *old = find(self, uri);
  if (old != NULL && next != NULL) {
    self->records[index] = next;
  } else if (old != NULL) {
    self->count--;
    memmove(self->records + index, self->records + index + 1, (self->count - index) * sizeof *self->records);
  } else if (next != NULL) {
    memmove(self->records + index + 1, self->records + index, (self->count - index) * sizeof *self->records);
    self->records[index] = next;
    self->count++;
  }
  return old;
}

static bool make_room(store *self, size_t count) {
  if (self->capacity >= count) return true;
  size_t capacity = count < 64 ? 64 : count * 2;
  record **records = realloc(self->records, capacity * sizeof *records);
  if (records == NULL) return false;
  self->records = records;
  self->capacity = capacity;
  return true;
}

static bool condition_holds(const bp_op *op, const record *there) {
  switch (op->condition) {
  case BP_IF_ANY: return true;
  case BP_IF_ABSENT: return there == NULL;
  case BP_IF_PRESENT: return there != NULL;
  default: return there != NULL && there->version == op->if_version;
  }
}

/* All ops or none: what each op replaced is remembered until the last one has succeeded. */
static bp_write_result apply_unit(store *self, const bp_unit *unit) {
  bp_write_result result = {result_of(sizeof result, BP_OK, ""), BP_DURABILITY_MEMORY, 0, 0, 0, unit->ts_ms};
  record **old = malloc(unit->ops_count * sizeof *old);
  if (old == NULL || !make_room(self, self->count + unit->ops_count)) {
    free(old);
    result.result = result_of(sizeof result, BP_RESOURCE_EXHAUSTED, "there is no memory for the write");
    return result;
  }
  const bp_op *op = unit->ops;
  uint32_t done = 0;
  for (; done < unit->ops_count; done++) {
    op = (const bp_op *)(const void *)((const char *)unit->ops + (size_t)done * unit->ops->size);
    record *next = NULL;
    if (!condition_holds(op, find(self, op->uri))) {
      result.result = result_of(sizeof result, BP_FAILED_PRECONDITION, "the condition of a write does not hold");
      result.failed_op = done;
      break;
    }
    if (op->verb == BP_VERB_PUT && (next = make_record(unit, op)) == NULL) {
      result.result = result_of(sizeof result, BP_RESOURCE_EXHAUSTED, "there is no memory for the record");
      break;
    }
    old[done] = replace(self, op->uri, next);
    if (op->verb == BP_VERB_DELETE && old[done] == NULL) result.absent_count++;
  }
  bool is_applied = result.result.code == BP_OK;
  while (done-- > 0) {
    op = (const bp_op *)(const void *)((const char *)unit->ops + (size_t)done * unit->ops->size);
    release(is_applied ? old[done] : replace(self, op->uri, old[done]));
  }
  free(old);
  return result;
}

static void apply(void *pointer, const bp_unit *units, uint32_t units_count) {
  store *self = pointer;
  const bp_unit *unit = units;
  for (uint32_t index = 0; index < units_count; index++) {
    pthread_mutex_lock(&self->lock);
    bp_write_result result = apply_unit(self, unit);
    pthread_mutex_unlock(&self->lock);
    self->host->complete(self->instance, unit->token, &result.result);
    unit = (const bp_unit *)(const void *)((const char *)unit + units->size);
  }
}

static void read_records(void *pointer, const bp_read *reads, uint32_t reads_count) {
  store *self = pointer;
  const bp_read *read = reads;
  for (uint32_t index = 0; index < reads_count; index++) {
    pthread_mutex_lock(&self->lock);
    record *found = find(self, read->uri);
    if (found != NULL) __atomic_add_fetch(&found->references, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&self->lock);
    bp_read_result result = {result_of(sizeof result, found != NULL ? BP_OK : BP_NOT_FOUND, ""),
                             {sizeof(bp_record), 0, 0, 0, {NULL, 0}}};
    if (found != NULL)
      result.record =
          (bp_record){sizeof(bp_record), found->content, found->ts_ms, found->version, found->data};
    self->host->complete(self->instance, read->token, &result.result);
    release(found);
    read = (const bp_read *)(const void *)((const char *)read + reads->size);
  }
}

#define PAGE_MAX 256

static void scan_records(void *pointer, const bp_scan *scan) {
  store *self = pointer;
  record *held[PAGE_MAX];
  bp_scan_item items[PAGE_MAX];
  uint32_t limit = scan->credits < PAGE_MAX ? scan->credits : PAGE_MAX;
  uint32_t count = 0;
  bool is_last = true;
  pthread_mutex_lock(&self->lock);
  size_t index = position(self, scan->prefix);
  if (scan->cursor.size > 0) {
    /* The cursor is the last URI of the page before. */
    size_t after = position(self, scan->cursor);
    if (after < self->count && compare(self->records[after]->uri, scan->cursor) == 0) after++;
    if (after > index) index = after;
  }
  for (; index < self->count && has_prefix(self->records[index]->uri, scan->prefix); index++) {
    if (count == limit) {
      is_last = false;
      break;
    }
    record *found = self->records[index];
    __atomic_add_fetch(&found->references, 1, __ATOMIC_RELAXED);
    held[count] = found;
    items[count++] =
        (bp_scan_item){found->uri, found->ts_ms, found->version, found->data.size, found->content, 0};
  }
  pthread_mutex_unlock(&self->lock);
  bp_scan_result result = {result_of(sizeof result, BP_OK, ""), items, count, sizeof(bp_scan_item), {NULL, 0}};
  if (!is_last) result.cursor = items[count - 1].uri;
  self->host->complete(self->instance, scan->token, &result.result);
  for (uint32_t item = 0; item < count; item++) release(held[item]);
}

/* A backend's configuration has "url", which chose it. Add what the store can be told. */
static const known_key known_keys[] = {{"url", "\"", "the URL must be a text"}};

static bp_code configure(void *self, const bp_configuration *configuration, const bp_report *report) {
  (void)self;
  return check_configuration(configuration, report, known_keys, sizeof known_keys / sizeof *known_keys);
}

static bp_code nothing_to_do(void *self, uint64_t deadline_ns, const bp_report *report) {
  (void)self, (void)deadline_ns, (void)report;
  return BP_OK;
}

static void destroy(void *pointer) {
  store *self = pointer;
  for (size_t index = 0; index < self->count; index++) release(self->records[index]);
  free(self->records);
  pthread_mutex_destroy(&self->lock);
  free(self);
}

static const bp_backend backend = {
    .size = sizeof(bp_backend),
    .flags = BP_BACKEND_ATOMIC | BP_BACKEND_VERSIONS,
    .apply_mode = BP_MODE_DIRECT, /* completes before it returns, and never waits */
    .read_mode = BP_MODE_DIRECT,
    .scan_mode = BP_MODE_DIRECT,
    .durability_max = BP_DURABILITY_MEMORY,
    .apply = apply,
    .read = read_records,
    .scan = scan_records,
};

static const void *extension(void *self, bp_view id) {
  (void)self;
  return compare(id, text(BP_BACKEND_ID)) == 0 ? &backend : NULL;
}

static const bp_plugin *create(const bp_host *host, bp_instance instance, const bp_report *report) {
  store *self = calloc(1, sizeof *self);
  if (self == NULL) {
    bp_diagnostic diagnostic = {sizeof diagnostic, BP_SEVERITY_ERROR, {NULL, 0}, text("there is no memory")};
    report->add(report->context, &diagnostic);
    return NULL;
  }
  self->plugin = (bp_plugin){
      .size = sizeof(bp_plugin),
      .self = self,
      .configure = configure,
      .start = nothing_to_do,
      .quiesce = nothing_to_do,
      .stop = nothing_to_do,
      .destroy = destroy,
      .extension = extension,
  };
  self->host = host;
  self->instance = instance;
  pthread_mutex_init(&self->lock, NULL);
  return &self->plugin;
}

static const bp_view kinds[] = {BP_VIEW("backend")};
static const bp_entry entry = {
    sizeof entry, BP_ABI_MAJOR, BP_ABI_MINOR, 1, BP_VIEW(PLUGIN_ID), BP_VIEW(PLUGIN_VERSION), kinds, create,
};

BP_EXPORT const bp_entry *backplane_plugin_v1(void) { return &entry; }
