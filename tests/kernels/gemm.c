/* Products against ref and by definition, their epilogues, and the column sum that is the gradient
 * of a bias. Bounds: bench.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

static const par_dtype dtypes[] = {PAR_F32, PAR_BF16, PAR_F16};

typedef struct {
    par_dtype dtype, dtype_c;
    bool ta, tb, bias;
    int64_t m, n, k, pad;
    float beta;
    double magnitude;
} gemm_variant;

/*
 * The most of a sum of k products of two numbers in (-1, 1), in four standard deviations: one
 * product has a variance of 1/9. It is never above k.
 */
static double largest_sum(int64_t k) {
    return fmin((double)k, 4 * sqrt((double)k) / 3);
}

/*
 * A library may round to the type of c between product, old c and bias: cuBLASLt does where rows
 * are not of whole 16 bytes. Each rounding is off by half a unit of the terms so far, not of the
 * result, which may be much smaller: two of them, of terms up to |product| + |old c|.
 */
static double rounded_terms(const gemm_variant *v) {
    if (v->dtype_c == PAR_F32 || (!v->bias && v->beta == 0)) return 0;
    return bench_unit(v->dtype_c) * v->magnitude * (largest_sum(v->k) + (double)v->beta);
}

static void build_gemm(bench *b, const void *variant) {
    const gemm_variant *v = variant;
    par_gemm g = {.dtype = v->dtype,
                  .dtype_c = v->dtype_c,
                  .ta = v->ta,
                  .tb = v->tb,
                  .m = v->m,
                  .n = v->n,
                  .k = v->k};
    int64_t rows_a = v->ta ? v->k : v->m, cols_a = v->ta ? v->m : v->k;
    int64_t rows_b = v->tb ? v->n : v->k, cols_b = v->tb ? v->k : v->n;
    g.lda = cols_a + v->pad;
    g.ldb = cols_b + 2 * v->pad;
    g.ldc = v->n + 3 * v->pad;
    g.beta = v->beta;
    g.a = bench_in(b, v->dtype, rows_a, cols_a, g.lda, v->magnitude);
    g.b = bench_in(b, v->dtype, rows_b, cols_b, g.ldb, 1);
    g.bias = v->bias ? bench_in(b, v->dtype, 1, v->n, v->n, v->magnitude) : NULL;
    /* k products of mean size magnitude / 4, bias and old c */
    g.c = bench_inout(
        b, "c", v->dtype_c, v->m, v->n, g.ldc, v->beta == 0 ? (double)NAN : v->magnitude,
        bench_sum(v->k, v->magnitude / 4) + 4 * BENCH_U * v->magnitude + rounded_terms(v));
    bench_gemm(b, &g);
}

static void compare_gemm(gemm_variant v) {
    bench_compare(
        build_gemm, &v,
        "gemm %s to %s ta %d tb %d bias %d %lld x %lld x %lld pad %lld beta %g magnitude %g",
        par_dtype_name(v.dtype), par_dtype_name(v.dtype_c), v.ta, v.tb, v.bias, (long long)v.m,
        (long long)v.n, (long long)v.k, (long long)v.pad, (double)v.beta, v.magnitude);
}

/* Some rows with the rows of b, as a few texts are multiplied with weights. */
static void gemm_few(par_dtype dtype, par_dtype dtype_c) {
    static const int64_t columns[] = {3, 4, 70}, inner[] = {9, 33, 200};
    for (int i = 0; i < 4 * 3 * 3; i++) {
        gemm_variant v = {.dtype = dtype, .dtype_c = dtype_c, .tb = true, .magnitude = 1};
        v.m = 2 + i % 4;
        v.n = columns[i / 4 % 3];
        v.k = inner[i / 12];
        v.bias = i % 3 == 0;
        v.beta = i % 5 == 0;
        v.pad = i % 2;
        compare_gemm(v);
    }
}

/* All transposes, biases and betas cycle through the sizes. */
static void gemm_sizes(par_dtype dtype, par_dtype dtype_c) {
    static const int64_t sizes[] = {1, 7, 8, 9},
                         large[][3] = {{1031, 9, 7}, {9, 1031, 8}, {7, 9, 1031}, {5, 3, 0}};
    static const double magnitudes[] = {1, 1e-2, 30};
    int cycle = 0;
    gemm_variant v = {.dtype = dtype, .dtype_c = dtype_c};
    for (int i = 0; i < 64 + 4 * 16; i++, cycle++) {
        int j = i - 64;
        v.m = i < 64 ? sizes[i / 16] : large[j / 16][0];
        v.n = i < 64 ? sizes[i / 4 % 4] : large[j / 16][1];
        v.k = i < 64 ? sizes[i % 4] : large[j / 16][2];
        v.ta = (i < 64 ? i / 3 : j) & 1;
        v.tb = (i < 64 ? i / 3 : j) & 2;
        v.bias = (i < 64 ? i / 5 : j) & 4;
        v.beta = (i < 64 ? i / 7 : j) & 8 ? 1 : 0;
        v.pad = cycle % 3;
        v.magnitude = magnitudes[cycle % 3];
        compare_gemm(v);
    }
}

