/*
 * The optimizer's elementwise work over flat ranges: AdamW (Loshchilov and Hutter 2019, arXiv
 * 1711.05101), SGD with momentum, sums of squares with a count of what is not finite, and casts.
 * par_update, par_norm2 and par_cast in par/kernels.h.
 */
#include <math.h>

#include "kernels/ref/ref.h"

par_status par__ref_adamw(par_stream *stream, const par_update *a, void *workspace) {
    const par_step *step = a->step;
    if (step->skip) return PAR_OK;
    for (int64_t i = 0; i < a->n; i++) {
        double g = (double)a->grad[i] * step->grad_scale;
        double m = a->b1 * (double)a->m[i] + (1 - a->b1) * g;
        double v = a->b2 * (double)a->v[i] + (1 - a->b2) * g * g;
        double w = a->master[i];
        w -= (double)step->lr * a->decay * w;
        w -= step->lr / step->correction1 * m / (sqrt(v) / sqrt(step->correction2) + a->eps);
        a->m[i] = (float)m;
        a->v[i] = (float)v;
        a->master[i] = (float)w;
        if (a->weights) ref_store(a->weights, a->dtype, i, (float)w);
    }
    return PAR_OK;
}

/* At t = 1 the old momentum is not read. */
par_status par__ref_sgd(par_stream *stream, const par_update *a, void *workspace) {
    const par_step *step = a->step;
    if (step->skip) return PAR_OK;
    for (int64_t i = 0; i < a->n; i++) {
        double w = a->master[i];
        double g = (double)a->grad[i] * step->grad_scale + a->decay * w;
        double m = step->t == 1 ? g : a->b1 * (double)a->m[i] + g;
        a->m[i] = (float)m;
        a->master[i] = (float)(w - step->lr * m);
        if (a->weights) ref_store(a->weights, a->dtype, i, a->master[i]);
    }
    return PAR_OK;
}

par_status par__ref_norm2(par_stream *stream, const par_norm2 *a, void *workspace) {
    for (int64_t k = 0; k < a->n_vectors; k++) {
        const par_norm2_vector *v = &a->vectors[k];
        for (int64_t i = 0; i < v->n; i++) {
            double x = v->x[i];
            if (isfinite(x))
                v->out[0] += x * x;
            else
                v->out[1] += 1;
        }
    }
    return PAR_OK;
}

par_status par__ref_cast(par_stream *stream, const par_cast *a, void *workspace) {
    for (int64_t i = 0; i < a->n; i++)
        ref_store(a->y, a->dtype_y, i, ref_load(a->x, a->dtype_x, i) * a->scale);
    return PAR_OK;
}
