/*
 * What own kernels share: element types, 16-byte accesses, sums over warps and blocks in a fixed
 * order, and the launch. Kernels see nothing but this header and the standard math functions, and
 * are launched with PAR_LAUNCH alone, so that their sources can be compiled for something else than
 * a GPU: where PAR_LAUNCH is defined before this header, the definitions of hardware.cuh are taken
 * to be there too (the tests run every thread of a block on the host that way).
 *
 * 16-bit values are uint16_t in memory, as in par/kernels.h; arithmetic is fp32. Reductions never
 * use atomics, so that the bits repeat.
 */
#ifndef PAR__DEVICE_CUH
#define PAR__DEVICE_CUH

#include <math.h>
#include <stdint.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/own/own.h"

#ifndef PAR_LAUNCH
#include "kernels/cuda/own/hardware.cuh"
#endif

/* Elements in memory: float, or one of two wrappers of uint16_t. */
struct par__bf16 {
    uint16_t bits;
};
struct par__f16 {
    uint16_t bits;
};

__device__ static inline float par__load(const float *p) {
    return *p;
}
__device__ static inline void par__store(float *p, float x) {
    *p = x;
}
__device__ static inline float par__load(const par__bf16 *p) {
    return par__widen_bf16(p->bits);
}
__device__ static inline float par__load(const par__f16 *p) {
    return par__widen_f16(p->bits);
}
__device__ static inline void par__store(par__bf16 *p, float x) {
    p->bits = par__narrow_bf16(x);
}
__device__ static inline void par__store(par__f16 *p, float x) {
    p->bits = par__narrow_f16(x);
}

/*
 * Kernels over arrays are written once for W elements at a time: 16 bytes of the narrowest type, or
 * 1 where a pointer or a stride is not a multiple of that. par__get and par__put move W elements
 * between memory and fp32 registers; p must be aligned to 16 bytes if W > 1. Where fp32 and 16 bits
 * meet and fp32 is most of the traffic, W is 4: 8 bytes of the narrow type, so that the lanes' fp32
 * accesses lie side by side.
 */
template <int W> struct par__pack { float x[W]; };

template <int W, typename T> __device__ static inline par__pack<W> par__get(const T *p) {
    par__pack<W> out;
    if constexpr (W == 1) {
        out.x[0] = par__load(p);
    } else if constexpr (W * sizeof(T) == 8) {
        union {
            uint2 raw;
            T element[W];
        } u = {*reinterpret_cast<const uint2 *>(p)};
#pragma unroll
        for (int i = 0; i < W; i++) out.x[i] = par__load(&u.element[i]);
    } else {
        enum { N = W * sizeof(T) / 16 };
        static_assert(N > 0 && W * sizeof(T) % 16 == 0, "whole 16-byte accesses");
        union {
            uint4 raw[N];
            T element[W];
        } u;
        PAR__ALIGNED(p);
#pragma unroll
        for (int i = 0; i < N; i++) u.raw[i] = reinterpret_cast<const uint4 *>(p)[i];
#pragma unroll
        for (int i = 0; i < W; i++) out.x[i] = par__load(&u.element[i]);
    }
    return out;
}

template <int W, typename T> __device__ static inline void par__put(T *p, const par__pack<W> &in) {
    if constexpr (W == 1) {
        par__store(p, in.x[0]);
    } else if constexpr (W * sizeof(T) == 8) {
        union {
            uint2 raw;
            T element[W];
        } u;
#pragma unroll
        for (int i = 0; i < W; i++) par__store(&u.element[i], in.x[i]);
        *reinterpret_cast<uint2 *>(p) = u.raw;
    } else {
        enum { N = W * sizeof(T) / 16 };
        static_assert(N > 0 && W * sizeof(T) % 16 == 0, "whole 16-byte accesses");
        union {
            uint4 raw[N];
            T element[W];
        } u;
        PAR__ALIGNED(p);
#pragma unroll
        for (int i = 0; i < W; i++) par__store(&u.element[i], in.x[i]);
#pragma unroll
        for (int i = 0; i < N; i++) reinterpret_cast<uint4 *>(p)[i] = u.raw[i];
    }
}

/* W elements as they lie in memory, 16 bytes or one element: for 16-bit types half the registers of
 * a par__pack. */
template <typename T, int W> struct par__raw {
    static_assert(W * sizeof(T) == 16, "one 16-byte access");
    uint4 bits;
};
template <typename T> struct par__raw<T, 1> { T bits; };

template <int W, typename T> __device__ static inline par__raw<T, W> par__get_raw(const T *p) {
    if (W > 1) PAR__ALIGNED(p);
    return {*reinterpret_cast<const decltype(par__raw<T, W>::bits) *>(p)};
}

