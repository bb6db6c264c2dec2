/*
 * Blocks of bf16 and fp16 to fp32 and back, for kernels that compute in fp32: the bits of kernels/half.h.
 * AVX-512 converts fp16 in hardware, rounding to nearest even by the instruction's own mode, subnormals kept.
 * Its bf16 instruction is not used: it flushes subnormals to zero.
 */
#ifdef __AVX512F__
#include <immintrin.h>
#endif
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/half.h"

static void widen_bf16(const uint16_t *x, float *y, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = par__bf16_to_f32(x[i]);
}

static void narrow_bf16(const float *x, uint16_t *y, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = par__f32_to_bf16(x[i]);
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
