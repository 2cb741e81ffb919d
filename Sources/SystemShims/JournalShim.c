#define _GNU_SOURCE
#include "JournalShim.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int bp_shim_datagram_socket(void) { return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0); }

static int send_message(int descriptor, struct msghdr *message) {
  ssize_t sent;
  do {
    sent = sendmsg(descriptor, message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent < 0 ? -1 : 0;
}

/* A memory file that nobody can change any more, as journald demands; the caller closes it. */
static int sealed_file(const char *bytes, size_t size_bytes) {
  int file = memfd_create("backplane-journal", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (file < 0) return -1;
  size_t done = 0;
  while (done < size_bytes) {
    ssize_t written = write(file, bytes + done, size_bytes - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) goto failed;
    done += (size_t)written;
  }
  if (fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0) goto failed;
  return file;
failed:
  close(file);
  return -1;
}

int bp_shim_journal_send(int descriptor, const char *path, const void *entry, size_t size_bytes) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  strcpy(address.sun_path, path);
  struct iovec part = {.iov_base = (void *)entry, .iov_len = size_bytes};
  struct msghdr message = {.msg_name = &address, .msg_namelen = sizeof address, .msg_iov = &part, .msg_iovlen = 1};
  if (send_message(descriptor, &message) == 0) return 0;
  if (errno != EMSGSIZE && errno != ENOBUFS) return -1;

  int file = sealed_file(entry, size_bytes);
  if (file < 0) return -1;
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
  } control;
  memset(&control, 0, sizeof control);
  struct msghdr carrier = {
      .msg_name = &address, .msg_namelen = sizeof address, .msg_control = &control, .msg_controllen = sizeof control};
  struct cmsghdr *header = CMSG_FIRSTHDR(&carrier);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &file, sizeof file);
  int answer = send_message(descriptor, &carrier);
  int error = errno;
  close(file);
  errno = error;
  return answer;
}
