/*
 * Dropout's factors for a run of elements: Philox4x32-10 (Salmon et al., SC 2011) on consecutive
 * counters. Same bits as par__dropout_factor in kernels/dropout.h.
 *
 * A counter has a lane of 64 bits: the product of two words of 32 fits into it, and its halves are
 * the words of the next round where they lie. What is in the upper half of a word is not looked at.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vector.h"
#include "kernels/dropout.h"

enum { WIDE = LANES / 2, CHAINS = 2, STEP = CHAINS * WIDE };
enum { WORDS = 4 * (CPU_DROPOUT_MAX / 4 + 1 + STEP) };
typedef uint64_t vec_wide __attribute__((vector_size(4 * LANES)));

/* The products of the lower halves. */
CPU_INLINE vec_wide product(vec_wide x, uint64_t by) {
    vec_wide y = (vec_wide){0} + by;
#if defined __AVX512F__
    return (vec_wide)_mm512_mul_epu32((__m512i)x, (__m512i)y);
#elif defined __AVX2__
    return (vec_wide)_mm256_mul_epu32((__m256i)x, (__m256i)y);
#elif defined __SSE2__
    return (vec_wide)_mm_mul_epu32((__m128i)x, (__m128i)y);
#else
    return (x & UINT32_MAX) * y;
#endif
}

/* Counters 0 .. WIDE - 1 in the order of lanes in which store_words finds them. */
CPU_INLINE vec_wide lane_counters(void) {
    vec_wide c = {0};
    for (uint64_t lane = 0; lane < WIDE; lane++) c[lane] = lane / 2 + lane % 2 * (WIDE / 2);
    return c;
}

/* The four words of each counter, in the order of counters: even lanes have the first half of them,
 * odd lanes the second. */
CPU_INLINE void store_words(uint32_t *to, const vec_wide c[4]) {
    vec_wide a = (c[0] & UINT32_MAX) | c[1] << 32, b = (c[2] & UINT32_MAX) | c[3] << 32;
#if defined __AVX512F__
    _mm512_storeu_si512(to, _mm512_unpacklo_epi64((__m512i)a, (__m512i)b));
    _mm512_storeu_si512(to + LANES, _mm512_unpackhi_epi64((__m512i)a, (__m512i)b));
#elif defined __AVX2__
    _mm256_storeu_si256((__m256i *)to, _mm256_unpacklo_epi64((__m256i)a, (__m256i)b));
    _mm256_storeu_si256((__m256i *)(to + LANES), _mm256_unpackhi_epi64((__m256i)a, (__m256i)b));
#else
    for (int lane = 0; lane < WIDE; lane++) {
        const uint64_t words[2] = {a[lane], b[lane]};
        memcpy(to + 4 * (lane / 2 + lane % 2 * (WIDE / 2)), words, sizeof words);
    }
#endif
}

/* The words of counters {first + i, c[1], c[2], c[3]}, i < n, and of some behind them. A round
 * waits for the one before, so CHAINS vectors of counters take turns. */
static void philox(const uint32_t c[4], const uint32_t key[2], uint32_t first, int n,
                   uint32_t words[WORDS]) {
    const vec_wide lanes = lane_counters();
    for (int i = 0; i < n; i += STEP) {
        vec_wide x[CHAINS][4];
        uint32_t k0 = key[0], k1 = key[1];
        for (int s = 0; s < CHAINS; s++) {
            x[s][0] = lanes + (first + (uint32_t)(i + s * WIDE));
            for (int word = 1; word < 4; word++) x[s][word] = (vec_wide){0} + c[word];
        }
        for (int round = 0; round < 10; round++) {
            for (int s = 0; s < CHAINS; s++) {
                vec_wide p0 = product(x[s][0], 0xD2511F53), p1 = product(x[s][2], 0xCD9E8D57);
                x[s][0] = (p1 >> 32) ^ x[s][1] ^ k0;
                x[s][1] = p1;
                x[s][2] = (p0 >> 32) ^ x[s][3] ^ k1;
                x[s][3] = p0;
            }
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        for (int s = 0; s < CHAINS; s++) store_words(words + 4 * (i + s * WIDE), x[s]);
    }
}

void par__cpu_dropout(const par_dropout *d, int64_t T, int64_t row, int64_t begin, int64_t n,
                      float *factors) {
    uint32_t words[WORDS];
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
