#define _GNU_SOURCE
#include "IsolationShims.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

int bp_shim_sealed_memory(const char *name, uint64_t size_bytes) {
  int descriptor = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (descriptor < 0) return -1;
  if (ftruncate(descriptor, (off_t)size_bytes) != 0 ||
      fcntl(descriptor, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    int error = errno;
    close(descriptor);
    errno = error;
    return -1;
  }
  return descriptor;
}

int bp_shim_socket_pair(int32_t descriptors[2]) { return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, descriptors); }

long bp_shim_send(int descriptor, const void *bytes, size_t size, bool waits) {
  ssize_t sent;
  do {
    sent = send(descriptor, bytes, size, MSG_NOSIGNAL | (waits ? 0 : MSG_DONTWAIT));
  } while (sent < 0 && errno == EINTR);
  return sent;
}

int bp_shim_send_with_descriptor(int socket, const void *bytes, size_t size, int descriptor) {
  const char *rest = bytes;
  while (size > 0) {
    struct iovec part = {(void *)rest, size};
    union {
      struct cmsghdr header;
      char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (descriptor >= 0) {
      memset(&control, 0, sizeof control);
      message.msg_control = &control;
      message.msg_controllen = sizeof control.bytes;
      struct cmsghdr *header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(sizeof(int));
      memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    }
    ssize_t sent = sendmsg(socket, &message, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      return -1;
    }
    /* It has gone with the first byte. */
    descriptor = -1;
    rest += sent;
    size -= (size_t)sent;
  }
  return 0;
}

long bp_shim_receive_with_descriptor(int socket, void *bytes, size_t size, int *descriptor) {
  struct iovec part = {bytes, size};
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(16 * sizeof(int))];
  } control;
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.bytes};
  ssize_t received;
  do {
    received = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (received < 0 && errno == EINTR);
  if (received < 0) return received;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t index = 0; index < count; index++) {
      int given;
      memcpy(&given, CMSG_DATA(header) + index * sizeof given, sizeof given);
      if (descriptor != NULL && *descriptor < 0)
        *descriptor = given;
      else
        close(given);
    }
  }
  return received;
}

int bp_shim_socket_timeout(int socket, uint32_t timeout_ms) {
  struct timeval time = {.tv_sec = timeout_ms / 1000, .tv_usec = (timeout_ms % 1000) * 1000};
  if (setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) != 0) return -1;
  return setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);
}

int bp_shim_spawn_closes_from(posix_spawn_file_actions_t *actions, int first) {
  return posix_spawn_file_actions_addclosefrom_np(actions, first);
}

static int limit(__rlimit_resource_t resource, uint64_t value) {
  if (value == 0) return 0;
  struct rlimit bounds;
  if (getrlimit(resource, &bounds) != 0) return -1;
  if (bounds.rlim_max != RLIM_INFINITY && value > bounds.rlim_max) value = bounds.rlim_max;
  bounds.rlim_cur = bounds.rlim_max = value;
  /* SIGXCPU, which can be reported, before the SIGKILL of the hard limit. */
  if (resource == RLIMIT_CPU) bounds.rlim_max = value + 2;
  return setrlimit(resource, &bounds);
}

int bp_shim_limit(uint64_t memory_size_bytes_max, uint64_t descriptors_max, uint64_t cpu_seconds_max) {
  struct rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);
  if (limit(RLIMIT_DATA, memory_size_bytes_max) != 0) return -1;
  if (limit(RLIMIT_NOFILE, descriptors_max) != 0) return -1;
  return limit(RLIMIT_CPU, cpu_seconds_max);
}

void bp_shim_prefer_for_out_of_memory(void) {
  int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (file < 0) return;
  (void)!write(file, "500", 3);
  close(file);
}
