/*
 * Attention forward on tensor cores, what its kernels share: the running maximum and sum of the
 * rows that a warp has (Dao 2023, algorithm 1), and what becomes of them at the end.
 */
#ifndef PAR__ATTENTION_SOFTMAX_CUH
#define PAR__ATTENTION_SOFTMAX_CUH

#include "kernels/cuda/own/attention_mma.cuh"

/* What a warp keeps of its rows. max is of the scores before they are scaled; sum is the thread's
 * part of it. Entries [m][half] are row 16 m + 8 half + lane / 4. */
template <int M, int C> struct forward_state { float o[M][C][4], max[M][2], sum[M][2]; };

/* Scores become weights, relative to a maximum that follows the row's own: it is left behind by up
 * to 2^GROWTH, which 16 bits hold, so that sum, and o by shrink_rows, are brought to a new one only
 * now and then. */
template <int M, int N, int C>
__device__ static inline void softmax_rows(forward_state<M, C> &x, float (&s)[M][N][4],
                                           float exponent, float (&shrink)[M][2]) {
    enum { GROWTH = 8 };
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float before = x.max[m][half], max = before, sum = 0;
#pragma unroll
            for (int n = 0; n < N; n++)
                max = fmaxf(max, fmaxf(s[m][n][2 * half], s[m][n][2 * half + 1]));
            max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 1));
            max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 2));
            bool grows = (max - before) * exponent > GROWTH;
            if (!grows) max = before;
            shrink[m][half] = grows ? par__exp2((before - max) * exponent) : 1;
            x.max[m][half] = max;
            /* a row whose document begins behind the tile has no maximum yet, and no weights */
            float shift = max == -INFINITY ? 0.0f : max * exponent;
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int i = 2 * half; i < 2 * half + 2; i++) {
                    s[m][n][i] = par__exp2(s[m][n][i] * exponent - shift);
                    sum += s[m][n][i];
                }
            x.sum[m][half] = x.sum[m][half] * shrink[m][half] + sum;
        }
}

template <int M, int C>
__device__ static inline void shrink_rows(forward_state<M, C> &x, const float (&shrink)[M][2]) {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            if (!__ballot_sync(0xffffffffu, shrink[m][half] != 1)) continue;
#pragma unroll
            for (int c = 0; c < C; c++) {
                x.o[m][c][2 * half] *= shrink[m][half];
                x.o[m][c][2 * half + 1] *= shrink[m][half];
            }
        }
}

/* o and lse of a warp's rows; `row` counts in the tile of queries, whose memory is used. */
template <par_dtype TYPE, typename TILE, int M, int C>
__device__ static inline void finish(const par_attention &a, float keep_scale, int64_t b, int64_t h,
                                     int first, uint16_t *q, int row, forward_state<M, C> &x) {
    float factor[M][2];
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float sum = x.sum[m][half];
            sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            int t = first + row + 16 * m + 8 * half + threadIdx.x % 32 / 4;
            if (threadIdx.x % 4 == 0 && t < a.T)
                a.lse[(b * a.H + h) * a.T + t] = x.max[m][half] * a.scale + logf(sum);
            factor[m][half] = keep_scale / sum;
        }
    store_rows<TYPE, TILE>(head_of(a, a.o, a.ldo, b, h), first, q, row, 0, x.o, factor);
}

#endif
