/*
 * Attention of one query a sequence over a cache of keys and values: par_attention_decode in par/kernels.h.
 * It reads the cache once and computes little, so it is bound by memory: a task is one (b, KV head), and the
 * query heads that share the KV head use each row while it is in the cache. Scores are kept for all n tokens;
 * 16-bit rows are widened one at a time. Everything is added in the order of tokens, on one thread a task.
 */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/elementary.h"

/* A task's part of the workspace, fp32: query heads of the group, their sums, one row, and scores [group, n].
 */
typedef struct {
    const par_attention_decode *a;
    int64_t b, kv, group;
    float *q, *o, *row, *scores;
} task;

static int64_t slot_floats(const par_attention_decode *a) {
    int64_t group = a->K > 0 ? a->H / a->K : 0;
    return 2 * group * a->D + a->D + group * a->capacity;
}

static const float *row_of(const task *t, const void *cache, int64_t token) {
    const par_attention_decode *a = t->a;
    int64_t at = ((t->b * a->capacity + token) * a->K + t->kv) * a->D;
    return cpu_read(cache, a->dtype, at, a->D, t->row);
}

static float dot(const float *x, const float *y, int64_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t d = 0; d < n; d++) sum += x[d] * y[d];
    return sum;
}

static void scores_of(const task *t) {
    const par_attention_decode *a = t->a;
    for (int64_t token = 0; token < a->n; token++) {
        const float *k = row_of(t, a->k, token);
        for (int64_t g = 0; g < t->group; g++)
            t->scores[g * a->n + token] = a->scale * dot(t->q + g * a->D, k, a->D);
    }
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

static void add_scaled(float *o, const float *v, float weight, int64_t n) {
#pragma omp simd
    for (int64_t d = 0; d < n; d++) o[d] += weight * v[d];
}

static void values_of(const task *t) {
    const par_attention_decode *a = t->a;
    for (int64_t i = 0; i < t->group * a->D; i++) t->o[i] = 0;
    for (int64_t token = 0; token < a->n; token++) {
        const float *v = row_of(t, a->v, token);
        for (int64_t g = 0; g < t->group; g++)
            add_scaled(t->o + g * a->D, v, t->scores[g * a->n + token], a->D);
    }
}

static void run_task(const par_attention_decode *a, int64_t number, float *own) {
    int64_t group = a->H / a->K, width = group * a->D;
    task t = {.a = a,
              .b = number / a->K,
              .kv = number % a->K,
              .group = group,
              .q = own,
              .o = own + width,
              .row = own + 2 * width,
              .scores = own + 2 * width + a->D};
    par__cpu_widen(a->q, a->dtype, t.b * a->ldq + t.kv * width, width, t.q);
    scores_of(&t);
    for (int64_t g = 0; g < group; g++) softmax(t.scores + g * a->n, a->n);
    values_of(&t);
    par__cpu_narrow(t.o, a->o, a->dtype, t.b * a->ldo + t.kv * width, width);
}

static par_status prepare(const void *args, size_t *workspace_nbytes) {
    const par_attention_decode *a = args;
    *workspace_nbytes = (size_t)(cpu_slots(a->B * a->K) * slot_floats(a)) * sizeof(float);
    return PAR_OK;
}

static par_status attention_decode(par_stream *stream, const void *args, void *workspace) {
    const par_attention_decode *a = args;
    int64_t tasks = a->H > 0 ? a->B * a->K : 0;
    PAR_REQUIRE(workspace || tasks * a->D == 0);
#pragma omp parallel for schedule(static) if (tasks * a->n * a->D > CPU_PARALLEL)                            \
    num_threads(cpu_slots(tasks))
    for (int64_t n = 0; n < tasks; n++) {
        if (a->D > 0) run_task(a, n, (float *)workspace + cpu_slot() * slot_floats(a));
        cpu_progress(stream);
    }
    return PAR_OK;
}

void par__cpu_attention_decode(par_backend *backend) {
    backend->kernels[PAR_OP_ATTENTION_DECODE] =
        (par_kernel){CPU_NAME("attention_decode"), prepare, attention_decode};
}
