/* Operations on matrices against ref: gemm, column sum, norms, rotary embedding, table rows.
 * Bounds: bench.h. */
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
    g.c = bench_inout(b, "c", v->dtype_c, v->m, v->n, g.ldc,
                      v->beta == 0 ? (double)NAN : v->magnitude,
                      bench_sum(v->k, v->magnitude / 4) + 4 * BENCH_U * v->magnitude);
    bench_gemm(b, &g);
}

static void compare_gemm(gemm_variant v) {
    bench_compare(
        build_gemm, &v,
        "gemm %s to %s ta %d tb %d bias %d %lld x %lld x %lld pad %lld beta %g magnitude %g",
        par_dtype_name(v.dtype), par_dtype_name(v.dtype_c), v.ta, v.tb, v.bias, (long long)v.m,
        (long long)v.n, (long long)v.k, (long long)v.pad, (double)v.beta, v.magnitude);
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
 * A slope of GELU is at most 1.13, and the sum of k products of mean size 1/4 is off as in gemm;
 * its rounding to dtype before GELU, and a slope at a rounded aux, are one unit of a number below
 * sqrt(k) / 2 + 1 more.
 */
static void build_epilogue(bench *b, const void *variant) {
    const epilogue_variant *v = variant;
    double unit = v->dtype == PAR_F32 ? 0x1p-22 : v->dtype == PAR_BF16 ? 0x1p-7 : 0x1p-10;
    double absolute = 1.2 * (bench_sum(v->k, 0.25) + unit * (sqrt((double)v->k) / 2 + 1));
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
    compare_gemm((gemm_variant){PAR_F32, PAR_F32, false, true, true, 67, 129, 261, 3, 1, 1});
}

static void test_gemm_16_bits(void) {
    if (!bench_ready()) return;
    for (int i = 1; i < 3; i++) {
        gemm_sizes(dtypes[i], dtypes[i]);
        gemm_sizes(dtypes[i], PAR_F32);
        /* more than one block of rows, columns and depth */
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
    double magnitude, offset;
    bool layernorm, alias_dy, alias_add, no_dw;
} rows_variant;

static void build_column_sum(bench *b, const void *variant) {
    const rows_variant *v = variant;
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
        rows_variant v = {.dtype = dtypes[i % 3],
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

/*
 * Forward: mean and variance of n terms, (x - mean) loses offset / spread; xhat and w are of
 * order 1. Backward: g = dy w and two means of n terms, times rstd, which is about sqrt(3) /
 * magnitude, at n = 1 at most 1 / sqrt(eps); the factor 4 covers xhat up to 3 and w, dy up to 1. dw
 * adds m terms dy xhat, each off by the forward's error of xhat beside the errors of the sum
 * itself.
 */
static double xhat_error(const rows_variant *v) {
    return 4 * BENCH_U * sqrt((double)v->n + 3) * (2 + fabs(v->offset / v->magnitude));
}

static void norm_forward(bench *b, const rows_variant *v, par_norm *a) {
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

static void build_norm(bench *b, const void *variant) {
    const rows_variant *v = variant;
    par_norm a = {.dtype = v->dtype, .m = v->m, .n = v->n, .eps = 1e-5f, .beta = v->beta};
    double old = v->beta == 0 ? (double)NAN : 1, spread = 1 + fabs(v->offset / v->magnitude);
    double rstd = fmin(1 / sqrt((double)a.eps), v->n < 7 ? 1e9 : 4 / v->magnitude);
    double dx = 16 * BENCH_U * sqrt((double)v->n + 3) * spread * rstd + 4 * BENCH_U;
    norm_forward(b, v, &a);
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

static void compare_norm(rows_variant v) {
    bench_compare(build_norm, &v, "%s %s %lld x %lld beta %g magnitude %g offset %g",
                  v.layernorm ? "layernorm" : "rmsnorm", par_dtype_name(v.dtype), (long long)v.m,
                  (long long)v.n, (double)v.beta, v.magnitude, v.offset);
}

static void norms(bool layernorm) {
    static const int64_t widths[] = {1, 7, 8, 9, 1031}, heights[] = {1, 3, 8, 67};
    static const double magnitudes[] = {1, 1e-1, 30};
    for (int i = 0; i < 5 * 4 * 3; i++) {
        rows_variant v = {.dtype = dtypes[i % 3],
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
    /* wide rows that allow 16-byte accesses, and rows that do not fit into a block's registers */
    for (int i = 0; i < 3 * 3; i++) {
        static const int64_t wide[] = {1040, 4104, 8200};
        rows_variant v = {.dtype = dtypes[i % 3], .n = wide[i / 3], .m = 5, .layernorm = layernorm};
        v.beta = i & 1 ? 1 : 0;
        v.alias_dy = i % 2;
        v.magnitude = 1;
        compare_norm(v);
    }
    /* E[x²] - E[x]² in fp32 would be wrong in its second digit here. */
    if (layernorm)
        compare_norm(
            (rows_variant){.m = 5, .n = 64, .magnitude = 1, .offset = 1000, .layernorm = true});
}

static void test_layernorm(void) {
    if (bench_ready()) norms(true);
}

static void test_rmsnorm(void) {
    if (bench_ready()) norms(false);
}

typedef struct {
    par_dtype dtype;
    int64_t m, heads, head_size, T, first_row, pad;
    bool inverse;
} rope_variant;

static void build_rope(bench *b, const void *variant) {
    const rope_variant *v = variant;
    par_rope a = {
        .dtype = v->dtype, .m = v->m, .heads = v->heads, .head_size = v->head_size, .T = v->T};
    int64_t width = v->heads * v->head_size;
    a.first_row = v->first_row;
    a.inverse = v->inverse;
    a.ldx = width + v->pad;
    a.x = bench_inout(b, "x", v->dtype, v->m, width, a.ldx, 1, 4 * BENCH_U);
    a.cos = bench_in(b, PAR_F32, v->T, v->head_size / 2, v->head_size / 2, 1);
    a.sin = bench_in(b, PAR_F32, v->T, v->head_size / 2, v->head_size / 2, 1);
    bench_rope(b, &a);
}

static void test_rope(void) {
    static const int64_t sizes[] = {2, 6, 8, 18, 64}, rows[] = {1, 7, 9, 33};
    if (!bench_ready()) return;
    for (int i = 0; i < 5 * 4 * 3; i++) {
        rope_variant v = {dtypes[i % 3], rows[i / 3 % 4], 1 + i % 4, sizes[i / 12],
                          1 + i % 13,    i % 5,           i % 4,     i & 1};
        bench_compare(build_rope, &v, "rope %s m %lld D %lld T %lld", par_dtype_name(v.dtype),
                      (long long)v.m, (long long)v.head_size, (long long)v.T);
    }
    /* more heads than a block holds, and a head that is longer */
    for (int i = 0; i < 6; i++) {
        rope_variant v = {dtypes[i % 3], 3, i < 3 ? 17 : 2, i < 3 ? 64 : 1026, 5, 1, 3, false};
        bench_compare(build_rope, &v, "rope %s D %lld", par_dtype_name(v.dtype),
                      (long long)v.head_size);
    }
}

typedef struct {
    par_dtype dtype;
    int64_t m, n, rows, begin;
    bool positions, accumulate;
    float beta;
} embedding_variant;

static void build_embedding(bench *b, const void *variant) {
    const embedding_variant *v = variant;
    par_embedding a = {.dtype = v->dtype, .m = v->m, .n = v->n, .rows = v->rows, .begin = v->begin};
    a.first_row = 3;
    a.T = v->begin + v->rows + 2;
    a.accumulate = v->accumulate;
    a.beta = v->beta;
    /* ids on both sides of the range */
    if (!v->positions) a.ids = bench_ids(b, v->m, 0, v->begin + v->rows + 3);
    a.table = bench_in(b, v->dtype, v->rows, v->n, v->n, 1);
    a.y = bench_inout(b, "y", v->dtype, v->m, v->n, v->n, v->accumulate ? 1 : (double)NAN,
                      v->accumulate ? 2 * BENCH_U : BENCH_EXACT);
    bench_embedding(b, &a);
    a.dy = bench_in(b, v->dtype, v->m, v->n, v->n, 1);
    a.dtable = bench_inout(b, "dtable", PAR_F32, v->rows, v->n, v->n,
                           v->beta == 0 ? (double)NAN : 1, bench_sum(v->m + 1, 1));
    bench_embedding_backward(b, &a);
}

static void test_embedding(void) {
    static const int64_t sizes[] = {1, 7, 8, 9, 131};
    if (!bench_ready()) return;
    for (int i = 0; i < 5 * 5 * 3; i++) {
        embedding_variant v = {
            .dtype = dtypes[i % 3], .m = sizes[i / 3 % 5], .n = sizes[i / 15], .rows = 1 + i % 11};
        v.begin = i % 4 * 5;
        v.positions = i & 1;
        v.accumulate = i & 2;
        v.beta = i & 4 ? 1 : 0;
        bench_compare(build_embedding, &v, "embedding %s m %lld n %lld rows %lld begin %lld",
                      par_dtype_name(v.dtype), (long long)v.m, (long long)v.n, (long long)v.rows,
                      (long long)v.begin);
    }
    /* many tokens an id, and more ids than two digits of 8 bits */
    for (int i = 0; i < 3 * 2; i++) {
        embedding_variant v = {.dtype = dtypes[i % 3], .m = 4500, .n = 16, .rows = 300, .begin = 7};
        if (i >= 3) v.m = 300, v.rows = 66000;
        bench_compare(build_embedding, &v, "embedding %s m %lld rows %lld", par_dtype_name(v.dtype),
                      (long long)v.m, (long long)v.rows);
    }
}

const harness_case matrix_cases[] = {
    {.name = "gemm_fp32", .run = test_gemm_fp32},
    {.name = "gemm_16_bits", .run = test_gemm_16_bits},
    {.name = "gemm_epilogue", .run = test_gemm_epilogue},
    {.name = "gemm_bias_gradient", .run = test_gemm_bias_gradient},
    {.name = "column_sum", .run = test_column_sum},
    {.name = "layernorm", .run = test_layernorm},
    {.name = "rmsnorm", .run = test_rmsnorm},
    {.name = "rope", .run = test_rope},
    {.name = "embedding", .run = test_embedding},
};
const int n_matrix_cases = HARNESS_COUNT(matrix_cases);
