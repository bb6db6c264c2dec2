/*
 * Blends: exact proportions after every sum of weights, evenly spread before it, every entry in its
 * own order without a gap, and the bytes of a sample a function of its number.
 */
#include <math.h>
#include <string.h>

#include "../harness.h"
#include "par/data.h"

enum { MAX_PARTS = 5 };

/* Sample i of entry k is {k, i}; its target is {i, k}. */
static par_status read_pair(void *user, int64_t first, int64_t n, void *x, void *targets) {
    const int64_t *entry = user;
    for (int64_t i = 0; i < n; i++) {
        memcpy((char *)x + 16 * i, (int64_t[]){*entry, first + i}, 16);
        memcpy((char *)targets + 16 * i, (int64_t[]){first + i, *entry}, 16);
    }
    return PAR_OK;
}

static int64_t numbers[MAX_PARTS] = {0, 1, 2, 3, 4};

static par_blend *make(const int64_t *weights, int n) {
    par_blend *b = NULL;
    par_blend_entry entries[MAX_PARTS];
    for (int k = 0; k < n; k++)
        entries[k] = (par_blend_entry){{read_pair, &numbers[k]}, weights[k]};
    CHECK_OK(par_blend_create(entries, n, 16, 16, &b));
    return b;
}

static void check_weights(const int64_t *weights, int n, int64_t samples) {
    int64_t next[MAX_PARTS] = {0}, counts[MAX_PARTS], sum = 0;
    par_blend *b = make(weights, n);
    par_source source = par_blend_source(b);
    for (int k = 0; k < n; k++) sum += weights[k];
    for (int64_t i = 0; i < samples && !harness_failed(); i++) {
        int64_t x[2], targets[2], index;
        int entry;
        par_blend_counts(b, i, counts);
        for (int k = 0; k < n; k++) {
            double away = (double)counts[k] - (double)i * (double)weights[k] / (double)sum;
            CHECK(counts[k] == next[k], "entry %d gave %lld of %lld samples, not %lld", k,
                  (long long)next[k], (long long)i, (long long)counts[k]);
            CHECK(fabs(away) < k + 1, "entry %d is %g away at %lld", k, away, (long long)i);
            if (i % sum == 0)
                CHECK(counts[k] == i / sum * weights[k], "entry %d is not exact at %lld", k,
                      (long long)i);
        }
        par_blend_find(b, i, &entry, &index);
        CHECK(entry >= 0 && entry < n && index == next[entry], "sample %lld: %d, %lld",
              (long long)i, entry, (long long)index);
        CHECK_OK(source.read(source.user, i, 1, x, targets));
        CHECK(x[0] == entry && x[1] == index && targets[0] == index && targets[1] == entry,
              "sample %lld is another", (long long)i);
        next[entry]++;
    }
    par_blend_destroy(&b);
    CHECK(b == NULL, "destroy does not null");
}

static void proportions(void) {
    check_weights((int64_t[]){1}, 1, 20);
    check_weights((int64_t[]){7, 3}, 2, 1000);
    check_weights((int64_t[]){1, 1000}, 2, 5000);
    check_weights((int64_t[]){5, 1, 3}, 3, 1000);
    check_weights((int64_t[]){11, 1, 17, 2, 5}, 5, 2000);
}

/* Far behind the beginning nothing overflows. */
static void far(void) {
    const int64_t weights[] = {2000000000, 147483640}, sum = 2147483640;
    par_blend *b = make(weights, 2);
    int64_t counts[2], m = INT64_C(1) << 31;
    par_blend_counts(b, m * sum, counts);
    CHECK(counts[0] == m * weights[0] && counts[1] == m * weights[1], "%lld, %lld",
          (long long)counts[0], (long long)counts[1]);
    for (int64_t i = m * sum; i < m * sum + 100; i++) {
        int entry;
        int64_t index;
        par_blend_counts(b, i, counts);
        par_blend_find(b, i, &entry, &index);
        CHECK(index == counts[entry], "sample %lld", (long long)i);
    }
    par_blend_destroy(&b);
}

/* However the reads are cut. */
static void cuts(void) {
    par_blend *b = make((int64_t[]){3, 2, 4}, 3);
    par_source source = par_blend_source(b);
    int64_t whole[60][2], piece[60][2], targets[60][2];
    CHECK_OK(source.read(source.user, 17, 60, whole, targets));
    for (int n = 1; n <= 7; n++)
        for (int at = 0; at + n <= 60; at += n) {
            CHECK_OK(source.read(source.user, 17 + at, n, piece, targets));
            CHECK(memcmp(piece, whole + at, (size_t)n * 16) == 0, "%d from %d", n, at);
        }
    CHECK_FAILS(source.read(source.user, -1, 1, piece, targets), PAR_ERR_ARG, "first >= 0");
    par_blend_destroy(&b);
}

static void refusals(void) {
    par_blend *b = NULL;
    par_blend_entry entries[2] = {{{read_pair, numbers}, 1}, {{read_pair, numbers}, 0}};
    CHECK_FAILS(par_blend_create(entries, 2, 16, 16, &b), PAR_ERR_ARG, "weight 0 of entry 1");
    entries[1].weight = INT32_MAX;
    CHECK_FAILS(par_blend_create(entries, 2, 16, 16, &b), PAR_ERR_ARG, "at most 2147483647");
    CHECK_FAILS(par_blend_create(entries, 0, 16, 16, &b), PAR_ERR_ARG, "n > 0");
    CHECK(b == NULL, "a blend was made");
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {"proportions", proportions, 0, NULL, 0},
        {"far", far, 0, NULL, 0},
        {"cuts", cuts, 0, NULL, 0},
        {"refusals", refusals, 0, NULL, 0},
    };
    return harness_main("blend", cases, HARNESS_COUNT(cases), argc, argv);
}
