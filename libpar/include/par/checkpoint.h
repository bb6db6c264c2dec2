/*
 * Checkpoints: DIRECTORY/step_00000120/ holds one HDF5 file per rank, index.h5, in which every
 * logical tensor is one data set of its whole shape, and a manifest. The manifest has names, sizes
 * and XXH3-128 digests of every byte of every file, and its own digest last. A directory gets its
 * final name only when everything in it is on the disk; it is trusted only if its manifest
 * verifies. docs/checkpoints.md describes the files byte for byte.
 *
 * What is saved are runs: named contiguous arrays of this rank, each a part of a logical tensor, or
 * a blob. Loading asks for runs, too, but of any layout: a rank reads just the parts of files that
 * its own runs need. The trainer's own are saved and loaded by par_trainer_save and
 * par_trainer_resume (par/train.h); any program can save and load its own, without a trainer. A
 * save may go on in the background, while the program computes (par_checkpoint_save_begin).
 * par_checkpoint_open reads without MPI.
 */
#ifndef PAR_CHECKPOINT_H
#define PAR_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "par/comm.h"
#include "par/export.h"
#include "par/owner.h"
#include "par/status.h"
#include "par/tensor.h"
#include "par/transformer.h"

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

/*
 * One array of this rank: elements [first, first + n), in row-major order, of its local rectangle
 * [local] of a logical tensor [global]. Element (i, j) of the rectangle is element (offset[0] + i,
 * offset[1] + j) of the tensor where i < extent[0] and j < extent[1]; the rest is padding, which is
 * not part of the tensor, and is zeroed by a load. A tensor of more dimensions is saved as a
 * matrix. Over all ranks, the runs of one tensor with replica 0 must hold each element once.
 *
 * ndim 0 is a blob: n elements that belong together and to no tensor; global to first are unused.
 */
typedef struct {
    const char *kind; /* "weight", "m", "v", ...: the group in the files; no slash */
    const char *name; /* the data set in it; unique with kind on this rank; no slash */
    par_dtype dtype;  /* load converts between fp32, bf16 and fp16, rounding to nearest even */
    int64_t n;        /* elements, at least 1 */
    void *data;       /* [n]; read by save, written by load */
    const par_checkpoint_staging *staging;   /* NULL: data is host memory */
    int ndim;                                /* of the tensor: 1, 2; 0: a blob */
    int64_t global[2], offset[2], extent[2]; /* as in par_param: [1] is 1, 0, 1 with ndim 1 */
    int64_t local[2], first;
    int replica; /* save writes replica 0 alone; load fills all. Of blobs with one name load takes
                    that of the rank with the same number, else the lowest */
    const char *instead; /* load: the kind to read where the checkpoint has not this one, or has it
                            in another type; NULL: none */
    bool optional; /* load: left as it is where the checkpoint has none; else that is refused */
} par_checkpoint_run;

/* What a difference between a checkpoint and the run that loads it means. */
typedef enum {
    PAR_CHECKPOINT_NOTED, /* a note with both values */
    PAR_CHECKPOINT_EQUAL, /* refused, with both values */
    PAR_CHECKPOINT_STATED /* nothing: it is recorded for people and tools */
} par_checkpoint_class;

/* One thing that shaped what is saved. A line of text each. */
typedef struct {
    const char *name, *value;
    par_checkpoint_class class_of;
} par_checkpoint_pair;

/* What is said of a run, to save or to load it: [n] pairs with different names. A pair that one
 * side alone has is not compared, as programs learn to record more. */
typedef struct {
    const par_checkpoint_pair *pairs;
    int n;
    size_t memory;  /* load: host memory that this rank may take beside its runs; 0: 1 GiB */
    bool overwrite; /* load: what the runs hold is of no use; see par_checkpoint_load */
} par_checkpoint_about;

/* Equal on all ranks; of what `about` says, and of the owner, rank 0's counts. */
typedef struct {
    const char *directory; /* made if it is not there; one run writes to it at a time */
    /* Whose it is (par/owner.h). NULL: nobody's; then it is refused while somebody is its owner,
     * and the checkpoint carries no run. */
    const par_owner *owner;
    /* Which checkpoints stay, of the owner's run (NULL: of those without one) and not newer than
     * the new one. The `keep` newest, the new one among them (0: all); those whose step is a
     * multiple of keep_every (0: none); the keep_best that have the lowest validation loss. */
    int keep;
    int64_t keep_every;
    int keep_best;
    double validation; /* the loss on the validation part after this step; 0: not known */
    int64_t step;      /* 0..99999999: the name */
    int64_t consumed, updates;
    double loss; /* of the last step: not finite is refused */
    par_checkpoint_about about;
    /* Blobs [n_blobs] that rank 0 stores beside the runs, as files that belong to the state; their
     * data is read as the runs' is. Other ranks' are not looked at. */
    const par_checkpoint_run *blobs;
    int n_blobs;
    bool check_only; /* save nothing that stays: see par_checkpoint_save */
} par_checkpoint_params;

/* What was saved or loaded. */
typedef struct {
    char path[1024]; /* of the checkpoint saved or loaded; "": there is none to load */
    int64_t step, consumed, updates;
    double loss;
    double validation;                        /* 0: not known */
    char run[PAR_RUN_ID], parent[PAR_RUN_ID]; /* of its owner (par/owner.h); "": none */
    int n_ranks;                              /* that saved it */
    int64_t nbytes;     /* saved: of all ranks' files. Loaded: read by all ranks, once */
    size_t memory;      /* load: the most that a rank took beside its runs */
    par_problems notes; /* rank 0: what was passed over, what differs, what could not be removed or
                           named `latest` */
} par_checkpoint_result;

/** NULL if this build can save and load checkpoints, and the libhdf5 that is loaded is the one that
 * it was built against; else why not. Not collective. */
PAR_API const char *par_checkpoint_missing(void);

/**
 * Save. In order: space is checked; every rank writes and syncs its file in a temporary directory;
 * rank 0 writes index.h5 and the manifest, syncs, renames, syncs; every rank reads its file back;
 * `latest` is replaced; old ones beyond `keep` go. A checkpoint of the same step is set aside
 * before, under a name that load finds, and takes its name again if the new one cannot be read. So
 * after an error final names mean what they meant before; if even that fails, the message says what
 * to do. What fails after the reading is a note: the checkpoint is saved.
 *
 * With check_only all of this happens with a few bytes of each rank, which are read back and
 * removed. So a file system or a libhdf5 that cannot do one of the steps is found before hours of
 * work. Free space is compared with what the runs take, with a note if the file system does not
 * tell it; what the ranks' runs hold of each tensor is judged as by a save; their data is not read.
 *
 * Collective: on world; params equal on all ranks. Errors [agreed]: PAR_ERR_OPTION with each
 * number, or the directory, that a rank has otherwise than rank 0; PAR_ERR_IO or PAR_ERR_FORMAT
 * (read back) with path and cause; PAR_ERR_NUMERIC: the loss, or an element of a run, is not
 * finite; PAR_ERR_ARG: also when the runs of a tensor do not hold each element once, all of them
 * are copies, a copy has another type or shape, a rank has a name twice, or another save into the
 * directory is under way in rank 0's process, which goes on; PAR_ERR_MEMORY; PAR_ERR_UNSUPPORTED:
 * as par_checkpoint_missing says. [comm]: PAR_ERR_TRANSPORT.
 */
PAR_API par_status par_checkpoint_save(par_comm *world, const par_checkpoint_params *params,
                                       const par_checkpoint_run *runs, int n_runs,
                                       par_checkpoint_result *out);

/* A save that is under way in the background. */
typedef struct par_checkpoint_saving par_checkpoint_saving;

