/* GELU and SwiGLU against ref, and against their formulas. Bounds: bench.h, oracle.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "oracle.h"

static const par_dtype dtypes[] = {PAR_F32, PAR_BF16, PAR_F16};
static const int64_t sizes[] = {1, 7, 8, 9, 1031};
static const int64_t widths[] = {1, 7, 8, 9, 1031, 1040}; /* the last one allows 16-byte accesses */
static const double magnitudes[] = {1, 1e-2, 30};

typedef struct {
    par_dtype dtype;
    int64_t m, n;
    double a;
    bool erf;
    int skew;
} shape;

/*
 * exp, tanh and erf within 2^-20 relative to 1 (16 half-units of fp32), times |x|, |dy|. The factor
 * 1 + tanh cancels for negative x; there gelu is small and the bound absolute.
 */
static void build_gelu(bench *b, const void *variant) {
    const shape *v = variant;
    par_gelu a = {.dtype = v->dtype, .n = v->n, .erf = v->erf};
    double y = 16 * BENCH_U * fmin(v->a, 8), dx = 32 * BENCH_U;
    b->skew = v->skew;
    a.x = bench_in(b, v->dtype, 1, v->n, v->n, v->a);
    a.y = bench_out(b, "y", v->dtype, 1, v->n, v->n, y);
    bench_gelu(b, &a);
    a.dy = bench_in(b, v->dtype, 1, v->n, v->n, 1);
    a.dx = bench_out(b, "dx", v->dtype, 1, v->n, v->n, dx);
    bench_gelu_backward(b, &a);
    a.dy = a.dx = bench_inout(b, "dx in dy", v->dtype, 1, v->n, v->n, 1, dx);
    bench_gelu_backward(b, &a);
    a.x = a.y = bench_inout(b, "y in x", v->dtype, 1, v->n, v->n, v->a, y);
    bench_gelu(b, &a);
}

static void test_gelu(void) {
    if (!bench_ready()) return;
    for (int i = 0; i < 5 * 3 * 3 * 2 * 2; i++) {
        shape v = {.dtype = dtypes[i % 3],
                   .n = sizes[i / 3 % 5],
                   .a = magnitudes[i / 15 % 3],
                   .erf = i / 45 & 1};
        v.skew = i / 90;
        bench_compare(build_gelu, &v, "gelu %s n %lld erf %d a %g", par_dtype_name(v.dtype),
                      (long long)v.n, v.erf, v.a);
    }
}

/* silu and its derivative within 16 half-units of max(|gate|, 1), times |up| and |dy| */
static void build_swiglu(bench *b, const void *variant) {
    const shape *v = variant;
    par_swiglu a = {.dtype = v->dtype, .m = v->m, .n = v->n};
    b->skew = v->skew;
    a.x = bench_in(b, v->dtype, v->m, 2 * v->n, 2 * v->n, v->a);
    a.y = bench_out(b, "y", v->dtype, v->m, v->n, v->n, 16 * BENCH_U * v->a * v->a);
    bench_swiglu(b, &a);
    a.dy = bench_in(b, v->dtype, v->m, v->n, v->n, 1);
    a.dx = bench_out(b, "dx", v->dtype, v->m, 2 * v->n, 2 * v->n, 32 * BENCH_U * v->a);
    bench_swiglu_backward(b, &a);
}

static void test_swiglu(void) {
    if (!bench_ready()) return;
    for (int i = 0; i < 6 * 3 * 3 * 2; i++) {
        shape v = {.dtype = dtypes[i % 3],
                   .m = 1 + i % 4,
                   .n = widths[i / 3 % 6],
                   .a = magnitudes[i / 18 % 3]};
        v.skew = i / 54;
        bench_compare(build_swiglu, &v, "swiglu %s m %lld n %lld a %g", par_dtype_name(v.dtype),
                      (long long)v.m, (long long)v.n, v.a);
    }
}

static double gelu(double x, bool erf_form) {
    /* 1 + erf(x / sqrt 2) = erfc(-x / sqrt 2); 1 + tanh z = 2 / (1 + exp(-2 z)) */
    if (erf_form) return x * erfc(-x / sqrt(2)) / 2;
    return x / (1 + exp(-2 * sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * pow(x, 3))));
}

static double silu(double x) {
    return x * (1 + tanh(x / 2)) / 2;
}

static double slope(double (*f)(double), double x) {
    return (f(x + 1e-5) - f(x - 1e-5)) / 2e-5;
}

static double gelu_tanh(double x) {
    return gelu(x, false);
}

static double gelu_erf(double x) {
    return gelu(x, true);
}

static void test_oracle(void) {
    enum { N = 801 };
    static float x[2 * N], y[N], dy[N], dx[2 * N];
    static double oracle[2 * N];
    if (!bench_ready()) return;
    for (int form = 0; form < 2; form++) {
        for (int i = 0; i < N; i++)
            x[i] = (float)(i - 400) / 50, dy[i] = harness_noise(1, (uint64_t)i);
        par_gelu a = {.n = N, .erf = form, .x = x, .y = y, .dy = dy, .dx = dx};
        bench_gelu(bench_alone(), &a);
        bench_gelu_backward(bench_alone(), &a);
        for (int i = 0; i < N; i++) oracle[i] = gelu((double)x[i], form);
        oracle_check("gelu", y, oracle, N);
        for (int i = 0; i < N; i++)
            oracle[i] = dy[i] * slope(form ? gelu_erf : gelu_tanh, (double)x[i]);
        oracle_check("dx of gelu", dx, oracle, N);
    }
    for (int i = 0; i < N; i++)
        x[i] = (float)(i - 400) / 25, x[N + i] = harness_noise(2, (uint64_t)i);
    par_swiglu a = {.m = 1, .n = N, .x = x, .y = y, .dy = dy, .dx = dx};
    bench_swiglu(bench_alone(), &a);
    bench_swiglu_backward(bench_alone(), &a);
    for (int i = 0; i < N; i++) oracle[i] = silu((double)x[i]) * x[N + i];
    oracle_check("swiglu", y, oracle, N);
    for (int i = 0; i < N; i++) {
        oracle[i] = dy[i] * slope(silu, (double)x[i]) * x[N + i];
        oracle[N + i] = dy[i] * silu((double)x[i]);
    }
    oracle_check("dx of swiglu", dx, oracle, 2 * N);
}

const harness_case activation_cases[] = {
    {.name = "gelu", .run = test_gelu},
    {.name = "swiglu", .run = test_swiglu},
    {.name = "oracle_activation", .run = test_oracle},
};
const int n_activation_cases = HARNESS_COUNT(activation_cases);
