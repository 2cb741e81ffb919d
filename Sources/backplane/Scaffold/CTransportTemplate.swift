/// A transport in C.
enum CTransportTemplate {
  /// plugin.c.
  static let code =
    ##"""
    /* {{name}}: a transport of lines over TCP: `GET URI` and `PUT URI DATA`, one answer for each line.
     *
     * One thread waits for all sockets; the node's answers come from other threads and wake it through a pipe.
     * backplane/transport.h and node.h say what every function here owes its caller. */
    #define _GNU_SOURCE
    #include <backplane/manifest.h>
    #include <backplane/node.h>
    #include <backplane/transport.h>
    #include <errno.h>
    #include <fcntl.h>
    #include <poll.h>
    #include <pthread.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/socket.h>
    #include <time.h>
    #include <unistd.h>

    BACKPLANE_MANIFEST("manifest.json")

    /* Must agree with manifest.json: the kernel compares them. */
    #define PLUGIN_ID "{{id}}"
    #define PLUGIN_VERSION "1.0.0"

    #define CONNECTIONS_MAX 64
    #define LINE_BYTES_MAX 65536

    struct transport;

    /* The thread's own, but for what is marked. While it is answering it stays in place. */
    typedef struct connection {
      struct transport *transport;
      int descriptor; /* -1: free */
      uint8_t *received;
      size_t received_size;
      bool is_answering; /* under the lock: a line is with the node, and nothing is read meanwhile */
      bool is_put;
      bool is_at_end;    /* nothing more is read */
      uint8_t *sending;  /* under the lock */
      size_t sending_size, sent_size;
    } connection;

    typedef struct transport {
      bp_plugin plugin;
      const bp_host *host;
      const bp_node *node;
      bp_instance instance;
      int listener, wake[2];
      pthread_t thread;
      bool is_running;
      uint64_t connections_count; /* atomic */
      pthread_mutex_t lock;
      bool is_ending;  /* under the lock */
      uint64_t end_ns; /* under the lock */
      connection connections[CONNECTIONS_MAX];
    } transport;

    static bp_view text(const char *literal) { return (bp_view){(const uint8_t *)literal, strlen(literal)}; }

    static bool is(bp_view view, const char *literal) {
      return view.size == strlen(literal) && memcmp(view.data, literal, view.size) == 0;
    }

    static uint64_t now_ns(void) {
      struct timespec time;
      clock_gettime(CLOCK_MONOTONIC, &time);
      return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
    }

    /* ---- Answers: any thread ---- */

    static void wake(transport *self) {
      ssize_t written = write(self->wake[1], "", 1);
      (void)written; /* full: it is awake */
    }

    static void answer(connection *to, const char *head, bp_view rest) {
      transport *self = to->transport;
      size_t head_size = strlen(head), size = head_size + rest.size + 1;
      uint8_t *line = malloc(size);
      if (line != NULL) {
        memcpy(line, head, head_size);
        if (rest.size > 0) memcpy(line + head_size, rest.data, rest.size);
        line[size - 1] = '\n';
      }
      pthread_mutex_lock(&self->lock);
      to->sending = line;
      to->sending_size = line != NULL ? size : 0;
      to->sent_size = 0;
      to->is_answering = false;
      /* Without memory for the answer, and while the transport ends, the connection ends here. An idle one is closed when
       * the time is up: a client may have a line on its way. */
      if (line == NULL || self->is_ending) to->is_at_end = true;
      pthread_mutex_unlock(&self->lock);
      wake(self);
    }

    static void node_answered(void *context, const bp_result *result) {
      connection *to = context;
      if (result->code == BP_NOT_FOUND) answer(to, "NONE", text(""));
      else if (result->code != BP_OK) answer(to, "ERROR ", result->message);
      else if (to->is_put) answer(to, "OK", text(""));
      else answer(to, "OK ", ((const bp_read_result *)(const void *)result)->record.data);
    }

    /* ---- Lines: the transport's thread ---- */

    static bp_view next_word(bp_view *rest) {
      const uint8_t *space = rest->size == 0 ? NULL : memchr(rest->data, ' ', rest->size);
      bp_view word = {rest->data, space != NULL ? (uint64_t)(space - rest->data) : rest->size};
      uint64_t taken = space != NULL ? word.size + 1 : word.size;
      *rest = (bp_view){rest->data + taken, rest->size - taken};
      return word;
    }

    static void ask(connection *from, bp_view line) {
      transport *self = from->transport;
      bp_view verb = next_word(&line), uri = next_word(&line);
      bp_call call = {.size = sizeof call};
      bp_completion completion = {from, node_answered, NULL};
      if (is(verb, "GET") && uri.size > 0 && line.size == 0) {
        from->is_put = false;
        self->node->read(self->instance, &call, uri, completion);
      } else if (is(verb, "PUT") && uri.size > 0 && line.size > 0) {
        uint8_t *data = malloc(line.size);
        if (data == NULL) {
          answer(from, "ERROR there is no memory", text(""));
          return;
        }
        memcpy(data, line.data, line.size);
        from->is_put = true;
        /* Whoever sends JSON to the node has checked it; this transport has not, so the node gets bytes. */
        bp_receive request = {sizeof request, BP_CONTENT_BYTES, uri, {data, line.size, data, free}};
        self->node->receive(self->instance, &call, &request, completion);
      } else {
        answer(from, "ERROR say GET URI or PUT URI DATA", text(""));
      }
    }

