/* The kernels that run over segments of the flat space. */
#include "optimizer.h"

static par_op update_op(const par__optimizer *o) {
    return o->on->params.optimizer == PAR_SGD ? PAR_OP_SGD : PAR_OP_ADAMW;
}

static par_status prepare(const par__optimizer *o, par_op op, const void *args,
                          size_t *max_nbytes) {
    size_t nbytes = 0;
    PAR_TRY(par_kernel_prepare(o->on->backend, op, args, &nbytes));
    if (nbytes > *max_nbytes) *max_nbytes = nbytes;
    return PAR_OK;
}

par_status par__optimizer_take(par__optimizer *o, const par__context *on, const par__flat *flat) {
    void *norms = NULL;
    size_t workspace = 0, nbytes = 2 * sizeof(double) * (size_t)flat->registry->n_params;
    o->on = on;
    o->flat = flat;
    for (par__segment s = par__segments(flat, PAR__COUNTED); par__segment_next(&s);) {
        par_norm2 norm = {.n = s.n};
        PAR_TRY(prepare(o, PAR_OP_NORM2, &norm, &workspace));
    }
    for (par__segment s = par__segments(flat, PAR__HELD); par__segment_next(&s);) {
        par_update update = {.dtype = flat->dtype, .n = s.n};
        PAR_TRY(prepare(o, update_op(o), &update, &workspace));
    }
    for (par__segment s = par__segments(flat, PAR__WHOLE); par__segment_next(&s);) {
        par_cast cast = {.dtype_x = PAR_F32, .dtype_y = flat->dtype, .n = s.n, .scale = 1};
        if (flat->dtype != PAR_F32) PAR_TRY(prepare(o, PAR_OP_CAST, &cast, &workspace));
    }
    PAR_TRY(par_memory_take(on->memory, PAR_MEM_SCRATCH, "update", workspace, &o->workspace));
    PAR_TRY(par_memory_take(on->memory, PAR_MEM_SCRATCH, "norms", nbytes, &norms));
    o->norms = norms;
    return PAR_OK;
}

/* Zeros first: the kernel adds. */
par_status par__optimizer_norms(par__optimizer *o) {
    size_t nbytes = 2 * sizeof(double) * (size_t)o->flat->registry->n_params;
    PAR_TRY(o->on->backend->zero(o->on->stream, o->norms, nbytes));
    for (par__segment s = par__segments(o->flat, PAR__COUNTED); par__segment_next(&s);) {
        par_norm2 args = {.n = s.n, .x = s.gradient, .out = o->norms + 2 * s.i};
        PAR_TRY(par_kernel_run(o->on->backend, PAR_OP_NORM2, o->on->stream, &args, o->workspace));
    }
    return PAR_OK;
}

par_status par__optimizer_update(par__optimizer *o, const par_step *step) {
    const par_trainer_params *q = &o->on->params;
    for (par__segment s = par__segments(o->flat, PAR__HELD); par__segment_next(&s);) {
        par_update args = {.dtype = q->dtype,
                           .n = s.n,
                           .master = s.master,
                           .weights = o->flat->master ? s.weight : NULL,
                           .grad = s.gradient,
                           .m = s.m,
                           .v = s.v,
                           .step = step,
                           .b1 = q->optimizer == PAR_SGD ? q->momentum : q->beta1,
                           .b2 = q->beta2,
                           .eps = q->eps,
                           .decay = s.param->decay ? q->weight_decay : 0};
        PAR_TRY(par_kernel_run(o->on->backend, update_op(o), o->on->stream, &args, o->workspace));
    }
    return PAR_OK;
}

float *par__optimizer_room(const par__optimizer *o, const par__segment *whole) {
    return o->flat->master ? whole->gradient : whole->weight;
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
        PAR_TRY(par_kernel_run(backend, PAR_OP_CAST, stream, &cast, o->workspace));
        PAR_TRY(backend->zero(stream, s.gradient, (size_t)s.n * sizeof(float)));
    }
    return PAR_OK;
}
