/*
 * Causal attention in 16 bits, backward, on tensor cores (par_attention in par/kernels.h;
 * attention_backward.cu has the formulas; Dao 2023, algorithm 2). One kernel has a tile of queries
 * and walks tiles of keys for dq. One has a tile of keys and walks the queries of its group's
 * heads, in their order, for dk and dv: its scores are transposed, keys by queries, so that they
 * are left factors as they lie in registers. The next tile is copied meanwhile. p z and ds are
 * rounded to 16 bits before their products, sums are not; every sum has one order: the bits repeat.
 */
#include "kernels/cuda/own/attention_gradient.cuh"

enum { DELTA_LANES = 8, DELTA_ROWS = THREADS / DELTA_LANES };

/* delta [B, H, T] = dO · o of a row: 8 lanes per row, 8 channels of each 64 per lane. */
template <typename X>
__global__ void __launch_bounds__(THREADS)
    attention_mma_delta(par_attention a, float *delta, int n_tiles) {
    int64_t head = blockIdx.x / n_tiles, b = head / a.H, h = head % a.H;
    int t = (int)(blockIdx.x % n_tiles) * DELTA_ROWS + threadIdx.x / DELTA_LANES;
    const head_rows o = head_of(a, a.o, a.ldo, b, h), d_o = head_of(a, a.d_o, a.ldd_o, b, h);
    float sum = 0;
    for (int d = threadIdx.x % DELTA_LANES * 8; d < o.D && t < o.T; d += 8 * DELTA_LANES) {
        par__pack<8> x = par__get<8>((const X *)o.data + t * o.ld + d);
        par__pack<8> y = par__get<8>((const X *)d_o.data + t * d_o.ld + d);
#pragma unroll
        for (int i = 0; i < 8; i++) sum += x.x[i] * y.x[i];
    }
#pragma unroll
    for (int step = DELTA_LANES / 2; step > 0; step /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, step);
    if (threadIdx.x % DELTA_LANES == 0 && t < a.T) delta[head * a.T + t] = sum;
}

template <par_dtype TYPE, int DP, int M, int KEYS, bool DROP>
__global__ void __launch_bounds__(THREADS, 2)
    attention_mma_dq(par_attention a, par__device_dropout dropout, const float *delta,
                     int n_tiles) {
    enum { QUERIES = WARPS * M * 16, TILE = KEYS * DP };
    PAR_SHARED(uint16_t, q);
    if (DROP) par__device_dropout_begin(dropout);
    uint16_t *d_o = q + QUERIES * DP, *kv = d_o + QUERIES * DP;
    int64_t head = blockIdx.x % (a.B * a.H), b = head / a.H, h = head % a.H;
    int first = (n_tiles - 1 - (int)(blockIdx.x / (a.B * a.H))) * QUERIES;
    int row = threadIdx.x / 32 * M * 16, end = min(first + QUERIES, (int)a.T);
    const head_rows keys = head_of(a, a.k, a.ldk, b, h / (a.H / a.K));
    const head_rows values = head_of(a, a.v, a.ldv, b, h / (a.H / a.K));
    const head_dropout kept(a, dropout, b, h);
    const float exponent = a.scale * LOG2_E, keep_scale = DROP ? dropout.scale : 1.0f;
    float dq[M][DP / 8][4], lse[M][2], of[M][2], factor[M][2];
    clear(dq);
    copy_rows<DP, QUERIES>(q, head_of(a, a.q, a.ldq, b, h), first);
    copy_rows<DP, QUERIES>(d_o, head_of(a, a.d_o, a.ldd_o, b, h), first);
    const int begin = (int)first_key(a, b, first) / KEYS * KEYS;
    copy_rows<DP, KEYS>(kv, keys, begin);
    copy_rows<DP, KEYS>(kv + TILE, values, begin);
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int t = first + row + 16 * m + 8 * half + threadIdx.x % 32 / 4;
            lse[m][half] = t < a.T ? a.lse[head * a.T + t] : 0.0f;
            of[m][half] = t < a.T ? delta[head * a.T + t] : 0.0f;
            factor[m][half] = a.scale;
        }