template <int W, typename T>
__device__ static inline void par__put_raw(T *p, const par__raw<T, W> &in) {
    if (W > 1) PAR__ALIGNED(p);
    *reinterpret_cast<decltype(par__raw<T, W>::bits) *>(p) = in.bits;
}

template <typename T, int W>
__device__ static inline par__pack<W> par__wide(const par__raw<T, W> &in) {
    par__pack<W> out;
    union {
        decltype(par__raw<T, W>::bits) bits;
        T element[W];
    } u = {in.bits};
#pragma unroll
    for (int i = 0; i < W; i++) out.x[i] = par__load(&u.element[i]);
    return out;
}

/* Rounded to T. */
template <typename T, int W>
__device__ static inline par__raw<T, W> par__narrow(const par__pack<W> &in) {
    union {
        decltype(par__raw<T, W>::bits) bits;
        T element[W];
    } u;
#pragma unroll
    for (int i = 0; i < W; i++) par__store(&u.element[i], in.x[i]);
    return {u.bits};
}

template <int W> __device__ static inline float par__pack_sum(const par__pack<W> &in) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < W; i++) sum += in.x[i];
    return sum;
}

/* A number of elements as a type, for par__flat's function. */
template <int W> struct par__width { static constexpr int value = W; };

/* f(par__width, i) once for all elements i of [0, n), by all threads of blocks 0 to n_blocks - 1:
 * W at a time, the rest one by one. */
template <int W, typename F>
__device__ static inline void par__flat_by(int64_t block, int64_t n_blocks, int64_t n, F f) {
    int64_t thread = block * blockDim.x + threadIdx.x, threads = n_blocks * blockDim.x;
    for (int64_t i = thread * W; i <= n - W; i += threads * W) f(par__width<W>{}, i);
    if (W > 1)
        for (int64_t i = n / W * W + thread; i < n; i += threads) f(par__width<1>{}, i);
}

/* By a grid of one dimension. */
template <int W, typename F> __device__ static inline void par__flat(int64_t n, F f) {
    par__flat_by<W>(blockIdx.x, gridDim.x, n, f);
}

/* True if rows of ld elements from p on may be read in packs. */
template <typename T> static inline bool par__packable(const void *p, int64_t ld) {
    return (uintptr_t)p % 16 == 0 && ld % (16 / (int64_t)sizeof(T)) == 0;
}

/* Sum and maximum over a warp, the same bits in every lane. All 32 lanes call. */
__device__ static inline float par__warp_sum(float x) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}
__device__ static inline double par__warp_sum(double x) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}
__device__ static inline float par__warp_max(float x) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}

/* Sum over a block of whole warps, the same bits in every thread. `shared` [32]; all threads
 * call. */
template <typename S> __device__ static inline S par__block_sum(S x, S *shared) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, n_warps = (blockDim.x + 31) / 32;
    x = par__warp_sum(x);
    __syncthreads();
    if (lane == 0) shared[warp] = x;
    __syncthreads();
    return par__warp_sum(lane < n_warps ? shared[lane] : (S)0);
}
__device__ static inline float par__block_max(float x, float *shared) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, n_warps = (blockDim.x + 31) / 32;
    x = par__warp_max(x);
    __syncthreads();
    if (lane == 0) shared[warp] = x;
    __syncthreads();
    return par__warp_max(lane < n_warps ? shared[lane] : -INFINITY);
}

/* Call f<T>(args...) for the element type of dtype. */
#define PAR_DISPATCH(dtype, f, ...)                                                                \
    ((dtype) == PAR_F32    ? f<float>(__VA_ARGS__)                                                 \
     : (dtype) == PAR_BF16 ? f<par__bf16>(__VA_ARGS__)                                             \
                           : f<par__f16>(__VA_ARGS__))

/* W = 16 / sizeof(T) if `packed`, else 1: f<T, W>(args...). */
#define PAR_DISPATCH_WIDTH(T, packed, f, ...)                                                      \
    ((packed) ? f<T, 16 / (int)sizeof(T)>(__VA_ARGS__) : f<T, 1>(__VA_ARGS__))

static inline int64_t par__blocks(int64_t n, int64_t per_block) {
    return (n + per_block - 1) / per_block;
}

/* A grid for kernels that step by gridDim: enough blocks to fill the device a few times over, and
 * no more. */
static inline unsigned par__grid(int64_t n_blocks) {
    int64_t most = par__max_blocks();
    return (unsigned)(n_blocks < most ? n_blocks : most);
}

/* Whole warps for n threads that have work, at most `most`. */
static inline unsigned par__threads(int64_t n, int64_t most) {
    return (unsigned)(n >= most ? most : n < 32 ? 32 : (n + 31) / 32 * 32);
}

#endif
