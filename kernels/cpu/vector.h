/*
 * Vectors of LANES floats, as wide as the rung's registers, and their loads and stores from fp32,
 * bf16 and fp16: kernels compute in fp32 and round a result once, to nearest even, to the bits of
 * kernels/half.h. Written with the compilers' vector types; instructions by name only where those
 * say it worse.
 *
 * A pair holds 2 · LANES elements in an order that its type alone decides: bf16 in 32-bit words is
 * split into even and odd elements by one instruction each, and joined as cheaply, where the order
 * of memory costs twice as much. So pairs are for operands of one type; vec_load and vec_store, in
 * the order of memory, for kernels that mix types.
 *
 * A loop is a step that CPU_VECTORS (of LANES elements) or CPU_PAIRS repeats. The step is inlined
 * twice: with a constant count, and for what is left. Its dtype is a constant too where CPU_BY_TYPE
 * has chosen it.
 */
#ifndef PAR__CPU_VECTOR_H
#define PAR__CPU_VECTOR_H

#if defined __SSE2__
#include <immintrin.h>
#elif defined __aarch64__
#include <arm_neon.h>
#endif
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "kernels/half.h"
#include "par/kernels.h"

#if defined __AVX512F__
#define LANES 16
#elif defined __AVX2__
#define LANES 8
#else
#define LANES 4
#endif

/* In memory they are aligned as their elements are. */
typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t vec_bits __attribute__((vector_size(4 * LANES)));
typedef int32_t vec_int __attribute__((vector_size(4 * LANES)));
typedef uint16_t vec_half __attribute__((vector_size(2 * LANES), aligned(2), may_alias));
typedef uint32_t vec_words __attribute__((vector_size(4 * LANES), aligned(2), may_alias));

#define CPU_INLINE static inline __attribute__((always_inline))

/* step(..., i, count) for the elements [i, i + count) of n, count <= size */
#define CPU_STEPS(size, n, step, ...)                                                              \
    do {                                                                                           \
        int64_t i_ = 0, n_ = (n);                                                                  \
        for (; i_ + (size) <= n_; i_ += (size)) step(__VA_ARGS__, i_, size);                       \
        if (i_ < n_) step(__VA_ARGS__, i_, n_ - i_);                                               \
    } while (0)
#define CPU_VECTORS(n, step, ...) CPU_STEPS(LANES, n, step, __VA_ARGS__)
#define CPU_PAIRS(n, step, ...)   CPU_STEPS(PAIR, n, step, __VA_ARGS__)

/* f(dtype, ...) with the type as a constant */
#define CPU_BY_TYPE(dtype, f, ...)                                                                 \
    ((dtype) == PAR_F32    ? f(PAR_F32, __VA_ARGS__)                                               \
     : (dtype) == PAR_BF16 ? f(PAR_BF16, __VA_ARGS__)                                              \
                           : f(PAR_F16, __VA_ARGS__))

/* mask: all bits of a lane or none, as comparisons give */
CPU_INLINE vec vec_select(vec_int mask, vec yes, vec no) {
    return (vec)(((vec_int)yes & mask) | ((vec_int)no & ~mask));
}

/* a > b ? a : b, so b if either is NaN */
CPU_INLINE vec vec_max(vec a, vec b) {
#if defined __AVX512F__
    return (vec)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined __AVX2__
    return (vec)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined __SSE2__
    return (vec)_mm_max_ps((__m128)a, (__m128)b);
#else
    return vec_select((vec_int)(a > b), a, b);
#endif
}

/* a < b ? a : b, so b if either is NaN */
CPU_INLINE vec vec_min(vec a, vec b) {
#if defined __AVX512F__
    return (vec)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined __AVX2__
    return (vec)_mm256_min_ps((__m256)a, (__m256)b);
#elif defined __SSE2__
    return (vec)_mm_min_ps((__m128)a, (__m128)b);
#else
    return vec_select((vec_int)(a < b), a, b);
#endif
}

/* Halves are added (or compared) until one lane is left. */
CPU_INLINE float vec_sum(vec x) {
#if defined __AVX512F__
    return _mm512_reduce_add_ps((__m512)x);
#else
    float lanes[LANES];
    memcpy(lanes, &x, sizeof lanes);
    for (int h = LANES / 2; h > 0; h /= 2)
        for (int i = 0; i < h; i++) lanes[i] += lanes[i + h];
    return lanes[0];
#endif
}

