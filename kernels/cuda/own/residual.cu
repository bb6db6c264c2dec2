/*
 * Residual connection with bias and dropout, par_residual in par/kernels.h. A thread has one or two
 * groups of 4 elements, the number that one Philox call gives words for; where rows are not aligned
 * it reads them one by one.
 */
#include "kernels/cuda/own/dropout.cuh"

enum { THREADS = 256, GROUP = PAR__DROPOUT_GROUP };

/* W elements in fp32 from p: whole and aligned if PACKED, else the first `count` of them. */
template <int W, bool PACKED, typename T>
__device__ static inline par__pack<W> read(const T *p, int count) {
    if constexpr (PACKED) {
        return par__get<W>(p);
    } else {
        par__pack<W> out;
#pragma unroll
        for (int e = 0; e < W; e++) out.x[e] = e < count ? par__load(p + e) : 0;
        return out;
    }
}

template <int W, bool PACKED, typename T>
__device__ static inline void write(T *p, int count, const par__pack<W> &in) {
    if constexpr (PACKED) {
        par__put<W>(p, in);
    } else {
#pragma unroll
        for (int e = 0; e < W; e++)
            if (e < count) par__store(p + e, in.x[e]);
    }
}

/* Grid: columns, rows. y may be x or residual: a thread reads its elements before it writes
 * them. */
template <typename T, int W, bool PACKED>
__global__ void __launch_bounds__(THREADS) residual_rows(par_residual a, par__device_dropout d) {
    int64_t j = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * W;
    if (j >= a.n) return;
    int count = a.n - j < W ? (int)(a.n - j) : W;
    par__pack<W> bias = {};
    if (a.bias) bias = read<W, PACKED>((const T *)a.bias + j, count);
    par__device_dropout_begin(d);
    for (int64_t i = blockIdx.y; i < a.m; i += gridDim.y) {
        int64_t at = i * a.n + j;
        par__pack<W> v = read<W, PACKED>((const T *)a.x + at, count), residual = {};
        if (a.residual) residual = read<W, PACKED>((const T *)a.residual + at, count);
#pragma unroll
        for (int e = 0; e < W; e++) v.x[e] += bias.x[e];
        if (d.threshold > 0) par__drop(d, a.T, a.first_row + i, j, v);
#pragma unroll
        for (int e = 0; e < W; e++) v.x[e] += residual.x[e];
        write<W, PACKED>((T *)a.y + at, count, v);
    }
}

template <typename T> static par_status residual(par_stream *stream, const par_residual *a) {
    enum { W = 16 / sizeof(T) };
    if (a->m == 0 || a->n == 0) return PAR_OK;
    bool packed = par__packable<T>(a->x, a->n) && par__packable<T>(a->y, a->n) &&
                  par__packable<T>(a->bias, a->n) && par__packable<T>(a->residual, a->n);
    par__device_dropout d = par__device_dropout_of(&a->dropout);
    dim3 grid((unsigned)par__blocks(a->n, (int64_t)THREADS * (packed ? (int)W : (int)GROUP)),
              par__grid(a->m));
    if (packed)
        PAR_LAUNCH((residual_rows<T, W, true>), grid, dim3(THREADS), 0, stream, *a, d);
    else
        PAR_LAUNCH((residual_rows<T, GROUP, false>), grid, dim3(THREADS), 0, stream, *a, d);
    return par__cuda_launched("residual");
}

static par_status prepare(const void *args, size_t *workspace_nbytes) {
    (void)args;
    *workspace_nbytes = 0;
    return PAR_OK;
}

par_status par__residual_launch(par_stream *stream, const par_residual *a) {
    return PAR_DISPATCH(a->dtype, residual, stream, a);
}

static par_status run(par_stream *stream, const void *args, void *workspace) {
    (void)workspace;
    return par__residual_launch(stream, (const par_residual *)args);
}

extern "C" void par__cuda_residual_init(par_backend *backend) {
    backend->kernels[PAR_OP_RESIDUAL] = {"residual/cuda/own", prepare, run};
}
