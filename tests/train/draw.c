/*
 * Drawing tokens against the exact distribution: Pearson's chi-square over many draws, with the
 * seed fixed, and the corners where a rule decides alone.
 */
#include <math.h>
#include <stdlib.h>

#include "../harness.h"
#include "libpar/train/draw.h"

enum { N = 60, DRAWS = 16000 };

static void make_logits(float *x) {
    for (int i = 0; i < N; i++) x[i] = 3 * harness_noise(11, (uint64_t)i);
    x[7] = x[20] = x[33] = x[5]; /* equal ones */
}

static int32_t draw(const float *x, int32_t n, double temperature, int64_t top_k, double u,
                    par__draw_candidate *heap) {
    const par__draw_params params = {.temperature = temperature, .top_k = top_k};
    return par__draw(x, n, &params, u, heap);
}

/* Rank of token i: how many come before it, larger first, then lower ids. */
static int rank_of(const float *x, int i) {
    int rank = 0;
    for (int j = 0; j < N; j++) rank += x[j] > x[i] || (x[j] == x[i] && j < i);
    return rank;
}

/* What comes before token i already has top_p of all that top_k leaves. */
static bool is_beyond(const float *x, const double *p, double top_p, int i) {
    double before = 0;
    for (int j = 0; j < N; j++)
        if (rank_of(x, j) < rank_of(x, i)) before += p[j];
    return before >= top_p;
}

static void cut_to_top_p(const float *x, double top_p, double *p) {
    double q[N], sum = 0;
    for (int i = 0; i < N; i++) q[i] = top_p > 0 && is_beyond(x, p, top_p, i) ? 0 : p[i];
    for (int i = 0; i < N; i++) sum += q[i];
    for (int i = 0; i < N; i++) p[i] = q[i] / sum;
}

static void exact(const float *x, double temperature, int64_t top_k, double *p) {
    double sum = 0;
    for (int i = 0; i < N; i++) {
        p[i] = top_k && rank_of(x, i) >= top_k ? 0 : exp((double)x[i] / temperature);
        sum += p[i];
    }
    for (int i = 0; i < N; i++) p[i] /= sum;
}

/* Quantile of chi-square with k degrees of freedom that one of a million exceeds (Wilson and
 * Hilferty 1931, z = 4.75). */
static double limit(int k) {
    double v = 2.0 / (9.0 * k), root = 1 - v + 4.75 * sqrt(v);
    return k * root * root * root;
}

/* Tokens that are expected less than 5 times are one class. */
static void compare(const int64_t *counts, const double *p, double temperature, int64_t top_k) {
    double chi2 = 0, rest_p = 0, rest_n = 0;
    int classes = 0;
    for (int i = 0; i < N; i++) {
        CHECK(p[i] > 0 || counts[i] == 0,
              "temperature %g, top-k %lld: token %d was drawn %lld times, never allowed",
              temperature, (long long)top_k, i, (long long)counts[i]);
        if (p[i] * DRAWS < 5) {
            rest_p += p[i];
            rest_n += (double)counts[i];
            continue;
        }
        double d = (double)counts[i] - p[i] * DRAWS;
        chi2 += d * d / (p[i] * DRAWS);
        classes++;
    }
    if (rest_p * DRAWS >= 5) {
        chi2 += (rest_n - rest_p * DRAWS) * (rest_n - rest_p * DRAWS) / (rest_p * DRAWS);
        classes++;
    }
    if (classes < 2) return;
    CHECK(chi2 <= limit(classes - 1),
          "temperature %g, top-k %lld: chi-square %.1f of %d classes, limit %.1f", temperature,
          (long long)top_k, chi2, classes, limit(classes - 1));
}

static void draw_many(double temperature, int64_t top_k, double top_p, uint64_t seed) {
    float x[N];
    double p[N];
    int64_t counts[N] = {0};
    par__draw_candidate heap[N];
    make_logits(x);
    exact(x, temperature, top_k, p);
    cut_to_top_p(x, top_p, p);
    const par__draw_params params = {temperature, top_k, top_p};
    for (int i = 0; i < DRAWS; i++) {
        int32_t id = par__draw(x, N, &params, par__draw_uniform(seed, i % 7, i / 7), heap);
        CHECK(id >= 0 && id < N, "draw %d is %d", i, (int)id);
        if (id >= 0 && id < N) counts[id]++;
    }
    compare(counts, p, temperature, top_k);
}

