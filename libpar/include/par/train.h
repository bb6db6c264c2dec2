/*
 * The trainer: one optimizer step over the mesh. It owns stages, executor, gradient buckets,
 * optimizer and memory.
 */
#ifndef PAR_TRAIN_H
#define PAR_TRAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "par/checkpoint.h"
#include "par/comm.h"
#include "par/data.h"
#include "par/export.h"
#include "par/memory.h"
#include "par/mesh.h"
#include "par/model.h"
#include "par/observe.h"
#include "par/schedule.h"
#include "par/status.h"
#include "par/vote.h"

#ifdef __cplusplus
extern "C" {
#endif

/* AdamW (Loshchilov and Hutter 2019), or SGD with momentum. */
typedef enum { PAR_ADAMW, PAR_SGD } par_optimizer;

/*
 * What a trainer is. [In brackets]: what a field of 0 means, as par_trainer_defaults fills it in;
 * of all others 0 is a value of its own. Equal on all ranks.
 */
typedef struct {
    par_layout layout;           /* sizes and kv_replicas [1] */
    const par_model *model;      /* borrowed for the trainer's life */
    const char *backend;         /* "ref", "cpu", "cuda" ["cpu"] */
    const par_backend *device;   /* a backend of the caller's own in place of the one called so:
                                  borrowed for the trainer's life; NULL: none */
    par_dtype dtype;             /* of weights and activations: PAR_F32, PAR_BF16, PAR_F16; master
                                   and moments are fp32 */
    uint64_t seed;               /* initial weights and dropout */
    int64_t micro_batch;         /* samples per rank and micro-batch, at least 1 */
    int64_t global_batch;        /* samples per step: a multiple of micro_batch · dp */
    bool no_sequence_parallel;   /* sequence parallel is on when tp > 1 */
    int tp_pieces;               /* a block's forward sends its rows over tp in so many pieces, each
                                    under the product of another; at most PAR_MAX_TP_PIECES [1] */
    bool no_graph;               /* steps run call by call; else as graphs of the device, where it
                                    has them and a step can be captured (par_trainer_no_graph) */
    par_schedule_kind schedule;  /* GPIPE, 1F1B, INTERLEAVED */
    int chunks;                  /* v, pipeline parts per stage [1] */
    const int *modules_per_part; /* [pp · v] modules of each part in model order; NULL: balanced by
                                    work */
    par_recompute recompute;
    size_t logits_nbytes; /* of a rank's logits at a time: the head works on so many tokens as fit,
                             and on one at least [1 GiB on a GPU, else 128 MiB] */
    bool undrawn;     /* weights are zeros until par_trainer_load, _resume or _draw, for a caller
                             that has others; before that nothing runs on them */
    bool inference;   /* weights alone, for par_trainer_load, _resume, _draw and a generator: no
                             gradients, no master weights, no moments, no activations of training,
                             and so no steps, evaluations, forwards and saved checkpoints */
    bool evaluates;   /* with inference: activations of a forward, too, for par_trainer_evaluate
                             and _forward; no operation of a backward is prepared */
    bool keep_logits; /* evaluation keeps a micro-batch's logits: par_transformer_logits */
    bool documents_apart; /* no token attends to one of an earlier document of its sample, in
                             training and evaluation; for a model of ids */
    int32_t document_end; /* with documents_apart: the id of a document's last token */
    int zero;         /* 0: gradients all-reduced; 1: optimizer state sharded over dp (ZeRO-1) */
    int64_t bucket_n; /* elements a gradient bucket aims at [1 Mi], the last ones at fewer; it ends
                         between sublayers */
    par_dtype reduce_dtype; /* of gradients on their way over dp: PAR_F32; PAR_BF16, rounded and
                               half the bytes, but not by NCCL. They are added in fp32 either way */
    par_optimizer optimizer;
    double beta1, beta2; /* AdamW's averages of gradients and of their squares; double: 1 - beta is
                            what counts [0.9 and 0.95 if both are 0; beta1 alone may be 0] */
    double momentum;     /* SGD's; 0: none */
    float eps;           /* AdamW's, added to the square root [1e-8] */
    float weight_decay;  /* of parameters with `decay`; 0: none */
    float clip;          /* global gradient norm; 0: no clipping */
    size_t save_memory; /* host memory for a copy of the state that checkpoints store, at most: with
                            it they may be saved in the background (par_trainer_save_begin). None is
                            taken where less is allowed than the state takes; 0: none */
    par_nonfinite nonfinite;  /* what a non-finite step does; fp16 with a dynamic scale always
                                 skips */
    par_scaler_params scaler; /* fp16 alone has a loss scale; see its own defaults */
} par_trainer_params;

/* One rank's part of a training. */
typedef struct par_trainer par_trainer;

/* Decided from all ranks' ballots: the same on every rank. */
typedef struct {
    double loss; /* mean over the step's targets */
    int64_t n_targets;
    double grad_norm;    /* of the mean loss, unscaled, before clipping, each parameter once; finite
                            elements only */
    int64_t n_nonfinite; /* elements of gradients that were inf or NaN */
    char where[160];     /* the first such: parameter, world rank, how many of its elements there */
    double loss_scale;   /* that this step used; 1 in fp32 and bf16 */
    int64_t n_skipped;   /* steps skipped so far, this one included */
    bool skipped;        /* no update was made */
    bool stop;           /* some rank asked to stop */
    par_status status;   /* the worst of all ranks */
} par_vote;

/* This rank's figures of the last step that ended, s. On a device that is not the host all but
 * `data` are the device's, of its compute stream. There wait_pipeline is what the schedule took
 * beside forward and backward: its transfers, and where the stream stood still. */
typedef struct {
    double total, data, forward, backward, wait_pipeline, wait_dp, update;
    double bubble; /* measured: (total of the schedule - busy) / busy, the largest of all stages. It
                      is voted on; on a device the vote has that of the last step that had ended
                      when this one was begun, 0 in the first ones */
    double ideal_bubble;
    /* Communication on the host, by axis, within the step: what this rank waited for, and what
     * moved while it did something else. Waits for receives and for late peers are included. On a
     * device that is not the host 0: there wait_pipeline and wait_dp are what was waited for. */
    double exposed[PAR_AXIS_COUNT], hidden[PAR_AXIS_COUNT];
    double tail; /* of exposed[PAR_DP], what nothing is left to hide: the bucket that is complete
                    last, with the embedding's gradient; with ZeRO-1 also its weights, which the
                    forward reads first */
} par_step_times;

/**
 * Fill in what is 0 and has a default: see par_trainer_params. par_trainer_check, _plan and _create
 * do it on a copy of their own, so a caller needs it only to look. Not collective.
 */
PAR_API void par_trainer_defaults(par_trainer_params *);

/**
 * Every problem of the parameters that can be told without communication, a line each with the
 * legal values. A function of its arguments. Not collective.
 */
PAR_API void par_trainer_check(const par_trainer_params *, int world_size, par_problems *problems);

/**
 * Measure one rank's memory without MPI, data or weights: what par_trainer_create takes on a
 * transport with these parameters (NULL: the defaults). Their piece_nbytes and link decide about
 * staging.
 *
 * Not collective. Errors: PAR_ERR_OPTION or PAR_ERR_LAYOUT [agreed] with every problem;
 * PAR_ERR_UNSUPPORTED when the backend is not there or cannot do an operation; PAR_ERR_MEMORY.
 */
PAR_API par_status par_trainer_plan(const par_trainer_params *,
                                    const par_transport_params *transport_params, int world_size,
                                    int rank, par_memory **out);

/**
 * Plans, allocates, builds, checks the schedule, draws the initial weights unless `undrawn`.
 *
 * Collective: on the transport's world. Errors: PAR_ERR_OPTION [agreed] with each parameter that a
 * rank has other than rank 0, of a transformer its whole configuration, of other models the name,
 * the number of modules, ids and shapes; PAR_ERR_OPTION or PAR_ERR_LAYOUT [agreed] with every
 * problem; PAR_ERR_UNSUPPORTED [agreed] when the backend is
 * not there or cannot do an operation; PAR_ERR_MEMORY [agreed] with rank and figures, on a device
 * also [comm]; PAR_ERR_ARG [agreed] when the ranks' modules do not count every logical element
 * once, with the parameter (par_param_spec's replica); PAR_ERR_TRANSPORT [comm].
 */
PAR_API par_status par_trainer_create(par_transport *, const par_trainer_params *,
                                      par_trainer **out);
/** Steps that were begun need not have ended. NULL is accepted. Collective: on the transport's
 * world. */
PAR_API void par_trainer_destroy(par_trainer **trainer);

/** Its mesh; lives as long as the trainer. Not collective. */
PAR_API const par_mesh *par_trainer_mesh(const par_trainer *);
/** Its memory, with the ledger of what it took. Not collective. */
PAR_API const par_memory *par_trainer_memory(const par_trainer *);
/** The backend that it runs on. Not collective. */
PAR_API const par_backend *par_trainer_backend(const par_trainer *);
/** The i-th of the methods, from 0, by which this rank computes and its axes' data is carried
 * between devices: those of par_backend_method, then "link AXIS". False: there are fewer. Ranks may
 * differ, as they hold other modules. Not collective. */
PAR_API bool par_trainer_method(const par_trainer *, int i, par_method *out);
/**
 * Copy between host and device, any way, behind all that has been enqueued; done on return. What
 * parameters and stashes point to lies on the backend's device, where the host may read nothing
 * unless it is on_host. Between steps. Not collective. Errors: PAR_ERR_ARG when a step is under
 * way; those of the backend.
 */
PAR_API par_status par_trainer_copy(const par_trainer *, void *dst, const void *src, size_t nbytes);
/** Number of parameters that this rank holds a part of. Not collective. */
PAR_API int par_trainer_n_params(const par_trainer *);
/** The i-th of them in registration order, i in [0, n). Not collective. */
PAR_API par_param *par_trainer_param(const par_trainer *, int i);
/** Micro-batches per step and dp rank. Not collective. */
PAR_API int par_trainer_n_micro(const par_trainer *);
/** Samples consumed so far: the whole state of the data order. Not collective. */
PAR_API int64_t par_trainer_consumed(const par_trainer *);

/**
 * One step: global_batch samples from `source`, update with learning rate lr. `stop` (this rank
 * asks to stop) is or-ed into the vote. An error of one rank is returned on all, in vote->status
 * too.
 *
 * Collective: on world. Errors: PAR_ERR_NUMERIC [agreed] when gradients are not finite and
 * nonfinite is STOP, or max_skips steps in a row were skipped at the smallest loss scale, or a
 * constant one; weights are unchanged. What the source returned, [agreed]; PAR_ERR_FORMAT [agreed],
 * with the sample's number, for an id outside of the vocabulary (par_model.n_ids). What a module, a
 * kernel or the device returned, [comm]: it broke the transport (par_transport_abort). PAR_ERR_ARG
 * [agreed] when a step is under way. PAR_ERR_TRANSPORT [comm]; the trainer is then unusable.
 */
PAR_API par_status par_trainer_step(par_trainer *, const par_source *source, float lr, bool stop,
                                    par_vote *out);

/* Steps that may be begun and not ended. */
enum { PAR_STEPS_BEGUN = 2 };

/**
 * The same in two halves, so that a device need never wait for the host. begin reads the samples
 * and enqueues the step; where the device is the host it has been made on return. Before it has
 * ended another step may be begun, a save in the background go on (par_trainer_save_poll and
 * _save_end), and the trainer be destroyed. Every other function of the trainer, its generator and
 * its replicas that returns a status is refused with PAR_ERR_ARG, the same on all ranks and without
 * communication. Those that only look (par_trainer_consumed, _scaler, _times, ...) tell of the last
 * step that ended.
 *
 * Collective: on world. Errors: PAR_ERR_ARG [agreed] when PAR_STEPS_BEGUN are begun;
 * PAR_ERR_TRANSPORT [comm]; what a module, a kernel or the device returned, [comm].
 */
PAR_API par_status par_trainer_step_begin(par_trainer *, const par_source *source, float lr,
                                          bool stop);
/**
 * Wait for the oldest step that was begun. After an error, the steps begun behind it have changed
 * nothing, and are ended too.
 *
 * Collective: on world; every rank ends steps at the same places between its other collective
 * calls. Errors: the step's, as of par_trainer_step; PAR_ERR_ARG [agreed] when none is begun.
 */
PAR_API par_status par_trainer_step_end(par_trainer *, par_vote *out);
/** Figures of the last step that ended. Not collective. */
PAR_API const par_step_times *par_trainer_times(const par_trainer *);
/**
 * NULL when steps run as graphs of the device from the third on: captured once, then launched, with
 * the bits that they have call by call. Else why they do not, as the end of a sentence: no_graph,
 * the device, the model, a staged link; or from the step where it was tried, what the device
 * refused. The text is the trainer's. Not collective.
 */
PAR_API const char *par_trainer_no_graph(const par_trainer *);

/**
 * Mean loss over samples [first, first + n) of `source`, each once, whatever the layout. Where n is
 * not a multiple of micro_batch · dp, it is filled up with samples that are not read and do not
 * count. No dropout, no gradients. A source that fails ends it, at most one batch of global_batch
 * samples later: PAR_ERR_STOPPED is a good status for one that was asked to stop.
 *
 * Collective: on world. Errors: PAR_ERR_OPTION [agreed] when first or n differs between ranks;
 * PAR_ERR_ARG [agreed] when n is below 1, or not such a multiple though the model's targets are not
 * ids (par_model.n_ids), or a step is under way; what the source returned, [agreed];
 * PAR_ERR_FORMAT [agreed] for an id outside of the vocabulary; what a module, a kernel or the
 * device returned, [comm]; PAR_ERR_TRANSPORT [comm].
 */
PAR_API par_status par_trainer_evaluate(par_trainer *, const par_source *source, int64_t first,
                                        int64_t n, double *loss);

/**
 * Forward of one micro-batch: every dp rank runs the same x [micro_batch, x_shape...] and targets,
 * which must be equal on all ranks. `visit` is called on every rank of the last stage with the last
 * module and its stash, which lies on the device (par_trainer_copy).
 *
 * Collective: on world. Errors: PAR_ERR_OPTION [agreed] when x or targets differ between ranks;
 * PAR_ERR_ARG [agreed] when a step is under way; what `visit` returned, [agreed]; what a module, a
 * kernel or the device returned, [comm]; PAR_ERR_TRANSPORT [comm].
 */
PAR_API par_status par_trainer_forward(par_trainer *, const void *x, const void *targets,
                                       par_status (*visit)(void *user, const par_module *last,
                                                           const void *stash),
                                       void *user);

/**
 * Wait until the weights of the last step have arrived: with ZeRO-1 they are under way when a step
 * returns. Whatever reads them here does it by itself; a caller needs it to end what a step sends.
 * Between steps.
 *
 * Collective: on dp. Errors: PAR_ERR_ARG [agreed] when a step is under way; PAR_ERR_TRANSPORT
 * [comm].
 */
PAR_API par_status par_trainer_settle(par_trainer *);

/**
 * Draw the initial weights, as par_trainer_create does without `undrawn`. Moments and counts stay
 * as they are.
 *
 * Collective: on world. Errors: PAR_ERR_ARG [agreed] when a step is under way; PAR_ERR_MEMORY
 * [agreed]; those of the backend, [agreed].
 */
PAR_API par_status par_trainer_draw(par_trainer *);

/* The arrays that a parameter has. */
typedef enum { PAR_STATE_WEIGHT, PAR_STATE_GRADIENT, PAR_STATE_M, PAR_STATE_V } par_state;

/**
 * What this rank must contribute so that over all ranks every logical element appears exactly once.
 * These are contiguous runs of a parameter's local array: of replica 0, what this dp rank owns.
 * Element i of the run is element first + i of the [local] array; padding is included and
 * recognised by par_param's extent. Weights are the fp32 master's. values are fp32 copies or views,
 * valid in the call; PAR_STATE_GRADIENT is scaled to the mean loss, before clipping, and valid
 * between steps.
 *
 * Not collective. Errors: PAR_ERR_ARG [agreed] when a step is under way, or SGD has no such state;
 * what `visit` returned.
 */
PAR_API par_status par_trainer_visit(const par_trainer *, par_state,
                                     par_status (*visit)(void *user, const par_param *,
                                                         int64_t first, int64_t n,
                                                         const float *values),
                                     void *user);

/**
 * Replace weights: `read` fills fp32 [local] of each parameter of this rank (padding 0). Moments
 * are zeroed, the update count too. Every parameter of this rank is read, so there is none left
 * that was neither drawn nor read. In 16 bits they go into the master and are rounded for the
 * GEMMs; gradients are then zeroed too, as their memory is used on the way. Where the device's
 * memory is not the host's, and in 16 bits with `inference`, room for the largest parameter is
 * allocated meanwhile. After an error nothing runs on the weights until they are loaded or drawn.
 *
 * Collective: on world. Errors: PAR_ERR_ARG [agreed] when a step is under way; what `read`
 * returned, and PAR_ERR_MEMORY, [agreed]; PAR_ERR_TRANSPORT [comm].
 */
PAR_API par_status par_trainer_load(par_trainer *,
                                    par_status (*read)(void *user, const par_param *, float *dst),
                                    void *user);

/* The loss scaler: pure functions of their arguments. */
/** Defaults for what is 0. Not collective. */
PAR_API void par_scaler_defaults(par_scaler_params *);
/** Problems of the parameters, a line each with the legal values. Not collective. */
PAR_API void par_scaler_check(const par_scaler_params *, par_problems *);
/** The state before the first step. Not collective. */
PAR_API void par_scaler_init(const par_scaler_params *, par_scaler *out);
/** The state after a step that overflowed, or did not. Not collective. Errors: PAR_ERR_NUMERIC when
 * max_skips steps in a row were skipped at the smallest scale, or a constant one; the state is
 * updated all the same. */
PAR_API par_status par_scaler_update(const par_scaler_params *, par_scaler *, bool overflow);

/** State of the scaler, which counts skipped steps in every precision. Not collective. */
PAR_API const par_scaler *par_trainer_scaler(const par_trainer *);
/** Continue from a stored state; equal on all ranks, between steps. Not collective. Errors:
 * PAR_ERR_ARG if it is not a state of this trainer's scaler. */
PAR_API par_status par_trainer_set_scaler(par_trainer *, const par_scaler *);

/**
 * What a checkpoint of this rank holds, as mutable runs in a fixed order. Between steps. Not
 * collective. Errors: PAR_ERR_ARG [agreed] when a step is under way; what `visit` returned.
 */
PAR_API par_status par_trainer_state_runs(const par_trainer *,
                                          par_status (*visit)(void *user,
                                                              const par_checkpoint_run *run),
                                          void *user);

/**
 * Save between steps. `about` has what the caller wants recorded; layout, the trainer's own
 * options, consumed samples and updates are filled in here.
 *
 * Collective: on world. Errors: as par_checkpoint_save; PAR_ERR_ARG [agreed] when a step or another
 * save is under way, there are no weights yet, or the trainer is for inference.
 */
PAR_API par_status par_trainer_save(par_trainer *, const par_checkpoint_params *params,
                                    par_checkpoint_result *out);

/** Whether this rank has memory for a save in the background; *nbytes: what it takes, also where it
 * was not taken (par_trainer_params.save_memory). Not collective. */
PAR_API bool par_trainer_saves_behind(const par_trainer *, size_t *nbytes);
/**
 * The same checkpoint as par_trainer_save, byte for byte, written while training goes on: the state
 * is copied into host memory, and a thread writes the copy (par_checkpoint_save_begin). The next
 * steps may be begun on return. The trainer has one such save under way at a time.
 *
 * Collective: on world. Errors: as par_checkpoint_save_begin; PAR_ERR_ARG [agreed] when a step or
 * another save is under way, there are no weights yet, a rank has no memory for the copy, or the
 * trainer is for inference; those of the device, [comm].
 */
PAR_API par_status par_trainer_save_begin(par_trainer *, const par_checkpoint_params *params);
/**
 * As par_checkpoint_save_poll; *ended is also true where no save is under way. Steps may be begun.
 *
 * Collective: on world. Errors: PAR_ERR_TRANSPORT [comm].
 */
PAR_API par_status par_trainer_save_poll(par_trainer *, bool *ended);
/**
 * As par_checkpoint_save_end. Steps may be begun. par_trainer_destroy does it for a save that
 * nobody has ended.
 *
 * Collective: on world. Errors: as par_checkpoint_save; PAR_ERR_ARG [agreed] when none is under
 * way.
 */
PAR_API par_status par_trainer_save_end(par_trainer *, par_checkpoint_result *out);

/**
 * Continue from a checkpoint of the same model, saved in any layout. The next steps have the bits
 * of the run that saved it, if neither layout nor option differs (a note says which do). With
 * `inference` weights alone are read, and nothing is said of the training. about as in
 * par_trainer_save.
 *
 * Collective: on world. Errors: as par_checkpoint_load; PAR_ERR_ARG [agreed] when a step is under
 * way. After PAR_ERR_INTERNAL (the files changed meanwhile) the trainer's state is undefined. A
 * trainer that had no weights before has none after an error.
 */
PAR_API par_status par_trainer_resume(par_trainer *, const char *directory,
                                      const par_checkpoint_about *about,
                                      par_checkpoint_result *out);

/**
 * What par_traffic_predict needs to know of this rank, for a transformer; T, C and the counts of
 * steps are the caller's and 0 here. Valid for the trainer's life. Not collective.
 */
PAR_API void par_trainer_traffic(const par_trainer *, par_traffic_run *out);

/* Learning rates. step counts from 1. Functions of their arguments, which none of them checks. */
/** Linear warm-up over `warmup` steps to lr, then cosine to min_lr at step `total`; min_lr after
 * it. Not collective. */
PAR_API double par_lr_cosine(int64_t step, double lr, double min_lr, int64_t warmup, int64_t total);
/** The same warm-up, then a straight line to min_lr at step `total`; min_lr after it. Not
 * collective. */
PAR_API double par_lr_linear(int64_t step, double lr, double min_lr, int64_t warmup, int64_t total);
/**
 * Warm-up, stable, decay (Hu et al. 2024): the same warm-up, lr up to step total - decay, then a
 * straight line to min_lr at step `total`. decay 0: lr to the end. Needs warmup + decay <= total.
 * Not collective.
 */
PAR_API double par_lr_wsd(int64_t step, double lr, double min_lr, int64_t warmup, int64_t total,
                          int64_t decay);
/** The same warm-up, then lr. Not collective. */
PAR_API double par_lr_constant(int64_t step, double lr, int64_t warmup);

#ifdef __cplusplus
}
#endif
#endif