CPU_INLINE float vec_largest(vec x) {
    float lanes[LANES];
    memcpy(lanes, &x, sizeof lanes);
    for (int h = LANES / 2; h > 0; h /= 2)
        for (int i = 0; i < h; i++) lanes[i] = lanes[i] > lanes[i + h] ? lanes[i] : lanes[i + h];
    return lanes[0];
}

CPU_INLINE vec vec_from_bf16(vec_half x) {
#if defined __AVX512F__
    return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)x), 16);
#elif defined __AVX2__
    return (vec)_mm256_slli_epi32(_mm256_cvtepu16_epi32((__m128i)x), 16);
#else
    return (vec)(__builtin_convertvector(x, vec_bits) << 16);
#endif
}

CPU_INLINE bool vec_any_nan(vec x, vec y) {
#if defined __AVX512F__
    return __builtin_expect(_mm512_cmp_ps_mask((__m512)x, (__m512)y, _CMP_UNORD_Q) != 0, 0);
#elif defined __AVX2__
    __m256 nan = _mm256_cmp_ps((__m256)x, (__m256)y, _CMP_UNORD_Q);
    return __builtin_expect(!_mm256_testz_ps(nan, nan), 0);
#elif defined __SSE2__
    return __builtin_expect(_mm_movemask_ps(_mm_cmpunord_ps((__m128)x, (__m128)y)) != 0, 0);
#else
    return true; /* they are looked at one by one */
#endif
}

/* par__f32_to_bf16 in the upper half of each lane */
CPU_INLINE vec_bits vec_round_bf16(vec x, bool any_nan) {
    vec_bits bits = (vec_bits)x, rounded = bits + 0x7fff + (bits >> 16 & 1),
             nan = (vec_bits)(x != x);
    return any_nan ? ((bits | 0x400000) & nan) | (rounded & ~nan) : rounded;
}

#ifdef __AVX512BF16__
/* The conversion to bf16 takes subnormal lanes for zero: then rounding goes the longer way. A
 * result without zeros tells that there were none. */
CPU_INLINE bool vec_any_subnormal(vec x, vec y) {
    __mmask16 in_x = _mm512_fpclass_ps_mask((__m512)x, 0x20),
              in_y = _mm512_fpclass_ps_mask((__m512)y, 0x20);
    return __builtin_expect(!_kortestz_mask16_u8(in_x, in_y), 0);
}

CPU_INLINE bool vec_exact_bf16(__m512i rounded, vec x, vec y) {
    bool zeros = _mm512_testn_epi16_mask(rounded, _mm512_set1_epi16(0x7fff));
    return __builtin_expect(!zeros, 1) || !vec_any_subnormal(x, y);
}
#endif

CPU_INLINE vec_half vec_to_bf16(vec x) {
#ifdef __AVX512BF16__
    if (!vec_any_subnormal(x, x)) return (vec_half)_mm512_cvtneps_pbh((__m512)x);
#endif
    if (vec_any_nan(x, x)) return __builtin_convertvector(vec_round_bf16(x, true) >> 16, vec_half);
    return __builtin_convertvector(vec_round_bf16(x, false) >> 16, vec_half);
}

CPU_INLINE vec vec_from_f16(vec_half x) {
#if defined __AVX512F__
    return (vec)_mm512_cvtph_ps((__m256i)x);
#elif defined __F16C__
    return (vec)_mm256_cvtph_ps((__m128i)x);
#elif defined __aarch64__
    return (vec)vcvt_f32_f16((float16x4_t)x);
#else
    vec y;
    for (int i = 0; i < LANES; i++) y[i] = par__f16_to_f32(x[i]);
    return y;
#endif
}

CPU_INLINE vec_half vec_to_f16(vec x) {
#if defined __AVX512F__
    return (vec_half)_mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT);
#elif defined __F16C__
    return (vec_half)_mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT);
#elif defined __aarch64__
    return (vec_half)vcvt_f16_f32((float32x4_t)x);
