/* System calls that Swift's Glibc module leaves out. */
#ifndef BACKPLANE_FILES_SHIMS_H
#define BACKPLANE_FILES_SHIMS_H

/* openat2 with O_CLOEXEC: `path` is resolved below `directory` and never over a symbolic link, wherever in the path it
 * stands. A descriptor, or -1 with errno: ELOOP for a link, EXDEV for a path that leads out. */
int files_open_beneath(int directory, const char *path, int flags, unsigned mode);

/* O_PATH and O_DIRECTORY: a directory that names are looked up in. */
int files_directory_flags(void);

/* flock, exclusive and without waiting; 0, or -1 with errno. */
int files_lock(int descriptor);

/* Everything that was written to the filesystem of `descriptor` is on the disk; 0, or -1 with errno. */
int files_sync_filesystem(int descriptor);

#endif
