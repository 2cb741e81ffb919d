/* System calls that Swift's Glibc module leaves out. Each sets close-on-exec in the same step: the process that this
 * plugin lives in starts children at any time. */
#ifndef BACKPLANE_TRANSPORT_SHIMS_H
#define BACKPLANE_TRANSPORT_SHIMS_H

/* accept4 with SOCK_NONBLOCK and SOCK_CLOEXEC; a descriptor, or -1 with errno. */
int transport_accept(int listener);

/* pipe2 with O_NONBLOCK and O_CLOEXEC; 0, or -1 with errno. */
int transport_pipe(int *reader, int *writer);

/* Names the calling thread for debuggers; at most 15 bytes count. */
void transport_name_thread(const char *name);

#endif
