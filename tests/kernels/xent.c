/* Cross-entropy against ref, and over a split vocabulary against one softmax in double and its
 * differences. Bounds: bench.h, oracle.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "oracle.h"

static const par_dtype dtypes[] = {PAR_F32, PAR_BF16, PAR_F16};

typedef struct {
    par_dtype dtype;
    int64_t m, n, valid, begin, pad;
    double a;
    bool masked;
} xent_variant;

/*
 * exp(x - max) with |x - max| <= 2 a: relative 8 u + 4 u a; a sum of up to n terms of at most 1.
 * The backward's probability is at most 1 and carries the difference of x - lse.
 */
static void build_xent(bench *b, const void *variant) {
    static const float seed = 0.125f;
    const xent_variant *v = variant;
    par_xent a = {.dtype = v->dtype,
                  .m = v->m,
                  .n = v->n,
                  .valid = v->valid,
                  .begin = v->begin,
                  .p = 1,
                  .seed = &seed};
    double relative = (8 + 4 * v->a) * BENCH_U, n = (double)v->valid;
    a.ldx = v->n + v->pad;
    a.logits = bench_inout(b, "dlogits", v->dtype, v->m, v->n, a.ldx, v->a,
                           (double)seed * (2 * relative + bench_sum(v->valid, 1) / fmax(n, 1)));
    a.targets = bench_ids(b, v->m, -2, v->begin + v->valid + 2);
    /* columns from `valid` on are never read */
    for (int64_t i = 0; i < v->m; i++)
        for (int64_t j = v->valid; j < v->n; j++)
            bench_store(a.logits, v->dtype, i * a.ldx + j, (double)NAN);
    for (int64_t j = 0; v->masked && j < v->valid - (v->valid + 7) / 8; j++)
        bench_store(a.logits, v->dtype, j, (double)-INFINITY);
    a.stats = bench_out(b, "stats", PAR_F32, v->m, 3, 3, n * relative + bench_sum(v->valid, 1));
    a.lse = bench_out(b, "lse", PAR_F32, 1, v->m, v->m,
                      2 * relative + bench_sum(v->valid, 1) / fmax(n, 1));
    a.sums = bench_out(b, "sums", PAR_F32, 1, 2, 2,
                       (double)v->m * (2 * relative + bench_sum(v->valid, 1) / fmax(n, 1)) +
                           bench_sum(v->m, v->a));
    bench_xent_stats(b, &a);
    if (v->valid == 0) {
        for (int64_t i = 0; i < v->m; i++)
            CHECK(isinf(a.stats[3 * i]) && a.stats[3 * i] < 0 && a.stats[3 * i + 1] == 0 &&
                      a.stats[3 * i + 2] == 0,
                  "stats of no column are {%g, %g, %g}, not {-inf, 0, 0}", (double)a.stats[3 * i],
                  (double)a.stats[3 * i + 1], (double)a.stats[3 * i + 2]);
    }
    bench_xent_loss(b, &a);
    /* with no column at all the lse is -inf, and its loss +inf or nothing: only a split vocabulary
     * has such a rank */
    if (v->valid == 0)
        for (int64_t i = 0; i < v->m; i++) a.lse[i] = 1;
    if (v->valid == 0) a.sums[0] = a.sums[1] = 0;
    bench_xent_backward(b, &a);
}

static void test_xent(void) {
    /* the last row is longer than what a kernel looks at together */
    static const int64_t rows[] = {1, 7, 9}, columns[] = {1, 7, 8, 9, 1031, 5003};
    static const double magnitudes[] = {1, 1e-2, 30};
    if (!bench_ready()) return;
    for (int i = 0; i < 3 * 6 * 3; i++) {
        xent_variant v = {.dtype = dtypes[i % 3], .m = rows[i / 18], .n = columns[i / 3 % 6]};
        v.begin = i % 4 * 100;
        v.pad = i % 5;
        v.a = magnitudes[i % 7 % 3];
        v.valid = i % 6 == 5 ? 0 : i % 2 ? v.n : v.n - v.n / 3;
        v.masked = i % 4 == 3; /* the first logits of the first row are -inf */
        bench_compare(build_xent, &v, "xent %s m %lld n %lld valid %lld begin %lld a %g",
                      par_dtype_name(v.dtype), (long long)v.m, (long long)v.n, (long long)v.valid,
                      (long long)v.begin, v.a);
    }
}

/* Rising logits of a long row, whose first half is masked: a maximum that is found late scales what
 * was summed before. Where a logit is NaN, before all finite ones or behind them, so is the sum. */
static void test_rising(void) {
    enum { N = 5003 };
    static float x[N];
    static const int32_t target = N - 1;
    float stats[3];
    double sum = 0;
    if (!bench_ready()) return;
    for (int j = 0; j < N; j++) x[j] = j < N / 2 ? -INFINITY : (float)j / 64;
    for (int j = N / 2; j < N; j++) sum += exp((double)x[j] - (double)x[N - 1]);
    par_xent a = {.m = 1, .n = N, .valid = N, .ldx = N, .p = 1, .logits = x, .targets = &target};
    a.stats = stats;
    bench_xent_stats(bench_alone(), &a);
    CHECK(stats[0] == x[N - 1] && fabs((double)stats[1] - sum) <= oracle_bound() * sum &&
              stats[2] == x[N - 1],
          "stats of rising logits are {%g, %.9g, %g}, not {%g, %.9g, %g}", (double)stats[0],
          (double)stats[1], (double)stats[2], (double)x[N - 1], sum, (double)x[N - 1]);
    for (int i = 0; i < 3; i++) {
        float before = x[i * (N - 1) / 2];
        x[i * (N - 1) / 2] = NAN;
        bench_xent_stats(bench_alone(), &a);
        CHECK(isnan(stats[1]), "with logit %d NaN the sum is %g", i * (N - 1) / 2,
              (double)stats[1]);
        x[i * (N - 1) / 2] = before;
    }
}

