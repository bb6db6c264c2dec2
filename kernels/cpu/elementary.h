/*
 * exp, the logistic function and the normal distribution in fp32, of vectors. Scans of 2e7 points
 * against libm in double: exp is within 1.17 units without fused multiply-add, 0.88 with; logistic
 * within 1.6e-7 on
 * [-40, 40], normal within 7.6e-7 on [-5, 5], relative.
 */
#ifndef PAR__CPU_ELEMENTARY_H
#define PAR__CPU_ELEMENTARY_H

#include "kernels/cpu/vector.h"

/*
 * exp(x) = 2^n · exp(r), n = round(x / log 2), |r| <= 0.3466 + rounding. exp(r) = 1 + r + r² q(r),
 * q minimax of degree 4 for the relative error: 3.6e-9, a sixteenth of half a unit; r is reduced in
 * two parts (log 2's upper part has 9 bits to spare, n · upper is exact); so about 1 unit. The
 * product with 2^n is rounded once (2^n is made in two factors where no instruction takes n):
 * results reach into the subnormal numbers (exp(-104) = 0) and up to infinity. NaN stays NaN.
 *
 * For results of 16 bits q has a lower degree: 3 for fp16, off by 1.1e-7, and 2 for bf16, off
 * by 5.4e-6. There log 2 is one number if its product with n is fused: 1.9e-9 n. In all that is a
 * thousandth of half a unit of fp16, and a three-hundredth of bf16.
 */
#define EXP_SHIFT 0x1.8p23f /* adding it rounds to an integer, which is then the low bits */

/* exp(r) of a clamped x; *shifted: n + EXP_SHIFT */
CPU_INLINE vec exp_of_rest(par_dtype t, vec clamped, vec *shifted) {
    *shifted = clamped * 0x1.715476p0f + EXP_SHIFT;
    vec n = *shifted - EXP_SHIFT, r, p;
#if defined __FMA__ || defined __aarch64__
    bool one_part = t != PAR_F32;
#else
    bool one_part = false;
#endif
    r = one_part ? clamped - n * 0x1.62e43p-1f : (clamped - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
    if (t == PAR_F32) {
        p = r * 0.00138145406f + 0.00836874545f;
        p = p * r + 0.041668389f;
        p = p * r + 0.166665211f;
        p = p * r + 0.49999994f;
    } else if (t == PAR_F16) {
        p = r * 0.00831250101f + 0.0418903306f;
        p = p * r + 0.166671157f;
        p = p * r + 0.499992311f;
    } else {
        p = r * 0.0412774711f + 0.167535772f;
        p = p * r + 0.500051234f;
    }
    p = p * r + 1.0f;
    return p * r + 1.0f;
}

CPU_INLINE vec vec_exp_to(par_dtype t, vec x) {
    vec shifted,
        p = exp_of_rest(t, vec_max((vec){0} - 104.0f, vec_min((vec){0} + 89.0f, x)), &shifted);
#ifdef __AVX512F__
    return (vec)_mm512_scalef_ps((__m512)p, (__m512)(shifted - EXP_SHIFT));
#else
    vec_int exponent = (vec_int)shifted - (vec_int)((vec){0} + EXP_SHIFT), half = exponent >> 1;
    vec scale1 = (vec)((half + 127) << 23);
    vec scale2 = (vec)((exponent - half + 127) << 23);
    return p * scale1 * scale2;
#endif
}

/* The same for x <= 89, and from exp(-87) = 1.6e-38 on, which what is less is taken for: where that
 * does not matter, 2^n is one factor everywhere. Above 2.4e38 it is infinite. */
CPU_INLINE vec vec_exp_normal(par_dtype t, vec x) {
    vec shifted, p = exp_of_rest(t, vec_max((vec){0} - 87.0f, x), &shifted);
#ifdef __AVX512F__
    return (vec)_mm512_scalef_ps((__m512)p, (__m512)(shifted - EXP_SHIFT));
#else
    return p * (vec)(((vec_bits)shifted << 23) + 0x3f800000u);
#endif
}

/* The same with 0 below exp(-87), or subnormal numbers where they cost nothing. */
CPU_INLINE vec vec_exp_or_zero(par_dtype t, vec x) {
#ifdef __AVX512F__
    return vec_exp_to(t, x);
#else
    return vec_select((vec_int)(x < -87.0f), (vec){0}, vec_exp_normal(t, x));
#endif
}

CPU_INLINE vec vec_exp(vec x) {
    return vec_exp_to(PAR_F32, x);
}

CPU_INLINE float exp_f32(float x) {
    return vec_exp((vec){0} + x)[0];
}

/* s = 1 / (1 + exp(-x)) and 1 - s, each to a few units. Below x = -80 they stay at 2e-35 and 1. */
CPU_INLINE void vec_logistic(par_dtype t, vec x, vec *s, vec *rest) {
    vec e = vec_exp_normal(t, vec_min((vec){0} + 80.0f, -x));
    *s = 1.0f / (1.0f + e);
    *rest = e * *s;
}

/*
 * Normal distribution function Φ(x) and density φ(x). With z = |x| / sqrt 2: Φ(-|x|) = exp(-z²) ·
 * w(z) / 2 with w(z) = exp(z²) erfc(z). w(z) · (1 + 2z) is smooth in t = (z - 2.5) / (z + 2.5),
 * which maps [0, inf) to
 * [-1, 1); its Chebyshev interpolation of degree 11 is off by at most 6.0e-9 of it on [0, 10]. Φ
 * has that relative error on both sides, plus that of exp: z² ulp / 2 in the left tail.
 */
CPU_INLINE void vec_normal(par_dtype dtype, vec x, vec *distribution, vec *density) {
    vec size = vec_max(x, -x), z = vec_min((vec){0} + 1e6f, size * 0.70710678f);
    vec t = (z - 2.5f) / (z + 2.5f), e = vec_exp_to(dtype, -0.5f * x * x);
    vec w = t * -6.47106385e-05f - 6.3894372e-05f;
    w = w * t + 5.83476936e-04f;
    w = w * t + 4.63279844e-04f;
    w = w * t - 4.35827723e-03f;
    w = w * t + 9.46808873e-04f;
    w = w * t + 3.27554827e-02f;
    w = w * t - 1.02970555e-01f;
    w = w * t + 1.57630376e-01f;
    w = w * t - 9.90242396e-02f;
    w = w * t - 1.22356769e-01f;
    w = w * t + 1.26483818f;
    vec tail = 0.5f * e * w / (1.0f + 2.0f * z);
    *distribution = vec_select((vec_int)(x < 0), tail, 1.0f - tail);
    *density = 0.39894228f * e;
}

#endif
