/* A few records in memory, for toys that keep some. The caller holds the lock. */
#ifndef TOY_STORE_H
#define TOY_STORE_H

#include <backplane/backend.h>
#include "toy.h"

#define STORE_RECORDS_MAX 512

typedef struct stored {
  char *uri;
  char *data;
  uint64_t uri_size, data_size, ts_ms, version;
  uint32_t content;
} stored;

typedef struct store {
  pthread_mutex_t lock;
  uint32_t count;
  stored records[STORE_RECORDS_MAX]; /* in order of first arrival: the stable order of scan */
  /* Told of every URI that a unit puts or deletes, under the lock; may be NULL. */
  void (*changed)(struct store *store, bp_view uri);
} store;

static char *bytes_copy(bp_view view) {
  char *copy = malloc(view.size + 1);
  if (copy != NULL && view.size > 0) memcpy(copy, view.data, view.size);
  return copy;
}

static stored *store_find(store *store, bp_view uri) {
  for (uint32_t index = 0; index < store->count; index++)
    if (store->records[index].uri_size == uri.size && memcmp(store->records[index].uri, uri.data, uri.size) == 0)
      return &store->records[index];
  return NULL;
}

static bool store_put(store *store, bp_view uri, bp_view data, uint32_t content, uint64_t ts_ms, uint64_t version) {
  stored *record = store_find(store, uri);
  if (record == NULL) {
    if (store->count == STORE_RECORDS_MAX) return false;
    record = &store->records[store->count++];
    record->uri = bytes_copy(uri);
    record->uri_size = uri.size;
  } else {
    free(record->data);
  }
  record->data = bytes_copy(data);
  record->data_size = data.size;
  record->content = content;
  record->ts_ms = ts_ms;
  record->version = version;
  return true;
}

static bool store_remove(store *store, bp_view uri) {
  stored *record = store_find(store, uri);
  if (record == NULL) return false;
  free(record->uri);
  free(record->data);
  memmove(record, record + 1, (size_t)(&store->records[--store->count] - record) * sizeof *record);
  return true;
}

static void store_clear(store *store) {
  while (store->count > 0) {
    bp_view last = {(const uint8_t *)store->records[store->count - 1].uri, store->records[store->count - 1].uri_size};
    store_remove(store, last);
  }
}

static const bp_op *op_at(const bp_op *ops, uint32_t index) {
  return (const bp_op *)(const void *)((const char *)ops + (size_t)index * ops->size);
}

/* The condition of an op, against the store and the earlier ops of its unit. */
static bool holds(store *store, const bp_op *ops, uint32_t index) {
  const bp_op *op = op_at(ops, index);
  stored *record = store_find(store, op->uri);
  bool present = record != NULL;
  bool known = true;
  for (uint32_t earlier = 0; earlier < index; earlier++) {
    const bp_op *other = op_at(ops, earlier);
    if (other->uri.size != op->uri.size || memcmp(other->uri.data, op->uri.data, op->uri.size) != 0) continue;
    present = other->verb == BP_VERB_PUT;
    known = false; /* its version is the unit's own: nobody can have named it */
  }
  if (op->condition == BP_IF_ABSENT) return !present;
  if (op->condition == BP_IF_PRESENT) return present;
  if (op->condition == BP_IF_VERSION) return present && known && record->version == op->if_version;
  return true;
}

/* Applies a unit, all or nothing, and completes it. Takes the lock; completes without it (core.h, RE-ENTRY). */
static void store_apply(toy *toy, store *store, const bp_unit *unit) {
  bp_write_result result = {result_of(sizeof result, BP_OK, ""), BP_DURABILITY_MEMORY, 0, 0, 0, unit->ts_ms};
  pthread_mutex_lock(&store->lock);
  for (uint32_t index = 0; index < unit->ops_count && result.result.code == BP_OK; index++) {
    if (holds(store, unit->ops, index)) continue;
    result.result = result_of(sizeof result, BP_FAILED_PRECONDITION, "the condition of an op does not hold");
    result.failed_op = index;
  }
  for (uint32_t index = 0; index < unit->ops_count && result.result.code == BP_OK; index++) {
    const bp_op *op = op_at(unit->ops, index);
    if (op->verb == BP_VERB_DELETE)
      result.absent_count += store_remove(store, op->uri) ? 0 : 1;
    else if (!store_put(store, op->uri, op->data, op->content, unit->ts_ms, unit->version))
      result.result = result_of(sizeof result, BP_RESOURCE_EXHAUSTED, "the toy holds 512 records, no more");
    if (store->changed != NULL) store->changed(store, op->uri);
  }
  pthread_mutex_unlock(&store->lock);
  toy->host->complete(toy->instance, unit->token, &result.result);
}

static void store_read(toy *toy, store *store, const bp_read *read) {
  bp_read_result result = {result_of(sizeof result, BP_NOT_FOUND, ""), {sizeof(bp_record), 0, 0, 0, {NULL, 0}}};
  char *data = NULL;
  pthread_mutex_lock(&store->lock);
  stored *record = store_find(store, read->uri);
  if (record != NULL) {
    bp_view held = {(const uint8_t *)record->data, record->data_size};
    data = bytes_copy(held);
    bp_view copy = {(const uint8_t *)data, record->data_size};
    bp_record found = {sizeof found, record->content, record->ts_ms, record->version, copy};
    result.result.code = BP_OK;
    result.record = found;
  }
  pthread_mutex_unlock(&store->lock);
  toy->host->complete(toy->instance, read->token, &result.result);
  free(data);
}

/* The cursor is the number of records looked at so far: good enough while nothing is deleted. */
static void store_scan(toy *toy, store *store, const bp_scan *scan) {
  bp_scan_item items[16];
  uint32_t count = 0, at = 0;
  uint32_t limit = scan->credits < 16 ? scan->credits : 16;
  if (scan->cursor.size == sizeof at) memcpy(&at, scan->cursor.data, sizeof at);
  pthread_mutex_lock(&store->lock);
  for (; at < store->count && count < limit; at++) {
    stored *record = &store->records[at];
    if (record->uri_size < scan->prefix.size || memcmp(record->uri, scan->prefix.data, scan->prefix.size) != 0)
      continue;
    bp_view uri = {(const uint8_t *)record->uri, record->uri_size};
    uri.data = (const uint8_t *)bytes_copy(uri);
    bp_scan_item item = {uri, record->ts_ms, record->version, record->data_size, record->content, 0};
    items[count++] = item;
  }
  bool last = at >= store->count;
  pthread_mutex_unlock(&store->lock);
  bp_view cursor = {(const uint8_t *)&at, last ? 0 : sizeof at};
  bp_scan_result result = {result_of(sizeof result, BP_OK, ""), items, count, sizeof(bp_scan_item), cursor};
  toy->host->complete(toy->instance, scan->token, &result.result);
  for (uint32_t index = 0; index < count; index++) free((void *)(uintptr_t)items[index].uri.data);
}

#endif
