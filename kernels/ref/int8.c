/*
 * Weights as 8-bit integers, and their product with activations. Specification: par_quantize and
 * par_gemm_int8 in par/kernels.h; quantising is in fp32 here too, as its bits are specified.
 */
#include <math.h>

#include "kernels/ref/ref.h"

/* Elements [begin, end) of row i, which are a group. Its scale. */
static float quantize_group(const par_quantize *a, int64_t i, int64_t begin, int64_t end) {
    float max = 0, scale = 0, inverse = 0;
    for (int64_t j = begin; j < end; j++) {
        float x = (float)ref_load(a->x, a->dtype, i * a->ldx + j);
        if (!isfinite(x)) scale = NAN;
        max = fabsf(x) > max ? fabsf(x) : max;
    }
    if (max >= 0x1p-100f && !isnan(scale)) {
        scale = max / 127;
        inverse = 127 / max;
    }
    for (int64_t j = begin; j < end; j++) {
        float x = (float)ref_load(a->x, a->dtype, i * a->ldx + j);
        a->q[i * a->n + j] = inverse > 0 ? (int8_t)nearbyintf(x * inverse) : 0;
    }
    return scale;
}

par_status par__ref_quantize(par_stream *stream, const par_quantize *a, void *workspace) {
    int64_t groups = par_int8_groups(a->n);
    for (int64_t i = 0; i < a->m; i++) {
        for (int64_t g = 0; g < groups; g++) {
            int64_t begin = g * PAR_INT8_GROUP, end = begin + PAR_INT8_GROUP;
            a->scales[i * groups + g] = quantize_group(a, i, begin, end < a->n ? end : a->n);
        }
        par__progress(stream);
    }
    return PAR_OK;
}

par_status par__ref_gemm_int8(par_stream *stream, const par_gemm_int8 *g, void *workspace) {
    for (int64_t i = 0; i < g->m; i++) {
        for (int64_t j = 0; j < g->n; j++) {
            double sum = 0;
            for (int64_t l = 0; l < g->k; l++) {
                float scale = g->scales[j * par_int8_groups(g->k) + l / PAR_INT8_GROUP];
                sum +=
                    ref_load(g->a, g->dtype, i * g->lda + l) * (double)scale * g->q[j * g->k + l];
            }
            ref_store(g->c, g->dtype_c, i * g->ldc + j,
                      sum + (g->bias ? ref_load(g->bias, g->dtype, j) : 0));
        }
        par__progress(stream);
    }
    return PAR_OK;
}
