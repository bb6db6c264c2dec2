/*
 * Attention of one query a sequence over a cache of keys and values: par_attention_decode in
 * par/kernels.h. It reads the cache once and computes little, so it is bound by memory: a task is
 * one (b, KV head), and the query heads that share the KV head use each row while it is in the
 * cache. Scores are kept for all n tokens. Everything is added in the order of tokens, on one
 * thread per task.
 */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/elementary.h"

/* A task's part of the workspace, fp32: sums of the group's query heads, in pairs as they are
 * loaded, and scores [group, n]. */
typedef struct {
    const par_attention_decode *a;
    int64_t b, kv, group;
    float *o, *scores;
} task;

static int64_t whole_pairs(int64_t n) {
    return cpu_pieces(n, PAIR) * PAIR;
}

static int64_t slot_floats(const par_attention_decode *a) {
    int64_t group = a->K > 0 ? a->H / a->K : 0;
    return group * (whole_pairs(a->D) + a->capacity);
}

/* Where the cache has a token's row of this KV head. */
static int64_t row_at(const task *t, int64_t token) {
    const par_attention_decode *a = t->a;
    return ((t->b * a->capacity + token) * a->K + t->kv) * a->D;
}

CPU_INLINE void scores_of(par_dtype dtype, const task *t) {
    const par_attention_decode *a = t->a;
    int64_t q = t->b * a->ldq + t->kv * t->group * a->D;
    for (int64_t token = 0; token < a->n; token++)
        for (int64_t g = 0; g < t->group; g++)
            t->scores[g * a->n + token] =
                a->scale * pair_dot(dtype, a->q, q + g * a->D, a->k, row_at(t, token), a->D);
}

CPU_INLINE void exp_step(float *s, float max, vec *sum, int64_t i, int64_t count) {
    pair x = pair_load(s, PAR_F32, i, count);
    for (int k = 0; k < 2; k++) x.v[k] = vec_exp(x.v[k] - max);
    if (count < PAIR) x = pair_first(x, PAR_F32, count, 0);
    pair_store(s, PAR_F32, i, count, x);
    *sum = *sum + x.v[0] + x.v[1];
}

/* Scores to weights that add up to 1. A NaN stays one. */
static void softmax(float *s, int64_t n) {
    float max = -INFINITY;
    vec sum = {0};
#pragma omp simd reduction(max : max)
    for (int64_t i = 0; i < n; i++) max = s[i] > max ? s[i] : max;
    CPU_PAIRS(n, exp_step, s, max, &sum);
    float inverse = 1 / vec_sum(sum);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) s[i] *= inverse;
}

/* Columns [d, d + count) of each head's sum += weight · v. */
CPU_INLINE void value_step(par_dtype dtype, const task *t, int64_t token, int64_t d,
                           int64_t count) {
    const par_attention_decode *a = t->a;
    pair v = pair_load(a->v, dtype, row_at(t, token) + d, count);
    for (int64_t g = 0; g < t->group; g++) {
        vec *sum = (vec *)(t->o + g * whole_pairs(a->D) + d);
        float weight = t->scores[g * a->n + token];
        for (int k = 0; k < 2; k++) sum[k] += weight * v.v[k];
    }
}

CPU_INLINE void output_step(par_dtype dtype, const task *t, int64_t g, int64_t d, int64_t count) {
    const par_attention_decode *a = t->a;
    const vec *sum = (const vec *)(t->o + g * whole_pairs(a->D) + d);
    pair_store(a->o, dtype, t->b * a->ldo + (t->kv * t->group + g) * a->D + d, count,
               (pair){{sum[0], sum[1]}});
}

CPU_INLINE void values_of(par_dtype dtype, const task *t) {
    const par_attention_decode *a = t->a;
    memset(t->o, 0, (size_t)(t->group * whole_pairs(a->D)) * sizeof(float));
    for (int64_t token = 0; token < a->n; token++) CPU_PAIRS(a->D, value_step, dtype, t, token);
    for (int64_t g = 0; g < t->group; g++) CPU_PAIRS(a->D, output_step, dtype, t, g);
}

static par_status prepare(const void *args, size_t *workspace_nbytes) {
    const par_attention_decode *a = args;
    *workspace_nbytes = (size_t)(cpu_slots(a->B * a->K) * slot_floats(a)) * sizeof(float);
    return PAR_OK;
}

static void run_tasks(const void *user, int slot, int64_t begin, int64_t end) {
    const cpu_call *call = user;
    const par_attention_decode *a = call->args;
    float *own = (float *)call->workspace + slot * slot_floats(a);
    int64_t group = a->H / a->K;
    for (int64_t n = begin; n < end; n++) {
        const task t = {.a = a,
                        .b = n / a->K,
                        .kv = n % a->K,
                        .group = group,
                        .o = own,
                        .scores = own + group * whole_pairs(a->D)};
        if (a->D > 0) {
            CPU_BY_TYPE(a->dtype, scores_of, &t);
            for (int64_t g = 0; g < group; g++) softmax(t.scores + g * a->n, a->n);
            CPU_BY_TYPE(a->dtype, values_of, &t);
        }
        cpu_progress(call->stream, slot);
    }
}

static par_status attention_decode(par_stream *stream, const void *args, void *workspace) {
    const par_attention_decode *a = args;
    const cpu_call call = {a, workspace, stream};
    int64_t tasks = a->H > 0 ? a->B * a->K : 0;
    PAR_REQUIRE(workspace || tasks * a->D == 0);
    cpu_loop_slots(tasks, tasks * a->n * a->D, run_tasks, &call);
    return PAR_OK;
}

void par__cpu_attention_decode(par_backend *backend) {
    backend->kernels[PAR_OP_ATTENTION_DECODE] =
        (par_kernel){CPU_NAME("attention_decode"), prepare, attention_decode};
}
