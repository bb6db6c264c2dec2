/* Residual connection with dropout against ref, and dropout against its specification. Bounds:
 * bench.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "oracle.h"

static const par_dtype dtypes[] = {PAR_F32, PAR_BF16, PAR_F16};
static const int64_t widths[] = {1, 7, 8, 9, 1031, 1040}; /* the last one allows 16-byte accesses */
static const double magnitudes[] = {1, 1e-2, 30};

typedef struct {
    par_dtype dtype;
    int64_t m, n;
    double a;
    float p;
    int alias; /* 0: none, 1: y in x, 2: y in the residual */
    bool bias, residual;
    int skew;
} shape;

static void build_residual(bench *b, const void *variant) {
    const shape *v = variant;
    par_residual a = {.dtype = v->dtype, .m = v->m, .n = v->n, .T = 5, .first_row = 3};
    double bound = 8 * BENCH_U * v->a / (1 - (double)v->p);
    b->skew = v->skew;
    a.dropout = (par_dropout){v->p, 99, NULL, INT64_C(0xfffffffff), 65535};
    if (v->alias == 1)
        a.x = a.y = bench_inout(b, "y in x", v->dtype, v->m, v->n, v->n, v->a, bound);
    if (v->alias == 2)
        a.residual = a.y = bench_inout(b, "y in residual", v->dtype, v->m, v->n, v->n, v->a, bound);
    if (!a.x) a.x = bench_in(b, v->dtype, v->m, v->n, v->n, v->a);
    if (v->residual && !a.residual) a.residual = bench_in(b, v->dtype, v->m, v->n, v->n, v->a);
    if (v->bias) a.bias = bench_in(b, v->dtype, 1, v->n, v->n, v->a);
    if (!a.y) a.y = bench_out(b, "y", v->dtype, v->m, v->n, v->n, bound);
    bench_residual(b, &a);
}

static void test_residual(void) {
    static const float drop[] = {0, 0.1f, 0.5f, 0.99f};
    if (!bench_ready()) return;
    for (int i = 0; i < 6 * 3 * 4 * 3 * 2; i++) {
        shape v = {.dtype = dtypes[i % 3],
                   .m = 1 + i % 13,
                   .n = widths[i / 3 % 6],
                   .a = magnitudes[i % 7 % 3]};
        v.p = drop[i / 18 % 4];
        v.alias = i / 72 % 3;
        v.skew = i / 216;
        v.bias = i & 1;
        v.residual = i & 2;
        bench_compare(build_residual, &v, "residual %s m %lld n %lld p %g alias %d",
                      par_dtype_name(v.dtype), (long long)v.m, (long long)v.n, (double)v.p,
                      v.alias);
    }
}

static void test_dropout(void) {
    enum { M = 40, N = 37, T = 8 };
    static float x[M * N], y[M * N];
    static const int64_t base = INT64_C(0xfffffffe);
    int kept = 0;
    if (!bench_ready()) return;
    for (int i = 0; i < M * N; i++) x[i] = 1;
    par_residual a = {.m = M, .n = N, .T = T, .first_row = 16, .x = x, .y = y};
    a.dropout = (par_dropout){0.25f, 7, &base, 1, 3};
    bench_residual(bench_alone(), &a);
    for (int i = 0; i < M * N; i++) {
        double z = oracle_mask(&a.dropout, T, 16 + i / N, i % N);
        CHECK(y[i] == (float)z, "dropout of element %d gives %g, not %g", i, (double)y[i], z);
        kept += y[i] != 0;
    }
    /* 1480 draws of probability 3/4: 1110, standard deviation 16.7; 4 of them */
    CHECK(abs(kept - 1110) < 67, "%d of 1480 elements were kept at p = 1/4", kept);
}

const harness_case residual_cases[] = {
    {.name = "residual", .run = test_residual},
    {.name = "oracle_dropout", .run = test_dropout},
};
const int n_residual_cases = HARNESS_COUNT(residual_cases);
