/* The optimizer's operations against ref: updates, sums of squares, casts; and updates against
 * their recurrences in double. Bounds: bench.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

static const par_dtype dtypes[] = {PAR_F32, PAR_BF16, PAR_F16};
static const int64_t sizes[] = {1, 7, 8, 9, 1031};
static const double magnitudes[] = {1, 1e-2, 30};

typedef struct {
    par_dtype dtype, dtype_y;
    int64_t n, t;
    double a;
    float scale;
    bool weights;
    int skew;
} shape;

/*
 * m and v: a few roundings of their terms. The update is lr times at most about 10 (sqrt(v) of
 * noise that m did not see is not small), each factor within 16 half-units; the decay and the sum
 * round at the size of w.
 */
static void build_adamw(bench *b, const void *variant) {
    const shape *v = variant;
    par_step step = bench_step(1e-2f, v->scale, v->t, 0.9, 0.999);
    par_update a = {.dtype = v->dtype, .n = v->n, .step = &step, .b1 = 0.9, .b2 = 0.999};
    double w = 8 * BENCH_U + 2e-2 * 64 * BENCH_U;
    a.eps = 1e-8f;
    a.decay = 0.1f;
    b->skew = v->skew;
    a.master = bench_inout(b, "master", PAR_F32, 1, v->n, v->n, 1, w);
    a.grad = bench_in(b, PAR_F32, 1, v->n, v->n, v->a);
    a.m = bench_inout(b, "m", PAR_F32, 1, v->n, v->n, v->a, 8 * BENCH_U * v->a);
    a.v = bench_inout(b, "v", PAR_F32, 1, v->n, v->n, v->a * v->a, 8 * BENCH_U * v->a * v->a);
    bench_offset(b, a.v, 1.25 * v->a * v->a); /* at least a² / 4: sqrt(v) is not tiny beside m */
    if (v->weights) a.weights = bench_out(b, "weights", v->dtype, 1, v->n, v->n, w);
    bench_adamw(b, &a);
}

static void build_sgd(bench *b, const void *variant) {
    const shape *v = variant;
    par_step step = bench_step(1e-1f, v->scale, v->t, 0.9, 0);
    par_update a = {.dtype = v->dtype, .n = v->n, .step = &step, .b1 = 0.9, .decay = 0.1f};
    double bound = 16 * BENCH_U * (1 + v->a);
    b->skew = v->skew;
    a.master = bench_inout(b, "master", PAR_F32, 1, v->n, v->n, 1, bound);
    a.grad = bench_in(b, PAR_F32, 1, v->n, v->n, v->a);
    a.m = bench_inout(b, "m", PAR_F32, 1, v->n, v->n, v->t == 1 ? (double)NAN : v->a, bound);
    if (v->weights) a.weights = bench_out(b, "weights", v->dtype, 1, v->n, v->n, bound);
    bench_sgd(b, &a);
}

static void test_update(void) {
    static const int64_t times[] = {1, 2, 10, 100000};
    if (!bench_ready()) return;
    for (int i = 0; i < 5 * 3 * 4 * 2; i++) {
        shape v = {.dtype = dtypes[i % 3],
                   .n = sizes[i / 3 % 5],
                   .a = magnitudes[i % 7 % 3],
                   .t = times[i / 15 % 4]};
        v.skew = i / 60;
        v.scale = i & 1 ? 1 : 0.37f;
        v.weights = i & 2;
        bench_compare(build_adamw, &v, "adamw %s n %lld t %lld a %g", par_dtype_name(v.dtype),
                      (long long)v.n, (long long)v.t, v.a);
        bench_compare(build_sgd, &v, "sgd %s n %lld t %lld a %g", par_dtype_name(v.dtype),
                      (long long)v.n, (long long)v.t, v.a);
    }
}

static void build_cast(bench *b, const void *variant) {
    const shape *v = variant;
    par_cast a = {.dtype_x = v->dtype, .dtype_y = v->dtype_y, .n = v->n, .scale = v->scale};
    b->skew = v->skew;
    a.x = bench_in(b, v->dtype, 1, v->n, v->n, v->a);
    a.y = bench_out(b, "y", v->dtype_y, 1, v->n, v->n, BENCH_EXACT);
    bench_cast(b, &a);
    if (v->dtype != v->dtype_y) return;
    a.x = a.y = bench_inout(b, "y in x", v->dtype, 1, v->n, v->n, v->a, BENCH_EXACT);
    bench_cast(b, &a);
}

