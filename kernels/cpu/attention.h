/* What attention's forward and backward share: tiles of TILE queries and TILE keys of one head. */
#ifndef PAR__CPU_ATTENTION_H
#define PAR__CPU_ATTENTION_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/elementary.h"
#include "kernels/cpu/micro.h"

enum { TILE = 64 };

/* Rows of one head, D channels, the row of a token `ld` after the one before. */
static inline const float *head_in(const void *x, const par_attention *a, int64_t ld, int64_t b, int64_t h) {
    return (const float *)x + b * a->T * ld + h * a->D;
}

static inline float *head_out(void *x, const par_attention *a, int64_t ld, int64_t b, int64_t h) {
    return (float *)x + b * a->T * ld + h * a->D;
}

/* Keys of a tile of n that query r (in its tile) sees: all before the diagonal, r + 1 on it. */
static inline int64_t visible(bool diagonal, int64_t r, int64_t n) {
    return diagonal ? cpu_min(r + 1, n) : n;
}

/* Columns that a product with a packed tile must make. */
static inline int64_t padded(int64_t n) {
    return (n + LANES - 1) / LANES * LANES;
}

/* Dropout's factors of query `query` (token) and keys [key, key + n). */
static inline void attention_dropout(const par_attention *a, int64_t b, int64_t h, int64_t query, int64_t key,
                                     int64_t n, float *factors) {
    par__cpu_dropout(&a->dropout, a->T, b * a->T + query, (a->first_head + h) * a->T + key, n, factors);
}

par_status par__cpu_attention_backward_prepare(const void *args, size_t *workspace_nbytes);
par_status par__cpu_attention_backward(par_stream *stream, const void *args, void *workspace);

#endif