#else
    vec_half y;
    for (int i = 0; i < LANES; i++) y[i] = par__f32_to_f16(x[i]);
    return y;
#endif
}

CPU_INLINE vec vec_load_whole(const void *x, par_dtype dtype, int64_t at) {
    if (dtype == PAR_F32) return *(const vec *)((const float *)x + at);
    vec_half half = *(const vec_half *)((const uint16_t *)x + at);
    return dtype == PAR_BF16 ? vec_from_bf16(half) : vec_from_f16(half);
}

CPU_INLINE void vec_store_whole(void *y, par_dtype dtype, int64_t at, vec x) {
    if (dtype == PAR_F32)
        *(vec *)((float *)y + at) = x;
    else
        *(vec_half *)((uint16_t *)y + at) = dtype == PAR_BF16 ? vec_to_bf16(x) : vec_to_f16(x);
}

CPU_INLINE size_t vec_element(par_dtype dtype) {
    return dtype == PAR_F32 ? sizeof(float) : sizeof(uint16_t);
}

/* Elements [at, at + count) of x, zero in the other lanes. */
CPU_INLINE vec vec_load(const void *x, par_dtype dtype, int64_t at, int64_t count) {
    if (count == LANES) return vec_load_whole(x, dtype, at);
    float lanes[LANES] = {0}; /* zero in each type */
    size_t size = vec_element(dtype);
    memcpy(lanes, (const char *)x + (size_t)at * size, (size_t)count * size);
    return vec_load_whole(lanes, dtype, 0);
}

/* The first `count` lanes of x to elements [at, at + count) of y. */
CPU_INLINE void vec_store(void *y, par_dtype dtype, int64_t at, int64_t count, vec x) {
    float lanes[LANES];
    size_t size = vec_element(dtype);
    if (count == LANES) {
        vec_store_whole(y, dtype, at, x);
        return;
    }
    vec_store_whole(lanes, dtype, 0, x);
    memcpy((char *)y + (size_t)at * size, lanes, (size_t)count * size);
}

/* Asks for the memory that is to be read some time behind `nbytes` from x on. Rows of weights that
 * are read once are shorter than what the processor needs to foresee them by itself: of 768 bytes
 * it then reads half as much per second. An address where nothing is does no harm. */
CPU_INLINE void fetch_ahead(const void *x, size_t nbytes) {
    enum { AHEAD = 4096, LINE = 64 };
    for (size_t i = 0; i < nbytes; i += LINE)
        __builtin_prefetch((const void *)((uintptr_t)x + AHEAD + i));
}

/* fp32 and fp16: the elements in order; bf16: v[0] the even, v[1] the odd ones. */
typedef struct {
    vec v[2];
} pair;
enum { PAIR = 2 * LANES };

/* From the order of memory to even and odd elements. */
CPU_INLINE pair pair_split(pair x) {
#if defined __AVX512F__
    const __m512i even =
        _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i odd = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    return (pair){{(vec)_mm512_permutex2var_ps((__m512)x.v[0], even, (__m512)x.v[1]),
                   (vec)_mm512_permutex2var_ps((__m512)x.v[0], odd, (__m512)x.v[1])}};
#elif defined __AVX2__
    __m256d even = (__m256d)_mm256_shuffle_ps((__m256)x.v[0], (__m256)x.v[1], 0x88);
    __m256d odd = (__m256d)_mm256_shuffle_ps((__m256)x.v[0], (__m256)x.v[1], 0xdd);
    return (pair){{(vec)_mm256_permute4x64_pd(even, 0xd8), (vec)_mm256_permute4x64_pd(odd, 0xd8)}};
#elif defined __SSE2__
    return (pair){{(vec)_mm_shuffle_ps((__m128)x.v[0], (__m128)x.v[1], 0x88),
                   (vec)_mm_shuffle_ps((__m128)x.v[0], (__m128)x.v[1], 0xdd)}};
#elif defined __aarch64__
    return (pair){{(vec)vuzp1q_f32((float32x4_t)x.v[0], (float32x4_t)x.v[1]),
                   (vec)vuzp2q_f32((float32x4_t)x.v[0], (float32x4_t)x.v[1])}};
#else
    pair y;
    for (int i = 0; i < PAIR; i++) y.v[i % 2][i / 2] = x.v[i / LANES][i % LANES];
    return y;
#endif
}

