/* What all parts of a trainer stand on; the parts borrow it and change nothing of it. */
#ifndef PAR__TRAIN_CONTEXT_H
#define PAR__TRAIN_CONTEXT_H

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
} par__context;

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
