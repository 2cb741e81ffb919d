/// A schema in C.
enum CSchemaTemplate {
  /// plugin.c.
  static let code =
    ##"""
    /* {{name}}: a schema with one rule: a record below {{slug}}://open is written once.
     *
     * It reads through the node while it judges, without waiting: judge asks and returns, record_read gives the verdict.
     * backplane/schema.h says what every function here owes its caller. */
    #include <backplane/manifest.h>
    #include <backplane/node.h>
    #include <backplane/schema.h>
    #include <stdlib.h>
    #include <string.h>
    #include "configuration.h"

    BACKPLANE_MANIFEST("manifest.json")

    /* Must agree with manifest.json: the kernel compares them. */
    #define PLUGIN_ID "{{id}}"
    #define PLUGIN_VERSION "1.0.0"
    #define PROGRAM "{{slug}}://open"
    #define REFUSAL "the record is there already and is written once"

    typedef struct rule {
      bp_plugin plugin;
      const bp_host *host;
      bp_instance instance;
    } rule;

    /* A message that waits for its read. The message lives until the token is completed. */
    typedef struct judgement {
      const rule *rule;
      const bp_message *message;
      bp_token token;
    } judgement;

    static bp_view text(const char *literal) { return (bp_view){(const uint8_t *)literal, strlen(literal)}; }

    static void refuse(const rule *self, bp_token token, bp_code code, bp_view message) {
      bp_verdict verdict = {{sizeof verdict, code, 0, 0, message, {NULL, 0}}, NULL, 0, 0};
      self->host->complete(self->instance, token, &verdict.result);
    }

    /* Any thread, perhaps before node->read has returned. */
    static void record_read(void *context, const bp_result *result) {
      judgement *waiting = context;
      const bp_message *message = waiting->message;
      if (result->code == BP_NOT_FOUND) {
        /* On the condition that it is still absent: another message may be on its way. */
        bp_op op = {.size = sizeof op, .verb = BP_VERB_PUT, .condition = BP_IF_ABSENT, .content = message->content,
                    .uri = message->uri, .data = message->data, .refusal = text(REFUSAL)};
        bp_verdict verdict = {{sizeof verdict, BP_OK, 0, 0, {NULL, 0}, {NULL, 0}}, &op, 1, 0};
        waiting->rule->host->complete(waiting->rule->instance, waiting->token, &verdict.result);
      } else if (result->code == BP_OK) {
        refuse(waiting->rule, waiting->token, BP_REJECTED, text(REFUSAL));
      } else {
        refuse(waiting->rule, waiting->token, result->code, result->message);
      }
      free(waiting);
    }

    static void judge(void *pointer, const bp_call *call, const bp_message *message, bp_token token) {
      rule *self = pointer;
      (void)call;
      const bp_node *node = self->host->extension(self->instance, text(BP_NODE_ID));
      judgement *waiting = malloc(sizeof *waiting);
      if (node == NULL || waiting == NULL) {
        free(waiting);
        refuse(self, token, BP_UNAVAILABLE, text("there is no node to read from, or no memory"));
        return;
      }
      *waiting = (judgement){self, message, token};
      /* As a child of the judgement the read inherits its deadline, and sees what the same message has written so far. */
      bp_call child = {.size = sizeof child, .parent = token};
      node->read(self->instance, &child, message->uri, (bp_completion){waiting, record_read, NULL});
    }

    static void programs(void *self, void *context, void (*add)(void *context, const bp_program *program)) {
      (void)self;
      bp_program program = {sizeof program, 0, BP_VIEW(PROGRAM)};
      add(context, &program);
    }

    /* This rule has no settings; where there are some, name them as known keys. */
    static bp_code configure(void *self, const bp_configuration *configuration, const bp_report *report) {
      (void)self;
      return check_configuration(configuration, report, NULL, 0);
    }

    /* Nothing to wait for in quiesce and stop: the host completes its reads first, and with them every judgement. */
    static bp_code nothing_to_do(void *self, uint64_t deadline_ns, const bp_report *report) {
      (void)self, (void)deadline_ns, (void)report;
      return BP_OK;
    }

    static const bp_schema schema = {
        .size = sizeof(bp_schema),
        .judge_mode = BP_MODE_ASYNC,
        .programs = programs,
        .judge = judge,
    };

    static const void *extension(void *self, bp_view id) {
      (void)self;
      bp_view mine = BP_VIEW(BP_SCHEMA_ID);
      return id.size == mine.size && memcmp(id.data, mine.data, mine.size) == 0 ? &schema : NULL;
    }

    static const bp_plugin *create(const bp_host *host, bp_instance instance, const bp_report *report) {
      rule *self = calloc(1, sizeof *self);
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
          .destroy = free,
          .extension = extension,
      };
      self->host = host;
      self->instance = instance;
      return &self->plugin;
    }

    static const bp_view kinds[] = {BP_VIEW("schema")};
    static const bp_entry entry = {
        sizeof entry, BP_ABI_MAJOR, BP_ABI_MINOR, 1, BP_VIEW(PLUGIN_ID), BP_VIEW(PLUGIN_VERSION), kinds, create,
    };

    BP_EXPORT const bp_entry *backplane_plugin_v1(void) { return &entry; }

    """##
}
