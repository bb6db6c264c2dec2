/*
 * Causal softmax attention, forward: par_attention in par/kernels.h. Tiled with an online softmax
 * (Dao et al. 2022, algorithm 1; Milakov and Gimelshein 2018): scores exist as one tile. A task is
 * one (b, h); for each tile of keys, packed once, it walks the tiles of queries at or below the
 * diagonal, up to the last that sees one of the keys. Between tiles, o holds the unnormalised sums
 * and lse the running maximum.
 */
#include <math.h>

#include "kernels/cpu/attention.h"

/* s = exp(s - max) in whole vectors: of what is not seen there, zeros. The sum; a NaN score gives a
 * NaN sum. */
static float row_exp(float *s, int64_t n, float max) {
    vec sum = {0};
    for (int64_t j = n; j < padded(n); j++) s[j] = -INFINITY;
    for (int64_t j = 0; j < n; j += LANES) {
        vec weights = vec_exp_or_zero(PAR_F32, load_vec(s + j) - max);
        store_vec(s + j, weights);
        sum += weights;
    }
    return vec_sum(sum);
}

static void scale_row(float *x, int64_t n, float factor) {
#pragma omp simd
    for (int64_t d = 0; d < n; d++) x[d] *= factor;
}

/* Scores of query i against keys j .. become weights; sums so far, of the tiles before if this is
 * not the first, are rescaled to the new maximum. */
static void softmax_row(const attention_task *t, float *s, int64_t i, int64_t j, int64_t keys,
                        bool first) {
    const par_attention *a = t->a;
    seen_keys of = visible(a, t->b, i, j, keys);
    int64_t seen = of.end;
    float before = first ? -INFINITY : t->max[i], tile = -INFINITY, scale = a->scale;
    if (of.begin == of.end) { /* no key of the tile is seen */
        for (int64_t c = 0; c < keys; c++) s[c] = 0;
        if (!first) return;
        t->max[i] = -INFINITY;
        t->sum[i] = 0;
        return;
    }
#pragma omp simd
    for (int64_t c = 0; c < seen; c++) s[c] *= scale;
    for (int64_t c = 0; c < of.begin; c++) s[c] = -INFINITY;
#pragma omp simd reduction(max : tile)
    for (int64_t c = 0; c < seen; c++) tile = s[c] > tile ? s[c] : tile;
    float max = tile > before ? tile : before;
    float sum = row_exp(s, seen, max);
    if (!first) {
        float shrink = exp_f32(before - max);
        sum += t->sum[i] * shrink;
        if (max != before) scale_row(t->o + i * a->ldo, a->D, shrink);
    }
    t->max[i] = max;
    t->sum[i] = sum;
    for (int64_t c = seen; c < keys; c++) s[c] = 0;
    if (a->dropout.p > 0) {
        float factors[TILE];
        attention_dropout(a, t->b, t->h, i, j, seen, factors);
#pragma omp simd
        for (int64_t c = 0; c < seen; c++) s[c] *= factors[c];
    }
}

static void read_keys(attention_task *t, int64_t j, int64_t keys) {
    const par_attention *a = t->a, *given = t->given;
    t->k = head_read(given, given->k, given->ldk, t->b, t->kv, j, keys, t->tiles);
    t->v = head_read(given, given->v, given->ldv, t->b, t->kv, j, keys, t->tiles + TILE * a->D);
    micro_transpose(t->k, a->ldk, keys, a->D, t->packed, TILE);
}

static void scores(const attention_task *t, int64_t i, int64_t queries, int64_t keys, float *s) {
    const par_attention *a = t->a;
    micro product = {t->q + i * a->ldq, a->ldq, 1, t->packed, TILE, s, TILE};
    micro_gemm(product, queries, padded(keys), a->D, false);
}