static void test_cast(void) {
    static const double wide[] = {1, 1e-6, 6e4};
    if (!bench_ready()) return;
    for (int i = 0; i < 5 * 3 * 3 * 2 * 2; i++) {
        shape v = {.dtype = dtypes[i % 3], .dtype_y = dtypes[i / 3 % 3], .n = sizes[i / 9 % 5]};
        v.a = wide[i % 7 % 3];
        v.scale = i / 45 & 1 ? 1.7f : 1;
        v.skew = i / 90;
        bench_compare(build_cast, &v, "cast %s to %s n %lld scale %g a %g", par_dtype_name(v.dtype),
                      par_dtype_name(v.dtype_y), (long long)v.n, (double)v.scale, v.a);
    }
}

/* From m = v = 0 and g = 1, v is 1 - b2 and m 1 - b1: rounding b2 to fp32 first would be off
 * by 1.3e-5 of it. */
static void test_betas(void) {
    static const double b2[] = {0.95, 0.999, 0.99999};
    if (!bench_ready()) return;
    for (int i = 0; i < 3; i++) {
        float w = 1, g = 1, m = 0, v = 0;
        par_update a = {.n = 1, .master = &w, .grad = &g, .m = &m, .v = &v, .b1 = 0.9, .b2 = b2[i]};
        par_step step = bench_step(1e-3f, 1, 1, 0.9, b2[i]);
        a.eps = 1e-8f;
        a.step = &step;
        bench b = {.backend = bench_subject};
        bench_adamw(&b, &a);
        CHECK(fabs((double)m / (1 - 0.9) - 1) <= 2 * BENCH_U &&
                  fabs((double)v / (1 - b2[i]) - 1) <= 2 * BENCH_U,
              "m, v are %.9g, %.9g, not %.9g, %.9g", (double)m, (double)v, 1 - 0.9, 1 - b2[i]);
    }
}

/* Closed form: integers up to 1000 have exact squares; the sums are exact in double. skew: the
 * first element. */
static void norm2_case(int64_t n, int skew) {
    static float all[50001];
    float *x = all + skew;
    double out[2] = {3, 4}, expected = 3;
    for (int64_t i = 0; i < n; i++) {
        x[i] = (float)(i % 1000) - 500;
        if (i == 3) x[i] = INFINITY;
        if (i == 6) x[i] = NAN;
        if (i == 1029 || i == 40000) x[i] = -INFINITY;
        if (isfinite(x[i])) expected += (double)x[i] * x[i];
    }
    double bad = 4 + (n > 3) + (n > 6) + (n > 1029) + (n > 40000);
    bench b = {.backend = bench_subject};
    bench_norm2(&b, &(par_norm2){1, &(par_norm2_vector){n, x, out}});
    CHECK(out[0] == expected && out[1] == bad, "norm2 of %lld: %.17g and %g, not %.17g and %g",
          (long long)n, out[0], out[1], expected, bad);
}

static void test_norm2(void) {
    if (!bench_ready()) return;
    for (int s = 0; s < 5; s++) norm2_case(sizes[s], s & 1);
    norm2_case(50000, 0);
    norm2_case(50000, 1);
    /* squares beyond fp32 are not infinite */
    float large[9];
    double out[2] = {0, 0};
    for (int i = 0; i < 9; i++) large[i] = 1e30f;
    bench b = {.backend = bench_subject};
    bench_norm2(&b, &(par_norm2){1, &(par_norm2_vector){9, large, out}});
    CHECK(fabs(out[0] / 9e60 - 1) < 1e-6 && out[1] == 0, "norm2 of 9 times 1e30 is %g, %g bad",
          out[0], out[1]);
}

/* A list has the bits of its vectors one by one, also where it is longer than a launch of a device
 * takes; some are empty, and some do not lie on 16 bytes. */