/**
 * The same save, with the same bytes in the same order, while the caller goes on. A thread writes
 * the files and reads them back; it does not communicate, and calls libhdf5 only where that was
 * built for threads. Agreements, gathers, and another libhdf5 are left to this call, poll and end,
 * on the caller's thread. It takes six polls at least. Until the checkpoint has its name, what was
 * there before is as it was; a process that is killed leaves a temporary directory, which the next
 * save removes.
 * The loss is judged here, the runs' elements by the thread.
 *
 * The runs' data, kinds and names must stay as they are until end returns, and so must the owner;
 * the data must be host memory (staging NULL): what goes on to change is copied before. params
 * (not check_only) and the list of runs may go. The saves of a directory come one after another:
 * end one before the next is begun, which is refused otherwise.
 *
 * Collective: on world; params equal on all ranks. Errors: as par_checkpoint_save, of what this
 * call does: PAR_ERR_ARG [agreed] also for a run with staging; those of files come from end.
 */
PAR_API par_status par_checkpoint_save_begin(par_comm *world, const par_checkpoint_params *params,
                                             const par_checkpoint_run *runs, int n_runs,
                                             par_checkpoint_saving **out);
/**
 * Go on with what has become possible, without waiting for files. *ended: the same on all ranks;
 * true: saved, or failed, and end says which without waiting.
 *
 * Collective: on the world of the save. Errors: PAR_ERR_TRANSPORT [comm].
 */
PAR_API par_status par_checkpoint_save_poll(par_checkpoint_saving *saving, bool *ended);
/**
 * Wait for the end, and free `saving` in any case. After the transport was broken, what is not
 * written yet is given up.
 *
 * Collective: on the world of the save. Errors: as par_checkpoint_save.
 */
PAR_API par_status par_checkpoint_save_end(par_checkpoint_saving **saving,
                                           par_checkpoint_result *out);

/**
 * Fill the runs' data from the newest checkpoint below `directory` that verifies. Each rank reads
 * and verifies the blocks that its runs need. Only when all ranks have done so does any write to
 * its memory. With about->overwrite a block is read once, straight to its place, for all runs that
 * are not optional: what they hold after an error is of no use. Damaged checkpoints are passed over
 * with a note. `directory` may also be one checkpoint (it holds manifest.json); then there is no
 * other to fall back to. No directory, or none in it: PAR_OK with out->path "". The runs may be of
 * any number of ranks and any layout; nothing is sent between
 * ranks but the manifest.
 *
 * Collective: on world; directory and about equal on all ranks. Errors [agreed]: PAR_ERR_FORMAT:
 * there are checkpoints and none verifies; PAR_ERR_OPTION: a pair of class EQUAL differs, a tensor
 * is missing or has another shape, about->memory does not suffice, or a rank has another directory
 * than rank 0, with both values;
 * PAR_ERR_INTERNAL: a file changed while it was read, and the runs may hold half of it;
 * PAR_ERR_IO: a file cannot be read, which says nothing of its contents, so that no older one is
 * taken; PAR_ERR_MEMORY; PAR_ERR_UNSUPPORTED: as par_checkpoint_missing says. [comm]:
 * PAR_ERR_TRANSPORT.
 */
PAR_API par_status par_checkpoint_load(par_comm *world, const char *directory,
                                       const par_checkpoint_about *about,
                                       const par_checkpoint_run *runs, int n_runs,
                                       par_checkpoint_result *out);

/* ---- reading without MPI ---- */

/* One checkpoint, open for reading. Its manifest is in memory; data is read when asked for. */
typedef struct par_checkpoint par_checkpoint;

/* A logical tensor, or a blob (ndim 0, global[0] elements) of a rank. */
typedef struct {
    const char *kind, *name; /* the checkpoint's */
    par_dtype dtype;
    int ndim;
    int64_t global[2]; /* [1] is 1 with ndim 1 */
    int rank;          /* of a blob: the rank that saved it; else -1 */
} par_checkpoint_tensor;

/**
 * Open the newest checkpoint below `directory` whose manifest verifies, or `directory` itself if it
 * is one. notes (may be NULL): which were passed over.
 *
 * Not collective. Errors: PAR_ERR_IO: there is none, or a file cannot be read; PAR_ERR_FORMAT: none
 * verifies, with path and offset; PAR_ERR_MEMORY; PAR_ERR_UNSUPPORTED: built without HDF5 or XXH3.
 */
