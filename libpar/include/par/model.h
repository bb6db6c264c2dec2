/*
 * Models: parameters with global names, modules with an explicit forward and backward, and a list
 * of modules that the trainer cuts into pipeline stages. A user's own model implements
 * par_module_ops and par_model and needs nothing else.
 */
#ifndef PAR_MODEL_H
#define PAR_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "par/export.h"
#include "par/kernels.h"
#include "par/memory.h"
#include "par/mesh.h"
#include "par/status.h"
#include "par/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How initial weights are drawn. */
typedef enum { PAR_INIT_CONSTANT, PAR_INIT_NORMAL } par_init;

/*
 * One rectangle of one named logical tensor, as this rank holds it. Weight [local] in the trainer's
 * dtype, gradient fp32 [local], both at element `flat` of the rank's flat space; so are master
 * weights and moments.
 */
typedef struct {
    char name[96]; /* "layers.3.attention.q.weight": one logical tensor, never a fused one */
    int ndim;      /* 1 or 2 */
    bool decay;    /* weight decay applies: true for matrices */
    int64_t
        global[2]; /* logical shape without padding; linear weights are [out, in]; 1 from ndim on */
    int64_t offset[2]; /* this rank's rectangle: first index, extent (may be 0) */
    int64_t extent[2];
    int64_t local[2];      /* extent + zero padding, as it lies in memory */
    int64_t flat;          /* first element in the rank's flat space */
    int16_t chunk, bucket; /* local pipeline chunk; gradient bucket */
    int16_t replica,
        n_replicas; /* among the ranks of a dp index; replica 0 counts in norms, totals and files */
    par_comm
        *sum;  /* copies hold partial gradients: add them over this group; NULL: copies are equal */
    bool tied; /* also registered by another module under the same name */
    par_init init;
    double init_value; /* the constant, or the standard deviation; mean 0 */
    void *weight; /* on the backend's device; set before the first call, NULL while measuring */
    float *grad;
    par_dtype dtype; /* of weight */
    bool written;    /* grad holds something of this step */
} par_param;

/* Fill in name .. local, replica .. init_value. Left 0: global = the shape, offset 0, extent and
 * local = global, one copy. */
typedef par_param par_param_spec;

/* What forward does not keep for backward, which makes it again. */
typedef enum { PAR_RECOMPUTE_NONE, PAR_RECOMPUTE_SELECTIVE, PAR_RECOMPUTE_FULL } par_recompute;

/* The parameters of a rank; modules add to it by par_build_param. */
typedef struct par_registry par_registry;

/* A tensor of a module's stash, named for the ledger of memory. */
typedef struct {
    char name[32];
    size_t nbytes;
} par_kept;
enum { PAR_MAX_KEPT = 16 };

enum { PAR_MAX_TP_PIECES = 16 };

/* What a module is told when it is built, and what it answers. */
typedef struct {
    const par_mesh *mesh;
    const par_backend *backend;
    par_memory *memory; /* for constant tables (PAR_MEM_WEIGHTS) */
    par_registry *registry;
    par_dtype dtype;        /* of activations and of weights in GEMMs */
    int64_t micro_batch;    /* samples B per call */
    uint64_t seed;          /* of dropout */
    bool sequence_parallel; /* only true when tp > 1 */
    int tp_pieces;          /* a forward's rows travel over tp in so many pieces, each under the
                               product of another; 0 and 1: whole. Modules may ignore it */
    par_recompute
        recompute;        /* SELECTIVE: keep no norm outputs and no activation-function outputs */
    size_t logits_nbytes; /* the last module's logits may take so much at a time; 0: no bound */
    bool keep_logits;     /* the last module leaves those of an evaluation in its stash */
    bool apart;           /* calls bring par_call.documents; a module without attention, or whose
                             tokens may see all before them, ignores it */
    bool int8;            /* decode_build: products with copies of the weights of 8 bits, where the
                             module has them; others may ignore it */
    int64_t prompt;       /* decode_build: tokens of a call of `prompt`; 0: none follows */
    bool inference;       /* build: neither forward nor backward follows, so that no operation is
                             prepared; decode_build prepares its own */
    bool forward_only;    /* build: no backward follows, and none of its operations is prepared */
    int16_t chunk;
    int16_t sublayer; /* a module with several tells whose parameters it registers; 0 before */
    par_tensor x; /* shape and type of the input; data NULL. The first module's is the batch's x */
    par_tensor y; /* answer: shape and type of the output */
    size_t stash_nbytes;     /* answer: kept per micro-batch, from forward to backward */
    size_t scratch_nbytes;   /* answer: within one call; modules share it */
    size_t workspace_nbytes; /* answer: of these, what kernels asked for; for the ledger */
    par_kept
        kept[PAR_MAX_KEPT]; /* answer: what the stash is made of, for the ledger; may be empty */
    int n_kept;
} par_build;

