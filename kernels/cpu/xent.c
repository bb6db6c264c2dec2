/*
 * Softmax cross-entropy over a split vocabulary: par_xent in par/kernels.h. The middle step, log and sums
 * over [p, m, 3], stays the reference's: it is small and runs in double.
 */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/elementary.h"

/* A row's sum: fp32 within a piece, double over pieces, as a vocabulary has 10^5 terms. */
enum { PIECE = 1024 };

static float maximum(const float *x, int64_t n) {
    float max = -INFINITY;
#pragma omp simd reduction(max : max)
    for (int64_t j = 0; j < n; j++) max = x[j] > max ? x[j] : max;
    return max;
}

static float sum_exp(const float *x, int64_t n, float max) {
    double total = 0;
    for (int64_t at = 0; at < n; at += PIECE) {
        int64_t end = cpu_min(n, at + PIECE);
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = at; j < end; j++) sum += exp_f32(x[j] - max);
        total += sum;
    }
    return (float)total;
}

static par_status stats(par_stream *stream, const void *args, void *workspace) {
    const par_xent *a = args;
    if (a->dtype != PAR_F32) return par__ref_xent_stats(stream, args, workspace);
#pragma omp parallel for schedule(static) if (a->m * a->valid > CPU_PARALLEL)
    for (int64_t i = 0; i < a->m; i++) {
        const float *x = (const float *)a->logits + i * a->ldx;
        float max = maximum(x, a->valid), *out = a->stats + 3 * i;
        int64_t target = a->targets[i] < 0 ? -1 : a->targets[i] - a->begin;
        out[0] = max;
        out[1] = sum_exp(x, a->valid, max);
        out[2] = 0 <= target && target < a->valid ? x[target] : 0;
        cpu_progress(stream);
    }
    return PAR_OK;
}

static void backward_row(const par_xent *a, int64_t i) {
    float *x = (float *)a->logits + i * a->ldx, lse = a->lse[i], seed = a->seed;
    int64_t target = a->targets[i] - a->begin, valid = a->targets[i] < 0 ? 0 : a->valid;
    /* the target's own term: exp(x - lse) - 1 is rounded before it is scaled */
    float at_target = 0;
    if (0 <= target && target < valid) at_target = (exp_f32(x[target] - lse) - 1) * seed;
#pragma omp simd
    for (int64_t j = 0; j < valid; j++) x[j] = exp_f32(x[j] - lse) * seed;
    for (int64_t j = valid; j < a->n; j++) x[j] = 0;
    if (0 <= target && target < valid) x[target] = at_target;
}

static par_status backward(par_stream *stream, const void *args, void *workspace) {
    const par_xent *a = args;
    if (a->dtype != PAR_F32) return par__ref_xent_backward(stream, args, workspace);
#pragma omp parallel for schedule(static) if (a->m * a->n > CPU_PARALLEL)
    for (int64_t i = 0; i < a->m; i++) {
        backward_row(a, i);
        cpu_progress(stream);
    }
    return PAR_OK;
}

void par__cpu_xent(par_backend *backend) {
    par_kernel *k = backend->kernels;
    k[PAR_OP_XENT_STATS] = (par_kernel){CPU_NAME("xent_stats"), par__ref_no_workspace, stats};
    k[PAR_OP_XENT_BACKWARD] = (par_kernel){CPU_NAME("xent_backward"), par__ref_no_workspace, backward};
}
