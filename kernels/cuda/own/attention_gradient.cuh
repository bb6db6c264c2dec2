/*
 * Attention backward on tensor cores, what its kernels share: weights out of scores, and masks and
 * dropout of transposed scores, whose rows are keys.
 */
#ifndef PAR__ATTENTION_GRADIENT_CUH
#define PAR__ATTENTION_GRADIENT_CUH

#include "kernels/cuda/own/attention_mma.cuh"

/* ds / scale = p (dp - delta), and p itself is 2^(s · exponent - lse in base 2). */
__device__ static inline float weight(float s, float exponent, float lse) {
    return par__exp2(s * exponent - lse * LOG2_E);
}

/* Take out the scores of keys behind their query, where rows are keys; `ahead` is the first query
 * minus the first key. */
template <int M, int N> __device__ static inline void mask_columns(float (&s)[M][N][4], int ahead) {
    int row = threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2 + ahead;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                if (row + 16 * m + e / 2 * 8 > column + 8 * n + e % 2) s[m][n][e] = -INFINITY;
}

/* The same of keys before their query's document; the first column and row are tokens `query` and
 * `key` of sequence b. */
template <int M, int N>
__device__ static inline void mask_document_columns(float (&s)[M][N][4], const par_attention &a,
                                                    int64_t b, int query, int key) {
    int row = threadIdx.x % 32 / 4 + key;
    if (!a.apart || first_key(a, b, query + 8 * N - 1) <= key) return;
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
            int begin = (int)first_key(a, b, query + 8 * n + threadIdx.x % 4 * 2 + e);
#pragma unroll
            for (int m = 0; m < M; m++)
#pragma unroll
                for (int half = 0; half < 2; half++)
                    if (row + 16 * m + 8 * half < begin) s[m][n][2 * half + e] = -INFINITY;
        }
}

/*
 * Which of a thread's transposed scores are kept: bit n of kept[m][e]. The 4 lanes that have 4
 * neighbouring keys of two queries, and again 8 keys further, draw for one of these four each; lane
 * e of them has drawn what they all need for their scores [m][n][e].
 */
template <int M, int N>
__device__ static inline void draw_columns(uint32_t (&kept)[M][4], const head_dropout &dropout,
                                           int query, int key) {
    int lane = threadIdx.x % 32, mine = lane / 4 % 4, column = lane % 4 * 2 + mine % 2;
    static_assert(N <= 8, "4 bits per product in a word");
#pragma unroll
    for (int m = 0; m < M; m++) {
        uint32_t drawn = 0;
        int row = key + 16 * m + mine / 2 * 8 + lane / 16 * 4;
#pragma unroll
        for (int n = 0; n < N; n++) drawn |= dropout.four(query + 8 * n + column, row) << 4 * n;
#pragma unroll
        for (int e = 0; e < 4; e++)
            kept[m][e] = __shfl_sync(0xffffffffu, drawn, (lane & 19) | e * 4) >> mine;
    }
}

#endif