/* What a call is told. */
typedef struct {
    par_stream *stream;
    void *stash; /* of this micro-batch; also given when not training */
    void *scratch;
    const void
        *targets; /* last stage: the batch's targets, as the data source wrote them; else NULL */
    const int32_t *documents; /* on the device, [B, T], as par_attention.documents; NULL: documents
                                   are not apart */
    const int64_t *sample_base; /* on the device: number of the step's first sample; NULL: 0 */
    int64_t first_sample;       /* the micro-batch's first sample, counted from there */
    int16_t micro;
    int16_t sublayer; /* forward and backward: which one's */
    bool training;    /* false: no dropout, backward will not follow, outputs may be asked for */
    const float
        *loss_seed; /* on the device: dLoss of a target, scale / targets of a full micro-batch */
    float *loss;    /* the last module: its y, on the device, in backward too; others: NULL */
} par_call;

typedef struct par_module par_module;

/*
 * x, y, dy, dx are the executor's; x is kept (or recomputed) until backward returned; in backward
 * dx may not alias x nor dy. dx is NULL for the first module of the model. The last module's y is
 * fp32 [2] = {loss sum, number of targets} of the micro-batch, equal on all tp ranks, its dy NULL;
 * when training it may leave y to its backward, which finds it in call->loss.
 * Gradients of parameters accumulate with par_grad_beta(). A module with sublayers is asked for the
 * forward of each, from the first to the last, with the same x and y, and for the backward of each,
 * from the last to the first, with the same x, dy and dx. Between them nothing else of the chunk
 * runs, so scratch, and what was left in y or dx, is kept. So the gradients of the later ones are
 * summed over dp under the earlier ones' backward, and with ZeRO-1 their weights travel under the
 * earlier ones' forward, if par_build.sublayer told which those are. Tensor-parallel communication
 * is inside the module. Every tp rank makes the same calls in the same order.
 */
typedef struct {
    par_status (*build)(par_module *, par_build *);
    par_status (*forward)(par_module *, const par_call *, const par_tensor *x, par_tensor *y);
    par_status (*backward)(par_module *, const par_call *, const par_tensor *x,
                           const par_tensor *dy, par_tensor *dx);
    void (*destroy)(par_module *);
    int16_t n_sublayers; /* 0: 1 */
    /*
     * The next four for generation, one token per sequence at a time; both decode_build and decode
     * NULL: the module cannot.
     *
     * After build, for micro_batch sequences of at most `capacity` tokens: x as between modules in
     * training with micro_batch rows (the first module: int32 [micro_batch], token ids). The
     * answers are as build's: stash_nbytes is the cache that one position's call leaves to the
     * next, scratch_nbytes within one call, of `prompt` too; y has micro_batch rows (the last
     * module: fp32 [micro_batch, n], the logits of this tp rank's tokens r · n .. r · n + n - 1, n
     * equal on all tp ranks). No parameters (registry is NULL), no sequence parallelism. What it
     * works out is kept in the module; the last call counts. PAR_ERR_ARG: capacity is more than the
     * model can.
     */
    par_status (*decode_build)(par_module *, par_build *, int64_t capacity);
    /* Before position 0 of each text: what is made of the weights, as they are now, for its length,
     * in call->stash. NULL: nothing is. */
    par_status (*decode_begin)(par_module *, const par_call *);
    /* Tokens at `position` (from 0, one more each call) of all sequences; the cache is
     * call->stash. */
    par_status (*decode)(par_module *, const par_call *, int64_t position, const par_tensor *x,
                         par_tensor *y);
    /* The first build->prompt tokens of one sequence in one pass: x and y have a row for each, from
     * position 0 on, and the cache is then as `decode` leaves it. Rows behind the end of a text are
     * padding: what they leave in the cache is written again before it is read. Not called of the
     * last module. NULL in any other module: tokens go through the model one at a time. */
    par_status (*prompt)(par_module *, const par_call *, int64_t sequence, const par_tensor *x,
                         par_tensor *y);
} par_module_ops;