static void values(const attention_task *t, int64_t i, int64_t queries, int64_t keys,
                   const float *weights, bool accumulate) {
    const par_attention *a = t->a;
    micro product = {weights, TILE, 1, t->v, a->ldv, t->o + i * a->ldo, a->ldo};
    micro_gemm(product, queries, a->D, keys, accumulate);
}

static const attention_products fp32 = {read_keys, scores, values};

static void forward(attention_task *t, const attention_products *make, par_stream *stream,
                    int slot) {
    const par_attention *a = t->a;
    float s[TILE * TILE];
    for (int64_t j = 0; j < a->T; j += TILE) {
        int64_t keys = cpu_min(TILE, a->T - j);
        make->read_keys(t, j, keys);
        for (int64_t i = j; i < a->T && first_tile(a, t->b, i) <= j; i += TILE) {
            int64_t queries = cpu_min(TILE, a->T - i);
            bool first = j == first_tile(a, t->b, i);
            make->scores(t, i, queries, keys, s);
            for (int64_t r = 0; r < queries; r++)
                softmax_row(t, s + r * TILE, i + r, j, keys, first);
            make->values(t, i, queries, keys, s, !first);
        }
        cpu_progress(stream, slot);
    }
    for (int64_t i = 0; i < a->T; i++) {
        scale_row(t->o + i * a->ldo, a->D, 1 / t->sum[i]);
        t->max[i] += logf(t->sum[i]);
    }
}

/* floats of a thread's part of the workspace: packed, sum; of 16 bits o, and for fp32 products q,
 * k, v */
static int64_t slot_floats(const par_attention *a) {
    int64_t copies = par__cpu_attention_bf16(a) ? head_floats(a, 1, 0) : head_floats(a, 2, 2);
    return a->D * TILE + a->T + copies;
}

static par_status prepare(const void *args, size_t *workspace_nbytes) {
    const par_attention *a = args;
    *workspace_nbytes = (size_t)(cpu_slots(a->B * a->H) * slot_floats(a)) * sizeof(float);
    return PAR_OK;
}

/* Heads [begin, end) of all, in this slot's part of the workspace. */
static void run_tasks(const void *user, int slot, int64_t begin, int64_t end) {
    const cpu_call *call = user;
    const par_attention *a = call->args;
    const par_attention view = attention_view(a);
    float *own = (float *)call->workspace + slot * slot_floats(a);
    const attention_products *bf16 = par__cpu_attention_bf16(a);
    float *copies = own + a->D * TILE + a->T;
    for (int64_t n = begin; n < end; n++) {
        int64_t b = n / a->H, h = n % a->H, size = a->T * a->D;
        attention_task t = {
            .a = &view, .given = a, .b = b, .h = h, .kv = h / (a->H / a->K), .packed = own};
        t.sum = own + a->D * TILE;
        t.max = a->lse + n * a->T;
        t.o = head_place(a, a->o, a->ldo, b, h, 0, copies);
        t.tiles = copies + 2 * size;
        if (!bf16) t.q = head_read(a, a->q, a->ldq, b, h, 0, a->T, copies + size);
        forward(&t, bf16 ? bf16 : &fp32, call->stream, slot);
        head_write(a, t.o, a->o, a->ldo, b, h, 0, a->T);
    }
}

static par_status attention(par_stream *stream, const void *args, void *workspace) {
    const par_attention *a = args;
    const cpu_call call = {a, workspace, stream};
    int64_t tasks = a->T > 0 ? a->B * a->H : 0;
    PAR_REQUIRE(workspace || tasks == 0);
    cpu_loop_slots(tasks, tasks * a->T * a->D, run_tasks, &call);
    return PAR_OK;
}

void par__cpu_attention(par_backend *backend) {
    par_kernel *k = backend->kernels;
    k[PAR_OP_ATTENTION] = (par_kernel){CPU_NAME("attention"), prepare, attention};
    k[PAR_OP_ATTENTION_BACKWARD] =
        (par_kernel){CPU_NAME("attention_backward"), par__cpu_attention_backward_prepare,
                     par__cpu_attention_backward};
}
