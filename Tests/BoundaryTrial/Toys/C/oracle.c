/* An oracle with two feeds: "power", 12.5 plus or minus 0.1, and "market", which is closed. */
#include <backplane/draft/oracle.h>
#include "toy.h"

static void observe(void *pointer, const bp_call *call, bp_view feed, bp_token token) {
  toy *self = pointer;
  (void)call;
  bp_observation seen = {result_of(sizeof seen, BP_OK, ""), BP_ORACLE_OPEN, -1, 125, 1, 1700000000000u, 7,
                         view_of("toy"), {NULL, 0}};
  if (view_is(feed, "market"))
    seen.state = BP_ORACLE_CLOSED;
  else if (!view_is(feed, "power"))
    seen.result = result_of(sizeof seen, BP_NOT_FOUND, "there is no such feed; try power or market");
  self->host->complete(self->instance, token, &seen.result);
}

static const bp_oracle table = {sizeof table, 0, observe};

static const void *extension(void *self, bp_view id) {
  (void)self;
  return view_is(id, BP_ORACLE_ID) ? &table : NULL;
}

static const bp_plugin *create(const bp_host *host, bp_instance instance, const bp_report *report) {
  toy *self = toy_make(sizeof *self, host, instance, extension);
  if (self == NULL) toy_report(report, "", "out of memory");
  return self == NULL ? NULL : &self->plugin;
}

TOY_ENTRY("org.example.toy.oracle", "oracle", create)
