/*
 * GELU and SwiGLU: par_gelu and par_swiglu in par/kernels.h. The tanh form is evaluated as x · s(2u), s the
 * logistic function, because (1 + tanh u) / 2 = s(2u): no cancellation in the left tail.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/elementary.h"

#define TWICE_SQRT_2_OVER_PI 1.59576912f

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
#pragma omp parallel for schedule(static) if (a->n > CPU_PARALLEL)
    for (int64_t at = 0; at < a->n; at += CPU_BLOCK) {
        int64_t n = cpu_min(CPU_BLOCK, a->n - at);
        cpu_buffer x, out;
        float *y = cpu_place(a->y, a->dtype, at, out);
        (a->erf ? erf_forward : tanh_forward)(cpu_read(a->x, a->dtype, at, n, x), y, n);
        cpu_write(y, a->y, a->dtype, at, n);
    }
    return PAR_OK;
}

static par_status gelu_backward(par_stream *stream, const void *args, void *workspace) {
    const par_gelu *a = args;
#pragma omp parallel for schedule(static) if (a->n > CPU_PARALLEL)
    for (int64_t at = 0; at < a->n; at += CPU_BLOCK) {
        int64_t n = cpu_min(CPU_BLOCK, a->n - at);
        cpu_buffer x, dy, out;
        float *dx = cpu_place(a->dx, a->dtype, at, out);
        (a->erf ? erf_backward : tanh_backward)(cpu_read(a->x, a->dtype, at, n, x),
                                                cpu_read(a->dy, a->dtype, at, n, dy), dx, n);
        cpu_write(dx, a->dx, a->dtype, at, n);
    }
    return PAR_OK;
}

static void silu_forward(const float *gate, const float *up, float *y, int64_t n) {
#pragma omp simd
    for (int64_t j = 0; j < n; j++) y[j] = gate[j] / (1.0f + exp_f32(-gate[j])) * up[j];
}

static void silu_backward(const float *gate, const float *up, const float *dy, float *dgate, float *dup,
                          int64_t n) {
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
        float s, rest;
        logistic_f32(gate[j], &s, &rest);
        dgate[j] = dy[j] * up[j] * s * (1.0f + gate[j] * rest);
        dup[j] = dy[j] * gate[j] * s;
    }
}

static par_status swiglu(par_stream *stream, const void *args, void *workspace) {
    const par_swiglu *a = args;
    int64_t n = a->n;
#pragma omp parallel for schedule(static) if (a->m * n > CPU_PARALLEL)
    for (int64_t i = 0; i < a->m; i++)
        for (int64_t j = 0; j < n; j += CPU_BLOCK) {
            int64_t width = cpu_min(CPU_BLOCK, n - j), at = 2 * i * n + j;
            cpu_buffer gate, up, out;
            float *y = cpu_place(a->y, a->dtype, i * n + j, out);
            silu_forward(cpu_read(a->x, a->dtype, at, width, gate),
                         cpu_read(a->x, a->dtype, at + n, width, up), y, width);
            cpu_write(y, a->y, a->dtype, i * n + j, width);
        }
    return PAR_OK;
}

static par_status swiglu_backward(par_stream *stream, const void *args, void *workspace) {
    const par_swiglu *a = args;
    int64_t n = a->n;
#pragma omp parallel for schedule(static) if (a->m * n > CPU_PARALLEL)
    for (int64_t i = 0; i < a->m; i++)
        for (int64_t j = 0; j < n; j += CPU_BLOCK) {
            int64_t width = cpu_min(CPU_BLOCK, n - j), at = 2 * i * n + j;
            cpu_buffer gate, up, dy, out_gate, out_up;
            float *dgate = cpu_place(a->dx, a->dtype, at, out_gate);
            float *dup = cpu_place(a->dx, a->dtype, at + n, out_up);
            silu_backward(cpu_read(a->x, a->dtype, at, width, gate),
                          cpu_read(a->x, a->dtype, at + n, width, up),
                          cpu_read(a->dy, a->dtype, i * n + j, width, dy), dgate, dup, width);
            cpu_write(dgate, a->dx, a->dtype, at, width);
            cpu_write(dup, a->dx, a->dtype, at + n, width);
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
