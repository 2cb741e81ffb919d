/// A service in C.
enum CServiceTemplate {
  /// plugin.c.
  static let code =
    ##"""
    /* {{name}}: a service that gives a sign of life: it counts its beats in one record, and says there when the node ends.
     *
     * It has no thread: what it asked of the node completes on the node's threads, and a timer wakes it for the next beat.
     * backplane/service.h says what every function here owes its caller. */
    #define _GNU_SOURCE
    #include <backplane/manifest.h>
    #include <backplane/node.h>
    #include <backplane/service.h>
    #include <pthread.h>
    #include <stdlib.h>
    #include <string.h>
    #include <time.h>
    #include "configuration.h"

    BACKPLANE_MANIFEST("manifest.json")

    /* Must agree with manifest.json: the kernel compares them. */
    #define PLUGIN_ID "{{id}}"
    #define PLUGIN_VERSION "1.0.0"
    #define RECORD "mutable://open/{{slug}}"

    typedef struct pulse {
      bp_plugin plugin;
      const bp_host *host;
      bp_instance instance;
      uint64_t interval_ns;
      pthread_mutex_t lock; /* of what follows; never held across a call to the host */
      bool rests;           /* quiesced: nothing is begun any more */
      bp_token timer;
      unsigned beats;
    } pulse;

    /* A beat on its way. */
    typedef struct beat {
      pulse *pulse;
      bp_token notice; /* the host's call that it is the answer to; 0: none */
      bool is_last;
    } beat;

    static bp_view text(const char *literal) { return (bp_view){(const uint8_t *)literal, strlen(literal)}; }

    static void release(void *owner) { free(owner); }

    static bool rests(pulse *self) {
      pthread_mutex_lock(&self->lock);
      bool rests = self->rests;
      pthread_mutex_unlock(&self->lock);
      return rests;
    }

    static void write_beat(pulse *self, bp_token notice, bool is_last);

    /* The time has come, or the timer was given up. */
    static void due(void *context, const bp_result *result) {
      if (result->code == BP_OK && !rests(context)) write_beat(context, 0, false);
    }

    static void wait_for_next(pulse *self) {
      const bp_timer *timers = self->host->extension(self->instance, text(BP_TIMER_ID));
      if (timers == NULL || rests(self)) return;
      struct timespec now;
      clock_gettime(CLOCK_MONOTONIC, &now);
      uint64_t due_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec + self->interval_ns;
      bp_token timer = timers->after(self->instance, due_ns, (bp_completion){self, due, NULL});
      pthread_mutex_lock(&self->lock);
      self->timer = timer;
      bool is_late = self->rests;
      pthread_mutex_unlock(&self->lock);
      if (is_late) self->host->cancel(self->instance, timer);
    }

    /* The node has answered a beat. Any thread. */
    static void written(void *context, const bp_result *result) {
      beat *ended = context;
      pulse *self = ended->pulse;
      if (result->code == BP_OK)
        self->host->health(self->instance, BP_HEALTH_HEALTHY, text(""));
      else if (!rests(self))
        self->host->health(self->instance, BP_HEALTH_DEGRADED, text("a beat was not written"));
      /* With the node's own words when it refused. */
      bp_result answer = {sizeof answer, result->code, result->flags, result->retry_after_ms, result->message, {NULL, 0}};
      if (ended->notice != 0) self->host->complete(self->instance, ended->notice, &answer);
      if (!ended->is_last) wait_for_next(self);
      free(ended);
    }

    static void write_beat(pulse *self, bp_token notice, bool is_last) {
      const bp_node *node = self->host->extension(self->instance, text(BP_NODE_ID));
      beat *begun = malloc(sizeof *begun);
      char *data = malloc(64);
      if (node == NULL || begun == NULL || data == NULL) {
        free(begun), free(data);
        bp_result answer = {sizeof answer, BP_UNAVAILABLE, 0, 0, text("there is no node to write to, or no memory"),
                            {NULL, 0}};
        if (notice != 0) self->host->complete(self->instance, notice, &answer);
        return;
      }
      *begun = (beat){self, notice, is_last};
      pthread_mutex_lock(&self->lock);
      unsigned number = ++self->beats;
      pthread_mutex_unlock(&self->lock);
      int size = snprintf(data, 64, "{\"beats\":%u,\"state\":\"%s\"}", number, is_last ? "ended" : "up");
      bp_call call = {.size = sizeof call};
      bp_receive request = {sizeof request, BP_CONTENT_JSON, text(RECORD),
                            {(const uint8_t *)data, (uint64_t)size, data, release}};
      node->receive(self->instance, &call, &request, (bp_completion){begun, written, NULL});
    }

