/*
 * kernels/cuda/own/mma.cuh and wgmma.cuh on the host. Operations of a warp are meeting points of
 * its lanes. Asynchronous copies arrive, and products of warpgroups are computed, as late as they
 * may, when their thread waits; with PAR_EMULATOR_ORDER=reverse as early, so that a copy into
 * memory that is still read shows too. A warp computes its own rows of a warpgroup's product.
 */
#ifndef PAR_TEST_EMULATOR_MMA_H
#define PAR_TEST_EMULATOR_MMA_H

#include <array>

#include "par/kernels.h"
#include "tests/cuda/emulator.h"

#define PAR__WGMMA_CUH /* in place of that header */

uint32_t (*emulator_warp_words())[6]; /* [32][6] of the fiber's warp */
void emulator_copy(void *to, const void *from, int nbytes, bool valid);
void emulator_copy_end();
void emulator_copy_wait(int later); /* for all groups but the newest ones */
void emulator_see_copies();
void emulator_product(std::function<void()> compute);
void emulator_commit_products();
void emulator_wait_products(int left);

template <par_dtype TYPE> float emulator_half(uint32_t word, int upper) {
    uint16_t bits = (uint16_t)(upper ? word >> 16 : word);
    return TYPE == PAR_BF16 ? par__widen_bf16(bits) : par__widen_f16(bits);
}

/* The layouts are mma.cuh's; a tensor core adds the 16 products before it rounds. */
template <par_dtype TYPE>
void par__mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    int lane = emulator_lane();
    uint32_t(*words)[6] = emulator_warp_words();
    for (int i = 0; i < 4; i++) words[lane][i] = a[i];
    words[lane][4] = b0;
    words[lane][5] = b1;
    emulator_sync_warp(0xffffffffu);
    for (int e = 0; e < 4; e++) {
        int row = lane / 4, column = lane % 4 * 2 + e % 2;
        double sum = 0;
        for (int k = 0; k < 16; k++) {
            int place = k % 8 / 2;
            sum += (double)emulator_half<TYPE>(words[row * 4 + place][e / 2 + k / 8 * 2], k % 2) *
                   (double)emulator_half<TYPE>(words[column * 4 + place][4 + k / 8], k % 2);
        }
        c[e] = (float)((double)c[e] + sum);
    }
    emulator_sync_warp(0xffffffffu);
}

inline void emulator_load_matrices(uint32_t (&r)[4], const void *row, bool transposed) {
    int lane = emulator_lane();
    emulator_check_aligned(row);
    emulator_warp_values()[lane] = (uint64_t)(uintptr_t)row;
    emulator_sync_warp(0xffffffffu);
    for (int i = 0; i < 4; i++) {
        uint16_t pair[2];
        for (int e = 0; e < 2; e++) {
            int y = transposed ? lane % 4 * 2 + e : lane / 4;
            int x = transposed ? lane / 4 : lane % 4 * 2 + e;
            pair[e] = ((const uint16_t *)(uintptr_t)emulator_warp_values()[8 * i + y])[x];
        }
        r[i] = pair[0] | (uint32_t)pair[1] << 16;
    }
    emulator_sync_warp(0xffffffffu);
}
inline void par__load_matrices(uint32_t (&r)[4], const void *row) {
    emulator_load_matrices(r, row, false);
}
inline void par__load_transposed(uint32_t (&r)[4], const void *row) {
    emulator_load_matrices(r, row, true);
}

inline void par__copy_16(void *to, const void *from, bool valid) {
    emulator_check_aligned(to);
    if (valid) emulator_check_aligned(from);
    emulator_copy(to, from, 16, valid);
}
inline void par__copy_4(void *to, const void *from, bool valid) {
    emulator_copy(to, from, 4, valid);
}
inline void par__copy_wait() {
    emulator_copy_end();
    emulator_copy_wait(0);
}
inline void par__copy_end() {
    emulator_copy_end();
}
template <int LATER> void par__copy_wait_for() {
    emulator_copy_wait(LATER);
}

