/*
 * Causal softmax attention, backward: par_attention in par/kernels.h, formulas in
 * kernels/ref/attention.c. A task is one (b, KV head): it owns dk and dv of that head and dq of the
 * query heads that read it, so no sum is shared between threads. Orders of addition: dk, dv by
 * query head, then query; dq by key.
 */
#include "kernels/cpu/attention.h"

enum { TILES = 4, COPIES = 3 };

typedef attention_backward_task task;
typedef attention_head head;

static float *copy(const task *t, int64_t number) {
    return t->copies + number * t->a->T * t->a->D;
}

static float *tile(const task *t, int number) {
    return t->tiles + number * TILE * t->a->D;
}

static head head_of(const task *t, int64_t member) {
    const par_attention *a = t->given;
    int64_t h = t->kv * (a->H / a->K) + member, first = COPIES * member;
    return (head){.h = h,
                  .copy_q = copy(t, first),
                  .copy_d_o = copy(t, first + 1),
                  .q = head_rows(a, a->q, a->ldq, t->b, h, copy(t, first)),
                  .d_o = head_rows(a, a->d_o, a->ldd_o, t->b, h, copy(t, first + 1)),
                  .lse = a->lse + (t->b * a->H + h) * a->T,
                  .delta = t->delta + member * a->T,
                  .dq = head_place(a, a->dq, a->lddq, t->b, h, 0, copy(t, first + 2))};
}

/* In: scores q · k and dP = dO · v. Out: p (with dropout's factor) and ds · scale, 0 for keys that
 * are not seen. Made in whole vectors: a row has room for them. */
static void pair_row(const task *t, const head *x, int64_t i, int64_t j, int64_t keys, float *p,
                     float *ds) {
    const par_attention *a = t->a;
    seen_keys of = visible(a, t->b, i, j, keys);
    int64_t seen = of.end;
    float lse = x->lse[i], delta = x->delta[i], scale = a->scale;
    bool drop = a->dropout.p > 0;
    float factors[TILE] = {0};
    if (drop) attention_dropout(a, t->b, x->h, i, j, seen, factors);
    for (int64_t c = 0; c < seen; c += LANES) {
        vec weight = vec_exp(load_vec(p + c) * scale - lse), product = weight,
            dp = load_vec(ds + c);
        if (drop) {
            product *= load_vec(factors + c);
            dp *= load_vec(factors + c);
        }
        store_vec(p + c, product);
        store_vec(ds + c, weight * (dp - delta) * scale);
    }
    for (int64_t c = 0; c < of.begin; c++) p[c] = ds[c] = 0;
    for (int64_t c = seen; c < keys; c++) p[c] = ds[c] = 0;
}

static void read_queries(const task *t, const head *x) {
    const par_attention *a = t->given;
    head_read(a, a->q, a->ldq, t->b, x->h, 0, a->T, x->copy_q);
    head_read(a, a->d_o, a->ldd_o, t->b, x->h, 0, a->T, x->copy_d_o);
}

static void read_keys(task *t, int64_t j, int64_t keys) {
    const par_attention *a = t->a, *given = t->given;
    t->k = head_read(given, given->k, given->ldk, t->b, t->kv, j, keys, tile(t, 0));
    t->v = head_read(given, given->v, given->ldv, t->b, t->kv, j, keys, tile(t, 1));
    micro_transpose(t->k, a->ldk, keys, a->D, t->packed_k, TILE);
    micro_transpose(t->v, a->ldv, keys, a->D, t->packed_v, TILE);
}

static void scores(const task *t, const head *x, int64_t i, int64_t queries, int64_t keys, float *p,
                   float *dp) {
    const par_attention *a = t->a;
    const float *q = x->q + i * a->ldq, *d_o = x->d_o + i * a->ldd_o;
    micro_gemm((micro){q, a->ldq, 1, t->packed_k, TILE, p, TILE}, queries, padded(keys), a->D,
               false);
    micro_gemm((micro){d_o, a->ldd_o, 1, t->packed_v, TILE, dp, TILE}, queries, padded(keys), a->D,
               false);
}

static void gradients(const task *t, const head *x, int64_t i, int64_t queries, int64_t keys,
                      const float *p, const float *ds, bool accumulate_kv, bool accumulate_q) {
    const par_attention *a = t->a;
    const float *q = x->q + i * a->ldq, *d_o = x->d_o + i * a->ldd_o;
    float *dq = x->dq + i * a->lddq;
    micro_gemm((micro){p, 1, TILE, d_o, a->ldd_o, t->dv, a->lddv}, keys, a->D, queries,
               accumulate_kv);
    micro_gemm((micro){ds, 1, TILE, q, a->ldq, t->dk, a->lddk}, keys, a->D, queries, accumulate_kv);
    micro_gemm((micro){ds, TILE, 1, t->k, a->ldk, dq, a->lddq}, queries, a->D, keys, accumulate_q);
}

