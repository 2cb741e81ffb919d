#define _GNU_SOURCE
#include "Marks.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

/* The marks until a file takes their place, and the addresses of those that lie in the file afterwards. */
static unsigned char memory[BP_MARKS_SIZE_BYTES] __attribute__((aligned(65536)));

_Static_assert(sizeof(struct bp_marks_header) <= BP_MARKS_CRASH_OFFSET, "the header has its place");
_Static_assert(BP_MARKS_CRASH_OFFSET + sizeof(struct bp_crash) <= BP_MARKS_THREADS_OFFSET, "the crash has its place");

struct bp_marks_header *bp_marks_header(void) { return (struct bp_marks_header *)(memory + BP_MARKS_HEADER_OFFSET); }

static struct bp_crash *crash_record(void) { return (struct bp_crash *)(memory + BP_MARKS_CRASH_OFFSET); }

struct bp_thread_mark *bp_marks_thread(uint32_t index) {
  return (struct bp_thread_mark *)(memory + BP_MARKS_THREADS_OFFSET) + index;
}

struct bp_mark_instance *bp_marks_instance(uint32_t index) {
  return (struct bp_mark_instance *)(memory + BP_MARKS_INSTANCES_OFFSET) + index;
}

struct bp_mark_image *bp_marks_image(uint32_t index) {
  return (struct bp_mark_image *)(memory + BP_MARKS_IMAGES_OFFSET) + index;
}

/* ------------------------------------------------------------------------------------------------------------------
 * Threads
 */

_Thread_local struct bp_thread_mark *bp_thread_mark_own;

/* For a thread that found every entry taken. */
static _Thread_local struct bp_thread_mark spilled;

/* Enough for our handler and for a backtracer's that we chain to. Only what is used is ever backed by memory. */
#define SIGNAL_STACK_BYTES (64 * 1024)

/* The signal stacks of the entries: mapped when first needed, then kept for the entry's next thread. */
static void *signal_stacks[BP_MARKS_THREADS_MAX];
static _Atomic uint32_t next_entry;
static pthread_key_t thread_key;
static pthread_once_t thread_key_once = PTHREAD_ONCE_INIT;

static void disable_signal_stack(const void *ours) {
  stack_t current;
  if (ours == NULL || sigaltstack(NULL, &current) != 0 || current.ss_sp != ours) return;
  stack_t none = {.ss_flags = SS_DISABLE};
  sigaltstack(&none, NULL);
}

