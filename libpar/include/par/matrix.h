/*
 * The communication matrix: who sends what to whom, counted by the recorder and predicted from the
 * layout; by axis, purpose and pair of ranks, by operation, and by layer and phase. A program with
 * a transport needs no more of libpar for it:
 *
 *   par_traffic_count of its recorder on every rank, par_matrix_gather, and on rank 0
 *   par_matrix_print or one of par_matrix_write_*.
 *
 * Two kinds of traffic are told apart. Traffic of the algorithm is what the ranks really send to
 * each other. Logical traffic is what an operation asks for: what a rank needs of another one,
 * whatever algorithm carries it (par_recorder_cell). Nothing here prints.
 */
#ifndef PAR_MATRIX_H
#define PAR_MATRIX_H

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

enum { PAR_TRAFFIC_LINES = 64, PAR_TRAFFIC_OPS = 128, PAR_TRAFFIC_LAYERS = 4096 };

/* An operation of one axis and purpose: a par_recorder_row. */
typedef struct {
    char axis[16], purpose[32], op[16];
    int n_ranks; /* of a group */
    int64_t n_ops, nbytes, n_messages, logical_nbytes;
    double bus_nbytes, seconds, wait_s, hidden_s;
} par_traffic_op;

/* One axis, purpose, layer and phase: par_recorder_entry, all operations together. */
typedef struct {
    char axis[16], purpose[32], phase[16];
    int layer; /* -1: none */
    int64_t n_ops, nbytes, n_messages;
    double wait_s;
} par_traffic_layer;

/*
 * What one rank sent or will send: a line for each axis and purpose. What ranks agree on (purposes
 * "vote", "agree", "check", "signals", "health", "replicas") is axis "control" in lines and layers,
 * whichever communicator carries it; in ops it is the communicator's.
 */
typedef struct {
    int size, n; /* world ranks; lines in use */
    char axis[PAR_TRAFFIC_LINES][16], purpose[PAR_TRAFFIC_LINES][32];
    par_recorder_cell *cells; /* [PAR_TRAFFIC_LINES, size], to each world rank */
    int n_ops, n_layers;
    par_traffic_op *ops;       /* [PAR_TRAFFIC_OPS] */
    par_traffic_layer *layers; /* [PAR_TRAFFIC_LAYERS] */
    bool overflow;             /* there were more lines, or names that do not fit */
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
    int tp_pieces; /* par_trainer_params.tp_pieces; 0: 1 */
    int zero, chunks;
    int n_blocks; /* on this rank, all chunks together */
    bool embedding, head;
    int64_t loss_rows;        /* of the head's logits at a time: par_transformer_loss_rows */
    par_param *const *params; /* [n_params] */
    int n_params;
    int64_t n_flat;      /* elements of the flat space: bytes of PAR_MEM_GRADIENTS / 4 */
    int64_t steps;       /* voted on */
    int64_t micros;      /* micro-batches trained by a dp rank, over all steps */
    int64_t evaluations; /* calls of par_trainer_evaluate */
    int64_t eval_micros; /* micro-batches of a dp rank in all of them */
} par_traffic_run;

