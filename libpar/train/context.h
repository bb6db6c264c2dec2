/* What all parts of a trainer stand on; the parts borrow it and change nothing of it. */
#ifndef PAR__TRAIN_CONTEXT_H
#define PAR__TRAIN_CONTEXT_H

#include "libpar/base/record.h"
#include "par/train.h"

typedef struct {
    par_trainer_params params; /* with defaults filled in */
    bool sequence_parallel;
    int n_micro;              /* micro-batches of a step on this rank */
    par_transport *transport; /* the caller's */
    const par_backend *backend;
    par_memory *memory;
    par_mesh *mesh;
    par_stream *stream; /* all kernels and copies; NULL while measuring */
    par_event *reached; /* of par__sync; NULL while measuring */
} par__context;

/*
 * The one rule for what fails on this rank alone and cannot be healed where it happens: a kernel, a
 * module, the device, memory, the transport. It breaks the transport, so that no peer waits, and
 * every rank returns: this one `st` with its message, the others PAR_ERR_TRANSPORT with "rank N:"
 * and the message. PAR_OK passes. What all ranks learn of in time is voted on instead: an error of
 * the source, which the feed keeps.
 */
par_status par__fatal(const par__context *on, par_status st);

/* What the flight recorder is told: a public call begins, and ends with this status. Of the call
 * the timeline has a span that is called so; "step" counts the steps. */
void par__enter(const par__context *on, par__phase phase);
par_status par__leave(const par__context *on, const char *call, par_status st);
/* Where spans go now; NULL: nowhere. */
par_timeline *par__timeline_of(const par__context *on);

/* Wait for an event of the device, and hear of peers that fail meanwhile. */
par_status par__await(const par__context *on, par_event *event);
/* Wait for all that is on the stream, and hear of peers that fail meanwhile. */
par_status par__sync(const par__context *on);

static inline int par__dp(const par__context *on) {
    return on->params.layout.size[PAR_DP];
}

/* The loss is counted on the last stage, by tp rank 0: once per dp index. */
static inline bool par__is_last_stage(const par__context *on) {
    return on->mesh->coordinate[PAR_PP] == on->params.layout.size[PAR_PP] - 1;
}
static inline bool par__counts_loss(const par__context *on) {
    return par__is_last_stage(on) && on->mesh->coordinate[PAR_TP] == 0;
}

#endif
