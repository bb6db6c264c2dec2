/*
 * Instructions of compute capability 8.0 and later as functions: products of small matrices by a
 * warp (mma.sync), their operands from shared memory (ldmatrix), and copies to shared memory that
 * run beside the arithmetic (cp.async). All lanes of a warp call the first two. NVIDIA's PTX manual
 * has the layouts: with g = lane / 4 and t = lane % 4, lane has of
 *   C [16, 8]   c[0..1] = row g, columns 2t, 2t + 1; c[2..3] = row g + 8
 *   A [16, 16]  a[0] = row g, columns 2t, 2t + 1; a[1] = row g + 8; a[2..3] = columns 8 further
 *   B [16, 8]   b[0] = rows 2t, 2t + 1 of column g; b[1] = rows 8 further
 */
#ifndef PAR__MMA_CUH
#define PAR__MMA_CUH

#include <stdint.h>

#include "par/kernels.h"

/* Older devices have kernels without products and operands: nothing is launched that calls them.
 * Copies are plain ones there. */
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define PAR__ASM(...) asm volatile(__VA_ARGS__)
#else
#define PAR__ASM(...) __trap()
#endif

/* c += a · b: 16 x 16 times 16 x 8, values of TYPE, sums in fp32. */
template <par_dtype TYPE>
__device__ static inline void par__mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                       uint32_t b1) {
    if constexpr (TYPE == PAR_BF16)
        PAR__ASM("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    else
        PAR__ASM("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* Four 8 x 8 matrices of 16-bit values from shared memory; lane 8 i + j gives the address of row j
 * of matrix i, on 16 bytes. r[i] = row g, columns 2t, 2t + 1 of matrix i, or of its transpose. */
__device__ static inline void par__load_matrices(uint32_t (&r)[4], const void *row) {
    uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    PAR__ASM("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
             : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
             : "r"(at)
             : "memory");
}
__device__ static inline void par__load_transposed(uint32_t (&r)[4], const void *row) {
    uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    PAR__ASM("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
             : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
             : "r"(at)
             : "memory");
}

/* A thread's copies to shared memory of 16 or 4 bytes; zeros if not `valid`, and then nothing is
 * read. They have arrived when it has waited; others see them behind a barrier after that. */
__device__ static inline void par__copy_16(void *to, const void *from, bool valid) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
    *(uint4 *)to = valid ? *(const uint4 *)from : uint4{0, 0, 0, 0};
    return;
#endif
    uint32_t at = (uint32_t)__cvta_generic_to_shared(to), nbytes = valid ? 16 : 0;
    PAR__ASM("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(nbytes)
             : "memory");
}
__device__ static inline void par__copy_4(void *to, const void *from, bool valid) {
    uint32_t at = (uint32_t)__cvta_generic_to_shared(to), nbytes = valid ? 4 : 0;
    PAR__ASM("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(at), "l"(from), "r"(nbytes)
             : "memory");
}
__device__ static inline void par__copy_wait(void) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

/* The copies since the last end are one group; wait until all groups but the newest LATER have
 * arrived. */
__device__ static inline void par__copy_end(void) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int LATER> __device__ static inline void par__copy_wait_for(void) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(LATER) : "memory");
#endif
}

/* Two values of TYPE, the first in the lower half, rounded to nearest, ties to even. */
template <par_dtype TYPE> __device__ static inline uint32_t par__narrow_pair(float x, float y) {
    uint32_t out = 0;
    if constexpr (TYPE == PAR_BF16)
        PAR__ASM("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(y), "f"(x));
    else
        PAR__ASM("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(y), "f"(x));
    return out;
}

/* 2^x, to 2 units in the last place. */
__device__ static inline float par__exp2(float x) {
    float out;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
    return out;
}

#endif
