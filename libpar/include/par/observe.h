/*
 * What a run looked like: the communication matrix with its prediction, a log of JSON lines, and
 * the loss curve. Nothing here prints; texts go to the caller's buffer, files are named by the
 * caller.
 */
#ifndef PAR_OBSERVE_H
#define PAR_OBSERVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "par/comm.h"
#include "par/export.h"
#include "par/mesh.h"
#include "par/model.h"
#include "par/record.h"
#include "par/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { PAR_TRAFFIC_LINES = 64 };

/* Bytes that one rank sent or will send, a line for each axis and purpose. */
typedef struct {
    int size, n; /* world ranks; lines in use */
    char axis[PAR_TRAFFIC_LINES][16], purpose[PAR_TRAFFIC_LINES][32];
    int64_t *sent; /* [PAR_TRAFFIC_LINES, size], to each world rank */
    bool overflow; /* there were more lines, or names that do not fit */
} par_traffic;

/** An empty table for a world of `size`. Not collective. Errors: PAR_ERR_ARG, PAR_ERR_MEMORY. */
PAR_API par_status par_traffic_create(int size, par_traffic **out);
/** NULL is accepted. Not collective. */
PAR_API void par_traffic_destroy(par_traffic **traffic);
/** Replace the table by what the recorder counted. Not collective. */
PAR_API void par_traffic_count(par_traffic *, const par_recorder *);

/* What one rank of a transformer's training does. Numbers are this rank's. */
typedef struct {
    const par_mesh *mesh;
    int64_t B, T, C;        /* samples of a micro-batch, tokens, channels */
    par_dtype dtype;        /* of activations and weights */
    par_dtype reduce_dtype; /* of gradients sent over dp */
    bool sequence_parallel, recompute_full;
    int zero, chunks;
    int n_blocks; /* on this rank, all chunks together */
    bool embedding, head;
    int64_t loss_rows;        /* of the head's logits at a time: par_transformer_loss_rows */
    par_param *const *params; /* [n_params] */
    int n_params;
    int64_t n_flat;      /* elements of the flat space: bytes of PAR_MEM_GRADIENTS / 4 */
    int64_t steps;       /* voted on */
    int64_t updates;     /* steps that changed the weights */
    int64_t micros;      /* micro-batches trained by a dp rank, over all steps */
    int64_t evaluations; /* calls of par_trainer_evaluate */
    int64_t eval_micros; /* micro-batches of a dp rank in all of them */
} par_traffic_run;

/**
 * Replace the table by what the layout says: a function of its arguments.
 *
 * With n = B T C elements of s bytes and t, d ranks along tp, dp. A sum over t ranks of a vector of
 * more than 4 KiB is a direct reduce-scatter and a direct all-gather: to every peer j its shard and
 * then the own shard, 2 (t - 1) / t of the bytes (Chan et al. 2007). All-gathers of shards of at
 * most 4 KiB and sums of vectors of at most 4 KiB go in phases: phase k sends min(2^k, t - 2^k)
 * blocks to rank r - 2^k (Bruck et al. 1997).
 *
 *   tp, activations forward    per micro-batch: sums of n: 2 per block, 1 of the embedding. With
 *                              sequence parallel a sum is a reduce-scatter, and there are 2
 *                              all-gathers per block; in evaluation 1 of the head.
 *   tp, activations backward   sums: 2 per block, 1 of the head. With sequence parallel also
 *                              all-gathers: 4 per block (2 of them of norm outputs again), 1 of
 *                              the head, 1 of the embedding.
 *   tp, loss                   an all-gather of 3 fp32 numbers per token for every loss_rows
 *                              tokens of a micro-batch, on the head's ranks.
 *   pp, pipeline forward       per micro-batch and boundary: n s / (t with sequence parallel,
 *                              else 1); v p - 1 boundaries of v chunks per stage.
 *   pp, pipeline backward      the same back.
 *   dp, gradients              per step: a reduce-scatter of every bucket; without ZeRO an
 *                              all-gather too.
 *   dp, parameters             ZeRO-1, per update: an all-gather of every bucket's weights.
 *   SUM, partial gradients     per step: an all-reduce over SUM = tp, kv, tied of each run of such
 *                              parameters.
 *   every axis, vote           per step: all-gathers of the ballots, 72 bytes per rank, from the
 *                              fastest axis to the slowest, each of what the ones before gathered.
 *   world, vote                per evaluation: an all-gather of 24 bytes per rank.
 *
 * Full recompute runs every training micro-batch's forward twice, but for the head, which trains in
 * backward alone. Evaluation runs forward alone.
 * Names of non-finite parameters and comparisons of checked communicators are not in it.
 *
 * Not collective. Errors: PAR_ERR_ARG, PAR_ERR_MEMORY.
 */
PAR_API par_status par_traffic_predict(par_traffic *, const par_traffic_run *);

/* One axis and purpose over the world. */
typedef struct {
    char axis[16], purpose[32];
    int64_t *counted, *predicted; /* [size, size] bytes, from a row's rank to a column's */
} par_matrix_line;

/* Who sends what to whom, counted and predicted: n lines over `size` ranks. */
typedef struct {
    int size, n;
    par_matrix_line *lines;
    bool overflow; /* of some rank's tables */
} par_matrix;

/**
 * All ranks' tables on rank 0 of comm, lines in the order in which ranks name them; *out is NULL
 * elsewhere. It is meant for a run's end: it allocates, and what it sends itself is not in the
 * tables that it is given.
 *
 * Collective: on comm, whose ranks must be those of the tables in the same order. Errors [agreed]:
 * PAR_ERR_ARG, PAR_ERR_MEMORY. [comm]: PAR_ERR_TRANSPORT.
 */
PAR_API par_status par_matrix_gather(par_comm *, const par_traffic *counted,
                                     const par_traffic *predicted, par_matrix **out);
/** NULL is accepted. Not collective. */
PAR_API void par_matrix_destroy(par_matrix **matrix);

/**
 * The matrix as text: for all axes together and for each a heat map, a row per sender, counted left
 * and predicted right (a dot: nothing; four shades, each a quarter of the map's largest cell); the
 * bytes of every axis and purpose; then differences by axis, purpose and sender. At most 132
 * columns; above 64 ranks a cell is the sum of a square of ranks. `print` gets one line of UTF-8 at
 * a time, without its end.
 *
 * Not collective.
 */
PAR_API void par_matrix_print(const par_matrix *, void (*print)(void *user, const char *line),
                              void *user);
/** Senders whose counted bytes to some rank differ from the prediction, over all lines.
 * Not collective. */
PAR_API int par_matrix_differences(const par_matrix *);
/**
 * axis,purpose,from,to,counted,predicted: a line for every cell that is not 0 in both. Written
 * under a temporary name beside `path`, synced, then renamed.
 *
 * Not collective. Errors: PAR_ERR_IO, PAR_ERR_ARG, PAR_ERR_MEMORY.
 */
PAR_API par_status par_matrix_write_csv(const par_matrix *, const char *path);
/**
 * A page of SVG, 800 wide, with what par_matrix_print prints: heat maps of counted bytes, a red
 * frame around cells that differ from the prediction, and the table. It needs nothing from
 * elsewhere and takes light or dark colours as the reader prefers. Written as the CSV is.
 *
 * Not collective. Errors: PAR_ERR_IO, PAR_ERR_ARG, PAR_ERR_MEMORY.
 */
PAR_API par_status par_matrix_write_svg(const par_matrix *, const char *path);

/*
 * A log of JSON objects, one per line. A line reaches the file in one write when it ends, so a
 * killed run leaves whole lines; a broken last line of another program is ended first.
 */
typedef struct par_log par_log;

