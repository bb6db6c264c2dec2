/*
 * CUDA C++ on the host, in place of kernels/cuda/own/hardware.cuh (unit.cpp.in includes it before a
 * kernel's source): every thread of a block is a fiber, blocks run
 * one after the other, __syncthreads and warp operations are real meeting points. What it shows:
 * arithmetic, indexing, missing barriers (the order of threads can be reversed,
 * PAR_EMULATOR_ORDER=reverse), diverging warp operations and 16-byte accesses that are not aligned,
 * which it reports. What it cannot: speed, memory models, limits of registers.
 *
 * Launches are put on the stand-in runtime's streams (standin.h), so they run as late as its mode
 * says.
 */
#ifndef PAR_TEST_EMULATOR_H
#define PAR_TEST_EMULATOR_H

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

#include <cuda_runtime_api.h>

#include "kernels/half.h"
#include "tests/cuda/standin.h"

#define HAVE_WGMMA 1

#undef __shared__
#define __shared__ static
#ifndef __launch_bounds__
#define __launch_bounds__(...)
#endif
#undef __forceinline__
#define __forceinline__ inline
#undef __restrict__
#define __restrict__

struct emulator_place {
    uint3 thread, block;
    dim3 block_size, grid_size;
};
extern emulator_place emulator_here; /* of the fiber that runs */
#define threadIdx (emulator_here.thread)
#define blockIdx  (emulator_here.block)
#define blockDim  (emulator_here.block_size)
#define gridDim   (emulator_here.grid_size)
#define warpSize  32

void emulator_run(const char *kernel, dim3 grid, dim3 block, size_t shared_nbytes,
                  const std::function<void()> &thread);
void emulator_sync_block();
void emulator_sync_row(); /* threads of one threadIdx.y, whole warps */
void emulator_sync_warp(unsigned mask);
void emulator_check_aligned(
    const void *p); /* to 16 bytes, or the process ends with the kernel's name */
void emulator_misplaced(const void *p);
void *emulator_shared();          /* dynamic, of this block; filled with 0xff at its start */
uint64_t *emulator_warp_values(); /* [32] of the fiber's warp */

#define __syncthreads()        emulator_sync_block()
#define __syncwarp(...)        emulator_sync_warp(0xffffffffu)
#define PAR_SHARED(type, name) type *name = static_cast<type *>(emulator_shared())
#define PAR__UNPACK(...)       __VA_ARGS__
#define PAR__ALIGNED(p)        emulator_check_aligned(p)
#define PAR_LAUNCH(kernel, grid, block, shared_nbytes, stream, ...)                                \
    do {                                                                                           \
        dim3 par_grid_ = (grid), par_block_ = (block);                                             \
        size_t par_shared_ = (size_t)(shared_nbytes);                                              \
        standin_enqueue(par__cuda_stream(stream),                                                  \
                        emulator_bind(#kernel, par_grid_, par_block_, par_shared_,                 \
                                      PAR__UNPACK kernel, __VA_ARGS__));                           \
    } while (0)

/* A pointer that is an argument itself must be the device's; those within structs go unseen. */
template <typename T> void emulator_check_argument(const char *kernel, T argument) {
    if constexpr (std::is_pointer_v<T>)
        standin_require_device(kernel, "an argument", (const void *)argument, 1);
}

/* Arguments are copied at the launch, as the hardware does. */
template <typename... P, typename... A>
std::function<void()> emulator_bind(const char *name, dim3 grid, dim3 block, size_t shared,
                                    void (*kernel)(P...), A... args) {
    (emulator_check_argument<P>(name, static_cast<P>(args)), ...);
    std::function<void()> thread = std::bind(kernel, static_cast<P>(args)...);
    return [=] { emulator_run(name, grid, block, shared, thread); };
}

template <typename T> T emulator_exchange(unsigned mask, T x, int from) {
    static_assert(sizeof(T) <= sizeof(uint64_t), "a register's worth");
    uint64_t raw = 0;
    std::memcpy(&raw, &x, sizeof x);
    int lane = (int)((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32);
    emulator_warp_values()[lane] = raw;
    emulator_sync_warp(mask);
    raw = emulator_warp_values()[from & 31];
    emulator_sync_warp(mask);
    std::memcpy(&x, &raw, sizeof x);
    return x;
}
inline int emulator_lane() {
    return (int)((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32);
}
template <typename T> T __shfl_sync(unsigned mask, T x, int from) {
    return emulator_exchange(mask, x, from);
}
template <typename T> T __shfl_xor_sync(unsigned mask, T x, int bits) {
    return emulator_exchange(mask, x, emulator_lane() ^ bits);
}
template <typename T> T __shfl_down_sync(unsigned mask, T x, int by) {
    int from = emulator_lane() + by;
    return emulator_exchange(mask, x, from < 32 ? from : emulator_lane());
}
template <typename T> T __shfl_up_sync(unsigned mask, T x, int by) {
    int from = emulator_lane() - by;
    return emulator_exchange(mask, x, from >= 0 ? from : emulator_lane());
}
/* A bit for every lane whose value passes. */
template <typename T, typename F> unsigned emulator_lanes(unsigned mask, T x, F passes) {
    unsigned out = 0;
    emulator_warp_values()[emulator_lane()] = 0;
    std::memcpy(&emulator_warp_values()[emulator_lane()], &x, sizeof x);
    emulator_sync_warp(mask);
    for (int i = 0; i < 32; i++) {
        T other;
        std::memcpy(&other, &emulator_warp_values()[i], sizeof other);
        if (passes(other)) out |= 1u << i;
    }
    emulator_sync_warp(mask);
    return out;
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
    return emulator_lanes(mask, predicate, [](int x) { return x != 0; });
}
template <typename T> unsigned __match_any_sync(unsigned mask, T x) {
    return emulator_lanes(mask, x, [x](T other) { return other == x; });
}

template <typename T> T __ldg(const T *p) {
    return *p;
}
inline float rsqrtf(float x) {
    return 1.0f / std::sqrt(x);
}
inline float __expf(float x) {
    return std::exp(x);
}
inline float __logf(float x) {
    return std::log(x);
}
inline float __fdividef(float x, float y) {
    return x / y;
}
inline float __uint_as_float(unsigned x) {
    float y;
    std::memcpy(&y, &x, sizeof y);
    return y;
}
inline unsigned __float_as_uint(float x) {
    unsigned y;
    std::memcpy(&y, &x, sizeof y);
    return y;
}
inline unsigned __umulhi(unsigned a, unsigned b) {
    return (unsigned)((uint64_t)a * b >> 32);
}
inline int __popc(unsigned x) {
    return __builtin_popcount(x);
}
inline int __ffs(int x) {
    return __builtin_ffs(x);
}
using std::max;
using std::min;

static inline float par__widen_bf16(uint16_t bits) {
    return par__bf16_to_f32(bits);
}
static inline float par__widen_f16(uint16_t bits) {
    return par__f16_to_f32(bits);
}
static inline uint16_t par__narrow_bf16(float x) {
    return par__f32_to_bf16(x);
}
static inline uint16_t par__narrow_f16(float x) {
    return par__f32_to_f16(x);
}
static inline void par__sync_row() {
    emulator_sync_row();
}
/* So few that small arrays take a second step of the grid. */
static inline int64_t par__multiprocessors() {
    return 1;
}
static inline int64_t par__max_blocks() {
    return 3;
}

#endif
