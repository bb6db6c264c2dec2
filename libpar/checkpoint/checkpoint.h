/*
 * The parts of a checkpoint: digests, the geometry of runs, one rank's shard, the index, the
 * manifest and what it says, reading, and what is below a directory. No function here communicates;
 * save and load do.
 */
#ifndef PAR__CHECKPOINT_H
#define PAR__CHECKPOINT_H

#include <stdatomic.h>
#include <stddef.h>

#include "libpar/base/directory.h"
#include "par/checkpoint.h"

/* Of a step, whose name has eight digits. */
enum { PAR__STEP_MAX = 99999999 };
enum { PAR__HASH = 33, PAR__TEXT = 4096, PAR__NAME = 64, PAR__RECTS = 3 };
/* A larger manifest is refused before it is read. */
#define PAR__MANIFEST_MAX ((int64_t)1 << 30)
/* Bytes of a run that have a digest of their own: what a reader takes at a time. */
#define PAR__BLOCK ((int64_t)4 << 20)
/* Of which no manifest may speak: a reader takes so much memory. */
#define PAR__BLOCK_MAX ((int64_t)1 << 30)

/* XXH3-128 of a stream, as 32 hexadecimal digits. */
typedef struct par__digest par__digest;
par_status par__digest_create(par__digest **out);
void par__digest_add(par__digest *digest, const void *data, size_t nbytes);
void par__digest_end(par__digest *digest, char out[PAR__HASH]); /* and starts again */
void par__digest_destroy(par__digest **digest);
void par__hash(const void *data, size_t nbytes, char out[PAR__HASH]);

/* segment.c: the logical elements of a run as rectangles; `at`: where the first one begins in the
 * run; rows are `pitch` elements apart there. */
typedef struct {
    int64_t row, column, rows, columns; /* of the tensor */
    int64_t at, pitch;
} par__rect;

/* Kind and name, type, and numbers that fit each other; PAR_ERR_ARG. */
par_status par__run_check(const par_checkpoint_run *run);
/* A blob gets the geometry of a vector that one rank holds. */
par_checkpoint_run par__run_plain(const par_checkpoint_run *run);
int par__run_rects(const par_checkpoint_run *run, par__rect out[PAR__RECTS]);
int64_t par__run_count(const par_checkpoint_run *run); /* logical elements */
/* The elements that both have, as pieces that lie behind each other in both, in order of `a`. */
typedef par_status par__piece_fn(void *user, int64_t at_a, int64_t at_b, int64_t n);
par_status par__run_common(const par_checkpoint_run *a, const par_checkpoint_run *b,
                           par__piece_fn *piece, void *user);

/* Where a run lies in a shard, and the digests of its blocks: hashes [blocks][PAR__HASH]. */
typedef struct {
    int64_t offset, nbytes, block;
    char *hashes;            /* borrowed */
    const char *kind, *name; /* of the run, for messages; NULL: not known. Borrowed */
} par__span;

static inline int64_t par__blocks(const par__span *span) {
    return (span->nbytes + span->block - 1) / span->block;
}

/* Of a job of files, for who waits for it. */
typedef struct {
    atomic_bool stop;  /* nobody needs what is not done yet: the job may end with PAR_ERR_IO */
    atomic_llong n;    /* pieces that were written or read so far */
    int64_t *progress; /* counts them, too, where the job runs on the caller's thread; or NULL */
} par__pulse;

/* One rank's file. `frame` is the digest of every byte that belongs to no run. */
typedef struct {
    int n;
    par__span *spans; /* [n], owned */
    char *hashes;     /* owned, or NULL where the spans' are of elsewhere */
    int64_t nbytes;
    char frame[PAR__HASH];
} par__shard;

void par__shard_name(int rank, char out[PAR__NAME]);
void par__shard_free(par__shard *shard);
/* The file, its structure and its spans, by libhdf5; then the data and the digests, without it. The
 * runs are the same both times; PAR_ERR_NUMERIC: an element is not finite. */
par_status par__shard_begin(const char *path, const par_checkpoint_run *runs, int n,
                            par__shard *out);
par_status par__shard_fill(const char *path, const par_checkpoint_run *runs, par__shard *shard,
                           par__pulse *pulse);
/* What a file of these runs would have, with digests of nothing; there is none. */
par_status par__shard_declare(const par_checkpoint_run *runs, int n, par__shard *out);
/* Every byte against the digests; of the second, those that belong to no run. pulse: NULL for a
 * caller that waits for nobody. */
par_status par__shard_verify(const char *path, const par__shard *shard, par__pulse *pulse);
par_status par__shard_verify_frame(const char *path, const par__shard *shard);
/* Open for reading a file that must have nbytes: one that is not there is PAR_ERR_FORMAT. */
par_status par__shard_open(const char *path, int64_t nbytes, int *fd);

/* hdf5.c: the file's structure and the runs' spans, through libhdf5; no data. */
par_status par__shard_layout(const char *path, const par_checkpoint_run *runs, int n,
                             par__span *spans);
/* Why the libhdf5 that is loaded cannot be used; NULL: it can. */
const char *par__hdf5_missing(void);
/* libhdf5 was built for calls of several threads at a time. */
bool par__hdf5_for_threads(void);
/* index.c: index.h5, as libhdf5 leaves it. */
par_status par__index_layout(const char *path, const par_checkpoint *checkpoint);
/* The bytes are those of the index that the manifest describes, PAR_ERR_FORMAT: they are not. They
 * are given to nobody. */
par_status par__index_compare(const char *path, const char *data, size_t nbytes,
                              const par_checkpoint *checkpoint);
/* Its two halves: that index, malloc'ed, and the same bytes. */
par_status par__index_again(const par_checkpoint *checkpoint, char **out, size_t *nbytes);
par_status par__index_same(const char *path, const char *data, size_t nbytes, const char *made,
                           size_t n_made);

/* json.c: between the two, jansson is this thread's; of the second, false: it had too little
 * memory, and what it has read or written is of no use. */
void par__json_begin(void);
bool par__json_end(void);

/* manifest.c */
typedef struct {
    int64_t nbytes;
    char hash[PAR__HASH];
} par__index;

/* This rank's part of the manifest: malloc'ed JSON of one line. */
par_status par__manifest_shard(const par__shard *shard, const par_checkpoint_run *runs, int rank,
                               char **out);
/* The whole, from the parts in rank order; malloc'ed, with its own digest last. */
par_status par__manifest_make(const par_checkpoint_params *params, const par__index *index,
                              int n_ranks, char *const *parts, char **out);
/* Read DIRECTORY/manifest.json and verify its digest. */
par_status par__manifest_read(const char *directory, char **text, size_t *nbytes);

/* steps.c: names below a directory. */
void par__step_name(int64_t step, char out[PAR__NAME]);
/* -1: not a step's name; *rest points behind it. */
int64_t par__step_of(const char *name, const char **rest);
/* Steps of the directories step_NNNNNNNN below `directory`, and of those set aside, newest first,
 * each once; malloc'ed. None if it is not there. */
par_status par__list(const char *directory, int64_t **steps, int *n);
/* "DIRECTORY/step_NNNNNNNN.old": a checkpoint that was set aside while another takes its name. */
#define PAR__ASIDE ".old"
par_status par__aside_path(const char *directory, int64_t step, char out[PAR__PATH]);
/* Of this and the next, PAR_ERR_IO: nobody knows, as one of them cannot be asked. */
par_status par__same_folder(const char *a, const char *b, bool *same);
/* The step of the checkpoint `path` if that is one in the directory, under its own name or as one
 * that was set aside there for another of its step; -1 for anything else: a link, a copy under
 * another name, what lies elsewhere. */
par_status par__own_step(const char *directory, const char *path, int64_t *step);
/* `latest` is a hint for people and scripts: readers look for themselves. */
par_status par__write_latest(const char *directory, const char *name);

/* contents.c: what a manifest says. */
typedef struct {
    par_checkpoint_run run; /* of a form that par__run_plain gives; data NULL */
    par__span span;
    int file, tensor;
} par__stored;

typedef struct {
    int64_t nbytes;
    char frame[PAR__HASH];
    int first, n; /* its runs among all */
} par__file;

struct par_checkpoint {
    par_checkpoint_result info;
    par_checkpoint_pair *pairs;
    par_checkpoint_tensor *tensors; /* sorted */
    par__stored *stored;            /* file by file */
    par__file *files;               /* [info.n_ranks] */
    int n_pairs, n_tensors, n_stored, max_stored, n_files;
    par__index index; /* nbytes 0: none, in version 1 */
    char *text;       /* what names, values and hashes are copied to */
    size_t n_text, max_text;
    int64_t block; /* the largest one of a run */
};

