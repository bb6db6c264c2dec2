/*
 * Blocks of bf16 and fp16 to fp32 and back, for kernels that compute in fp32: the bits of kernels/half.h.
 * AVX-512 converts fp16 in hardware, rounding to nearest even by the instruction's own mode, subnormals kept.
 * Its bf16 instruction flushes subnormals to zero, so vectors with one go the long way. Compilers interleave
 * two vectors when they vectorise between 16 and 32 bits; whole vectors by hand are faster.
 */
#ifdef __AVX2__
#include <immintrin.h>
#endif
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/half.h"

static void widen_bf16(const uint16_t *x, float *y, int64_t n) {
    int64_t done = 0;
#ifdef __AVX512F__
    for (; done + 16 <= n; done += 16) {
        __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(x + done)));
        _mm512_storeu_ps(y + done, _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16)));
    }
#elif defined __AVX2__
    for (; done + 8 <= n; done += 8) {
        __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(x + done)));
        _mm256_storeu_ps(y + done, _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16)));
    }
#endif
#pragma omp simd
    for (int64_t i = done; i < n; i++) y[i] = par__bf16_to_f32(x[i]);
}

#ifdef __AVX512F__
/* par__f32_to_bf16 of 16 lanes, in the upper half of each */
static inline __m512i round_bf16(__m512 x) {
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i sum = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_mask_or_epi32(sum, nan, bits, _mm512_set1_epi32(0x400000));
}

/* The upper halves of a's lanes, then of b's. */
static inline __m512i upper_halves(__m512i a, __m512i b) {
    const __m512i index = _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31,
                                           29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    return _mm512_permutex2var_epi16(a, index, b);
}

static inline __m512i pair_bf16(__m512 a, __m512 b) {
#ifdef __AVX512BF16__
    enum { SUBNORMAL = 0x20 };
    if ((_mm512_fpclass_ps_mask(a, SUBNORMAL) | _mm512_fpclass_ps_mask(b, SUBNORMAL)) == 0)
        return (__m512i)_mm512_cvtne2ps_pbh(b, a);
#endif
    return upper_halves(round_bf16(a), round_bf16(b));
}
#elif defined __AVX2__
/* par__f32_to_bf16 of 8 lanes, in the lower half of each */
static inline __m256i round_bf16(__m256 x) {
    __m256i bits = _mm256_castps_si256(x);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i sum = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    return _mm256_srli_epi32(_mm256_blendv_epi8(sum, quiet, nan), 16);
}

/* The instruction packs each half of its operands apart: a0 b0 a1 b1, put in order. */
static inline __m256i pair_bf16(__m256 a, __m256 b) {
    return _mm256_permute4x64_epi64(_mm256_packus_epi32(round_bf16(a), round_bf16(b)), 0xd8);
}
#endif

static void narrow_bf16(const float *x, uint16_t *y, int64_t n) {
    int64_t done = 0;
#ifdef __AVX512F__
    for (; done + 32 <= n; done += 32)
        _mm512_storeu_si512(y + done, pair_bf16(_mm512_loadu_ps(x + done), _mm512_loadu_ps(x + done + 16)));
#elif defined __AVX2__
    for (; done + 16 <= n; done += 16)
        _mm256_storeu_si256((__m256i *)(y + done),
                            pair_bf16(_mm256_loadu_ps(x + done), _mm256_loadu_ps(x + done + 8)));
#endif
#pragma omp simd
    for (int64_t i = done; i < n; i++) y[i] = par__f32_to_bf16(x[i]);
}

static void widen_f16(const uint16_t *x, float *y, int64_t n) {
    int64_t done = 0;
#ifdef __AVX512F__
    for (; done + 16 <= n; done += 16)
        _mm512_storeu_ps(y + done, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(x + done))));
#endif
#pragma omp simd
    for (int64_t i = done; i < n; i++) y[i] = par__f16_to_f32(x[i]);
}

static void narrow_f16(const float *x, uint16_t *y, int64_t n) {
    int64_t done = 0;
#ifdef __AVX512F__
    for (; done + 16 <= n; done += 16)
        _mm256_storeu_si256((__m256i *)(y + done),
                            _mm512_cvtps_ph(_mm512_loadu_ps(x + done), _MM_FROUND_TO_NEAREST_INT));
#endif
#pragma omp simd
    for (int64_t i = done; i < n; i++) y[i] = par__f32_to_f16(x[i]);
}

void par__cpu_widen(const void *x, par_dtype dtype, int64_t at, int64_t n, float *y) {
    if (dtype == PAR_F32)
        memcpy(y, (const float *)x + at, (size_t)n * sizeof(float));
    else
        (dtype == PAR_BF16 ? widen_bf16 : widen_f16)((const uint16_t *)x + at, y, n);
}

void par__cpu_narrow(const float *x, void *y, par_dtype dtype, int64_t at, int64_t n) {
    if (dtype == PAR_F32)
        memcpy((float *)y + at, x, (size_t)n * sizeof(float));
    else
        (dtype == PAR_BF16 ? narrow_bf16 : narrow_f16)(x, (uint16_t *)y + at, n);
}
