#define _GNU_SOURCE
#include "IsolationShims.h"

#include <dlfcn.h>
#include <elf.h>
#include <execinfo.h>
#include <link.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

/* Everything here runs in a process that is broken. It calls nothing that allocates; backtrace and dladdr take the
 * loader's lock, which the broken thread may hold, so a timer ends the process when the report does not. */

#define FRAMES_MAX 64
#define ALTERNATE_STACK_BYTES (64 * 1024)

static int report_descriptor = -1;
static int report_frames_max;
static volatile sig_atomic_t reporting;

typedef struct line {
  char bytes[1024];
  size_t count;
} line;

static void add_text(line *line, const char *text) {
  while (*text != 0 && line->count < sizeof line->bytes - 1) {
    /* The words of a line are parted by blanks. */
    char byte = *text++;
    line->bytes[line->count++] = byte == '\n' ? '?' : byte;
  }
}

static void add_number(line *line, uintptr_t number) {
  char digits[2 * sizeof number];
  size_t count = 0;
  do {
    digits[count++] = "0123456789abcdef"[number & 15];
    number >>= 4;
  } while (number != 0);
  while (count > 0 && line->count < sizeof line->bytes - 1) line->bytes[line->count++] = digits[--count];
}

static void send_line(line *line) {
  line->bytes[line->count++] = '\n';
  (void)!write(report_descriptor, line->bytes, line->count);
}

static void report_frame(uintptr_t address, int is_innermost) {
  line line = {.count = 0};
  Dl_info info;
  ElfW(Sym) *symbol = NULL;
  /* A return address may lie behind the end of a function that does not return. */
  uintptr_t inside = is_innermost ? address : address - 1;
  int known = dladdr1((void *)inside, &info, (void **)&symbol, RTLD_DL_SYMENT);
  add_text(&line, "frame ");
  add_number(&line, address);
  add_text(&line, " ");
  add_number(&line, known != 0 ? address - (uintptr_t)info.dli_fbase : 0);
  add_text(&line, " ");
  /* In a stripped image the nearest exported symbol is not the function. */
  int named = known != 0 && info.dli_sname != NULL && symbol != NULL &&
              inside < (uintptr_t)info.dli_saddr + symbol->st_size;
  add_text(&line, named ? info.dli_sname : "-");
  add_text(&line, " ");
  add_text(&line, known != 0 && info.dli_fname != NULL ? info.dli_fname : "-");
  send_line(&line);
}

static uintptr_t program_counter(const ucontext_t *context) {
#if defined(__x86_64__)
  return (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
  return (uintptr_t)context->uc_mcontext.pc;
#else
#error "Say where this processor keeps the program counter."
#endif
}

static void report(int number, siginfo_t *info, void *context) {
  signal(number, SIG_DFL);
  if (reporting != 0) {
    /* A second thread, or a crash while reporting: what has been written must do. */
    raise(number);
    return;
  }
  reporting = 1;
  struct itimerval time = {.it_value = {.tv_usec = 300 * 1000}};
  signal(SIGALRM, SIG_DFL);
  setitimer(ITIMER_REAL, &time, NULL);
  line first = {.count = 0};
  add_text(&first, "signal ");
  add_number(&first, (uintptr_t)number);
  add_text(&first, " ");
  add_number(&first, (uintptr_t)info->si_addr);
  send_line(&first);

  uintptr_t innermost = program_counter(context);
  report_frame(innermost, 1);
  void *frames[FRAMES_MAX];
  int count = backtrace(frames, FRAMES_MAX);
  /* The first frames are this handler's, up to the interrupted one. */
  int from = 0;
  for (int index = 0; index < count; index++)
    if ((uintptr_t)frames[index] == innermost) from = index + 1;
  int written = 1;
  for (int index = from; index < count && written < report_frames_max; index++, written++)
    report_frame((uintptr_t)frames[index], 0);
  raise(number);
}

void bp_shim_report_crashes_of_this_thread(void) {
  stack_t stack = {.ss_size = ALTERNATE_STACK_BYTES};
  stack.ss_sp = mmap(NULL, ALTERNATE_STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (stack.ss_sp != MAP_FAILED) sigaltstack(&stack, NULL);
}

int bp_shim_report_crashes(int descriptor, int frames_max) {
  report_descriptor = descriptor;
  report_frames_max = frames_max;
  /* The first call loads the unwinder; in a handler it must be there already. */
  void *warm[2];
  (void)backtrace(warm, 2);
  bp_shim_report_crashes_of_this_thread();
  static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGABRT, SIGFPE, SIGSYS, SIGXCPU};
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = report;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  for (size_t index = 0; index < sizeof signals / sizeof *signals; index++)
    if (sigaction(signals[index], &action, NULL) != 0) return -1;
  return 0;
}
