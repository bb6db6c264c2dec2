/*
 * What the attention kernels on tensor cores share. A block of 4 warps works on tiles of rows of
 * DP 16-bit channels in shared memory, zeros behind the last token and channel; each warp has
 * M · 16 rows of a score tile, and M · N accumulators of 16 x 8 in mma.sync's layout (mma.cuh).
 * Scores that were made of two tiles are the left factor of the next product as they lie in
 * registers, rounded to 16 bits.
 *
 * Row r of a tile has its groups of 8 channels in an order that depends on r, so that 8 rows of
 * one group, which ldmatrix reads at once, lie in 8 different groups of banks.
 */
#ifndef PAR__ATTENTION_MMA_CUH
#define PAR__ATTENTION_MMA_CUH

#include "kernels/cuda/own/attention_documents.cuh"
#include "kernels/cuda/own/dropout.cuh"
#include "kernels/cuda/own/own.h"

enum { WARPS = 4, THREADS = 32 * WARPS };

#define LOG2_E 1.4426950408889634f

/* Tokens of one head of one batch entry: token t's D channels start at data + t ld. */
struct head_rows {
    uint16_t *data;
    int64_t ld;
    int T, D;
};

__device__ static inline head_rows head_of(const par_attention &a, const void *data, int64_t ld,
                                           int64_t b, int64_t h) {
    return {(uint16_t *)data + b * a.T * ld + h * a.D, ld, (int)a.T, (int)a.D};
}

/* Where channels 8 group .. 8 group + 7 of a row lie in a tile. 192-byte rows meet the same banks
 * every second row, the others every row. */
template <int DP> __device__ static inline int place_of(int row, int group) {
    return row * DP + (group ^ (DP % 64 == 0 ? row & 7 : row >> 1 & 3)) * 8;
}

template <int DP_, int ROWS_ = 0> struct row_tile {
    enum { DP = DP_, ROWS = ROWS_ };
    __device__ static int place(int row, int group) { return place_of<DP>(row, group); }
};

/* Begin to copy tokens first .. first + ROWS - 1 to a tile. All N_THREADS of the block call. */
template <typename TILE, int N_THREADS>
__device__ static inline void copy_tile(uint16_t *tile, const head_rows &x, int first) {
    enum { GROUPS = TILE::DP / 8, N = TILE::ROWS * GROUPS };
#pragma unroll 1 /* addresses of many copies at once would take registers from the sums */
    for (int k = 0; k < (N + N_THREADS - 1) / N_THREADS; k++) {
        int i = k * N_THREADS + threadIdx.x, row = i / GROUPS, group = i % GROUPS;
        if (N % N_THREADS != 0 && i >= N) break;
        bool valid = first + row < x.T && group * 8 < x.D;
        const uint16_t *from = valid ? x.data + (first + row) * x.ld + group * 8 : x.data;
        par__copy_16(&tile[TILE::place(row, group)], from, valid);
    }
}
template <int DP, int ROWS>
__device__ static inline void copy_rows(uint16_t *tile, const head_rows &x, int first) {
    copy_tile<row_tile<DP, ROWS>, THREADS>(tile, x, first);
}

template <int M, int N> __device__ static inline void clear(float (&x)[M][N][4]) {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) x[m][n][e] = 0;
}

/* s = a[row + i] · b[column + j]: products of M · 16 rows and N · 8 rows of two tiles. */
template <par_dtype TYPE, int DP, int M, int N>
__device__ static inline void dot_rows(float (&s)[M][N][4], const uint16_t *a, int row,
                                       const uint16_t *b, int column) {
    int lane = threadIdx.x % 32;
    clear(s);
#pragma unroll
    for (int k = 0; k < DP / 16; k++) {
        uint32_t left[M][4], right[4];
#pragma unroll
        for (int m = 0; m < M; m++)
            par__load_matrices(left[m],
                               &a[place_of<DP>(row + 16 * m + lane % 16, 2 * k ^ lane / 16)]);
#pragma unroll
        for (int n = 0; n < N / 2; n++) {
            int j = column + 16 * n + lane / 16 * 8 + lane % 8;
            par__load_matrices(right, &b[place_of<DP>(j, 2 * k ^ lane / 8 % 2)]);
#pragma unroll
            for (int m = 0; m < M; m++) {
                par__mma<TYPE>(s[m][2 * n], left[m], right[0], right[1]);
                par__mma<TYPE>(s[m][2 * n + 1], left[m], right[2], right[3]);
            }
        }
    }
}

/* out += w · (rows `row` .. of a tile, from channel 8 · group on), w rounded to 16 bits. */
template <par_dtype TYPE, int DP, int M, int N, int C>
__device__ static inline void add_product(float (&out)[M][C][4], const float (&w)[M][N][4],
                                          const uint16_t *tile, int row, int group) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < N / 2; k++) {
        uint32_t left[M][4], right[4];
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float *pair = &w[m][2 * k + i / 2][i % 2 * 2];
                left[m][i] = par__narrow_pair<TYPE>(pair[0], pair[1]);
            }
#pragma unroll
        for (int c = 0; c < C / 2; c++) {
            int at = place_of<DP>(row + 16 * k + lane % 16, (group + 2 * c) ^ lane / 16);
            par__load_transposed(right, &tile[at]);
#pragma unroll
            for (int m = 0; m < M; m++) {
                par__mma<TYPE>(out[m][2 * c], left[m], right[0], right[1]);
                par__mma<TYPE>(out[m][2 * c + 1], left[m], right[2], right[3]);
            }
        }
    }
}

/* Write a warp's rows of a product, times a factor per row, from channel 8 · group on. They pass
 * through rows `row` .. of a tile, which no other warp uses any more. */