static void test_norm2_list(void) {
    enum { N = 140, LONGEST = 40000 };
    static float x[LONGEST + N];
    static double alone[N][2], together[N][2];
    par_norm2_vector vectors[N];
    if (!bench_ready()) return;
    for (int i = 0; i < LONGEST + N; i++) x[i] = harness_noise(5, (uint64_t)i);
    x[17] = INFINITY;
    for (int i = 0; i < N; i++) {
        int64_t n = i == 130 ? LONGEST : i % 7 == 3 ? 0 : i * 13 % 1031;
        bench b = {.backend = bench_subject};
        vectors[i] = (par_norm2_vector){n, x + i, alone[i]};
        bench_norm2(&b, &(par_norm2){1, &vectors[i]});
        vectors[i].out = together[i];
    }
    bench b = {.backend = bench_subject};
    bench_norm2(&b, &(par_norm2){N, vectors});
    for (int i = 0; i < N; i++)
        CHECK(memcmp(alone[i], together[i], sizeof alone[i]) == 0,
              "vector %d of %lld: %.17g and %g in a list, %.17g and %g alone", i,
              (long long)vectors[i].n, together[i][0], together[i][1], alone[i][0], alone[i][1]);
}

/* The closed form of the first step, and the recurrence in double for some more. */
static void test_adamw(void) {
    float w = 2, m = 0, v = 0, grad = 0;
    double lr = (double)1e-2f, b1 = (double)0.9f, b2 = (double)0.999f, ow = 2, om = 0, ov = 0;
    par_step step;
    par_update a = {.n = 1,
                    .master = &w,
                    .grad = &grad,
                    .m = &m,
                    .v = &v,
                    .step = &step,
                    .b1 = 0.9f,
                    .b2 = 0.999f};
    if (!bench_ready()) return;
    a.eps = 1e-8f;
    a.decay = 0.5f;
    for (int t = 1; t <= 20; t++) {
        step = bench_step(1e-2f, 0.5f, t, b1, b2);
        grad = harness_noise(1, (uint64_t)t);
        double g = 0.5 * (double)grad;
        om = b1 * om + (1 - b1) * g;
        ov = b2 * ov + (1 - b2) * g * g;
        double mhat = om / (1 - pow(b1, t)), vhat = ov / (1 - pow(b2, t));
        ow = ow * (1 - lr * 0.5) - lr * mhat / (sqrt(vhat) + (double)1e-8f);
        bench_adamw(bench_alone(), &a);
        if (t == 1) /* whatever the gradient: -lr sign(g) after the decay */
            CHECK(fabs(w - (2 * (1 - lr * 0.5) - lr * copysign(1, g))) < 1e-6,
                  "the first step of adamw is %g", (double)w - 2);
        CHECK(fabs(w - ow) <= 1e-7 * (3 + t) * 2, "adamw after %d steps is %.9g, not %.9g", t,
              (double)w, ow);
    }
}

static void test_sgd(void) {
    float w = 1, m = NAN, grad = 1;
    double ow = 1, om = 0;
    par_step step;
    par_update a = {
        .n = 1, .master = &w, .grad = &grad, .m = &m, .step = &step, .b1 = 0.5f, .decay = 0.25f};
    if (!bench_ready()) return;
    for (int t = 1; t <= 5;
         t++) { /* powers of two: exact in fp32 for five steps, but for the last bits */
        step = bench_step(0.125f, 2, t, 0.5, 0);
        om = (t == 1 ? 0 : 0.5 * om) + 2 + 0.25 * ow;
        ow -= 0.125 * om;
        bench_sgd(bench_alone(), &a);
        CHECK(fabs(w - ow) < 1e-6 && fabs(m - om) < 1e-6,
              "sgd after %d steps is %.9g, m %.9g, not %.9g, %.9g", t, (double)w, (double)m, ow,
              om);
    }
}

const harness_case update_cases[] = {
    {.name = "update", .run = test_update},         {.name = "cast", .run = test_cast},
    {.name = "betas", .run = test_betas},           {.name = "norm2", .run = test_norm2},
    {.name = "norm2_list", .run = test_norm2_list}, {.name = "oracle_adamw", .run = test_adamw},
    {.name = "oracle_sgd", .run = test_sgd},
};
const int n_update_cases = HARNESS_COUNT(update_cases);
