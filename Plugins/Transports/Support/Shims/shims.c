#define _GNU_SOURCE
#include "TransportShims.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

int transport_accept(int listener) { return accept4(listener, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC); }

int transport_pipe(int *reader, int *writer) {
  int ends[2];
  if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0) return -1;
  *reader = ends[0];
  *writer = ends[1];
  return 0;
}

void transport_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }
