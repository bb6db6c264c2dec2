/*
 * The executor's inside: slots, messages, and which part of the model a rank holds.
 * executor_slots.c takes them from memory, executor.c walks.
 */
#ifndef PAR__EXECUTOR_SLOTS_H
#define PAR__EXECUTOR_SLOTS_H

#include "executor.h"
#include "timer.h"

/* Phases of the timer. A walk is the round of its number. */
enum { PAR__TIME_WALK, PAR__TIME_FORWARD, PAR__TIME_BACKWARD };

typedef struct {
    void *
        *x; /* [n_modules + 1] data of inputs and output; inner ones shared under full recompute */
    void **stash;    /* [n_modules] */
    void *targets;   /* last part only */
    void *documents; /* int32 [B, T]; NULL: they are not apart */
    par_work recv, send;
} par__slot;

typedef struct {
    void *data;
    par_work work;
    int16_t chunk, micro; /* what it holds; micro -1: nothing */
} par__message;

struct par__executor {
    par__executor_params params;
    int n_slots[PAR_MAX_CHUNKS], n_grad_slots[PAR_MAX_CHUNKS];
    par__slot *slots[PAR_MAX_CHUNKS];
    par__message *grads[PAR_MAX_CHUNKS]; /* received dy */
    par__message outgoing[2];            /* sent dx, used in turn */
    int next_outgoing;
    void *between[2];  /* dy and dx between modules */
    int next_forward;  /* sublayer in the chunk of the forward that is under way; 0: none is */
    int next_module;   /* of the backward that is under way; -1: none is */
    int next_sublayer; /* likewise, number in the chunk */
    void *next_dy;     /* of that module; NULL: of the last module of the model */
    void *scratch;
    const void *last_stash;
    float *losses, *host_losses; /* [max_micro][2] of the last module, on the device and on the
                                    host; NULL but on the last stage */
    int max_micro, n_losses;     /* of any schedule; of the last walk */
    par__walk walk;
    par__timer *timer;           /* NULL while measuring */
    par__walk_result results[2]; /* of walk k in k mod 2: the host's figures, and the number */
    par__walk_result *result;    /* of this walk */
};

static inline bool par__is_first(const par__executor *e, int chunk) {
    return e->params.mesh->coordinate[PAR_PP] == 0 && chunk == 0;
}
static inline bool par__is_last(const par__executor *e, int chunk) {
    const par_mesh *mesh = e->params.mesh;
    return mesh->coordinate[PAR_PP] == mesh->layout.size[PAR_PP] - 1 &&
           chunk == e->params.n_chunks - 1;
}

static inline par_tensor par__output_of(const par__chunk *chunk) {
    return chunk->x[chunk->n_modules];
}

#endif
