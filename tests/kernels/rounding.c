/*
 * The bits that a backend rounds to and widens from, against kernels/half.h, which
 * tests/kernels/half.c holds against the definition: all patterns of 16 bits, and 2^20 of fp32:
 * each upper half with 16 lower halves, so that subnormals, NaNs with and without payload,
 * infinities, overflow, and ties of bf16 and fp16 with their neighbours are among them. A NaN keeps
 * its sign and the payload that fits, except on a device, where it is some quiet NaN.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "kernels/half.h"

enum {
    N = 1 << 20,
    REST = 37
}; /* so many elements that large updates take their own way; no whole vectors */

static const par_dtype dtypes[] = {PAR_BF16, PAR_F16};

static float pattern(int64_t i) {
    static const uint16_t lower[] = {0x0000, 0x0001, 0x0fff, 0x1000, 0x1001, 0x2000,
                                     0x2fff, 0x3000, 0x3001, 0x7fff, 0x8000, 0x8001,
                                     0x9000, 0xb000, 0xf000, 0xffff};
    return par__bits_f32((uint32_t)(i % N / 16) << 16 | lower[i % 16]);
}

static uint16_t narrow(par_dtype dtype, float x) {
    return dtype == PAR_BF16 ? par__f32_to_bf16(x) : par__f32_to_f16(x);
}

static bool is_quiet(par_dtype dtype, uint16_t h) {
    uint16_t bits = dtype == PAR_BF16 ? 0x7fc0 : 0x7e00;
    return (h & bits) == bits;
}

/* Counts wrong elements and reports the first. */
static void check_narrow(const char *what, par_dtype dtype, const float *x, const uint16_t *h,
                         int64_t n) {
    bool device = strcmp(bench_subject->name, "cuda") == 0;
    int64_t wrong = 0, first = 0;
    for (int64_t i = 0; i < n; i++) {
        bool same = h[i] == narrow(dtype, x[i]) || (device && isnan(x[i]) && is_quiet(dtype, h[i]));
        if (!same && wrong++ == 0) first = i;
    }
    CHECK(wrong == 0, "%s: %lld of %lld wrong; 0x%08x is 0x%04x in %s, not 0x%04x", what,
          (long long)wrong, (long long)n, (unsigned)par__f32_bits(x[first]), h[first],
          par_dtype_name(dtype), narrow(dtype, x[first]));
}

static void test_narrow(void) {
    if (!bench_ready()) return;
    float *x = malloc((N + REST) * sizeof *x);
    uint16_t *h = malloc((N + REST) * sizeof *h);
    CHECK(x && h, "no memory");
    bench b = {.backend = bench_subject};
    for (int64_t i = 0; i < N + REST; i++) x[i] = pattern(i);
    for (int t = 0; t < 2; t++) {
        bench_cast(&b, &(par_cast){PAR_F32, dtypes[t], N + REST, 1, x, h});
        check_narrow("cast", dtypes[t], x, h, N + REST);
    }
    bench_destroy(&b);
    free(x), free(h);
}

static void test_widen(void) {
    enum { ALL = 65536 };
    static uint16_t h[ALL];
    static float x[ALL];
    if (!bench_ready()) return;
    bench b = {.backend = bench_subject};
    for (int i = 0; i < ALL; i++) h[i] = (uint16_t)i;
    for (int t = 0; t < 2; t++) {
        bench_cast(&b, &(par_cast){dtypes[t], PAR_F32, ALL, 1, h, x});
        for (int i = 0; i < ALL; i++) {
            float y = dtypes[t] == PAR_BF16 ? par__bf16_to_f32(h[i]) : par__f16_to_f32(h[i]);
            bool same = isnan(y) ? isnan(x[i]) : par__f32_bits(x[i]) == par__f32_bits(y);
            CHECK(same, "%s 0x%04x is %.9g, not %.9g", par_dtype_name(dtypes[t]), (unsigned)i,
                  (double)x[i], (double)y);
        }
    }
    bench_destroy(&b);
}

/* With a gradient of zero the weights are the master, rounded; an infinite master becomes NaN (0 ·
 * inf). They begin at a multiple of a vector's size, and one element behind it. */
static void weights_case(par_op op, par_dtype dtype, int skew, float *data, uint16_t *h) {
    const int64_t n = N + REST;
    par_step step = bench_step(1e-3f, 1, 2, 0.9, 0.99);
    par_update a = {.dtype = dtype, .n = n, .step = &step, .b1 = 0.9, .b2 = 0.99, .eps = 1e-8f};
    a.master = data, a.grad = data + n, a.m = data + 2 * n, a.v = data + 3 * n,
    a.weights = h + skew;
    memset(data + n, 0, 3 * (size_t)n * sizeof *data);
    for (int64_t i = 0; i < n; i++) data[i] = pattern(i);
    h[n + skew] = 0x1234;
    bench b = {.backend = bench_subject};
    op == PAR_OP_SGD ? bench_sgd(&b, &a) : bench_adamw(&b, &a);
    check_narrow(par_op_name(op), dtype, data, h + skew, n);
    for (int64_t i = 0; i < n; i++)
        CHECK(!isfinite(pattern(i)) || data[i] == pattern(i), "%s: master %lld is %.9g, not %.9g",
              par_op_name(op), (long long)i, (double)data[i], (double)pattern(i));
    CHECK(h[n + skew] == 0x1234, "%s writes behind the weights", par_op_name(op));
    bench_destroy(&b);
}

static void test_weights(void) {
    const size_t size = (N + REST) * sizeof(float);
    if (!bench_ready()) return;
    float *data = malloc(4 * size);
    uint16_t *h = aligned_alloc(64, (N + 64) * sizeof *h);
    CHECK(data && h, "no memory");
    for (int i = 0; i < 4; i++) {
        weights_case(PAR_OP_ADAMW, dtypes[i / 2], i % 2, data, h);
        weights_case(PAR_OP_SGD, dtypes[i / 2], i % 2, data, h);
    }
    free(data), free(h);
}

const harness_case rounding_cases[] = {
    {.name = "narrow", .run = test_narrow},
    {.name = "widen", .run = test_widen},
    {.name = "weights", .run = test_weights},
};
const int n_rounding_cases = HARNESS_COUNT(rounding_cases);
