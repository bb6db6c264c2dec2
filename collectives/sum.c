/*
 * Sums over ranks, in rank order: fp32 in fp32, 16-bit types in fp32 with one rounding to nearest
 * even at the end, integers exactly (int64 modulo 2^64). The sum starts from rank 0's value, so
 * that one rank's -0 stays -0.
 */
#include <string.h>

#include "internal.h"
#include "kernels/half.h"

enum { BLOCK = 512 }; /* elements added at a time: 2 KiB of fp32 stay in the first cache */

static void sum_f32(float *dst, const char *const *sources, int n_sources, int64_t begin,
                    int64_t n) {
    float total[BLOCK];
    memcpy(total, sources[0] + begin * 4, (size_t)n * 4);
    for (int k = 1; k < n_sources; k++) {
        const float *x = (const float *)(const void *)sources[k] + begin;
        for (int64_t i = 0; i < n; i++) total[i] += x[i];
    }
    memcpy(dst + begin, total, (size_t)n * 4);
}

#define SUM_16(name, from, to)                                                                     \
    static void name(uint16_t *dst, const char *const *sources, int n_sources, int64_t begin,      \
                     int64_t n) {                                                                  \
        float total[BLOCK];                                                                        \
        const uint16_t *first = (const uint16_t *)(const void *)sources[0] + begin;                \
        for (int64_t i = 0; i < n; i++) total[i] = from(first[i]);                                 \
        for (int k = 1; k < n_sources; k++) {                                                      \
            const uint16_t *x = (const uint16_t *)(const void *)sources[k] + begin;                \
            for (int64_t i = 0; i < n; i++) total[i] += from(x[i]);                                \
        }                                                                                          \
        for (int64_t i = 0; i < n; i++) dst[begin + i] = to(total[i]);                             \
    }
SUM_16(sum_bf16, par__bf16_to_f32, par__f32_to_bf16)
SUM_16(sum_f16, par__f16_to_f32, par__f32_to_f16)

/* Unsigned, so that an overflow wraps instead of being undefined. */
#define SUM_INT(name, type)                                                                        \
    static void name(type *dst, const char *const *sources, int n_sources, int64_t begin,          \
                     int64_t n) {                                                                  \
        type total[BLOCK];                                                                         \
        memcpy(total, sources[0] + begin * (int64_t)sizeof(type), (size_t)n * sizeof(type));       \
        for (int k = 1; k < n_sources; k++) {                                                      \
            const type *x = (const type *)(const void *)sources[k] + begin;                        \
            for (int64_t i = 0; i < n; i++) total[i] += x[i];                                      \
        }                                                                                          \
        memcpy(dst + begin, total, (size_t)n * sizeof(type));                                      \
    }
SUM_INT(sum_i32, uint32_t)
SUM_INT(sum_i64, uint64_t)

void par__sum(par_dtype dtype, void *dst, const char *const *sources, int n_sources, int64_t n) {
    for (int64_t begin = 0; begin < n; begin += BLOCK) {
        int64_t count = n - begin < BLOCK ? n - begin : BLOCK;
        switch (dtype) {
        case PAR_F32: sum_f32(dst, sources, n_sources, begin, count); break;
        case PAR_BF16: sum_bf16(dst, sources, n_sources, begin, count); break;
        case PAR_F16: sum_f16(dst, sources, n_sources, begin, count); break;
        case PAR_I32: sum_i32(dst, sources, n_sources, begin, count); break;
        case PAR_I64: sum_i64(dst, sources, n_sources, begin, count); break;
        default: break; /* refused before */
        }
    }
}
