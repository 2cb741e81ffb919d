/* A backend that does nothing: a read answers as many bytes as its URI says after the last slash, a unit is forgotten. */
#include <backplane/backend.h>
#include <backplane/manifest.h>
#include <stdlib.h>
#include <string.h>

BACKPLANE_MANIFEST("manifest.json")

typedef struct echo {
  bp_plugin plugin;
  const bp_host *host;
  bp_instance instance;
} echo;

static uint8_t bytes[1 << 20];

static void read_records(void *pointer, const bp_read *reads, uint32_t count) {
  echo *self = pointer;
  for (uint32_t index = 0; index < count; index++) {
    const bp_read *read = (const bp_read *)(const void *)((const char *)reads + (size_t)index * reads->size);
    uint64_t size = 0;
    for (uint64_t at = 0; at < read->uri.size; at++) {
      uint8_t byte = read->uri.data[at];
      size = byte >= '0' && byte <= '9' ? size * 10 + (byte - '0') : 0;
    }
    bp_read_result result;
    memset(&result, 0, sizeof result);
    result.result.size = sizeof result;
    result.record.size = sizeof result.record;
    result.record.data = (bp_view){bytes, size < sizeof bytes ? size : sizeof bytes};
    self->host->complete(self->instance, read->token, &result.result);
  }
}

static void apply(void *pointer, const bp_unit *units, uint32_t count) {
  echo *self = pointer;
  for (uint32_t index = 0; index < count; index++) {
    const bp_unit *unit = (const bp_unit *)(const void *)((const char *)units + (size_t)index * units->size);
    bp_write_result result;
    memset(&result, 0, sizeof result);
    result.result.size = sizeof result;
    result.durability = BP_DURABILITY_MEMORY;
    result.ts_ms = unit->ts_ms;
    self->host->complete(self->instance, unit->token, &result.result);
  }
}

static void scan(void *pointer, const bp_scan *scan) {
  echo *self = pointer;
  bp_scan_result result;
  memset(&result, 0, sizeof result);
  result.result.size = sizeof result;
  result.item_size = sizeof(bp_scan_item);
  self->host->complete(self->instance, scan->token, &result.result);
}

static const bp_backend table = {sizeof table,   0,    BP_MODE_DIRECT, BP_MODE_DIRECT, BP_MODE_DIRECT,
                                 BP_DURABILITY_MEMORY, apply,          read_records,   scan};

static bp_code configure(void *self, const bp_configuration *configuration, const bp_report *report) {
  (void)self, (void)configuration, (void)report;
  return BP_OK;
}

static bp_code step(void *self, uint64_t deadline_ns, const bp_report *report) {
  (void)self, (void)deadline_ns, (void)report;
  return BP_OK;
}

static void destroy(void *self) { free(self); }

static const void *extension(void *self, bp_view id) {
  (void)self;
  return id.size == sizeof BP_BACKEND_ID - 1 && memcmp(id.data, BP_BACKEND_ID, id.size) == 0 ? &table : NULL;
}

static const bp_plugin *create(const bp_host *host, bp_instance instance, const bp_report *report) {
  (void)report;
  echo *self = calloc(1, sizeof *self);
  if (self == NULL) return NULL;
  self->plugin = (bp_plugin){sizeof self->plugin, 0,    self,    configure, step,     step,
                             step,                destroy, NULL, NULL,      extension};
  self->host = host;
  self->instance = instance;
  return &self->plugin;
}

static const bp_view kinds[] = {BP_VIEW("backend")};
static const bp_entry entry = {sizeof(bp_entry), BP_ABI_MAJOR, BP_ABI_MINOR, 1, BP_VIEW("org.backplane.bench.echo"),
                               BP_VIEW("1.0.0"), kinds,        create};

const bp_entry *backplane_plugin_v1(void) { return &entry; }
