#include "HeapShim.h"

#include <malloc.h>

uint64_t heap_shim_bytes_in_use(void) {
  struct mallinfo2 info = mallinfo2();
  return (uint64_t)info.uordblks + (uint64_t)info.hblkhd;
}
