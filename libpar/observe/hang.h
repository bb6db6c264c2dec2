/*
 * Who waits for whom, from the flight recorder's pages: reading them, and the rank at the end of
 * the waiting. A rank in a collective waits for those of the group that have started fewer, or
 * wait for nothing, or have not made the group yet; one in a send or receive for its peer; one
 * that waits for the device as one that is in a collective of each of its groups. Who waits for
 * nobody, is stopped or gone, is the one that did not arrive; where one is gone, a rank that lives
 * is not. If there is none, ranks wait for each other in a circle: they started different
 * operations, or what they sent does not come through.
 *
 * Of ranks that are all gone, the one did not arrive that watchdogs saw gone first (witness.h);
 * else those count as alive that a signal had told to end, which is what a launcher does when one
 * is gone. Hydra, MPICH's, tells nobody and kills all within milliseconds: without a witness
 * nobody is named then, as who worked at that moment need not be who was gone first.
 */
#ifndef PAR__HANG_H
#define PAR__HANG_H

#include <stdbool.h>
#include <stddef.h>

#include "libpar/base/flight.h"
#include "par/status.h"

typedef enum { PAR__RANK_ALIVE, PAR__RANK_STOPPED, PAR__RANK_GONE, PAR__RANK_UNSEEN } par__sign;

/* Whether all that have not ended are gone, and nothing tells the first one from others. All then
 * have the sign that they live. */
typedef enum {
    PAR__GONE_NOT,
    PAR__GONE_TOLD,  /* each was told to end */
    PAR__GONE_UNTOLD /* none was */
} par__all_gone;

/* What is known of one rank. */
typedef struct {
    par__flight page;
    par__sign sign;
    bool runs; /* on this host: its main thread has work for a core or a disk at this moment */
    double silent_s; /* since its watchdog's last look */
    bool culprit;
} par__seen;

typedef struct {
    int size, n_culprits;
    bool circle;    /* culprits wait for each other */
    double moved_s; /* within so long some did, and nobody is a culprit; 0: not looked at */
    par__all_gone all_gone;
    par__seen *ranks; /* [size] */
} par__hang;

/* The page's file, of rank r. */
void par__page_path(char *path, size_t nbytes, const char *directory, int rank);
/* False: it is not there, no page, or of another run (run 0: any). */
bool par__page_read(const char *directory, int rank, int64_t run, par__flight *out);
/* 'R', 'S', 'D', 'T' ... of a process of this host; 0: not known. */
char par__process_state(int64_t pid);
/* Fills in sign and runs, as far as this host's processes tell; else it is alive. */
void par__page_process(par__seen *seen, const char *host);

/* Marks the culprits, seen from `rank`, or with -1 from all that wait. */
void par__hang_find(par__hang *hang, int rank);
/* A head line, then a line per rank. */
void par__hang_print(const par__hang *hang, double waited_s, char *text, size_t nbytes);

#endif
