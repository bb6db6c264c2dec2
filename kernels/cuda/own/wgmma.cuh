/*
 * Products by a warpgroup, four warps, of compute capability 9.0 as functions (wgmma, NVIDIA's PTX
 * manual, "Asynchronous Warpgroup Level Matrix Instructions"). A product runs beside the warps'
 * other work; each warp has 16 of 64 rows, in the layouts of mma.cuh. All threads of a warpgroup
 * call. Factors lie in shared memory as panels of 64 16-bit channels: rows of 128 bytes whose
 * groups g of 8 channels lie at g ^ row % 8 (the manual's swizzle of 128 bytes), on 1024 bytes.
 *
 * Order: copies have arrived (par__copy_wait), par__wgmma_see, a barrier; then par__wgmma_begin,
 * products, par__wgmma_commit; par__wgmma_wait<n> until all but the last n committed are done, and
 * par__wgmma_settle for the sums that are read next.
 */
#ifndef PAR__WGMMA_CUH
#define PAR__WGMMA_CUH

#include <stdint.h>

#include "par/kernels.h"

/* 1 in code for compute capability 9.0 with what only that one has, and on the host. */
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define PAR__HAS_WGMMA 1
#else
#define PAR__HAS_WGMMA 0
#endif

/* Where a factor begins, a descriptor as the hardware reads it: address, bytes from panel to panel
 * (used where a product's columns are channels) and from 8 rows to the next 8, swizzle; the first
 * three in 16 bytes. Offsets are whole 16 bytes. */
struct par__factor {
    uint64_t bits;
    __device__ par__factor operator+(int nbytes) const { return {bits + (uint64_t)(nbytes / 16)}; }
};
__device__ static inline par__factor par__factor_at(const uint16_t *panel, int panel_nbytes) {
    uint64_t at = (uint32_t)__cvta_generic_to_shared(panel) / 16;
    return {at | (uint64_t)(panel_nbytes / 16) << 16 | (uint64_t)(1024 / 16) << 32 |
            (uint64_t)1 << 62};
}

#if PAR__HAS_WGMMA
#define PAR__WG(...) asm volatile(__VA_ARGS__)
#else
#define PAR__WG(...) __trap()
#endif

/* What ordinary accesses have written to shared memory becomes visible to products. */
__device__ static inline void par__wgmma_see(void) {
    PAR__WG("fence.proxy.async.shared::cta;" ::: "memory");
}
__device__ static inline void par__wgmma_begin(void) {
    PAR__WG("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ static inline void par__wgmma_commit(void) {
    PAR__WG("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int LEFT> __device__ static inline void par__wgmma_wait(void) {
    PAR__WG("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory");
}
/* Sums are not read before this place. */
template <int N> __device__ static inline void par__wgmma_settle(float (&c)[N][4]) {
#pragma unroll
    for (int n = 0; n < N; n++)
        asm volatile("" : "+f"(c[n][0]), "+f"(c[n][1]), "+f"(c[n][2]), "+f"(c[n][3])::"memory");
}

#define PAR__R32                                                                                   \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                       \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define PAR__R64                                                                                   \
    PAR__R32                                                                                       \
    ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "           \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define PAR__C1(x, i) x(c[i][0]), x(c[i][1]), x(c[i][2]), x(c[i][3])
#define PAR__C4(x, i) PAR__C1(x, i), PAR__C1(x, i + 1), PAR__C1(x, i + 2), PAR__C1(x, i + 3)
#define PAR__C8(x)    PAR__C4(x, 0), PAR__C4(x, 4)
#define PAR__C16(x)   PAR__C8(x), PAR__C4(x, 8), PAR__C4(x, 12)

/* One instruction with N columns: its sums, and the numbers of the operands behind them. A sum that
 * is not added to is no operand, or it would have to be kept for it. */
#define PAR__WGMMA_ROWS(N, TYPE, R, C, add_, a_, b_)                                               \
    PAR__WG("{ .reg .pred add; setp.ne.b32 add, " add_ ", 0;\n"                                    \
            "wgmma.mma_async.sync.aligned.m64n" N "k16.f32." TYPE "." TYPE " {" R "}, " a_ ", " b_ \
            ", add, 1, 1, 0, 0; }"                                                                 \
            : C                                                                                    \
            : "n"((int)ADD), "l"(a.bits), "l"(b.bits)                                              \
            : "memory")
#define PAR__WGMMA_ROWS_TYPE(N, TYPE, R, C, ...)                                                   \
    do {                                                                                           \
        if constexpr (ADD)                                                                         \
            PAR__WGMMA_ROWS(N, TYPE, R, C("+f"), __VA_ARGS__);                                     \
        else                                                                                       \
            PAR__WGMMA_ROWS(N, TYPE, R, C("=f"), __VA_ARGS__);                                     \
    } while (0)
#define PAR__WGMMA_ADD(N, TYPE, R, C, true_, a_, b_)                                               \
    PAR__WG("{ .reg .pred add; setp.ne.b32 add, " true_ ", 0;\n"                                   \
            "wgmma.mma_async.sync.aligned.m64n" N "k16.f32." TYPE "." TYPE " {" R "}, {" a_        \
            "}, " b_ ", add, 1, 1, 1; }"                                                           \
            : C("+f")                                                                              \
            : "n"(1), "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b.bits)                      \
            : "memory")

/* c (ADD: +=, else =) a · b^T: 64 rows of a, 8 N rows of b, 16 channels of both. */
template <par_dtype TYPE, bool ADD, int N>
__device__ static inline void par__wgmma_rows(float (&c)[N][4], par__factor a, par__factor b) {
    static_assert(N == 8 || N == 16, "instructions with 64 and 128 columns");
    if constexpr (N == 8 && TYPE == PAR_BF16)
        PAR__WGMMA_ROWS_TYPE("64", "bf16", PAR__R32, PAR__C8, "%32", "%33", "%34");
    else if constexpr (N == 8)
        PAR__WGMMA_ROWS_TYPE("64", "f16", PAR__R32, PAR__C8, "%32", "%33", "%34");
    else if constexpr (TYPE == PAR_BF16)
        PAR__WGMMA_ROWS_TYPE("128", "bf16", PAR__R64, PAR__C16, "%64", "%65", "%66");
    else
        PAR__WGMMA_ROWS_TYPE("128", "f16", PAR__R64, PAR__C16, "%64", "%65", "%66");
}

/* c += a · b: a [64, 16] in registers, as mma.cuh has it per warp, 16 rows of b and 8 N of its
 * channels. */
template <par_dtype TYPE, int N>
__device__ static inline void par__wgmma_add(float (&c)[N][4], const uint32_t (&a)[4],
                                             par__factor b) {
    static_assert(N == 8 || N == 16, "instructions with 64 and 128 columns");
    if constexpr (N == 8 && TYPE == PAR_BF16)
        PAR__WGMMA_ADD("64", "bf16", PAR__R32, PAR__C8, "%32", "%33, %34, %35, %36", "%37");
    else if constexpr (N == 8)
        PAR__WGMMA_ADD("64", "f16", PAR__R32, PAR__C8, "%32", "%33, %34, %35, %36", "%37");
    else if constexpr (TYPE == PAR_BF16)
        PAR__WGMMA_ADD("128", "bf16", PAR__R64, PAR__C16, "%64", "%65, %66, %67, %68", "%69");
    else
        PAR__WGMMA_ADD("128", "f16", PAR__R64, PAR__C16, "%64", "%65, %66, %67, %68", "%69");
}

#endif
