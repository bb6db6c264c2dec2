/*
 * Notices of a break, on a communicator of their own: a receive is always posted, so that whoever
 * waits can look for one. A rank that breaks the transport, or hears of a break, sends the text to
 * all others and takes theirs; then nobody waits for it any more. Errors of MPI are passed over: a
 * peer may be gone.
 */
#ifndef PAR__MPI_NOTICE_H
#define PAR__MPI_NOTICE_H

#include <stdbool.h>

#include "par/mpi.h"

enum { PAR__NOTICE_NBYTES = 512 };

typedef struct par__notices par__notices;

/* Collective on comm, which is duplicated; also on a rank where it fails for want of memory. */
par_status par__notices_open(MPI_Comm comm, par__notices **out);
/* A notice has come: its text in text [PAR__NOTICE_NBYTES]. */
bool par__notices_heard(par__notices *notices, char *text);
/* Tell all others, and hear them: until all have been heard, or 2 s are over. */
void par__notices_exchange(par__notices *notices, const char *text);
/* NULL is accepted. Collective on comm, unless notices were exchanged: then the communicator is
 * left to MPI_Finalize, as a peer may be gone. */
void par__notices_close(par__notices **notices);

#endif
