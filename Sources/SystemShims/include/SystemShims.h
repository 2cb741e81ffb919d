#ifndef BACKPLANE_SYSTEM_SHIMS_H
#define BACKPLANE_SYSTEM_SHIMS_H

#include <stdbool.h>

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

#endif
