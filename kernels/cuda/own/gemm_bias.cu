/* A bias where cuBLASLt has no epilogue for it: products in 16 bits with an fp32 result, and k =
 * 0. */
#include "kernels/cuda/own/device.cuh"
#include "kernels/cuda/own/own.h"

enum { THREADS = 256, MAX_BLOCKS = 65536 };

template <typename T, typename C>
__global__ void add_bias(C *c, int64_t m, int64_t n, int64_t ldc, const T *bias, float beta) {
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t e = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; e < m * n; e += step) {
        int64_t i = e / n, j = e % n;
        float add = bias ? par__load(&bias[j]) : 0.0f;
        par__store(&c[i * ldc + j], beta == 0 ? add : beta * par__load(&c[i * ldc + j]) + add);
    }
}

template <typename T, typename C>
static par_status launch_into(par_stream *stream, const par_gemm *g, float beta) {
    int64_t blocks = par__blocks(g->m * g->n, THREADS);
    PAR_LAUNCH((add_bias<T, C>), dim3((unsigned)(blocks < MAX_BLOCKS ? blocks : MAX_BLOCKS)),
               dim3(THREADS), 0, stream, (C *)g->c, g->m, g->n, g->ldc, (const T *)g->bias, beta);
    return par__cuda_launched("add_bias");
}

template <typename T> static par_status launch(par_stream *stream, const par_gemm *g, float beta) {
    return g->dtype_c == PAR_F32 ? launch_into<T, float>(stream, g, beta)
                                 : launch_into<T, T>(stream, g, beta);
}

extern "C" par_status par__cuda_add_bias(par_stream *stream, const par_gemm *g, float beta) {
    return PAR_DISPATCH(g->dtype, launch, stream, g, beta);
}