#pragma unroll 1
    for (int key = begin, stage = 0; key < end; key += KEYS, stage ^= 1) {
        const uint16_t *k = kv + 2 * stage * TILE, *v = k + TILE;
        uint16_t *next = kv + 2 * (stage ^ 1) * TILE;
        par__copy_wait();
        __syncthreads();
        if (key + KEYS < end) {
            copy_rows<DP, KEYS>(next, keys, key + KEYS);
            copy_rows<DP, KEYS>(next + TILE, values, key + KEYS);
        }
        if (key >= first + row + M * 16) continue;
        float s[M][KEYS / 8][4], dp[M][KEYS / 8][4];
        dot_rows<TYPE, DP>(s, q, row, k, 0);
        dot_rows<TYPE, DP>(dp, d_o, row, v, 0);
        if (key + KEYS > first + row) mask_rows(s, first + row - key, -INFINITY);
        mask_documents(s, a, b, first + row, key);
        if (DROP) drop_rows(dp, kept, first + row, key);
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    s[m][n][e] = weight(s[m][n][e], exponent, lse[m][e / 2]) *
                                 (dp[m][n][e] * keep_scale - of[m][e / 2]);
        add_product<TYPE, DP>(dq, s, k, 0, 0);
    }
    store_rows<TYPE, row_tile<DP>>(head_of(a, a.dq, a.lddq, b, h), first, q, row, 0, dq, factor);
}

/* Scores and dp of keys by queries become the left factors of dv and dk: p z / keep_scale and ds /
 * scale. lse and delta are those of the tile's queries. */
template <bool DROP, int M, int N>
__device__ static inline void
differentiate_columns(float (&s)[M][N][4], float (&dp)[M][N][4], float exponent, float keep_scale,
                      const float *lse, const float *delta, const uint32_t (&kept)[M][4]) {
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            int column = 8 * n + threadIdx.x % 4 * 2 + e % 2;
            float shift = lse[column], of = delta[column];
#pragma unroll
            for (int m = 0; m < M; m++) {
                float p = weight(s[m][n][e], exponent, shift);
                bool keep = !DROP || (kept[m][e] >> 4 * n & 1);
                s[m][n][e] = keep ? p : 0.0f;
                dp[m][n][e] = p * ((keep ? dp[m][n][e] * keep_scale : 0.0f) - of);
            }
        }
}

/* One tile of queries of one head, in shared memory: q and dO [N][DP], lse and delta [N]. */
template <int DP, int N> struct query_tile {
    uint16_t *q, *d_o;
    float *lse, *delta;

    enum { NBYTES = 2 * N * DP * 2 + 2 * N * 4 };
    __device__ query_tile(uint16_t *at)
        : q(at), d_o(q + N * DP), lse((float *)(d_o + N * DP)), delta(lse + N) {}

    /* Begin to copy. All threads call. */
    __device__ void copy(const par_attention &a, const float *of, int64_t b, int64_t h,
                         int first) const {
        int64_t at = (b * a.H + h) * a.T + first;
        copy_rows<DP, N>(q, head_of(a, a.q, a.ldq, b, h), first);
        copy_rows<DP, N>(d_o, head_of(a, a.d_o, a.ldd_o, b, h), first);
        static_assert(2 * N <= THREADS, "one value per thread");
        int i = threadIdx.x % N;
        bool valid = first + i < a.T;
        if (threadIdx.x < 2 * N) {
            const float *from = threadIdx.x < N ? a.lse : of;
            par__copy_4(&lse[threadIdx.x], valid ? from + at + i : from, valid);
        }
    }
};