typedef struct {
    par_dtype dtype;
    par_epilogue epilogue;
    int64_t m, n, k;
    bool bias;
} epilogue_variant;

/*
 * Bounds of the epilogues. x, the product and its bias, is at most X = largest_sum(k) + 1.
 *
 * Before GELU: the sum of k products of mean size 1/4 is off as in gemm, and is rounded twice to
 * dtype, before and behind the bias, each half a unit of X; a slope of GELU is at most 1.13.
 *
 * GELU's tanh may be approximate. Error t of a tanh: in fp32 2^-13, where cuBLASLt showed 2^-17;
 * 2^-11 is what PTX allows tanh.approx.f32, but would let GELU by erf pass, 4.7e-4 off. In 16 bits
 * as PTX states for tanh.approx.f16 (2^-10.987) and bf16 (2^-8).
 * Forward, x/2 (1 + tanh u): t/2 · |x|, and from |x| = 4 on tanh is 1 in all types to 4e-5.
 * Backward, dy (1 + tanh u)/2 + dy x u' (1 - tanh² u)/2: dy · t · (1/2 + |x u'|) with
 * u' = 0.798 (1 + 0.134 x²); |aux| < 3 gives at most 5.8 t, and dy is the product, at most X.
 */
static double epilogue_bound(const epilogue_variant *v) {
    double t = v->dtype == PAR_F32 ? 0x1p-13 : v->dtype == PAR_BF16 ? 0x1p-8 : 0x1p-10;
    double X = largest_sum(v->k) + 1;
    double unit = v->dtype == PAR_F32 ? 2 * bench_unit(PAR_F32) : bench_unit(v->dtype);
    double before = 1.2 * (bench_sum(v->k, 0.25) + unit * X);
    return before + (v->epilogue == PAR_EPILOGUE_GELU ? t / 2 * fmin(X, 4) : 5.8 * t * X);
}

static void build_epilogue(bench *b, const void *variant) {
    const epilogue_variant *v = variant;
    double absolute = epilogue_bound(v);
    par_gemm g = {.dtype = v->dtype,
                  .dtype_c = v->dtype,
                  .tb = true,
                  .m = v->m,
                  .n = v->n,
                  .k = v->k,
                  .lda = v->k,
                  .ldb = v->k,
                  .ldc = v->n,
                  .epilogue = v->epilogue};
    g.a = bench_in(b, v->dtype, v->m, v->k, v->k, 1);
    g.b = bench_in(b, v->dtype, v->n, v->k, v->k, 1);
    g.bias = v->bias ? bench_in(b, v->dtype, 1, v->n, v->n, 1) : NULL;
    g.aux = v->epilogue == PAR_EPILOGUE_GELU
                ? bench_out(b, "aux", v->dtype, v->m, v->n, v->n, absolute)
                : (void *)(size_t)bench_in(b, v->dtype, v->m, v->n, v->n, 3);
    g.c = bench_out(b, "c", v->dtype, v->m, v->n, v->n, absolute);
    bench_gemm(b, &g);
}

static void test_gemm_epilogue(void) {
    static const int64_t sizes[][3] = {{1, 8, 1}, {7, 16, 9}, {33, 8, 31}, {8, 72, 65}};
    const par_gemm probe = {
        .m = 1, .n = 8, .k = 1, .lda = 1, .ldb = 8, .ldc = 8, .epilogue = PAR_EPILOGUE_GELU};
    size_t nbytes;
    if (!bench_ready()) return;
    if (par_gemm_prepare(bench_subject, &probe, &nbytes) == PAR_ERR_UNSUPPORTED) {
        harness_skip("%s has no epilogues", bench_subject->name);
        return;
    }
    for (int i = 0; i < 3 * 4 * 3; i++) {
        const int64_t *size = sizes[i / 3 % 4];
        epilogue_variant v = {
            dtypes[i % 3], i / 12 == 2 ? PAR_EPILOGUE_GELU_BACKWARD : PAR_EPILOGUE_GELU,
            size[0],       size[1],
            size[2],       i / 12 == 1};
        bench_compare(build_epilogue, &v,
                      "gemm with epilogue %d in %s, %lld x %lld x %lld, bias %d", (int)v.epilogue,
                      par_dtype_name(v.dtype), (long long)v.m, (long long)v.n, (long long)v.k,
                      v.bias);
    }
}

