/* What a rank's load reads: for each stored run, which of its own need something of it. */
#ifndef PAR__CHECKPOINT_PLAN_H
#define PAR__CHECKPOINT_PLAN_H

#include "libpar/checkpoint/checkpoint.h"

typedef struct {
    const par_checkpoint_run *run;
    int tensor;
} par__want;

typedef struct {
    const par_checkpoint *from;
    par__want *wants; /* [n], sorted by tensor */
    int n, rank, size;
    bool overwrite; /* see par_checkpoint_about */
} par__plan;

/* Every run that the checkpoint cannot fill is a line in `refused`. */
par_status par__plan_make(const par_checkpoint *from, const par_checkpoint_run *runs, int n,
                          int rank, int size, par_problems *refused, par__plan *out);
void par__plan_free(par__plan *plan);
/* Beside the runs, once it runs: contents, block, wants. */
size_t par__plan_memory(const par__plan *plan);
/* Verify all blocks that the runs need, and this rank's part of all files' frames; with overwrite
 * the runs that are not optional are filled meanwhile. */
par_status par__plan_verify(const par__plan *plan, int64_t *nbytes);
/* Fill the others. */
par_status par__plan_fill(const par__plan *plan);

#endif