/* SPLIT warps have the same keys, and a part of the channels of dk and dv each. */
template <par_dtype TYPE, int DP, int M, int QUERIES, int SPLIT, bool DROP>
__global__ void __launch_bounds__(THREADS, 2)
    attention_mma_dkdv(par_attention a, par__device_dropout dropout, const float *delta) {
    enum { KEYS = WARPS / SPLIT * M * 16, C = DP / 8 / SPLIT };
    typedef query_tile<DP, QUERIES> tile;
    PAR_SHARED(uint16_t, k);
    if (DROP) par__device_dropout_begin(dropout);
    uint16_t *v = k + KEYS * DP, *walked = v + KEYS * DP;
    int64_t b = blockIdx.x % (a.B * a.K) / a.K, kv_head = blockIdx.x % a.K, group = a.H / a.K;
    int first = (int)(blockIdx.x / (a.B * a.K)) * KEYS;
    int row = threadIdx.x / 32 / SPLIT * M * 16, channels = threadIdx.x / 32 % SPLIT * C;
    const float exponent = a.scale * LOG2_E, keep_scale = DROP ? dropout.scale : 1.0f;
    float dk[M][C][4], dv[M][C][4];
    clear(dk);
    clear(dv);
    copy_rows<DP, KEYS>(k, head_of(a, a.k, a.ldk, b, kv_head), first);
    copy_rows<DP, KEYS>(v, head_of(a, a.v, a.ldv, b, kv_head), first);
    tile(walked).copy(a, delta, b, kv_head * group, first);
    int64_t h = kv_head * group, end = h + group;
    const int last = (int)queries_end(a, b, min(first + KEYS, (int)a.T) - 1);
    int query = first;
#pragma unroll 1
    for (int stage = 0; h < end; stage ^= 1) {
        const tile now(walked + stage * (tile::NBYTES / 2));
        int64_t next_h = h;
        int next = query + QUERIES;
        if (next >= last) next_h++, next = first;
        par__copy_wait();
        __syncthreads();
        if (next_h < end)
            tile(walked + (stage ^ 1) * (tile::NBYTES / 2)).copy(a, delta, b, next_h, next);
        if (query + QUERIES > first + row) {
            float s[M][QUERIES / 8][4], dp[M][QUERIES / 8][4];
            uint32_t kept[M][4] = {};
            dot_rows<TYPE, DP>(s, k, row, now.q, 0);
            dot_rows<TYPE, DP>(dp, v, row, now.d_o, 0);
            if (query < first + row + M * 16) mask_columns(s, query - first - row);
            mask_document_columns(s, a, b, query, first + row);
            if (DROP)
                draw_columns<M, QUERIES / 8>(kept, head_dropout(a, dropout, b, h), query,
                                             first + row);
            differentiate_columns<DROP>(s, dp, exponent, keep_scale, now.lse, now.delta, kept);
            add_product<TYPE, DP>(dv, s, now.d_o, 0, channels);
            add_product<TYPE, DP>(dk, dp, now.q, 0, channels);
        }
        h = next_h;
        query = next;
    }
    __syncthreads();
    float factor[M][2];
    uint16_t *own = k + threadIdx.x / 32 % SPLIT * KEYS * DP;
    for (int m = 0; m < M; m++) factor[m][0] = factor[m][1] = a.scale;
    store_rows<TYPE, row_tile<DP>>(head_of(a, a.dk, a.lddk, b, kv_head), first, own, row, channels,
                                   dk, factor);
    for (int m = 0; m < M; m++) factor[m][0] = factor[m][1] = keep_scale;
    store_rows<TYPE, row_tile<DP>>(head_of(a, a.dv, a.lddv, b, kv_head), first, own, row, channels,
                                   dv, factor);
}

