/*
 * Sums whose order could show: the same inputs give the same bits again, and a table row's gradient
 * is the fp32 sum of its tokens in their order, where they are few. Inputs are noise of several
 * magnitudes, whose fp32 sum changes with the order of its terms.
 */
#include <math.h>
#include <string.h>

#include "bench.h"

enum { M = 1500, N = 24, ROWS = 270, LONG = 60000 };

static float x[M * N], w[N], dy[M * N], mean[M], rstd[M];
static int32_t ids[M];

static void fill(float *to, int64_t n, uint64_t seed) {
    for (int64_t i = 0; i < n; i++)
        to[i] =
            harness_noise(seed, (uint64_t)i) * powf(4, 6 * harness_noise(seed + 100, (uint64_t)i));
}

static void make_inputs(void) {
    fill(x, M * N, 1);
    fill(w, N, 2);
    fill(dy, M * N, 3);
    for (int i = 0; i < M; i++) {
        mean[i] = harness_noise(4, (uint64_t)i);
        rstd[i] = 2 + harness_noise(5, (uint64_t)i);
        float u = (harness_noise(6, (uint64_t)i) + 1) / 2;
        ids[i] = i % 3 ? (int32_t)(u * u * (ROWS - 1)) : 17; /* one id has a third of the tokens */
    }
}

static void check_same(const char *what, const void *first, const void *again, size_t nbytes) {
    CHECK(memcmp(first, again, nbytes) == 0, "%s has other bits when it is run again", what);
}

static void test_repeat(void) {
    static float y[2][N], dx[2][M * N], dw[2][N], db[2][N], stats[3 * M], lse[2][M], sums[2][2],
        far[LONG];
    double out[2][2] = {{0}};
    if (!bench_ready()) return;
    make_inputs();
    fill(stats, 3 * (int64_t)M, 7);
    fill(far, LONG, 8);
    for (int i = 0; i < M; i++) stats[3 * i + 1] = 1 + fabsf(stats[3 * i + 1]);
    for (int run = 0; run < 2; run++) {
        par_column_sum sum = {.m = M, .n = N, .x = x, .ldx = N, .y = y[run]};
        bench_column_sum(bench_alone(), &sum);
        par_norm norm = {.m = M, .n = N, .x = x, .w = w, .mean = mean, .rstd = rstd, .dy = dy};
        norm.dx = dx[run], norm.dw = dw[run], norm.db = db[run];
        bench_layernorm_backward(bench_alone(), &norm);
        par_xent loss = {
            .m = M, .p = 1, .targets = ids, .stats = stats, .lse = lse[run], .sums = sums[run]};
        bench_xent_loss(bench_alone(), &loss);
        par_norm2_vector long_one = {LONG, far, out[run]};
        bench_norm2(bench_alone(), &(par_norm2){1, &long_one});
    }
    check_same("column_sum", y[0], y[1], sizeof y[0]);
    check_same("dx of layernorm", dx[0], dx[1], sizeof dx[0]);
    check_same("dw of layernorm", dw[0], dw[1], sizeof dw[0]);
    check_same("db of layernorm", db[0], db[1], sizeof db[0]);
    check_same("xent_loss", sums[0], sums[1], sizeof sums[0]);
    check_same("norm2", out[0], out[1], sizeof out[0]);
}

/* ref adds in double and rounds once: its bits are others. */
static void test_embedding_order(void) {
    static float dtable[ROWS * N], expected[ROWS * N];
    if (!bench_ready()) return;
    if (bench_is_ref) {
        harness_skip("ref adds in double");
        return;
    }
    make_inputs();
    fill(expected, ROWS * N, 9);
    memcpy(dtable, expected, sizeof dtable);
    for (int i = 0; i < M; i++) ids[i] = i * 7 % (ROWS / 9); /* more of one id may be cut */
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) expected[ids[i] * N + j] += dy[i * N + j];
    par_embedding a = {
        .m = M, .n = N, .rows = ROWS, .ids = ids, .dy = dy, .dtable = dtable, .beta = 1};
    bench_embedding_backward(bench_alone(), &a);
    for (int i = 0; i < ROWS * N; i++)
        CHECK(dtable[i] == expected[i],
              "dtable[%d,%d] is %.9g, the sum in the tokens' order is %.9g", i / N, i % N,
              (double)dtable[i], (double)expected[i]);
}

const harness_case repeat_cases[] = {
    {.name = "repeat", .run = test_repeat},
    {.name = "embedding_order", .run = test_embedding_order},
};
const int n_repeat_cases = HARNESS_COUNT(repeat_cases);
