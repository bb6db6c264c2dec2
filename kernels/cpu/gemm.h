/* What the matrix products of fp32 and of 16-bit operands share. */
#ifndef PAR__CPU_GEMM_H
#define PAR__CPU_GEMM_H

#include "kernels/cpu/cpu.h"

/* c[m, g->n] (+)= op(a) · op(g->b), all fp32, with g's k, transposes and distances of rows. k >
 * 0. */
par_status par__cpu_gemm_product(const par_gemm *g, const float *a, float *c, int64_t m,
                                 bool accumulate);

/* Rows of c that one block of work has: a multiple of MIN_ROWS, or all. */
int64_t par__cpu_gemm_rows(const par_gemm *g);

/* Products of 16-bit operands that par__cpu_gemm_few makes: up to 4 rows times rows. No
 * workspace. */
static inline bool cpu_gemm_is_few(const par_gemm *g) {
    return g->dtype != PAR_F32 && g->m <= 4 && !g->ta && g->tb;
}
void par__cpu_gemm_few(par_stream *stream, const par_gemm *g);

/* 16-bit operands; prepare asks for nothing where they are fp32. */
par_status par__cpu_gemm_half_prepare(const void *args, size_t *workspace_nbytes);
par_status par__cpu_gemm_half(par_stream *stream, const void *args, void *workspace);

#endif