    /* The first beat, and a timer for the next. A node that refuses it makes the slot unhealthy, with the node's words. */
    static void node_ready(void *self, const bp_call *call, bp_token token) {
      (void)call;
      write_beat(self, token, false);
    }

    static void node_ending(void *self, const bp_call *call, bp_token token) {
      (void)call;
      write_beat(self, token, true);
    }

    /* The number behind a key that check_configuration has looked at. */
    static uint64_t number_of(const bp_configuration *configuration, const char *key, uint64_t fallback) {
      char json[1024] = {0};
      size_t size = configuration->json.size < sizeof json ? configuration->json.size : sizeof json - 1;
      if (size > 0) memcpy(json, configuration->json.data, size);
      char *at = strstr(json, key);
      at = at == NULL ? NULL : strchr(at, ':');
      return at == NULL ? fallback : strtoull(at + 1, NULL, 10);
    }

    static bp_code configure(void *pointer, const bp_configuration *configuration, const bp_report *report) {
      static const known_key known_keys[] = {{"interval_ms", "0123456789", "the interval must be a number of milliseconds"}};
      pulse *self = pointer;
      bp_code code = check_configuration(configuration, report, known_keys, sizeof known_keys / sizeof *known_keys);
      uint64_t interval_ms = number_of(configuration, "\"interval_ms\"", 10000);
      if (code == BP_OK && (interval_ms < 10 || interval_ms > 86400000)) {
        configuration_problem(report, "interval_ms", 11, "the interval must be 10 ms to a day");
        code = BP_INVALID_ARGUMENT;
      }
      if (code == BP_OK) self->interval_ns = interval_ms * 1000000;
      return code;
    }

    static bp_code start(void *self, uint64_t deadline_ns, const bp_report *report) {
      (void)self, (void)deadline_ns, (void)report;
      return BP_OK;
    }

    static bp_code quiesce(void *pointer, uint64_t deadline_ns, const bp_report *report) {
      pulse *self = pointer;
      (void)deadline_ns, (void)report;
      pthread_mutex_lock(&self->lock);
      self->rests = true;
      bp_token timer = self->timer;
      pthread_mutex_unlock(&self->lock);
      self->host->cancel(self->instance, timer);
      return BP_OK;
    }

    /* Nothing to wait for: before stop the host completes every call that was made to it. */
    static bp_code stop(void *self, uint64_t deadline_ns, const bp_report *report) {
      return quiesce(self, deadline_ns, report);
    }

    static void destroy(void *pointer) {
      pulse *self = pointer;
      pthread_mutex_destroy(&self->lock);
      free(self);
    }

    static const bp_service service = {sizeof(bp_service), 0, node_ready, node_ending};

    static const void *extension(void *self, bp_view id) {
      (void)self;
      bp_view mine = BP_VIEW(BP_SERVICE_ID);
      return id.size == mine.size && memcmp(id.data, mine.data, mine.size) == 0 ? &service : NULL;
    }

    static const bp_plugin *create(const bp_host *host, bp_instance instance, const bp_report *report) {
      pulse *self = calloc(1, sizeof *self);
      if (self == NULL) {
        bp_diagnostic diagnostic = {sizeof diagnostic, BP_SEVERITY_ERROR, {NULL, 0}, text("there is no memory")};
        report->add(report->context, &diagnostic);
        return NULL;
      }
      pthread_mutex_init(&self->lock, NULL);
      self->plugin = (bp_plugin){
          .size = sizeof(bp_plugin),
          .self = self,
          .configure = configure,
          .start = start,
          .quiesce = quiesce,
          .stop = stop,
          .destroy = destroy,
          .extension = extension,
      };
      self->host = host;
      self->instance = instance;
      return &self->plugin;
    }

    static const bp_view kinds[] = {BP_VIEW("service")};
    static const bp_entry entry = {
        sizeof entry, BP_ABI_MAJOR, BP_ABI_MINOR, 1, BP_VIEW(PLUGIN_ID), BP_VIEW(PLUGIN_VERSION), kinds, create,
    };

    BP_EXPORT const bp_entry *backplane_plugin_v1(void) { return &entry; }

    """##
}