    static void take_line(connection *from) {
      pthread_mutex_lock(&from->transport->lock);
      bool is_free = !from->is_answering && from->sending == NULL;
      const uint8_t *end = is_free && from->received_size > 0 ? memchr(from->received, '\n', from->received_size) : NULL;
      if (end != NULL || (is_free && from->received_size == LINE_BYTES_MAX)) from->is_answering = true;
      else is_free = false;
      pthread_mutex_unlock(&from->transport->lock);
      if (!is_free) return;
      if (end == NULL) {
        from->received_size = 0;
        from->is_at_end = true;
        answer(from, "ERROR the line is too long", text(""));
        return;
      }
      bp_view line = {from->received, (uint64_t)(end - from->received)};
      size_t taken = line.size + 1;
      if (line.size > 0 && line.data[line.size - 1] == '\r') line.size--;
      /* The host copies what it keeps before it returns. */
      ask(from, line);
      from->received_size -= taken;
      memmove(from->received, from->received + taken, from->received_size);
    }

    /* Sends what there is to send, or receives what has come. */
    static void move_bytes(connection *with) {
      ssize_t count;
      if (with->sending != NULL) {
        count = send(with->descriptor, with->sending + with->sent_size, with->sending_size - with->sent_size, MSG_NOSIGNAL);
        if (count > 0) with->sent_size += (size_t)count;
        if (with->sent_size == with->sending_size) {
          free(with->sending);
          with->sending = NULL;
        }
      } else {
        count = recv(with->descriptor, with->received + with->received_size, LINE_BYTES_MAX - with->received_size, 0);
        if (count > 0) with->received_size += (size_t)count;
      }
      if (count > 0 || (count < 0 && (errno == EAGAIN || errno == EINTR))) return;
      with->is_at_end = true;
      free(with->sending);
      with->sending = NULL;
    }