/* The inverse of pair_split. */
CPU_INLINE pair pair_join(pair x) {
#if defined __AVX512F__
    const __m512i low = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const __m512i high =
        _mm512_set_epi32(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8);
    return (pair){{(vec)_mm512_permutex2var_ps((__m512)x.v[0], low, (__m512)x.v[1]),
                   (vec)_mm512_permutex2var_ps((__m512)x.v[0], high, (__m512)x.v[1])}};
#elif defined __AVX2__
    __m256 low = _mm256_unpacklo_ps((__m256)x.v[0], (__m256)x.v[1]);
    __m256 high = _mm256_unpackhi_ps((__m256)x.v[0], (__m256)x.v[1]);
    return (pair){{(vec)_mm256_permute2f128_ps(low, high, 0x20),
                   (vec)_mm256_permute2f128_ps(low, high, 0x31)}};
#elif defined __SSE2__
    return (pair){{(vec)_mm_unpacklo_ps((__m128)x.v[0], (__m128)x.v[1]),
                   (vec)_mm_unpackhi_ps((__m128)x.v[0], (__m128)x.v[1])}};
#elif defined __aarch64__
    return (pair){{(vec)vzip1q_f32((float32x4_t)x.v[0], (float32x4_t)x.v[1]),
                   (vec)vzip2q_f32((float32x4_t)x.v[0], (float32x4_t)x.v[1])}};
#else
    pair y;
    for (int i = 0; i < PAIR; i++) y.v[i / LANES][i % LANES] = x.v[i % 2][i / 2];
    return y;
#endif
}

CPU_INLINE pair pair_load_whole(const void *x, par_dtype dtype, int64_t at) {
    if (dtype != PAR_BF16)
        return (pair){{vec_load_whole(x, dtype, at), vec_load_whole(x, dtype, at + LANES)}};
    vec_words words = *(const vec_words *)((const uint16_t *)x + at);
    return (pair){{(vec)(words << 16), (vec)(words & 0xffff0000u)}};
}

CPU_INLINE vec_words join_rounded(pair x, bool any_nan) {
    vec_bits even = vec_round_bf16(x.v[0], any_nan) >> 16, odd = vec_round_bf16(x.v[1], any_nan);
#if defined __AVX2__ && !defined __AVX512F__
    return (vec_words)_mm256_blend_epi16((__m256i)even, (__m256i)odd, 0xaa);
#else
    return even | (odd & 0xffff0000u);
#endif
}

CPU_INLINE vec_words pair_to_bf16(pair x) {
#ifdef __AVX512BF16__
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    __m512i halves = (__m512i)_mm512_cvtne2ps_pbh((__m512)x.v[1], (__m512)x.v[0]);
    if (vec_exact_bf16(halves, x.v[0], x.v[1]))
        return (vec_words)_mm512_permutexvar_epi16(order, halves);
#endif
    if (vec_any_nan(x.v[0], x.v[1])) return join_rounded(x, true);
    return join_rounded(x, false);
}

CPU_INLINE void pair_store_whole(void *y, par_dtype dtype, int64_t at, pair x) {
    if (dtype == PAR_BF16) {
        *(vec_words *)((uint16_t *)y + at) = pair_to_bf16(x);
    } else {
        vec_store_whole(y, dtype, at, x.v[0]);
        vec_store_whole(y, dtype, at + LANES, x.v[1]);
    }
}

/* As vec_load and vec_store. */
CPU_INLINE pair pair_load(const void *x, par_dtype dtype, int64_t at, int64_t count) {
    if (count == PAIR) return pair_load_whole(x, dtype, at);
    float elements[PAIR] = {0};
    size_t size = vec_element(dtype);
    memcpy(elements, (const char *)x + (size_t)at * size, (size_t)count * size);
    return pair_load_whole(elements, dtype, 0);
}

CPU_INLINE void pair_store(void *y, par_dtype dtype, int64_t at, int64_t count, pair x) {
    float elements[PAIR];
    size_t size = vec_element(dtype);
    if (count == PAIR) {
        pair_store_whole(y, dtype, at, x);
        return;
    }
    pair_store_whole(elements, dtype, 0, x);
    memcpy((char *)y + (size_t)at * size, elements, (size_t)count * size);
}

