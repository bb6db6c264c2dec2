/* Norms against ref, and against forwards in double and their differences. Bounds: bench.h,
 * oracle.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "oracle.h"

static const par_dtype dtypes[] = {PAR_F32, PAR_BF16, PAR_F16};

typedef struct {
    par_dtype dtype;
    int64_t m, n;
    float beta;
    double magnitude, offset;
    bool layernorm, alias_dy, alias_add, no_dw;
} variant;

/*
 * Forward: mean and variance of n terms, (x - mean) loses offset / spread; xhat and w are of
 * order 1. Backward: g = dy w and two means of n terms, times rstd, which is about sqrt(3) /
 * magnitude, at n = 1 at most 1 / sqrt(eps); the factor 4 covers xhat up to 3 and w, dy up to 1. dw
 * adds m terms dy xhat, each off by the forward's error of xhat beside the errors of the sum
 * itself.
 */
static double xhat_error(const variant *v) {
    return 4 * BENCH_U * sqrt((double)v->n + 3) * (2 + fabs(v->offset / v->magnitude));
}

static void build_forward(bench *b, const variant *v, par_norm *a) {
    double error = xhat_error(v);
    double rstd = fmin(1 / sqrt((double)a->eps), v->n < 7 ? 1e9 : 4 / v->magnitude);
    void *x = bench_in(b, v->dtype, v->m, v->n, v->n, v->magnitude);
    bench_offset(b, x, v->offset);
    a->x = x;
    a->w = bench_in(b, v->dtype, 1, v->n, v->n, 1);
    a->b = v->layernorm ? bench_in(b, v->dtype, 1, v->n, v->n, 1) : NULL;
    a->mean =
        v->layernorm ? bench_out(b, "mean", PAR_F32, 1, v->m, v->m, error * v->magnitude) : NULL;
    a->rstd = bench_out(b, "rstd", PAR_F32, 1, v->m, v->m, error * rstd);
    a->y = bench_out(b, "y", v->dtype, v->m, v->n, v->n, 4 * error);
    v->layernorm ? bench_layernorm(b, a) : bench_rmsnorm(b, a);
}

static void build_norm(bench *b, const void *given) {
    const variant *v = given;
    par_norm a = {.dtype = v->dtype, .m = v->m, .n = v->n, .eps = 1e-5f, .beta = v->beta};
    double old = v->beta == 0 ? (double)NAN : 1, spread = 1 + fabs(v->offset / v->magnitude);
    double rstd = fmin(1 / sqrt((double)a.eps), v->n < 7 ? 1e9 : 4 / v->magnitude);
    double dx = 16 * BENCH_U * sqrt((double)v->n + 3) * spread * rstd + 4 * BENCH_U;
    build_forward(b, v, &a);
    if (v->alias_dy)
        a.dy = a.dx = bench_inout(b, "dx in dy", v->dtype, v->m, v->n, v->n, 1, dx);
    else
        a.dy = bench_in(b, v->dtype, v->m, v->n, v->n, 1);
    if (v->alias_add)
        a.add = a.dx = bench_inout(b, "dx in add", v->dtype, v->m, v->n, v->n, 1, dx);
    else if (!v->alias_dy)
        a.dx = bench_out(b, "dx", v->dtype, v->m, v->n, v->n, dx);
    if (!v->no_dw) {
        double dw = 4 * spread * bench_sum(v->m + 3, 1) + (double)v->m * xhat_error(v);
        a.dw = bench_inout(b, "dw", PAR_F32, 1, v->n, v->n, old, dw);
        if (v->layernorm)
            a.db = bench_inout(b, "db", PAR_F32, 1, v->n, v->n, old, bench_sum(v->m + 3, 1));
    }
    v->layernorm ? bench_layernorm_backward(b, &a) : bench_rmsnorm_backward(b, &a);
}

static void compare_norm(variant v) {
    bench_compare(build_norm, &v, "%s %s %lld x %lld beta %g magnitude %g offset %g",
                  v.layernorm ? "layernorm" : "rmsnorm", par_dtype_name(v.dtype), (long long)v.m,
                  (long long)v.n, (double)v.beta, v.magnitude, v.offset);
}

