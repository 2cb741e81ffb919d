/* What two processes can exchange with nothing else in the way, by a Unix socket and by rings in shared memory: the limit
 * of isolated plugins. Usage: bare socket|ring REQUEST-BYTES REPLY-BYTES WINDOW SECONDS [CORE-OF-THE-OTHER]. Prints a
 * JSON object.
 *
 * Both are at their best: many messages for each system call or wake-up, nobody spins, each side owns what it has
 * received (the ring's bytes are copied out, as they must be where the sender is not trusted). */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HEADER_BYTES 16
#define BUFFER_BYTES (1 << 20)
#define SAMPLES_MAX 4000000

static uint64_t now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* One direction. */
typedef struct stream {
  int descriptor; /* socket; -1: ring */
  struct ring *ring;
  char *buffer;
  size_t start, end;
} stream;

#define RING_BYTES (4u << 20)
typedef struct ring {
  _Atomic uint32_t written, read; /* counts of bytes, modulo 2^32 */
  char pad[56];
  _Atomic uint32_t reader_sleeps, writer_sleeps;
  char pad2[56];
  char bytes[RING_BYTES];
} ring;

static void futex_wait(_Atomic uint32_t *word, uint32_t seen) { syscall(SYS_futex, word, FUTEX_WAIT, seen, NULL, NULL, 0); }
static void futex_wake(_Atomic uint32_t *word) { syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0); }

static void ring_write(ring *ring, const char *bytes, size_t count, bool flush) {
  uint32_t written = atomic_load_explicit(&ring->written, memory_order_relaxed);
  while (count > 0) {
    uint32_t read = atomic_load(&ring->read);
    uint32_t room = RING_BYTES - (written - read);
    if (room == 0) {
      atomic_store(&ring->writer_sleeps, 1);
      if (atomic_load(&ring->read) == read) futex_wait(&ring->read, read);
      atomic_store(&ring->writer_sleeps, 0);
      continue;
    }
    uint32_t at = written & (RING_BYTES - 1);
    size_t part = count < room ? count : room;
    if (part > RING_BYTES - at) part = RING_BYTES - at;
    memcpy(ring->bytes + at, bytes, part);
    bytes += part;
    count -= part;
    written += (uint32_t)part;
    atomic_store(&ring->written, written);
    if ((count > 0 || flush) && atomic_load(&ring->reader_sleeps) != 0) futex_wake(&ring->written);
  }
}

static size_t ring_read(ring *ring, char *bytes, size_t count) {
  uint32_t read = atomic_load_explicit(&ring->read, memory_order_relaxed);
  uint32_t written;
  while ((written = atomic_load(&ring->written)) == read) {
    atomic_store(&ring->reader_sleeps, 1);
    if (atomic_load(&ring->written) == read) futex_wait(&ring->written, read);
    atomic_store(&ring->reader_sleeps, 0);
  }
  uint32_t at = read & (RING_BYTES - 1);
  size_t part = written - read < count ? written - read : count;
  if (part > RING_BYTES - at) part = RING_BYTES - at;
  memcpy(bytes, ring->bytes + at, part);
  atomic_store(&ring->read, read + (uint32_t)part);
  if (atomic_load(&ring->writer_sleeps) != 0) futex_wake(&ring->read);
  return part;
}

static size_t receive(stream *in, char *bytes, size_t count) {
  if (in->descriptor < 0) return ring_read(in->ring, bytes, count);
  ssize_t got = read(in->descriptor, bytes, count);
  if (got <= 0) exit(0);
  return (size_t)got;
}

/* The next message, waited for: its id. Its bytes lie in the buffer until the next call. */
static bool has_message(const stream *in) {
  uint32_t size;
  if (in->end - in->start < HEADER_BYTES) return false;
  memcpy(&size, in->buffer + in->start, 4);
  return in->end - in->start >= HEADER_BYTES + size;
}

static uint64_t next_message(stream *in) {
  while (!has_message(in)) {
    if (in->start > 0) {
      memmove(in->buffer, in->buffer + in->start, in->end - in->start);
      in->end -= in->start;
      in->start = 0;
    }
    in->end += receive(in, in->buffer + in->end, BUFFER_BYTES - in->end);
  }
  uint32_t size;
  uint64_t id;
  memcpy(&size, in->buffer + in->start, 4);
  memcpy(&id, in->buffer + in->start + 8, 8);
  in->start += HEADER_BYTES + size;
  return id;
}

