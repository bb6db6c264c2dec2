/*
 * Attention of one query a sequence over a cache of keys and values: par_attention_decode in
 * par/kernels.h. With s_j = scale · q · k_j for the n cached tokens j and lse = log sum_j exp(s_j),
 * o = sum_j exp(s_j - lse) v_j: the last query of par_attention, in the same order of operations.
 */
#include <math.h>

#include "kernels/ref/ref.h"

/* The first channel of token t of the cache, as query head h of sequence b reads it. */
static int64_t at_token(const par_attention_decode *a, int64_t b, int64_t h, int64_t t) {
    return ((b * a->capacity + t) * a->K + h / (a->H / a->K)) * a->D;
}

/* weights[t] = exp(s_t - lse) */
static void softmax(const par_attention_decode *a, int64_t b, int64_t h, double *weights) {
    double max = -INFINITY, sum = 0;
    for (int64_t t = 0; t < a->n; t++) {
        int64_t q = b * a->ldq + h * a->D, k = at_token(a, b, h, t);
        double dot = 0;
        for (int64_t d = 0; d < a->D; d++)
            dot += ref_load(a->q, a->dtype, q + d) * ref_load(a->k, a->dtype, k + d);
        weights[t] = a->scale * dot;
        if (weights[t] > max) max = weights[t];
    }
    for (int64_t t = 0; t < a->n; t++) sum += exp(weights[t] - max);
    double lse = max + log(sum);
    for (int64_t t = 0; t < a->n; t++) weights[t] = exp(weights[t] - lse);
}

par_status par__ref_attention_decode_prepare(const void *args, size_t *workspace_nbytes) {
    const par_attention_decode *a = args;
    *workspace_nbytes = (size_t)a->capacity * sizeof(double);
    return PAR_OK;
}

par_status par__ref_attention_decode(par_stream *stream, const par_attention_decode *a,
                                     void *workspace) {
    double *weights = workspace;
    PAR_REQUIRE(workspace || a->n == 0);
    for (int64_t b = 0; b < a->B; b++)
        for (int64_t h = 0; h < a->H; h++) {
            if (a->n > 0) softmax(a, b, h, weights);
            for (int64_t d = 0; d < a->D; d++) {
                double o = 0;
                for (int64_t t = 0; t < a->n; t++)
                    o += weights[t] * ref_load(a->v, a->dtype, at_token(a, b, h, t) + d);
                ref_store(a->o, a->dtype, b * a->ldo + h * a->D + d, o);
            }
            par__progress(stream);
        }
    return PAR_OK;
}
