/*
 * kernels/cuda/own/mma.cuh on the host. Operations of a warp are meeting points of its lanes.
 * Asynchronous copies arrive as late as they may, when their thread waits; with
 * PAR_EMULATOR_ORDER=reverse as early, so that one into memory that is still read shows too.
 */
#ifndef PAR_TEST_EMULATOR_MMA_H
#define PAR_TEST_EMULATOR_MMA_H

#include "par/kernels.h"
#include "tests/cuda/emulator.h"

uint32_t (*emulator_warp_words())[6]; /* [32][6] of the fiber's warp */
void emulator_copy(void *to, const void *from, int nbytes, bool valid);
void emulator_copy_end();
void emulator_copy_wait(int later); /* for all groups but the newest ones */

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

#endif