enum { ROWS = 6, VOCABULARY = 23 };

typedef struct {
    double x[ROWS * VOCABULARY];
    const int32_t *targets;
} xent_problem;

static double xent_loss(const void *problem) {
    const xent_problem *p = problem;
    double loss = 0;
    for (int i = 0; i < ROWS; i++) {
        double sum = 0;
        if (p->targets[i] < 0) continue;
        for (int j = 0; j < VOCABULARY; j++) sum += exp(p->x[i * VOCABULARY + j]);
        loss += log(sum) - p->x[i * VOCABULARY + p->targets[i]];
    }
    return loss;
}

/* Rows one after the other add up to what all at once give: the count exactly, the loss within one
 * rounding of fp32 per addition. */
static void xent_loss_of_blocks(par_xent a) {
    float lse[ROWS], all[2], sums[2] = {NAN, NAN};
    par_xent row = a;
    a.lse = lse;
    a.sums = all;
    bench_xent_loss(bench_alone(), &a);
    row.m = 1;
    row.sums = sums;
    for (int i = 0; i < ROWS; i++) {
        row.targets = a.targets + i;
        row.stats = a.stats + 3 * (ptrdiff_t)i;
        row.lse = lse + i;
        row.accumulate = i > 0;
        bench_xent_loss(bench_alone(), &row);
    }
    CHECK(sums[1] == all[1] && fabsf(sums[0] - all[0]) <= ROWS * 0x1p-24f * all[0],
          "row by row {%.9g, %g}, at once {%.9g, %g}", (double)sums[0], (double)sums[1],
          (double)all[0], (double)all[1]);
}

static void xent_split(const xent_problem *problem, int p, int per_rank, const double *gradient) {
    static float logits[4][ROWS * (VOCABULARY + 3)], stats[4 * ROWS * 3], lse[ROWS], sums[2],
        dx[ROWS * VOCABULARY];
    static double scaled[ROWS * VOCABULARY];
    static const float seed = 0.25f;
    int ld = per_rank + 2;
    par_xent a = {.m = ROWS,
                  .n = per_rank,
                  .ldx = ld,
                  .targets = problem->targets,
                  .p = p,
                  .lse = lse,
                  .sums = sums};
    a.seed = &seed;
    for (int pass = 0; pass < 2; pass++) {
        for (int r = 0; r < p; r++) {
            a.begin = (int64_t)r * per_rank;
            a.valid = VOCABULARY - a.begin < per_rank ? VOCABULARY - a.begin : per_rank;
            if (a.valid < 0) a.valid = 0;
            a.logits = logits[r];
            a.stats = stats + (ptrdiff_t)r * ROWS * 3;
            for (int i = 0; pass == 0 && i < ROWS * ld; i++) {
                bool valid = i % ld < a.valid;
                logits[r][i] =
                    valid ? (float)problem->x[i / ld * VOCABULARY + a.begin + i % ld] : NAN;
            }
            pass == 0 ? bench_xent_stats(bench_alone(), &a)
                      : bench_xent_backward(bench_alone(), &a);
            for (int i = 0; pass == 1 && i < ROWS * per_rank; i++) {
                int64_t row = i / per_rank, column = i % per_rank;
                float d = logits[r][row * ld + column];
                if (column < a.valid) dx[row * VOCABULARY + a.begin + column] = d;
                CHECK(column < a.valid || d == 0, "padding column %lld has gradient %g",
                      (long long)column, (double)d);
            }
        }
        a.stats = stats;
        if (pass == 0 && p == 1) xent_loss_of_blocks(a);
        if (pass == 0) bench_xent_loss(bench_alone(), &a);
    }
    double loss = xent_loss(problem);
    CHECK(fabs(sums[0] - loss) <= oracle_bound() * loss && sums[1] == 4,
          "p = %d: loss %.9g of %g rows, not %.9g of 4", p, (double)sums[0], (double)sums[1], loss);
    for (int i = 0; i < ROWS * VOCABULARY; i++) scaled[i] = 0.25 * gradient[i];
    oracle_check("dlogits of a split vocabulary", dx, scaled, ROWS * VOCABULARY);
    for (int i = 0; i < VOCABULARY; i++)
        CHECK(dx[VOCABULARY + i] == 0, "an ignored row has a gradient");
}

static void test_oracle(void) {
    static const int32_t targets[ROWS] = {0, -1, 22, 11, -100, 7};
    static xent_problem problem;
    static double gradient[ROWS * VOCABULARY];
    static float x[ROWS * VOCABULARY];
    if (!bench_ready()) return;
    problem.targets = targets;
    oracle_noise(problem.x, x, ROWS * VOCABULARY, 5);
    for (int i = 0; i < ROWS * VOCABULARY; i++) problem.x[i] = (double)(x[i] * 4);
    oracle_differentiate(xent_loss, &problem, problem.x, ROWS * VOCABULARY, gradient);
    xent_split(&problem, 1, 23, gradient);
    xent_split(&problem, 1, 24, gradient);
    xent_split(&problem, 2, 12, gradient);
    xent_split(&problem, 3, 8, gradient);
    xent_split(&problem, 4, 8, gradient); /* the last rank has no valid column */
}

const harness_case xent_cases[] = {
    {.name = "xent", .run = test_xent},
    {.name = "xent_rising", .run = test_rising},
    {.name = "oracle_xent", .run = test_oracle},
};
const int n_xent_cases = HARNESS_COUNT(xent_cases);
