/*
 * Causal attention, forward, own kernel in fp32 arithmetic (par_attention in par/kernels.h): for
 * fp32, dropout and the head sizes that cuDNN has no plan for. A block has a tile of queries of one
 * head and walks the tiles of keys up to the diagonal with an online softmax (Dao et al. 2022,
 * algorithm 1; Milakov and Gimelshein 2018); scores exist as one tile. Blocks with the most keys
 * start first.
 */
#include "kernels/cuda/own/attention_tile.cuh"

/* Maximum and sum over the 16 threads that share rows; all lanes of the warp call. */
__device__ static inline float row_max(float x) {
#pragma unroll
    for (int step = SIDE / 2; step > 0; step /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}
__device__ static inline float row_sum(float x) {
#pragma unroll
    for (int step = SIDE / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

/* Scores of a row become weights, of keys [begin, end) of the tile; what was summed so far is to be
 * multiplied with the result. A row whose document begins behind the tile sees none yet. */
template <int R>
__device__ static inline float softmax_row(float (&s)[R], float scale, int begin, int end,
                                           float &max, float &sum) {
    float before = max, here = -INFINITY, part = 0;
    int x = threadIdx.x % SIDE;
#pragma unroll
    for (int j = 0; j < R; j++) {
        bool sees = x + SIDE * j < end && x + SIDE * j >= begin;
        s[j] = sees ? s[j] * scale : -INFINITY;
        here = fmaxf(here, s[j]);
    }
    max = fmaxf(before, row_max(here));
#pragma unroll
    for (int j = 0; j < R; j++) {
        bool sees = x + SIDE * j < end && x + SIDE * j >= begin;
        s[j] = sees ? expf(s[j] - max) : 0.0f;
        part += s[j];
    }
    float shrink = max == -INFINITY ? 1.0f : expf(before - max);
    sum = sum * shrink + row_sum(part);
    return shrink;
}

template <int TILE, int DP>
__global__ void __launch_bounds__(THREADS, DP <= 128 ? 2 : 1)
    attention_forward(par_attention a, par__device_dropout dropout, int64_t n_tiles) {
    enum { R = tile<TILE, DP>::R, C = DP / 64 };
    PAR_SHARED(float, q);
    par__device_dropout_begin(dropout);
    float *kv = q + tile<TILE, DP>::FLOATS, *p = kv + tile<TILE, DP>::FLOATS;
    int64_t head = blockIdx.x % (a.B * a.H), b = head / a.H, h = head % a.H;
    int64_t first = (n_tiles - 1 - blockIdx.x / (a.B * a.H)) * TILE;
    const rows keys = rows_of(a, a.k, a.ldk, b, h / (a.H / a.K));
    const rows values = rows_of(a, a.v, a.ldv, b, h / (a.H / a.K));
    int row = threadIdx.x / SIDE * R;
    float max[R], sum[R];
    float4 o[R][C];
#pragma unroll
    for (int i = 0; i < R; i++) {
        max[i] = -INFINITY;
        sum[i] = 0;
        for (int c = 0; c < C; c++) o[i][c] = {0, 0, 0, 0};
    }
    load_tile<TILE, DP>(q, rows_of(a, a.q, a.ldq, b, h), first);
    for (int64_t key = first_key(a, b, first) / TILE * TILE; key <= first; key += TILE) {
        float s[R][R];
        __syncthreads();
        load_tile<TILE, DP>(kv, keys, key);
        __syncthreads();
        dot_rows<TILE, DP>(q, kv, (int)a.D, s);
#pragma unroll
        for (int i = 0; i < R; i++) {
            int begin = (int)(first_key(a, b, first + row + i) - key);
            int end = key == first ? row + i + 1 : TILE;
            float shrink = softmax_row<R>(s[i], a.scale, begin, end, max[i], sum[i]);
#pragma unroll
            for (int c = 0; c < C; c++)
                o[i][c] = {o[i][c].x * shrink, o[i][c].y * shrink, o[i][c].z * shrink,
                           o[i][c].w * shrink};
        }
        put_scores<TILE, R>(p, s);
        __syncthreads();
        load_tile<TILE, DP>(kv, values, key);
        if (dropout.threshold) drop<TILE, R>(p, a, dropout, b, h, first, key);
        __syncthreads();
        add_product<TILE, DP>(p, kv, o);
    }
#pragma unroll
    for (int i = 0; i < R; i++) {
        if (threadIdx.x % SIDE == 0 && first + row + i < a.T)
            a.lse[head * a.T + first + row + i] = max[i] + logf(sum[i]);
        sum[i] = 1 / sum[i];
    }
    store_rows<TILE, DP>(rows_of(a, a.o, a.ldo, b, h), first, o, sum);
}

template <int TILE, int DP> static int shared_nbytes() {
    return (2 * tile<TILE, DP>::FLOATS + tile<TILE, DP>::SCORES) * (int)sizeof(float);
}

template <int TILE, int DP> static par_status allow(void) {
    PAR__CUDA_TRY(cudaFuncSetAttribute((const void *)attention_forward<TILE, DP>,
                                       cudaFuncAttributeMaxDynamicSharedMemorySize,
                                       shared_nbytes<TILE, DP>()));
    return PAR_OK;
}

template <int TILE, int DP> static par_status launch(par_stream *stream, const par_attention *a) {
    int64_t n_tiles = par__blocks(a->T, TILE);
    PAR_LAUNCH((attention_forward<TILE, DP>), dim3((unsigned)(n_tiles * a->B * a->H)),
               dim3(THREADS), (shared_nbytes<TILE, DP>()), stream, *a,
               par__device_dropout_of(&a->dropout), n_tiles);
    return par__cuda_launched("attention_forward");
}

extern "C" par_status par__cuda_attention_own_prepare(const par_attention *a,
                                                      size_t *workspace_nbytes) {
    PAR_TRY(check_shape(a));
    *workspace_nbytes = 0;
    if (mma_has_shape(a)) PAR_TRY(par__cuda_attention_mma_prepare(a));
    return ATTENTION_DISPATCH(a->D, 64, 64, 32, allow);
}

extern "C" par_status par__cuda_attention_own(par_stream *stream, const par_attention *a) {
    if (a->B * a->T * a->H * a->D == 0) return PAR_OK;
    if (mma_has_forward(a)) return par__cuda_attention_mma(stream, a);
    return ATTENTION_DISPATCH(a->D, 64, 64, 32, launch, stream, a);
}
