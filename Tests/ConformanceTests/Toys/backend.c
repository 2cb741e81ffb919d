/* A backend in C: a sorted array under one lock. One op to a unit, no versions. -DFAULT_... makes it a bad one. */
#include <backplane/backend.h>
#include <backplane/manifest.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef FAULT_FORGETS
/* It says that its records outlive it. */
BACKPLANE_MANIFEST("manifest_lasting.json")
#else
BACKPLANE_MANIFEST("manifest.json")
#endif

#ifdef FAULT_FORGETS
#define ACKNOWLEDGED BP_DURABILITY_DISK
#else
#define ACKNOWLEDGED BP_DURABILITY_MEMORY
#endif

typedef struct record {
  uint8_t *uri;
  uint64_t uri_size;
  uint8_t *data;
  uint64_t data_size;
  uint64_t ts_ms;
  uint32_t content;
} record;

typedef struct instance {
  bp_plugin plugin;
  const bp_host *host;
  bp_instance handle;
  pthread_mutex_t lock;
  record *records;
  size_t count, capacity;
} instance;

static int same(bp_view view, const char *text) {
  return view.size == strlen(text) && (view.size == 0 || memcmp(view.data, text, view.size) == 0);
}

static int compare(const record *record, bp_view uri) {
  uint64_t shorter = record->uri_size < uri.size ? record->uri_size : uri.size;
  int order = shorter == 0 ? 0 : memcmp(record->uri, uri.data, shorter);
  if (order != 0) return order;
  return record->uri_size < uri.size ? -1 : record->uri_size > uri.size;
}

