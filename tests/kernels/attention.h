/* What the cases of attention and of its decoding share: a shape, and bounds that follow from
 * it. */
#ifndef PAR_TESTS_ATTENTION_H
#define PAR_TESTS_ATTENTION_H

#include "bench.h"

typedef struct {
    par_dtype dtype;
    int64_t B, T, H, K, D, pad;
    float p;
    double a;
} attention_shape;

typedef struct {
    double o, lse, dq, dk, dv;
} attention_bounds;

/* How far the subject may be from ref. */
attention_bounds attention_bounds_of(const attention_shape *v, double scale);

#endif
