/*
 * GELU and SwiGLU: par_gelu and par_swiglu in par/kernels.h. The tanh form is evaluated as x · s(2u), s the
 * logistic function, because (1 + tanh u) / 2 = s(2u): no cancellation in the left tail.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/elementary.h"

#define TWICE_SQRT_2_OVER_PI 1.59576912f

enum { PIECE = 2048 };

/* 2u and its derivative */
static inline float tanh_argument(float x) {
    return TWICE_SQRT_2_OVER_PI * (x + 0.044715f * x * x * x);
}

static inline float tanh_derivative(float x) {
    return TWICE_SQRT_2_OVER_PI * (1.0f + 3 * 0.044715f * x * x);
}

static void tanh_forward(const float *x, float *y, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = x[i] / (1.0f + exp_f32(-tanh_argument(x[i])));
}

static void tanh_backward(const float *x, const float *dy, float *dx, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float s, rest;
        logistic_f32(tanh_argument(x[i]), &s, &rest);
        dx[i] = dy[i] * (s + x[i] * s * rest * tanh_derivative(x[i]));
    }
}

static void erf_forward(const float *x, float *y, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float distribution, density;
        normal_f32(x[i], &distribution, &density);
        y[i] = x[i] * distribution;
    }
}

static void erf_backward(const float *x, const float *dy, float *dx, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float distribution, density;
        normal_f32(x[i], &distribution, &density);
        dx[i] = dy[i] * (distribution + x[i] * density);
    }
}

static par_status gelu(par_stream *stream, const void *args, void *workspace) {
    const par_gelu *a = args;
    if (a->dtype != PAR_F32) return par__ref_gelu(stream, args, workspace);
    const float *x = a->x;
    float *y = a->y;
#pragma omp parallel for schedule(static) if (a->n > CPU_PARALLEL)
    for (int64_t piece = 0; piece < cpu_pieces(a->n, PIECE); piece++) {
        int64_t at = piece * PIECE;
        (a->erf ? erf_forward : tanh_forward)(x + at, y + at, cpu_min(PIECE, a->n - at));
    }
    return PAR_OK;
}

static par_status gelu_backward(par_stream *stream, const void *args, void *workspace) {
    const par_gelu *a = args;
    if (a->dtype != PAR_F32) return par__ref_gelu_backward(stream, args, workspace);
    const float *x = a->x, *dy = a->dy;
    float *dx = a->dx;
#pragma omp parallel for schedule(static) if (a->n > CPU_PARALLEL)
    for (int64_t piece = 0; piece < cpu_pieces(a->n, PIECE); piece++) {
        int64_t at = piece * PIECE;
        (a->erf ? erf_backward : tanh_backward)(x + at, dy + at, dx + at, cpu_min(PIECE, a->n - at));
    }
    return PAR_OK;
}

static par_status swiglu(par_stream *stream, const void *args, void *workspace) {
    const par_swiglu *a = args;
    if (a->dtype != PAR_F32) return par__ref_swiglu(stream, args, workspace);
    int64_t n = a->n;
#pragma omp parallel for schedule(static) if (a->m * n > CPU_PARALLEL)
    for (int64_t i = 0; i < a->m; i++) {
        const float *gate = (const float *)a->x + i * 2 * n, *up = gate + n;
        float *y = (float *)a->y + i * n;
#pragma omp simd
        for (int64_t j = 0; j < n; j++) y[j] = gate[j] / (1.0f + exp_f32(-gate[j])) * up[j];
    }
    return PAR_OK;
}

static par_status swiglu_backward(par_stream *stream, const void *args, void *workspace) {
    const par_swiglu *a = args;
    if (a->dtype != PAR_F32) return par__ref_swiglu_backward(stream, args, workspace);
    int64_t n = a->n;
#pragma omp parallel for schedule(static) if (a->m * n > CPU_PARALLEL)
    for (int64_t i = 0; i < a->m; i++) {
        const float *gate = (const float *)a->x + i * 2 * n, *up = gate + n,
                    *dy = (const float *)a->dy + i * n;
        float *dgate = (float *)a->dx + i * 2 * n, *dup = dgate + n;
#pragma omp simd
        for (int64_t j = 0; j < n; j++) {
            float s, rest;
            logistic_f32(gate[j], &s, &rest);
            dgate[j] = dy[j] * up[j] * s * (1.0f + gate[j] * rest);
            dup[j] = dy[j] * gate[j] * s;
        }
    }
    return PAR_OK;
}

void par__cpu_activation(par_backend *backend) {
    par_kernel *k = backend->kernels;
    k[PAR_OP_GELU] = (par_kernel){CPU_NAME("gelu"), par__ref_no_workspace, gelu};
    k[PAR_OP_GELU_BACKWARD] = (par_kernel){CPU_NAME("gelu_backward"), par__ref_no_workspace, gelu_backward};
    k[PAR_OP_SWIGLU] = (par_kernel){CPU_NAME("swiglu"), par__ref_no_workspace, swiglu};
    k[PAR_OP_SWIGLU_BACKWARD] =
        (par_kernel){CPU_NAME("swiglu_backward"), par__ref_no_workspace, swiglu_backward};
}
