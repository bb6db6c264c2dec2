/*
 * LayerNorm (Ba et al. 2016, arXiv 1607.06450) and RMSNorm (Zhang and Sennrich 2019, arXiv
 * 1910.07467).
 *
 * With xhat = (x - mean) · rstd and g = dy · w, the backward of a row is
 *     LayerNorm  dx = rstd · (g - mean(g) - xhat · mean(g · xhat))
 *     RMSNorm    dx = rstd · (g           - xhat · mean(g · xhat)),  mean = 0 in xhat
 * and dw = sum over rows of dy · xhat, db = sum over rows of dy.
 * Specification: par_norm in par/kernels.h.
 */
#include <math.h>

#include "kernels/ref/ref.h"

static void forward(const par_norm *a, bool layernorm) {
    if (a->residual) (void)par__ref_residual(NULL, a->residual, NULL);
    for (int64_t i = 0; i < a->m; i++) {
        double mean = 0, variance = 0;
        if (layernorm)
            for (int64_t j = 0; j < a->n; j++)
                mean += ref_load(a->x, a->dtype, i * a->n + j) / (double)a->n;
        for (int64_t j = 0; j < a->n; j++) {
            double centred = ref_load(a->x, a->dtype, i * a->n + j) - mean;
            variance += centred * centred / (double)a->n;
        }
        double rstd = 1 / sqrt(variance + a->eps);
        for (int64_t j = 0; j < a->n; j++) {
            double xhat = (ref_load(a->x, a->dtype, i * a->n + j) - mean) * rstd;
            double b = layernorm ? ref_load(a->b, a->dtype, j) : 0;
            ref_store(a->y, a->dtype, i * a->n + j, xhat * ref_load(a->w, a->dtype, j) + b);
        }
        if (layernorm) a->mean[i] = (float)mean;
        a->rstd[i] = (float)rstd;
    }
}

static double xhat_at(const par_norm *a, int64_t i, int64_t j, bool layernorm) {
    return (ref_load(a->x, a->dtype, i * a->n + j) - (layernorm ? (double)a->mean[i] : 0)) *
           a->rstd[i];
}

/* dw and db first: dx may be dy or add. So element j is read before it is written, and the means
 * are finished before the first write. */
static void backward(const par_norm *a, bool layernorm) {
    for (int64_t j = 0; a->dw && j < a->n; j++) {
        double dw = ref_scaled(a->beta, a->dw[j]),
               db = layernorm ? ref_scaled(a->beta, a->db[j]) : 0;
        for (int64_t i = 0; i < a->m; i++) {
            double dy = ref_load(a->dy, a->dtype, i * a->n + j);
            dw += dy * xhat_at(a, i, j, layernorm);
            db += dy;
        }
        a->dw[j] = (float)dw;
        if (layernorm) a->db[j] = (float)db;
    }
    for (int64_t i = 0; i < a->m; i++) {
        double mean_g = 0, mean_gx = 0;
        for (int64_t j = 0; j < a->n; j++) {
            double g = ref_load(a->dy, a->dtype, i * a->n + j) * ref_load(a->w, a->dtype, j);
            mean_g += layernorm ? g / (double)a->n : 0;
            mean_gx += g * xhat_at(a, i, j, layernorm) / (double)a->n;
        }
        for (int64_t j = 0; j < a->n; j++) {
            int64_t at = i * a->n + j;
            double g = ref_load(a->dy, a->dtype, at) * ref_load(a->w, a->dtype, j);
            double add = a->add ? ref_load(a->add, a->dtype, at) : 0;
            ref_store(a->dx, a->dtype, at,
                      (g - mean_g - xhat_at(a, i, j, layernorm) * mean_gx) * a->rstd[i] + add);
        }
    }
}

par_status par__ref_layernorm(par_stream *stream, const par_norm *a, void *workspace) {
    forward(a, true);
    return PAR_OK;
}

par_status par__ref_layernorm_backward(par_stream *stream, const par_norm *a, void *workspace) {
    backward(a, true);
    return PAR_OK;
}

par_status par__ref_rmsnorm(par_stream *stream, const par_norm *a, void *workspace) {
    forward(a, false);
    return PAR_OK;
}

par_status par__ref_rmsnorm_backward(par_stream *stream, const par_norm *a, void *workspace) {
    backward(a, false);
    return PAR_OK;
}
