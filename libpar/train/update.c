/* Gradient norm and optimizer over segments: a parameter's part of what this dp rank owns. */
#include <math.h>
#include <string.h>

#include "trainer.h"

/* Own 1/dp of every bucket, replica 0 only: over the world each element counts once. */
par_status par__gradient_norm(par_trainer *t, par__ballot *ballot) {
    ballot->first_bad = -1;
    for (int i = 0; i < t->registry->n_params; i++) {
        const par_param *p = t->registry->params[i];
        int64_t first, n;
        par__param_shard(t->registry, p, &first, &n);
        if (p->replica != 0 || n == 0) continue;
        t->norm[0] = t->norm[1] = 0;
        par_norm2 args = {.n = n, .x = p->grad + first, .out = t->norm};
        PAR_TRY(par_kernel_run(t->backend, PAR_OP_NORM2, &t->stream, &args, NULL));
        PAR_TRY(t->backend->sync(&t->stream));
        ballot->norm2 += t->norm[0];
        ballot->n_nonfinite += t->norm[1];
        if (t->norm[1] == 0 || ballot->first_bad >= 0) continue;
        ballot->first_bad = i;
        ballot->n_first_bad = t->norm[1] < INT32_MAX ? (int32_t)t->norm[1] : INT32_MAX;
    }
    return PAR_OK;
}

static par_status update_param(par_trainer *t, const par_param *p, float lr, double scale) {
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
                       .lr = lr,
                       .b1 = q->optimizer == PAR_SGD ? q->momentum : q->beta1,
                       .b2 = q->beta2,
                       .eps = q->eps,
                       .decay = p->decay ? q->weight_decay : 0,
                       .grad_scale = (float)scale,
                       .t = t->updates};
    return par_kernel_run(t->backend, q->optimizer == PAR_SGD ? PAR_OP_SGD : PAR_OP_ADAMW, &t->stream, &args,
                          NULL);
}

par_status par__update(par_trainer *t, float lr, double scale) {
    t->updates++;
    for (int i = 0; i < t->registry->n_params; i++)
        PAR_TRY(update_param(t, t->registry->params[i], lr, scale));
    return PAR_OK;
}