PAR_API par_status par_checkpoint_open(const char *directory, par_problems *notes,
                                       par_checkpoint **out);
/** NULL is accepted. Not collective. */
PAR_API void par_checkpoint_close(par_checkpoint **checkpoint);
/** path, step, consumed, updates, loss, validation, run, parent, n_ranks, nbytes (of all ranks'
 * files); the checkpoint's. Not collective. */
PAR_API const par_checkpoint_result *par_checkpoint_info(const par_checkpoint *);
/** What was recorded; *n of them, the checkpoint's. Not collective. */
PAR_API const par_checkpoint_pair *par_checkpoint_pairs(const par_checkpoint *, int *n);
/** The tensors and blobs, *n of them, sorted by kind, then name, then rank; the checkpoint's. Not
 * collective. */
PAR_API const par_checkpoint_tensor *par_checkpoint_tensors(const par_checkpoint *, int *n);
/** The tensor of this kind and name; of blobs that of the lowest rank; NULL: there is none. Not
 * collective. */
PAR_API const par_checkpoint_tensor *par_checkpoint_find(const par_checkpoint *, const char *kind,
                                                         const char *name);
/**
 * Rectangle `extent` at `offset` of one of its tensors into dst [extent[0], extent[1]], row-major,
 * converted to `dtype` as a load does. Of ndim 1 and of blobs [1] is 0 and 1. Every block that is
 * read is verified; after an error what dst holds is of no use.
 *
 * Not collective. Errors: PAR_ERR_ARG: the rectangle lies outside; PAR_ERR_OPTION: the type does
 * not convert; PAR_ERR_FORMAT: damaged, with file and offset; PAR_ERR_IO; PAR_ERR_MEMORY.
 */
PAR_API par_status par_checkpoint_read(const par_checkpoint *, const par_checkpoint_tensor *tensor,
                                       const int64_t offset[2], const int64_t extent[2],
                                       par_dtype dtype, void *dst);
/**
 * Every byte of one rank's file against the digests; `rank` n_ranks: of index.h5, and that it says
 * what the manifest says: it is compared with the one that libhdf5 makes of the manifest, and never
 * opened (nothing to do in the form of version 1). So callers can spread ranks over threads; while
 * one looks at an index, no thread of the caller's own may call libhdf5.
 *
 * Not collective. Errors: as par_checkpoint_read; PAR_ERR_ARG: rank outside [0, n_ranks];
 * PAR_ERR_UNSUPPORTED: of index.h5, there is no folder to make another one in (TMPDIR).
 */
PAR_API par_status par_checkpoint_verify(const par_checkpoint *, int rank);
/**
 * Every rank's file and index.h5 are there, with as many bytes as the manifest says: a look, which
 * reads none of them.
 *
 * Not collective. Errors: PAR_ERR_FORMAT: one is missing, is no plain file, or has another size;
 * PAR_ERR_IO: it cannot be asked.
 */
PAR_API par_status par_checkpoint_sizes(const par_checkpoint *);

/* ---- what a checkpoint records of a transformer ---- */

enum { PAR_CONFIG_PAIRS = 24, PAR_CONFIG_VALUE = 128 };

/* A configuration as pairs; they point into it, so it is not copied. */
typedef struct {
    par_checkpoint_pair pairs[PAR_CONFIG_PAIRS];
    char values[PAR_CONFIG_PAIRS][PAR_CONFIG_VALUE];
    int n;
} par_config_pairs;

/** The pairs of a configuration: what a weight means is EQUAL, the rest is NOTED. Numbers read back
 * as they were. Not in it: init_std. Not collective. */
PAR_API void par_config_pairs_of(const par_transformer_config *, par_config_pairs *out);
/**
 * The configuration that pairs [n] describe, among others. `path` is for messages.
 * Not collective. Errors: PAR_ERR_FORMAT: they describe none, with the pair that is missing or
 * wrong.
 */
PAR_API par_status par_config_of_pairs(const char *path, const par_checkpoint_pair *pairs, int n,
                                       par_transformer_config *out);

#ifdef __cplusplus
}
#endif
#endif