/* A module's own struct has this as its first member. */
struct par_module {
    const par_module_ops *ops;
    int16_t layer; /* number in the model's list, for tags */
};

/* A model is a list of modules, made on the ranks that hold them. */
typedef struct {
    const char *name;
    const void *config; /* handed to create */
    int n_modules;
    /* Allocate module `index` (host memory of its own struct only). */
    par_status (*create)(const void *config, int index, par_module **out);
    const double *work; /* [n_modules] relative cost; NULL: all equal */
    /* Shape of one sample in the batch: x [B, x_shape...], targets [B, t_shape...]. */
    par_tensor x, targets; /* data NULL, shape without B */
    /* Both are int32 ids of a vocabulary of this size: x in [0, n_ids), targets below n_ids, and
     * negative targets do not count. The trainer refuses others before they reach a kernel. 0: they
     * are something else. */
    int64_t n_ids;
    /* Forward or backward does in training what a graph of the device cannot repeat. It waits for
     * the device, or decides on the host by what a step brings, or its kernels get numbers that
     * change from step to step. */
    bool no_graph;
} par_model;

/** A parameter of this rank, named and placed by `spec` (copied). Not collective. Only inside
 * build. Consecutive parameters registered with `adjacent` lie directly behind the one before, so
 * that one GEMM sees them as one matrix; all others start at multiples of 64 elements. Errors:
 * PAR_ERR_ARG, PAR_ERR_MEMORY. A name that this rank has already gives the same par_param (tied
 * weights on one rank). */
PAR_API par_status par_build_param(par_build *, const par_param_spec *spec, bool adjacent,
                                   par_param **out);

/** 0 for the first writer of a gradient in a step, then 1; marks it written. Not collective. */
PAR_API float par_grad_beta(par_param *);

/**
 * Workspace of an operation for this build's backend, folded into *max_nbytes as a maximum; for
 * every operation of PAR_OP_LIST:
 *
 *     par_status par_build_prepare_gemm(par_build *build, const par_gemm *args,
 *                                       size_t *max_nbytes);
 *
 * With build->inference nothing is prepared, with build->forward_only no backward. Not collective.
 * Errors: those of par_gemm_prepare.
 */
#define PAR_BUILD_PREPARE(OP, name, type)                                                          \
    static inline par_status par_build_prepare_##name(par_build *build, const type *args,          \
                                                      size_t *max_nbytes) {                        \
        size_t nbytes = 0;                                                                         \
        if (build->inference || (build->forward_only && par_op_is_backward(PAR_OP_##OP)))          \
            return PAR_OK;                                                                         \
        par_status st = par_##name##_prepare(build->backend, args, &nbytes);                       \
        if (st == PAR_OK && nbytes > *max_nbytes) *max_nbytes = nbytes;                            \
        return st;                                                                                 \
    }
PAR_OP_LIST(PAR_BUILD_PREPARE)
#undef PAR_BUILD_PREPARE

/**
 * Cut n modules into `parts` contiguous parts, first[parts + 1], minimising the largest sum of
 * work; ties go to earlier cuts. Not collective. Errors: PAR_ERR_LAYOUT if parts > n.
 */
PAR_API par_status par_partition(const double *work, int n, int parts, int *first);

#ifdef __cplusplus
}
#endif
#endif
