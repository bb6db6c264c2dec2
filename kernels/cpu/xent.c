/*
 * Softmax cross-entropy over a split vocabulary: par_xent in par/kernels.h. The middle step, log and sums
 * over [p, m, 3], stays the reference's: it is small and runs in double.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/elementary.h"

/* A row's sum: fp32 within a piece, double over pieces, as a vocabulary has 10^5 terms. */
enum { PIECE = CPU_BLOCK };

/* Not inlined: gcc then gives up the vectors of these loops. */
static __attribute__((noinline)) float maximum(const float *x, int64_t n) {
    float max = -INFINITY;
#pragma omp simd reduction(max : max)
    for (int64_t j = 0; j < n; j++) max = x[j] > max ? x[j] : max;
    return max;
}

static __attribute__((noinline)) float sum_exp(const float *x, int64_t n, float max) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++) sum += exp_f32(x[j] - max);
    return sum;
}

/* Piece of row i from column j. */
static const float *piece(const par_xent *a, int64_t i, int64_t j, float *buffer) {
    return cpu_read(a->logits, a->dtype, i * a->ldx + j, cpu_min(PIECE, a->valid - j), buffer);
}

static float logit(const par_xent *a, int64_t i, int64_t column) {
    float buffer;
    return *cpu_read(a->logits, a->dtype, i * a->ldx + column, 1, &buffer);
}

static void stats_row(const par_xent *a, int64_t i, float *out) {
    int64_t target = a->targets[i] < 0 ? -1 : a->targets[i] - a->begin;
    cpu_buffer buffer;
    float max = -INFINITY;
    double sum = 0;
    for (int64_t j = 0; j < a->valid; j += PIECE) {
        float most = maximum(piece(a, i, j, buffer), cpu_min(PIECE, a->valid - j));
        max = most > max ? most : max;
    }
    for (int64_t j = 0; j < a->valid; j += PIECE)
        sum += sum_exp(piece(a, i, j, buffer), cpu_min(PIECE, a->valid - j), max);
    out[0] = max;
    out[1] = (float)sum;
    out[2] = 0 <= target && target < a->valid ? logit(a, i, target) : 0;
}

static par_status stats(par_stream *stream, const void *args, void *workspace) {
    const par_xent *a = args;
#pragma omp parallel for schedule(static) if (a->m * a->valid > CPU_PARALLEL)
    for (int64_t i = 0; i < a->m; i++) {
        stats_row(a, i, a->stats + 3 * i);
        cpu_progress(stream);
    }
    return PAR_OK;
}

static void softmax(const float *x, float lse, float seed, float *y, int64_t n) {
#pragma omp simd
    for (int64_t j = 0; j < n; j++) y[j] = exp_f32(x[j] - lse) * seed;
}

static void backward_row(const par_xent *a, int64_t i) {
    float lse = a->lse[i], seed = *a->seed;
    cpu_buffer buffer, out;
    int64_t target = a->targets[i] - a->begin, valid = a->targets[i] < 0 ? 0 : a->valid, row = i * a->ldx;
    bool here = 0 <= target && target < valid;
    /* the target's own term: exp(x - lse) - 1 is rounded before it is scaled */
    float at_target = here ? (exp_f32(logit(a, i, target) - lse) - 1) * seed : 0;
    for (int64_t j = 0; j < valid; j += PIECE) {
        int64_t n = cpu_min(PIECE, valid - j);
        float *y = cpu_place(a->logits, a->dtype, row + j, out);
        softmax(piece(a, i, j, buffer), lse, seed, y, n);
        cpu_write(y, a->logits, a->dtype, row + j, n);
    }
    size_t size = par_dtype_nbytes(a->dtype);
    memset((char *)a->logits + (size_t)(row + valid) * size, 0, (size_t)(a->n - valid) * size);
    if (here) par__cpu_narrow(&at_target, a->logits, a->dtype, row + target, 1);
}

static par_status backward(par_stream *stream, const void *args, void *workspace) {
    const par_xent *a = args;
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