static void *map_signal_stack(void) {
  void *stack = mmap(NULL, SIGNAL_STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return stack == MAP_FAILED ? NULL : stack;
}

/* False when the thread has one of somebody else's already, which will do. */
static bool use_signal_stack(void *stack) {
  stack_t current;
  if (stack == NULL || sigaltstack(NULL, &current) != 0 || !(current.ss_flags & SS_DISABLE)) return false;
  stack_t ours = {.ss_sp = stack, .ss_size = SIGNAL_STACK_BYTES};
  return sigaltstack(&ours, NULL) == 0;
}

/* The key's value: an entry, or the signal stack of a thread without one (distinguished by its address). */
static void thread_ends(void *value) {
  unsigned char *address = value;
  bp_thread_mark_own = NULL;
  if (address < memory || address >= memory + sizeof memory) {
    disable_signal_stack(value);
    if (value != (void *)&thread_key) munmap(value, SIGNAL_STACK_BYTES);
    return;
  }
  struct bp_thread_mark *entry = value;
  disable_signal_stack(signal_stacks[entry - bp_marks_thread(0)]);
  entry->word = 0;
  entry->nesting = 0;
  __atomic_store_n(&entry->thread, 0, __ATOMIC_RELEASE);
}

static void make_thread_key(void) { pthread_key_create(&thread_key, thread_ends); }

static struct bp_thread_mark *take_entry(int32_t thread) {
  uint32_t first = atomic_fetch_add_explicit(&next_entry, 1, memory_order_relaxed);
  for (uint32_t offset = 0; offset < BP_MARKS_THREADS_MAX; offset++) {
    struct bp_thread_mark *entry = bp_marks_thread((first + offset) % BP_MARKS_THREADS_MAX);
    int32_t expected = 0;
    if (__atomic_load_n(&entry->thread, __ATOMIC_RELAXED) != 0) continue;
    if (__atomic_compare_exchange_n(&entry->thread, &expected, thread, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
      return entry;
    }
  }
  return NULL;
}

struct bp_thread_mark *bp_thread_mark_enter(void) {
  pthread_once(&thread_key_once, make_thread_key);
  int32_t thread = (int32_t)syscall(SYS_gettid);
  struct bp_thread_mark *entry = take_entry(thread);
  void *value = entry;
  if (entry == NULL) {
    __atomic_add_fetch(&bp_marks_header()->spilled_threads, 1, __ATOMIC_RELAXED);
    entry = &spilled;
    memset(entry, 0, sizeof *entry);
    entry->thread = thread;
    void *stack = map_signal_stack();
    if (stack != NULL && !use_signal_stack(stack)) {
      munmap(stack, SIGNAL_STACK_BYTES);
      stack = NULL;
    }
    /* Any value but NULL, so that the destructor runs. */
    value = stack != NULL ? stack : (void *)&thread_key;
  } else {
    ptrdiff_t index = entry - bp_marks_thread(0);
    if (signal_stacks[index] == NULL) signal_stacks[index] = map_signal_stack();
    use_signal_stack(signal_stacks[index]);
  }
  bp_thread_mark_own = entry;
  pthread_setspecific(thread_key, value);
  return entry;
}

/* ------------------------------------------------------------------------------------------------------------------
 * The file
 */

static struct bp_marks_call_layout call_layout;
static int32_t own_process;
static bool is_open;

int bp_marks_open(int descriptor, struct bp_marks_call_layout layout) {
  /* Allocated now: a store into a hole of a full disk would be a SIGBUS. */
  int error = posix_fallocate(descriptor, 0, BP_MARKS_SIZE_BYTES);
  if (error != 0) {
    errno = error;
    return -1;
  }
  struct bp_marks_header *header = bp_marks_header();
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  memset(crash_record(), 0, sizeof(struct bp_crash));
  memcpy(header->magic, "BPMARKS", sizeof header->magic);
  header->format = BP_MARKS_FORMAT;
  header->size_bytes = BP_MARKS_SIZE_BYTES;
  header->process = own_process = getpid();
  header->state = BP_MARKS_RUNNING;
  header->started_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
  for (size_t written = 0; written < sizeof memory;) {
    ssize_t count = pwrite(descriptor, memory + written, sizeof memory - written, (off_t)written);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return -1;
    written += (size_t)count;
  }
  void *mapped = mmap(memory, sizeof memory, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, descriptor, 0);
  if (mapped == MAP_FAILED) return -1;
  call_layout = layout;
  is_open = true;
  return 0;
}

bool bp_marks_is_open(void) { return is_open; }

/* ------------------------------------------------------------------------------------------------------------------
 * Images
 */

static void copy_text(char *target, size_t size, const char *source) {
  size_t length = strnlen(source, size - 1);
  memcpy(target, source, length);
  target[length] = '\0';
}

struct bp_mark_image *bp_marks_image_of(const void *address) {
  uint64_t value = (uint64_t)(uintptr_t)address;
  for (uint32_t index = 0; index < BP_MARKS_IMAGES_MAX; index++) {
    struct bp_mark_image *image = bp_marks_image(index);
    uint64_t start = __atomic_load_n(&image->start, __ATOMIC_ACQUIRE);
    if (start == 0) return NULL;
    if (value >= start && value < image->end) return image;
  }
  return NULL;
}

static int note_image(struct dl_phdr_info *info, size_t size, void *context) {
  (void)size;
  (void)context;
  uint64_t start = UINT64_MAX, end = 0;
  for (int index = 0; index < info->dlpi_phnum; index++) {
    const ElfW(Phdr) *header = &info->dlpi_phdr[index];
    if (header->p_type != PT_LOAD || !(header->p_flags & PF_X)) continue;
    uint64_t begin = info->dlpi_addr + header->p_vaddr;
    if (begin < start) start = begin;
    if (begin + header->p_memsz > end) end = begin + header->p_memsz;
  }
  if (end == 0 || bp_marks_image_of((const void *)(uintptr_t)start) != NULL) return 0;
  for (uint32_t index = 0; index < BP_MARKS_IMAGES_MAX; index++) {
    struct bp_mark_image *image = bp_marks_image(index);
    if (image->start != 0) continue;
    image->end = end;
    image->bias = info->dlpi_addr;
    const char *name = info->dlpi_name != NULL ? info->dlpi_name : "";
    char own[sizeof image->path];
    if (name[0] == '\0' && info->dlpi_phnum > 0) {
      ssize_t count = readlink("/proc/self/exe", own, sizeof own - 1);
      own[count > 0 ? count : 0] = '\0';
      name = own;
    }
    copy_text(image->path, sizeof image->path, name);
    __atomic_store_n(&image->start, start, __ATOMIC_RELEASE);
    return 0;
  }
  return 1;
}

void bp_marks_note_images(void) { dl_iterate_phdr(note_image, NULL); }

/* ------------------------------------------------------------------------------------------------------------------
 * Fatal signals. Everything below is async-signal-safe: plain memory, and system calls.
 */

static const int fatal_signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGABRT, SIGSYS};
#define FATAL_SIGNALS_COUNT (sizeof fatal_signals / sizeof fatal_signals[0])
static struct sigaction previous[FATAL_SIGNALS_COUNT];

bool bp_marks_peek(const void *address, void *target, uint64_t size) {
  struct iovec local = {target, size};
  struct iovec remote = {(void *)address, size};
  return syscall(SYS_process_vm_readv, (long)getpid(), &local, 1L, &remote, 1L, 0L) == (long)size;
}

uint64_t bp_crash_checksum(const struct bp_crash *crash) {
  const unsigned char *bytes = (const unsigned char *)crash;
  uint64_t sum = 14695981039346656037u;
  /* Without `state`, which changes when the rest is complete. */
  for (size_t index = sizeof crash->state; index < offsetof(struct bp_crash, checksum); index++) {
    sum = (sum ^ bytes[index]) * 1099511628211u;
  }
  return sum;
}

static void registers(const ucontext_t *context, uint64_t *counter, uint64_t *frame, uint64_t *stack) {
#if defined(__x86_64__)
  *counter = (uint64_t)context->uc_mcontext.gregs[REG_RIP];
  *frame = (uint64_t)context->uc_mcontext.gregs[REG_RBP];
  *stack = (uint64_t)context->uc_mcontext.gregs[REG_RSP];
#elif defined(__aarch64__)
  *counter = context->uc_mcontext.pc;
  *frame = context->uc_mcontext.regs[29];
  *stack = context->uc_mcontext.sp;
#else
#error "this kernel knows x86-64 and AArch64"
#endif
}

static void walk_frames(struct bp_crash *crash, const ucontext_t *context) {
  uint64_t counter, frame, stack;
  registers(context, &counter, &frame, &stack);
  crash->frames[crash->frames_count++] = counter;
#if defined(__aarch64__)
  /* A leaf's return address is in the link register only. */
  crash->frames[crash->frames_count++] = context->uc_mcontext.regs[30];
#endif
  while (crash->frames_count < BP_MARKS_FRAMES_MAX && frame != 0 && frame % 8 == 0) {
    uint64_t pair[2];
    if (!bp_marks_peek((const void *)(uintptr_t)frame, pair, sizeof pair) || pair[1] == 0) break;
    crash->frames[crash->frames_count++] = pair[1];
    if (pair[0] <= frame) break;
    frame = pair[0];
  }
  uint64_t words[64];
  for (uint32_t page = 0; page < 64; page++) {
    if (!bp_marks_peek((const void *)(uintptr_t)(stack + page * sizeof words), words, sizeof words)) return;
    for (uint32_t index = 0; index < 64; index++) {
      const struct bp_mark_image *image = bp_marks_image_of((const void *)(uintptr_t)words[index]);
      if (image == NULL || (image->plugin[0] == '\0' && image != bp_marks_image(0))) continue;
      crash->candidates[crash->candidates_count++] = words[index];
      if (crash->candidates_count == BP_MARKS_CANDIDATES_MAX) return;
    }
  }
}

static void copy_call(struct bp_crash *crash) {
  const unsigned char *call = crash->mark.call;
  if (call == NULL) return;
  bp_marks_peek(call + call_layout.trace_id_high, &crash->trace_id_high, sizeof crash->trace_id_high);
  bp_marks_peek(call + call_layout.trace_id_low, &crash->trace_id_low, sizeof crash->trace_id_low);
  struct {
    const void *data;
    uint64_t size;
  } peer;
  if (!bp_marks_peek(call + call_layout.peer, &peer, sizeof peer)) return;
  uint64_t size = peer.size < sizeof crash->peer - 1 ? peer.size : sizeof crash->peer - 1;
  if (!bp_marks_peek(peer.data, crash->peer, size)) crash->peer[0] = '\0';
}

static void record(int number, const siginfo_t *info, const ucontext_t *context) {
  struct bp_crash *crash = crash_record();
  uint32_t expected = BP_CRASH_NONE;
  if (!__atomic_compare_exchange_n(&crash->state, &expected, BP_CRASH_WRITING, false, __ATOMIC_ACQ_REL,
                                   __ATOMIC_ACQUIRE)) {
    /* Another thread came first and has the word; the process does not die before it has written it. */
    struct timespec moment = {.tv_nsec = 1000000};
    for (int tries = 0; tries < 1000 && expected == BP_CRASH_WRITING; tries++) {
      nanosleep(&moment, NULL);
      expected = __atomic_load_n(&crash->state, __ATOMIC_ACQUIRE);
    }
    return;
  }
  struct timespec now;
  crash->signal = number;
  crash->code = info->si_code;
  crash->process = own_process;
  crash->thread = (int32_t)syscall(SYS_gettid);
  /* A signal that was sent has the sender's numbers in the address's place. */
  crash->address = info->si_code > 0 ? (uint64_t)(uintptr_t)info->si_addr : 0;
  if (bp_thread_mark_own != NULL) crash->mark = *bp_thread_mark_own;
  clock_gettime(CLOCK_MONOTONIC, &now);
  crash->now_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
  clock_gettime(CLOCK_REALTIME, &now);
  crash->wall_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
  prctl(PR_GET_NAME, crash->thread_name);
  walk_frames(crash, context);
  copy_call(crash);
  crash->checksum = bp_crash_checksum(crash);
  __atomic_store_n(&crash->state, BP_CRASH_COMPLETE, __ATOMIC_RELEASE);
}

static void chain(int number, siginfo_t *info, void *context) {
  const struct sigaction *before = NULL;
  for (size_t index = 0; index < FATAL_SIGNALS_COUNT; index++) {
    if (fatal_signals[index] == number) before = &previous[index];
  }
  if (before->sa_flags & SA_SIGINFO) {
    /* Put back first: what it returns to may come here again. */
    sigaction(number, before, NULL);
    before->sa_sigaction(number, info, context);
    return;
  }
  if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN) {
    sigaction(number, before, NULL);
    before->sa_handler(number);
    return;
  }
  struct sigaction standard;
  memset(&standard, 0, sizeof standard);
  standard.sa_handler = SIG_DFL;
  sigaction(number, &standard, NULL);
  /* Comes when this handler has returned, where the fault was. */
  syscall(SYS_tgkill, (long)getpid(), syscall(SYS_gettid), (long)number);
}

static void on_fatal_signal(int number, siginfo_t *info, void *context) {
  int error = errno;
  /* A child between fork and exec shares the file and is not us. */
  if (is_open && getpid() == own_process) record(number, info, context);
  chain(number, info, context);
  errno = error;
}

void bp_marks_watch_signals(void) {
  for (size_t index = 0; index < FATAL_SIGNALS_COUNT; index++) {
    struct sigaction current;
    if (sigaction(fatal_signals[index], NULL, &current) != 0) continue;
    if ((current.sa_flags & SA_SIGINFO) && current.sa_sigaction == on_fatal_signal) continue;
    previous[index] = current;
    struct sigaction ours;
    memset(&ours, 0, sizeof ours);
    ours.sa_sigaction = on_fatal_signal;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&ours.sa_mask);
    sigaction(fatal_signals[index], &ours, NULL);
  }
}

int bp_marks_lost_signal(void) {
  for (size_t index = 0; index < FATAL_SIGNALS_COUNT; index++) {
    struct sigaction current;
    if (sigaction(fatal_signals[index], NULL, &current) != 0) continue;
    if (!(current.sa_flags & SA_SIGINFO) || current.sa_sigaction != on_fatal_signal) return fatal_signals[index];
  }
  return 0;
}
