#define _GNU_SOURCE
#include "SystemShims.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/statvfs.h>
#include <unistd.h>

int bp_shim_eventfd(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

int bp_shim_eventfd_signal(int descriptor) {
  uint64_t one = 1;
  ssize_t written;
  do {
    written = write(descriptor, &one, sizeof one);
  } while (written < 0 && errno == EINTR);
  /* EAGAIN means that the counter is full, so the reader is being woken already. */
  return written == (ssize_t)sizeof one || errno == EAGAIN ? 0 : -1;
}

int bp_shim_mount_flags(int descriptor, struct bp_shim_mount_flags *flags) {
  struct statvfs facts;
  int answer;
  do {
    answer = fstatvfs(descriptor, &facts);
  } while (answer < 0 && errno == EINTR);
  if (answer < 0) return -1;
  flags->no_exec = (facts.f_flag & ST_NOEXEC) != 0;
  flags->read_only = (facts.f_flag & ST_RDONLY) != 0;
  return 0;
}

void bp_shim_name_thread(const char *name) {
  char shortened[16];
  strncpy(shortened, name, sizeof shortened - 1);
  shortened[sizeof shortened - 1] = '\0';
  pthread_setname_np(pthread_self(), shortened);
}