typedef struct {
    gemm_variant gemm;
    int *builds; /* the first is the reference */
} gradient_variant;

/* The reference is made by the two operations that the epilogue joins, each with its own bound. */
static void build_bias_gradient(bench *b, const void *variant) {
    const gradient_variant *made = variant;
    const gemm_variant *v = &made->gemm;
    bool apart = (*made->builds)++ == 0;
    double old = v->beta == 0 ? (double)NAN : v->magnitude;
    par_gemm g = {.dtype = v->dtype, .ta = true, .tb = v->tb, .m = v->m, .n = v->n, .k = v->k};
    g.lda = v->m + v->pad;
    g.ldb = (v->tb ? v->k : v->n) + 2 * v->pad;
    g.ldc = v->n + 3 * v->pad;
    g.beta = v->beta;
    g.a = bench_in(b, v->dtype, v->k, v->m, g.lda, v->magnitude);
    g.b = bench_in(b, v->dtype, v->tb ? v->n : v->k, v->tb ? v->k : v->n, g.ldb, 1);
    g.c = bench_inout(b, "c", PAR_F32, v->m, v->n, g.ldc, old,
                      bench_sum(v->k, v->magnitude / 4) + 4 * BENCH_U * v->magnitude);
    b->skew = (int)v->pad; /* sums that do not lie on 16 bytes */
    g.aux =
        bench_inout(b, "aux", PAR_F32, 1, v->m, v->m, old, bench_sum(v->k + 1, v->magnitude / 2));
    par_column_sum sum = {.dtype = v->dtype,
                          .m = v->k,
                          .n = v->m,
                          .x = g.a,
                          .ldx = g.lda,
                          .y = g.aux,
                          .beta = v->beta};
    if (!apart) g.epilogue = PAR_EPILOGUE_BIAS_GRADIENT;
    bench_gemm(b, &g);
    if (apart) bench_column_sum(b, &sum);
}

static void test_gemm_bias_gradient(void) {
    static const int64_t sizes[][3] = {{1, 1, 1},    {7, 9, 8},    {8, 16, 24},  {33, 5, 131},
                                       {1031, 9, 7}, {9, 1031, 8}, {7, 9, 1031}, {16, 32, 257},
                                       {5, 3, 0},    {5, 0, 3}};
    const par_gemm probe = {.ta = true,
                            .m = 1,
                            .n = 1,
                            .k = 1,
                            .lda = 1,
                            .ldb = 1,
                            .ldc = 1,
                            .epilogue = PAR_EPILOGUE_BIAS_GRADIENT};
    size_t nbytes;
    if (!bench_ready()) return;
    if (par_gemm_prepare(bench_subject, &probe, &nbytes) == PAR_ERR_UNSUPPORTED) {
        harness_skip("%s has no gradient of a bias as an epilogue", bench_subject->name);
        return;
    }
    for (int i = 0; i < 10 * 3 * 4; i++) {
        const int64_t *size = sizes[i / 12];
        gemm_variant v = {
            .dtype = dtypes[i % 3], .m = size[0], .n = size[1], .k = size[2], .magnitude = 1};
        v.beta = i / 3 & 1 ? 1 : 0;
        v.pad = i / 6 & 1 ? 1 + i % 3 : 0;
        v.tb = i / 12 & 1;
        int builds = 0;
        gradient_variant made = {v, &builds};
        bench_compare(build_bias_gradient, &made,
                      "gemm with bias gradient in %s, %lld x %lld x %lld, beta %g, pad %lld",
                      par_dtype_name(v.dtype), (long long)v.m, (long long)v.n, (long long)v.k,
                      (double)v.beta, (long long)v.pad);
    }
}

static void test_gemm_fp32(void) {
    if (!bench_ready()) return;
    gemm_sizes(PAR_F32, PAR_F32);
    gemm_few(PAR_F32, PAR_F32);
    compare_gemm((gemm_variant){PAR_F32, PAR_F32, false, true, true, 67, 129, 261, 3, 1, 1});
}

