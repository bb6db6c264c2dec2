/* What a trainer holds: initial weights, the visit of every logical element once, and replacing
 * weights. */
#include "kernels/half.h"
#include "libpar/base/threads.h"
#include "par/random.h"
#include "trainer.h"

/* Elements [first, first + n) of a parameter's local array, which `dst` holds. */
typedef struct {
    uint64_t seed, stream;
    const par_param *p;
    int64_t first;
    float *dst;
} drawing;

/* Columns [j, j + n) of row i: a function of (seed, name, global index), the same bits in every
 * layout. Padding is zero. */
static void draw_row(const drawing *d, int64_t i, int64_t j, int64_t n, float *dst) {
    const par_param *p = d->p;
    int64_t inside = i < p->extent[0] ? p->extent[1] - j : 0;
    uint64_t index = (uint64_t)((p->offset[0] + i) * p->global[1] + p->offset[1] + j);
    inside = inside < 0 ? 0 : inside < n ? inside : n;
    for (int64_t k = 0; k < inside; k++)
        dst[k] = (float)(p->init == PAR_INIT_CONSTANT
                             ? p->init_value
                             : p->init_value *
                                   par_random_normal(d->seed, d->stream, index + (uint64_t)k));
    for (int64_t k = inside; k < n; k++) dst[k] = 0;
}

static void draw_blocks(const void *user, int slot, int64_t begin, int64_t end) {
    const drawing *d = user;
    int64_t columns = d->p->local[1];
    for (int64_t n; begin < end; begin += n) {
        int64_t i = (d->first + begin) / columns, j = (d->first + begin) % columns;
        n = columns - j < end - begin ? columns - j : end - begin;
        draw_row(d, i, j, n, d->dst + begin);
    }
}

/* Piece by piece into the place of each parameter. */
static par_status draw_in_place(par_trainer *t) {
    for (par__segment s = par__segments(&t->flat, PAR__WHOLE); par__segment_next(&s);) {
        float *to = par__optimizer_room(&t->optimizer, &s);
        int64_t piece = par__host_piece(&t->host, s.n, sizeof *to);
        drawing d = {t->on.params.seed, par_hash_name(s.param->name), s.param, 0, NULL};
        for (int64_t done = 0; done < s.n; done += piece) {
            int64_t n = s.n - done < piece ? s.n - done : piece;
            d.first = done;
            d.dst = par__host_room(&t->host, to + done);
            par__threads_run(n, PAR_MAX_THREADS, draw_blocks, &d);
            PAR_TRY(par__host_store(&t->host, to + done, (size_t)n * sizeof *to));
        }
    }
    return par__optimizer_adopt(&t->optimizer);
}

par_status par__trainer_ready(const par_trainer *t, par__need need) {
    const par_trainer_params *p = &t->on.params;
    if (p->inference && need > (p->evaluates ? PAR__WALKS : PAR__WEIGHTS))
        PAR_FAIL(PAR_ERR_ARG, "the trainer is for inference: it has weights alone");
    if (!t->has_weights)
        PAR_FAIL(PAR_ERR_ARG, "the trainer has no weights yet; legal after par_trainer_load, "
                              "par_trainer_resume or par_trainer_draw");
    return PAR_OK;
}

typedef par_status visit_fn(void *user, const par_param *, int64_t first, int64_t n,
                            const float *values);

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

/* What the host reads of the device, piece by piece. */
static par_status visit_segment(const par_trainer *t, const par__segment *s, const float *device,
                                visit_fn *visit, void *user) {
    int64_t piece = par__host_piece(&t->host, s->n, sizeof *device);
    for (int64_t done = 0; done < s->n; done += piece) {
        int64_t n = s->n - done < piece ? s->n - done : piece;
        const void *values = NULL;
        PAR_TRY(par__host_view(&t->host, device + done, (size_t)n * sizeof *device, &values));
        PAR_TRY(visit(user, s->param, s->first + done, n, values));
    }
    return PAR_OK;
}

par_status par_trainer_visit(const par_trainer *t, par_state what, visit_fn *visit, void *user) {
    PAR_REQUIRE(t && visit);
    PAR_TRY(par__no_step_begun(&t->vote));
    bool whole = what == PAR_STATE_WEIGHT && t->flat.dtype == PAR_F32; /* no master weights */
    PAR_TRY(par__trainer_ready(t, whole ? PAR__WEIGHTS : PAR__TRAINS));
    scaled gradient = {t->vote.gradient_scale, visit, user};
    if (what == PAR_STATE_V && !t->flat.v)
        PAR_FAIL(PAR_ERR_ARG, "SGD has no second moments to visit");
    for (par__segment s = par__segments(&t->flat, PAR__COUNTED); par__segment_next(&s);) {
        switch (what) {
        case PAR_STATE_WEIGHT: PAR_TRY(visit_segment(t, &s, s.master, visit, user)); break;
        case PAR_STATE_M: PAR_TRY(visit_segment(t, &s, s.m, visit, user)); break;
        case PAR_STATE_V: PAR_TRY(visit_segment(t, &s, s.v, visit, user)); break;
        default: PAR_TRY(visit_segment(t, &s, s.gradient, visit_scaled, &gradient));
        }
    }
    return PAR_OK;
}