    static void accept_one(transport *self) {
      int descriptor = accept4(self->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (descriptor < 0) return;
      for (int index = 0; index < CONNECTIONS_MAX; index++) {
        connection *fresh = &self->connections[index];
        if (fresh->descriptor >= 0) continue;
        uint8_t *received = malloc(LINE_BYTES_MAX);
        if (received == NULL) break;
        *fresh = (connection){.transport = self, .descriptor = descriptor, .received = received};
        __atomic_add_fetch(&self->connections_count, 1, __ATOMIC_RELAXED);
        return;
      }
      close(descriptor);
    }

    /* The lock is held: an answer may be on its way. */
    static void close_connection(connection *open) {
      close(open->descriptor);
      free(open->received);
      free(open->sending);
      open->received = open->sending = NULL;
      open->descriptor = -1;
      __atomic_sub_fetch(&open->transport->connections_count, 1, __ATOMIC_RELAXED);
    }

    /* Closes what is over and says what to wait for. Returns the poll timeout in ms, or -2 when the thread is to end. */
    static int prepare(transport *self, struct pollfd *polled) {
      int open_count = 0, timeout_ms = -1;
      pthread_mutex_lock(&self->lock);
      for (int index = 0; index < CONNECTIONS_MAX; index++) {
        connection *each = &self->connections[index];
        if (each->descriptor >= 0 && each->is_at_end && !each->is_answering && each->sending == NULL) close_connection(each);
        short events = each->sending != NULL ? POLLOUT : each->is_answering || each->is_at_end ? 0 : POLLIN;
        polled[index + 2] = (struct pollfd){events != 0 ? each->descriptor : -1, events, 0};
        if (each->descriptor >= 0) open_count++;
      }
      bool accepts = !self->is_ending && open_count < CONNECTIONS_MAX;
      polled[0] = (struct pollfd){self->wake[0], POLLIN, 0};
      polled[1] = (struct pollfd){accepts ? self->listener : -1, POLLIN, 0};
      if (self->is_ending) {
        uint64_t now = now_ns();
        uint64_t left_ms = now >= self->end_ns ? 0 : (self->end_ns - now) / 1000000 + 1;
        timeout_ms = open_count == 0 || left_ms == 0 ? -2 : left_ms > 60000 ? 60000 : (int)left_ms;
      }
      pthread_mutex_unlock(&self->lock);
      return timeout_ms;
    }

    static void *work(void *argument) {
      transport *self = argument;
      struct pollfd polled[CONNECTIONS_MAX + 2];
      for (int timeout_ms; (timeout_ms = prepare(self, polled)) != -2;) {
        if (poll(polled, CONNECTIONS_MAX + 2, timeout_ms) < 0) continue;
        char drained[64];
        if (polled[0].revents != 0 && read(self->wake[0], drained, sizeof drained) < 0 && errno != EAGAIN) break;
        for (int index = 0; index < CONNECTIONS_MAX; index++) {
          if (polled[index + 2].revents == 0) continue;
          move_bytes(&self->connections[index]);
          /* Also after sending: a line may have come together with the one before it. */
          take_line(&self->connections[index]);
        }
        if (polled[1].revents != 0) accept_one(self);
      }
      pthread_mutex_lock(&self->lock);
      for (int index = 0; index < CONNECTIONS_MAX; index++)
        if (self->connections[index].descriptor >= 0) close_connection(&self->connections[index]);
      pthread_mutex_unlock(&self->lock);
      return NULL;
    }

    /* ---- Life cycle: the control thread ---- */

    static bp_code fail(const bp_report *report, bp_code code, const char *sentence) {
      bp_diagnostic diagnostic = {sizeof diagnostic, BP_SEVERITY_ERROR, {NULL, 0}, text(sentence)};
      report->add(report->context, &diagnostic);
      return code;
    }

    /* The one setting, "port", is the kernel's: it binds the listener that manifest.json declares. */
    static bp_code configure(void *self, const bp_configuration *configuration, const bp_report *report) {
      (void)self, (void)configuration, (void)report;
      return BP_OK;
    }

    static bp_code start(void *pointer, uint64_t deadline_ns, const bp_report *report) {
      transport *self = pointer;
      (void)deadline_ns;
      const bp_listener *lender = self->host->extension(self->instance, text(BP_LISTENER_ID));
      self->node = self->host->extension(self->instance, text(BP_NODE_ID));
      bp_listener_socket socket = {.size = sizeof socket};
      if (self->node == NULL || lender == NULL || lender->borrow(self->instance, text("lines"), &socket) != BP_OK)
        return fail(report, BP_UNAVAILABLE, "the host lends no listener named \"lines\", or has no node");
      self->listener = socket.descriptor;
      if (pipe2(self->wake, O_CLOEXEC | O_NONBLOCK) != 0) {
        close(self->listener);
        return fail(report, BP_RESOURCE_EXHAUSTED, "no pipe could be made");
      }
      self->is_running = pthread_create(&self->thread, NULL, work, self) == 0;
      if (self->is_running) return BP_OK;
      close(self->listener);
      return fail(report, BP_RESOURCE_EXHAUSTED, "no thread could be started");
    }

    /* Accepts no more, gives open connections until the deadline, and joins the thread. */
    static bp_code end(transport *self, uint64_t deadline_ns) {
      if (!self->is_running) return BP_OK;
      pthread_mutex_lock(&self->lock);
      self->is_ending = true;
      self->end_ns = deadline_ns;
      pthread_mutex_unlock(&self->lock);
      wake(self);
      pthread_join(self->thread, NULL);
      self->is_running = false;
      close(self->listener);
      return BP_OK;
    }

    static bp_code quiesce(void *self, uint64_t deadline_ns, const bp_report *report) {
      (void)report;
      return end(self, deadline_ns);
    }

    static bp_code stop(void *self, uint64_t deadline_ns, const bp_report *report) {
      (void)deadline_ns, (void)report;
      return end(self, 0);
    }

    static void destroy(void *pointer) {
      transport *self = pointer;
      for (int index = 0; index < CONNECTIONS_MAX; index++) free(self->connections[index].sending);
      if (self->wake[0] >= 0) close(self->wake[0]);
      if (self->wake[1] >= 0) close(self->wake[1]);
      pthread_mutex_destroy(&self->lock);
      free(self);
    }

    static uint64_t connections(void *pointer) {
      transport *self = pointer;
      return __atomic_load_n(&self->connections_count, __ATOMIC_RELAXED);
    }

    static const bp_transport table = {.size = sizeof(bp_transport), .connections = connections};

    static const void *extension(void *self, bp_view id) {
      (void)self;
      return is(id, BP_TRANSPORT_ID) ? &table : NULL;
    }

    static const bp_plugin *create(const bp_host *host, bp_instance instance, const bp_report *report) {
      transport *self = calloc(1, sizeof *self);
      if (self == NULL) {
        fail(report, BP_RESOURCE_EXHAUSTED, "there is no memory");
        return NULL;
      }
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
      self->listener = self->wake[0] = self->wake[1] = -1;
      for (int index = 0; index < CONNECTIONS_MAX; index++) self->connections[index].descriptor = -1;
      pthread_mutex_init(&self->lock, NULL);
      return &self->plugin;
    }

    static const bp_view kinds[] = {BP_VIEW("transport")};
    static const bp_entry entry = {
        sizeof entry, BP_ABI_MAJOR, BP_ABI_MINOR, 1, BP_VIEW(PLUGIN_ID), BP_VIEW(PLUGIN_VERSION), kinds, create,
    };

    BP_EXPORT const bp_entry *backplane_plugin_v1(void) { return &entry; }

    """##
}