static void norms(bool layernorm) {
    static const int64_t widths[] = {1, 7, 8, 9, 1031}, heights[] = {1, 3, 8, 67};
    static const double magnitudes[] = {1, 1e-1, 30};
    for (int i = 0; i < 5 * 4 * 3; i++) {
        variant v = {.dtype = dtypes[i % 3],
                     .n = widths[i / 3 % 5],
                     .m = heights[i / 15],
                     .layernorm = layernorm};
        v.beta = i & 1 ? 1 : 0;
        v.alias_dy = i % 4 == 1;
        v.alias_add = i % 4 == 2;
        v.no_dw = i % 8 == 5;
        v.magnitude = magnitudes[i % 7 % 3];
        compare_norm(v);
    }
    /* wide rows that allow 16-byte accesses, many of them, and rows that do not fit into a block's
     * registers */
    for (int i = 0; i < 3 * 4; i++) {
        static const int64_t wide[] = {264, 1040, 4104, 8200}, rows[] = {150, 67, 5, 5};
        variant v = {
            .dtype = dtypes[i % 3], .n = wide[i / 3], .m = rows[i / 3], .layernorm = layernorm};
        v.beta = i & 1 ? 1 : 0;
        v.alias_dy = i % 2;
        v.magnitude = 1;
        compare_norm(v);
    }
    /* E[x²] - E[x]² in fp32 would be wrong in its second digit here. */
    if (layernorm)
        compare_norm((variant){.m = 5, .n = 64, .magnitude = 1, .offset = 1000, .layernorm = true});
}

static void test_layernorm(void) {
    if (bench_ready()) norms(true);
}

static void test_rmsnorm(void) {
    if (bench_ready()) norms(false);
}

/* For the differences: loss = sum dy · y. */
typedef struct {
    int64_t m, n;
    double eps;
    bool layernorm;
    double x[ORACLE_MAX], w[ORACLE_MAX], b[ORACLE_MAX], dy[ORACLE_MAX], y[ORACLE_MAX];
} problem;

static void forward(const problem *p, double *y) {
    for (int64_t i = 0; i < p->m; i++) {
        const double *x = p->x + i * p->n;
        double mean = 0, square = 0;
        for (int64_t j = 0; j < p->n; j++) mean += x[j];
        mean = p->layernorm ? mean / (double)p->n : 0;
        for (int64_t j = 0; j < p->n; j++) square += x[j] * x[j];
        double denominator = sqrt(square / (double)p->n - mean * mean + p->eps);
        for (int64_t j = 0; j < p->n; j++)
            y[i * p->n + j] = (x[j] - mean) / denominator * p->w[j] + (p->layernorm ? p->b[j] : 0);
    }
}

static double loss(const void *given) {
    static double y[ORACLE_MAX];
    const problem *p = given;
    double sum = 0;
    forward(p, y);
    for (int64_t i = 0; i < p->m * p->n; i++) sum += y[i] * p->dy[i];
    return sum;
}

static void oracle_case(int64_t m, int64_t n, bool layernorm) {
    static problem p;
    static float x[ORACLE_MAX], w[ORACLE_MAX], b[ORACLE_MAX], dy[ORACLE_MAX], y[ORACLE_MAX],
        dx[ORACLE_MAX], dw[ORACLE_MAX], db[ORACLE_MAX], mean[ORACLE_MAX], rstd[ORACLE_MAX];
    static double g[ORACLE_MAX];
    p.m = m;
    p.n = n;
    p.layernorm = layernorm;
    p.eps = (double)1e-3f;
    oracle_noise(p.x, x, m * n, 1);
    oracle_noise(p.w, w, n, 2);
    oracle_noise(p.b, b, n, 3);
    oracle_noise(p.dy, dy, m * n, 4);
    par_norm a = {.m = m,
                  .n = n,
                  .eps = 1e-3f,
                  .x = x,
                  .w = w,
                  .y = y,
                  .rstd = rstd,
                  .dy = dy,
                  .dx = dx,
                  .dw = dw};
    if (layernorm) a.b = b, a.mean = mean, a.db = db;
    layernorm ? bench_layernorm(bench_alone(), &a) : bench_rmsnorm(bench_alone(), &a);
    layernorm ? bench_layernorm_backward(bench_alone(), &a)
              : bench_rmsnorm_backward(bench_alone(), &a);
    forward(&p, p.y);
    oracle_check("y of a norm", y, p.y, m * n);
    oracle_differentiate(loss, &p, p.x, m * n, g);
    oracle_check("dx of a norm", dx, g, m * n);
    oracle_differentiate(loss, &p, p.w, n, g);
    oracle_check("dw of a norm", dw, g, n);
    oracle_differentiate(loss, &p, p.b, n, g);
    if (layernorm) oracle_check("db of a norm", db, g, n);
}

static void test_oracle(void) {
    if (!bench_ready()) return;
    for (int layernorm = 0; layernorm < 2; layernorm++) {
        oracle_case(5, 8, layernorm);
        oracle_case(3, 17, layernorm);
        oracle_case(1, 33, layernorm);
    }
}

const harness_case norm_cases[] = {
    {.name = "layernorm", .run = test_layernorm},
    {.name = "rmsnorm", .run = test_rmsnorm},
    {.name = "oracle_norm", .run = test_oracle},
};
const int n_norm_cases = HARNESS_COUNT(norm_cases);
