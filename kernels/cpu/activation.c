/*
 * GELU and SwiGLU: par_gelu and par_swiglu in par/kernels.h. The tanh form is evaluated as x ·
 * s(2u), s the logistic function, because (1 + tanh u) / 2 = s(2u): no cancellation in the left
 * tail.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/elementary.h"

enum { BLOCK = 4096 }; /* elements that a thread takes at once */

#define TWICE_SQRT_2_OVER_PI 1.59576912f

/* 2u and its derivative */
CPU_INLINE vec tanh_argument(vec x) {
    return x * (TWICE_SQRT_2_OVER_PI + TWICE_SQRT_2_OVER_PI * 0.044715f * x * x);
}

CPU_INLINE vec tanh_derivative(vec x) {
    return TWICE_SQRT_2_OVER_PI + 3 * TWICE_SQRT_2_OVER_PI * 0.044715f * x * x;
}

/* x / (1 + exp(-y)); 0 with the sign of x where the power is infinite */
CPU_INLINE vec times_logistic(par_dtype t, vec x, vec y) {
    return x / (1.0f + vec_exp_normal(t, vec_min((vec){0} + 89.0f, -y)));
}

CPU_INLINE vec gelu_of(par_dtype t, vec x, bool erf) {
    vec distribution, density;
    if (!erf) return times_logistic(t, x, tanh_argument(x));
    vec_normal(t, x, &distribution, &density);
    return x * distribution;
}

CPU_INLINE vec gelu_derivative(par_dtype t, vec x, bool erf) {
    vec s, rest, distribution, density;
    if (erf) {
        vec_normal(t, x, &distribution, &density);
        return distribution + x * density;
    }
    vec_logistic(t, tanh_argument(x), &s, &rest);
    return s + x * s * rest * tanh_derivative(x);
}

CPU_INLINE void gelu_step(par_dtype t, const par_gelu *a, bool erf, int64_t at, int64_t i,
                          int64_t count) {
    pair x = pair_load(a->x, t, at + i, count);
    for (int k = 0; k < 2; k++) x.v[k] = gelu_of(t, x.v[k], erf);
    pair_store(a->y, t, at + i, count, x);
}

CPU_INLINE void gelu_backward_step(par_dtype t, const par_gelu *a, bool erf, int64_t at, int64_t i,
                                   int64_t count) {
    pair x = pair_load(a->x, t, at + i, count), dy = pair_load(a->dy, t, at + i, count);
    for (int k = 0; k < 2; k++) x.v[k] = dy.v[k] * gelu_derivative(t, x.v[k], erf);
    pair_store(a->dx, t, at + i, count, x);
}

CPU_INLINE void gelu_block(par_dtype t, const par_gelu *args, int64_t at, int64_t n) {
    const par_gelu own = *args, *a = &own; /* no store changes it */
    if (a->erf)
        CPU_PAIRS(n, gelu_step, t, a, true, at);
    else
        CPU_PAIRS(n, gelu_step, t, a, false, at);
}

CPU_INLINE void gelu_backward_block(par_dtype t, const par_gelu *args, int64_t at, int64_t n) {
    const par_gelu own = *args, *a = &own; /* no store changes it */
    if (a->erf)
        CPU_PAIRS(n, gelu_backward_step, t, a, true, at);
    else
        CPU_PAIRS(n, gelu_backward_step, t, a, false, at);
}

static void gelu_blocks(const void *user, int slot, int64_t begin, int64_t end) {
    const par_gelu *a = user;
    for (int64_t at = begin * BLOCK; at < cpu_min(end * BLOCK, a->n); at += BLOCK)
        CPU_BY_TYPE(a->dtype, gelu_block, a, at, cpu_min(BLOCK, a->n - at));
}

static par_status gelu(par_stream *stream, const void *args, void *workspace) {
    const par_gelu *a = args;
    cpu_loop(cpu_pieces(a->n, BLOCK), a->n, gelu_blocks, a);
    return PAR_OK;
}

