/* The flat space: its arrays, and which elements of a parameter a walk is about. */
#include "flat.h"

#include <stdlib.h>

static par_status point_params(const par__flat *f) {
    for (par__segment s = par__segments(f, PAR__WHOLE); par__segment_next(&s);) {
        s.param->weight = s.weight;
        s.param->grad = s.gradient;
    }
    return PAR_OK;
}

/* For the ledger: which parameters an array of `size` bytes per element is for. */
static par_status tell_params(const par__flat *f, par_memory *memory, par__cut cut,
                              par_memory_kind kind, const char *what, size_t size) {
    char layer[48];
    for (par__segment s = par__segments(f, cut); par__segment_next(&s);) {
        const char *tensor = par__param_layer(s.param->name, layer, sizeof layer);
        PAR_TRY(par_memory_tell(memory, kind, what, layer, tensor, (size_t)s.n * size));
    }
    return PAR_OK;
}

static par_status tell(const par__flat *f, const par__context *on) {
    par_memory *to = on->memory;
    size_t size = par_dtype_nbytes(f->dtype), full = sizeof(float);
    bool adam = on->params.optimizer == PAR_ADAMW;
    PAR_TRY(tell_params(f, to, PAR__WHOLE, PAR_MEM_WEIGHTS, "weights", size));
    if (on->params.inference) return PAR_OK;
    PAR_TRY(tell_params(f, to, PAR__WHOLE, PAR_MEM_GRADIENTS, "gradients", full));
    if (f->dtype != PAR_F32)
        PAR_TRY(tell_params(f, to, PAR__HELD, PAR_MEM_OPTIMIZER, "master weights", full));
    PAR_TRY(tell_params(f, to, PAR__HELD, PAR_MEM_OPTIMIZER, "first moments", full));
    return adam ? tell_params(f, to, PAR__HELD, PAR_MEM_OPTIMIZER, "second moments", full) : PAR_OK;
}

par_status par__flat_take(par__flat *f, const par__context *on) {
    par_registry *registry = f->registry;
    size_t size = par_dtype_nbytes(on->params.dtype), n = (size_t)registry->n_flat;
    void *gradients = NULL, *master = NULL, *m = NULL, *v = NULL;
    f->dtype = on->params.dtype;
    f->sharded = on->params.zero > 0;
    f->held = calloc((size_t)registry->n_buckets + 1, sizeof *f->held);
    if (!f->held) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %d buckets", registry->n_buckets);
    for (int b = 0; b < registry->n_buckets; b++) {
        f->held[b] = f->n_held;
        f->n_held += f->sharded ? registry->buckets[b].n_shard : registry->buckets[b].n;
    }
    size_t nbytes = (size_t)f->n_held * sizeof(float);
    PAR_TRY(par_memory_take(on->memory, PAR_MEM_WEIGHTS, "weights", n * size, &f->weights));
    PAR_TRY(tell(f, on));
    if (on->params.inference) return point_params(f);
    PAR_TRY(
        par_memory_take(on->memory, PAR_MEM_GRADIENTS, "gradients", n * sizeof(float), &gradients));
    if (f->dtype != PAR_F32)
        PAR_TRY(par_memory_take(on->memory, PAR_MEM_OPTIMIZER, "master weights", nbytes, &master));
    PAR_TRY(par_memory_take(on->memory, PAR_MEM_OPTIMIZER, "first moments", nbytes, &m));
    if (on->params.optimizer == PAR_ADAMW)
        PAR_TRY(par_memory_take(on->memory, PAR_MEM_OPTIMIZER, "second moments", nbytes, &v));
    f->gradients = gradients;
    f->master = master;
    f->m = m;
    f->v = v;
    return point_params(f);
}

void par__flat_free(par__flat *f) {
    if (f->registry) par__registry_destroy(&f->registry);
    free(f->held);
}

par__segment par__segments(const par__flat *f, par__cut cut) {
    return (par__segment){.flat = f, .cut = cut, .i = -1};
}

/* Pointers to element `at` of the flat space, and to what is held of it. */
static void point(par__segment *s, int64_t at) {
    const par__flat *f = s->flat;
    const par__bucket *b = &f->registry->buckets[s->param->bucket];
    int64_t begin = f->sharded ? b->shard : b->begin,
            end = begin + (f->sharded ? b->n_shard : b->n);
    int64_t held = f->held[s->param->bucket] + at - begin;
    bool holds = at >= begin && at + s->n <= end;
    s->weight = (char *)f->weights + (size_t)at * par_dtype_nbytes(f->dtype);
    s->gradient = f->gradients ? f->gradients + at : NULL;
    s->m = holds && f->m ? f->m + held : NULL;
    s->v = holds && f->v ? f->v + held : NULL;
    s->master = f->dtype == PAR_F32 ? s->weight : holds && f->master ? f->master + held : NULL;
}

bool par__segment_next(par__segment *s) {
    const par__flat *f = s->flat;
    const par_registry *registry = f->registry;
    while (++s->i < registry->n_params) {
        par_param *p = s->param = registry->params[s->i];
        const par__bucket *b = &registry->buckets[p->bucket];
        int64_t begin = p->flat, end = p->flat + par__param_n(p);
        if (s->cut != PAR__WHOLE && (s->cut != PAR__HELD || f->sharded)) {
            if (begin < b->shard) begin = b->shard;
            if (end > b->shard + b->n_shard) end = b->shard + b->n_shard;
        }
        if (begin >= end || (s->cut == PAR__COUNTED && p->replica != 0)) continue;
        s->first = begin - p->flat;
        s->n = end - begin;
        if (f->weights) point(s, begin);
        return true;
    }
    return false;
}
