/*
 * The tokens of a batch by their row of the table, for embedding.cu: pairs {table row, token} in a
 * stable radix sort. A digit of 8 bits per pass; a block has a tile of tokens, each of its warps a
 * stretch of the tile in order; lanes with equal digits find each other by __match_any_sync, so
 * that ranks are those of the order of i.
 */
#ifndef PAR__EMBEDDING_SORT_CUH
#define PAR__EMBEDDING_SORT_CUH

#include "kernels/cuda/own/device.cuh"

enum { DIGITS = 256, WARPS = 8, TILES = 64 };

/* Row of the table for token i, or `rows` if it is not in this range of the table. */
__device__ static inline unsigned table_row(const par_embedding &a, int64_t i) {
    int64_t row = (a.ids ? (int64_t)a.ids[i] : (a.first_row + i) % a.T) - a.begin;
    return (unsigned)(0 <= row && row < a.rows ? row : a.rows);
}

/* Steps of a warp in a tile: short ones keep more multiprocessors busy, but every block of a
 * scatter adds up the digits of all tiles. */
static inline __host__ __device__ int64_t tile_steps(int64_t m) {
    int64_t steps = (m + TILES * WARPS * 32 - 1) / (TILES * WARPS * 32);
    return steps < 1 ? 1 : steps > 8 ? 8 : steps;
}

static inline int64_t n_tiles(int64_t m) {
    return par__blocks(m, tile_steps(m) * WARPS * 32);
}

/* Tokens of a warp's stretch, from `from` or, in the first pass (NULL), from the ids. f(pair,
 * digit, peers) for every step by whole warps; digit is DIGITS behind the end. */
template <typename F>
__device__ static inline void each_step(const par_embedding &a, const uint2 *from, int shift, F f) {
    const int64_t steps = tile_steps(a.m);
    int64_t begin = ((int64_t)blockIdx.x * WARPS + threadIdx.x / 32) * steps * 32;
    for (int step = 0; step < steps && begin + step * 32 < a.m; step++) {
        int64_t i = begin + step * 32 + threadIdx.x % 32;
        uint2 pair = {0, 0};
        if (i < a.m) pair = from ? from[i] : uint2{table_row(a, i), (unsigned)i};
        unsigned digit = i < a.m ? pair.x >> shift & (DIGITS - 1) : (unsigned)DIGITS;
        f(pair, digit, __match_any_sync(0xffffffffu, digit));
        __syncwarp();
    }
}

/* How often each digit stands in the stretch of each warp. */
__device__ static inline void count_digits(const par_embedding &a, const uint2 *from, int shift,
                                           unsigned (*counts)[DIGITS]) {
    unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (int w = 0; w < WARPS; w++) counts[w][threadIdx.x] = 0;
    __syncthreads();
    each_step(a, from, shift, [&](uint2, unsigned digit, unsigned peers) {
        if (digit < DIGITS && (unsigned)__ffs((int)peers) == lane + 1)
            counts[warp][digit] += __popc(peers);
    });
    __syncthreads();
}

/* table [tiles, DIGITS] */
__global__ void __launch_bounds__(DIGITS)
    embedding_count(par_embedding a, const uint2 *from, int shift, unsigned *table) {
    __shared__ unsigned counts[WARPS][DIGITS];
    count_digits(a, from, shift, counts);
    unsigned total = 0;
    for (int w = 0; w < WARPS; w++) total += counts[w][threadIdx.x];
    table[(int64_t)blockIdx.x * DIGITS + threadIdx.x] = total;
}

/* Where this tile's tokens with the digit threadIdx.x begin: behind those of smaller digits, and of
 * earlier tiles. Every block adds the whole table up, which is less than a kernel of its own. */
__device__ static inline unsigned first_place(const unsigned *table) {
    __shared__ unsigned sums[2][DIGITS];
    unsigned before = 0, all = 0;
    int at = 0;
#pragma unroll 16
    for (unsigned tile = 0; tile < gridDim.x; tile++) {
        unsigned count = table[(int64_t)tile * DIGITS + threadIdx.x];
        if (tile < blockIdx.x) before += count;
        all += count;
    }
    sums[0][threadIdx.x] = all;
    __syncthreads();
    for (unsigned step = 1; step < DIGITS; step *= 2, at = 1 - at) {
        unsigned other = threadIdx.x >= step ? sums[at][threadIdx.x - step] : 0;
        sums[1 - at][threadIdx.x] = sums[at][threadIdx.x] + other;
        __syncthreads();
    }
    return sums[at][threadIdx.x] - all + before;
}

__global__ void __launch_bounds__(DIGITS)
    embedding_scatter(par_embedding a, const uint2 *from, int shift, const unsigned *table,
                      uint2 *to) {
    __shared__ unsigned counts[WARPS][DIGITS];
    unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32, place = first_place(table);
    count_digits(a, from, shift, counts);
    for (int w = 0; w < WARPS; w++) {
        unsigned count = counts[w][threadIdx.x];
        counts[w][threadIdx.x] = place;
        place += count;
    }
    __syncthreads();
    each_step(a, from, shift, [&](uint2 pair, unsigned digit, unsigned peers) {
        if (digit < DIGITS) to[counts[warp][digit] + __popc(peers & ((1u << lane) - 1))] = pair;
        __syncwarp();
        if (digit < DIGITS && (unsigned)__ffs((int)peers) == lane + 1)
            counts[warp][digit] += __popc(peers);
    });
}

/* start[row], row <= rows: the first sorted pair of this row or of a later one. */
__global__ void __launch_bounds__(256)
    embedding_bounds(const uint2 *sorted, int64_t m, int64_t rows, unsigned *start) {
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t row = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; row <= rows; row += step) {
        int64_t low = 0, high = m;
        while (low < high) {
            int64_t middle = (low + high) / 2;
            if (sorted[middle].x < row)
                low = middle + 1;
            else
                high = middle;
        }
        start[row] = (unsigned)low;
    }
}

#endif