template <par_dtype TYPE> uint32_t par__narrow_pair(float x, float y) {
    return TYPE == PAR_BF16 ? par__narrow_bf16(x) | (uint32_t)par__narrow_bf16(y) << 16
                            : par__narrow_f16(x) | (uint32_t)par__narrow_f16(y) << 16;
}
inline float par__exp2(float x) {
    return std::exp2(x);
}

/* A factor as its descriptor says it; the swizzle is of addresses, as the hardware's. */
struct par__factor {
    const char *at;
    int panel_nbytes;
    par__factor operator+(int nbytes) const { return {at + nbytes, panel_nbytes}; }

    /* the 16 bits at a byte of a row */
    template <par_dtype TYPE> float read(int row, int nbytes) const {
        uintptr_t place = (uintptr_t)at + (uintptr_t)(row / 8 * 1024 + row % 8 * 128 + nbytes);
        place ^= (place >> 7 & 7) << 4;
        uint16_t bits = *(const uint16_t *)place;
        return TYPE == PAR_BF16 ? par__widen_bf16(bits) : par__widen_f16(bits);
    }
};
inline par__factor par__factor_at(const uint16_t *panel, int panel_nbytes) {
    if ((uintptr_t)panel % 1024 != 0) emulator_misplaced(panel);
    return {(const char *)panel, panel_nbytes};
}

inline void par__wgmma_see() {
    emulator_see_copies();
}
inline void par__wgmma_begin() {}
inline void par__wgmma_commit() {
    emulator_commit_products();
}
template <int LEFT> void par__wgmma_wait() {
    emulator_wait_products(LEFT);
}
template <int N> void par__wgmma_settle(float (&)[N][4]) {}

template <par_dtype TYPE, bool ADD, int N>
void par__wgmma_rows(float (&c)[N][4], par__factor a, par__factor b) {
    emulator_product([&c, a, b] {
        int lane = emulator_lane(), warp = (int)threadIdx.x / 32 % 4;
        for (int half = 0; half < 2; half++) {
            float row[16];
            for (int k = 0; k < 16; k++)
                row[k] = a.read<TYPE>(16 * warp + 8 * half + lane / 4, 2 * k);
            for (int n = 0; n < N; n++)
                for (int e = 2 * half; e < 2 * half + 2; e++) {
                    double sum = ADD ? (double)c[n][e] : 0;
                    for (int k = 0; k < 16; k++)
                        sum += (double)row[k] *
                               (double)b.read<TYPE>(8 * n + lane % 4 * 2 + e % 2, 2 * k);
                    c[n][e] = (float)sum;
                }
        }
        emulator_sync_warp(0xffffffffu);
    });
}

template <par_dtype TYPE, int N>
void par__wgmma_add(float (&c)[N][4], const uint32_t (&a)[4], par__factor b) {
    const std::array<uint32_t, 4> own = {a[0], a[1], a[2], a[3]};
    emulator_product([&c, own, b] {
        int lane = emulator_lane();
        uint32_t(*words)[6] = emulator_warp_words();
        for (int i = 0; i < 4; i++) words[lane][i] = own[i];
        emulator_sync_warp(0xffffffffu);
        for (int half = 0; half < 2; half++) {
            float row[16];
            for (int k = 0; k < 16; k++)
                row[k] =
                    emulator_half<TYPE>(words[lane / 4 * 4 + k % 8 / 2][half + k / 8 * 2], k % 2);
            for (int n = 0; n < N; n++)
                for (int e = 2 * half; e < 2 * half + 2; e++) {
                    int column = 8 * n + lane % 4 * 2 + e % 2;
                    double sum = (double)c[n][e];
                    for (int k = 0; k < 16; k++)
                        sum += (double)row[k] * (double)(b + column / 64 * b.panel_nbytes)
                                                    .read<TYPE>(k, column % 64 * 2);
                    c[n][e] = (float)sum;
                }
        }
        emulator_sync_warp(0xffffffffu);
    });
}

#endif
