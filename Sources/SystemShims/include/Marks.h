#ifndef BACKPLANE_MARKS_H
#define BACKPLANE_MARKS_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Which plugin each thread is in, in memory that outlives the process.
 *
 * The kernel writes a mark before every call into a plugin and puts the one before back afterwards, so that calls nest.
 * The marks lie in a file that is mapped: when the process dies of a signal, the handler in Marks.c adds what it sees to
 * the same file, and the next start reads who it was. Before bp_marks_open the memory is the process's own.
 *
 * The hot path is one look at a thread-local pointer and plain stores; nothing here locks, allocates or fails.
 */

/* One thread: 64 bytes, so that no two threads write to one cache line. */
struct bp_thread_mark {
  /* (operation << 56 | handle of the instance); 0: the thread is in no plugin. */
  uint64_t word;
  /* The generation whose lease the call holds; 0 for a call without one. */
  uint64_t generation;
  /* CLOCK_MONOTONIC; 0 where the caller had no time at hand. */
  uint64_t start_ns;
  /* The call's header (bp_call), or NULL. Alive for as long as the mark stands. */
  const void *call;
  /* How deep completions nest on this thread. */
  uint32_t nesting;
  /* The system's id of the thread; 0: the entry is free. */
  int32_t thread;
  /* Counts the marks, so that a reader knows a call that lasts from two that are alike. */
  uint64_t sequence;
  /* CLOCK_MONOTONIC when the last call was completed on this thread: for whoever made it, so that it need not ask again. */
  uint64_t completed_ns;
  uint64_t reserved;
};

_Static_assert(sizeof(struct bp_thread_mark) == 64, "one cache line");

/* The calling thread's mark; NULL until its first use. */
extern _Thread_local struct bp_thread_mark *bp_thread_mark_own;

/* Gives the calling thread an entry and an alternate signal stack, both until it ends. Never NULL: when all entries are
 * taken the thread gets memory of its own, which the signal handler finds and other threads do not. */
struct bp_thread_mark *bp_thread_mark_enter(void);

/* The calling thread's own mark; never NULL. */
static inline struct bp_thread_mark *bp_own_thread_mark(void) {
  struct bp_thread_mark *own = bp_thread_mark_own;
  return __builtin_expect(own != 0, 1) ? own : bp_thread_mark_enter();
}

enum {
  BP_MARKS_FORMAT = 1,
  BP_MARKS_THREADS_MAX = 1024,
  BP_MARKS_INSTANCES_MAX = 2048,
  BP_MARKS_IMAGES_MAX = 1024,
  BP_MARKS_FRAMES_MAX = 24,
  BP_MARKS_CANDIDATES_MAX = 16,
};

/* What the states of a file mean. */
enum { BP_MARKS_RUNNING = 1, BP_MARKS_CLEAN = 2 };
/* And those of a crash record. */
enum { BP_CRASH_NONE = 0, BP_CRASH_WRITING = 1, BP_CRASH_COMPLETE = 2 };

/* Texts end with a zero byte and are cut to fit. */
struct bp_marks_header {
  char magic[8]; /* "BPMARKS\0" */
  uint32_t format;
  uint32_t size_bytes; /* of the whole file */
  int32_t process;
  uint32_t state; /* BP_MARKS_* */
  uint64_t started_ms;
  /* Threads that found every entry taken, over the life of the process. */
  uint64_t spilled_threads;
};

struct bp_mark_instance {
  /* The handle that marks name; 0: free. Written last. */
  uint64_t handle;
  /* The generation that first published it. */
  uint64_t generation;
  char slot[64];
  char plugin[80];
  char version[32];
  char content[68];
  uint32_t reserved;
};

_Static_assert(sizeof(struct bp_mark_instance) == 264, "pinned: files outlive the process");

struct bp_mark_image {
  /* Written last; 0: free. The range of its code, and what to take from an address to get one in the file. */
  uint64_t start;
  uint64_t end;
  uint64_t bias;
  /* Empty for what is no plugin: libraries, the kernel itself. */
  char plugin[80];
  char version[32];
  char content[68];
  char path[236];
};

_Static_assert(sizeof(struct bp_mark_image) == 440, "pinned: files outlive the process");

/* What a fatal signal left. */
struct bp_crash {
  uint32_t state; /* BP_CRASH_* */
  int32_t signal;
  int32_t code; /* si_code */
  int32_t process;
  int32_t thread;
  uint32_t frames_count;
  uint32_t candidates_count;
  uint32_t reserved;
  uint64_t address; /* si_addr, for the signals that have one */
  uint64_t frames[BP_MARKS_FRAMES_MAX]; /* the program counter, then return addresses by frame pointers */
  /* Words on the stack that lie in the code of a plugin or of the kernel: where frame pointers lead nowhere. */
  uint64_t candidates[BP_MARKS_CANDIDATES_MAX];
  struct bp_thread_mark mark;
  uint64_t now_ns; /* CLOCK_MONOTONIC, as start_ns of the mark */
  uint64_t wall_ms;
  uint64_t trace_id_high;
  uint64_t trace_id_low;
  char peer[64];
  char thread_name[16];
  uint64_t checksum; /* of everything before it */
};

/* Where the parts lie in the file. */
enum {
  BP_MARKS_HEADER_OFFSET = 0,
  BP_MARKS_CRASH_OFFSET = 512,
  BP_MARKS_THREADS_OFFSET = 4096,
  BP_MARKS_INSTANCES_OFFSET = BP_MARKS_THREADS_OFFSET + BP_MARKS_THREADS_MAX * 64,
  BP_MARKS_IMAGES_OFFSET = BP_MARKS_INSTANCES_OFFSET + BP_MARKS_INSTANCES_MAX * 264,
  BP_MARKS_SIZE_BYTES = (BP_MARKS_IMAGES_OFFSET + BP_MARKS_IMAGES_MAX * 440 + 65535) / 65536 * 65536,
};

struct bp_marks_header *bp_marks_header(void);
struct bp_thread_mark *bp_marks_thread(uint32_t index);
struct bp_mark_instance *bp_marks_instance(uint32_t index);
/* The first one is the executable itself. */
struct bp_mark_image *bp_marks_image(uint32_t index);
uint64_t bp_crash_checksum(const struct bp_crash *crash);

/* Where bp_call keeps what a crash record quotes. */
struct bp_marks_call_layout {
  uint32_t trace_id_high;
  uint32_t trace_id_low;
  uint32_t peer; /* a pointer and a 64-bit length */
};

/* Moves the marks into an open file, which is made as large as it must be and may be closed afterwards. Before there are
 * other threads in calls. -1 with errno: the marks stay in the process's own memory. */
int bp_marks_open(int descriptor, struct bp_marks_call_layout layout);

/* From here on a fatal signal of this process leaves a crash record, and then goes where it went before. */
void bp_marks_watch_signals(void);

/* Whether the marks lie in a file. */
bool bp_marks_is_open(void);

/* Whether a fatal signal still comes to us first: a plugin may have put a handler of its own there. Answers the first
 * signal that does not, or 0. */
int bp_marks_lost_signal(void);

/* Writes the ranges of all images that are mapped and not yet in the table. One thread at a time; not on the hot path. */
void bp_marks_note_images(void);

/* The entry of the image whose code holds an address; NULL when it is not in the table. */
struct bp_mark_image *bp_marks_image_of(const void *address);

/* Reads this process's own memory; false when it is not readable. Any thread, signal handlers too. */
bool bp_marks_peek(const void *address, void *target, uint64_t size);

#endif
