#ifndef HEAP_SHIM_H
#define HEAP_SHIM_H

#include <stdint.h>

/* Bytes that malloc has handed out and not got back, in all arenas. Swift does not see <malloc.h>. */
uint64_t heap_shim_bytes_in_use(void);

#endif
