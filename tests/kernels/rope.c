/* Rotary embedding against ref, and as products of complex numbers. Bounds: bench.h, oracle.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "oracle.h"

static const par_dtype dtypes[] = {PAR_F32, PAR_BF16, PAR_F16};

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

/* A pair (x1, x2) is the complex x1 + i x2 times exp(i angle); inverse is the way back. */
static void test_oracle(void) {
    enum { M = 11, T = 4, HEADS = 3, HALF = 4, WIDTH = HEADS * 2 * HALF };
    static float x[M * WIDTH], before[M * WIDTH], cosine[T * HALF], sine[T * HALF];
    static double oracle[M * WIDTH];
    if (!bench_ready()) return;
    for (int i = 0; i < M * WIDTH; i++) x[i] = before[i] = harness_noise(1, (uint64_t)i);
    for (int i = 0; i < T * HALF; i++) {
        double angle = (double)(i / HALF) * pow(10000, -(double)(i % HALF) / HALF);
        cosine[i] = (float)cos(angle);
        sine[i] = (float)sin(angle);
    }
    for (int r = 0; r < M; r++)
        for (int h = 0; h < HEADS; h++)
            for (int i = 0; i < HALF; i++) {
                int at = r * WIDTH + h * 2 * HALF + i;
                double angle = (double)((6 + r) % T) * pow(10000, -(double)i / HALF);
                double radius = hypot((double)x[at], (double)x[at + HALF]);
                double phase = atan2((double)x[at + HALF], (double)x[at]) + angle;
                oracle[at] = radius * cos(phase);
                oracle[at + HALF] = radius * sin(phase);
            }
    par_rope a = {.m = M,
                  .heads = HEADS,
                  .head_size = 2 * HALF,
                  .T = T,
                  .first_row = 6,
                  .x = x,
                  .ldx = WIDTH};
    a.cos = cosine;
    a.sin = sine;
    bench_rope(bench_alone(), &a);
    oracle_check("rope", x, oracle, M * WIDTH);
    a.inverse = true;
    bench_rope(bench_alone(), &a);
    for (int i = 0; i < M * WIDTH; i++) oracle[i] = before[i];
    oracle_check("rope and back", x, oracle, M * WIDTH);
}

const harness_case rope_cases[] = {
    {.name = "rope", .run = test_rope},
    {.name = "oracle_rope", .run = test_oracle},
};
const int n_rope_cases = HARNESS_COUNT(rope_cases);