/** Opened for appending, made if it is not there. Not collective. Errors: PAR_ERR_IO,
 * PAR_ERR_MEMORY. */
PAR_API par_status par_log_open(const char *path, par_log **out);
/** The line under way is lost. NULL is accepted. Not collective. */
PAR_API void par_log_close(par_log **log);
/** A whole number as a field of the line under way. Not collective. */
PAR_API void par_log_int(par_log *, const char *key, int64_t value);
/** A number with 9 digits, which tell every float; NaN and infinity become null. Not collective. */
PAR_API void par_log_real(par_log *, const char *key, double value);
/** True or false. Not collective. */
PAR_API void par_log_bool(par_log *, const char *key, bool value);
/** Text, escaped; bytes that are not UTF-8 become ?. Not collective. */
PAR_API void par_log_text(par_log *, const char *key, const char *value);
/** As par_log_real, with as many digits as it takes to read the same double back. Not
 * collective. */
PAR_API void par_log_exact(par_log *, const char *key, double value);
/** Fields up to par_log_object_end are of an object of their own; objects do not nest.
 * Not collective. */
PAR_API void par_log_object(par_log *, const char *key);
/** The object's end. Not collective. */
PAR_API void par_log_object_end(par_log *);
/**
 * End the line and write it.
 *
 * Not collective. Errors: PAR_ERR_IO with the cause, and the file ends with the line before;
 * PAR_ERR_ARG: more than 16 KiB, not written.
 */
PAR_API par_status par_log_end(par_log *);

/* A loss that a log holds. */
typedef struct {
    int64_t step;
    double loss; /* NaN: was not finite */
    bool validation;
} par_log_point;

/* The losses of a log. */
typedef struct {
    par_log_point *points; /* [n], owned, as they stand in the log */
    int64_t n;
    int64_t n_dropped; /* records that were taken out */
} par_log_history;

/**
 * Before par_log_open: make a log ready for a run that goes on after `step`, whose loss was `loss`.
 * Its lines begin with a text field "event"; the run in question begins at the last "start".
 * Records of later steps are taken out, since they will come again, and the losses of the rest are
 * returned, to be freed by par_log_history_free. A broken last line goes too. The file is replaced
 * whole and synced, or not at all.
 *
 * With step 0 (a run that begins) only a broken last line is taken out. A file that is not there,
 * and one that is not a plain file, is left alone.
 *
 * Not collective. Errors: PAR_ERR_FORMAT: a line is no such record, the log's loss of `step` is
 * another one, or it has later steps and not this one; the file is as it was. PAR_ERR_IO,
 * PAR_ERR_MEMORY.
 */
PAR_API par_status par_log_continue(const char *path, int64_t step, double loss,
                                    par_log_history *out);
/** What par_log_continue returned; all zeros are accepted. Not collective. */
PAR_API void par_log_history_free(par_log_history *history);

/* The loss over steps. */
typedef struct par_curve par_curve;

/** Room for n_train and n_validation points; later ones are dropped. Not collective. Errors:
 * PAR_ERR_ARG, PAR_ERR_MEMORY. */
PAR_API par_status par_curve_create(const char *title, int64_t n_train, int64_t n_validation,
                                    par_curve **out);
/** NULL is accepted. Not collective. */
PAR_API void par_curve_destroy(par_curve **curve);
/** Values that are not finite are left out. Steps must not decrease. Not collective. */
PAR_API void par_curve_add(par_curve *, bool validation, int64_t step, double loss);
/**
 * An SVG of 800 x 450 that needs nothing from elsewhere and takes its colours from the reader's
 * preference (light or dark). More than 700 training points are drawn as means of equal runs of
 * them. Written under a temporary name beside `path`, synced, then renamed.
 *
 * Not collective. Errors: PAR_ERR_IO, PAR_ERR_ARG, PAR_ERR_MEMORY.
 */
PAR_API par_status par_curve_write(const par_curve *, const char *path);

#ifdef __cplusplus
}
#endif
#endif
