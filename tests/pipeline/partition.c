/*
 * par_partition against brute force over all cuts: work is small integers, so sums are exact and
 * the optimum and its earliest cuts are unique.
 */
#include <math.h>
#include <string.h>

#include "par/model.h"
#include "tests/harness.h"

enum { MAX_MODULES = 9 };

static double largest(const double *work, int parts, const int *first) {
    double most = 0;
    for (int k = 0; k < parts; k++) {
        double sum = 0;
        for (int i = first[k]; i < first[k + 1]; i++) sum += work[i];
        if (sum > most) most = sum;
    }
    return most;
}

/* The next cuts in lexicographic order, each part with at least one module; false after the
 * last. */
static bool next_cuts(int n, int parts, int *first) {
    for (int k = parts - 1; k > 0; k--) {
        if (first[k] >= n - parts + k) continue;
        first[k]++;
        for (int j = k + 1; j < parts; j++) first[j] = first[j - 1] + 1;
        return true;
    }
    return false;
}

static void brute_force(const double *work, int n, int parts, int *best) {
    int first[MAX_MODULES + 1];
    for (int k = 0; k < parts; k++) first[k] = k;
    first[parts] = n;
    memcpy(best, first, sizeof first);
    while (next_cuts(n, parts, first))
        if (largest(work, parts, first) < largest(work, parts, best))
            memcpy(best, first, sizeof first);
}

static void against_brute_force(void) {
    for (uint64_t seed = 0; seed < 200; seed++)
        for (int n = 1; n <= MAX_MODULES; n++)
            for (int parts = 1; parts <= n; parts++) {
                double work[MAX_MODULES];
                int first[MAX_MODULES + 1] = {0}, best[MAX_MODULES + 1];
                for (int i = 0; i < n; i++)
                    work[i] =
                        floor(fabs(harness_noise(seed, (uint64_t)i)) * (double)(1 + seed % 30));
                brute_force(work, n, parts, best);
                CHECK_OK(par_partition(work, n, parts, first));
                CHECK(
                    memcmp(first, best, ((size_t)parts + 1) * sizeof *first) == 0,
                    "seed %d, %d modules in %d parts: largest %g, brute force %g; first cut %d, %d",
                    (int)seed, n, parts, largest(work, parts, first), largest(work, parts, best),
                    first[1], best[1]);
            }
}

/* Sums of 1/10 and of 1e300 round: the largest part is still at most that of any other cut, up to n
 * roundings. */
static void rounded_sums(void) {
    for (uint64_t seed = 0; seed < 50; seed++) {
        double work[MAX_MODULES];
        int first[MAX_MODULES + 1], best[MAX_MODULES + 1];
        for (int i = 0; i < MAX_MODULES; i++)
            work[i] =
                fabs(harness_noise(seed, (uint64_t)i)) * pow(10, (double)(seed % 3) * 150 - 150);
        brute_force(work, MAX_MODULES, 4, best);
        CHECK_OK(par_partition(work, MAX_MODULES, 4, first));
        CHECK(largest(work, 4, first) <= largest(work, 4, best) * (1 + MAX_MODULES * 2.3e-16),
              "seed %d", (int)seed);
    }
}

static void edges(void) {
    int first[9];
    double equal[8] = {1, 1, 1, 1, 1, 1, 1, 1}, zero[3] = {0, 0, 0}, bad[2] = {1, -1},
           huge[2] = {1.7e308, 1.7e308};
    CHECK_OK(par_partition(equal, 8, 4, first));
    CHECK(first[0] == 0 && first[1] == 2 && first[2] == 4 && first[3] == 6 && first[4] == 8,
          "8 in 4");
    CHECK_OK(par_partition(NULL, 8, 4, first));
    CHECK(first[1] == 2 && first[3] == 6, "no work given: all equal");
    CHECK_OK(par_partition(equal, 5, 2, first));
    CHECK(first[1] == 2, "a tie goes to the earlier cut, not %d", first[1]);
    CHECK_OK(par_partition(zero, 3, 3, first));
    CHECK(first[1] == 1 && first[2] == 2, "modules without work still fill every part");
    CHECK_FAILS(par_partition(equal, 3, 4, first), PAR_ERR_LAYOUT, "legal: 1 to 3 parts");
    CHECK_FAILS(par_partition(bad, 2, 1, first), PAR_ERR_ARG,
                "work of module 1 is -1; legal: 0 or more");
    CHECK_FAILS(par_partition(huge, 2, 1, first), PAR_ERR_ARG, "adds up to inf");
    CHECK_FAILS(par_partition(equal, 3, 0, first), PAR_ERR_ARG, "parts > 0");
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {.name = "against brute force", .run = against_brute_force},
        {.name = "rounded sums", .run = rounded_sums},
        {.name = "edges", .run = edges},
    };
    return harness_main("partition", cases, HARNESS_COUNT(cases), argc, argv);
}
