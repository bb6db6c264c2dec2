/*
 * bf16 and fp16 as uint16_t: conversions from and to fp32, rounding to nearest even.
 *
 * IEEE 754-2019 section 4.3.1 for rounding, 3.6 for binary16; bf16 is the upper half of binary32.
 * Values above the largest finite one round to infinity, subnormals are kept, a NaN stays a NaN of
 * the same sign (quiet, upper payload bits). Written with selects instead of branches, so that
 * compilers can vectorise loops over them. The current rounding mode must be to nearest
 * (par__f32_to_f16 adds floats).
 */
#ifndef PAR__HALF_H
#define PAR__HALF_H

#include <stdint.h>
#include <string.h>

/* The first magnitudes that round to infinity. */
#define PAR__F16_OVERFLOW  65520.0f
#define PAR__BF16_OVERFLOW 0x1.ffp127f

static inline uint32_t par__f32_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float par__bits_f32(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Bits instead of ?: where a side is computed with floats: compilers put float operations, which
 * might trap, behind a branch, and then do not vectorise. */
static inline uint32_t par__select(int condition, uint32_t yes, uint32_t no) {
    uint32_t mask = 0u - (uint32_t)condition;
    return (yes & mask) | (no & ~mask);
}

static inline float par__bf16_to_f32(uint16_t h) {
    return par__bits_f32((uint32_t)h << 16);
}

static inline uint16_t par__f32_to_bf16(float x) {
    uint32_t bits = par__f32_bits(x);
    /* Half a unit less one, plus the bit that becomes the last: ties go to even, the carry may
     * reach infinity. */
    uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    uint32_t nan = bits >> 16 | 0x40u;
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

static inline float par__f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = h & 0x7fffu;
    uint32_t normal = (rest << 13) + (112u << 23); /* exponent bias 15 becomes 127 */
    uint32_t special = (rest << 13) | 0x7f800000u;
    uint32_t subnormal =
        par__f32_bits((float)(int32_t)rest * 0x1p-24f); /* exact: 10 bits, no fp32 subnormal */
    uint32_t bits = par__select(rest < 0x0400u, subnormal, rest < 0x7c00u ? normal : special);
    return par__bits_f32(sign | bits | (rest > 0x7c00u ? 0x400000u : 0u));
}

static inline uint16_t par__f32_to_f16(float x) {
    uint32_t bits = par__f32_bits(x), sign = bits >> 16 & 0x8000u, rest = bits & 0x7fffffffu;
    uint32_t rounded = ((rest + 0xfffu + (rest >> 13 & 1u)) >> 13) - (112u << 10);
    uint32_t normal =
        rest >= 0x47800000u || rounded > 0x7c00u ? 0x7c00u : rounded; /* from 2^16 on: infinity */
    /* Below 2^-14 the last bit of fp16 is 2^-24, which is the last bit of fp32 numbers in [1/2,
     * 1). */
    uint32_t subnormal =
        par__f32_bits(par__bits_f32(par__select(rest < 0x38800000u, rest, 0u)) + 0.5f) -
        0x3f000000u;
    uint32_t nan = 0x7e00u | (rest >> 13 & 0x3ffu);
    uint32_t h = par__select(rest < 0x38800000u, subnormal, normal);
    return (uint16_t)(sign | (rest > 0x7f800000u ? nan : h));
}

#endif
