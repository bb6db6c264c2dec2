/*
 * The team: loops whose iterations are independent, cut into ranges that several threads run. What
 * a loop computes must not depend on how it is cut, nor on who runs a range.
 *
 * No thread ever waits for one that has not begun: the caller takes all ranges that nobody else
 * takes, so a worker that finds no core costs nothing. It waits for ranges that are under way only.
 */
#ifndef PAR__THREADS_H
#define PAR__THREADS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "par/threads.h"

/* Iterations [begin, end). slot: the thread's number among those of the loop, below `threads`; 0 is
 * the caller's. One slot's calls come one after the other. */
typedef void par__range(const void *user, int slot, int64_t begin, int64_t end);

/* Run iterations [0, n) on at most `threads` threads, par_threads() at most; on return all are
 * done. A loop within a loop, or beside one of another host thread, runs on its caller alone. */
void par__threads_run(int64_t n, int threads, par__range *run, const void *user);

/* Threads that a workspace is made for, and that a loop with workspaces may then use: the least
 * number for which this process has prepared one. */
int par__threads_prepare(void);
int par__threads_prepared(void);

/* Until the next call with 0, the calling thread prepares for so many ranks that share this node's
 * cores, unless this process knows its own number; no loop of it runs with what it prepares. */
void par__threads_plan(int ranks);

/* This process's default from now on, if it is less than it was: cores that a rank has. */
void par__threads_share(int n);

/* The team's threads are started by the first hold, or by the first loop that has none, and end
 * with the last release. */
void par__threads_hold(void);
void par__threads_release(void);

/* pthread_create for the library's threads: signals are for the host's. Those that an instruction
 * raises stay open: blocked, they would end the process past its handlers. */
int par__thread_start(pthread_t *out, void *(*run)(void *user), void *user);

#endif
