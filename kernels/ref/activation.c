/*
 * GELU in both forms (Hendrycks and Gimpel 2016, arXiv 1606.08415) and SwiGLU (Shazeer 2020, arXiv
 * 2002.05202): par_gelu and par_swiglu in par/kernels.h.
 */
#include <math.h>

#include "kernels/ref/ref.h"

static const double SQRT_2_OVER_PI = 0.79788456080286535588;
static const double SQRT_1_OVER_2 = 0.70710678118654752440;
static const double SQRT_1_OVER_2PI = 0.39894228040143267794;

double par__ref_gelu_value(double x, bool erf_form) {
    if (erf_form) return x / 2 * (1 + erf(x * SQRT_1_OVER_2));
    return x / 2 * (1 + tanh(SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)));
}

double par__ref_gelu_slope(double x, bool erf_form) {
    if (erf_form) return (1 + erf(x * SQRT_1_OVER_2)) / 2 + x * SQRT_1_OVER_2PI * exp(-x * x / 2);
    double t = tanh(SQRT_2_OVER_PI * (x + 0.044715 * x * x * x));
    return (1 + t) / 2 + x / 2 * (1 - t * t) * SQRT_2_OVER_PI * (1 + 3 * 0.044715 * x * x);
}

par_status par__ref_gelu(par_stream *stream, const par_gelu *a, void *workspace) {
    for (int64_t i = 0; i < a->n; i++)
        ref_store(a->y, a->dtype, i, par__ref_gelu_value(ref_load(a->x, a->dtype, i), a->erf));
    return PAR_OK;
}

par_status par__ref_gelu_backward(par_stream *stream, const par_gelu *a, void *workspace) {
    for (int64_t i = 0; i < a->n; i++)
        ref_store(a->dx, a->dtype, i,
                  ref_load(a->dy, a->dtype, i) *
                      par__ref_gelu_slope(ref_load(a->x, a->dtype, i), a->erf));
    return PAR_OK;
}

static double sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

par_status par__ref_swiglu(par_stream *stream, const par_swiglu *a, void *workspace) {
    for (int64_t i = 0; i < a->m; i++)
        for (int64_t j = 0; j < a->n; j++) {
            double gate = ref_load(a->x, a->dtype, 2 * i * a->n + j),
                   up = ref_load(a->x, a->dtype, (2 * i + 1) * a->n + j);
            ref_store(a->y, a->dtype, i * a->n + j, gate * sigmoid(gate) * up);
        }
    return PAR_OK;
}

/* silu'(g) = s + g s (1 - s) with s = sigmoid(g) */
par_status par__ref_swiglu_backward(par_stream *stream, const par_swiglu *a, void *workspace) {
    for (int64_t i = 0; i < a->m; i++)
        for (int64_t j = 0; j < a->n; j++) {
            int64_t at_gate = 2 * i * a->n + j, at_up = at_gate + a->n;
            double gate = ref_load(a->x, a->dtype, at_gate), up = ref_load(a->x, a->dtype, at_up);
            double s = sigmoid(gate), dy = ref_load(a->dy, a->dtype, i * a->n + j);
            ref_store(a->dx, a->dtype, at_gate, dy * up * (s + gate * s * (1 - s)));
            ref_store(a->dx, a->dtype, at_up, dy * gate * s);
        }
    return PAR_OK;
}
