/*
 * Causal attention in 16 bits, forward, on tensor cores (par_attention in par/kernels.h; Dao 2023,
 * algorithm 1): a block has a tile of queries and walks tiles of keys with a running maximum and
 * sum per row, while the next tile is copied. Weights are rounded to 16 bits before they meet v;
 * their sum is not, and leaves dropout out.
 */
#include "kernels/cuda/own/attention_mma.cuh"

/* What a warp keeps of its rows. max is of the scores before they are scaled; sum is the thread's
 * part of it. Entries [m][half] are row 16 m + 8 half + lane / 4. */
template <int M, int C> struct forward_state { float o[M][C][4], max[M][2], sum[M][2]; };

/* Scores become weights, relative to a maximum that follows the row's own: it is left behind by up
 * to 2^GROWTH, which 16 bits hold, so that o and sum are brought to a new one only now and then. */
template <int M, int N, int C>
__device__ static inline void softmax_rows(forward_state<M, C> &x, float (&s)[M][N][4],
                                           float exponent) {
    enum { GROWTH = 8 };
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float before = x.max[m][half], max = before, sum = 0;
#pragma unroll
            for (int n = 0; n < N; n++)
                max = fmaxf(max, fmaxf(s[m][n][2 * half], s[m][n][2 * half + 1]));
            max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 1));
            max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 2));
            bool grows = (max - before) * exponent > GROWTH;
            if (!grows) max = before;
            if (__ballot_sync(0xffffffffu, grows)) {
                float shrink = grows ? par__exp2((before - max) * exponent) : 1;
                x.max[m][half] = max;
                x.sum[m][half] *= shrink;
#pragma unroll
                for (int c = 0; c < C; c++) {
                    x.o[m][c][2 * half] *= shrink;
                    x.o[m][c][2 * half + 1] *= shrink;
                }
            }
            float shift = max * exponent;
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int i = 2 * half; i < 2 * half + 2; i++) {
                    s[m][n][i] = par__exp2(s[m][n][i] * exponent - shift);
                    sum += s[m][n][i];
                }
            x.sum[m][half] += sum;
        }
}

/* o and lse of a warp's rows; `row` counts in the tile of queries, whose memory is used. */
template <par_dtype TYPE, int DP, int M>
__device__ static inline void finish(const par_attention &a, float keep_scale, int64_t b, int64_t h,
                                     int first, uint16_t *q, int row, forward_state<M, DP / 8> &x) {
    float factor[M][2];
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float sum = x.sum[m][half];
            sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            int t = first + row + 16 * m + 8 * half + threadIdx.x % 32 / 4;
            if (threadIdx.x % 4 == 0 && t < a.T)
                a.lse[(b * a.H + h) * a.T + t] = x.max[m][half] * a.scale + logf(sum);
            factor[m][half] = keep_scale / sum;
        }
    store_rows<TYPE, DP>(head_of(a, a.o, a.ldo, b, h), first, q, row, 0, x.o, factor);
}

