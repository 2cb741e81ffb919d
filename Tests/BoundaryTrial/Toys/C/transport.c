/* A transport: one line with a URI in, the record's bytes out, connection closed. One connection at a time, on one
 * thread. */
#define _GNU_SOURCE /* accept4, pipe2: descriptors must not leak into children of other tests */
#include <backplane/node.h>
#include <backplane/transport.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "toy.h"

typedef struct transport {
  toy base;
  pthread_t thread;
  int listener, wake[2]; /* a byte in the pipe ends the thread */
  bool started;
  uint64_t connections;
  pthread_mutex_t lock;
  pthread_cond_t answered;
} transport;

typedef struct answer {
  transport *transport;
  int connection;
  bool done;
} answer;

static void read_done(void *context, const bp_result *result) {
  answer *answer = context;
  transport *self = answer->transport;
  const char *text = "none";
  bp_view data = view_of(text);
  if (result->code == BP_OK) data = ((const bp_read_result *)(const void *)result)->record.data;
  /* Small enough for the socket's buffer, so this does not block. */
  if (send(answer->connection, data.data, data.size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) errno = 0;
  pthread_mutex_lock(&self->lock);
  answer->done = true;
  pthread_cond_signal(&self->answered);
  pthread_mutex_unlock(&self->lock);
}

static void serve(transport *self, int connection) {
  uint8_t line[256];
  size_t size = 0;
  while (size < sizeof line && (size == 0 || line[size - 1] != '\n')) {
    struct pollfd both[2] = {{connection, POLLIN, 0}, {self->wake[0], POLLIN, 0}};
    if (poll(both, 2, -1) < 0 || both[1].revents != 0) return;
    ssize_t got = recv(connection, line + size, sizeof line - size, 0);
    if (got <= 0) return;
    size += (size_t)got;
  }
  const bp_node *node = self->base.host->extension(self->base.instance, view_of(BP_NODE_ID));
  if (node == NULL) return;
  answer answer = {self, connection, false};
  bp_call header = {sizeof header, 0, 0, 0, 0, 0, 0, 0, 0, 0, view_of("toy client")};
  bp_completion completion = {&answer, read_done, NULL};
  bp_view uri = {line, size - 1};
  node->read(self->base.instance, &header, uri, completion);
  pthread_mutex_lock(&self->lock);
  while (!answer.done) pthread_cond_wait(&self->answered, &self->lock);
  pthread_mutex_unlock(&self->lock);
}

static void *work(void *argument) {
  transport *self = argument;
  for (;;) {
    struct pollfd both[2] = {{self->listener, POLLIN, 0}, {self->wake[0], POLLIN, 0}};
    if (poll(both, 2, -1) < 0 && errno != EINTR) break;
    if (both[1].revents != 0) break;
    if (both[0].revents == 0) continue;
    int connection = accept4(self->listener, NULL, NULL, SOCK_CLOEXEC);
    if (connection < 0) continue;
    __atomic_add_fetch(&self->connections, 1, __ATOMIC_RELAXED);
    serve(self, connection);
    close(connection);
    __atomic_sub_fetch(&self->connections, 1, __ATOMIC_RELAXED);
  }
  return NULL;
}

static bp_code start(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  transport *self = pointer;
  (void)deadline_ns;
  const bp_listener *listener = self->base.host->extension(self->base.instance, view_of(BP_LISTENER_ID));
  bp_listener_socket socket = {sizeof socket, -1, 0, 0};
  if (listener == NULL || listener->borrow(self->base.instance, view_of("toy"), &socket) != BP_OK) {
    toy_report(report, "", "the host lends no listener named toy");
    return BP_NOT_FOUND;
  }
  self->listener = socket.descriptor;
  if (pipe2(self->wake, O_CLOEXEC) != 0 || pthread_create(&self->thread, NULL, work, self) != 0) {
    toy_report(report, "", "no pipe or no thread");
    close(self->listener);
    return BP_RESOURCE_EXHAUSTED;
  }
  self->started = true;
  return BP_OK;
}

/* Ends the thread, and with it accepting. */
static bp_code quiesce(void *pointer, uint64_t deadline_ns, const bp_report *report) {
  transport *self = pointer;
  (void)deadline_ns, (void)report;
  if (!self->started) return BP_OK;
  self->started = false;
  if (write(self->wake[1], "x", 1) != 1) return BP_INTERNAL;
  pthread_join(self->thread, NULL);
  close(self->listener);
  close(self->wake[0]);
  close(self->wake[1]);
  return BP_OK;
}

static uint64_t connections(void *pointer) {
  transport *self = pointer;
  return __atomic_load_n(&self->connections, __ATOMIC_RELAXED);
}

static const bp_transport table = {sizeof table, 0, connections};

static const void *extension(void *self, bp_view id) {
  (void)self;
  return view_is(id, BP_TRANSPORT_ID) ? &table : NULL;
}

static const bp_plugin *create(const bp_host *host, bp_instance instance, const bp_report *report) {
  transport *self = (transport *)toy_make(sizeof *self, host, instance, extension);
  if (self == NULL) {
    toy_report(report, "", "out of memory");
    return NULL;
  }
  pthread_mutex_init(&self->lock, NULL);
  pthread_cond_init(&self->answered, NULL);
  self->base.plugin.start = start;
  self->base.plugin.quiesce = quiesce;
  self->base.plugin.stop = quiesce;
  return &self->base.plugin;
}

TOY_ENTRY("org.example.toy.transport", "transport", create)
