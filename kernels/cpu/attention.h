/* What attention's forward and backward share: tiles of TILE queries and TILE keys of one head. */
#ifndef PAR__CPU_ATTENTION_H
#define PAR__CPU_ATTENTION_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/elementary.h"
#include "kernels/cpu/micro.h"

enum { TILE = 64 };

/*
 * Rows [t, t + n) of one head for kernels that compute in fp32: D channels, the row of a token `ld`
 * after the one before. fp32 rows lie in the operands. 16-bit ones are copies in a thread's part of
 * the workspace, with ld = D; the fp32 loops then run on attention_view's arguments. What is gone
 * through once is copied a tile at a time, so that the copies stay in the second-level cache.
 */
static inline int64_t head_at(const par_attention *a, int64_t ld, int64_t b, int64_t h, int64_t t) {
    return (b * a->T + t) * ld + h * a->D;
}

static inline const float *head_read(const par_attention *a, const void *x, int64_t ld, int64_t b,
                                     int64_t h, int64_t t, int64_t n, float *copy) {
    int64_t at = head_at(a, ld, b, h, t);
    if (a->dtype == PAR_F32) return (const float *)x + at;
    for (int64_t i = 0; i < n; i++) par__cpu_widen(x, a->dtype, at + i * ld, a->D, copy + i * a->D);
    return copy;
}

/* What head_read gave of the whole head. */
static inline const float *head_rows(const par_attention *a, const void *x, int64_t ld, int64_t b,
                                     int64_t h, const float *copy) {
    return a->dtype == PAR_F32 ? (const float *)x + head_at(a, ld, b, h, 0) : copy;
}

static inline float *head_place(const par_attention *a, void *x, int64_t ld, int64_t b, int64_t h,
                                int64_t t, float *copy) {
    return cpu_place(x, a->dtype, head_at(a, ld, b, h, t), copy);
}

static inline void head_write(const par_attention *a, const float *copy, void *x, int64_t ld,
                              int64_t b, int64_t h, int64_t t, int64_t n) {
    int64_t at = head_at(a, ld, b, h, t);
    for (int64_t i = 0; i < n; i++) cpu_write(copy + i * a->D, x, a->dtype, at + i * ld, a->D);
}

/* The arguments with the distances of rows that a head's fp32 rows have. */
static inline par_attention attention_view(const par_attention *a) {
    par_attention view = *a;
    if (a->dtype != PAR_F32)
        view.ldq = view.ldk = view.ldv = view.ldo = view.ldd_o = view.lddq = view.lddk = view.lddv =
            a->D;
    return view;
}

/* Floats of copies of whole heads and of tiles, none for fp32. */
static inline int64_t head_floats(const par_attention *a, int64_t heads, int64_t tiles) {
    return a->dtype == PAR_F32 ? 0 : (heads * a->T + tiles * TILE) * a->D;
}

/* Keys [begin, end) of a tile, counted in it. */
typedef struct {
    int64_t begin, end;
} seen_keys;

/* The first key that query t of sequence b sees. */
static inline int64_t first_key(const par_attention *a, int64_t b, int64_t t) {
    return a->apart ? a->documents[b * a->T + t] : 0;
}

/* Keys of the tile [j, j + n) that query i sees; none: begin is end. */
static inline seen_keys visible(const par_attention *a, int64_t b, int64_t i, int64_t j,
                                int64_t n) {
    int64_t end = cpu_min(i - j + 1, n), first = first_key(a, b, i);
    return (seen_keys){first > j ? cpu_min(first - j, end) : 0, end};
}

/* The first tile of keys that the tile of queries from i on sees, as its first query sees most. */
static inline int64_t first_tile(const par_attention *a, int64_t b, int64_t i) {
    return first_key(a, b, i) / TILE * TILE;
}

/* Columns that a product with a packed tile must make. */
static inline int64_t padded(int64_t n) {
    return (n + LANES - 1) / LANES * LANES;
}

/* Dropout's factors of query `query` (token) and keys [key, key + n). */
static inline void attention_dropout(const par_attention *a, int64_t b, int64_t h, int64_t query,
                                     int64_t key, int64_t n, float *factors) {
    par__cpu_dropout(&a->dropout, a->T, b * a->T + query, (a->first_head + h) * a->T + key, n,
                     factors);
}

/* Forward of one query head. */
typedef struct {
    const par_attention *a;     /* with the distances of fp32 rows */
    const par_attention *given; /* the operands */
    int64_t b, h, kv;
    const float *q, *k, *v; /* k, v: of the tile of keys */
    float *o, *max, *sum;   /* max and sum: [T] */
    float *packed;          /* [D, TILE]: keys transposed */
    float *tiles;           /* copies of 16-bit k, v */
} attention_task;

/* The products of the forward, in fp32 or in bf16. A tile has queries [i, i + queries), keys [j, j
 * + keys). */
typedef struct {
    void (*read_keys)(attention_task *t, int64_t j, int64_t keys);
    /* s[queries, TILE] = q · k, whole vectors of it */
    void (*scores)(const attention_task *t, int64_t i, int64_t queries, int64_t keys, float *s);
    /* o (+)= weights · v */
    void (*values)(const attention_task *t, int64_t i, int64_t queries, int64_t keys,
                   const float *weights, bool accumulate);
} attention_products;

/* NULL: not in bf16. */
const attention_products *par__cpu_attention_bf16(const par_attention *a);

/* Backward of one KV head. */
typedef struct {
    const par_attention *a;     /* with the distances of fp32 rows */
    const par_attention *given; /* the operands */
    int64_t b, kv;
    const float *k, *v; /* of the tile of keys, as dk and dv */
    float *dk, *dv;
    float *packed_k, *packed_v; /* [D, TILE]: transposed */
    float *delta;               /* [H / K, T]: dO · o of each query */
    float *tiles;               /* of 16-bit heads: k, v, dk, dv */
    float *copies;              /* q, dO, dq of each query head */
} attention_backward_task;

/* One of its query heads. */
typedef struct {
    int64_t h;
    float *copy_q, *copy_d_o;
    const float *q, *d_o, *lse, *delta;
    float *dq;
} attention_head;

/* The products of the backward. */
typedef struct {
    void (*read_queries)(const attention_backward_task *t, const attention_head *x);
    void (*read_keys)(attention_backward_task *t, int64_t j, int64_t keys);
    /* p = q · k and dp = dO · v, [queries, TILE], whole vectors of them */
    void (*scores)(const attention_backward_task *t, const attention_head *x, int64_t i,
                   int64_t queries, int64_t keys, float *p, float *dp);
    /* dv (+)= pᵀ · dO, dk (+)= dsᵀ · q, dq (+)= ds · k */
    void (*gradients)(const attention_backward_task *t, const attention_head *x, int64_t i,
                      int64_t queries, int64_t keys, const float *p, const float *ds,
                      bool accumulate_kv, bool accumulate_q);
} attention_backward_products;

const attention_backward_products *par__cpu_attention_backward_bf16(const par_attention *a);

par_status par__cpu_attention_backward_prepare(const void *args, size_t *workspace_nbytes);
par_status par__cpu_attention_backward(par_stream *stream, const void *args, void *workspace);

#endif
