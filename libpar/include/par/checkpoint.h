/*
 * Checkpoints: one HDF5 file per rank and a manifest, in DIRECTORY/step_00000120/. The manifest
 * holds names, sizes and XXH3-128 digests of every byte of every file, and its own digest last. A
 * directory gets its final name only when everything in it is on the disk; it is trusted only if
 * its manifest verifies.
 *
 * What is saved are runs: named contiguous arrays of this rank. Loading needs the same runs, in the
 * same order, on the same ranks. The trainer's own are saved and loaded by par_trainer_save and
 * par_trainer_resume (par/train.h).
 */
#ifndef PAR_CHECKPOINT_H
#define PAR_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "par/comm.h"
#include "par/export.h"
#include "par/owner.h"
#include "par/status.h"
#include "par/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How arrays that the host cannot address get there and back: in pieces, through `buffer`. */
typedef struct {
    par_status (*copy)(void *user, void *dst, const void *src,
                       size_t nbytes); /* any way; done on return */
    void *user;
    void *buffer; /* the host's */
    size_t nbytes;
} par_checkpoint_staging;

/* One array of this rank: elements [first, first + n) of a rectangle of a logical tensor. */
typedef struct {
    const char *kind; /* "weight", "m", "v", ...: the group in the file; no slash */
    const char *name; /* the data set in it; unique with kind on this rank; no slash */
    par_dtype dtype;
    int64_t n;                               /* elements, at least 1 */
    void *data;                              /* [n]; read by save, written by load */
    const par_checkpoint_staging *staging;   /* NULL: data is host memory */
    int64_t global[2], offset[2], extent[2]; /* as in par_param; */
    int64_t local[2], first;                 /* all 0 for what is not part of a tensor */
    int replica; /* copies with replica > 0 repeat what replica 0 holds */
} par_checkpoint_run;

/* Texts are one line each, at most 4000 bytes. model and layout must be equal to load; options may
 * differ. */
typedef struct {
    const char *model, *layout, *options;
} par_checkpoint_about;

/* Equal on all ranks. */
typedef struct {
    const char *directory; /* made if it is not there; one run writes to it at a time */
    /* Whose it is (par/owner.h). NULL: nobody's; then it is refused while somebody is its owner,
     * and the checkpoint carries no run. */
    const par_owner *owner;
    /* Of the owner's run (NULL: of those without one), and not newer than the new one, these stay:
     * the `keep` newest, the new one among them (0: all); those whose step is a multiple of
     * keep_every (0: none); the keep_best that have the lowest validation loss. */
    int keep;
    int64_t keep_every;
    int keep_best;
    double validation; /* the loss on the validation part after this step; 0: not known */
    int64_t step;      /* 0..99999999: the name */
    int64_t consumed, updates;
    double loss; /* of the last step: not finite is refused */
    par_checkpoint_about about;
    bool check_only; /* save nothing: make the directory, and see that every rank can write and all
                        fits */
} par_checkpoint_params;

/* What was saved or loaded. */
typedef struct {
    char path[1024]; /* of the checkpoint saved or loaded; "": there is none to load */
    int64_t step, consumed, updates;
    double loss;
    int64_t nbytes;       /* of all ranks' files */
    char options[4096];   /* as saved */
    char run[PAR_RUN_ID]; /* that it carries; "": none */
    par_problems notes;   /* rank 0: what was passed over, or could not be removed
                           or named `latest` */
} par_checkpoint_result;

/** NULL if this build can save and load checkpoints, else why not. Not collective. */
PAR_API const char *par_checkpoint_missing(void);

/**
 * Save. In order: space is checked; every rank writes and syncs its file in a temporary directory;
 * rank 0 writes the manifest, syncs, renames, syncs; every rank reads its file back; `latest` is
 * replaced; old ones beyond `keep` go. A checkpoint of the same step is replaced in one exchange of
 * names, which is taken back if the new one cannot be read. So after an error final names mean what
 * they meant before; if even that fails, the message says what to remove. What fails after the
 * reading is a note: the checkpoint is saved.
 *
 * Collective: on world; params equal on all ranks. Errors [agreed]: PAR_ERR_IO
 * or PAR_ERR_FORMAT (read back) with path and cause; PAR_ERR_NUMERIC: the loss, or an element of a
 * run, is not finite; PAR_ERR_ARG; PAR_ERR_MEMORY; PAR_ERR_UNSUPPORTED: built without HDF5 or XXH3.
 * [comm]: PAR_ERR_TRANSPORT.
 */
PAR_API par_status par_checkpoint_save(par_comm *world, const par_checkpoint_params *params,
                                       const par_checkpoint_run *runs, int n_runs,
                                       par_checkpoint_result *out);

/**
 * Fill the runs' data from the newest checkpoint below `directory` that verifies, every byte of it,
 * before anything is written to memory; damaged ones are passed over with a note. `directory` may
 * also be one checkpoint (it holds manifest.json); then there is no other to fall back to. No
 * directory, or none in it: PAR_OK with out->path "".
 *
 * Collective: on world; directory and about equal on all ranks. Errors [agreed]: PAR_ERR_FORMAT:
 * there are checkpoints and none verifies; PAR_ERR_OPTION: one of another model, layout or number
 * of ranks, with both descriptions; PAR_ERR_INTERNAL: a file changed while it was read, and the
 * runs may hold half of it; PAR_ERR_IO; PAR_ERR_MEMORY; PAR_ERR_UNSUPPORTED: built without HDF5 or
 * XXH3. [comm]: PAR_ERR_TRANSPORT.
 */
PAR_API par_status par_checkpoint_load(par_comm *world, const char *directory,
                                       const par_checkpoint_about *about,
                                       const par_checkpoint_run *runs, int n_runs,
                                       par_checkpoint_result *out);

#ifdef __cplusplus
}
#endif
#endif
