/*
 * Softmax cross-entropy over a split vocabulary: par_xent in par/kernels.h. The statistics read a
 * row once, by blocks, with a running maximum (Milakov and Gimelshein 2018, "Online normalizer
 * calculation for softmax"). The middle step, log and sums over [p, m, 3], stays the reference's:
 * it is small and runs in double.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/elementary.h"

/* A row's sum: fp32 within a piece, double over pieces, as a vocabulary has 10^5 terms. A block, of
 * some pieces, stays in the first-level cache, and is asked for while the one before is summed. */
enum { PIECE = 13 * PAIR, BLOCK = 832 };

/* A NaN is passed over here; the sum finds it. */
CPU_INLINE void max_step(par_dtype t, const void *x, int64_t at, pair *max, int64_t j,
                         int64_t count) {
    pair p = pair_load(x, t, at + j, count);
    if (count < PAIR) p = pair_first(p, t, count, -INFINITY);
    for (int k = 0; k < 2; k++) max->v[k] = vec_max(p.v[k], max->v[k]);
}

CPU_INLINE float maximum(par_dtype t, const void *x, int64_t at, int64_t n) {
    pair max = {{(vec){0} - INFINITY, (vec){0} - INFINITY}};
    CPU_PAIRS(n, max_step, t, x, at, &max);
    return vec_largest(vec_max(max.v[0], max.v[1]));
}

CPU_INLINE void exp_step(par_dtype t, const void *x, int64_t at, float max, vec *sum, int64_t j,
                         int64_t count) {
    pair p = pair_load(x, t, at + j, count);
    fetch_ahead((const char *)x + (size_t)(at + j) * vec_element(t), PAIR * vec_element(t));
    for (int k = 0; k < 2; k++) p.v[k] = vec_exp_normal(PAR_F32, p.v[k] - max);
    if (count < PAIR) p = pair_first(p, t, count, 0);
    *sum = *sum + p.v[0] + p.v[1];
}

CPU_INLINE float sum_exp(par_dtype t, const void *x, int64_t at, int64_t n, float max) {
    vec sum = {0};
    CPU_PAIRS(n, exp_step, t, x, at, max, &sum);
    return vec_sum(sum);
}

static float logit(const par_xent *a, int64_t i, int64_t column) {
    float x;
    par__cpu_widen(a->logits, a->dtype, i * a->ldx + column, 1, &x);
    return x;
}

CPU_INLINE void stats_row(par_dtype t, const par_xent *a, int64_t i, float *out) {
    int64_t target = a->targets[i] < 0 ? -1 : a->targets[i] - a->begin;
    float max = -INFINITY;
    double sum = 0;
    for (int64_t begin = 0; begin < a->valid; begin += BLOCK) {
        int64_t end = cpu_min(begin + BLOCK, a->valid);
        float most = maximum(t, a->logits, i * a->ldx + begin, end - begin);
        if (most > max) {
            sum *= exp((double)max - (double)most);
            max = most;
        }
        /* before the first finite logit -inf - max is no NaN, and the first one scales by 0 */
        float finite = max > -FLT_MAX ? max : -FLT_MAX;
        for (int64_t j = begin; j < end; j += PIECE)
            sum += sum_exp(t, a->logits, i * a->ldx + j, cpu_min(PIECE, end - j), finite);
    }
    out[0] = max;
    out[1] = (float)sum;
    out[2] = 0 <= target && target < a->valid ? logit(a, i, target) : 0;
}

static void stats_rows(const void *user, int slot, int64_t begin, int64_t end) {
    const cpu_call *call = user;
    const par_xent *a = call->args;
    for (int64_t i = begin; i < end; i++) {
        CPU_BY_TYPE(a->dtype, stats_row, a, i, a->stats + 3 * i);
        cpu_progress(call->stream, slot);
    }
}

static par_status stats(par_stream *stream, const void *args, void *workspace) {
    const par_xent *a = args;
    const cpu_call call = {.args = a, .stream = stream};
    cpu_loop(a->m, a->m * a->valid, stats_rows, &call);
    return PAR_OK;
}

CPU_INLINE void softmax_step(par_dtype t, void *logits, int64_t at, float lse, float seed,
                             int64_t j, int64_t count) {
    pair p = pair_load(logits, t, at + j, count);
    for (int k = 0; k < 2; k++) p.v[k] = vec_exp_or_zero(t, p.v[k] - lse) * seed;
    pair_store(logits, t, at + j, count, p);
}

CPU_INLINE void backward_row(par_dtype t, const par_xent *a, int64_t i) {
    float lse = a->lse[i], seed = *a->seed;
    int64_t target = a->targets[i] - a->begin, valid = a->targets[i] < 0 ? 0 : a->valid,
            row = i * a->ldx;
    bool here = 0 <= target && target < valid;
    /* the target's own term: exp(x - lse) - 1 is rounded before it is scaled */
    float at_target = here ? (exp_f32(logit(a, i, target) - lse) - 1) * seed : 0;
    CPU_PAIRS(valid, softmax_step, t, a->logits, row, lse, seed);
    size_t size = par_dtype_nbytes(a->dtype);
    memset((char *)a->logits + (size_t)(row + valid) * size, 0, (size_t)(a->n - valid) * size);
    if (here) par__cpu_narrow(&at_target, a->logits, a->dtype, row + target, 1);
}

static void backward_rows(const void *user, int slot, int64_t begin, int64_t end) {
    const cpu_call *call = user;
    const par_xent *a = call->args;
    for (int64_t i = begin; i < end; i++) {
        CPU_BY_TYPE(a->dtype, backward_row, a, i);
        cpu_progress(call->stream, slot);
    }
}

static par_status backward(par_stream *stream, const void *args, void *workspace) {
    const par_xent *a = args;
    const cpu_call call = {.args = a, .stream = stream};
    cpu_loop(a->m, a->m * a->n, backward_rows, &call);
    return PAR_OK;
}

void par__cpu_xent(par_backend *backend) {
    par_kernel *k = backend->kernels;
    k[PAR_OP_XENT_STATS] = (par_kernel){CPU_NAME("xent_stats"), par__ref_no_workspace, stats};
    k[PAR_OP_XENT_BACKWARD] =
        (par_kernel){CPU_NAME("xent_backward"), par__ref_no_workspace, backward};
}