/* The index of the first record that is not before uri. */
static size_t lower(instance *self, bp_view uri) {
  size_t low = 0, high = self->count;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (compare(&self->records[middle], uri) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

static uint8_t *copy(bp_view view) {
  uint8_t *bytes = malloc(view.size + 1);
  if (view.size > 0) memcpy(bytes, view.data, view.size);
  return bytes;
}

static bp_code fail(const bp_report *report, const char *pointer, const char *message) {
  bp_diagnostic diagnostic = {sizeof diagnostic, BP_SEVERITY_ERROR, {(const uint8_t *)pointer, strlen(pointer)},
                              {(const uint8_t *)message, strlen(message)}};
  report->add(report->context, &diagnostic);
  return BP_INVALID_ARGUMENT;
}

/* Takes {"url":"list://"} and nothing else; names the first key that it does not know. */
static bp_code configure(void *opaque, const bp_configuration *configuration, const bp_report *report) {
  (void)opaque;
  bp_view json = configuration->json;
  if (same(json, "{}") || same(json, "{\"url\":\"list://\"}")) return BP_OK;
  const uint8_t *key = json.size > 0 ? memchr(json.data, '"', json.size) : NULL;
  const uint8_t *end = key ? memchr(key + 1, '"', json.size - (key + 1 - json.data)) : NULL;
  if (end == NULL || end - key > 60) return fail(report, "", "the configuration is not an object with the key url");
  char pointer[64] = "/";
  memcpy(pointer + 1, key + 1, end - key - 1);
  return fail(report, pointer, "only the key url is known, and its value is list://");
}

static bp_code start(void *opaque, uint64_t deadline_ns, const bp_report *report) {
  (void)opaque, (void)deadline_ns, (void)report;
#ifdef FAULT_LEAK
  (void)open("/dev/null", O_RDONLY);
#endif
  return BP_OK;
}

static bp_code quiet(void *opaque, uint64_t deadline_ns, const bp_report *report) {
  (void)opaque, (void)deadline_ns, (void)report;
  return BP_OK;
}

static void drop(record *record) {
  free(record->uri);
  free(record->data);
}

static void destroy(void *opaque) {
  instance *self = opaque;
  for (size_t index = 0; index < self->count; index++) drop(&self->records[index]);
  free(self->records);
  pthread_mutex_destroy(&self->lock);
  free(self);
}

static void fault(const bp_op *op) {
  (void)op;
#ifdef FAULT_CRASH
  if (op->data.size == 1 << 20) *(volatile int *)8 = 1;
#endif
#ifdef FAULT_HANG
  while (op->data.size == 1 << 20) pause();
#endif
}

static void apply_one(instance *self, const bp_unit *unit) {
  const bp_op *op = unit->ops;
  bp_write_result result = {.result = {.size = sizeof result}, .durability = ACKNOWLEDGED, .ts_ms = unit->ts_ms};
  fault(op);
  pthread_mutex_lock(&self->lock);
  size_t index = lower(self, op->uri);
  int present = index < self->count && compare(&self->records[index], op->uri) == 0;
  if (op->condition == BP_IF_VERSION) {
    result.result.code = BP_UNIMPLEMENTED;
    result.result.message = (bp_view)BP_VIEW("versions are not kept");
  } else if ((op->condition == BP_IF_ABSENT && present) || (op->condition == BP_IF_PRESENT && !present)) {
    result.result.code = BP_FAILED_PRECONDITION;
    result.result.message = (bp_view)BP_VIEW("the condition does not hold");
  } else if (op->verb == BP_VERB_DELETE) {
    if (present) {
      drop(&self->records[index]);
      self->count--;
      memmove(&self->records[index], &self->records[index + 1], (self->count - index) * sizeof(record));
    } else {
      result.absent_count = 1;
    }
  } else {
    record made = {copy(op->uri), op->uri.size, copy(op->data), op->data.size, unit->ts_ms, op->content};
    if (present) {
      drop(&self->records[index]);
    } else {
      if (self->count == self->capacity) {
        self->capacity = self->capacity * 2 + 16;
        self->records = realloc(self->records, self->capacity * sizeof(record));
      }
      memmove(&self->records[index + 1], &self->records[index], (self->count - index) * sizeof(record));
      self->count++;
    }
    self->records[index] = made;
  }
  pthread_mutex_unlock(&self->lock);
  self->host->complete(self->handle, unit->token, &result.result);
}

static void apply(void *opaque, const bp_unit *units, uint32_t units_count) {
  for (uint32_t index = 0; index < units_count; index++)
    apply_one(opaque, (const bp_unit *)((const char *)units + (size_t)index * units->size));
}

static void read_records(void *opaque, const bp_read *reads, uint32_t reads_count) {
  instance *self = opaque;
#ifdef FAULT_LOSE_MEMORY
  *(volatile char *)malloc(100) = 1;
#endif
  for (uint32_t number = 0; number < reads_count; number++) {
    const bp_read *read = (const bp_read *)((const char *)reads + (size_t)number * reads->size);
    bp_read_result result = {.result = {.size = sizeof result, .code = BP_NOT_FOUND}};
    uint8_t *bytes = NULL;
    pthread_mutex_lock(&self->lock);
    size_t index = lower(self, read->uri);
    if (index < self->count && compare(&self->records[index], read->uri) == 0) {
      record *found = &self->records[index];
      bytes = copy((bp_view){found->data, found->data_size});
      result.result.code = BP_OK;
      result.record = (bp_record){sizeof result.record, found->content, found->ts_ms, 0, {bytes, found->data_size}};
    }
    pthread_mutex_unlock(&self->lock);
    self->host->complete(self->handle, read->token, &result.result);
    free(bytes);
  }
}

static void scan(void *opaque, const bp_scan *scan) {
  instance *self = opaque;
  bp_scan_item *items = NULL;
  uint32_t count = 0;
  pthread_mutex_lock(&self->lock);
  /* The cursor is the last URI of the page before. */
  size_t index = lower(self, scan->cursor.size > 0 ? scan->cursor : scan->prefix);
  if (scan->cursor.size > 0 && index < self->count && compare(&self->records[index], scan->cursor) == 0) index++;
  bp_view cursor = {NULL, 0};
  for (; index < self->count; index++) {
    record *found = &self->records[index];
    if (found->uri_size < scan->prefix.size ||
        (scan->prefix.size > 0 && memcmp(found->uri, scan->prefix.data, scan->prefix.size) != 0))
      break;
    if (count == scan->credits) {
      cursor = items[count - 1].uri;
      break;
    }
    items = realloc(items, (count + 1) * sizeof *items);
    bp_view uri = {found->uri, found->uri_size};
    items[count++] = (bp_scan_item){{copy(uri), uri.size}, found->ts_ms, 0, found->data_size, found->content, 0};
    cursor = (bp_view){NULL, 0};
  }
  pthread_mutex_unlock(&self->lock);
  bp_scan_result result = {.result = {.size = sizeof result}, items, count, sizeof *items, cursor};
  self->host->complete(self->handle, scan->token, &result.result);
  for (uint32_t number = 0; number < count; number++) free((void *)items[number].uri.data);
  free(items);
}

static const void *extension(void *opaque, bp_view id) {
  static const bp_backend backend = {sizeof backend, 0, BP_MODE_BLOCKING, BP_MODE_BLOCKING, BP_MODE_BLOCKING,
                                     ACKNOWLEDGED, apply, read_records, scan};
  (void)opaque;
  return same(id, BP_BACKEND_ID) ? &backend : NULL;
}

static const bp_plugin *create(const bp_host *host, bp_instance handle, const bp_report *report) {
  (void)report;
#ifdef FAULT_ABORT_IN_CREATE
  abort();
#endif
  instance *self = calloc(1, sizeof *self);
  self->plugin = (bp_plugin){sizeof self->plugin, 0, self, configure, start, quiet, quiet, destroy, NULL, NULL, extension};
  self->host = host;
  self->handle = handle;
  pthread_mutex_init(&self->lock, NULL);
  return &self->plugin;
}

BP_EXPORT const bp_entry *backplane_plugin_v1(void) {
  static const bp_view kinds[] = {BP_VIEW("backend")};
  static const bp_entry entry = {sizeof entry, BP_ABI_MAJOR, BP_ABI_MINOR, 1, BP_VIEW("org.example.list"),
                                 BP_VIEW("1.0.0"), kinds, create};
  return &entry;
}
