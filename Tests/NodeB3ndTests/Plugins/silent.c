/* A schema whose validator takes every message and never answers. Tests/NodeB3ndTests. */
#include <backplane/manifest.h>
#include <backplane/schema.h>
#include <string.h>

BACKPLANE_MANIFEST("manifest.json")

static void judge(void *self, const bp_call *call, const bp_message *message, bp_token token) {
  (void)self, (void)call, (void)message, (void)token;
}

static void programs(void *self, void *context, void (*add)(void *context, const bp_program *program)) {
  (void)self;
  bp_program program = {sizeof program, 0, BP_VIEW("silent://open")};
  add(context, &program);
}

static bp_code configure(void *self, const bp_configuration *configuration, const bp_report *report) {
  (void)self, (void)configuration, (void)report;
  return BP_OK;
}

static bp_code nothing_to_do(void *self, uint64_t deadline_ns, const bp_report *report) {
  (void)self, (void)deadline_ns, (void)report;
  return BP_OK;
}

static void destroy(void *self) { (void)self; }

static const bp_schema schema = {
    .size = sizeof(bp_schema), .judge_mode = BP_MODE_ASYNC, .programs = programs, .judge = judge};

static const void *extension(void *self, bp_view id) {
  (void)self;
  bp_view mine = BP_VIEW(BP_SCHEMA_ID);
  return id.size == mine.size && memcmp(id.data, mine.data, mine.size) == 0 ? &schema : NULL;
}

static const bp_plugin plugin = {
    .size = sizeof(bp_plugin), .configure = configure, .start = nothing_to_do, .quiesce = nothing_to_do,
    .stop = nothing_to_do, .destroy = destroy, .extension = extension};

static const bp_plugin *create(const bp_host *host, bp_instance instance, const bp_report *report) {
  (void)host, (void)instance, (void)report;
  return &plugin;
}

static const bp_view kinds[] = {BP_VIEW("schema")};
static const bp_entry entry = {
    sizeof entry, BP_ABI_MAJOR, BP_ABI_MINOR, 1, BP_VIEW("org.example.silent"), BP_VIEW("1.0.0"), kinds, create,
};

BP_EXPORT const bp_entry *backplane_plugin_v1(void) { return &entry; }
