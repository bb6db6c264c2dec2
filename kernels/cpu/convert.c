/*
 * Blocks of bf16 and fp16 to fp32 and back, for kernels that keep fp32 copies: the bits of
 * kernels/half.h.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vector.h"

CPU_INLINE void widen_step(par_dtype t, const void *x, int64_t at, float *y, int64_t i,
                           int64_t count) {
    vec_store(y, PAR_F32, i, count, vec_load(x, t, at + i, count));
}

CPU_INLINE void widen(par_dtype t, const void *x, int64_t at, int64_t n, float *y) {
    CPU_VECTORS(n, widen_step, t, x, at, y);
}

CPU_INLINE void narrow_step(par_dtype t, const float *x, void *y, int64_t at, int64_t i,
                            int64_t count) {
    vec_store(y, t, at + i, count, vec_load(x, PAR_F32, i, count));
}

CPU_INLINE void narrow(par_dtype t, const float *x, void *y, int64_t at, int64_t n) {
    CPU_VECTORS(n, narrow_step, t, x, y, at);
}

void par__cpu_widen(const void *x, par_dtype dtype, int64_t at, int64_t n, float *y) {
    CPU_BY_TYPE(dtype, widen, x, at, n, y);
}

void par__cpu_narrow(const float *x, void *y, par_dtype dtype, int64_t at, int64_t n) {
    CPU_BY_TYPE(dtype, narrow, x, y, at, n);
}
