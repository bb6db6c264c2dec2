/*
 * The products of attention's tiles in bf16, where the CPU multiplies it (AVX512-BF16): q · k and
 * dO · v of the operands as they are; weights and ds are rounded to bf16 for the products with v,
 * dO, q and k, as fused attention on GPUs does (Dao et al. 2022). Sums, softmax, delta, o, dq, dk
 * and dv stay fp32. Heads of an odd size have no pairs: they are widened (attention.c).
 */
#include "kernels/cpu/attention.h"
#include "kernels/cpu/micro_bf16.h"

#ifdef __AVX512BF16__

/* Where two packings of a tile of keys lie in [D, TILE] floats: transposed words, and words of two
 * rows. */
static uint32_t *transposed(float *packed) {
    return (uint32_t *)packed;
}

static uint32_t *interleaved(float *packed, int64_t D) {
    return (uint32_t *)packed + D / 2 * TILE;
}

static const uint16_t *rows(const par_attention *a, const void *x, int64_t ld, int64_t b, int64_t h,
                            int64_t t) {
    return (const uint16_t *)x + head_at(a, ld, b, h, t);
}

/* Rounds x[m, TILE], zeros from column n to an even one: pairs along the columns. */
static void round_rows(const float *x, int64_t m, int64_t n, uint16_t *y) {
    for (int64_t r = 0; r < m; r++) {
        for (int64_t c = 0; c < padded(n); c += LANES)
            vec_store_whole(y + r * TILE, PAR_BF16, c, load_vec(x + r * TILE + c));
        if (n % 2) y[r * TILE + n] = 0;
    }
}

/* y[(m + 1) / 2, TILE] = rounded words of two rows of x[m, TILE] each: pairs along the rows. */
static void round_pairs(const float *x, int64_t m, int64_t n, uint32_t *y) {
    for (int64_t r = 0; r < m; r += 2)
        for (int64_t c = 0; c < padded(n); c += LANES) {
            pair p = {{load_vec(x + r * TILE + c), {0}}};
            if (r + 1 < m) p.v[1] = load_vec(x + (r + 1) * TILE + c);
            *(vec_words *)(y + r / 2 * TILE + c) = pair_to_bf16(p);
        }
}

static void read_keys(attention_task *t, int64_t j, int64_t keys) {
    const par_attention *a = t->given;
    micro_bf16_transpose(rows(a, a->k, a->ldk, t->b, t->kv, j), a->ldk, keys, a->D,
                         transposed(t->packed), TILE);
    micro_bf16_interleave(rows(a, a->v, a->ldv, t->b, t->kv, j), a->ldv, keys, a->D,
                          interleaved(t->packed, a->D));
}

static void scores(const attention_task *t, int64_t i, int64_t queries, int64_t keys, float *s) {
    const par_attention *a = t->given;
    const uint16_t *q = rows(a, a->q, a->ldq, t->b, t->h, i);
    micro_bf16_gemm((micro_bf16){q, a->ldq, 2, transposed(t->packed), TILE, s, TILE}, queries,
                    padded(keys), a->D / 2, false);
}

static void values(const attention_task *t, int64_t i, int64_t queries, int64_t keys,
                   const float *weights, bool accumulate) {
    const par_attention *a = t->a;
    uint16_t p[TILE * TILE];
    round_rows(weights, queries, keys, p);
    micro_bf16 product = {p,     TILE, 2, interleaved(t->packed, a->D), a->D, t->o + i * a->ldo,
                          a->ldo};
    micro_bf16_gemm(product, queries, a->D, (keys + 1) / 2, accumulate);
}

static void read_queries(const attention_backward_task *t, const attention_head *x) {
    const par_attention *a = t->given;
    micro_bf16_interleave(rows(a, a->q, a->ldq, t->b, x->h, 0), a->ldq, a->T, a->D,
                          (uint32_t *)x->copy_q);
    micro_bf16_interleave(rows(a, a->d_o, a->ldd_o, t->b, x->h, 0), a->ldd_o, a->T, a->D,
                          (uint32_t *)x->copy_d_o);
}

static void backward_read_keys(attention_backward_task *t, int64_t j, int64_t keys) {
    const par_attention *a = t->given;
    const uint16_t *k = rows(a, a->k, a->ldk, t->b, t->kv, j),
                   *v = rows(a, a->v, a->ldv, t->b, t->kv, j);
    micro_bf16_transpose(k, a->ldk, keys, a->D, transposed(t->packed_k), TILE);
    micro_bf16_interleave(k, a->ldk, keys, a->D, interleaved(t->packed_k, a->D));
    micro_bf16_transpose(v, a->ldv, keys, a->D, transposed(t->packed_v), TILE);
}

static void backward_scores(const attention_backward_task *t, const attention_head *x, int64_t i,
                            int64_t queries, int64_t keys, float *p, float *dp) {
    const par_attention *a = t->given;
    const uint16_t *q = rows(a, a->q, a->ldq, t->b, x->h, i),
                   *d_o = rows(a, a->d_o, a->ldd_o, t->b, x->h, i);
    micro_bf16_gemm((micro_bf16){q, a->ldq, 2, transposed(t->packed_k), TILE, p, TILE}, queries,
                    padded(keys), a->D / 2, false);
    micro_bf16_gemm((micro_bf16){d_o, a->ldd_o, 2, transposed(t->packed_v), TILE, dp, TILE},
                    queries, padded(keys), a->D / 2, false);
}

static void gradients(const attention_backward_task *t, const attention_head *x, int64_t i,
                      int64_t queries, int64_t keys, const float *p, const float *ds,
                      bool accumulate_kv, bool accumulate_q) {
    const par_attention *a = t->a;
    uint32_t pairs[TILE / 2 * TILE];
    uint16_t by_query[TILE * TILE];
    const uint32_t *q = (const uint32_t *)x->copy_q + i / 2 * a->D,
                   *d_o = (const uint32_t *)x->copy_d_o + i / 2 * a->D;
    /* word (key, l) of the transposed tile begins 2 · key halves into row l of words */
    micro_bf16 dv = {(const uint16_t *)pairs, 2, 2 * TILE, d_o, a->D, t->dv, a->lddv}, dk = dv;
    dk.b = q, dk.c = t->dk, dk.ldc = a->lddk;
    round_pairs(p, queries, keys, pairs);
    micro_bf16_gemm(dv, keys, a->D, (queries + 1) / 2, accumulate_kv);
    round_pairs(ds, queries, keys, pairs);
    micro_bf16_gemm(dk, keys, a->D, (queries + 1) / 2, accumulate_kv);
    round_rows(ds, queries, keys, by_query);
    micro_bf16 dq = {by_query, TILE, 2, interleaved(t->packed_k, a->D), a->D, x->dq + i * a->lddq,
                     a->lddq};
    micro_bf16_gemm(dq, queries, a->D, (keys + 1) / 2, accumulate_q);
}

static const attention_products forward = {read_keys, scores, values};
static const attention_backward_products backward = {read_queries, backward_read_keys,
                                                     backward_scores, gradients};

static bool taken(const par_attention *a) {
    return a->dtype == PAR_BF16 && a->D % 2 == 0;
}

const attention_products *par__cpu_attention_bf16(const par_attention *a) {
    return taken(a) ? &forward : NULL;
}

const attention_backward_products *par__cpu_attention_backward_bf16(const par_attention *a) {
    return taken(a) ? &backward : NULL;
}

#else

const attention_products *par__cpu_attention_bf16(const par_attention *a) {
    return NULL;
}

const attention_backward_products *par__cpu_attention_backward_bf16(const par_attention *a) {
    return NULL;
}
#endif
