/*
 * Matrix product c = op(a) · op(b) + bias + beta · c, and the column sum that is the gradient of a
 * bias. Specification: par_gemm and par_column_sum in par/kernels.h.
 */
#include "kernels/ref/ref.h"

/* aux [m] (+)= sums of op(a)'s rows */
static void add_bias_gradient(const par_gemm *g) {
    float *aux = g->aux;
    for (int64_t i = 0; i < g->m; i++) {
        double sum = ref_scaled(g->beta, aux[i]);
        for (int64_t l = 0; l < g->k; l++)
            sum += ref_load(g->a, g->dtype, g->ta ? l * g->lda + i : i * g->lda + l);
        aux[i] = (float)sum;
    }
}

par_status par__ref_gemm(par_stream *stream, const par_gemm *g, void *workspace) {
    if (g->epilogue == PAR_EPILOGUE_BIAS_GRADIENT) add_bias_gradient(g);
    for (int64_t i = 0; i < g->m; i++) {
        for (int64_t j = 0; j < g->n; j++) {
            int64_t at = i * g->ldc + j;
            double s = 0;
            for (int64_t l = 0; l < g->k; l++) {
                double a = ref_load(g->a, g->dtype, g->ta ? l * g->lda + i : i * g->lda + l);
                double b = ref_load(g->b, g->dtype, g->tb ? j * g->ldb + l : l * g->ldb + j);
                s += a * b;
            }
            s += g->bias ? ref_load(g->bias, g->dtype, j) : 0;
            if (g->epilogue == PAR_EPILOGUE_GELU) {
                ref_store(g->aux, g->dtype, at, s);
                s = par__ref_gelu_value(s, false);
            } else if (g->epilogue == PAR_EPILOGUE_GELU_BACKWARD) {
                s *= par__ref_gelu_slope(ref_load(g->aux, g->dtype, at), false);
            }
            ref_store(g->c, g->dtype_c, at,
                      s + ref_scaled(g->beta, ref_load(g->c, g->dtype_c, at)));
        }
        par__progress(stream);
    }
    return PAR_OK;
}

par_status par__ref_column_sum(par_stream *stream, const par_column_sum *s, void *workspace) {
    for (int64_t j = 0; j < s->n; j++) {
        double sum = ref_scaled(s->beta, s->y[j]);
        for (int64_t i = 0; i < s->m; i++) sum += ref_load(s->x, s->dtype, i * s->ldx + j);
        s->y[j] = (float)sum;
    }
    return PAR_OK;
}
