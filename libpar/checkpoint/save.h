/* A save that is under way: what save.c, save_begin.c and save_jobs.c share. */
#ifndef PAR__CHECKPOINT_SAVE_H
#define PAR__CHECKPOINT_SAVE_H

#include <pthread.h>

#include "libpar/checkpoint/checkpoint.h"

/* What lies under the final name. */
typedef enum {
    PAR__UNNAMED,   /* what was there, if anything */
    PAR__SET_ASIDE, /* nothing: the older checkpoint of the step has been set aside */
    PAR__NAMED,     /* the new checkpoint, and there was no older one */
    PAR__REPLACED   /* the new checkpoint; the older one is set aside */
} par__naming;

typedef struct par_checkpoint_saving {
    par_comm *world;
    par_checkpoint_params params; /* whose texts are in `texts` */
    char *texts;                  /* owned, with the pairs in front */
    par_checkpoint_run *runs;     /* to write; owned, what they point to is not */
    par_checkpoint_run *left_out; /* copies and padding: behind them in the same memory */
    int n_runs, n_left_out;
    bool first;          /* rank 0 */
    bool jobs_lay_out;   /* libhdf5 is for the jobs' thread, too: it was built for several */
    float check_element; /* what check_only writes */
    char name[PAR__NAME], temporary_name[PAR__NAME];
    char final[PAR__PATH], temporary[PAR__PATH], aside[PAR__PATH];
    char shard_path[PAR__PATH];         /* while the directory is temporary */
    par__naming named;                  /* rank 0 */
    struct par_checkpoint_saving *next; /* rank 0: of the saves under way in this process */
    int32_t tidies;                     /* something may have got a temporary name to be removed */
    par__shard shard;
    char **parts;  /* rank 0: of the manifest, [p], owned */
    int64_t need;  /* bytes of all ranks, at most */
    int64_t total; /* bytes of all ranks, written */
    par_checkpoint_result result;

    /* The stages: save.c. What the job writes belongs to its thread until it has ended. */
    bool background; /* jobs run on a thread */
    int stage;
    pthread_t thread;
    bool running;      /* there is a thread to join */
    atomic_bool ended; /* the job of the stage */
    par__pulse pulse;  /* of all jobs */
    par_status status; /* of the job; of all at the end */
    char why[PAR_ERROR_NBYTES];
} par__saving;

/* save_begin.c. What this rank writes, after the parameters: copies and padding are left out. Not
 * collective. */
par_status par__save_select(par__saving *s, const par_checkpoint_run *runs, int n);
/* The caller's may end before the save does. Not collective. */
par_status par__save_copy_params(par__saving *s, const par_checkpoint_params *params);
/* The directory is this run's and there is room; then names, the temporary directory, and, if jobs
 * do not lay out, this rank's file in it, without its data. Collective; errors [agreed]. */
par_status par__save_begin(par__saving *s);
/* Its directory is free for the next save. Not collective. */
void par__save_leave(par__saving *s);
/* This rank's file, without its data. Not collective. */
par_status par__save_shard(par__saving *s);

/* save_jobs.c. Rank 0, with every rank's part: what they make together, PAR_ERR_ARG: not each
 * element once; to be closed also then. And index.h5 of it. */
par_status par__save_contents(const par__saving *s, par_checkpoint **out);
par_status par__save_index(const par__saving *s);
/*
 * The jobs, one after the other, each when all ranks are done with what was before it. They do not
 * communicate, and call libhdf5 only where jobs_lay_out: so they may run on a thread beside the
 * caller's work.
 */
/* This rank's file; the state is finite. */
par_status par__save_write(par__saving *s);
/* Rank 0, with every rank's part: index and manifest, then the final name. */
par_status par__save_commit(par__saving *s);
/* Every rank reads back what it wrote. */
par_status par__save_read_back(par__saving *s);
/* Rank 0: the checkpoint is saved. `latest`, and temporary names for what is not to stay; what
 * fails is a note, also that the directory has got another owner, which leaves all as it is. */
par_status par__save_tidy(par__saving *s);
/* Every rank removes its part of the files with temporary names; then rank 0 what is left. */
par_status par__save_empty(par__saving *s);
par_status par__save_remove(par__saving *s);
/* Rank 0, after a failure: final names mean again what they meant before this save, and the rest
 * goes. Returns `st`, whose message is par_error(). */
par_status par__save_withdraw(par__saving *s, par_status st);

#endif
