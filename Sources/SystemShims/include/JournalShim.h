#ifndef BACKPLANE_JOURNAL_SHIM_H
#define BACKPLANE_JOURNAL_SHIM_H

#include <stddef.h>

/* An unconnected, close-on-exec datagram socket of the local family. The caller closes it; -1 and errno on failure. */
int bp_shim_datagram_socket(void);

/* Hands one entry of journald's native protocol to the socket at `path`: as a datagram, or in a sealed memory file when it
 * is too large for one (https://systemd.io/JOURNAL_NATIVE_PROTOCOL). Never waits: -1 and errno (EAGAIN: journald is behind)
 * when it was not taken. */
int bp_shim_journal_send(int descriptor, const char *path, const void *entry, size_t size_bytes);

#endif