static void test_gemm_16_bits(void) {
    if (!bench_ready()) return;
    for (int i = 1; i < 3; i++) {
        gemm_sizes(dtypes[i], dtypes[i]);
        gemm_sizes(dtypes[i], PAR_F32);
        gemm_few(dtypes[i], dtypes[i]);
        gemm_few(dtypes[i], PAR_F32);
        if (bench_is_ref) continue;
        /* more than one block of rows, columns and depth, which ref does not have */
        compare_gemm(
            (gemm_variant){dtypes[i], dtypes[i], false, true, true, 1031, 1030, 5, 1, 1, 1});
        compare_gemm((gemm_variant){dtypes[i], PAR_F32, true, false, true, 1029, 1027, 3, 0, 1, 1});
        compare_gemm(
            (gemm_variant){dtypes[i], dtypes[i], true, false, false, 3, 1031, 4103, 1, 0, 1});
        compare_gemm((gemm_variant){dtypes[i], PAR_F32, false, true, true, 1027, 2, 4099, 2, 1, 1});
    }
}

typedef struct {
    par_dtype dtype;
    int64_t m, n, pad;
    float beta;
    double magnitude;
} sum_variant;

static void build_column_sum(bench *b, const void *variant) {
    const sum_variant *v = variant;
    par_column_sum s = {
        .dtype = v->dtype, .m = v->m, .n = v->n, .ldx = v->n + v->pad, .beta = v->beta};
    s.x = bench_in(b, v->dtype, v->m, v->n, s.ldx, v->magnitude);
    s.y = bench_inout(b, "y", PAR_F32, 1, v->n, v->n, v->beta == 0 ? (double)NAN : v->magnitude,
                      bench_sum(v->m + 1, v->magnitude / 2));
    bench_column_sum(b, &s);
}

static void test_column_sum(void) {
    static const int64_t sizes[] = {1, 7, 8, 9, 1031};
    if (!bench_ready()) return;
    for (int i = 0; i < 5 * 5 * 3; i++) {
        sum_variant v = {.dtype = dtypes[i % 3],
                         .m = sizes[i / 3 % 5],
                         .n = sizes[i / 15],
                         .pad = i % 4,
                         .magnitude = 1};
        v.beta = i & 1 ? 1 : 0;
        if (v.m * v.n > 100000) v.n = 33;
        bench_compare(build_column_sum, &v, "column_sum %s %lld x %lld", par_dtype_name(v.dtype),
                      (long long)v.m, (long long)v.n);
    }
}

static void test_oracle(void) {
    enum { M = 5, N = 7, L = 13 };
    static float a[M * L], b[L * N], bias[N], c[M * N];
    static double oracle[M * N];
    if (!bench_ready()) return;
    for (int i = 0; i < M * L; i++) a[i] = (float)(i % 7 - 3);
    for (int i = 0; i < L * N; i++) b[i] = (float)(i % 5 - 2);
    for (int j = 0; j < N; j++) bias[j] = (float)j;
    for (int t = 0; t < 4; t++) {
        bool ta = t & 1, tb = t & 2;
        par_gemm g = {.ta = ta,
                      .tb = tb,
                      .m = M,
                      .n = N,
                      .k = L,
                      .a = a,
                      .b = b,
                      .c = c,
                      .bias = bias,
                      .ldc = N,
                      .beta = 1};
        g.lda = ta ? M : L;
        g.ldb = tb ? L : N;
        for (int i = 0; i < M * N; i++) {
            double sum = 100 + i + i % N;
            for (int l = 0; l < L; l++)
                sum += (double)a[ta ? l * M + i / N : i / N * L + l] *
                       b[tb ? i % N * L + l : l * N + i % N];
            c[i] = (float)(100 + i);
            oracle[i] = sum;
        }
        bench_gemm(bench_alone(), &g);
        for (int i = 0; i < M * N; i++)
            CHECK(c[i] == (float)oracle[i], "gemm of integers, ta %d tb %d: c[%d] is %g, not %g",
                  ta, tb, i, (double)c[i], oracle[i]);
    }
}

const harness_case gemm_cases[] = {
    {.name = "gemm_fp32", .run = test_gemm_fp32},
    {.name = "gemm_16_bits", .run = test_gemm_16_bits},
    {.name = "gemm_epilogue", .run = test_gemm_epilogue},
    {.name = "gemm_bias_gradient", .run = test_gemm_bias_gradient},
    {.name = "column_sum", .run = test_column_sum},
    {.name = "oracle_gemm", .run = test_oracle},
};
const int n_gemm_cases = HARNESS_COUNT(gemm_cases);
