/*
 * Verification of a layout: the same training on it and on one rank, compared tensor by tensor.
 */
#ifndef PAR_VERIFY_H
#define PAR_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "par/comm.h"
#include "par/data.h"
#include "par/export.h"
#include "par/status.h"
#include "par/train.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What one comparison found; relative differences are |a - b| / |b| in the 2-norm, b from one
 * rank. */
typedef struct {
    double gradient;    /* the largest of all tensors, gradients of step 1 */
    char worst[96];     /* its tensor */
    char first_bad[96]; /* the first tensor in model order that is outside the bound; "" if none is
                         */
    double loss;        /* the largest of all steps */
    double norm;        /* of the gradient norm, the largest of all steps */
    double bound;       /* of all three */
    bool passed;
} par_verify_result;

/** What a verification tells; either function may be NULL. */
typedef struct {
    /* The layout's trainer, before its first step, on every rank; an error ends it all and must be
     * the same on all ranks. */
    par_status (*begin)(void *user, const par_trainer *trainer);
    /* A line per tensor, on world rank 0, in model order. */
    void (*tensor)(void *user, const char *name, double relative, bool passed);
    void *user;
} par_verify_report;

/**
 * Run `steps` steps in fp32 with these parameters on the transport's world, and with tp = pp = dp =
 * 1 on its rank 0. Global batch and source are the same. Losses, gradient norms, and the gradients
 * of step 1 are compared, each logical tensor gathered. A tensor's difference is relative to its
 * own norm, or to 1e-6 of the whole gradient's where that is larger. For a gradient that is zero by
 * construction is rounding noise. bound 0: 1e-5. report: NULL tells nothing.
 *
 * It allocates: it is not a part of training. A difference above the bound is not an error:
 * result->passed is false.
 *
 * Collective: on the transport's world. Errors: those of par_trainer_create and par_trainer_step;
 * what report->begin returned.
 */
PAR_API par_status par_verify(par_transport *transport, const par_trainer_params *params,
                              const par_source *source, int steps, float lr, double bound,
                              const par_verify_report *report, par_verify_result *result);

#ifdef __cplusplus
}
#endif
#endif
