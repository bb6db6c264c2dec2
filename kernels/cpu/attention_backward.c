/*
 * Causal softmax attention, backward: par_attention in par/kernels.h, formulas in kernels/ref/attention.c. A
 * task is one (b, KV head): it owns dk and dv of that head and dq of the query heads that read it, so no sum
 * is shared between threads. Orders of addition: dk, dv by query head, then query; dq by key.
 */
#include "kernels/cpu/attention.h"

/* One query head. */
typedef struct {
    int64_t h;
    const float *q, *d_o, *lse, *delta;
    float *dq;
} head;

/* One KV head. */
typedef struct {
    const par_attention *a;
    int64_t b, kv;
    const float *k, *v; /* of the tile of keys, as dk and dv */
    float *dk, *dv;
    float *packed_k, *packed_v; /* [D, TILE], transposed */
    float *delta;               /* [H / K, T]: dO · o of each query */
    const par_attention *given; /* the operands; `a` has their fp32 rows' distances */
    float *tiles;               /* of 16-bit heads: k, v, dk, dv; first of all o */
    float *copies;              /* q, dO, dq of each query head */
} task;

enum { TILES = 4, COPIES = 3 };

static float dot(const float *x, const float *y, int64_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t d = 0; d < n; d++) sum += x[d] * y[d];
    return sum;
}

static float *copy(const task *t, int64_t number) {
    return t->copies + number * t->a->T * t->a->D;
}

static float *tile(const task *t, int number) {
    return t->tiles + number * TILE * t->a->D;
}

static int64_t query_head(const task *t, int64_t member) {
    return t->kv * (t->a->H / t->a->K) + member;
}

static head head_of(const task *t, int64_t member) {
    const par_attention *a = t->given;
    int64_t h = query_head(t, member), first = COPIES * member;
    return (head){.h = h,
                  .q = head_rows(a, a->q, a->ldq, t->b, h, copy(t, first)),
                  .d_o = head_rows(a, a->d_o, a->ldd_o, t->b, h, copy(t, first + 1)),
                  .lse = a->lse + (t->b * a->H + h) * a->T,
                  .delta = t->delta + member * a->T,
                  .dq = head_place(a, a->dq, a->lddq, t->b, h, 0, copy(t, first + 2))};
}

/* In: scores q · k and dP = dO · v. Out: p (with dropout's factor) and ds · scale, 0 for keys that are not
 * seen. Made in whole vectors: a row has room for them. */
static void pair_row(const task *t, const head *x, int64_t i, int64_t j, int64_t seen, int64_t keys, float *p,
                     float *ds) {
    const par_attention *a = t->a;
    float lse = x->lse[i], delta = x->delta[i], scale = a->scale;
    bool drop = a->dropout.p > 0;
    float factors[TILE] = {0};
    if (drop) attention_dropout(a, t->b, x->h, i, j, seen, factors);
    for (int64_t c = 0; c < seen; c += LANES) {
        vec weight = vec_exp(load_vec(p + c) * scale - lse), product = weight, dp = load_vec(ds + c);
        if (drop) {
            product *= load_vec(factors + c);
            dp *= load_vec(factors + c);
        }
        store_vec(p + c, product);
        store_vec(ds + c, weight * (dp - delta) * scale);
    }
    for (int64_t c = seen; c < keys; c++) p[c] = ds[c] = 0;
}

static void tile_backward(const task *t, const head *x, int64_t i, int64_t j, bool accumulate) {
    const par_attention *a = t->a;
    int64_t queries = cpu_min(TILE, a->T - i), keys = cpu_min(TILE, a->T - j);
    float p[TILE * TILE], ds[TILE * TILE];
    const float *q = x->q + i * a->ldq, *d_o = x->d_o + i * a->ldd_o;
    micro_gemm((micro){q, a->ldq, 1, t->packed_k, TILE, p, TILE}, queries, padded(keys), a->D, false);
    micro_gemm((micro){d_o, a->ldd_o, 1, t->packed_v, TILE, ds, TILE}, queries, padded(keys), a->D, false);
    for (int64_t r = 0; r < queries; r++)
        pair_row(t, x, i + r, j, visible(i == j, r, keys), keys, p + r * TILE, ds + r * TILE);
    micro_gemm((micro){p, 1, TILE, d_o, a->ldd_o, t->dv, a->lddv}, keys, a->D, queries, accumulate);
    micro_gemm((micro){ds, 1, TILE, q, a->ldq, t->dk, a->lddk}, keys, a->D, queries, accumulate);
    micro_gemm((micro){ds, TILE, 1, t->k, a->ldk, x->dq + i * a->lddq, a->lddq}, queries, a->D, keys, j > 0);
}