/* Rows per warp (16 each) and per tile that is walked, of the two kernels. */
template <int DP, int DQ_M, int DQ_KEYS, int M, int QUERIES, int SPLIT> struct backward_shape {
    static_assert(SPLIT <= 2, "the tiles of k and v, for two warps to store through");
    enum {
        DQ_QUERIES = WARPS * DQ_M * 16,
        DQ_NBYTES = (2 * DQ_QUERIES + 4 * DQ_KEYS) * DP * 2,
        KEYS = WARPS / SPLIT * M * 16,
        NBYTES = 2 * KEYS * DP * 2 + 2 * query_tile<DP, QUERIES>::NBYTES
    };

    template <par_dtype TYPE, bool DROP> static par_status allow() {
        PAR__CUDA_TRY(
            cudaFuncSetAttribute((const void *)attention_mma_dq<TYPE, DP, DQ_M, DQ_KEYS, DROP>,
                                 cudaFuncAttributeMaxDynamicSharedMemorySize, DQ_NBYTES));
        PAR__CUDA_TRY(cudaFuncSetAttribute(
            (const void *)attention_mma_dkdv<TYPE, DP, M, QUERIES, SPLIT, DROP>,
            cudaFuncAttributeMaxDynamicSharedMemorySize, NBYTES));
        return PAR_OK;
    }

    template <par_dtype TYPE, bool DROP>
    static par_status launch(par_stream *stream, const par_attention *a, const float *delta) {
        int64_t n_tiles = par__blocks(a->T, DQ_QUERIES), n_key_tiles = par__blocks(a->T, KEYS);
        par__device_dropout dropout = par__device_dropout_of(&a->dropout);
        PAR_LAUNCH((attention_mma_dq<TYPE, DP, DQ_M, DQ_KEYS, DROP>),
                   dim3((unsigned)(n_tiles * a->B * a->H)), dim3(THREADS), DQ_NBYTES, stream, *a,
                   dropout, delta, (int)n_tiles);
        PAR_TRY(par__cuda_launched("attention_mma_dq"));
        PAR_LAUNCH((attention_mma_dkdv<TYPE, DP, M, QUERIES, SPLIT, DROP>),
                   dim3((unsigned)(n_key_tiles * a->B * a->K)), dim3(THREADS), NBYTES, stream, *a,
                   dropout, delta);
        return par__cuda_launched("attention_mma_dkdv");
    }
};

/* dq and dk/dv take 48 and 49, 72 and 73, 96 and 65, 96 and 97 KiB of shared memory. */
typedef backward_shape<64, 2, 32, 2, 32, 1> backward_64;
typedef backward_shape<96, 2, 32, 1, 64, 1> backward_96;
typedef backward_shape<128, 2, 16, 1, 32, 1> backward_128;
typedef backward_shape<256, 1, 16, 1, 32, 2> backward_256;
#define BACKWARD_DISPATCH(a, f, ...)                                                               \
    ((a)->D <= 64    ? ATTENTION_TYPED(backward_64, a, f, __VA_ARGS__)                             \
     : (a)->D <= 96  ? ATTENTION_TYPED(backward_96, a, f, __VA_ARGS__)                             \
     : (a)->D <= 128 ? ATTENTION_TYPED(backward_128, a, f, __VA_ARGS__)                            \
                     : ATTENTION_TYPED(backward_256, a, f, __VA_ARGS__))

extern "C" par_status par__cuda_attention_mma_backward_prepare(const par_attention *a) {
    if (has_warpgroups(a)) return par__cuda_attention_wgmma_backward_prepare(a);
    return BACKWARD_DISPATCH(a, allow);
}

extern "C" par_status par__cuda_attention_mma_backward(par_stream *stream, const par_attention *a,
                                                       float *delta) {
    int64_t n_tiles = par__blocks(a->T, DELTA_ROWS);
    dim3 grid((unsigned)(n_tiles * a->B * a->H));
    if (a->dtype == PAR_BF16)
        PAR_LAUNCH((attention_mma_delta<par__bf16>), grid, dim3(THREADS), 0, stream, *a, delta,
                   (int)n_tiles);
    else
        PAR_LAUNCH((attention_mma_delta<par__f16>), grid, dim3(THREADS), 0, stream, *a, delta,
                   (int)n_tiles);
    PAR_TRY(par__cuda_launched("attention_mma_delta"));
    if (has_warpgroups(a)) return par__cuda_attention_wgmma_backward(stream, a, delta);
    return BACKWARD_DISPATCH(a, launch, stream, a, delta);
}
