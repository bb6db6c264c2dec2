/*
 * Dropout's factors for a run of elements: Philox4x32-10 (Salmon et al., SC 2011) on consecutive
 * counters, one a lane. Same bits as par__dropout_factor in kernels/dropout.h.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/dropout.h"

enum { BLOCKS = CPU_DROPOUT_MAX / 4 + 1 };

/* The words of counters {first + i, c[1], c[2], c[3]}, i < n. */
static void philox(const uint32_t c[4], const uint32_t key[2], uint32_t first, int n,
                   uint32_t words[4 * BLOCKS]) {
#pragma omp simd
    for (int i = 0; i < n; i++) {
        uint32_t c0 = first + (uint32_t)i, c1 = c[1], c2 = c[2], c3 = c[3], k0 = key[0],
                 k1 = key[1];
        for (int round = 0; round < 10; round++) {
            uint64_t p0 = UINT64_C(0xD2511F53) * c0, p1 = UINT64_C(0xCD9E8D57) * c2;
            c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
            c1 = (uint32_t)p1;
            c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
            c3 = (uint32_t)p0;
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        words[4 * i] = c0;
        words[4 * i + 1] = c1;
        words[4 * i + 2] = c2;
        words[4 * i + 3] = c3;
    }
}

void par__cpu_dropout(const par_dropout *d, int64_t T, int64_t row, int64_t begin, int64_t n,
                      float *factors) {
    uint32_t words[4 * BLOCKS + 4];
    uint64_t sample = par__dropout_sample(d) + (uint64_t)(row / T);
    const uint32_t counter[4] = {0, (uint32_t)(row % T), (uint32_t)sample,
                                 ((uint32_t)(sample >> 32) & 0xffffu) | d->site << 16};
    const uint32_t key[2] = {(uint32_t)d->seed, (uint32_t)(d->seed >> 32)};
    int64_t first = begin / 4;
    /* word >= t for a real t below 2^32 is word >= ceil(t) */
    double threshold = par__dropout_threshold(d);
    uint32_t least = (uint32_t)threshold;
    least += (double)least < threshold;
    float scale = (float)par__dropout_scale(d);
    philox(counter, key, (uint32_t)first, (int)((begin + n + 3) / 4 - first), words);
    const uint32_t *w = words + begin % 4;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) factors[i] = w[i] >= least ? scale : 0.0f;
}
