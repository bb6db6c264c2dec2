/*
 * Who was gone first. Some launchers kill all other ranks within milliseconds of the first one's
 * end, and tell nobody. So each rank's watchdog holds a robust lock in its page's file, which the
 * system marks when the process ends, before it closes any of its files: a launcher cannot hear of
 * the end before. And each watchdog sleeps on the lock of the next rank, so that the mark wakes it.
 * It writes down whom it finds gone alone, and wakes all others to do so, before they may be killed
 * themselves.
 *
 * What is written is right: whoever went first is marked in every look that shows another mark. It
 * may be missing, where no watchdog had a core in time. It needs all ranks on one host.
 */
#ifndef PAR__WITNESS_H
#define PAR__WITNESS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "libpar/base/flight.h"

/* The file of a page. */
typedef struct {
    par__flight flight;
    pthread_mutex_t alive; /* held by the rank's watchdog */
} par__page_file;

typedef struct {
    const char *directory;          /* of pages */
    par__page_file *mine, **others; /* [size], by rank; NULL: not found yet */
    bool off;                       /* ranks are on several hosts, or the C library is not glibc */
    int n_early;
    int idle;         /* what it sleeps on while it knows no other rank */
    const int *sleep; /* what it sleeps on */
    int end, ended;   /* is to end, has */
} par__witness;

/* Makes this rank's lock. */
void par__witness_lock(par__page_file *mine);
/* In the watchdog's thread, which then holds the lock. `others` [size] are NULL. */
void par__witness_begin(par__witness *, const char *directory, par__page_file *mine,
                        par__page_file **others);
/* Sleep for so long, or less. False: the watchdog is to end. */
bool par__witness_wait(par__witness *, double seconds);
void par__witness_end(par__witness *);
/* From another thread: the wait ends, and returns false. */
void par__witness_stop(par__witness *);

#endif