/**
 * Replace the table by what the layout says: a function of its arguments. It has bytes alone.
 *
 * With n = B T C elements of s bytes and t, d ranks along tp, dp. A sum over t ranks of a vector of
 * more than 4 KiB is a direct reduce-scatter and a direct all-gather. To every peer j goes its
 * shard and then the own shard: 2 (t - 1) / t of the bytes (Chan et al. 2007). All-gathers of
 * shards of at most 4 KiB and sums of vectors of at most 4 KiB go in phases: phase k sends min(2^k,
 * t - 2^k) blocks to rank r - 2^k (Bruck et al. 1997).
 *
 *   tp, activations forward    per micro-batch: sums of n: 2 per block, 1 of the embedding. With
 *                              sequence parallel a sum is a reduce-scatter, and there are 2
 *                              all-gathers per block; in evaluation 1 of the head. Those
 *                              of blocks are made in tp_pieces: piece i of rows (B T, with
 *                              sequence parallel a rank's B T / t) has rows i / tp_pieces to
 *                              rows (i + 1) / tp_pieces.
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
 *   dp, parameters             ZeRO-1, per step, a skipped one too, as only the device knows yet:
 *                              an all-gather of every bucket's weights.
 *   SUM, partial gradients     per step: an all-reduce over SUM = tp, kv, tied of each run of such
 *                              parameters.
 *   control, vote              per step: all-gathers of the ballots, 72 bytes per rank, from the
 *                              fastest axis to the slowest, each of what the ones before gathered.
 *                              Per evaluation: an all-gather over the world of 24 bytes per rank.
 *
 * Full recompute runs every training micro-batch's forward twice, but for the head, which trains in
 * backward alone. Evaluation runs forward alone.
 * Names of non-finite parameters are not in it ("agree"), nor what is not a step or an evaluation:
 * checkpoints, agreements ("agree"), signals, health, comparisons of replicas and of checked
 * communicators.
 *
 * Not collective. Errors: PAR_ERR_ARG, PAR_ERR_MEMORY.
 */
PAR_API par_status par_traffic_predict(par_traffic *, const par_traffic_run *);

/* What a cell of a matrix has. */
typedef enum {
    PAR_MATRIX_NBYTES,    /* of the algorithm, sent */
    PAR_MATRIX_MESSAGES,  /* that made them */
    PAR_MATRIX_LOGICAL,   /* bytes */
    PAR_MATRIX_PREDICTED, /* bytes of the algorithm */
    PAR_MATRIX_WAIT,      /* seconds in which `from` waited for `to` */
    PAR_MATRIX_QUANTITIES
} par_matrix_quantity;

/* From one rank to another. */
typedef struct {
    int32_t from, to;
    int64_t nbytes, n_messages, logical_nbytes, predicted_nbytes;
    double wait_s;
} par_matrix_cell;

/* One axis and purpose over the world. */
typedef struct {
    char axis[16], purpose[32];
    int64_t n;
    par_matrix_cell *cells; /* [n], by from, then to; pairs with nothing are left out */
} par_matrix_line;

/* Who sends what to whom, over `size` ranks. What it points to is its own. */
typedef struct {
    int size, n; /* ranks; lines */
    par_matrix_line *lines;
    bool known[PAR_MATRIX_QUANTITIES];
    bool overflow; /* something is missing: a table of some rank was full */
    int n_ops, n_layers;
    par_traffic_op *ops;       /* sums over ranks */
    par_traffic_layer *layers; /* sums over ranks */
    int n_hosts;
    char (*hosts)[64]; /* [n_hosts] */
    int *host;         /* [size], index of each rank's host; NULL: unknown */
    /* set by who knows it, on rank 0 */
    bool has_layout;
    par_layout layout; /* 0 is read as par_layout says */
    int64_t steps;     /* in it; 0: unknown */
    double seconds;    /* that they took; 0: unknown */
    char program[32];  /* that counted */
} par_matrix;

/**
 * All ranks' tables on rank 0 of comm, lines in the order in which ranks name them; *out is NULL
 * elsewhere. It is meant for a run's end: it allocates, and what it sends itself is not in the
 * tables that it is given. predicted: NULL on all ranks where nothing is predicted.
 *
 * Collective: on comm, whose ranks must be those of the tables in the same order. Errors [agreed]:
 * PAR_ERR_ARG, PAR_ERR_MEMORY. [comm]: PAR_ERR_TRANSPORT.
 */
PAR_API par_status par_matrix_gather(par_comm *, const par_traffic *counted,
                                     const par_traffic *predicted, par_matrix **out);
/** NULL is accepted. Not collective. */
PAR_API void par_matrix_destroy(par_matrix **matrix);
/** A cell's quantity; bytes are exact up to 2^53. Not collective. */
PAR_API double par_matrix_value(const par_matrix_cell *, par_matrix_quantity);
/** Where a value of a map stands on the logarithmic scale of its shades, up to 1 for the largest;
 * -1: it is 0. The scale spans a factor of 10 at least, so that cells that are nearly equal look
 * so: 0 is max(10, largest / smallest) times less than the largest. Not collective. */
