/* The kernels that run over segments of the flat space. */
#include "optimizer.h"

/* The walk over what is held, with parameters that lie behind each other and decay alike as one
 * segment: a launch each would take longer than the work of most. `next` is what was looked at
 * last. */
typedef struct {
    par__segment run, next;
    bool more;
} held_runs;

static held_runs runs_of(const par__flat *flat) {
    held_runs r = {.next = par__segments(flat, PAR__HELD)};
    r.more = par__segment_next(&r.next);
    return r;
}

static bool run_next(held_runs *r) {
    if (!r->more) return false;
    r->run = r->next;
    while ((r->more = par__segment_next(&r->next))) {
        const par_param *p = r->run.param, *q = r->next.param;
        bool follows = p->bucket == q->bucket && p->decay == q->decay &&
                       p->flat + r->run.first + r->run.n == q->flat + r->next.first;
        if (!follows) break;
        r->run.n += r->next.n;
    }
    return true;
}

/* The norms of parameters, so many at a time: a backend may have a launch for each call. */
typedef struct {
    int n;
    par_norm2_vector vectors[128];
} norm_list;

/* The next parameters of a walk; false behind the last. */
static bool norms_next(norm_list *list, par__segment *s, double *norms) {
    enum { MOST = sizeof list->vectors / sizeof *list->vectors };
    for (list->n = 0; list->n < MOST && par__segment_next(s); list->n++)
        list->vectors[list->n] =
            (par_norm2_vector){s->n, s->gradient, norms ? norms + 2 * s->i : NULL};
    return list->n > 0;
}

par_status par__optimizer_take(par__optimizer *o, const par__context *on, const par__flat *flat) {
    void *memory = NULL;
    size_t workspace = 0, need = 0, nbytes = 2 * sizeof(double) * (size_t)flat->registry->n_params;
    o->on = on;
    o->flat = flat;
    if (on->params.inference) return PAR_OK;
    norm_list list;
    for (par__segment s = par__segments(flat, PAR__COUNTED); norms_next(&list, &s, NULL);) {
        par_norm2 norms = {list.n, list.vectors};
        PAR_TRY(par_norm2_prepare(on->backend, &norms, &need));
        if (need > workspace) workspace = need;
    }
    for (held_runs r = runs_of(flat); run_next(&r);) {
        par_update update = {.dtype = flat->dtype, .n = r.run.n};
        PAR_TRY(on->params.optimizer == PAR_SGD ? par_sgd_prepare(on->backend, &update, &need)
                                                : par_adamw_prepare(on->backend, &update, &need));
        if (need > workspace) workspace = need;
    }
    for (par__segment s = par__segments(flat, PAR__WHOLE); par__segment_next(&s);) {
        par_cast cast = {.dtype_x = PAR_F32, .dtype_y = flat->dtype, .n = s.n, .scale = 1};
        if (flat->dtype == PAR_F32) break;
        PAR_TRY(par_cast_prepare(on->backend, &cast, &need));
        if (need > workspace) workspace = need;
    }
    PAR_TRY(par_memory_take(on->memory, PAR_MEM_SCRATCH, "update", workspace, &o->workspace));
    PAR_TRY(par_memory_take(on->memory, PAR_MEM_SCRATCH, "norms", nbytes, &memory));
    o->norms = memory;
    return PAR_OK;
}

/* Zeros first: the kernel adds. */
par_status par__optimizer_norms(par__optimizer *o) {
    size_t nbytes = 2 * sizeof(double) * (size_t)o->flat->registry->n_params;
    PAR_TRY(o->on->backend->zero(o->on->stream, o->norms, nbytes));
    norm_list list;
    for (par__segment s = par__segments(o->flat, PAR__COUNTED); norms_next(&list, &s, o->norms);) {
        par_norm2 args = {list.n, list.vectors};
        PAR_TRY(par_norm2_run(o->on->backend, o->on->stream, &args, o->workspace));
    }
    return PAR_OK;
}

par_status par__optimizer_update(par__optimizer *o, const par_step *step, int bucket) {
    const par_trainer_params *q = &o->on->params;
    for (held_runs r = runs_of(o->flat); run_next(&r);) {
        const par__segment *s = &r.run;
        if (s->param->bucket != bucket) continue;
        par_update args = {.dtype = q->dtype,
                           .n = s->n,
                           .master = s->master,
                           .weights = o->flat->master ? s->weight : NULL,
                           .grad = s->gradient,
                           .m = s->m,
                           .v = s->v,
                           .step = step,
                           .b1 = q->optimizer == PAR_SGD ? q->momentum : q->beta1,
                           .b2 = q->beta2,
                           .eps = q->eps,
                           .decay = s->param->decay ? q->weight_decay : 0};
        PAR_TRY(q->optimizer == PAR_SGD
                    ? par_sgd_run(o->on->backend, o->on->stream, &args, o->workspace)
                    : par_adamw_run(o->on->backend, o->on->stream, &args, o->workspace));
    }
    return PAR_OK;
}

float *par__optimizer_room(const par__optimizer *o, const par__segment *whole) {
    return o->flat->dtype == PAR_F32 ? whole->weight : whole->gradient;
}

par_status par__optimizer_adopt(par__optimizer *o) {
    const par_backend *backend = o->on->backend;
    par_stream *stream = o->on->stream;
    if (!o->flat->master) return PAR_OK;
    for (par__segment s = par__segments(o->flat, PAR__HELD); par__segment_next(&s);)
        PAR_TRY(backend->copy(stream, s.master, s.gradient, (size_t)s.n * sizeof(float)));
    for (par__segment s = par__segments(o->flat, PAR__WHOLE); par__segment_next(&s);) {
        par_cast cast = {.dtype_x = PAR_F32,
                         .dtype_y = o->flat->dtype,
                         .n = s.n,
                         .scale = 1,
                         .x = s.gradient,
                         .y = s.weight};
        PAR_TRY(par_cast_run(backend, stream, &cast, o->workspace));
        PAR_TRY(backend->zero(stream, s.gradient, (size_t)s.n * sizeof(float)));
    }
    return PAR_OK;
}
