/*
 * The parts of a checkpoint: digests, one rank's shard, the manifest, and what is below a
 * directory. No function here communicates; save and load do.
 */
#ifndef PAR__CHECKPOINT_H
#define PAR__CHECKPOINT_H

#include <stddef.h>

#include "libpar/base/directory.h"
#include "par/checkpoint.h"

struct json_t;

enum { PAR__HASH = 33, PAR__TEXT = 4096, PAR__NAME = 64 };
/* A larger manifest is refused before it is read. */
#define PAR__MANIFEST_MAX ((int64_t)1 << 30)

/* XXH3-128 of a stream, as 32 hexadecimal digits. */
typedef struct par__digest par__digest;
par_status par__digest_create(par__digest **out);
void par__digest_add(par__digest *digest, const void *data, size_t nbytes);
void par__digest_end(par__digest *digest, char out[PAR__HASH]); /* and starts again */
void par__digest_destroy(par__digest **digest);
void par__hash(const void *data, size_t nbytes, char out[PAR__HASH]);

/* Where a run lies in a shard, and the digest of its bytes. */
typedef struct {
    int64_t offset, nbytes;
    char hash[PAR__HASH];
} par__span;

/* One rank's file. `frame` is the digest of every byte that belongs to no run. */
typedef struct {
    int n;
    par__span *spans; /* [n], owned */
    int64_t nbytes;
    char frame[PAR__HASH];
} par__shard;

void par__shard_name(int rank, char out[PAR__NAME]);
void par__shard_free(par__shard *shard);
par_status par__shard_write(const char *path, const par_checkpoint_run *runs, int n,
                            par__shard *out);
/* hdf5.c: the file's structure and the runs' spans, through libhdf5; no data. */
par_status par__shard_layout(const char *path, const par_checkpoint_run *runs, int n,
                             par__span *spans);
/* Every byte against the digests. */
par_status par__shard_verify(const char *path, const par__shard *shard);
/* The runs' data; digests are compared again. */
par_status par__shard_read(const char *path, const par__shard *shard,
                           const par_checkpoint_run *runs);

/* This rank's part of the manifest: malloc'ed JSON. */
par_status par__manifest_shard(const par__shard *shard, const par_checkpoint_run *runs, int rank,
                               char **out);
/* The whole, from the parts in rank order; malloc'ed, with its own digest last. */
par_status par__manifest_make(const par_checkpoint_params *params, int n_ranks, char *const *parts,
                              char **out);
/* Digest, then structure. *out is to be json_decref'ed. */
par_status par__manifest_parse(const char *path, const char *text, size_t nbytes,
                               struct json_t **out);
/* Read and verify DIRECTORY/manifest.json. */
par_status par__manifest_read(const char *directory, char **text, size_t *nbytes);
/* Same model, layout, ranks? PAR_ERR_OPTION with both descriptions. Fills out's numbers and
 * options. */
par_status par__manifest_about(struct json_t *manifest, const char *path,
                               const par_checkpoint_about *about, int n_ranks,
                               par_checkpoint_result *out);
/* This rank's shard; its runs must be these. */
par_status par__manifest_get(struct json_t *manifest, const char *path, int rank,
                             const par_checkpoint_run *runs, int n, par__shard *out);

/* steps.c: names below a directory. */
void par__step_name(int64_t step, char out[PAR__NAME]);
/* -1: not a step's name; *rest points behind it. */
int64_t par__step_of(const char *name, const char **rest);
/* Steps of the directories step_NNNNNNNN below `directory`, newest first; malloc'ed. None if it is
 * not there. */
par_status par__list(const char *directory, int64_t **steps, int *n);
/* `latest` is a hint for people and scripts: readers look for themselves. */
par_status par__write_latest(const char *directory, const char *name);

/* finite.c: PAR_ERR_NUMERIC with the first element of the runs that is inf or NaN. */
par_status par__check_finite(const par_checkpoint_run *runs, int n);

/* owner.c. Rank 0: nobody else has claimed the directory since (owner NULL: at all). PAR_ERR_IO
 * with who it is. */
par_status par__owner_check(const char *directory, const par_owner *owner);

/* keep.c. Rank 0: a checkpoint of this step that is there is this run's, or damaged. */
par_status par__check_replaced(const par_checkpoint_params *params);
/* After a save: remove what is not to stay (par_checkpoint_params), and temporary
 * directories left behind. */
void par__prune(const par_checkpoint_params *params, par_problems *notes);

#endif