/* delta of the queries of a tile */
static void tile_deltas(const task *t, int64_t h, int64_t i, const float *d_o, float *delta) {
    const par_attention *a = t->a, *given = t->given;
    int64_t queries = cpu_min(TILE, a->T - i);
    const float *o = head_read(given, given->o, given->ldo, t->b, h, i, queries, tile(t, 0));
    for (int64_t r = 0; r < queries; r++) delta[i + r] = dot(d_o + (i + r) * a->ldd_o, o + r * a->ldo, a->D);
}

/* Reads the query heads. */
static void deltas(const task *t) {
    const par_attention *a = t->a, *given = t->given;
    for (int64_t member = 0; member < a->H / a->K; member++) {
        int64_t h = query_head(t, member), first = COPIES * member;
        head_read(given, given->q, given->ldq, t->b, h, 0, a->T, copy(t, first));
        const float *d_o = head_read(given, given->d_o, given->ldd_o, t->b, h, 0, a->T, copy(t, first + 1));
        for (int64_t i = 0; i < a->T; i += TILE) tile_deltas(t, h, i, d_o, t->delta + member * a->T);
    }
}

/* Keys [j, j + n): read and packed, and where their gradients are made. */
static void begin_keys(task *t, int64_t j, int64_t n) {
    const par_attention *a = t->a, *given = t->given;
    t->k = head_read(given, given->k, given->ldk, t->b, t->kv, j, n, tile(t, 0));
    t->v = head_read(given, given->v, given->ldv, t->b, t->kv, j, n, tile(t, 1));
    t->dk = head_place(given, given->dk, given->lddk, t->b, t->kv, j, tile(t, 2));
    t->dv = head_place(given, given->dv, given->lddv, t->b, t->kv, j, tile(t, 3));
    micro_transpose(t->k, a->ldk, n, a->D, t->packed_k, TILE);
    micro_transpose(t->v, a->ldv, n, a->D, t->packed_v, TILE);
}

static void end_keys(const task *t, int64_t j, int64_t n) {
    const par_attention *a = t->given;
    head_write(a, t->dk, a->dk, a->lddk, t->b, t->kv, j, n);
    head_write(a, t->dv, a->dv, a->lddv, t->b, t->kv, j, n);
}

static void backward(task *t, par_stream *stream) {
    const par_attention *a = t->a;
    deltas(t);
    for (int64_t j = 0; j < a->T; j += TILE) {
        int64_t keys = cpu_min(TILE, a->T - j);
        begin_keys(t, j, keys);
        for (int64_t member = 0; member < a->H / a->K; member++) {
            head x = head_of(t, member);
            for (int64_t i = j; i < a->T; i += TILE) tile_backward(t, &x, i, j, member > 0 || i > j);
        }
        end_keys(t, j, keys);
        cpu_progress(stream);
    }
}

/* floats of a thread's part of the workspace */
static int64_t slot_floats(const par_attention *a) {
    int64_t group = a->H / a->K;
    return 2 * a->D * TILE + group * a->T + head_floats(a, COPIES * group, TILES);
}

par_status par__cpu_attention_backward_prepare(const void *args, size_t *workspace_nbytes) {
    const par_attention *a = args;
    *workspace_nbytes = a->K > 0 ? (size_t)(cpu_slots(a->B * a->K) * slot_floats(a)) * sizeof(float) : 0;
    return PAR_OK;
}

/* Rounds dq, which all tiles of keys have added to. */
static void write_gradients(const task *t) {
    const par_attention *a = t->given;
    for (int64_t member = 0; member < a->H / a->K; member++) {
        head x = head_of(t, member);
        head_write(a, x.dq, a->dq, a->lddq, t->b, x.h, 0, a->T);
    }
}

/* KV head n of all. `own` is this thread's. */
static void run_task(const par_attention *a, const par_attention *view, int64_t n, float *own,
                     par_stream *stream) {
    int64_t b = n / a->K, kv = n % a->K;
    task t = {.a = view, .given = a, .b = b, .kv = kv, .packed_k = own, .packed_v = own + a->D * TILE};
    t.delta = own + 2 * a->D * TILE;
    t.tiles = t.delta + a->H / a->K * a->T;
    t.copies = t.tiles + TILES * TILE * a->D;
    backward(&t, stream);
    write_gradients(&t);
}

par_status par__cpu_attention_backward(par_stream *stream, const void *args, void *workspace) {
    const par_attention *a = args;
    const par_attention view = attention_view(a);
    int64_t tasks = a->T > 0 && a->H > 0 ? a->B * a->K : 0;
    PAR_REQUIRE(workspace || tasks == 0);
#pragma omp parallel for schedule(static) if (tasks * a->T * a->D > CPU_PARALLEL)                            \
    num_threads(cpu_slots(tasks))
    for (int64_t n = 0; n < tasks; n++)
        run_task(a, &view, n, (float *)workspace + cpu_slot() * slot_floats(a), stream);
    return PAR_OK;
}
