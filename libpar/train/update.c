/* Gradient norm and optimizer over segments: a parameter's part of what this dp rank owns. */
#include "trainer.h"

/* The part of parameter i that this rank counts: own 1/dp of its bucket, replica 0 only, so that
 * over the world each element counts once. n 0: none. */
static const par_param *counted(const par_trainer *t, int i, int64_t *first, int64_t *n) {
    const par_param *p = t->registry->params[i];
    par__param_shard(t->registry, p, first, n);
    if (p->replica != 0) *n = 0;
    return p;
}

/* Zeros first: the kernel adds. */
par_status par__gradient_norms(par_trainer *t) {
    size_t nbytes = 2 * sizeof(double) * (size_t)t->registry->n_params;
    PAR_TRY(t->backend->zero(t->stream, t->norms, nbytes));
    for (int i = 0; i < t->registry->n_params; i++) {
        int64_t first, n;
        const par_param *p = counted(t, i, &first, &n);
        par_norm2 args = {.n = n, .x = p->grad + first, .out = t->norms + 2 * i};
        if (n > 0) PAR_TRY(par_norm2_run(t->backend, t->stream, &args, t->workspace));
    }
    return PAR_OK;
}

static par_status prepare_param(const par_trainer *t, int i, size_t *max_nbytes) {
    int64_t begin, state;
    size_t nbytes[3] = {0};
    par_norm2 norm = {0};
    par_update update = {.dtype = t->params.dtype};
    par_cast cast = {.dtype_x = PAR_F32,
                     .dtype_y = t->params.dtype,
                     .n = par__param_n(t->registry->params[i]),
                     .scale = 1};
    const par_param *p = counted(t, i, &begin, &norm.n);
    par__owned_part(t, p, &begin, &update.n, &state);
    PAR_TRY(par_norm2_prepare(t->backend, &norm, &nbytes[0]));
    PAR_TRY(t->params.optimizer == PAR_SGD ? par_sgd_prepare(t->backend, &update, &nbytes[1])
                                           : par_adamw_prepare(t->backend, &update, &nbytes[1]));
    if (t->params.dtype != PAR_F32) PAR_TRY(par_cast_prepare(t->backend, &cast, &nbytes[2]));
    for (int k = 0; k < 3; k++)
        if (nbytes[k] > *max_nbytes) *max_nbytes = nbytes[k];
    return PAR_OK;
}

par_status par__update_take(par_trainer *t) {
    void *norms = NULL;
    size_t workspace = 0, nbytes = 2 * sizeof(double) * (size_t)t->registry->n_params;
    for (int i = 0; i < t->registry->n_params; i++) PAR_TRY(prepare_param(t, i, &workspace));
    PAR_TRY(par_memory_take(t->memory, PAR_MEM_SCRATCH, "update", workspace, &t->workspace));
    PAR_TRY(par_memory_take(t->memory, PAR_MEM_SCRATCH, "norms", nbytes, &norms));
    t->norms = norms;
    return PAR_OK;
}

static par_status update_param(par_trainer *t, const par_param *p) {
    int64_t begin, n, state;
    par__owned_part(t, p, &begin, &n, &state);
    if (n == 0) return PAR_OK;
    char *weights = (char *)t->weights + (size_t)begin * par_dtype_nbytes(t->params.dtype);
    const par_trainer_params *q = &t->params;
    par_update args = {.dtype = q->dtype,
                       .n = n,
                       .master = t->master ? t->master + state : (float *)(void *)weights,
                       .weights = t->master ? weights : NULL,
                       .grad = t->gradients + begin,
                       .m = t->m + state,
                       .v = t->v ? t->v + state : NULL,
                       .step = &t->voted->step,
                       .b1 = q->optimizer == PAR_SGD ? q->momentum : q->beta1,
                       .b2 = q->beta2,
                       .eps = q->eps,
                       .decay = p->decay ? q->weight_decay : 0};
    return q->optimizer == PAR_SGD ? par_sgd_run(t->backend, t->stream, &args, t->workspace)
                                   : par_adamw_run(t->backend, t->stream, &args, t->workspace);
}

par_status par__update(par_trainer *t) {
    for (int i = 0; i < t->registry->n_params; i++)
        PAR_TRY(update_param(t, t->registry->params[i]));
    return PAR_OK;
}
