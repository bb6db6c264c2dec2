/*
 * Random numbers: known answers of Philox4x32-10 as published with Random123 (Salmon et al., SC
 * 2011), the normal distribution against erfc and its moments, and permutations as bijections.
 * Samples are fixed, so that a bound of 4 to 5 standard deviations either holds for ever or never.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "par/random.h"

static void test_philox(void) {
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        par_philox(known[i].counter, known[i].key, out);
        CHECK(memcmp(out, known[i].out, sizeof out) == 0, "vector %d: %08x %08x %08x %08x", i,
              out[0], out[1], out[2], out[3]);
    }
}

/* A coordinate that is cut to 32 bits, or swapped with another, gives equal numbers somewhere
 * here. */
static void test_coordinates(void) {
    static const uint64_t values[] = {0, 1, 2, UINT64_C(1) << 32, UINT64_C(1) << 63, UINT64_MAX};
    uint64_t seen[216];
    int n = 0;
    for (int i = 0; i < 216; i++) {
        seen[n] = par_random_u64(values[i / 36], values[i / 6 % 6], values[i % 6]);
        for (int j = 0; j < n; j++) CHECK(seen[j] != seen[n], "numbers %d and %d are equal", j, n);
        n++;
    }
}

static void test_hash(void) {
    static const char *const names[] = {"", "a", "b", "layers.0.mlp.up.weight",
                                        "layers.1.mlp.up.weight"};
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < i; j++) {
            uint64_t difference = par_hash_name(names[i]) ^ par_hash_name(names[j]);
            int bits = __builtin_popcountll(difference);
            /* 32 of 64 expected, standard deviation 4 */
            CHECK(bits >= 12 && bits <= 52, "\"%s\" and \"%s\" differ in %d bits", names[i],
                  names[j], bits);
        }
}

/* Phi(x) = erfc(-x / sqrt 2) / 2 must give back u; d u = phi(x) dx, and x is right to a few units
 * of 2^-52. */
static void test_normal_is_inverse(void) {
    for (uint64_t i = 0; i < 200000; i++) {
        double x = par_random_normal(1, 2, i);
        double u = (double)(par_random_u64(1, 2, i) >> 11 | 1) * 0x1p-53;
        double back = erfc(-x / sqrt(2)) / 2;
        CHECK(fabs(back - u) <= 16 * 0x1p-52 * u * (1 + x * x),
              "normal %llu is %.17g, Phi of it %.17g, not %.17g", (unsigned long long)i, x, back,
              u);
    }
}

static void test_normal_moments(void) {
    enum { N = 400000 };
    static const double quantiles[][2] = {
        {-2, 0.0227501319}, {-1, 0.1586552539}, {0, 0.5}, {1, 0.8413447461}, {3, 0.9986501020}};
    double sum[5] = {0};
    int below[5] = {0};
    for (uint64_t i = 0; i < N; i++) {
        double x = par_random_normal(42, par_hash_name("weight"), i), power = 1;
        for (int k = 0; k < 5; k++, power *= x) sum[k] += power;
        for (int k = 0; k < 5; k++) below[k] += x < quantiles[k][0];
    }
    /* variances of x, x², x³, x⁴: 1, 2, 15, 96; five standard deviations of the mean of N */
    static const double moments[] = {1, 0, 1, 0, 3}, variances[] = {0, 1, 2, 15, 96};
    for (int k = 1; k < 5; k++)
        CHECK(fabs(sum[k] / N - moments[k]) < 5 * sqrt(variances[k] / N), "moment %d is %g", k,
              sum[k] / N);
    for (int k = 0; k < 5; k++) {
        double p = quantiles[k][1];
        CHECK(fabs((double)below[k] / N - p) < 5 * sqrt(p * (1 - p) / N),
              "%g of the numbers are below %g, not %g", (double)below[k] / N, quantiles[k][0], p);
    }
}

/*
 * Bits that other machines must draw too. The integers were computed by a separate program in
 * another language, the doubles by its inverse normal function, which is also Wichura's.
 */
