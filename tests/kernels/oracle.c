/* See oracle.h. */
#include "oracle.h"

#include <math.h>

#include "par/random.h"

double oracle_bound(void) {
    return bench_is_ref ? 1e-6 : 2e-5;
}

void oracle_noise(double *x, float *single, int64_t n, uint64_t seed) {
    for (int64_t i = 0; i < n; i++) x[i] = single[i] = harness_noise(seed, (uint64_t)i);
}

void oracle_check(const char *what, const float *x, const double *oracle, int64_t n) {
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        difference += (x[i] - oracle[i]) * (x[i] - oracle[i]);
        norm += oracle[i] * oracle[i];
    }
    double error = sqrt(difference / fmax(norm, 1e-4 * (double)n));
    CHECK(error <= oracle_bound(), "%s differs from its oracle by %.3g of its norm, allowed %.3g",
          what, error, oracle_bound());
}

void oracle_differentiate(double (*loss)(const void *), const void *problem, double *x, int64_t n,
                          double *gradient) {
    const double h = 1e-5;
    for (int64_t i = 0; i < n; i++) {
        double kept = x[i];
        x[i] = kept + h;
        double above = loss(problem);
        x[i] = kept - h;
        double below = loss(problem);
        x[i] = kept;
        gradient[i] = (above - below) / (2 * h);
    }
}

double oracle_mask(const par_dropout *d, int64_t T, int64_t row, int64_t e) {
    if (d->p == 0) return 1;
    uint64_t n = (uint64_t)(*d->sample_base + d->first_sample + row / T);
    uint32_t out[4], key[2] = {(uint32_t)(d->seed & 0xffffffffu), (uint32_t)(d->seed >> 32)};
    uint32_t counter[4] = {(uint32_t)(e / 4), (uint32_t)(row % T), (uint32_t)(n & 0xffffffffu),
                           (uint32_t)((n >> 32 & 0xffff) | (uint64_t)d->site << 16)};
    par_philox(counter, key, out);
    return (double)out[e % 4] / 4294967296.0 >= (double)d->p ? 1 / (1 - (double)d->p) : 0;
}
