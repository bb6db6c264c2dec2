/*
 * What kernels read of a step where it lies: an update that the vote skips changes no bit of any
 * array, and dropout whose first sample is split in a base in memory and a rest in the arguments
 * keeps the same elements as with the sum in the arguments, bit for bit.
 */
#include <math.h>
#include <string.h>

#include "bench.h"

static const par_dtype dtypes[] = {PAR_F32, PAR_BF16, PAR_F16};

static void fill(void *to, par_dtype dtype, int64_t n, uint64_t seed) {
    for (int64_t i = 0; i < n; i++)
        bench_store(to, dtype, i, (double)harness_noise(seed, (uint64_t)i));
}

/* Infinite gradients and a NaN scale: a skipped step is one whose numbers are of no use. */
static void skip_case(par_op op, par_dtype dtype, int64_t n) {
    enum { MAX = 5003 };
    static float master[2][MAX], grad[MAX], m[2][MAX], v[2][MAX], weights[2][MAX];
    par_step step = bench_step(NAN, NAN, 3, 0.9, 0.99);
    step.skip = 1;
    fill(master[0], PAR_F32, n, 1);
    fill(m[0], PAR_F32, n, 2);
    fill(v[0], PAR_F32, n, 3);
    fill(weights[0], dtype, n, 4);
    for (int64_t i = 0; i < n; i++) grad[i] = INFINITY;
    memcpy(master[1], master[0], sizeof master[0]);
    memcpy(m[1], m[0], sizeof m[0]);
    memcpy(v[1], v[0], sizeof v[0]);
    memcpy(weights[1], weights[0], sizeof weights[0]);
    par_update a = {
        .dtype = dtype, .n = n, .master = master[0], .weights = weights[0], .grad = grad};
    a.m = m[0];
    a.v = v[0];
    a.step = &step;
    a.b1 = 0.9, a.b2 = 0.99, a.eps = 1e-8f, a.decay = 0.1f;
    op == PAR_OP_SGD ? bench_sgd(bench_alone(), &a) : bench_adamw(bench_alone(), &a);
    CHECK(memcmp(master[0], master[1], sizeof master[0]) == 0, "%s wrote master weights",
          par_op_name(op));
    CHECK(memcmp(m[0], m[1], sizeof m[0]) == 0, "%s wrote m", par_op_name(op));
    CHECK(memcmp(v[0], v[1], sizeof v[0]) == 0, "%s wrote v", par_op_name(op));
    CHECK(memcmp(weights[0], weights[1], sizeof weights[0]) == 0, "%s wrote weights",
          par_op_name(op));
    /* the same call without the flag changes them: the comparison above sees writes */
    step = bench_step(0.5f, 1, 3, 0.9, 0.99);
    for (int64_t i = 0; i < n; i++) grad[i] = 1;
    op == PAR_OP_SGD ? bench_sgd(bench_alone(), &a) : bench_adamw(bench_alone(), &a);
    CHECK(memcmp(master[0], master[1], sizeof master[0]) != 0, "%s without skip changed nothing",
          par_op_name(op));
}

static void test_skip(void) {
    static const int64_t sizes[] = {1, 9, 5003};
    if (!bench_ready()) return;
    for (int i = 0; i < 9; i++) {
        skip_case(PAR_OP_ADAMW, dtypes[i % 3], sizes[i / 3]);
        skip_case(PAR_OP_SGD, dtypes[i % 3], sizes[i / 3]);
    }
}

/* A base beyond 32 bits, at the carry into its upper half. */
static const int64_t base = INT64_C(0x1fffffffe), rest = 3;

static par_dropout dropout_of(int split) {
    const par_dropout whole = {0.3f, 77, NULL, base + rest, 9}, parts = {0.3f, 77, &base, rest, 9};
    return split ? parts : whole;
}

static void residual_case(par_dtype dtype, int64_t n) {
    enum { M = 13, N = 64 };
    static float x[M * N], y[2][M * N];
    fill(x, dtype, M * n, 5);
    for (int split = 0; split < 2; split++) {
        par_residual a = {
            .dtype = dtype, .m = M, .n = n, .T = 4, .first_row = 2, .x = x, .y = y[split]};
        a.dropout = dropout_of(split);
        bench_residual(bench_alone(), &a);
    }
    CHECK(memcmp(y[0], y[1], sizeof y[0]) == 0,
          "residual %s n %lld drops other elements with a base", par_dtype_name(dtype),
          (long long)n);
}

static void attention_case(par_dtype dtype, int64_t D) {
    enum { B = 2, T = 37, H = 2, MAX = B * T * H * 136 };
    static float q[MAX], k[MAX], v[MAX], d_o[MAX], out[2][5][MAX];
    int64_t n = B * T * H * D;
    fill(q, dtype, n, 6);
    fill(k, dtype, n, 7);
    fill(v, dtype, n, 8);
    fill(d_o, dtype, n, 9);
    for (int split = 0; split < 2; split++) {
        par_attention a = {.dtype = dtype, .B = B, .T = T, .H = H, .K = H, .D = D, .scale = 0.1f};
        a.dropout = dropout_of(split);
        a.ldq = a.ldk = a.ldv = a.ldo = a.ldd_o = a.lddq = a.lddk = a.lddv = H * D;
        a.q = q, a.k = k, a.v = v, a.d_o = d_o;
        a.o = out[split][0], a.lse = out[split][1], a.dq = out[split][2], a.dk = out[split][3];
        a.dv = out[split][4];
        bench_attention(bench_alone(), &a);
        bench_attention_backward(bench_alone(), &a);
    }
    for (int i = 0; i < 5; i++)
        CHECK(memcmp(out[0][i], out[1][i], sizeof out[0][i]) == 0,
              "attention %s D %lld: output %d has other bits with a base", par_dtype_name(dtype),
              (long long)D, i);
}

static void test_sample_base(void) {
    if (!bench_ready()) return;
    for (int i = 0; i < 3; i++) {
        residual_case(dtypes[i], 64);
        residual_case(dtypes[i], 7);
    }
    if (!bench_ready_for(PAR_OP_ATTENTION) || !bench_ready_for(PAR_OP_ATTENTION_BACKWARD)) return;
    for (int i = 0; i < 3; i++) {
        attention_case(dtypes[i], 8);
        attention_case(dtypes[i], 136);
    }
}

const harness_case step_cases[] = {
    {.name = "step_skip", .run = test_skip},
    {.name = "step_sample_base", .run = test_sample_base},
};
const int n_step_cases = HARNESS_COUNT(step_cases);