template <par_dtype TYPE, typename TILE, int M, int C>
__device__ static inline void store_rows(const head_rows &x, int first, uint16_t *tile, int row,
                                         int group, const float (&in)[M][C][4],
                                         const float (&factor)[M][2]) {
    int lane = threadIdx.x % 32;
    __syncwarp();
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int c = 0; c < C; c++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float f = factor[m][half], u = in[m][c][2 * half], v = in[m][c][2 * half + 1];
                int at = TILE::place(row + 16 * m + 8 * half + lane / 4, c) + lane % 4 * 2;
                *(uint32_t *)&tile[at] = par__narrow_pair<TYPE>(u * f, v * f);
            }
    __syncwarp();
#pragma unroll
    for (int k = 0; k < M * C / 2; k++) {
        int i = k * 32 + lane, r = i / C, c = i % C;
        if (first + row + r >= x.T || (group + c) * 8 >= x.D) continue;
        uint16_t *to = x.data + (first + row + r) * x.ld + (group + c) * 8;
        PAR__ALIGNED(to);
        *(uint4 *)to = *(const uint4 *)&tile[TILE::place(row + r, c)];
    }
}

/* Take out the scores of keys behind their query; `ahead` is the first query minus the first
 * key. */
template <int M, int N>
__device__ static inline void mask_rows(float (&s)[M][N][4], int ahead, float value) {
    int row = threadIdx.x % 32 / 4 + ahead, column = threadIdx.x % 4 * 2;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                if (column + 8 * n + e % 2 > row + 16 * m + e / 2 * 8) s[m][n][e] = value;
}

/* Take out the scores of keys before their query's document; the first row and column are tokens
 * `query` and `key` of sequence b. */
template <int M, int N>
__device__ static inline void mask_documents(float (&s)[M][N][4], const par_attention &a, int64_t b,
                                             int query, int key) {
    int column = threadIdx.x % 4 * 2 + key;
    if (!a.apart || first_key(a, b, query + 16 * M - 1) <= key) return;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int begin = (int)first_key(a, b, query + 16 * m + 8 * half + threadIdx.x % 32 / 4);
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int e = 0; e < 2; e++)
                    if (column + 8 * n + e < begin) s[m][n][2 * half + e] = -INFINITY;
        }
}

/* Dropout of one head's weights: which of 4 neighbouring keys of a query are kept, a bit each. */
struct head_dropout {
    par__device_dropout of;
    uint32_t first; /* group of 4 elements that the head's key 0 is in */
    int offset;     /* of key 0 in it */
    uint64_t sample;

    __device__ head_dropout(const par_attention &a, const par__device_dropout &d, int64_t b,
                            int64_t h)
        : of(d), first((uint32_t)((a.first_head + h) * a.T / 4)),
          offset((int)((a.first_head + h) * a.T % 4)), sample((uint64_t)(d.first_sample + b)) {}

    __device__ uint32_t group(int query, uint32_t block) const {
        par__words words = par__philox({{block, (uint32_t)query, (uint32_t)sample,
                                         ((uint32_t)(sample >> 32) & 0xffffu) | of.site}},
                                       of.key[0], of.key[1]);
        return (words.w[0] >= of.threshold) | (words.w[1] >= of.threshold) << 1 |
               (words.w[2] >= of.threshold) << 2 | (words.w[3] >= of.threshold) << 3;
    }

    /* key is a multiple of 4 */
    __device__ uint32_t four(int query, int key) const {
        uint32_t block = first + (uint32_t)key / 4, bits = group(query, block);
        if (offset != 0) bits = (bits | group(query, block + 1) << 4) >> offset & 15;
        return bits;
    }
};

/*
 * Dropped weights become 0. Of two neighbouring lanes, which have 4 neighbouring keys of two rows
 * between them, each draws for one row and gives the other its bits.
 */
template <int M, int N>
__device__ static inline void drop_rows(float (&s)[M][N][4], const head_dropout &dropout, int query,
                                        int key) {
    enum { WORD = N < 8 ? N : 8 }; /* products whose 4 bits each are in a word */
    int lane = threadIdx.x % 32, odd = lane % 2;
#pragma unroll
    for (int i = 0; i < M * N; i += WORD) {
        int m = i / N, first = i % N;
        uint32_t own = 0;
#pragma unroll
        for (int n = 0; n < WORD; n++)
            own |= dropout.four(query + 16 * m + 8 * odd + lane / 4,
                                key + 8 * (first + n) + lane % 4 / 2 * 4)
                   << 4 * n;
        uint32_t other = __shfl_xor_sync(0xffffffffu, own, 1);
        uint32_t upper = (odd ? other : own) >> 2 * odd, lower = (odd ? own : other) >> 2 * odd;
#pragma unroll
        for (int n = 0; n < WORD; n++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                if (!((e < 2 ? upper : lower) >> (4 * n + e % 2) & 1)) s[m][first + n][e] = 0;
    }
}

/* True if kernels with products of warpgroups compute this; the build says if they are there. */
static inline bool has_warpgroups(const par_attention *a) {
    return HAVE_WGMMA && a->D <= 128 && par__cuda_device_get()->major == 9;
}

/* f of the shape with a's type and whether it has dropout. */
#define ATTENTION_TYPED(shape, a, f, ...)                                                          \
    ((a)->dtype == PAR_BF16 ? (a)->dropout.p > 0 ? shape::f<PAR_BF16, true>(__VA_ARGS__)           \
                                                 : shape::f<PAR_BF16, false>(__VA_ARGS__)          \
     : (a)->dropout.p > 0 ? shape::f<PAR_F16, true>(__VA_ARGS__)                                   \
                            : shape::f<PAR_F16, false>(__VA_ARGS__))

#endif
