#define _GNU_SOURCE
#include "SystemShims.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
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

int bp_shim_die_with_parent(int parent) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return -1;
  /* The parent may have gone before the line above took effect. */
  return getppid() == parent ? 0 : -1;
}

int bp_shim_pidfd_open(int process) { return (int)syscall(SYS_pidfd_open, process, 0); }

int bp_shim_pidfd_kill(int descriptor, int signal) {
  return (int)syscall(SYS_pidfd_send_signal, descriptor, signal, NULL, 0);
}

int bp_shim_pidfd_wait(int descriptor, int *signal, int *status) {
  siginfo_t info;
  memset(&info, 0, sizeof info);
  int answer;
  do {
    answer = waitid(P_PIDFD, (id_t)descriptor, &info, WEXITED);
  } while (answer < 0 && errno == EINTR);
  if (answer < 0) return -1;
  *signal = info.si_code == CLD_EXITED ? 0 : info.si_status;
  *status = info.si_code == CLD_EXITED ? info.si_status : 0;
  return 0;
}

int bp_shim_instruction_counter(void) {
  struct perf_event_attr wanted;
  memset(&wanted, 0, sizeof wanted);
  wanted.type = PERF_TYPE_HARDWARE;
  wanted.size = sizeof wanted;
  wanted.config = PERF_COUNT_HW_INSTRUCTIONS;
  wanted.exclude_kernel = 1;
  wanted.exclude_hv = 1;
  return (int)syscall(SYS_perf_event_open, &wanted, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

int bp_shim_pipe(int32_t descriptors[2]) { return pipe2(descriptors, O_CLOEXEC); }

int bp_shim_accept(int descriptor) { return accept4(descriptor, NULL, NULL, SOCK_CLOEXEC); }

const char *bp_shim_image_of(const void *address) {
  Dl_info info;
  return dladdr(address, &info) != 0 ? info.dli_fname : NULL;
}

int bp_shim_adopt_orphans(void) { return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); }

int bp_shim_pidfd_peek(int descriptor, int *signal, int *status) {
  siginfo_t info;
  memset(&info, 0, sizeof info);
  int answer;
  do {
    answer = waitid(P_PIDFD, (id_t)descriptor, &info, WEXITED | WNOWAIT);
  } while (answer < 0 && errno == EINTR);
  if (answer < 0) return -1;
  *signal = info.si_code == CLD_EXITED ? 0 : info.si_status;
  *status = info.si_code == CLD_EXITED ? info.si_status : 0;
  return 0;
}

int bp_shim_wait_hang_up(int socket, bool half) {
  struct pollfd polled = {.fd = socket, .events = half ? POLLRDHUP : 0};
  int answer;
  do {
    answer = poll(&polled, 1, -1);
  } while (answer < 0 && errno == EINTR);
  if (answer < 0) return -1;
  return (polled.revents & (POLLHUP | POLLERR)) != 0 ? 1 : 0;
}
