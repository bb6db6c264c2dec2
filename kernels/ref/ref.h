/*
 * The reference backend: every operation of par/kernels.h in plain loops, in double, one rounding
 * at each store. It is the specification that runs, read first and never tuned; other versions are
 * tested against it.
 *
 * A store rounds double to fp32, and a 16-bit type from there: what a version gets that computes in
 * fp32 and rounds once.
 */
#ifndef PAR__REF_H
#define PAR__REF_H

#include "kernels/backends.h"
#include "kernels/half.h"

/* Element i of an array of dtype fp32, bf16 or fp16. */
static inline double ref_load(const void *x, par_dtype dtype, int64_t i) {
    if (dtype == PAR_F32) return ((const float *)x)[i];
    uint16_t h = ((const uint16_t *)x)[i];
    return dtype == PAR_BF16 ? par__bf16_to_f32(h) : par__f16_to_f32(h);
}

static inline void ref_store(void *y, par_dtype dtype, int64_t i, double value) {
    if (dtype == PAR_F32)
        ((float *)y)[i] = (float)value;
    else
        ((uint16_t *)y)[i] =
            dtype == PAR_BF16 ? par__f32_to_bf16((float)value) : par__f32_to_f16((float)value);
}

/* beta · old, where beta 0 does not read old: it may be NaN. */
static inline double ref_scaled(float beta, double old) {
    return beta == 0 ? 0.0 : beta * old;
}

/* GELU and its derivative. */
double par__ref_gelu_value(double x, bool erf_form);
double par__ref_gelu_slope(double x, bool erf_form);

/* prepare of operations that need no workspace */
par_status par__ref_no_workspace(const void *args, size_t *workspace_nbytes);

par_status par__ref_attention_prepare(const void *args, size_t *workspace_nbytes);
par_status par__ref_attention_backward_prepare(const void *args, size_t *workspace_nbytes);
par_status par__ref_attention_decode_prepare(const void *args, size_t *workspace_nbytes);
par_status par__ref_embedding_backward_prepare(const void *args, size_t *workspace_nbytes);

/* par__ref_gemm, par__ref_column_sum, ...: run of every operation */
#define REF_RUN(OP, name, type)                                                                    \
    par_status par__ref_##name(par_stream *stream, const type *args, void *workspace);
PAR_OP_LIST(REF_RUN)
#undef REF_RUN

#endif
