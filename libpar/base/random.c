/*
 * Random numbers as functions of coordinates. Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel
 * random numbers: as easy as 1, 2, 3", SC 2011. Normal numbers: Wichura, "Algorithm AS 241: The
 * percentage points of the normal distribution", Applied Statistics 37 (1988), routine PPND16,
 * relative error about 1e-16.
 *
 * Invariant: every result is made of integer operations and + - * / sqrt in double, which IEEE 754
 * rounds in one way only, so the bits are the same on every machine. This needs -ffp-contract=off;
 * libm is not called but for sqrt.
 */
#include "par/random.h"

#include <math.h>
#include <string.h>

#include "libpar/base/hash.h"

static uint32_t high(uint64_t x) {
    return (uint32_t)(x >> 32);
}

void par_philox(const uint32_t c[4], const uint32_t k[2], uint32_t out[4]) {
    uint32_t c0 = c[0], c1 = c[1], c2 = c[2], c3 = c[3], k0 = k[0], k1 = k[1];
    for (int round = 0; round < 10; round++) {
        uint64_t product0 = UINT64_C(0xD2511F53) * c0, product1 = UINT64_C(0xCD9E8D57) * c2;
        c0 = high(product1) ^ c1 ^ k0;
        c1 = (uint32_t)product1;
        c2 = high(product0) ^ c3 ^ k1;
        c3 = (uint32_t)product0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* FNV-1a leaves names that differ in the last byte close together; two multiply-shift rounds spread
 * them. */
uint64_t par_hash_name(const char *name) {
    uint64_t hash = par__fnv64(PAR__FNV64, name, strlen(name));
    hash = (hash ^ hash >> 33) * UINT64_C(0xff51afd7ed558ccd);
    hash = (hash ^ hash >> 29) * UINT64_C(0xc4ceb9fe1a85ec53);
    return hash ^ hash >> 32;
}

uint64_t par_random_u64(uint64_t seed, uint64_t stream, uint64_t index) {
    const uint32_t counter[4] = {(uint32_t)index, high(index), (uint32_t)stream, high(stream)};
    const uint32_t key[2] = {(uint32_t)seed, high(seed)};
    uint32_t out[4];
    par_philox(counter, key, out);
    return out[0] | (uint64_t)out[1] << 32;
}

/*
 * Natural logarithm of a normal positive x = m · 2^e, m in [sqrt(1/2), sqrt 2): e · log 2 + 2
 * atanh(s), s = (m-1)/(m+1). s² is at most 0.0295, so the first omitted term of the series, s^24 /
 * 25, is below 2e-20 of the sum.
 */
static double natural_log(double x) {
    const double log2_high = 0x1.62e42fefap-1,
                 log2_low = 0x1.cf79abc9e3b39p-40; /* log 2; e · high is exact */
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int exponent = (int)(bits >> 52) - 1023;
    bits = (bits & UINT64_C(0xfffffffffffff)) | UINT64_C(0x3ff0000000000000);
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > 1.41421356237309504880) {
        m /= 2;
        exponent++;
    }
    double s = (m - 1) / (m + 1), s2 = s * s, sum = 0;
    for (int i = 23; i >= 1; i -= 2) sum = sum * s2 + 1.0 / i;
    return exponent * log2_high + (exponent * log2_low + 2 * s * sum);
}

static double polynomial(const double c[8], double x) {
    double sum = c[7];
    for (int i = 6; i >= 0; i--) sum = sum * x + c[i];
    return sum;
}

/* AS 241, PPND16: the centre, and two pieces of each tail. */
static double inverse_normal(double u) {
    static const double a[8] = {3.3871328727963666080e0,  1.3314166789178437745e+2,
                                1.9715909503065514427e+3, 1.3731693765509461125e+4,
                                4.5921953931549871457e+4, 6.7265770927008700853e+4,
                                3.3430575583588128105e+4, 2.5090809287301226727e+3};
    static const double b[8] = {1,
                                4.2313330701600911252e+1,
                                6.8718700749205790830e+2,
                                5.3941960214247511077e+3,
                                2.1213794301586595867e+4,
                                3.9307895800092710610e+4,
                                2.8729085735721942674e+4,
                                5.2264952788528545610e+3};
    static const double c[8] = {1.42343711074968357734e0,  4.63033784615654529590e0,
                                5.76949722146069140550e0,  3.64784832476320460504e0,
                                1.27045825245236838258e0,  2.41780725177450611770e-1,
                                2.27238449892691845833e-2, 7.74545014278341407640e-4};
    static const double d[8] = {1,
                                2.05319162663775882187e0,
                                1.67638483018380384940e0,
                                6.89767334985100004550e-1,
                                1.48103976427480074590e-1,
                                1.51986665636164571966e-2,
                                5.47593808499534494600e-4,
                                1.05075007164441684324e-9};
    static const double e[8] = {6.65790464350110377720e0,  5.46378491116411436990e0,
                                1.78482653991729133580e0,  2.96560571828504891230e-1,
                                2.65321895265761230930e-2, 1.24266094738807843860e-3,
                                2.71155556874348757815e-5, 2.01033439929228813265e-7};
    static const double f[8] = {1,
                                5.99832206555887937690e-1,
                                1.36929880922735805310e-1,
                                1.48753612908506148525e-2,
                                7.86869131145613259100e-4,
                                1.84631831751005468180e-5,
                                1.42151175831644588870e-7,
                                2.04426310338993978564e-15};
    double q = u - 0.5;
    if (q <= 0.425 && q >= -0.425) {
        double r = 0.180625 - q * q;
        return q * polynomial(a, r) / polynomial(b, r);
    }
    double r = sqrt(-natural_log(q < 0 ? u : 1 - u));
    double x = r <= 5 ? polynomial(c, r - 1.6) / polynomial(d, r - 1.6)
                      : polynomial(e, r - 5) / polynomial(f, r - 5);
    return q < 0 ? -x : x;
}

/*
 * u is an odd multiple of 2^-53 in (0, 1): 52 random bits and the last one set. So it and 1 - u are
 * exact, the distribution is symmetric, and no log sees 0.
 */
double par_random_normal(uint64_t seed, uint64_t stream, uint64_t index) {
    uint64_t bits = par_random_u64(seed, stream, index) >> 11 | 1;
    return inverse_normal((double)bits * 0x1p-53);
}

enum { FEISTEL_ROUNDS = 8 };

/*
 * One pass over [0, 2^(2 · half)): (left, right) -> (right, left ^ F(right)), a bijection for any
 * F. The last counter word is marked so that it shares no counter with par_random_u64 of streams
 * below 2^63.
 */
static uint64_t feistel(uint64_t seed, uint64_t epoch, int half, uint64_t x) {
    const uint32_t key[2] = {(uint32_t)seed, high(seed)};
    uint32_t mask = half == 32 ? UINT32_MAX : (UINT32_C(1) << half) - 1;
    uint32_t left = (uint32_t)(x >> half) & mask, right = (uint32_t)x & mask;
    for (uint32_t round = 0; round < FEISTEL_ROUNDS; round++) {
        const uint32_t counter[4] = {right, round, (uint32_t)epoch, high(epoch) ^ 0x80000000u};
        uint32_t out[4];
        par_philox(counter, key, out);
        uint32_t next = left ^ (out[0] & mask);
        left = right;
        right = next;
    }
    return (uint64_t)left << half | right;
}

/*
 * Cycle walking: the domain of the network is the smallest 4^half >= n, below 4 n for n > 1, and
 * its cycle through an index below n comes back below n; about 4 passes at most on average.
 */
uint64_t par_random_permute(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t index) {
    int half = 1;
    if (index >= n) return index;
    while (half < 32 && (n - 1) >> (2 * half) > 0) half++;
    do index = feistel(seed, epoch, half, index);
    while (index >= n);
    return index;
}
