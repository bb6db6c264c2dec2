/*
 * Sums of the columns of a matrix, in fixed order, for column_sum.cu. A block has 32 · W
 * columns; its 8 warps add every 8th row of a piece each, and the warps' sums are added in their
 * order. Tall matrices are cut into pieces by their height alone,
 * whose sums are the rows of a second matrix: the same kernel again.
 */
#ifndef PAR__COLUMNS_CUH
#define PAR__COLUMNS_CUH

#include "kernels/cuda/own/device.cuh"

enum { PAR__COLUMNS_WARPS = 8 };

/* y[piece, j] (+)= sum of x[i, j] over the piece's rows. Grid: columns, pieces. */
template <typename T, int W>
__global__ void __launch_bounds__(256) par__columns(const T *x, int64_t m, int64_t n, int64_t ldx,
                                                    int64_t rows, float *y, float beta) {
    __shared__ float partial[PAR__COLUMNS_WARPS][32 * W];
    int64_t first = (int64_t)blockIdx.x * 32 * W, begin = blockIdx.y * rows;
    int64_t end = begin + rows < m ? begin + rows : m, column = first + threadIdx.x * W;
    par__pack<W> sum = {};
    if (column < n)
#pragma unroll 4
        for (int64_t i = begin + threadIdx.y; i < end; i += PAR__COLUMNS_WARPS) {
            par__pack<W> v = par__get<W>(&x[i * ldx + column]);
#pragma unroll
            for (int j = 0; j < W; j++) sum.x[j] += v.x[j];
        }
#pragma unroll
    for (int j = 0; j < W; j++) partial[threadIdx.y][threadIdx.x * W + j] = sum.x[j];
    __syncthreads();
    int j = threadIdx.y * 32 + threadIdx.x;
    if (j >= 32 * W || first + j >= n) return;
    float total = 0;
    for (int w = 0; w < PAR__COLUMNS_WARPS; w++) total += partial[w][j];
    float *out = &y[blockIdx.y * n + first + j];
    *out = beta == 0 ? total : *out + total;
}

template <typename T, int W>
static par_status par__columns_launch_width(par_stream *stream, const T *x, int64_t m, int64_t n,
                                            int64_t ldx, int64_t pieces, float *y, float beta) {
    PAR_LAUNCH((par__columns<T, W>), dim3((unsigned)par__blocks(n, 32 * W), (unsigned)pieces),
               dim3(32, PAR__COLUMNS_WARPS), 0, stream, x, m, n, ldx, par__blocks(m, pieces), y,
               beta);
    return par__cuda_launched("columns");
}

/* y [pieces, n]. */
template <typename T>
static par_status par__columns_launch(par_stream *stream, const T *x, int64_t m, int64_t n,
                                      int64_t ldx, int64_t pieces, float *y, float beta) {
    if (n == 0) return PAR_OK;
    bool packed = par__packable<T>(x, ldx) && n % (16 / (int64_t)sizeof(T)) == 0;
    return PAR_DISPATCH_WIDTH(T, packed, par__columns_launch_width, stream, x, m, n, ldx, pieces, y,
                              beta);
}

#endif
