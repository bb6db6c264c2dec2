/*
 * A small matrix product in registers: c[m,n] (+)= a[m,k] · b[k,n], for tiles that fit the caches.
 * Blocks of 4 rows and up to BLOCK_VECTORS vectors of columns stay in registers over all of k.
 * Written with the compilers' vector types, so that one text serves every instruction set.
 */
#ifndef PAR__CPU_MICRO_H
#define PAR__CPU_MICRO_H

#include "kernels/cpu/vector.h"

/* 4 · BLOCK_VECTORS accumulators: half of the registers at most */
#if defined(__AVX512F__) || defined(__aarch64__)
#define BLOCK_VECTORS 4
#else
#define BLOCK_VECTORS 2
#endif

/* a(i, l) = a[i · a_row + l · a_step]; b and c are row-major with contiguous rows */
typedef struct {
    const float *a;
    int64_t a_row, a_step;
    const float *b;
    int64_t ldb;
    float *c;
    int64_t ldc;
} micro;

CPU_INLINE vec load_vec(const float *x) {
    return *(const vec *)x;
}

CPU_INLINE void store_vec(float *x, vec value) {
    *(vec *)x = value;
}

/* rows and vectors are constants where this is inlined, so acc is registers */
CPU_INLINE void micro_block(micro t, int rows, int vectors, int64_t k, bool accumulate) {
    vec acc[4][BLOCK_VECTORS];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            acc[r][v] = accumulate ? load_vec(t.c + r * t.ldc + v * LANES) : (vec){0};
    for (int64_t l = 0; l < k; l++) {
        vec b[BLOCK_VECTORS];
        for (int v = 0; v < vectors; v++) b[v] = load_vec(t.b + l * t.ldb + v * LANES);
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < vectors; v++) acc[r][v] += t.a[r * t.a_row + l * t.a_step] * b[v];
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) store_vec(t.c + r * t.ldc + v * LANES, acc[r][v]);
}

/* fewer columns than a vector */
CPU_INLINE void micro_tail(micro t, int rows, int64_t columns, int64_t k, bool accumulate) {
    for (int r = 0; r < rows; r++)
        for (int64_t j = 0; j < columns; j++) {
            float sum = accumulate ? t.c[r * t.ldc + j] : 0;
            for (int64_t l = 0; l < k; l++)
                sum += t.a[r * t.a_row + l * t.a_step] * t.b[l * t.ldb + j];
            t.c[r * t.ldc + j] = sum;
        }
}

CPU_INLINE void micro_rows(micro t, int rows, int64_t n, int64_t k, bool accumulate) {
    int64_t j = 0;
    for (; j + BLOCK_VECTORS * LANES <= n; j += BLOCK_VECTORS * LANES) {
        micro_block(t, rows, BLOCK_VECTORS, k, accumulate);
        t.b += BLOCK_VECTORS * LANES;
        t.c += BLOCK_VECTORS * LANES;
    }
    for (; j + LANES <= n; j += LANES) {
        micro_block(t, rows, 1, k, accumulate);
        t.b += LANES;
        t.c += LANES;
    }
    if (j < n) micro_tail(t, rows, n - j, k, accumulate);
}

static inline void micro_gemm(micro t, int64_t m, int64_t n, int64_t k, bool accumulate) {
    int64_t i = 0;
    for (; i + 4 <= m; i += 4) {
        micro_rows(t, 4, n, k, accumulate);
        t.a += 4 * t.a_row;
        t.c += 4 * t.ldc;
    }
    for (; i < m; i++) {
        micro_rows(t, 1, n, k, accumulate);
        t.a += t.a_row;
        t.c += t.ldc;
    }
}

/* to[d, columns] = transposed from[columns, d], zero from column n to `columns` */
static inline void micro_transpose(const float *from, int64_t ld, int64_t n, int64_t d, float *to,
                                   int64_t columns) {
    for (int64_t c = 0; c < n; c++)
        for (int64_t i = 0; i < d; i++) to[i * columns + c] = from[c * ld + i];
    for (int64_t i = 0; i < d; i++)
        for (int64_t c = n; c < columns; c++) to[i * columns + c] = 0;
}

#endif
