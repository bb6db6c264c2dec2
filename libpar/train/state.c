/* What a trainer holds: initial weights, the visit of every logical element once, and replacing weights. */
#include <math.h>
#include <string.h>

#include "par/random.h"
#include "trainer.h"

void par__owned(const par_trainer *t, int bucket, int64_t *first, int64_t *n, int64_t *state) {
    const par__bucket *b = &t->registry->buckets[bucket];
    bool sharded = t->params.zero > 0;
    *first = sharded ? b->shard : b->begin;
    *n = sharded ? b->n_shard : b->n;
    *state = t->state[bucket];
}

void par__owned_part(const par_trainer *t, const par_param *p, int64_t *begin, int64_t *n, int64_t *state) {
    int64_t owned, n_owned;
    par__owned(t, p->bucket, &owned, &n_owned, state);
    int64_t end = p->flat + par__param_n(p);
    *begin = p->flat > owned ? p->flat : owned;
    if (end > owned + n_owned) end = owned + n_owned;
    *n = end > *begin ? end - *begin : 0;
    *state += *begin - owned;
}

/* A function of (seed, name, global index): the same bits in every layout. Padding stays zero. */
static void init_param(const par_trainer *t, const par_param *p, float *dst) {
    uint64_t stream = par_hash_name(p->name);
    for (int64_t i = 0; i < p->extent[0]; i++)
        for (int64_t j = 0; j < p->extent[1]; j++) {
            uint64_t index = (uint64_t)((p->offset[0] + i) * p->global[1] + p->offset[1] + j);
            double x = p->init == PAR_INIT_CONSTANT
                           ? p->init_value
                           : p->init_value * par_random_normal(t->params.seed, stream, index);
            dst[i * p->local[1] + j] = (float)x;
        }
}

/* Where fp32 values of a parameter [local] are put before store_weight: the weight itself, or the gradient's
 * memory, which has the size and type and is free between steps. */
static float *staged(const par_trainer *t, const par_param *p) {
    return t->master ? p->grad : p->weight;
}

/* Staged values into this rank's part of the master, and rounded to all weights. */
static par_status store_weight(par_trainer *t, const par_param *p) {
    if (!t->master) return PAR_OK;
    int64_t begin, n, state;
    par__owned_part(t, p, &begin, &n, &state);
    if (n > 0) memcpy(t->master + state, t->gradients + begin, (size_t)n * sizeof(float));
    par_cast cast = {.dtype_x = PAR_F32,
                     .dtype_y = t->params.dtype,
                     .n = par__param_n(p),
                     .scale = 1,
                     .x = p->grad,
                     .y = p->weight};
    PAR_TRY(par_kernel_run(t->backend, PAR_OP_CAST, &t->stream, &cast, NULL));
    memset(p->grad, 0, (size_t)par__param_n(p) * sizeof *p->grad);
    return PAR_OK;
}

par_status par__trainer_init_weights(par_trainer *t) {
    for (int i = 0; i < t->registry->n_params; i++) {
        const par_param *p = t->registry->params[i];
        init_param(t, p, staged(t, p));
        PAR_TRY(store_weight(t, p));
    }
    return PAR_OK;
}

static const float *state_of(const par_trainer *t, par_state what, const par_param *p) {
    int64_t first, n, state;
    par__owned(t, p->bucket, &first, &n, &state);
    switch (what) {
    case PAR_STATE_WEIGHT: return t->master ? t->master + state + (p->flat - first) : p->weight;
    case PAR_STATE_GRADIENT: return p->grad;
    case PAR_STATE_M: return t->m + state + (p->flat - first);
    default: return t->v + state + (p->flat - first);
    }
}

typedef par_status visit_fn(void *user, const par_param *, int64_t first, int64_t n, const float *values);

/* Gradients are handed over in pieces, scaled to the mean loss. */
static par_status visit_scaled(const par_trainer *t, const par_param *p, int64_t first, int64_t n,
                               visit_fn *visit, void *user) {
    float piece[2048];
    const int64_t max = sizeof piece / sizeof *piece;
    for (int64_t done = 0; done < n; done += max) {
        int64_t m = n - done < max ? n - done : max;
        for (int64_t i = 0; i < m; i++) piece[i] = (float)(p->grad[first + done + i] * t->gradient_scale);
        PAR_TRY(visit(user, p, first + done, m, piece));
    }
    return PAR_OK;
}

par_status par_trainer_visit(const par_trainer *t, par_state what, visit_fn *visit, void *user) {
    PAR_REQUIRE(t && visit);
    if (what == PAR_STATE_V && !t->v) PAR_FAIL(PAR_ERR_ARG, "SGD has no second moments to visit");
    for (int i = 0; i < t->registry->n_params; i++) {
        const par_param *p = t->registry->params[i];
        int64_t first, n;
        par__param_shard(t->registry, p, &first, &n);
        if (p->replica != 0 || n == 0) continue;
        if (what == PAR_STATE_GRADIENT)
            PAR_TRY(visit_scaled(t, p, first, n, visit, user));
        else
            PAR_TRY(visit(user, p, first, n, state_of(t, what, p) + first));
    }
    return PAR_OK;
}

static par_status load_all(par_trainer *t, par_status (*read)(void *, const par_param *, float *),
                           void *user) {
    for (int i = 0; i < t->registry->n_params; i++) {
        par_param *p = t->registry->params[i];
        PAR_TRY(read(user, p, staged(t, p)));
        PAR_TRY(store_weight(t, p));
    }
    return PAR_OK;
}

par_status par_trainer_load(par_trainer *t, par_status (*read)(void *user, const par_param *, float *dst),
                            void *user) {
    PAR_REQUIRE(t && read);
    for (int b = 0; b < t->registry->n_buckets; b++) PAR_TRY(par__bucket_gather(t, b));
    PAR_TRY(par_comm_agree(t->mesh->world, load_all(t, read, user)));
    size_t nbytes = (size_t)t->n_state * sizeof(float);
    memset(t->m, 0, nbytes);
    if (t->v) memset(t->v, 0, nbytes);
    t->updates = 0;
    return PAR_OK;
}