typedef par_status read_fn(void *user, const par_param *, float *dst);

/* fp32 values, rounded in place to 16 bits each. */
typedef struct {
    par_dtype dtype;
    const float *from;
    uint16_t *to;
} rounding;

static void round_range(const void *user, int slot, int64_t begin, int64_t end) {
    const rounding *r = user;
    for (int64_t i = begin; i < end; i++)
        r->to[i] =
            r->dtype == PAR_BF16 ? par__f32_to_bf16(r->from[i]) : par__f32_to_f16(r->from[i]);
}

/* A parameter is read whole: where the host cannot write the device's memory, or the weights have
 * 16 bits and there is no other memory for it, into room for the largest. */
static par_status load_all(par_trainer *t, read_fn *read, void *user) {
    const par_allocator *host = &t->on.backend->host_memory;
    void *room = NULL;
    int64_t largest = 0;
    par_status st = PAR_OK;
    for (par__segment s = par__segments(&t->flat, PAR__WHOLE); par__segment_next(&s);)
        if (s.n > largest) largest = s.n;
    bool rounds = t->on.params.inference && t->flat.dtype != PAR_F32;
    size_t nbytes = (size_t)largest * (sizeof(float) + (rounds ? sizeof(uint16_t) : 0));
    if (t->host.staging || rounds) PAR_TRY(host->alloc(nbytes, &room));
    for (par__segment s = par__segments(&t->flat, PAR__WHOLE); par__segment_next(&s);) {
        float *to = par__optimizer_room(&t->optimizer, &s);
        PAR_TRY_GOTO(read(user, s.param, room ? room : to), out);
        if (rounds) { /* behind fp32 values [n] of the room there is place for n of 16 bits */
            const rounding r = {t->flat.dtype, room, (uint16_t *)((float *)room + s.n)};
            par__threads_run(s.n, PAR_MAX_THREADS, round_range, &r);
            PAR_TRY_GOTO(par__host_copy(&t->host, s.weight, r.to, (size_t)s.n * sizeof *r.to), out);
        } else if (room) {
            PAR_TRY_GOTO(par__host_copy(&t->host, to, room, (size_t)s.n * sizeof *to), out);
        }
    }
    if (!rounds) st = par__optimizer_adopt(&t->optimizer);
out:
    if (room) host->release(room, nbytes);
    return st;
}

static par_status draw_param(void *user, const par_param *p, float *dst) {
    const par_trainer *t = user;
    const drawing d = {t->on.params.seed, par_hash_name(p->name), p, 0, dst};
    par__threads_run(par__param_n(p), PAR_MAX_THREADS, draw_blocks, &d);
    return PAR_OK;
}

par_status par__trainer_draw(par_trainer *t) {
    bool rounds = t->on.params.inference && t->flat.dtype != PAR_F32;
    PAR_TRY(rounds ? load_all(t, draw_param, t) : draw_in_place(t));
    PAR_TRY(par__sync(&t->on));
    t->has_weights = true;
    return PAR_OK;
}

par_status par_trainer_draw(par_trainer *t) {
    PAR_REQUIRE(t);
    PAR_TRY(par__no_step_begun(&t->vote));
    PAR_TRY(par__fatal(&t->on, par__buckets_settle(&t->buckets)));
    return par_comm_agree(t->on.mesh->world, par__trainer_draw(t));
}

par_status par__trainer_zero_moments(par_trainer *t) {
    const par_backend *backend = t->on.backend;
    size_t nbytes = (size_t)t->flat.n_held * sizeof(float);
    if (t->flat.m) PAR_TRY(backend->zero(t->on.stream, t->flat.m, nbytes));
    if (t->flat.v) PAR_TRY(backend->zero(t->on.stream, t->flat.v, nbytes));
    return par__sync(&t->on);
}

par_status par_trainer_load(par_trainer *t, read_fn *read, void *user) {
    PAR_REQUIRE(t && read);
    PAR_TRY(par__no_step_begun(&t->vote));
    PAR_TRY(par__fatal(&t->on, par__buckets_settle(&t->buckets)));
    par__enter(&t->on, PAR__PHASE_LOAD);
    t->has_weights = false;
    par_status st = load_all(t, read, user);
    if (st == PAR_OK) st = par__trainer_zero_moments(t);
    PAR_TRY(par__leave(&t->on, "load", par_comm_agree(t->on.mesh->world, st)));
    t->has_weights = true;
    par__vote_restart(&t->vote, t->vote.consumed, 0);
    return PAR_OK;
}