template <par_dtype TYPE, int DP, int M, int KEYS, bool DROP>
__global__ void __launch_bounds__(THREADS, DP == 64 && !DROP ? 3 : 2)
    attention_mma_forward(par_attention a, par__device_dropout dropout, int n_tiles) {
    enum { QUERIES = WARPS * M * 16, TILE = KEYS * DP };
    PAR_SHARED(uint16_t, q);
    if (DROP) par__device_dropout_begin(dropout);
    uint16_t *kv = q + QUERIES * DP;
    int64_t head = blockIdx.x % (a.B * a.H), b = head / a.H, h = head % a.H;
    int first = (n_tiles - 1 - (int)(blockIdx.x / (a.B * a.H))) * QUERIES;
    int row = threadIdx.x / 32 * M * 16, end = min(first + QUERIES, (int)a.T);
    const head_rows keys = head_of(a, a.k, a.ldk, b, h / (a.H / a.K));
    const head_rows values = head_of(a, a.v, a.ldv, b, h / (a.H / a.K));
    const head_dropout kept(a, dropout, b, h);
    forward_state<M, DP / 8> x;
    clear(x.o);
    for (int m = 0; m < M; m++)
        for (int half = 0; half < 2; half++) x.max[m][half] = -INFINITY, x.sum[m][half] = 0;
    copy_rows<DP, QUERIES>(q, head_of(a, a.q, a.ldq, b, h), first);
    copy_rows<DP, KEYS>(kv, keys, 0);
    copy_rows<DP, KEYS>(kv + TILE, values, 0);
    for (int key = 0, stage = 0; key < end; key += KEYS, stage ^= 1) {
        const uint16_t *k = kv + 2 * stage * TILE, *v = k + TILE;
        uint16_t *next = kv + 2 * (stage ^ 1) * TILE;
        par__copy_wait();
        __syncthreads();
        if (key + KEYS < end) {
            copy_rows<DP, KEYS>(next, keys, key + KEYS);
            copy_rows<DP, KEYS>(next + TILE, values, key + KEYS);
        }
        if (key >= first + row + M * 16) continue;
        float s[M][KEYS / 8][4];
        dot_rows<TYPE, DP>(s, q, row, k, 0);
        if (key + KEYS > first + row) mask_rows(s, first + row - key, -INFINITY);
        softmax_rows(x, s, a.scale * LOG2_E);
        if (DROP) drop_rows(s, kept, first + row, key);
        add_product<TYPE, DP>(x.o, s, v, 0, 0);
    }
    finish<TYPE, DP>(a, DROP ? dropout.scale : 1.0f, b, h, first, q, row, x);
}

/* M with and without dropout, whose bits take registers. */
template <int DP, int PLAIN, int DROPPED, int KEYS> struct forward_shape {
    template <bool DROP> static constexpr int rows() { return DROP ? DROPPED : PLAIN; }
    template <bool DROP> static constexpr int queries() { return WARPS * rows<DROP>() * 16; }
    template <bool DROP> static constexpr int nbytes() {
        return (queries<DROP>() + 4 * KEYS) * DP * 2;
    }
    template <par_dtype TYPE, bool DROP> static par_status allow() {
        PAR__CUDA_TRY(cudaFuncSetAttribute(
            (const void *)attention_mma_forward<TYPE, DP, rows<DROP>(), KEYS, DROP>,
            cudaFuncAttributeMaxDynamicSharedMemorySize, nbytes<DROP>()));
        return PAR_OK;
    }
    template <par_dtype TYPE, bool DROP>
    static par_status launch(par_stream *stream, const par_attention *a) {
        int64_t n_tiles = par__blocks(a->T, queries<DROP>());
        PAR_LAUNCH((attention_mma_forward<TYPE, DP, rows<DROP>(), KEYS, DROP>),
                   dim3((unsigned)(n_tiles * a->B * a->H)), dim3(THREADS), nbytes<DROP>(), stream,
                   *a, par__device_dropout_of(&a->dropout), (int)n_tiles);
        return par__cuda_launched("attention_mma_forward");
    }
};

/* At most 32, 48, 64 and 96 KiB of shared memory. */
typedef forward_shape<64, 2, 2, 32> forward_64;
typedef forward_shape<96, 2, 2, 32> forward_96;
typedef forward_shape<128, 2, 1, 16> forward_128;
typedef forward_shape<256, 1, 1, 32> forward_256;
#define FORWARD_DISPATCH(a, f, ...)                                                                \
    ((a)->D <= 64    ? ATTENTION_TYPED(forward_64, a, f, __VA_ARGS__)                              \
     : (a)->D <= 96  ? ATTENTION_TYPED(forward_96, a, f, __VA_ARGS__)                              \
     : (a)->D <= 128 ? ATTENTION_TYPED(forward_128, a, f, __VA_ARGS__)                             \
                     : ATTENTION_TYPED(forward_256, a, f, __VA_ARGS__))

extern "C" par_status par__cuda_attention_mma_prepare(const par_attention *a) {
    return FORWARD_DISPATCH(a, allow);
}

extern "C" par_status par__cuda_attention_mma(par_stream *stream, const par_attention *a) {
    return FORWARD_DISPATCH(a, launch, stream, a);
}
