/*
 * What both directions of the norms share: a row has whole warps (threadIdx.x), a block as many
 * rows (threadIdx.y) as its threads allow. A thread holds the packs k of its row that lie at column
 * (threadIdx.x + k · blockDim.x) · W, k < H; the rest of a longer row is read again where it lies.
 */
#ifndef PAR__NORM_CUH
#define PAR__NORM_CUH

#include "kernels/cuda/own/device.cuh"

/* f(k, j) for the packs k of a row of n elements that this thread holds, at column j. */
template <int W, int H, typename F> __device__ static inline void near(int64_t n, F f) {
#pragma unroll
    for (int k = 0; k < H; k++) {
        int j = (int)(threadIdx.x + k * blockDim.x) * W;
        if (j < n) f(k, j);
    }
}

/* f(j) for its other packs. */
template <int W, int H, typename F> __device__ static inline void far(int64_t n, F f) {
    for (int64_t j = ((int64_t)threadIdx.x + H * (int64_t)blockDim.x) * W; j < n;
         j += (int64_t)blockDim.x * W)
        f(j);
}

/* Sums over the threads of a row, the same bits in each. `shared` [N][warps of a block]; calls that
 * follow each other take turns with two of them, as the sums of one may still be read. */
template <int N, int WARPS>
__device__ static inline void row_sums(float (&x)[N], float (&shared)[N][WARPS]) {
    int n_warps = (int)blockDim.x / 32, first = (int)threadIdx.y * n_warps;
#pragma unroll
    for (int s = 0; s < N; s++) x[s] = par__warp_sum(x[s]);
    if (n_warps == 1) return;
#pragma unroll
    for (int s = 0; s < N; s++)
        if (threadIdx.x % 32 == 0) shared[s][first + (int)threadIdx.x / 32] = x[s];
    par__sync_row();
#pragma unroll
    for (int s = 0; s < N; s++) {
        x[s] = 0;
        for (int w = 0; w < n_warps; w++) x[s] += shared[s][first + w];
    }
}

/* Rows of n elements of T at these addresses (NULL: absent) can be read in packs. */
template <typename T>
static bool packable(int64_t n, const void *p0, const void *p1, const void *p2, const void *p3,
                     const void *p4) {
    return par__packable<T>(p0, n) && par__packable<T>(p1, n) && par__packable<T>(p2, n) &&
           par__packable<T>(p3, n) && par__packable<T>(p4, n);
}

/* Threads of a row, and rows of a block of at most `most` threads. */
static inline dim3 block_of(int64_t n, int width, int held, int most) {
    unsigned row = par__threads(par__blocks(n, (int64_t)width * held), most);
    return dim3(row, (unsigned)most / row);
}

#endif