static const attention_backward_products fp32 = {read_queries, read_keys, scores, gradients};

static void tile_backward(const task *t, const attention_backward_products *make, const head *x,
                          int64_t i, int64_t j, bool accumulate) {
    int64_t queries = cpu_min(TILE, t->a->T - i), keys = cpu_min(TILE, t->a->T - j);
    float p[TILE * TILE], ds[TILE * TILE];
    make->scores(t, x, i, queries, keys, p, ds);
    for (int64_t r = 0; r < queries; r++)
        pair_row(t, x, i + r, j, keys, p + r * TILE, ds + r * TILE);
    make->gradients(t, x, i, queries, keys, p, ds, accumulate, j > first_tile(t->a, t->b, i));
}

/* delta of each query: dO · o, from the operands */
CPU_INLINE void head_deltas(par_dtype t, const par_attention *a, int64_t b, int64_t h,
                            float *delta) {
    for (int64_t i = 0; i < a->T; i++)
        delta[i] = pair_dot(t, a->d_o, head_at(a, a->ldd_o, b, h, i), a->o,
                            head_at(a, a->ldo, b, h, i), a->D);
}

static void backward(task *t, const attention_backward_products *make, par_stream *stream,
                     int slot) {
    const par_attention *a = t->a, *given = t->given;
    int64_t group = a->H / a->K;
    for (int64_t member = 0; member < group; member++) {
        head x = head_of(t, member);
        make->read_queries(t, &x);
        CPU_BY_TYPE(a->dtype, head_deltas, given, t->b, x.h, t->delta + member * a->T);
    }
    for (int64_t j = 0; j < a->T; j += TILE) {
        int64_t keys = cpu_min(TILE, a->T - j);
        t->dk = head_place(given, given->dk, given->lddk, t->b, t->kv, j, tile(t, 2));
        t->dv = head_place(given, given->dv, given->lddv, t->b, t->kv, j, tile(t, 3));
        make->read_keys(t, j, keys);
        for (int64_t member = 0; member < group; member++) {
            head x = head_of(t, member);
            for (int64_t i = j; i < a->T && first_tile(a, t->b, i) <= j; i += TILE)
                tile_backward(t, make, &x, i, j, member > 0 || i > j);
        }
        head_write(given, t->dk, given->dk, given->lddk, t->b, t->kv, j, keys);
        head_write(given, t->dv, given->dv, given->lddv, t->b, t->kv, j, keys);
        cpu_progress(stream, slot);
    }
}

/* floats of a thread's part of the workspace */
static int64_t slot_floats(const par_attention *a) {
    int64_t group = a->H / a->K;
    return 2 * a->D * TILE + group * a->T + head_floats(a, COPIES * group, TILES);
}

par_status par__cpu_attention_backward_prepare(const void *args, size_t *workspace_nbytes) {
    const par_attention *a = args;
    *workspace_nbytes =
        a->K > 0 ? (size_t)(cpu_slots(a->B * a->K) * slot_floats(a)) * sizeof(float) : 0;
    return PAR_OK;
}

/* KV heads [begin, end) of all, in this slot's part of the workspace. */
static void run_tasks(const void *user, int slot, int64_t begin, int64_t end) {
    const cpu_call *call = user;
    const par_attention *a = call->args;
    const par_attention view = attention_view(a);
    float *own = (float *)call->workspace + slot * slot_floats(a);
    const attention_backward_products *bf16 = par__cpu_attention_backward_bf16(a);
    int64_t group = a->H / a->K;
    for (int64_t n = begin; n < end; n++) {
        int64_t b = n / a->K, kv = n % a->K;
        task t = {.a = &view,
                  .given = a,
                  .b = b,
                  .kv = kv,
                  .packed_k = own,
                  .packed_v = own + a->D * TILE};
        t.delta = own + 2 * a->D * TILE;
        t.tiles = t.delta + group * a->T;
        t.copies = t.tiles + TILES * TILE * a->D;
        backward(&t, bf16 ? bf16 : &fp32, call->stream, slot);
        for (int64_t member = 0; member < group; member++) { /* rounds dq, now that it is whole */
            head x = head_of(&t, member);
            head_write(a, x.dq, a->dq, a->lddq, b, x.h, 0, a->T);
        }
    }
}

par_status par__cpu_attention_backward(par_stream *stream, const void *args, void *workspace) {
    const par_attention *a = args;
    const cpu_call call = {a, workspace, stream};
    int64_t tasks = a->T > 0 && a->H > 0 ? a->B * a->K : 0;
    PAR_REQUIRE(workspace || tasks == 0);
    cpu_loop_slots(tasks, tasks * a->T * a->D, run_tasks, &call);
    return PAR_OK;
}
