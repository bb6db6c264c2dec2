/* A save that is under way: what save.c and save_begin.c share. */
#ifndef PAR__CHECKPOINT_SAVE_H
#define PAR__CHECKPOINT_SAVE_H

#include "libpar/checkpoint/checkpoint.h"

/* What lies under the final name. */
typedef enum {
    PAR__UNNAMED,   /* what was there, if anything */
    PAR__SET_ASIDE, /* nothing: the older checkpoint of the step has been set aside */
    PAR__NAMED,     /* the new checkpoint, and there was no older one */
    PAR__REPLACED   /* the new checkpoint; the older one is set aside */
} par__naming;

typedef struct {
    par_comm *world;
    const par_checkpoint_params *params;
    par_checkpoint_run *runs; /* to write; owned */
    int n_runs;
    bool first; /* rank 0 */
    char name[PAR__NAME], temporary_name[PAR__NAME];
    char final[PAR__PATH], temporary[PAR__PATH], aside[PAR__PATH];
    par__naming named; /* rank 0 */
    par__shard shard;
    int64_t need;  /* bytes of all ranks, at most */
    int64_t total; /* bytes of all ranks, written */
    par_problems *notes;
} par__saving;

/* What this rank writes: copies and padding are left out. Not collective. */
par_status par__save_select(par__saving *s, const par_checkpoint_run *runs, int n);
/* The directory is this run's, there is room, the state is finite; then names and the temporary
 * directory. Collective; errors [agreed]. */
par_status par__save_begin(par__saving *s);

#endif
