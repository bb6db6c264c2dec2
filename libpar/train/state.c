/* What a trainer holds: initial weights, the visit of every logical element once, and replacing
 * weights. */
#include "par/random.h"
#include "trainer.h"

void par__owned(const par_trainer *t, int bucket, int64_t *first, int64_t *n, int64_t *state) {
    const par__bucket *b = &t->registry->buckets[bucket];
    bool sharded = t->params.zero > 0;
    *first = sharded ? b->shard : b->begin;
    *n = sharded ? b->n_shard : b->n;
    *state = t->state[bucket];
}

void par__owned_part(const par_trainer *t, const par_param *p, int64_t *begin, int64_t *n,
                     int64_t *state) {
    int64_t owned, n_owned;
    par__owned(t, p->bucket, &owned, &n_owned, state);
    int64_t end = p->flat + par__param_n(p);
    *begin = p->flat > owned ? p->flat : owned;
    if (end > owned + n_owned) end = owned + n_owned;
    *n = end > *begin ? end - *begin : 0;
    *state += *begin - owned;
}

/* Elements [begin, begin + n) of the local array: a function of (seed, name, global index), the
 * same bits in every layout. Padding stays zero. */
static void init_range(const par_trainer *t, const par_param *p, int64_t begin, int64_t n,
                       float *dst) {
    uint64_t stream = par_hash_name(p->name);
    for (int64_t k = 0; k < n; k++) {
        int64_t i = (begin + k) / p->local[1], j = (begin + k) % p->local[1];
        bool padding = i >= p->extent[0] || j >= p->extent[1];
        uint64_t index = (uint64_t)((p->offset[0] + i) * p->global[1] + p->offset[1] + j);
        double x = padding || p->init == PAR_INIT_CONSTANT
                       ? p->init_value
                       : p->init_value * par_random_normal(t->params.seed, stream, index);
        dst[k] = padding ? 0 : (float)x;
    }
}

/* Where fp32 values of a parameter [local] are put before store_weight: the weight itself, or the
 * gradient's memory, which has the size and type and is free between steps. */
static float *staged(const par_trainer *t, const par_param *p) {
    return t->master ? p->grad : p->weight;
}

/* Staged values into this rank's part of the master, and rounded to all weights. */
static par_status store_weight(par_trainer *t, const par_param *p) {
    if (!t->master) return PAR_OK;
    int64_t begin, n, state;
    par__owned_part(t, p, &begin, &n, &state);
    if (n > 0)
        PAR_TRY(t->backend->copy(t->stream, t->master + state, t->gradients + begin,
                                 (size_t)n * sizeof(float)));
    par_cast cast = {.dtype_x = PAR_F32,
                     .dtype_y = t->params.dtype,
                     .n = par__param_n(p),
                     .scale = 1,
                     .x = p->grad,
                     .y = p->weight};
    PAR_TRY(par_cast_run(t->backend, t->stream, &cast, t->workspace));
    return t->backend->zero(t->stream, p->grad, (size_t)par__param_n(p) * sizeof *p->grad);
}

static par_status init_param(par_trainer *t, const par_param *p) {
    int64_t n = par__param_n(p), piece = par__host_piece(t, n, sizeof(float));
    for (int64_t done = 0; done < n; done += piece) {
        int64_t m = n - done < piece ? n - done : piece;
        float *to = staged(t, p) + done;
        init_range(t, p, done, m, par__host_room(t, to));
        PAR_TRY(par__host_store(t, to, (size_t)m * sizeof *to));
    }
    return store_weight(t, p);
}

