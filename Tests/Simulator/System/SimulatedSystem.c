#define _GNU_SOURCE
#include "SimulatedSystem.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int __real_clock_gettime(clockid_t clock, struct timespec *time);
int __real_usleep(useconds_t microseconds);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument);
int __real_pthread_join(pthread_t thread, void **result);
int __real_pthread_detach(pthread_t thread);
int __real_pthread_setname_np(pthread_t thread, const char *name);
int __real_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex);
int __real_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until);
int __real_pthread_cond_signal(pthread_cond_t *condition);
int __real_pthread_cond_broadcast(pthread_cond_t *condition);

enum state { READY, WAITS, SLEEPS, JOINS, ENDED };

struct thread {
  sem_t turn;
  enum state state;
  uint32_t number;
  /* How often it is chosen, against the others. */
  uint32_t weight;
  pthread_cond_t *condition;
  /* Of a sleep or a wait; 0: none. */
  uint64_t until_ns;
  bool timed_out;
  bool detached;
  struct thread *joined;
  void *(*run)(void *);
  void *argument;
  void *result;
  char name[16];
};

#define THREADS_MAX 4096
static const uint64_t begin_ns = 1000000000000;
static const uint64_t wall_offset_ns = 1700000000ull * 1000000000ull;

/* Only the running thread touches what follows; the semaphores carry it from one to the next. */
static struct thread *live[THREADS_MAX];
static uint32_t live_count;
static uint32_t next_number;
/* System threads whose thread of the simulation has ended, for the next. */
static struct thread *idle[THREADS_MAX];
static uint32_t idle_count;
static uint64_t now_ns, state, checksum, switches, switches_max;

static _Thread_local struct thread *own;

void (*simulation_stuck)(const char *reason);

