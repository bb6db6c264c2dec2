/*
 * An NCCL job's traffic between its ranks: what the operations ask for (logical bytes), what a ring
 * would send for it, an estimate, and where NCCL's profiler was there, what went through the
 * network and how long operations took. One row per communicators of a name, operation and type. Of
 * a process that the profiler saw its operations count, which are those of every launch of a graph;
 * of others their calls.
 */
#ifndef NCCL_TRAFFIC_H
#define NCCL_TRAFFIC_H

#include "nccl_files.h"

typedef struct {
    char axis[16], op[16], type[16];
    int n_ranks;                      /* of the largest communicator */
    int64_t calls, captured;          /* of all ranks */
    double size_nbytes;               /* of all calls: sum of S of NCCL's performance tests */
    double bus_nbytes;                /* times the factor that makes algbw busbw there */
    double ring_nbytes;               /* of all ranks, sent */
    int64_t timed;                    /* of the calls, those that `seconds` are about */
    double seconds;                   /* of all ranks' kernels */
    char algorithm[48];               /* "RING SIMPLE", "several", "": not seen */
    int channels;                     /* the most that one had */
    double network_nbytes, network_s; /* of all ranks, sent; time of the transfers */
    int64_t messages;                 /* transfers */
} nccl_row;

/* From a rank of the job to another one. */
typedef struct {
    int row, from, to;
    double logical, ring;
    double sent, received; /* through the network: as `from` and as `to` saw it */
    double seconds;        /* of what was sent */
    int64_t messages;
} nccl_cell;

/* Through the network: a rank whose proxy is another process knows of its traffic at its other end
 * alone. */
double nccl_network_nbytes(const nccl_cell *cell);

typedef struct {
    int n_rows;
    nccl_row *rows;
    int64_t n_cells, max_cells;
    nccl_cell *cells;  /* by row, from, to; each once */
    int64_t n_missing; /* cells that were left out: a rank of them wrote no file */
} nccl_table;

/* PAR_ERR_MEMORY. */
par_status nccl_traffic_make(const nccl_job *job, nccl_table *out);
void nccl_traffic_free(nccl_table *table);

#endif
