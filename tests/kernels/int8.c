/*
 * Weights of 8 bits: quantising has ref's bits and is within half a scale of what it came from; a
 * product is that of the weights that the integers and scales say.
 */
#include <math.h>
#include <string.h>

#include "bench.h"

static const par_dtype dtypes[] = {PAR_F32, PAR_BF16, PAR_F16};

typedef struct {
    par_dtype dtype, dtype_c;
    int64_t m, n, k, pad;
    bool bias;
    double magnitude;
} int8_variant;

static void build_quantize(bench *b, const void *variant) {
    const int8_variant *v = variant;
    par_quantize a = {.dtype = v->dtype, .m = v->m, .n = v->k, .ldx = v->k + v->pad};
    a.x = bench_in(b, v->dtype, a.m, a.n, a.ldx, v->magnitude);
    a.q = bench_out(b, "q", PAR_U8, a.m, a.n, a.n, BENCH_EXACT);
    a.scales = bench_out(b, "scales", PAR_F32, a.m, par_int8_groups(a.n), par_int8_groups(a.n),
                         BENCH_EXACT);
    bench_quantize(b, &a);
}

/* k products of mean size magnitude / 2 · 1 / 2 · 127 / 2, and a bias */
static void build_gemm_int8(bench *b, const void *variant) {
    const int8_variant *v = variant;
    int64_t groups = par_int8_groups(v->k);
    par_gemm_int8 g = {.dtype = v->dtype,
                       .dtype_c = v->dtype_c,
                       .m = v->m,
                       .n = v->n,
                       .k = v->k,
                       .lda = v->k + v->pad,
                       .ldc = v->n + 2 * v->pad};
    g.a = bench_in(b, v->dtype, g.m, g.k, g.lda, v->magnitude);
    g.q = bench_in(b, PAR_U8, g.n, g.k, g.k, 127);
    g.scales = bench_in(b, PAR_F32, g.n, groups, groups, 1);
    g.bias = v->bias ? bench_in(b, v->dtype, 1, g.n, g.n, v->magnitude) : NULL;
    g.c = bench_out(b, "c", v->dtype_c, g.m, g.n, g.ldc,
                    bench_sum(g.k, v->magnitude * 127 / 8) + 4 * BENCH_U * v->magnitude);
    bench_gemm_int8(b, &g);
}

static void test_against_ref(void) {
    static const int64_t rows[] = {1, 2, 7}, columns[] = {1, 3, 64, 131},
                         inner[] = {0, 1, 9, 127, 128, 129, 392};
    static const double magnitudes[] = {1, 1e-3, 30};
    if (!bench_ready_for(PAR_OP_GEMM_INT8)) return;
    for (int i = 0; i < 3 * 4 * 7; i++) {
        int8_variant v = {.dtype = dtypes[i % 3], .m = rows[i % 3], .n = columns[i / 3 % 4]};
        v.k = inner[i / 12];
        v.pad = i % 2 * 3;
        v.bias = i % 5 < 3;
        v.magnitude = magnitudes[i / 2 % 3];
        v.dtype_c = i % 4 == 1 ? PAR_F32 : v.dtype;
        bench_compare(build_quantize, &v, "quantize %s [%lld, %lld] magnitude %g",
                      par_dtype_name(v.dtype), (long long)v.m, (long long)v.k, v.magnitude);
        bench_compare(build_gemm_int8, &v, "gemm_int8 %s to %s, %lld x %lld x %lld, bias %d",
                      par_dtype_name(v.dtype), par_dtype_name(v.dtype_c), (long long)v.m,
                      (long long)v.n, (long long)v.k, v.bias);
    }
    /* several tasks, for several threads */
    const int8_variant large = {PAR_F32, PAR_F32, 2, 1031, 300, 0, true, 1};
    bench_compare(build_gemm_int8, &large, "gemm_int8 of several tasks");
    /* long rows, whose activations a version may hold in pieces, and more rows than it has at
     * once */
    for (int i = 0; i < 6; i++) {
        static const int64_t many[] = {1, 3, 9};
        const int8_variant v = {dtypes[i % 3],     PAR_F32, many[i / 2], 5,
                                4481 + i % 2 * 15, 0,       true,        1};
        bench_compare(build_gemm_int8, &v, "gemm_int8 of %lld rows of %lld", (long long)v.m,
                      (long long)v.k);
    }
}

enum { N = PAR_INT8_GROUP + 2 };

static void quantize_row(const float *x, int8_t *q, float *scales) {
    const par_quantize a = {
        .dtype = PAR_F32, .m = 1, .n = N, .x = x, .ldx = N, .q = q, .scales = scales};
    bench_quantize(bench_alone(), &a);
}

/* Two roundings: of 127 / max and of the product, each of a unit of a value up to 127. */
static void test_definition(void) {
    float x[N], scales[2];
    int8_t q[N];
    if (!bench_ready_for(PAR_OP_QUANTIZE)) return;
    for (int i = 0; i < N; i++) x[i] = 0.3f * harness_noise(5, (uint64_t)i);
    x[17] = -0.7f, x[PAR_INT8_GROUP] = 0, x[PAR_INT8_GROUP + 1] = 5;
    quantize_row(x, q, scales);
    CHECK(q[17] == -127 && q[N - 1] == 127 && q[N - 2] == 0, "the largest are not 127");
    CHECK(scales[0] == 0.7f / 127 && scales[1] == 5.0f / 127, "scales are %g and %g",
          (double)scales[0], (double)scales[1]);
    for (int i = 0; i < N; i++) {
        double s = (double)scales[i / PAR_INT8_GROUP], off = fabs((double)q[i] * s - (double)x[i]);
        CHECK(off <= s * (0.5 + 3 * 127 * 2 * BENCH_U), "element %d is off by %g scales", i,
              off / s);
    }
}

/* Groups without a scale: zeros and what is as small, and what is not finite, which stays so. */
static void test_corners(void) {
    float x[N] = {0}, scales[2], c = 0, ones[N];
    int8_t q[N];
    if (!bench_ready_for(PAR_OP_QUANTIZE)) return;
    for (int i = 0; i < N; i++) ones[i] = 1;
    x[3] = 0x1p-101f, x[N - 1] = 1;
    quantize_row(x, q, scales);
    CHECK(scales[0] == 0 && q[3] == 0 && scales[1] > 0, "a group of almost zeros has scale %g",
          (double)scales[0]);
    for (int kind = 0; kind < 2; kind++) {
        x[3] = kind ? INFINITY : NAN;
        quantize_row(x, q, scales);
        CHECK(isnan(scales[0]) && q[3] == 0 && q[N - 1] == 127, "NaN or inf has scale %g",
              (double)scales[0]);
        const par_gemm_int8 g = {.dtype = PAR_F32,
                                 .dtype_c = PAR_F32,
                                 .m = 1,
                                 .n = 1,
                                 .k = N,
                                 .a = ones,
                                 .lda = N,
                                 .q = q,
                                 .scales = scales,
                                 .c = &c,
                                 .ldc = 1};
        bench_gemm_int8(bench_alone(), &g);
        CHECK(isnan(c), "a product with a weight that is not finite is %g", (double)c);
    }
}

const harness_case int8_cases[] = {
    {.name = "int8", .run = test_against_ref},
    {.name = "int8_definition", .run = test_definition},
    {.name = "int8_corners", .run = test_corners},
};
const int n_int8_cases = HARNESS_COUNT(int8_cases);
