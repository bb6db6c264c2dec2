/*
 * What NCCL's profiler interface told: operations as NCCL ran them, with their kernels' times, and
 * what its proxies brought through the network. profile.c counts it, profile_write.c puts it into
 * the process's file. All memory is taken when a communicator is made; what finds no place is
 * counted as lost.
 */
#ifndef NCCL_RECORD_PROFILE_H
#define NCCL_RECORD_PROFILE_H

#include "record.h"

enum { PROFILE_ROWS = 64, PROFILE_CELLS = 512, PROFILE_COMMS = 1024 };

/* Operations of a communicator that were alike. */
typedef struct {
    int op, type, peer;               /* a record_op; of NCCL's types; peer or root, -1: none */
    char algorithm[16], protocol[16]; /* NCCL's names; "": point to point */
    int n_channels;                   /* the most that one had */
    uint64_t calls, nbytes;           /* nbytes: as a call names them */
    uint64_t timed, time_ns; /* of those whose kernels all ended: from the begin of the first
                                channel's to the end of the last one's, on the GPU's clock */
} profile_row;

/* One row's traffic through the network with one peer. */
typedef struct {
    int row, peer;
    uint64_t sent, received; /* bytes on the wire */
    uint64_t n_sent,
        send_ns; /* transfers, and from when each was given to the network to its end */
} profile_cell;

/* One rank of a communicator; kept after its end. */
typedef struct profile_comm {
    struct profile_comm *next; /* the one that was made before */
    char id[ID_NBYTES], name[NAME_NBYTES];
    int n, n_hosts, rank, device;
    int n_rows, n_cells;
    profile_row rows[PROFILE_ROWS];
    profile_cell cells[PROFILE_CELLS];
} profile_comm;

/* kept.c; all of it is read and written under the lock */
void profile_lock(void);
void profile_unlock(void);
extern profile_comm *profile_comms; /* the newest */
extern uint64_t profile_lost;       /* events that found no place */
extern uint64_t profile_relayed;    /* operations of proxies for another process */

/* profile.c. For a program that is to know of operations in graphs, by dlsym. Calls of NCCL that
 * this thread makes from now on are marked (0 to 1023; -1: they are not): how many of them have
 * run, and how long, counted with every launch of a graph. After the first mark every communicator
 * that is made is watched. `take` gives what has come since it was last asked, of mark -1 how many
 * ever ran, without seconds. NCCL 2.28 or newer. */
__attribute__((visibility("default"))) void par_nccl_profile_mark(int mark);
__attribute__((visibility("default"))) void par_nccl_profile_take(int mark, int64_t *n,
                                                                  double *seconds);

/* profile_write.c */
void profile_put(FILE *out);

#endif
