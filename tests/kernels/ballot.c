/* Ballots against sums made here: in order, with what is not finite, and the first parameter that
 * has it. */
#include <math.h>

#include "bench.h"

enum {
    NORMS = 1300,
    LOSSES = 700
}; /* more than a tile of the cuda kernel, and no multiple of it */

static double norms[2 * NORMS];
static float losses[2 * LOSSES];

/* What PAR_OP_NORM2 and PAR_OP_XENT_LOSS leave: of several magnitudes, so that the order of sums
 * shows. */
static void make_inputs(void) {
    for (int i = 0; i < NORMS; i++) {
        norms[2 * i] = exp(20 * (double)harness_noise(1, (uint64_t)i));
        norms[2 * i + 1] = 0;
    }
    for (int i = 0; i < LOSSES; i++) {
        losses[2 * i] = 1000 * (1 + harness_noise(2, (uint64_t)i));
        losses[2 * i + 1] = (float)(1000 + i);
    }
}

static par_ballot ballot_of(int64_t n_norms, int64_t n_losses) {
    par_ballot b = {
        .norm2 = 7, .loss_sum = 7, .n_targets = 7, .n_nonfinite = 7, .busy = 3, .total = 5};
    b.lr = 0.25;
    b.first_bad = b.n_first_bad = 7;
    b.status = 9;
    b.stop = 1;
    const par_tally a = {n_norms, n_losses, norms, losses, &b};
    bench subject = {.backend = bench_subject};
    bench_ballot(&subject, &a);
    CHECK(b.busy == 3 && b.total == 5 && b.lr == 0.25 && b.status == 9 && b.stop == 1,
          "the ballot's other fields are %g, %g, %g, %d, %d", b.busy, b.total, b.lr, b.status,
          b.stop);
    return b;
}

static void check_sums(int64_t n_norms, int64_t n_losses) {
    double norm2 = 0, loss = 0, targets = 0;
    for (int64_t i = 0; i < n_norms; i++) norm2 += norms[2 * i];
    for (int64_t i = 0; i < n_losses; i++)
        loss += (double)losses[2 * i], targets += (double)losses[2 * i + 1];
    par_ballot b = ballot_of(n_norms, n_losses);
    CHECK(b.norm2 == norm2 && b.loss_sum == loss && b.n_targets == targets,
          "%lld norms, %lld losses: sums %.17g, %.17g, %g, not %.17g, %.17g, %g",
          (long long)n_norms, (long long)n_losses, b.norm2, b.loss_sum, b.n_targets, norm2, loss,
          targets);
    CHECK(b.n_nonfinite == 0 && b.first_bad == -1 && b.n_first_bad == 0,
          "clean norms have %g non-finite elements, %d in parameter %d", b.n_nonfinite,
          b.n_first_bad, b.first_bad);
}

static void check_bad(const char *what, double n, int32_t first, int32_t n_first) {
    par_ballot b = ballot_of(NORMS, LOSSES);
    CHECK(b.n_nonfinite == n && b.first_bad == first && b.n_first_bad == n_first,
          "%s: %.17g non-finite elements, %d in parameter %d, not %.17g, %d in %d", what,
          b.n_nonfinite, b.n_first_bad, b.first_bad, n, n_first, first);
}

static void test_ballot(void) {
    static const int64_t sizes[][2] = {{0, 0},     {1, 1},     {511, 513},
                                       {512, 512}, {513, 511}, {NORMS, LOSSES}};
    if (!bench_ready()) return;
    make_inputs();
    for (int i = 0; i < HARNESS_COUNT(sizes); i++) check_sums(sizes[i][0], sizes[i][1]);
    norms[2 * 700 + 1] = 5;
    norms[2 * 900 + 1] = 2;
    check_bad("two parameters", 7, 700, 5);
    norms[1] = 2147483647.0;
    check_bad("2^31 - 1 elements", 2147483654.0, 0, 2147483647);
    norms[1] = 1e12;
    check_bad("10^12 elements", 1e12 + 7, 0, 2147483647);
    norms[2 * 700 + 1] = norms[2 * 900 + 1] = norms[1] = 0;
    losses[2 * 600] = NAN;
    check_bad("a NaN loss", 1, -1, 0);
    losses[2 * 600] = -INFINITY;
    check_bad("an infinite loss", 1, -1, 0);
    losses[2 * 600] = INFINITY;
    losses[0] = -INFINITY;
    check_bad("losses of both infinities", 1, -1, 0);
    norms[2 * 3 + 1] = 4;
    check_bad("losses and a parameter", 5, 3, 4);
}

const harness_case ballot_cases[] = {
    {.name = "ballot", .run = test_ballot},
};
const int n_ballot_cases = HARNESS_COUNT(ballot_cases);
