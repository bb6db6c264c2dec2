/*
 * An NCCL job's traffic between its ranks: what the calls ask for (logical bytes), and what a ring
 * would send for it, an estimate. One row per communicators of a name, operation and type.
 */
#ifndef NCCL_TRAFFIC_H
#define NCCL_TRAFFIC_H

#include "nccl_files.h"

typedef struct {
    char axis[16], op[16], type[16];
    int n_ranks;             /* of the largest communicator */
    int64_t calls, captured; /* of all ranks */
    double size_nbytes;      /* of all calls: sum of S of NCCL's performance tests */
    double bus_nbytes;       /* times the factor that makes algbw busbw there */
    double ring_nbytes;      /* of all ranks, sent */
} nccl_row;

/* From a rank of the job to another one. */
typedef struct {
    int row, from, to;
    double logical, ring;
} nccl_cell;

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
