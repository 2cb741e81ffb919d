#ifndef BACKPLANE_SYSTEM_SHIMS_H
#define BACKPLANE_SYSTEM_SHIMS_H

#include <stdbool.h>
#include <stdint.h>

#include "JournalShim.h"
#include "Marks.h"

/* What glibc has and Swift's Glibc module does not. Every function answers -1 and sets errno on failure. */

/* A counter to wake a poll with: non-blocking, close-on-exec. The caller closes it. */
int bp_shim_eventfd(void);

/* Adds one to the counter of an eventfd. Any thread, and signal handlers too. */
int bp_shim_eventfd_signal(int descriptor);

/* Mount facts of the filesystem that an open descriptor is on. */
struct bp_shim_mount_flags {
  bool no_exec;
  bool read_only;
};
int bp_shim_mount_flags(int descriptor, struct bp_shim_mount_flags *flags);

/* Names the calling thread, for ps and debuggers; at most 15 bytes count. */
void bp_shim_name_thread(const char *name);

/* A pipe whose ends are close-on-exec; the read end first. */
int bp_shim_pipe(int32_t descriptors[2]);

/* The next connection, close-on-exec. */
int bp_shim_accept(int descriptor);

/* The path of the image that holds an address, or NULL. Belongs to the loader. */
const char *bp_shim_image_of(const void *address);

/* In a child: be killed when the thread that spawned us ends. -1 when the parent has gone already. */
int bp_shim_die_with_parent(int parent);

/* A descriptor for a child process, so that it is never another's process that is killed. Close-on-exec. */
int bp_shim_pidfd_open(int process);
int bp_shim_pidfd_kill(int descriptor, int signal);

/* A counter of the instructions that the calling thread executes in user mode: a descriptor to read 64 bits from. -1
 * where the system does not let us (perf_event_paranoid, a container). The caller closes it. */
int bp_shim_instruction_counter(void);

/* Waits for and reaps the process: its exit status, or the signal that ended it (else 0). */
int bp_shim_pidfd_wait(int descriptor, int *signal, int *status);

/* Likewise, but leaves it to be reaped. */
int bp_shim_pidfd_peek(int descriptor, int *signal, int *status);

/* Waits until the other end of a stream socket is gone (1); with `half` also until it sends no more (0). */
int bp_shim_wait_hang_up(int socket, bool half);

/* From now on a process that loses its parent, and descends from us, has us as its parent. Kept over execve. */
int bp_shim_adopt_orphans(void);

#include "IsolationShims.h"

#endif
