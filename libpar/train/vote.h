/*
 * The vote of a step: ballots, the state that votes carry from step to step, and the steps that
 * were begun and not ended. What a step's kernels read lies in the state on the device; the host
 * has it as of the last step that ended.
 */
#ifndef PAR__TRAIN_VOTE_H
#define PAR__TRAIN_VOTE_H

#include "../model/registry.h"
#include "context.h"
#include "meter.h"

/* A step that was begun: what the host gives to its vote, and reads of it. */
typedef struct {
    par_ballot *ballot;    /* the host's */
    par_vote_state *state; /* the host's; there when `voted` has happened */
    par_event *voted;      /* NULL while measuring */
    par_status status;     /* of this rank's part, with its message */
    char message[768];
    par__measured measured;
    int64_t traced; /* its number in the timeline */
} par__begun;

typedef struct {
    const par__context *on;
    par_vote_rules rules;
    par_ballot *ballots[2]; /* [world] each, on the device */
    par_vote_state *device; /* its fields' addresses are what kernels read from */
    void *polls;            /* [world] of par__poll, or a name; the host's */

    par__begun begun[PAR_STEPS_BEGUN]; /* step k is number k mod PAR_STEPS_BEGUN */
    int64_t n_begun, n_ended;          /* steps */

    bool upload;               /* the device's state is not this one: */
    int64_t consumed, updates; /* as of the last step that ended */
    par_scaler scaler;
    double gradient_scale; /* raw sums to the gradient of the mean loss */
} par__vote;

par_status par__vote_take(par__vote *vote, const par__context *on);
void par__vote_free(par__vote *vote);

/* PAR_ERR_ARG if a step is begun and not ended: for what may only be done between steps; and if
 * none is. */
par_status par__no_step_begun(const par__vote *vote);
par_status par__step_begun(const par__vote *vote);
/* The state between steps is another: the next step begins with it. */
void par__vote_restart(par__vote *vote, int64_t consumed, int64_t updates);
/* PAR_ERR_ARG if it is not a state of this trainer's scaler. */
par_status par__vote_set_scaler(par__vote *vote, const par_scaler *scaler);

/* The next step to begin, and its first sample. PAR_ERR_ARG if PAR_STEPS_BEGUN are
 * begun. */
par_status par__vote_next(par__vote *vote, par__begun **out);
int64_t par__vote_first_sample(const par__vote *vote);

/* What the kernels of a step read, on the device. */
static inline const par_step *par__vote_step(const par__vote *vote) {
    return &vote->device->step;
}
/* Before what reads the state on the device: the host's goes there, if it is another. */
par_status par__vote_upload(par__vote *vote);
/* This rank's part failed: peers learn of it in the vote, and why at the step's end. */
void par__begun_fail(par__begun *begun, par_status st);
/* Enqueue the vote from the host's ballot and from the norms and losses of `tally`, whose own
 * ballot is filled in here. Collective on the mesh's axes. */
par_status par__vote_hold(par__vote *vote, par__begun *begun, par_tally tally);
/* Enqueue the outcome's way to the host; and, behind it, what tells that it is there: the step is
 * begun then. */
par_status par__vote_fetch(par__vote *vote, par__begun *begun);
par_status par__vote_begun(par__vote *vote, par__begun *begun);

/* Wait for the oldest step, of which there is one, and take over what it left: it has ended. *out
 * is that step, valid until the next step begins. Errors: the device's, the transport's. */
par_status par__vote_end(par__vote *vote, par__begun **out);
/* After a step that ended the training: those begun behind it have changed nothing. */
par_status par__vote_drop(par__vote *vote);
/* What the vote means, the same on every rank: collective on world where a rank failed or a number
 * is not finite. `registry` names the parameter. */
par_status par__vote_report(par__vote *vote, const par__begun *begun, const par_registry *registry,
                            par_vote *out);

/* What an evaluation adds up, on the host. Collective on world. */
typedef struct {
    double loss_sum, n_targets;
    int64_t status; /* the largest */
} par__poll;
par_status par__poll_all(par__vote *vote, par__poll *poll);

/* scaler.c: the error of max_skips steps in a row at the smallest scale. */
par_status par__scaler_at_floor(const par_scaler *scaler);
/* scaler.c: PAR_ERR_ARG if it is not a state that these parameters allow. */
par_status par__scaler_legal(const par_scaler_params *params, const par_scaler *scaler);

#endif
