/*
 * The vote of a step and what follows from it: ballots, the loss scaler, the decision, and the
 * values that a step's kernels read. All of it lies on the backend's device and is made by two
 * operations there (PAR_OP_BALLOT, PAR_OP_VOTE in par/kernels.h), so that no step waits for the
 * host; the host reads the outcome afterwards, a step late where the device works behind it.
 */
#ifndef PAR_VOTE_H
#define PAR_VOTE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What follows when gradients are not finite: the training ends, or the step is skipped. */
typedef enum { PAR_NONFINITE_STOP, PAR_NONFINITE_SKIP } par_nonfinite;

/* Loss scaling of fp16 (Micikevicius et al. 2018). A field of 0 means the default in brackets. */
typedef struct {
    double constant;    /* above 0: this scale for ever, and `nonfinite` decides about overflows */
    double init;        /* [65536] */
    double growth;      /* [2] factor after `interval` clean steps in a row */
    double backoff;     /* [0.5] factor when overflows have used up the hysteresis */
    double min, max;    /* [1], [2^32] */
    int64_t interval;   /* [1000] */
    int64_t hysteresis; /* [2] overflows in a row until the scale falls; any clean step refills it;
                           1: at once */
    int64_t max_skips;  /* [16] steps in a row skipped at `min`, or at `constant`, that end the
                           training */
} par_scaler_params;

/* All of its state: what a checkpoint stores. Equal on all ranks. */
typedef struct {
    double scale;        /* of the next step */
    int64_t clean;       /* clean steps since the scale changed or a step overflowed */
    int64_t hysteresis;  /* overflows left before the scale falls; 0 or 1: the next one */
    int64_t floor_skips; /* steps skipped in a row at `min`, or at `constant` */
    int64_t skipped;     /* steps skipped, in all */
} par_scaler;

/* What kernels of a step read on the device, as the votes before made it. */
typedef struct {
    int64_t first_sample;            /* number of the step's first sample */
    int64_t t;                       /* number of the update, from 1 */
    double correction1, correction2; /* 1 - beta1^t, 1 - beta2^t */
    float loss_seed; /* dLoss of a target: loss scale / targets of a full micro-batch */
    float lr;
    float grad_scale; /* of the update: unscaling, mean over targets, clipping */
    int32_t skip;     /* not 0: the update changes nothing */
} par_step;

/* One rank's part in the vote. */
typedef struct {
    double norm2, loss_sum, n_targets, n_nonfinite; /* summed over the ranks, in rank order */
    double busy,
        total; /* s of this rank's schedule; 0: not measured. The largest idle share counts */
    double lr; /* rank 0's counts */
    int32_t first_bad;    /* first parameter of this rank with inf or NaN, -1: none */
    int32_t n_first_bad;  /* non-finite elements there, at most 2^31 - 1 */
    int32_t status, stop; /* par_status, the largest counts; 1: this rank asks to stop */
} par_ballot;

/* What does not change from step to step. */
typedef struct {
    par_scaler_params scaler; /* defaults filled in; constant 1 without loss scaling */
    par_nonfinite nonfinite;  /* with a constant scale; a dynamic one always skips */
    double clip;              /* global gradient norm; 0: no clipping */
    double unit;              /* targets of a full micro-batch */
    double beta1, beta2;
    int64_t batch; /* samples per step */
} par_vote_rules;

/* What a vote decided; the same on every rank. */
typedef struct {
    double loss, n_targets, grad_norm, n_nonfinite;
    double loss_scale;     /* that the step used */
    double gradient_scale; /* raw sums to the gradient of the mean loss */
    double bubble;         /* largest (total - busy) / busy of all ranks */
    int32_t bad_rank;      /* first rank with inf or NaN, -1: none; its first_bad, n_first_bad */
    int32_t first_bad, n_first_bad;
    int32_t status, stop, skipped;
    int32_t floor; /* max_skips steps in a row were skipped at the smallest loss scale, or a
                      constant one */
    int32_t reserved;
} par_outcome;

/* Carried from step to step, and the outcome of the last one. */
typedef struct {
    par_step step; /* what the update of this step reads; loss_seed and first_sample are the next
                      one's */
    par_scaler scaler;
    double power1,
        power2; /* beta1^t, beta2^t: products, so that the bits are those of every device */
    int64_t updates;
    int32_t halted; /* a vote ended the training: later ones change nothing but step.skip */
    int32_t reserved;
    par_outcome outcome;
} par_vote_state;

#ifdef __cplusplus
}
#endif
#endif