static void gelu_backward_blocks(const void *user, int slot, int64_t begin, int64_t end) {
    const par_gelu *a = user;
    for (int64_t at = begin * BLOCK; at < cpu_min(end * BLOCK, a->n); at += BLOCK)
        CPU_BY_TYPE(a->dtype, gelu_backward_block, a, at, cpu_min(BLOCK, a->n - at));
}

static par_status gelu_backward(par_stream *stream, const void *args, void *workspace) {
    const par_gelu *a = args;
    cpu_loop(cpu_pieces(a->n, BLOCK), a->n, gelu_backward_blocks, a);
    return PAR_OK;
}

/* Row i of y begins at i · n, of x's gate half at twice that, of its upper half n further. */
CPU_INLINE void swiglu_step(par_dtype t, const par_swiglu *a, int64_t i, int64_t j, int64_t count) {
    int64_t at = i * a->n + j, at_gate = at + i * a->n;
    pair gate = pair_load(a->x, t, at_gate, count), up = pair_load(a->x, t, at_gate + a->n, count);
    for (int k = 0; k < 2; k++) up.v[k] *= times_logistic(t, gate.v[k], gate.v[k]);
    pair_store(a->y, t, at, count, up);
}

CPU_INLINE void swiglu_backward_step(par_dtype t, const par_swiglu *a, int64_t i, int64_t j,
                                     int64_t count) {
    int64_t at = i * a->n + j, at_gate = at + i * a->n;
    pair gate = pair_load(a->x, t, at_gate, count), up = pair_load(a->x, t, at_gate + a->n, count);
    pair dy = pair_load(a->dy, t, at, count);
    for (int k = 0; k < 2; k++) {
        vec s, rest, x = gate.v[k];
        vec_logistic(t, x, &s, &rest);
        gate.v[k] = dy.v[k] * up.v[k] * s * (1.0f + x * rest);
        up.v[k] = dy.v[k] * x * s;
    }
    pair_store(a->dx, t, at_gate, count, gate);
    pair_store(a->dx, t, at_gate + a->n, count, up);
}

CPU_INLINE void swiglu_row(par_dtype t, const par_swiglu *a, int64_t i) {
    CPU_PAIRS(a->n, swiglu_step, t, a, i);
}

CPU_INLINE void swiglu_backward_row(par_dtype t, const par_swiglu *a, int64_t i) {
    CPU_PAIRS(a->n, swiglu_backward_step, t, a, i);
}

static void swiglu_rows(const void *user, int slot, int64_t begin, int64_t end) {
    const par_swiglu *a = user;
    for (int64_t i = begin; i < end; i++) CPU_BY_TYPE(a->dtype, swiglu_row, a, i);
}

static par_status swiglu(par_stream *stream, const void *args, void *workspace) {
    const par_swiglu *a = args;
    cpu_loop(a->m, a->m * a->n, swiglu_rows, a);
    return PAR_OK;
}

static void swiglu_backward_rows(const void *user, int slot, int64_t begin, int64_t end) {
    const par_swiglu *a = user;
    for (int64_t i = begin; i < end; i++) CPU_BY_TYPE(a->dtype, swiglu_backward_row, a, i);
}

static par_status swiglu_backward(par_stream *stream, const void *args, void *workspace) {
    const par_swiglu *a = args;
    cpu_loop(a->m, a->m * a->n, swiglu_backward_rows, a);
    return PAR_OK;
}

void par__cpu_activation(par_backend *backend) {
    par_kernel *k = backend->kernels;
    k[PAR_OP_GELU] = (par_kernel){CPU_NAME("gelu"), par__ref_no_workspace, gelu};
    k[PAR_OP_GELU_BACKWARD] =
        (par_kernel){CPU_NAME("gelu_backward"), par__ref_no_workspace, gelu_backward};
    k[PAR_OP_SWIGLU] = (par_kernel){CPU_NAME("swiglu"), par__ref_no_workspace, swiglu};
    k[PAR_OP_SWIGLU_BACKWARD] =
        (par_kernel){CPU_NAME("swiglu_backward"), par__ref_no_workspace, swiglu_backward};
}