/* Check and take in a manifest that par__manifest_read has verified. */
par_status par__contents_parse(const char *path, const char *text, size_t nbytes,
                               par_checkpoint **out);
/* Its head alone: numbers, whose it is, pairs. */
par_status par__contents_parse_head(const char *path, const char *text, size_t nbytes,
                                    par_checkpoint **out);
/* The same as the first of the parts of a manifest that is to be written. */
par_status par__contents_of(const char *path, char *const *parts, int n_ranks,
                            par_checkpoint **out);
/* Index of a tensor, or of a blob of `rank` (else of the lowest); -1: none. */
int par__contents_find(const par_checkpoint *c, const char *kind, const char *name, int rank);
size_t par__contents_memory(const par_checkpoint *c);
par_status par__contents_shard(const par_checkpoint *c, int file, par__shard *out);
/* Every pair that differs: a line in `refused` or in `notes`. */
void par__contents_compare(const par_checkpoint *c, const par_checkpoint_about *about,
                           par_problems *refused, par_problems *notes);

/* copies.c: names of the runs that this rank does not write, behind its part of the manifest:
 * texts, each with a zero, and an empty one. *nbytes: of all. */
par_status par__copies_add(const par_checkpoint_run *runs, int n, char **part, size_t *nbytes);
/* Rank 0, from such parts: what no rank writes is PAR_ERR_ARG, and a copy of another shape. */
par_status par__copies_check(const char *directory, const par_checkpoint *contents,
                             char *const *parts, int n_ranks);

/* open.c: index.h5 has the manifest's digest. Without libhdf5. */
par_status par__index_verify_digest(const par_checkpoint *c);
/* As par_checkpoint_verify, with a pulse, or NULL. */
par_status par__verify_part(const par_checkpoint *c, int rank, par__pulse *pulse);

/* read.c: blocks of files into runs. */
typedef struct {
    const par_checkpoint *from;
    int file, fd; /* that is open; -1 */
    char path[PAR__PATH];
    const par__stored *stored; /* whose block was verified last; NULL: none */
    int64_t block;
    bool held;    /* it is in the buffer */
    char *buffer; /* [from->block] */
    par__digest *digest;
    int64_t total; /* bytes that were read */
} par__reader;

par_status par__reader_open(const par_checkpoint *from, par__reader *out);
void par__reader_close(par__reader *reader);
/* What `wanted` needs of a stored run of its tensor: verified, and with `fill` put there. */
par_status par__reader_take(par__reader *reader, const par__stored *stored,
                            const par_checkpoint_run *wanted, bool fill);
bool par__converts(par_dtype from, par_dtype to);
/* A run whose local rectangle has padding is zeroed. */
par_status par__clear_padding(const par_checkpoint_run *run);

/* finite.c: PAR_ERR_NUMERIC with the first element that is inf or NaN of n, which begin with
 * element `at` of the run and are found at data in host memory. */
par_status par__check_finite(const par_checkpoint_run *run, int64_t at, int64_t n,
                             const char *data);

/* owner.c. Rank 0: nobody else has claimed the directory since (owner NULL: at all). PAR_ERR_IO
 * with who it is. */
par_status par__owner_check(const char *directory, const par_owner *owner);

/* keep.c. Rank 0: a checkpoint of this step that is there is this run's, or damaged; PAR_ERR_IO. */
par_status par__check_replaced(const par_checkpoint_params *params);
/* Rank 0, after a save: what is not to stay (par_checkpoint_params) gets temporary names. */
void par__prune(const par_checkpoint_params *params, par_problems *notes);
/* Of checkpoints that have got temporary names: rank's part of n_ranks of the ranks' files, as far
 * as that is possible; then, on rank 0, the rest. `all`: also what saves left that never came to
 * their end, for the directory's owner alone, as another's save may be under way. */
void par__empty_renamed(const char *directory, int rank, int n_ranks);
void par__remove_temporary(const char *directory, bool all, par_problems *notes);

/* replace.c: put right what a save left that was killed while a checkpoint was set aside. What goes
 * gets a temporary name. `whole`: the name of a step whose own one has just been read back; NULL:
 * none. pulse: or NULL. */
par_status par__settle_aside(const char *directory, const char *whole, par__pulse *pulse);

#endif
