/*
 * The gradient of a bias (par_column_sum): a block sums 32 columns, its 8 warps every 8th row each in fp32,
 * and the warps' sums are added in their order, so that the bits repeat. Reads are whole 64 or 128 byte rows
 * of a warp.
 */
#include "kernels/cuda/device.cuh"

enum { COLUMNS = 32, WARPS = 8 };

template <typename T>
__global__ void column_sum(const T *x, int64_t m, int64_t n, int64_t ldx, float *y, float beta) {
    __shared__ float partial[WARPS][COLUMNS];
    int64_t column = (int64_t)blockIdx.x * COLUMNS + threadIdx.x;
    float sum = 0;
    if (column < n)
        for (int64_t i = threadIdx.y; i < m; i += WARPS) sum += par__load(&x[i * ldx + column]);
    partial[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || column >= n) return;
    float total = 0;
    for (int w = 0; w < WARPS; w++) total += partial[w][threadIdx.x];
    y[column] = beta == 0 ? total : y[column] + total;
}

template <typename T> static par_status launch(par_stream *stream, const par_column_sum *a) {
    if (a->n == 0) return PAR_OK;
    PAR_LAUNCH((column_sum<T>), dim3((unsigned)par__blocks(a->n, COLUMNS)), dim3(COLUMNS, WARPS), 0, stream,
               (const T *)a->x, a->m, a->n, a->ldx, a->y, a->beta);
    return par__cuda_launched("column_sum");
}

static par_status prepare(const void *args, size_t *workspace_nbytes) {
    (void)args;
    *workspace_nbytes = 0;
    return PAR_OK;
}

static par_status run(par_stream *stream, const void *args, void *workspace) {
    const par_column_sum *a = (const par_column_sum *)args;
    (void)workspace;
    return PAR_DISPATCH(a->dtype, launch, stream, a);
}

extern "C" void par__cuda_column_sum_init(par_backend *backend) {
    backend->kernels[PAR_OP_COLUMN_SUM] = {"column_sum/cuda/own", prepare, run};
}
