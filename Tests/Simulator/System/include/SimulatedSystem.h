/*
 * SimulatedSystem.h - threads and time of a simulation.
 *
 * The linker hands the calls of everything in the simulator's executable to threads, condition variables, sleep and clocks
 * over to this file (`--wrap`), so that the kernel runs as it is. Of the threads that a simulation has begun exactly one
 * runs at a time, and when it waits, sleeps or yields, a seeded generator says which goes on. Time stands still while
 * threads run and jumps to the next event when all of them wait: nothing depends on the machine.
 *
 * Threads that no simulation has begun get what they always got. One simulation in a process at a time.
 */
#ifndef BACKPLANE_SIMULATED_SYSTEM_H
#define BACKPLANE_SIMULATED_SYSTEM_H

#include <stdbool.h>
#include <stdint.h>

/* The calling thread becomes the first thread of a simulation. */
void simulation_begin(uint64_t seed, uint64_t switches_max);

/* The simulation is over: every other thread has ended, else the answer is false. */
bool simulation_end(void);

/* The next number of the seed. */
uint64_t simulation_random(void);

/* Nanoseconds since some beginning. */
uint64_t simulation_now_ns(void);

/* Time passes; whoever waits for it runs when its turn comes. */
void simulation_advance(uint64_t nanoseconds);

/* Others may run first. Without effect on a thread that is not of a simulation. */
void simulation_yield(void);

void simulation_sleep(uint64_t nanoseconds);

/* How often one thread went on in place of another. */
uint64_t simulation_switches(void);

/* Of all that was decided so far: equal runs have equal sums. */
uint64_t simulation_checksum(void);

/* Adds to the checksum. */
void simulation_note(uint64_t number);

/* Threads that have not ended. */
uint32_t simulation_threads(void);

/* The number of the running thread, from 0. */
uint32_t simulation_thread(void);
const char *simulation_thread_name(void);

/* Says what every thread waits for, to standard error. */
void simulation_print_threads(void);

/* fork, which Swift does not offer: the caller has one thread. */
int simulation_fork(void);

/* What is called when every thread waits and no time will come, or when a simulation does not end. Does not return. */
extern void (*simulation_stuck)(const char *reason);

#endif