typedef struct writer {
  stream out;
  char *pending;
  size_t count;
} writer;

static void flush(writer *writer) {
  size_t done = 0;
  if (writer->out.descriptor < 0) {
    ring_write(writer->out.ring, writer->pending, writer->count, true);
  } else {
    while (done < writer->count) {
      ssize_t sent = send(writer->out.descriptor, writer->pending + done, writer->count - done, MSG_NOSIGNAL);
      if (sent < 0) exit(0);
      done += (size_t)sent;
    }
  }
  writer->count = 0;
}

static void send_message(writer *writer, uint64_t id, const char *payload, uint32_t size) {
  if (writer->count + HEADER_BYTES + size > BUFFER_BYTES) flush(writer);
  char header[HEADER_BYTES] = {0};
  memcpy(header, &size, 4);
  memcpy(header + 8, &id, 8);
  if (writer->out.descriptor < 0 && size >= 4096) {
    /* Straight into the ring: no copy in between. */
    ring_write(writer->out.ring, header, HEADER_BYTES, false);
    ring_write(writer->out.ring, payload, size, true);
    return;
  }
  memcpy(writer->pending + writer->count, header, HEADER_BYTES);
  memcpy(writer->pending + writer->count + HEADER_BYTES, payload, size);
  writer->count += HEADER_BYTES + size;
}

static int compare(const void *left, const void *right) {
  uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
  return a < b ? -1 : a > b;
}

int main(int count, char **arguments) {
  if (count != 6 && count != 7) return 64;
  bool is_ring = strcmp(arguments[1], "ring") == 0;
  uint32_t request = (uint32_t)atoi(arguments[2]), reply = (uint32_t)atoi(arguments[3]);
  int window = atoi(arguments[4]);
  double seconds = atof(arguments[5]);
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return 71;
  for (int index = 0; index < 2; index++) {
    int bytes = 1 << 20;
    setsockopt(pair[index], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  }
  ring *rings = mmap(NULL, 2 * sizeof(ring), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  char *payload = calloc(1, BUFFER_BYTES);
  pid_t child = fork();
  int side = child == 0;
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (count == 7) {
      cpu_set_t cores;
      CPU_ZERO(&cores);
      CPU_SET(atoi(arguments[6]), &cores);
      if (sched_setaffinity(0, sizeof cores, &cores) != 0) return 71;
    }
    close(pair[0]);
  } else {
    close(pair[1]);
  }
  stream in = {is_ring ? -1 : pair[side], &rings[!side], malloc(BUFFER_BYTES), 0, 0};
  writer out = {{is_ring ? -1 : pair[side], &rings[side], NULL, 0, 0}, malloc(BUFFER_BYTES), 0};
  if (child == 0) {
    for (;;) {
      send_message(&out, next_message(&in), payload, reply);
      if (!has_message(&in)) flush(&out);
    }
  }
  uint64_t *samples = malloc(SAMPLES_MAX * sizeof *samples);
  uint64_t *begun = calloc((size_t)window, sizeof *begun);
  uint64_t start = now_ns(), warm = start + 200000000u, end = warm + (uint64_t)(seconds * 1e9), answered = 0, taken = 0;
  for (int id = 0; id < window; id++) {
    begun[id] = now_ns();
    send_message(&out, (uint64_t)id, payload, request);
  }
  flush(&out);
  uint64_t now = start;
  while (now < end) {
    uint64_t id = next_message(&in);
    now = now_ns();
    if (now >= warm) {
      answered++;
      if (taken < SAMPLES_MAX) samples[taken++] = now - begun[id];
    }
    begun[id] = now;
    send_message(&out, id, payload, request);
    if (!has_message(&in)) flush(&out);
  }
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  qsort(samples, taken, sizeof *samples, compare);
  printf("{\"p50_ns\":%llu,\"p99_ns\":%llu,\"per_second\":%.0f}\n", (unsigned long long)samples[taken / 2],
         (unsigned long long)samples[taken * 99 / 100], (double)answered / ((double)(now - warm) / 1e9));
  return 0;
}
