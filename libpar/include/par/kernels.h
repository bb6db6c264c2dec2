/*
 * Kernels: one struct of arguments per operation, whose comment is the specification, and tables of
 * versions.
 *
 * A backend is device memory and streams plus one kernel per operation. `ref` is plain loops with
 * double accumulation, the specification that runs; `cpu` is oneDNN and vectorised loops, measured
 * against it.
 *
 * Conventions. Matrices are row-major; `ld` is the distance of rows in elements. Pointers lie on
 * the backend's device and are borrowed for the call. Activations and weights have args->dtype
 * (PAR_F32, PAR_BF16, PAR_F16); gradients of parameters, statistics and optimizer state are always
 * fp32. `beta` is 0 (overwrite, the old value is not read) or 1 (accumulate). No output aliases an
 * input unless the comment says so. Counts may be 0. A version refuses what it cannot do with
 * PAR_ERR_UNSUPPORTED in prepare, never in run.
 */
#ifndef PAR_KERNELS_H
#define PAR_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "par/export.h"
#include "par/memory.h"
#include "par/status.h"
#include "par/tensor.h"
#include "par/vote.h"

#ifdef __cplusplus
extern "C" {
#endif

/* On the host a stream runs each call before it returns; `progress` (may be NULL) is called between
 * tiles of long kernels, on the calling thread, so that communication moves on. `timeline` (may be
 * NULL) gets a span per operation, of its call (par/timeline.h). Backends embed this as their first
 * member. */
typedef struct par_stream {
    void (*progress)(void *user);
    void *user;
    struct par_timeline *timeline;
} par_stream;
/* A point in a stream that others wait for. */
typedef struct par_event par_event;

/* What a stream was given once, to be run again; the backend's own. */
typedef struct par_graph par_graph;

/*
 * Every operation, a row each: enumerator, name, struct of arguments. The list makes the enum,
 * par_op_name, the sizes and the union of arguments, the checks and the table of `ref`. For each
 * row it makes the typed calls par_NAME_prepare and par_NAME_run below.
 *
 * To add an operation:
 * 1. a row here, and below its struct, whose comment is the specification;
 * 2. check_NAME in kernels/check.c, for what prepare and run refuse;
 * 3. par__ref_NAME in kernels/ref, in plain loops (par__ref_NAME_prepare in kernels/ref/init.c too
 *    if it needs a workspace);
 * 4. its operands in tests/kernels/device.c, its cases in tests/kernels, and a case with its work
 *    in benchmarks/kernels_cases.c and kernels_work.c.
 * That is enough for `cpu`, which starts from `ref`; versions of cpu and cuda are added where they
 * are worth it.
 */
#define PAR_OP_LIST(X)                                                                             \
    X(GEMM, gemm, par_gemm)                                                                        \
    X(COLUMN_SUM, column_sum, par_column_sum)                                                      \
    X(LAYERNORM, layernorm, par_norm)                                                              \
    X(LAYERNORM_BACKWARD, layernorm_backward, par_norm)                                            \
    X(RMSNORM, rmsnorm, par_norm)                                                                  \
    X(RMSNORM_BACKWARD, rmsnorm_backward, par_norm)                                                \
    X(ROPE, rope, par_rope)                                                                        \
    X(ATTENTION, attention, par_attention)                                                         \
    X(ATTENTION_BACKWARD, attention_backward, par_attention)                                       \
    X(GELU, gelu, par_gelu)                                                                        \
    X(GELU_BACKWARD, gelu_backward, par_gelu)                                                      \
    X(SWIGLU, swiglu, par_swiglu)                                                                  \
    X(SWIGLU_BACKWARD, swiglu_backward, par_swiglu)                                                \
    X(EMBEDDING, embedding, par_embedding)                                                         \
    X(EMBEDDING_BACKWARD, embedding_backward, par_embedding)                                       \
    X(XENT_STATS, xent_stats, par_xent)                                                            \
    X(XENT_LOSS, xent_loss, par_xent)                                                              \
    X(XENT_BACKWARD, xent_backward, par_xent)                                                      \
    X(RESIDUAL, residual, par_residual)                                                            \
    X(ADAMW, adamw, par_update)                                                                    \
    X(SGD, sgd, par_update)                                                                        \
    X(NORM2, norm2, par_norm2)                                                                     \
    X(CAST, cast, par_cast)                                                                        \
    X(ATTENTION_DECODE, attention_decode, par_attention_decode)                                    \
    X(QUANTIZE, quantize, par_quantize)                                                            \
    X(GEMM_INT8, gemm_int8, par_gemm_int8)                                                         \
    X(BALLOT, ballot, par_tally)                                                                   \
    X(VOTE, vote, par_vote_call)

/* PAR_OP_GEMM, PAR_OP_COLUMN_SUM, ... and their number */
typedef enum {
#define PAR_OP_ENUM(OP, name, type) PAR_OP_##OP,
    PAR_OP_LIST(PAR_OP_ENUM)
#undef PAR_OP_ENUM
        PAR_OP_COUNT
} par_op;

/** Whether an operation is one that a backward alone runs. Not collective. */
static inline bool par_op_is_backward(par_op op) {
    switch (op) {
    case PAR_OP_LAYERNORM_BACKWARD:
    case PAR_OP_RMSNORM_BACKWARD:
    case PAR_OP_ATTENTION_BACKWARD:
    case PAR_OP_GELU_BACKWARD:
    case PAR_OP_SWIGLU_BACKWARD:
    case PAR_OP_EMBEDDING_BACKWARD:
    case PAR_OP_XENT_BACKWARD: return true;
    default: return false;
    }
}

/* What a product does to its result s = op(a) · op(b) + bias before it stores it, as an own pass
 * over c would. */
typedef enum {
    PAR_EPILOGUE_NONE, /* c = s + beta · c */
    PAR_EPILOGUE_GELU, /* aux = s, c = gelu(s) in the tanh form; s may be rounded to dtype before */
    PAR_EPILOGUE_GELU_BACKWARD, /* c = s · dgelu(aux), aux as the forward wrote it */
    /* c = s + beta · c, and aux, fp32 [m], = beta · aux + sum over k of op(a)[i,k]: with a = dy
     * (ta) and c = dW this is the gradient of the bias */
    PAR_EPILOGUE_BIAS_GRADIENT
} par_epilogue;

/**
 * c[m,n] = op(a)[m,k] · op(b)[k,n] + bias[n] + beta · c, accumulated in fp32 at least.
 * a is stored [m,k] (ta: [k,m]), b [k,n] (tb: [n,k]); bias may be NULL. a, b and bias have dtype, c
 * has dtype_c (dtype or PAR_F32). c aliases nothing. k = 0 gives bias + beta · c. With GELU or its
 * backward beta is 0, dtype_c is dtype, aux [m,n] has the type and rows of c. With a bias's
 * gradient bias is NULL, dtype_c PAR_F32, and aux aliases nothing. Versions may refuse an epilogue
 * in prepare.
 */
typedef struct {
    par_dtype dtype, dtype_c;
    bool ta, tb;
    int64_t m, n, k;
    const void *a;
    int64_t lda;
    const void *b;
    int64_t ldb;
    void *c;
    int64_t ldc;
    const void *bias;
    float beta;
    par_epilogue epilogue;
    void *aux; /* written by GELU and BIAS_GRADIENT, read by GELU_BACKWARD */
} par_gemm;

/** y[j] = beta · y[j] + sum_i x[i,j]: the gradient of a bias. x [m,n] of dtype, y fp32 [n]. */
typedef struct {
    par_dtype dtype;
    int64_t m, n;
    const void *x;
    int64_t ldx;
    float *y;
    float beta;
} par_column_sum;

/**
 * Dropout as a function of its coordinates. Element e of global row g is kept if word (e mod 4) of
 * philox({e / 4, t, lo(n), (hi(n) & 0xffff) | site << 16}, {lo(seed), hi(seed)}) >= p · 2^32, and
 * is scaled by 1 / (1 - p); n = *sample_base + first_sample + g / T, t = g mod T. p = 0 turns it
 * off.
 */
typedef struct {
    float p;
    uint64_t seed;
    const int64_t *sample_base; /* on the device: the step's first sample; NULL: 0 */
    int64_t first_sample;       /* the micro-batch's first sample, counted from there */
    uint32_t site; /* which dropout of the model: unique per layer and place, below 65536 */
} par_dropout;

/**
 * y[i,j] = residual[i,j] + dropout(x[i,j] + bias[j]); bias and residual may be NULL. Global row of
 * i is first_row + i, the dropout element is j, T its row period. Backward of the dropout is the
 * same operation on dy with both NULL. All [m, n] of dtype; y may be x or residual.
 */
typedef struct {
    par_dtype dtype;
    int64_t m, n, T, first_row;
    const void *x, *bias, *residual;
    void *y;
    par_dropout dropout;
} par_residual;

/**
 * Forward, rows of C = n channels: LayerNorm y = (x - mean) · rstd · w + b with rstd = 1 / sqrt(var
 * + eps), biased variance (Ba et al. 2016); RMSNorm y = x · rstd · w with rstd = 1 / sqrt(mean(x²)
 * + eps) (Zhang and Sennrich 2019); mean and b are then unused and NULL. x, y [m,n], w, b [n] of
 * dtype; mean, rstd fp32 [m] are written. Backward reads x, w, mean, rstd, dy and writes dx [m,n]
 * of dtype (dx may be dy), dw and db fp32 [n] with beta. dw NULL: skip both. If `add` is not NULL,
 * dx also gets add[m,n] (the gradient along the residual; dx may be add). If `residual` is not
 * NULL, forward makes that addition in the same pass, bit for bit as if it ran before: residual->m,
 * n and dtype are the norm's, residual->y is x; y may be residual->x.
 */
typedef struct {
    par_dtype dtype;
    int64_t m, n;
    float eps;
    const void *x, *w, *b;
    void *y;                      /* forward */
    float *mean, *rstd;           /* forward writes, backward reads */
    const par_residual *residual; /* forward; read during the call */
    const void *dy, *add;
    void *dx;
    float *dw, *db;
    float beta;
} par_norm;

/**
 * Rotary position embedding in place, half-split form (Su et al. 2021, as Llama stores q and k):
 * for channel pair (i, i + D/2) of every head, x1' = x1 · cos - x2 · sin, x2' = x2 · cos + x1 · sin
 * with cos, sin fp32 [T, D/2]. Row r has position (first_row + r) mod T. inverse: sin is negated,
 * which is the backward. x [m, heads · D], ldx.
 */
typedef struct {
    par_dtype dtype;
    int64_t m, heads, head_size, T, first_row;
    void *x;
    int64_t ldx;
    const float *cos, *sin;
    bool inverse;
} par_rope;

/**
 * Causal softmax attention with grouped queries: o = dropout(softmax(scale · q kᵀ, keys <= query))
 * v. q, o, dO, dq: [B, T, H, D], k, v, dk, dv: [B, T, K, D], with H = 0 mod K; head h reads KV head
 * h / (H / K); a token's row starts ld elements after the one before. lse fp32 [B, H, T] is
 * log(sum(exp(scores))) with the scale, written by forward. Dropout's row is b · T + query, its
 * element (first_head + h) · T + key. Backward overwrites dq, dk, dv (no beta). Dao et al. 2022,
 * algorithm 1, for the tiled form.
 *
 * With `apart`, a query sees no key of an earlier document of its sequence: documents [B, T] is the
 * index, in the sequence, of the first token of each token's document, and query t sees the keys
 * documents[b,t] <= key <= t. So documents[b,t] <= t, and it does not fall as t grows.
 */
typedef struct {
    par_dtype dtype;
    int64_t B, T, H, K, D;
    int64_t first_head; /* global number of local head 0, for dropout */
    float scale;
    bool apart;
    const int32_t *documents; /* with apart */
    const void *q, *k, *v;
    int64_t ldq, ldk, ldv;
    void *o; /* backward reads it */
    int64_t ldo;
    float *lse;
    const void *d_o;
    int64_t ldd_o;
    void *dq, *dk, *dv;
    int64_t lddq, lddk, lddv;
    par_dropout dropout;
} par_attention;

/**
 * Attention of one new token per sequence over cached keys and values, the last row of
 * PAR_OP_ATTENTION: o = softmax(scale · q kᵀ) v over tokens 0 .. n - 1 of the cache. The new
 * token's own key and value are among them. q and o [B, H, D], a sequence's row ldq and ldo
 * elements after the one before. k and v [B, capacity, K, D] without gaps; n <= capacity, tokens
 * from n on are not read. n = 0 gives 0. H = 0 mod K; head h reads KV head h / (H / K). No dropout,
 * forward only. The workspace depends on the capacity, not on n.
 */
typedef struct {
    par_dtype dtype;
    int64_t B, H, K, D;
    int64_t capacity, n;
    float scale;
    const void *q, *k, *v;
    int64_t ldq;
    void *o;
    int64_t ldo;
} par_attention_decode;

/* Elements of a row that share a scale, from its first one on; the last group may have fewer. */
enum { PAR_INT8_GROUP = 128 };
/** Groups of a row of n elements. Not collective. */
static inline int64_t par_int8_groups(int64_t n) {
    return n / PAR_INT8_GROUP + (n % PAR_INT8_GROUP > 0);
}

/**
 * A matrix as 8-bit integers with a scale per group, symmetric about 0. x [m, n] of dtype, q [m, n]
 * without gaps, scales fp32 [m, par_int8_groups(n)]. Of a group with the largest magnitude max:
 * scale = max / 127 and q = x · (127 / max), both in fp32, q then rounded to nearest even; so |q|
 * <= 127, and |x - q · scale| is at most scale / 2 and a rounding. A group whose max is below
 * 2^-100 has scale and q 0. A group with inf or NaN has scale NaN and q 0.
 */
typedef struct {
    par_dtype dtype;
    int64_t m, n;
    const void *x;
    int64_t ldx;
    int8_t *q;
    float *scales;
} par_quantize;

/**
 * c[m,n] = a[m,k] · w[n,k]ᵀ + bias[n] with w = q · scales as PAR_OP_QUANTIZE left them: for rows of
 * activations and a layer's weights. Sums are fp32 at least; a is not rounded. a and bias (may be
 * NULL) have dtype, c has dtype_c (dtype or PAR_F32). c aliases nothing. k = 0 gives the bias.
 */
typedef struct {
    par_dtype dtype, dtype_c;
    int64_t m, n, k;
    const void *a;
    int64_t lda;
    const int8_t *q;
    const float *scales;
    void *c;
    int64_t ldc;
    const void *bias;
} par_gemm_int8;

/**
 * GELU. tanh form: y = x/2 · (1 + tanh(sqrt(2/π) · (x + 0.044715 x³))); erf form: y = x/2 · (1 +
 * erf(x / sqrt 2)) (Hendrycks and Gimpel 2016). Backward: dx = dy · dGELU(x). All [m] of dtype; y
 * may be x; dx may be dy.
 */
typedef struct {
    par_dtype dtype;
    int64_t n;
    bool erf;
    const void *x;
    void *y;
    const void *dy;
    void *dx;
} par_gelu;

/**
 * SwiGLU (Shazeer 2020): x [m, 2n] = gate | up, y[m,n] = silu(gate) · up, silu(g) = g / (1 +
 * exp(-g)). Backward: dx [m, 2n] from x and dy [m, n].
 */
typedef struct {
    par_dtype dtype;
    int64_t m, n;
    const void *x;
    void *y;
    const void *dy;
    void *dx;
} par_swiglu;

/**
 * Rows of a table, or of a range of it. For i < m, j = id(i) - begin:
 *   y[i,:] (+)= table[j,:] if 0 <= j < rows, else y[i,:] (+)= 0
 * id(i) = ids[i], or (first_row + i) mod T where ids is NULL (positions). accumulate: add to y.
 * table [rows, n] and y [m, n] of dtype. Backward, dtable fp32 [rows, n]:
 *   dtable = beta · dtable + sum of the dy rows, added in the order of i, so that the bits repeat
 */
typedef struct {
    par_dtype dtype;
    int64_t m, n, rows, begin;
    const int32_t *ids;
    int64_t first_row, T;
    const void *table;
    void *y;
    bool accumulate;
    const void *dy;
    float *dtable;
    float beta;
} par_embedding;

/**
 * Softmax cross-entropy over a vocabulary that is split over p ranks, in three operations with one
 * all-gather between. logits have dtype; targets int32 [m] are global ids, negative = ignored.
 * 1. stats: local columns [0, valid) of logits [m, ldx] are vocabulary entries begin + column;
 *    stats fp32 [m, 3] = {max, sum exp(x - max), the target's logit if it is local, else 0};
 *    valid = 0 gives {-inf, 0, 0}.
 * 2. loss: gathered stats [p, m, 3], combined in rank order: lse fp32 [m] = log sum exp over all
 *    ranks, and sums fp32 [2] = {sum of (lse - target logit), number of rows} over rows whose
 *    target is >= 0. accumulate: added to sums.
 * 3. backward, in place: x = (exp(x - lse) - [column is the target]) · *seed; 0 in ignored rows
 *    and in columns [valid, n).
 */
typedef struct {
    par_dtype dtype;
    int64_t m, n, valid, begin;
    void *logits;
    int64_t ldx;
    const int32_t *targets;
    int p;
    float *stats;
    float *lse;
    float *sums;
    bool accumulate;
    const float *seed; /* backward; on the device */
} par_xent;

/**
 * AdamW over a flat range (Loshchilov and Hutter 2019), PyTorch's formula: g = grad · grad_scale;
 * w -= lr · decay · w; m = b1 m + (1-b1) g; v = b2 v + (1-b2) g²;
 * w -= lr / correction1 · m / (sqrt(v) / sqrt(correction2) + eps), correction = 1 - b^t. master
 * fp32 [n] is updated; if weights is not NULL it gets master rounded to dtype. SGD with momentum
 * (PyTorch's, no dampening): g = grad · grad_scale + decay · w; m = momentum m + g (m = g at t =
 * 1); w -= lr · m. momentum is b1; v is unused. lr, grad_scale, t and the corrections are read from
 * `step`, on the device; nothing is written if step->skip.
 */
typedef struct {
    par_dtype dtype;
    int64_t n;
    float *master;
    void *weights; /* dtype [n], or NULL: master is what GEMMs read */
    const float *grad;
    float *m, *v;
    const par_step *step;
    float eps, decay;
    double b1, b2; /* in fp32, 1 - 0.999 would be off by 1e-5 of itself */
} par_update;

/** A vector x, fp32 [n], and where its norm goes, out [2]. */
typedef struct {
    int64_t n;
    const float *x;
    double *out;
} par_norm2_vector;

/** For each vector out[0] += sum x², out[1] += number of elements that are inf or NaN (they do not
 * enter out[0]). The bits are those of a call for each vector alone. `vectors` [n_vectors] lies on
 * the host, on every backend, and is read during prepare and run alone; outs do not overlap.
 */
typedef struct {
    int64_t n_vectors;
    const par_norm2_vector *vectors;
} par_norm2;

/** y = cast(x · scale), round to nearest even; [n]; y may be x if the types have one size. */
typedef struct {
    par_dtype dtype_x, dtype_y;
    int64_t n;
    float scale;
    const void *x;
    void *y;
} par_cast;

/**
 * A rank's ballot: norm2, n_nonfinite, first_bad from norms [n_norms, 2] as PAR_OP_NORM2 leaves
 * them, a parameter each, in order; loss_sum and n_targets from losses [n_losses, 2] as
 * PAR_OP_XENT_LOSS leaves them, a micro-batch each, in order. A loss sum that is not finite counts
 * as one non-finite element. The ballot's other fields are the caller's and stay.
 */
typedef struct {
    int64_t n_norms, n_losses;
    const double *norms;
    const float *losses;
    par_ballot *ballot;
} par_tally;

/**
 * The decision, the same bits from the same ballots [n] in rank order everywhere: a status other
 * than 0 halts; inf or NaN skips, and halts as the rules say; else the update's values are set. The
 * outcome is in state->outcome; a halted state only gets step.skip. One call per step.
 */
typedef struct {
    int64_t n;
    const par_ballot *ballots;
    par_vote_rules rules;
    par_vote_state *state;
} par_vote_call;

/* Room for the arguments of any operation: args.gemm, args.layernorm_backward, ... */
typedef union {
#define PAR_OP_MEMBER(OP, name, type) type name;
    PAR_OP_LIST(PAR_OP_MEMBER)
#undef PAR_OP_MEMBER
} par_op_args;

/*
 * A version of an operation; `args` is the operation's struct of PAR_OP_LIST.
 *
 * Whatever takes time or memory is prepare's: it makes plans, times candidates, compiles. run only
 * enqueues what prepare planned. It plans, allocates, times and waits for nothing, on any device.
 * So a run whose shape no prepare saw is refused with PAR_ERR_ARG where a version needs a plan.
 *
 * Pointers lie at multiples of their element's size, no more. prepare sees none. Blocks of a
 * par_memory lie at multiples of 16 bytes. A version that needs another plan for pointers that do
 * not makes it in prepare too, or its run refuses them with PAR_ERR_ARG.
 *
 * On the host a library that a version calls may take heap for the length of a call. oneDNN does,
 * for operands that it packs and for the description of a product.
 */
typedef struct {
    const char *name; /* "gemm/cpu/onednn", logged */
    par_status (*prepare)(const void *args, size_t *workspace_nbytes);
    par_status (*run)(par_stream *, const void *args, void *workspace);
} par_kernel;

enum { PAR_CHOICES_NBYTES = 4096 };

/* By what a part of the work is computed, or its data carried. The texts live as long as what was
 * asked. */
typedef struct {
    const char *work;   /* "products", "attention", "link tp" */
    const char *what;   /* "cuBLASLt 13.2.0, fp32 in full, ..." */
    const char *slower; /* NULL: nothing faster is known here; else why that is not used, and what
                           to do */
} par_method;

/*
 * Calls with a stream enqueue. What they read and write belongs to the stream until sync, an event
 * behind them, or a wait for that event says that they are done. A NULL stream is the backend's
 * default one.
 */
typedef struct par_backend {
    const char *name;
    par_kernel kernels[PAR_OP_COUNT];
    bool on_host;              /* the host may read and write the device's memory as its own */
    par_allocator memory;      /* the device's */
    par_allocator host_memory; /* the host's, pinned: what copies to and from the device run with */
    par_status (*stream_create)(par_stream **out); /* progress NULL; the caller may set it */
    void (*stream_destroy)(par_stream *);          /* nothing may be under way */
    par_status (*event_create)(par_event **out);
    void (*event_destroy)(par_event *);
    par_status (*copy)(par_stream *, void *dst, const void *src,
                       size_t nbytes); /* host and device, any way */
    par_status (*zero)(par_stream *, void *dst, size_t nbytes);
    par_status (*event_record)(par_stream *, par_event *);
    par_status (*wait)(par_stream *, par_event *); /* the stream waits, the host does not */
    par_status (*event_query)(par_event *,
                              bool *done); /* of the last record; true before the first */
    par_status (*sync)(par_stream *);      /* the host waits */
    /* Events that tell when a stream got to them; both NULL on the host, where calls run before
     * they return and the caller's clock tells. elapsed: seconds by the device's clock between the
     * last records of two timed events of one stream, `from` recorded first. It does not wait. It
     * is an error if either was never recorded or has not happened yet. */
    par_status (*timed_event_create)(par_event **out);
    par_status (*elapsed)(par_event *from, par_event *to, double *seconds);
    /* A stream's calls as a graph that can be launched again and again, with the arguments that the
     * calls had; all four NULL: there are none. From capture_begin to capture_end what is put on
     * the stream, and on streams that wait for events of it, is kept and does not run. Such streams
     * have to be joined again by events. Meanwhile the thread asks for no event, waits for nothing
     * and allocates nothing. Timed events are recorded at every launch; others that were recorded
     * meanwhile belong to the graph alone. capture_end: `out` NULL drops what was kept, and after
     * an error there is no graph. A graph may be destroyed at any time; a launch that is under way
     * goes on. */
    par_status (*capture_begin)(par_stream *);
    par_status (*capture_end)(par_stream *, par_graph **out);
    par_status (*graph_launch)(par_graph *, par_stream *);
    void (*graph_destroy)(par_graph *);
    /* What was timed and chosen, as text [PAR_CHOICES_NBYTES at most] from which another run
     * chooses the same; NULL: nothing is ever timed. choose: PAR_ERR_OPTION if the text is another
     * library's or device's. */
    const char *(*choices)(void);
    par_status (*choose)(const char *text);
    /* A named range of the calling thread for a profiler, nested; NULL: there is none to tell. */
    void (*range_begin)(const char *name);
    void (*range_end)(void);
    const char *device;                     /* what par_backend_device says; NULL: "host" */
    bool (*method)(int i, par_method *out); /* as par_backend_method; NULL: it has nothing to say */
    /* Bytes in use on the device, by whomever; NULL: it cannot tell, as the host. */
    par_status (*memory_used)(size_t *nbytes);
    /* What comms move data between such devices with, beside pinned host memory; NULL: nothing.
     * libpar's own. */
    const struct par__nccl *nccl;
} par_backend;

/** Begin a range for a profiler around what the calling thread does next, if the backend has one.
 * Not collective. */
static inline void par_range_begin(const par_backend *backend, const char *name) {
    if (backend->range_begin) backend->range_begin(name);
}
/** End the range that was begun last. Not collective. */
static inline void par_range_end(const par_backend *backend) {
    if (backend->range_end) backend->range_end();
}

/**
 * The backend called "ref", "cpu" or "cuda". Not collective. Errors: PAR_ERR_OPTION with the names
 * that there are; PAR_ERR_UNSUPPORTED with what is missing: "cuda" is a module (libpar_cuda.so)
 * that is loaded at the first call, with the device of par_device_select, or else the first one.
 */
PAR_API par_status par_backend_get(const char *name, const par_backend **out);

/* Which of a node's devices this process uses. */
typedef struct {
    int local_rank, local_size; /* among the ranks of this node */
    int device;  /* -1: local_rank, among the devices that CUDA_VISIBLE_DEVICES leaves */
    bool shared; /* several ranks may use one device: for functional tests, slow */
    bool tune;   /* time the candidates for a product once, instead of taking the first */
    bool tf32;   /* products in fp32 round their factors to TF32: faster, 10 bits of mantissa */
    /* The most that the deterministic backward of attention may take, whose workspace grows with
     * T²; 0: an eighth of the device's memory. Beyond it prepare refuses, unless the other form is
     * allowed. */
    size_t attention_workspace_nbytes;
    bool nondeterministic_attention; /* sums of attention's dq in any order: less workspace, bits
                                        that differ from run to run */
    const char *plan_cache; /* folder where compiled attention plans are kept from run to run; NULL:
                               nowhere. Borrowed until the module is loaded */
    bool plan_only; /* operations are only prepared, by par_trainer_plan: where there is no GPU, one
                       is taken as recorded in libpar, an H100, and nothing is run on it */
} par_device_params;

/**
 * Choose the device before the first par_backend_get("cuda"). Not collective. Errors: PAR_ERR_ARG
 * after the module has been loaded. That there is such a device is found out when it is loaded.
 */
PAR_API par_status par_device_select(const par_device_params *params);

/** The device of a loaded backend in a line: name, bus id, NUMA node, memory, driver and library
 * versions; "host" for ref and cpu. Not collective. */
PAR_API const char *par_backend_device(const par_backend *backend);

/**
 * The i-th of the methods, from 0, by which a backend computes what it has prepared so far:
 * products with the library's version, and attention by its shapes. It is what runs, not what was
 * asked for: library, version, and the reason where something faster is known and not used. False:
 * there are fewer (none on ref and cpu, whose kernels have their names alone). What a trainer uses,
 * links included, is par_trainer_method's answer. Not collective.
 */
PAR_API bool par_backend_method(const par_backend *backend, int i, par_method *out);

/** "gemm", "attention_backward", ...; NULL for a value that is not a par_op. Not collective. */
PAR_API const char *par_op_name(par_op op);

/** Size of the operation's arguments, in bytes; 0 for what is not a par_op. Not collective. */
PAR_API size_t par_op_args_nbytes(par_op op);

/**
 * What par_NAME_prepare does, for code that walks over operations, as tests and benchmarks do: no
 * compiler sees here that `args` is the operation's struct. args_nbytes is the size of that struct,
 * or of par_op_args. Not collective. Errors: as par_NAME_prepare; PAR_ERR_ARG also when the
 * operation is unknown or its struct has another size.
 */
PAR_API par_status par_op_prepare_untyped(const par_backend *backend, par_op op, const void *args,
                                          size_t args_nbytes, size_t *workspace_nbytes);
/** What par_NAME_run does, in the same way. Not collective. Errors: as par_NAME_run; PAR_ERR_ARG
 * also when the operation is unknown or its struct has another size. */
PAR_API par_status par_op_run_untyped(const par_backend *backend, par_op op, par_stream *stream,
                                      const void *args, size_t args_nbytes, void *workspace);

/**
 * The typed calls, for every row of PAR_OP_LIST:
 *
 *     par_status par_gemm_prepare(const par_backend *backend, const par_gemm *args,
 *                                 size_t *workspace_nbytes);
 *     par_status par_gemm_run(const par_backend *backend, par_stream *stream, const par_gemm *args,
 *                             void *workspace);
 *
 * prepare: workspace of the operation for one shape (the shape fields of args; pointers may be
 * NULL). Errors: PAR_ERR_UNSUPPORTED if this version cannot do it, PAR_ERR_ARG for impossible
 * shapes.
 *
 * run: enqueue the operation; workspace has at least what prepare asked for (NULL if 0). Errors:
 * PAR_ERR_ARG for impossible arguments.
 *
 * Not collective.
 */
#define PAR_OP_CALLS(OP, name, type)                                                               \
    static inline par_status par_##name##_prepare(const par_backend *backend, const type *args,    \
                                                  size_t *workspace_nbytes) {                      \
        return par_op_prepare_untyped(backend, PAR_OP_##OP, args, sizeof *args, workspace_nbytes); \
    }                                                                                              \
    static inline par_status par_##name##_run(const par_backend *backend, par_stream *stream,      \
                                              const type *args, void *workspace) {                 \
        return par_op_run_untyped(backend, PAR_OP_##OP, stream, args, sizeof *args, workspace);    \
    }
PAR_OP_LIST(PAR_OP_CALLS)
#undef PAR_OP_CALLS

#ifdef __cplusplus
}
#endif
#endif