static void test_known_bits(void) {
    static const struct {
        uint64_t index, odd;
        double x;
    } known[] = {{UINT64_C(0), UINT64_C(4958491332372097), 0x1.03f53c060c806p-3},
                 {UINT64_C(1), UINT64_C(7706021906019993), 0x1.0f7c9ba47b30cp+0},
                 {UINT64_C(2), UINT64_C(3184928543112679), -0x1.80a3aa1c956e5p-2},
                 {UINT64_C(9), UINT64_C(529226085670077), -0x1.90b7b879643f0p+0},
                 {UINT64_C(12), UINT64_C(8662602077591237), 0x1.c571e639e3cdap+0},
                 {UINT64_C(20), UINT64_C(353808619354177), -0x1.c2541493d7c29p+0},
                 {UINT64_C(23), UINT64_C(8804968490672865), 0x1.00b5df349f1eep+1},
                 {UINT64_C(4294967301), UINT64_C(3049961183031967), -0x1.aa3d508658dbap-2}};
    for (int i = 0; i < HARNESS_COUNT(known); i++) {
        uint64_t odd = par_random_u64(1, 2, known[i].index) >> 11 | 1;
        double x = par_random_normal(1, 2, known[i].index);
        CHECK(odd == known[i].odd && x == known[i].x, "normal %llu is %a, not %a",
              (unsigned long long)known[i].index, x, known[i].x);
    }
}

static void test_permutation(void) {
    static const uint64_t sizes[] = {1,  2,   3,   4,    5,    16,   17,   64,
                                     65, 100, 257, 1000, 4096, 4097, 65537};
    unsigned char *seen = malloc(65537);
    CHECK(seen, "no memory");
    for (int s = 0; seen && s < HARNESS_COUNT(sizes); s++) {
        uint64_t n = sizes[s], fixed = 0, same = 0;
        memset(seen, 0, 65537);
        for (uint64_t i = 0; i < n; i++) {
            uint64_t j = par_random_permute(7, 3, n, i);
            CHECK(j < n && !seen[j < n ? j : 0], "n = %llu: %llu goes to %llu, again or outside",
                  (unsigned long long)n, (unsigned long long)i, (unsigned long long)j);
            if (j < n) seen[j] = 1;
            fixed += j == i;
            same += j == par_random_permute(7, 4, n, i);
        }
        /* fixed points, and agreements of two epochs, are Poisson with mean 1 */
        if (n >= 100)
            CHECK(fixed <= 6 && same <= 6,
                  "n = %llu: %llu fixed points, %llu equal in the next epoch",
                  (unsigned long long)n, (unsigned long long)fixed, (unsigned long long)same);
    }
    free(seen);
}

/* Where neighbours go: the mean distance of two uniform draws of [0, n) is n / 3, standard
 * deviation n / sqrt 18. */
static void test_permutation_spreads(void) {
    const uint64_t sizes[] = {10000, UINT64_C(3000000000000)};
    for (int s = 0; s < 2; s++) {
        enum { DRAWS = 5000 };
        double n = (double)sizes[s], sum = 0;
        for (uint64_t i = 0; i < DRAWS; i++)
            sum += fabs((double)par_random_permute(1, 0, sizes[s], i + 1) -
                        (double)par_random_permute(1, 0, sizes[s], i));
        CHECK(fabs(sum / DRAWS - n / 3) < 6 * n / sqrt(18.0 * DRAWS),
              "n = %g: neighbours end %g apart, not %g", n, sum / DRAWS, n / 3);
    }
    uint64_t huge = UINT64_MAX - 5;
    for (uint64_t i = 0; i < 100; i++)
        CHECK(par_random_permute(1, 0, huge, i) < huge, "outside of [0, 2^64 - 6)");
}

static const harness_case cases[] = {
    {.name = "philox", .run = test_philox},
    {.name = "coordinates", .run = test_coordinates},
    {.name = "hash", .run = test_hash},
    {.name = "normal_is_inverse", .run = test_normal_is_inverse},
    {.name = "normal_moments", .run = test_normal_moments},
    {.name = "known_bits", .run = test_known_bits},
    {.name = "permutation", .run = test_permutation},
    {.name = "permutation_spreads", .run = test_permutation_spreads},
};

int main(int argc, char **argv) {
    return harness_main("random", cases, HARNESS_COUNT(cases), argc, argv);
}