CPU_INLINE void pair_dot_step(par_dtype dtype, const void *x, int64_t at_x, const void *y,
                              int64_t at_y, pair *sum, int64_t i, int64_t count) {
    pair a = pair_load(x, dtype, at_x + i, count), b = pair_load(y, dtype, at_y + i, count);
    for (int k = 0; k < 2; k++) sum->v[k] += a.v[k] * b.v[k];
}

/* The sum of products of n elements of x and y. */
CPU_INLINE float pair_dot(par_dtype dtype, const void *x, int64_t at_x, const void *y, int64_t at_y,
                          int64_t n) {
    pair sum = {{{0}, {0}}};
    CPU_PAIRS(n, pair_dot_step, dtype, x, at_x, y, at_y, &sum);
    return vec_sum(sum.v[0] + sum.v[1]);
}

/* The upper halves of the lanes of `first`, then those of `second`. */
CPU_INLINE vec_words words_of_upper(vec_bits first, vec_bits second) {
#if defined __AVX2__ && !defined __AVX512F__
    __m256i words = _mm256_packus_epi32((__m256i)(first >> 16), (__m256i)(second >> 16));
    return (vec_words)_mm256_permute4x64_epi64(words, 0xd8);
#elif defined __SSE2__ && !defined __AVX2__
    return (vec_words)_mm_packs_epi32(_mm_srai_epi32((__m128i)first, 16),
                                      _mm_srai_epi32((__m128i)second, 16));
#else
    vec_half halves[2] = {__builtin_convertvector(first >> 16, vec_half),
                          __builtin_convertvector(second >> 16, vec_half)};
    vec_words words;
    memcpy(&words, halves, sizeof words);
    return words;
#endif
}

/* The 16-bit elements of a pair that is in the order of memory, as fp32's always is. */
CPU_INLINE vec_words pair_pack(par_dtype dtype, pair x) {
    if (dtype != PAR_BF16) {
        vec_half halves[2] = {vec_to_f16(x.v[0]), vec_to_f16(x.v[1])};
        vec_words words;
        memcpy(&words, halves, sizeof words);
        return words;
    }
#ifdef __AVX512BF16__
    __m512i rounded = (__m512i)_mm512_cvtne2ps_pbh((__m512)x.v[1], (__m512)x.v[0]);
    if (vec_exact_bf16(rounded, x.v[0], x.v[1])) return (vec_words)rounded;
#endif
    if (vec_any_nan(x.v[0], x.v[1]))
        return words_of_upper(vec_round_bf16(x.v[0], true), vec_round_bf16(x.v[1], true));
    return words_of_upper(vec_round_bf16(x.v[0], false), vec_round_bf16(x.v[1], false));
}

/* Past the caches, to an address that is a multiple of their size. Only after stream_end do other
 * threads see them in order. */
CPU_INLINE void words_stream(void *to, vec_words words) {
#if defined __AVX512F__
    _mm512_stream_si512(to, (__m512i)words);
#elif defined __AVX2__
    _mm256_stream_si256(to, (__m256i)words);
#elif defined __SSE2__
    _mm_stream_si128(to, (__m128i)words);
#else
    *(vec_words *)to = words;
#endif
}

CPU_INLINE void stream_end(void) {
#ifdef __SSE2__
    _mm_sfence();
#endif
}

/* fp32 elements of x, in the order of a pair of `dtype` */
CPU_INLINE pair pair_load_f32(const float *x, par_dtype dtype, int64_t at, int64_t count) {
    pair p = pair_load(x, PAR_F32, at, count);
    return dtype == PAR_BF16 ? pair_split(p) : p;
}

/* x with `rest` for all but the first `count` elements */
CPU_INLINE pair pair_first(pair x, par_dtype dtype, int64_t count, float rest) {
    for (int64_t i = count; i < PAIR; i++) {
        if (dtype == PAR_BF16)
            x.v[i % 2][i / 2] = rest;
        else
            x.v[i / LANES][i % LANES] = rest;
    }
    return x;
}

#endif
