#ifndef BACKPLANE_ISOLATION_SHIMS_H
#define BACKPLANE_ISOLATION_SHIMS_H

#include <spawn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What isolated plugins need of the system. Every function answers -1 and sets errno on failure. */

/* Memory behind a descriptor, of a size that nobody can change any more: whoever maps it is never hit by a shortened
 * file. Close-on-exec. */
int bp_shim_sealed_memory(const char *name, uint64_t size_bytes);

/* Two connected stream sockets, close-on-exec. */
int bp_shim_socket_pair(int32_t descriptors[2]);

/* Sends what fits of `size` bytes without a SIGPIPE. Does not wait when `waits` is false (then EAGAIN). */
long bp_shim_send(int descriptor, const void *bytes, size_t size, bool waits);

/* Sends `size` bytes with one descriptor beside them (none when it is negative). All or -1. */
int bp_shim_send_with_descriptor(int socket, const void *bytes, size_t size, int descriptor);

/* Receives up to `size` bytes, and a descriptor when one came with them (else -1). Close-on-exec; what else came is
 * closed. */
long bp_shim_receive_with_descriptor(int socket, void *bytes, size_t size, int *descriptor);

/* Bounds how long send and receive may wait. */
int bp_shim_socket_timeout(int socket, uint32_t timeout_ms);

/* The child closes every descriptor from `first` on. */
int bp_shim_spawn_closes_from(posix_spawn_file_actions_t *actions, int first);

/* In a child: bounds of this process. 0: none. `memory` is what it may allocate (RLIMIT_DATA). No core is written. */
int bp_shim_limit(uint64_t memory_size_bytes_max, uint64_t descriptors_max, uint64_t cpu_seconds_max);

/* In a child: the first to go when the machine has no memory left. */
void bp_shim_prefer_for_out_of_memory(void);

/* From now on a fatal signal writes where it happened to `descriptor` before the process dies of it:
 *   signal NUMBER address
 *   frame PROGRAM-COUNTER OFFSET-IN-IMAGE SYMBOL IMAGE     (SYMBOL is - when the image names none)
 * each on a line, numbers in hexadecimal, innermost first, at most `frames_max`. */
int bp_shim_report_crashes(int descriptor, int frames_max);

/* Gives the calling thread a stack of its own for the report, so that an overflow of its stack is reported too. */
void bp_shim_report_crashes_of_this_thread(void);

#endif
