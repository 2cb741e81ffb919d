#define _GNU_SOURCE
#include "FilesShims.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

int files_open_beneath(int directory, const char *path, int flags, unsigned mode) {
  struct open_how how = {
      .flags = (unsigned)(flags | O_CLOEXEC),
      .mode = mode,
      .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
  };
  for (;;) {
    long descriptor = syscall(SYS_openat2, directory, path, &how, sizeof how);
    /* EAGAIN: a directory on the way was renamed meanwhile. */
    if (descriptor >= 0 || (errno != EINTR && errno != EAGAIN)) return (int)descriptor;
  }
}

int files_directory_flags(void) { return O_PATH | O_DIRECTORY; }

int files_lock(int descriptor) { return flock(descriptor, LOCK_EX | LOCK_NB); }

int files_sync_filesystem(int descriptor) { return syncfs(descriptor); }
