/*
 * What own kernels need of CUDA C++ beyond its plain language: a launch, dynamic shared memory, the
 * conversions of 16-bit types, and how many blocks fill the device. device.cuh says who may bring
 * other definitions of the same names.
 */
#ifndef PAR__HARDWARE_CUH
#define PAR__HARDWARE_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/own/mma.cuh"

/* The architecture that is compiled for, 900 for 9.0; 0: the host's part. */
#ifdef __CUDA_ARCH__
#define PAR__ARCH __CUDA_ARCH__
#else
#define PAR__ARCH 0
#endif

/* PAR_LAUNCH((kernel<float>), grid, block, shared bytes, par_stream *, arguments...): the kernel in
 * parentheses, so that it may have template arguments. */
#define PAR_LAUNCH(kernel, grid, block, shared_nbytes, stream, ...)                                \
    PAR__UNPACK kernel<<<(grid), (block), (shared_nbytes), par__cuda_stream(stream)>>>(__VA_ARGS__)
#define PAR__UNPACK(...) __VA_ARGS__

/* Before a 16-byte access: the hardware itself would stop at an address that is not a multiple. */
#define PAR__ALIGNED(p) (void)0

/* Dynamic shared memory of a launch, aligned to the 1024 bytes that wgmma.cuh wants. */
#define PAR_SHARED(type, name)                                                                     \
    extern __shared__ __align__(1024) unsigned char par_shared_raw_[];                             \
    type *name = reinterpret_cast<type *>(par_shared_raw_)

/* A barrier of the threads with this threadIdx.y, of at most 15 in a block; blockDim.x is whole
 * warps. */
__device__ static inline void par__sync_row(void) {
    asm volatile("bar.sync %0, %1;" ::"r"(threadIdx.y + 1), "r"(blockDim.x) : "memory");
}

/* Bits of 16-bit types to fp32, and back with rounding to nearest, ties to even. */
__device__ static inline float par__widen_bf16(uint16_t bits) {
    return __uint_as_float((uint32_t)bits << 16);
}
__device__ static inline float par__widen_f16(uint16_t bits) {
    return __half2float(__ushort_as_half(bits));
}
__device__ static inline uint16_t par__narrow_bf16(float x) {
    return __bfloat16_as_ushort(__float2bfloat16_rn(x));
}
__device__ static inline uint16_t par__narrow_f16(float x) {
    return __half_as_ushort(__float2half_rn(x));
}

static inline int64_t par__multiprocessors(void) {
    return par__cuda_device_get()->n_multiprocessors;
}

/* Blocks that fill the device a few times over. */
static inline int64_t par__max_blocks(void) {
    return 32 * par__multiprocessors();
}

#endif