par_status par__trainer_init_weights(par_trainer *t) {
    for (int i = 0; i < t->registry->n_params; i++) PAR_TRY(init_param(t, t->registry->params[i]));
    return t->backend->sync(t->stream);
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

typedef par_status visit_fn(void *user, const par_param *, int64_t first, int64_t n,
                            const float *values);

/* What the host reads of the device, piece by piece. */
static par_status visit_run(const par_trainer *t, const par_param *p, int64_t first, int64_t n,
                            const float *device, visit_fn *visit, void *user) {
    int64_t piece = par__host_piece(t, n, sizeof *device);
    for (int64_t done = 0; done < n; done += piece) {
        int64_t m = n - done < piece ? n - done : piece;
        const void *values = NULL;
        PAR_TRY(par__host_view(t, device + done, (size_t)m * sizeof *device, &values));
        PAR_TRY(visit(user, p, first + done, m, values));
    }
    return PAR_OK;
}

typedef struct {
    double scale;
    visit_fn *visit;
    void *user;
} scaled;

/* Gradients are handed over in pieces, scaled to the mean loss. */
static par_status visit_scaled(void *user, const par_param *p, int64_t first, int64_t n,
                               const float *values) {
    const scaled *s = user;
    float piece[2048];
    const int64_t max = sizeof piece / sizeof *piece;
    for (int64_t done = 0; done < n; done += max) {
        int64_t m = n - done < max ? n - done : max;
        for (int64_t i = 0; i < m; i++) piece[i] = (float)(values[done + i] * s->scale);
        PAR_TRY(s->visit(s->user, p, first + done, m, piece));
    }
    return PAR_OK;
}

par_status par_trainer_visit(const par_trainer *t, par_state what, visit_fn *visit, void *user) {
    PAR_REQUIRE(t && visit);
    PAR_TRY(par__no_step_begun(t));
    scaled gradient = {t->gradient_scale, visit, user};
    bool scale = what == PAR_STATE_GRADIENT;
    if (what == PAR_STATE_V && !t->v) PAR_FAIL(PAR_ERR_ARG, "SGD has no second moments to visit");
    for (int i = 0; i < t->registry->n_params; i++) {
        const par_param *p = t->registry->params[i];
        int64_t first, n;
        par__param_shard(t->registry, p, &first, &n);
        if (p->replica != 0 || n == 0) continue;
        PAR_TRY(visit_run(t, p, first, n, state_of(t, what, p) + first,
                          scale ? visit_scaled : visit, scale ? &gradient : user));
    }
    return PAR_OK;
}

typedef par_status read_fn(void *user, const par_param *, float *dst);

static par_status load_param(par_trainer *t, par_param *p, read_fn *read, void *user, float *room) {
    float *to = staged(t, p);
    PAR_TRY(read(user, p, room ? room : to));
    if (room) PAR_TRY(par_trainer_copy(t, to, room, (size_t)par__param_n(p) * sizeof *to));
    return store_weight(t, p);
}

/* A parameter is read whole: where the host cannot write the device's memory, into room for the
 * largest. */
static par_status load_all(par_trainer *t, read_fn *read, void *user) {
    void *room = NULL;
    size_t largest = 0;
    par_status st = PAR_OK;
    for (int i = 0; i < t->registry->n_params; i++) {
        size_t nbytes = (size_t)par__param_n(t->registry->params[i]) * sizeof(float);
        if (nbytes > largest) largest = nbytes;
    }
    if (t->staging) PAR_TRY(t->backend->host_memory.alloc(largest, &room));
    for (int i = 0; i < t->registry->n_params && st == PAR_OK; i++)
        st = load_param(t, t->registry->params[i], read, user, room);
    if (room) t->backend->host_memory.release(room, largest);
    return st;
}

static par_status zero_moments(par_trainer *t) {
    size_t nbytes = (size_t)t->n_state * sizeof(float);
    PAR_TRY(t->backend->zero(t->stream, t->m, nbytes));
    if (t->v) PAR_TRY(t->backend->zero(t->stream, t->v, nbytes));
    return t->backend->sync(t->stream);
}

par_status par_trainer_load(par_trainer *t, read_fn *read, void *user) {
    PAR_REQUIRE(t && read);
    PAR_TRY(par__no_step_begun(t));
    for (int b = 0; b < t->registry->n_buckets; b++) PAR_TRY(par__bucket_gather(t, b));
    par_status st = load_all(t, read, user);
    if (st == PAR_OK) st = zero_moments(t);
    PAR_TRY(par_comm_agree(t->mesh->world, st));
    t->updates = 0;
    t->upload = true;
    return PAR_OK;
}
