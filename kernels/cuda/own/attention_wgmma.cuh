/*
 * What the attention kernels for compute capability 9.0 share. A block has GROUPS warpgroups with
 * 64 rows of a tile each, a warp 16 of them, with sums and weights in the layouts of
 * attention_mma.cuh. Tiles lie in shared memory as products of warpgroups read them (wgmma.cuh):
 * panels of 64 channels, zeros behind the last token and channel.
 */
#ifndef PAR__ATTENTION_WGMMA_CUH
#define PAR__ATTENTION_WGMMA_CUH

#include "kernels/cuda/own/attention_mma.cuh"
#include "kernels/cuda/own/wgmma.cuh"

enum { GROUP_ROWS = 64 };

template <int DP_, int ROWS_> struct panel_tile {
    enum { DP = DP_, ROWS = ROWS_, SIZE = DP * ROWS, PANEL_NBYTES = ROWS * 128 };
    __device__ static int place(int row, int group) {
        return (group / 8 * ROWS + row) * 64 + ((group % 8) ^ (row % 8)) * 8;
    }
    /* the tile from a row on, a multiple of 8, as a factor */
    __device__ static par__factor from(const uint16_t *tile, int row) {
        return par__factor_at(tile + row * 64, PANEL_NBYTES);
    }
};

/* s = a · b^T, 64 rows of A and 8 N of B, begun and not waited for. */
template <par_dtype TYPE, typename A, typename B, int N>
__device__ static inline void begin_dot(float (&s)[N][4], par__factor a, par__factor b) {
    par__wgmma_rows<TYPE, false>(s, a, b);
#pragma unroll
    for (int k = 1; k < A::DP / 16; k++)
        par__wgmma_rows<TYPE, true>(s, a + (k / 4 * A::PANEL_NBYTES + k % 4 * 32),
                                    b + (k / 4 * B::PANEL_NBYTES + k % 4 * 32));
    par__wgmma_commit();
}

/* sum += w · (rows of a tile), begun and not waited for. */
template <par_dtype TYPE, int K, int N>
__device__ static inline void begin_add(float (&sum)[N][4], const uint32_t (&w)[K][4],
                                        par__factor rows) {
#pragma unroll
    for (int k = 0; k < K; k++) par__wgmma_add<TYPE>(sum, w[k], rows + k * 16 * 128);
    par__wgmma_commit();
}

/* Weights as the left factor of a product, rounded to 16 bits. */
template <par_dtype TYPE, int N>
__device__ static inline void narrow_rows(uint32_t (&to)[N / 2][4], const float (&w)[N][4]) {
#pragma unroll
    for (int k = 0; k < N / 2; k++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float *pair = &w[2 * k + i / 2][i % 2 * 2];
            to[k][i] = par__narrow_pair<TYPE>(pair[0], pair[1]);
        }
}

/* This thread's copies have arrived; behind the barrier all are there, for products too. */
__device__ static inline void meet_with_copies(void) {
    par__copy_wait();
    par__wgmma_see();
    __syncthreads();
}

#endif
