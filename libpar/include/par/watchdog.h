/*
 * The watchdog: a thread that finds a training that stands still and says which rank did not
 * arrive. It makes no call of MPI. Every rank keeps a page, a small file that is mapped: where it
 * is, what it waits for, and its last operations on each axis. Watchdogs read the pages of all
 * ranks, also of one that is stopped or gone.
 *
 * Pages are seen by ranks of one host, or of all hosts if their directory lies on a file system
 * that these share. A rank whose page is not there is named as such.
 */
#ifndef PAR_WATCHDOG_H
#define PAR_WATCHDOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "par/comm.h"
#include "par/export.h"
#include "par/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A thread that watches this rank, and its page. */
typedef struct par_watchdog par_watchdog;

/* What it is told; 0 means the default. */
typedef struct {
    const char *directory; /* of the pages, made if it is not there; equal on all ranks */
    int64_t run;           /* a number that no other run has; equal on all ranks */
    int rank, size;
    double timeout_s; /* 0: 30 */
    /*
     * Called at most once, in the watchdog's thread. This rank has waited for so long, and a rank
     * that it waits for, directly or through others, does not arrive. `first`: this rank is the one
     * that reports; others call it after it, so that each can end its own process. `report` has a
     * line per rank.
     *
     * A rank that lives and waits for nobody may be working. If it uses its cores, reads data,
     * creates, loads, saves, or is outside of the library, it has ten times as long.
     */
    void (*stalled)(void *user, const char *report, bool first);
    void *user;
} par_watchdog_params;

/** Make this rank's page, and start the thread. Not collective. Errors: PAR_ERR_IO with the path
 * when the page cannot be made; PAR_ERR_MEMORY when there is no memory or thread. */
PAR_API par_status par_watchdog_create(const par_watchdog_params *, par_watchdog **out);
/** From now on this transport's operations, and a trainer's on it, are in the page. The transport
 * must be destroyed behind the watchdog. Not collective. */
PAR_API void par_watchdog_watch(par_watchdog *, par_transport *);
/** Until the next call of this, the rank waits for all others, without a transport: while one is
 * made, say. Not collective. */
PAR_API void par_watchdog_waits(par_watchdog *, bool waits);
/** A signal says that the job ends, as launchers tell all ranks when one is gone. So
 * par_watchdog_diagnose finds the one that nobody told. For handlers of SIGTERM and SIGCONT, while
 * there is the watchdog: Open MPI kills the others as soon as one has ended by its SIGTERM, but
 * sends SIGCONT a second before. Not collective. */
PAR_API void par_watchdog_told(par_watchdog *);
/** End the thread; the page says that the rank has ended. It stays: whoever made the directory
 * removes it. NULL is accepted. Not collective. */
PAR_API void par_watchdog_destroy(par_watchdog **watchdog);

/**
 * What the pages of a directory say, as text: which rank did not arrive, or that the run moves, and
 * a line per rank. Works for ranks that run, which are looked at for half a second, are stopped, or
 * are gone. Not collective. Errors: PAR_ERR_IO when there is no
 * page in it; PAR_ERR_MEMORY.
 */
PAR_API par_status par_watchdog_diagnose(const char *directory, char *text, size_t nbytes);

#ifdef __cplusplus
}
#endif
#endif