PAR_API double par_matrix_shade(double smallest, double largest, double value);

/**
 * The matrix as text: for all axes together and for each a heat map of the quantity, a row per
 * sender; of bytes counted left and predicted right, where both are known. A dot is nothing; four
 * shades, each a factor of the same size, lead to the map's largest cell (par_matrix_shade).
 * Borders stand where the layout's axes do. Then tables: axes and purposes; what stays within
 * hosts; every operation with its bandwidths; layers and phases; and differences by axis, purpose
 * and sender. At most 132 columns; above 64 ranks a cell is the sum of a square of ranks. `print`
 * gets one line of UTF-8 at a time, without its end.
 *
 * Not collective.
 */
PAR_API void par_matrix_print(const par_matrix *, par_matrix_quantity,
                              void (*print)(void *user, const char *line), void *user);
/** The layout says something of what a line is for; false of checkpoints, and of agreements beside
 * votes. Not collective. */
PAR_API bool par_matrix_is_predicted(const par_matrix_line *);
/** Senders whose counted bytes to some rank differ from the prediction, over all lines of what is
 * predicted; 0 where one of the two is not known. Not collective. */
PAR_API int par_matrix_differences(const par_matrix *);

/**
 * The matrix as JSON, in the form that docs/diagnostics.md describes. Written under a temporary
 * name beside `path`, synced, then renamed, as the other files are.
 *
 * Not collective. Errors: PAR_ERR_IO, PAR_ERR_ARG, PAR_ERR_MEMORY.
 */
PAR_API par_status par_matrix_write_json(const par_matrix *, const char *path);
/** What par_matrix_write_json or another recorder wrote. Not collective. Errors: PAR_ERR_IO;
 * PAR_ERR_FORMAT: it is not a matrix; PAR_ERR_ARG, PAR_ERR_MEMORY. */
PAR_API par_status par_matrix_read_json(const char *path, par_matrix **out);
/**
 * axis,purpose,from,to,counted,predicted,messages,logical,wait_s: a line for every cell.
 *
 * Not collective. Errors: PAR_ERR_IO, PAR_ERR_ARG, PAR_ERR_MEMORY.
 */
PAR_API par_status par_matrix_write_csv(const par_matrix *, const char *path);
/**
 * HDF5: a data set AXIS/PURPOSE [from, to] per line, whose elements have what is known of a cell as
 * fields, named as in JSON. In h5py: file["tp/loss"]["nbytes"][from, to].
 *
 * Not collective. Errors: PAR_ERR_UNSUPPORTED where libpar was built without HDF5; PAR_ERR_IO,
 * PAR_ERR_ARG, PAR_ERR_MEMORY.
 */
PAR_API par_status par_matrix_write_hdf5(const par_matrix *, const char *path);
/**
 * A page of SVG, 800 wide, with what par_matrix_print prints. It has heat maps of the quantity on a
 * logarithmic scale with its legend, and the table. Lines stand at the borders of axes, and a red
 * frame around cells that differ from the prediction. It needs nothing from elsewhere and takes
 * light or dark colours as the reader prefers.
 *
 * Not collective. Errors: PAR_ERR_IO, PAR_ERR_ARG, PAR_ERR_MEMORY.
 */
PAR_API par_status par_matrix_write_svg(const par_matrix *, par_matrix_quantity, const char *path);
/** The same as PNG, 1600 wide, in light colours. Not collective. Errors: PAR_ERR_UNSUPPORTED where
 * there is no libcairo.so.2; PAR_ERR_IO, PAR_ERR_ARG, PAR_ERR_MEMORY. */
PAR_API par_status par_matrix_write_png(const par_matrix *, par_matrix_quantity, const char *path);

#ifdef __cplusplus
}
#endif
#endif