static void test_distribution(void) {
    static const double temperatures[] = {1, 0.7, 0.1, 3, 100};
    static const int64_t ks[] = {0, 1, 2, 5, 25, 59, 60, 1000};
    for (int i = 0; i < HARNESS_COUNT(temperatures); i++)
        for (int j = 0; j < HARNESS_COUNT(ks); j++)
            draw_many(temperatures[i], ks[j], 0, (uint64_t)(100 * i + j));
}

static void test_top_p(void) {
    static const double ps[] = {1e-9, 0.3, 0.7, 0.95, 1};
    static const int64_t ks[] = {0, 5, 25};
    for (int i = 0; i < HARNESS_COUNT(ps); i++)
        for (int j = 0; j < HARNESS_COUNT(ks); j++)
            draw_many(1, ks[j], ps[i], (uint64_t)(1000 + 10 * i + j));
}

static void test_largest(void) {
    float x[N];
    par__draw_candidate heap[N];
    make_logits(x);
    int best = 0;
    for (int i = 0; i < N; i++)
        if (rank_of(x, i) == 0) best = i;
    static const double us[] = {0, 0.3, 1 - 0x1p-53};
    for (int i = 0; i < 3; i++) {
        CHECK(draw(x, N, 0, 0, us[i], heap) == best, "temperature 0 is not the largest");
        CHECK(draw(x, N, 1, 1, us[i], heap) == best, "top-k 1 is not the largest");
        CHECK(draw(x, N, 1e-300, 0, us[i], heap) == best, "temperature 1e-300 is not the largest");
    }
    for (int i = 0; i < N; i++) x[i] = 2;
    CHECK(draw(x, N, 0, 0, 0.5, heap) == 0, "of equal logits the lowest id is not the largest");
    CHECK(draw(x, N, 1, 3, 1 - 0x1p-53, heap) == 2,
          "of equal logits the last of the first 3 is not 2");
    CHECK(draw(x, N, 1, 0, 1 - 0x1p-53, heap) == N - 1, "u just below 1 is not the last token");
    CHECK(draw(x, N, 1, 0, 0, heap) == 0, "u = 0 is not the first token");
}

static void test_not_finite(void) {
    float x[N];
    par__draw_candidate heap[N];
    make_logits(x);
    x[9] = -INFINITY; /* a token that is ruled out */
    CHECK(draw(x, N, 1, 0, 0.5, heap) >= 0, "one logit of -inf is refused");
    x[9] = INFINITY;
    CHECK(draw(x, N, 1, 0, 0.5, heap) == -1, "a logit of inf is accepted");
    x[9] = NAN;
    CHECK(draw(x, N, 1, 5, 0.5, heap) == -1 && draw(x, N, 0, 0, 0.5, heap) == -1,
          "a NaN is accepted");
    for (int i = 0; i < N; i++) x[i] = -INFINITY;
    CHECK(draw(x, N, 1, 0, 0.5, heap) == -1, "no finite logit is accepted");
    CHECK(draw(x, 0, 1, 0, 0.5, heap) == -1, "a token of an empty vocabulary");
}

/* 53 bits in [0, 1): the mean of n of them is 1/2 with standard deviation 1 / sqrt(12 n); 5 of
 * these. */
static void test_uniform(void) {
    double sum = 0;
    for (int i = 0; i < DRAWS; i++) {
        double u = par__draw_uniform(1, i % 3, i);
        CHECK(u >= 0 && u < 1, "u is %g", u);
        sum += u;
    }
    CHECK(fabs(sum / DRAWS - 0.5) <= 5 / sqrt(12.0 * DRAWS), "the mean is %g", sum / DRAWS);
    CHECK(par__draw_uniform(1, 0, 5) == par__draw_uniform(1, 0, 5), "the same coordinates differ");
    CHECK(par__draw_uniform(1, 0, 5) != par__draw_uniform(2, 0, 5) &&
              par__draw_uniform(1, 0, 5) != par__draw_uniform(1, 1, 5) &&
              par__draw_uniform(1, 0, 5) != par__draw_uniform(1, 0, 6),
          "other coordinates are the same");
}

static const harness_case cases[] = {
    {.name = "distribution", .run = test_distribution},
    {.name = "top-p", .run = test_top_p},
    {.name = "largest", .run = test_largest},
    {.name = "not-finite", .run = test_not_finite},
    {.name = "uniform", .run = test_uniform},
};

int main(int argc, char **argv) {
    return harness_main("draw", cases, HARNESS_COUNT(cases), argc, argv);
}
