/*
 * The optimizer's work over flat ranges: par_update, par_norm2 and par_cast in par/kernels.h. Everything here
 * is bound by memory. norm2 sums squares in double, in pieces of PIECE elements whose partials are added in
 * order.
 */
#include <math.h>

#include "kernels/cpu/cpu.h"

enum { PIECE = 16384, PIECES = 256 };

typedef struct {
    float b1, rest1, b2, rest2, decay, step, inverse_sqrt, eps, grad_scale;
} adamw_constants;

static adamw_constants adamw_prepare(const par_update *a) {
    const par_step *step = a->step;
    return (adamw_constants){.b1 = (float)a->b1,
                             .rest1 = (float)(1 - a->b1),
                             .b2 = (float)a->b2,
                             .rest2 = (float)(1 - a->b2),
                             .decay = (float)((double)step->lr * a->decay),
                             .step = (float)(step->lr / step->correction1),
                             .inverse_sqrt = (float)(1 / sqrt(step->correction2)),
                             .eps = a->eps,
                             .grad_scale = step->grad_scale};
}

static void adamw_piece(const par_update *a, adamw_constants c, int64_t begin, int64_t end) {
    float *restrict w = a->master, *restrict m = a->m, *restrict v = a->v;
    const float *restrict grad = a->grad;
#pragma omp simd
    for (int64_t i = begin; i < end; i++) {
        float g = grad[i] * c.grad_scale;
        m[i] = c.b1 * m[i] + c.rest1 * g;
        v[i] = c.b2 * v[i] + c.rest2 * g * g;
        float decayed = w[i] - c.decay * w[i];
        w[i] = decayed - c.step * m[i] / (sqrtf(v[i]) * c.inverse_sqrt + c.eps);
    }
}

static void sgd_piece(const par_update *a, int64_t begin, int64_t end) {
    float *restrict w = a->master, *restrict m = a->m;
    const float *restrict grad = a->grad;
    float momentum = (float)a->b1, lr = a->step->lr, scale = a->step->grad_scale, decay = a->decay;
    if (a->step->t == 1) {
#pragma omp simd
        for (int64_t i = begin; i < end; i++) m[i] = grad[i] * scale + decay * w[i];
    } else {
#pragma omp simd
        for (int64_t i = begin; i < end; i++) m[i] = momentum * m[i] + (grad[i] * scale + decay * w[i]);
    }
#pragma omp simd
    for (int64_t i = begin; i < end; i++) w[i] -= lr * m[i];
}

/* Called for each block, while it is in the first-level cache. */
static void copy_weights(const par_update *a, int64_t at, int64_t n) {
    if (a->weights) par__cpu_narrow(a->master + at, a->weights, a->dtype, at, n);
}

static par_status adamw(par_stream *stream, const void *args, void *workspace) {
    const par_update *a = args;
    if (a->step->skip) return PAR_OK;
    adamw_constants c = adamw_prepare(a);
#pragma omp parallel for schedule(static) if (a->n > CPU_PARALLEL)
    for (int64_t begin = 0; begin < a->n; begin += PIECE) {
        int64_t end = cpu_min(a->n, begin + PIECE);
        for (int64_t i = begin; i < end; i += CPU_BLOCK) {
            int64_t n = cpu_min(CPU_BLOCK, end - i);
            adamw_piece(a, c, i, i + n);
            copy_weights(a, i, n);
        }
        cpu_progress(stream);
    }
    return PAR_OK;
}

static par_status sgd(par_stream *stream, const void *args, void *workspace) {
    const par_update *a = args;
    if (a->step->skip) return PAR_OK;
#pragma omp parallel for schedule(static) if (a->n > CPU_PARALLEL)
    for (int64_t begin = 0; begin < a->n; begin += PIECE) {
        int64_t end = cpu_min(a->n, begin + PIECE);
        for (int64_t i = begin; i < end; i += CPU_BLOCK) {
            int64_t n = cpu_min(CPU_BLOCK, end - i);
            sgd_piece(a, i, i + n);
            copy_weights(a, i, n);
        }
        cpu_progress(stream);
    }
    return PAR_OK;
}

/* A float is finite if its exponent is not all ones. */
static double squares(const float *x, int64_t n, double *not_finite) {
    double sum = 0;
    uint32_t bad = 0;
#pragma omp simd reduction(+ : sum, bad)
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = par__f32_bits(x[i]), wrong = (bits & 0x7f800000u) == 0x7f800000u;
        double value = par__bits_f32(bits & (wrong - 1)); /* all bits of a finite x, none of another */
        sum += value * value;
        bad += wrong;
    }
    *not_finite = bad;
    return sum;
}

static par_status norm2(par_stream *stream, const void *args, void *workspace) {
    const par_norm2 *a = args;
    (void)workspace;
    for (int64_t group = 0; group < a->n; group += (int64_t)PIECE * PIECES) {
        double partial[PIECES], bad[PIECES];
        int64_t left = a->n - group, pieces = cpu_min(PIECES, cpu_pieces(left, PIECE));
#pragma omp parallel for schedule(static) if (left > CPU_PARALLEL)
        for (int64_t piece = 0; piece < pieces; piece++)
            partial[piece] =
                squares(a->x + group + piece * PIECE, cpu_min(PIECE, left - piece * PIECE), &bad[piece]);
        for (int64_t piece = 0; piece < pieces; piece++) {
            a->out[0] += partial[piece];
            a->out[1] += bad[piece];
        }
        par__progress(stream);
    }
    return PAR_OK;
}

static void scale(const float *x, float factor, float *y, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * factor;
}

static par_status cast(par_stream *stream, const void *args, void *workspace) {
    const par_cast *a = args;
#pragma omp parallel for schedule(static) if (a->n > CPU_PARALLEL)
    for (int64_t at = 0; at < a->n; at += CPU_BLOCK) {
        int64_t n = cpu_min(CPU_BLOCK, a->n - at);
        cpu_buffer in, out;
        float *y = cpu_place(a->y, a->dtype_y, at, out);
        scale(cpu_read(a->x, a->dtype_x, at, n, in), a->scale, y, n);
        cpu_write(y, a->y, a->dtype_y, at, n);
    }
    return PAR_OK;
}

void par__cpu_update(par_backend *backend) {
    par_kernel *k = backend->kernels;
    k[PAR_OP_ADAMW] = (par_kernel){CPU_NAME("adamw"), par__ref_no_workspace, adamw};
    k[PAR_OP_SGD] = (par_kernel){CPU_NAME("sgd"), par__ref_no_workspace, sgd};
    k[PAR_OP_NORM2] = (par_kernel){CPU_NAME("norm2"), par__ref_no_workspace, norm2};
    k[PAR_OP_CAST] = (par_kernel){CPU_NAME("cast"), par__ref_no_workspace, cast};
}
