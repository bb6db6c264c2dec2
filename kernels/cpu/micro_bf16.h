/*
 * A small matrix product of bf16 in registers: c[m,n] (+)= a[m,k] · b[k,n] with c in fp32, by
 * instructions that add two products to each lane (AVX512-BF16). k goes by pairs: a word of 32 bits
 * has the elements of 2l (low half) and 2l + 1. Subnormal operands and sums count as zero there.
 */
#ifndef PAR__CPU_MICRO_BF16_H
#define PAR__CPU_MICRO_BF16_H

#include "kernels/cpu/vector.h"

#ifdef __AVX512BF16__

/* The word (i, l) of a begins at a[i · a_row + l · a_step]; b[l · ldb + j] is word (l, j). */
typedef struct {
    const uint16_t *a;
    int64_t a_row, a_step;
    const uint32_t *b;
    int64_t ldb;
    float *c;
    int64_t ldc;
} micro_bf16;

enum { BF16_ROWS = 4, BF16_VECTORS = 4 };

/* rows and vectors are constants where this is inlined; the last vector has the lanes of `last` */
CPU_INLINE void micro_bf16_block(micro_bf16 t, int rows, int vectors, __mmask16 last, int64_t pairs,
                                 bool accumulate) {
    __m512 acc[BF16_ROWS][BF16_VECTORS];
    __mmask16 lanes[BF16_VECTORS];
    for (int v = 0; v < vectors; v++) lanes[v] = v + 1 < vectors ? (__mmask16)0xffff : last;
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            acc[r][v] = accumulate ? _mm512_maskz_loadu_ps(lanes[v], t.c + r * t.ldc + v * LANES)
                                   : _mm512_setzero_ps();
    for (int64_t l = 0; l < pairs; l++) {
        __m512i b[BF16_VECTORS];
        for (int v = 0; v < vectors; v++)
            b[v] = _mm512_maskz_loadu_epi32(lanes[v], t.b + l * t.ldb + v * LANES);
        for (int r = 0; r < rows; r++) {
            int32_t word;
            memcpy(&word, t.a + r * t.a_row + l * t.a_step, sizeof word);
            __m512i a = _mm512_set1_epi32(word);
            for (int v = 0; v < vectors; v++)
                acc[r][v] = _mm512_dpbf16_ps(acc[r][v], (__m512bh)b[v], (__m512bh)a);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            _mm512_mask_storeu_ps(t.c + r * t.ldc + v * LANES, lanes[v], acc[r][v]);
}

CPU_INLINE void micro_bf16_rows(micro_bf16 t, int rows, int64_t n, int64_t pairs, bool accumulate) {
    const __mmask16 all = 0xffff;
    int64_t j = 0;
    for (; j + BF16_VECTORS * LANES <= n; j += BF16_VECTORS * LANES) {
        micro_bf16_block(t, rows, BF16_VECTORS, all, pairs, accumulate);
        t.b += BF16_VECTORS * LANES;
        t.c += BF16_VECTORS * LANES;
    }
    for (; j < n; j += LANES) {
        micro_bf16_block(t, rows, 1, n - j < LANES ? (__mmask16)(all >> (LANES - (n - j))) : all,
                         pairs, accumulate);
        t.b += LANES;
        t.c += LANES;
    }
}

static inline void micro_bf16_gemm(micro_bf16 t, int64_t m, int64_t n, int64_t pairs,
                                   bool accumulate) {
    int64_t i = 0;
    for (; i + BF16_ROWS <= m; i += BF16_ROWS) {
        micro_bf16_rows(t, BF16_ROWS, n, pairs, accumulate);
        t.a += BF16_ROWS * t.a_row;
        t.c += BF16_ROWS * t.ldc;
    }
    for (; i < m; i++) {
        micro_bf16_rows(t, 1, n, pairs, accumulate);
        t.a += t.a_row;
        t.c += t.ldc;
    }
}

/* to[d / 2, columns] = the words of from[columns, d] transposed, zero from column n to `columns` */
static inline void micro_bf16_transpose(const uint16_t *from, int64_t ld, int64_t n, int64_t d,
                                        uint32_t *to, int64_t columns) {
    for (int64_t c = 0; c < n; c++)
        for (int64_t i = 0; i < d / 2; i++)
            memcpy(to + i * columns + c, from + c * ld + 2 * i, sizeof *to);
    for (int64_t i = 0; i < d / 2; i++)
        for (int64_t c = n; c < columns; c++) to[i * columns + c] = 0;
}

/* to[(rows + 1) / 2, n] = words of two rows of from[rows, n] each; a row that is missing is zero */
static inline void micro_bf16_interleave(const uint16_t *from, int64_t ld, int64_t rows, int64_t n,
                                         uint32_t *to) {
    for (int64_t i = 0; i < rows; i += 2) {
        const uint16_t *x = from + i * ld, *y = x + ld;
        uint32_t *words = to + i / 2 * n;
        if (i + 1 < rows)
            for (int64_t j = 0; j < n; j++) words[j] = x[j] | (uint32_t)y[j] << 16;
        else
            for (int64_t j = 0; j < n; j++) words[j] = x[j];
    }
}

#endif
#endif