uint64_t simulation_random(void) {
  uint64_t z = (state += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

int simulation_fork(void) { return fork(); }

static uint64_t below(uint64_t limit) { return simulation_random() % limit; }

void simulation_note(uint64_t number) {
  checksum = (checksum ^ number) * 1099511628211u;
  checksum ^= checksum >> 29;
}

uint64_t simulation_now_ns(void) { return now_ns; }
uint64_t simulation_switches(void) { return switches; }
uint64_t simulation_checksum(void) { return checksum; }
uint32_t simulation_threads(void) { return live_count; }
uint32_t simulation_thread(void) { return own != NULL ? own->number : UINT32_MAX; }
const char *simulation_thread_name(void) { return own != NULL ? own->name : ""; }
void simulation_advance(uint64_t nanoseconds) { now_ns += nanoseconds; }

void simulation_print_threads(void) {
  static const char *const names[] = {"ready", "waits", "sleeps", "joins", "ended"};
  for (uint32_t index = 0; index < live_count; index++) {
    struct thread *thread = live[index];
    fprintf(stderr, "  thread %u %s: %s", thread->number, thread->name, names[thread->state]);
    if (thread->until_ns != 0) fprintf(stderr, " for %.3f ms", ((double)thread->until_ns - (double)now_ns) / 1e6);
    fprintf(stderr, "%s\n", thread == own ? " (running)" : "");
  }
}

static void stuck(const char *reason) {
  if (simulation_stuck != NULL) simulation_stuck(reason);
  fprintf(stderr, "%s\n", reason);
  simulation_print_threads();
  _exit(3);
}

static struct thread *add(void) {
  if (live_count == THREADS_MAX) stuck("too many threads");
  struct thread *thread;
  if (idle_count > 0) {
    thread = idle[--idle_count];
  } else {
    thread = calloc(1, sizeof *thread);
    sem_init(&thread->turn, 0, 0);
  }
  thread->state = READY;
  thread->number = next_number++;
  thread->weight = 1u << (2 * below(3));
  thread->condition = NULL;
  thread->until_ns = 0;
  thread->timed_out = thread->detached = false;
  thread->joined = NULL;
  thread->result = NULL;
  strcpy(thread->name, "?");
  live[live_count++] = thread;
  return thread;
}

static void forget(struct thread *thread) {
  for (uint32_t index = 0; index < live_count; index++) {
    if (live[index] != thread) continue;
    live[index] = live[--live_count];
    idle[idle_count++] = thread;
    return;
  }
}

/* Who is due. */
static void look_at_time(void) {
  for (uint32_t index = 0; index < live_count; index++) {
    struct thread *thread = live[index];
    if (thread->until_ns == 0 || thread->until_ns > now_ns) continue;
    if (thread->state != WAITS && thread->state != SLEEPS) continue;
    thread->timed_out = true;
    thread->until_ns = 0;
    thread->state = READY;
  }
}

static struct thread *choose(void) {
  now_ns += 200 + below(2000);
  look_at_time();
  for (;;) {
    uint64_t weights = 0, next_ns = UINT64_MAX;
    for (uint32_t index = 0; index < live_count; index++) {
      struct thread *thread = live[index];
      if (thread->state == READY) weights += thread->weight;
      if (thread->until_ns != 0 && thread->until_ns < next_ns) next_ns = thread->until_ns;
    }
    if (weights > 0) {
      uint64_t place = below(weights);
      for (uint32_t index = 0; index < live_count; index++) {
        struct thread *thread = live[index];
        if (thread->state != READY) continue;
        if (place < thread->weight) return thread;
        place -= thread->weight;
      }
    }
    if (next_ns == UINT64_MAX) stuck("every thread waits for another");
    now_ns = next_ns > now_ns ? next_ns : now_ns;
    look_at_time();
  }
}

/* Lets another go on; back when it is the caller's turn again. */
static void give_turn(void) {
  struct thread *self = own;
  struct thread *next = choose();
  if (++switches > switches_max) stuck("the simulation does not end");
  simulation_note(next->number);
  simulation_note(now_ns);
  if (next == self) return;
  sem_post(&next->turn);
  while (sem_wait(&self->turn) != 0) {
  }
}

void simulation_begin(uint64_t seed, uint64_t most_switches) {
  state = seed * 0x2545f4914f6cdd1d + 1;
  checksum = 14695981039346656037u;
  switches = 0;
  switches_max = most_switches;
  now_ns = begin_ns;
  next_number = live_count = 0;
  own = add();
  strcpy(own->name, "first");
}

bool simulation_end(void) {
  bool is_alone = live_count == 1;
  own = NULL;
  return is_alone;
}

void simulation_yield(void) {
  if (own != NULL) give_turn();
}

static void sleep_for(uint64_t nanoseconds) {
  own->state = SLEEPS;
  own->until_ns = now_ns + nanoseconds + 1;
  give_turn();
}

void simulation_sleep(uint64_t nanoseconds) {
  if (own != NULL) sleep_for(nanoseconds);
}

/* ------------------------------------------------------------------------------------------------------------------
 * What the linker hands over
 */

int __wrap_clock_gettime(clockid_t clock, struct timespec *time) {
  if (own == NULL) return __real_clock_gettime(clock, time);
  /* No two looks at a clock are the same. */
  now_ns += 20;
  uint64_t value = clock == CLOCK_REALTIME ? wall_offset_ns + now_ns : now_ns;
  time->tv_sec = (time_t)(value / 1000000000);
  time->tv_nsec = (long)(value % 1000000000);
  return 0;
}

int __wrap_usleep(useconds_t microseconds) {
  if (own == NULL) return __real_usleep(microseconds);
  sleep_for((uint64_t)microseconds * 1000);
  return 0;
}

static void wake_joiner(struct thread *ended) {
  for (uint32_t index = 0; index < live_count; index++) {
    if (live[index]->state == JOINS && live[index]->joined == ended) live[index]->state = READY;
  }
}

static void *begin(void *argument) {
  struct thread *self = argument;
  for (;;) {
    while (sem_wait(&self->turn) != 0) {
    }
    own = self;
    self->result = self->run(self->argument);
    self->state = ENDED;
    wake_joiner(self);
    struct thread *next = choose();
    if (++switches > switches_max) stuck("the simulation does not end");
    simulation_note(next->number);
    simulation_note(now_ns);
    if (self->detached) forget(self);
    own = NULL;
    sem_post(&next->turn);
  }
  return NULL;
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument) {
  if (own == NULL) return __real_pthread_create(thread, attributes, run, argument);
  bool is_new = idle_count == 0;
  struct thread *made = add();
  made->run = run;
  made->argument = argument;
  *thread = (pthread_t)made;
  if (!is_new) return 0;
  pthread_t carrier;
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 1 << 20);
  pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
  if (__real_pthread_create(&carrier, &small, begin, made) != 0) stuck("the system has no thread to give");
  pthread_attr_destroy(&small);
  return 0;
}

int __wrap_pthread_join(pthread_t thread, void **result) {
  if (own == NULL) return __real_pthread_join(thread, result);
  struct thread *joined = (struct thread *)thread;
  if (joined->state != ENDED) {
    own->state = JOINS;
    own->joined = joined;
    give_turn();
    own->joined = NULL;
  }
  if (result != NULL) *result = joined->result;
  forget(joined);
  return 0;
}

int __wrap_pthread_detach(pthread_t thread) {
  if (own == NULL) return __real_pthread_detach(thread);
  struct thread *detached = (struct thread *)thread;
  detached->detached = true;
  if (detached->state == ENDED) forget(detached);
  return 0;
}

int __wrap_pthread_setname_np(pthread_t thread, const char *name) {
  if (own == NULL) return __real_pthread_setname_np(thread, name);
  strncpy(own->name, name, sizeof own->name - 1);
  return 0;
}

static int wait_for(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t until_ns) {
  struct thread *self = own;
  self->state = WAITS;
  self->condition = condition;
  self->until_ns = until_ns;
  self->timed_out = false;
  pthread_mutex_unlock(mutex);
  give_turn();
  pthread_mutex_lock(mutex);
  self->condition = NULL;
  return self->timed_out ? ETIMEDOUT : 0;
}

int __wrap_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex) {
  if (own == NULL) return __real_pthread_cond_wait(condition, mutex);
  return wait_for(condition, mutex, 0);
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until) {
  if (own == NULL) return __real_pthread_cond_timedwait(condition, mutex, until);
  uint64_t until_ns = (uint64_t)until->tv_sec * 1000000000 + (uint64_t)until->tv_nsec;
  return wait_for(condition, mutex, until_ns == 0 ? 1 : until_ns);
}

static void wake(pthread_cond_t *condition, bool all) {
  uint32_t waiting = 0;
  for (uint32_t index = 0; index < live_count; index++) {
    if (live[index]->state == WAITS && live[index]->condition == condition) waiting++;
  }
  if (waiting == 0) return;
  uint32_t chosen = (uint32_t)below(waiting);
  for (uint32_t index = 0; index < live_count; index++) {
    struct thread *thread = live[index];
    if (thread->state != WAITS || thread->condition != condition) continue;
    if (all || chosen == 0) {
      thread->state = READY;
      thread->until_ns = 0;
    }
    chosen--;
  }
}

int __wrap_pthread_cond_signal(pthread_cond_t *condition) {
  if (own == NULL) return __real_pthread_cond_signal(condition);
  wake(condition, false);
  return 0;
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *condition) {
  if (own == NULL) return __real_pthread_cond_broadcast(condition);
  wake(condition, true);
  return 0;
}
