/*
 * Causal attention in 16 bits, backward, for compute capability 9.0 (attention_mma_backward.cu is
 * the same for others and has the scheme): the same two kernels, by products of warpgroups. Every
 * sum has one order: the bits repeat.
 */
#include "kernels/cuda/own/attention_gradient.cuh"
#include "kernels/cuda/own/attention_wgmma.cuh"

/* Three tiles of k and v go round: one is copied while the product with the one before the present
 * one may still run. */
template <par_dtype TYPE, int DP, int GROUPS, int KEYS, int BLOCKS, bool DROP>
__global__ void __launch_bounds__(GROUPS *THREADS, BLOCKS)
    attention_wgmma_dq(par_attention a, par__device_dropout dropout, const float *delta,
                       int n_tiles) {
    enum { QUERIES = GROUPS * GROUP_ROWS, N = KEYS / 8, STAGES = 3 };
    typedef panel_tile<DP, QUERIES> of_queries;
    typedef panel_tile<DP, KEYS> of_keys;
    PAR_SHARED(uint16_t, q);
    if (DROP) par__device_dropout_begin(dropout);
    uint16_t *d_o = q + of_queries::SIZE, *k = d_o + of_queries::SIZE;
    uint16_t *v = k + STAGES * of_keys::SIZE;
    int64_t head = blockIdx.x % (a.B * a.H), b = head / a.H, h = head % a.H;
    int first = (n_tiles - 1 - (int)(blockIdx.x / (a.B * a.H))) * QUERIES;
    int row = threadIdx.x / 32 * 16, group = threadIdx.x / THREADS * GROUP_ROWS;
    int end = min(first + QUERIES, (int)a.T), own_end = min(end, first + group + GROUP_ROWS);
    const head_rows keys = head_of(a, a.k, a.ldk, b, h / (a.H / a.K));
    const head_rows values = head_of(a, a.v, a.ldv, b, h / (a.H / a.K));
    const head_dropout kept(a, dropout, b, h);
    const float exponent = a.scale * LOG2_E, keep_scale = DROP ? dropout.scale : 1.0f;
    float dq[1][DP / 8][4], s[1][N][4], dp[1][N][4], lse[2], of[2];
    uint32_t ds[N / 2][4];
    clear(dq);
    copy_tile<of_queries, GROUPS * THREADS>(q, head_of(a, a.q, a.ldq, b, h), first);
    copy_tile<of_queries, GROUPS * THREADS>(d_o, head_of(a, a.d_o, a.ldd_o, b, h), first);
    int key = (int)first_key(a, b, first) / KEYS * KEYS, stage = 0;
    copy_tile<of_keys, GROUPS * THREADS>(k, keys, key);
    copy_tile<of_keys, GROUPS * THREADS>(v, values, key);
    for (int half = 0; half < 2; half++) {
        int t = first + row + 8 * half + threadIdx.x % 32 / 4;
        lse[half] = t < a.T ? a.lse[head * a.T + t] : 0.0f;
        of[half] = t < a.T ? delta[head * a.T + t] : 0.0f;
    }
    const par__factor own_q = of_queries::from(q, group), own_do = of_queries::from(d_o, group);
    const auto meet = [&] {
        meet_with_copies();
        if (key + KEYS >= end) return;
        int next = stage == STAGES - 1 ? 0 : stage + 1;
        copy_tile<of_keys, GROUPS * THREADS>(k + next * of_keys::SIZE, keys, key + KEYS);
        copy_tile<of_keys, GROUPS * THREADS>(v + next * of_keys::SIZE, values, key + KEYS);
    };
#pragma unroll 1
    for (; key < own_end; key += KEYS, stage = stage == STAGES - 1 ? 0 : stage + 1) {
        const par__factor now_k = of_keys::from(k + stage * of_keys::SIZE, 0);
        meet();
        par__wgmma_begin();
        begin_dot<TYPE, of_queries, of_keys>(s[0], own_q, now_k);
        begin_dot<TYPE, of_queries, of_keys>(dp[0], own_do,
                                             of_keys::from(v + stage * of_keys::SIZE, 0));
        par__wgmma_wait<1>();
        par__wgmma_settle(s[0]);
        if (key + KEYS > first + row) mask_rows(s, first + row - key, -INFINITY);
        mask_documents(s, a, b, first + row, key);
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) s[0][n][e] = weight(s[0][n][e], exponent, lse[e / 2]);
        par__wgmma_wait<0>();
        par__wgmma_settle(dp[0]);
        if (DROP) drop_rows(dp, kept, first + row, key);
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) s[0][n][e] *= dp[0][n][e] * keep_scale - of[e / 2];
        narrow_rows<TYPE>(ds, s[0]);
        par__wgmma_begin();
        begin_add<TYPE>(dq[0], ds, now_k);
    }
    par__wgmma_wait<0>();
    par__wgmma_settle(dq[0]);
    for (; key < end; key += KEYS) meet(); /* of the block's other warpgroups */
    __syncthreads();
    float factor[1][2] = {{a.scale, a.scale}};
    store_rows<TYPE, of_queries>(head_of(a, a.dq, a.lddq, b, h), first, q, row, 0, dq, factor);
}

/* Weights of transposed scores; lse is that of the tile's queries, from the thread's first one. */
template <int N>
__device__ static inline void weigh_columns(float (&s)[N][4], float exponent, const float *lse) {
#pragma unroll
    for (int n = 0; n < N; n++) {
        float2 of = *(const float2 *)&lse[8 * n];
#pragma unroll
        for (int e = 0; e < 4; e++) s[n][e] = weight(s[n][e], exponent, e % 2 ? of.y : of.x);
    }
}

/* dp becomes ds / scale, s the weights that dropout leaves, over keep_scale. */
template <bool DROP, int N>
__device__ static inline void differentiate(float (&s)[N][4], float (&dp)[N][4], float keep_scale,
                                            const float *delta, const uint32_t (&kept)[4]) {
#pragma unroll
    for (int n = 0; n < N; n++) {
        float2 of = *(const float2 *)&delta[8 * n];
#pragma unroll
        for (int e = 0; e < 4; e++) {
            bool keep = !DROP || (kept[e] >> 4 * n & 1);
            dp[n][e] = s[n][e] * ((keep ? dp[n][e] * keep_scale : 0.0f) - (e % 2 ? of.y : of.x));
        }
    }
}

template <int N>
__device__ static inline void drop_columns(float (&s)[N][4], const uint32_t (&kept)[4]) {
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            if (!(kept[e] >> 4 * n & 1)) s[n][e] = 0;
}

/* Tiles of queries that are walked: q and dO by panels, lse and delta behind them all. */
template <int DP, int QUERIES, int N_THREADS> struct walked_tiles {
    typedef panel_tile<DP, QUERIES> tile;
    uint16_t *rows;    /* [2 stages] q and dO */
    float *statistics; /* [2 stages] lse and delta */

    enum { NBYTES = 2 * (2 * tile::SIZE * 2 + 2 * QUERIES * 4) };
    __device__ walked_tiles(uint16_t *at) : rows(at), statistics((float *)(at + 4 * tile::SIZE)) {}

    __device__ const uint16_t *q(int stage) const { return rows + 2 * stage * tile::SIZE; }
    __device__ const uint16_t *d_o(int stage) const { return q(stage) + tile::SIZE; }
    __device__ const float *lse(int stage) const { return statistics + 2 * stage * QUERIES; }
    __device__ const float *delta(int stage) const { return lse(stage) + QUERIES; }

    /* Begin to copy. All threads call. */
    __device__ void copy(int stage, const par_attention &a, const float *of, int64_t b, int64_t h,
                         int first) const {
        static_assert(2 * QUERIES <= N_THREADS, "one value per thread");
        uint16_t *to = rows + 2 * stage * tile::SIZE;
        copy_tile<tile, N_THREADS>(to, head_of(a, a.q, a.ldq, b, h), first);
        copy_tile<tile, N_THREADS>(to + tile::SIZE, head_of(a, a.d_o, a.ldd_o, b, h), first);
        int i = threadIdx.x % QUERIES;
        bool valid = first + i < a.T;
        if (threadIdx.x < 2 * QUERIES) {
            const float *from = threadIdx.x < QUERIES ? a.lse : of;
            par__copy_4(&statistics[2 * stage * QUERIES + threadIdx.x],
                        valid ? from + (b * a.H + h) * a.T + first + i : from, valid);
        }
    }
};

template <par_dtype TYPE, int DP, int GROUPS, int QUERIES, int BLOCKS, bool DROP>
__global__ void __launch_bounds__(GROUPS *THREADS, BLOCKS)
    attention_wgmma_dkdv(par_attention a, par__device_dropout dropout, const float *delta) {
    enum { KEYS = GROUPS * GROUP_ROWS, N = QUERIES / 8 };
    typedef panel_tile<DP, KEYS> of_keys;
    typedef panel_tile<DP, QUERIES> of_queries;
    PAR_SHARED(uint16_t, k);
    if (DROP) par__device_dropout_begin(dropout);
    uint16_t *v = k + of_keys::SIZE;
    const walked_tiles<DP, QUERIES, GROUPS * THREADS> walked(v + of_keys::SIZE);
    int64_t b = blockIdx.x % (a.B * a.K) / a.K, kv_head = blockIdx.x % a.K, per_kv = a.H / a.K;
    int first = (int)(blockIdx.x / (a.B * a.K)) * KEYS;
    int row = threadIdx.x / 32 * 16, group = threadIdx.x / THREADS * GROUP_ROWS;
    const float exponent = a.scale * LOG2_E, keep_scale = DROP ? dropout.scale : 1.0f;
    float dk[1][DP / 8][4], dv[1][DP / 8][4], s[1][N][4], dp[1][N][4];
    uint32_t w[N / 2][4], ds[N / 2][4];
    clear(dk);
    clear(dv);
    copy_tile<of_keys, GROUPS * THREADS>(k, head_of(a, a.k, a.ldk, b, kv_head), first);
    copy_tile<of_keys, GROUPS * THREADS>(v, head_of(a, a.v, a.ldv, b, kv_head), first);
    const par__factor own_k = of_keys::from(k, group), own_v = of_keys::from(v, group);
    int64_t h = kv_head * per_kv, end = h + per_kv;
    walked.copy(0, a, delta, b, h, first);
    const int last = (int)queries_end(a, b, min(first + KEYS, (int)a.T) - 1);
    int query = first, column = threadIdx.x % 4 * 2;
#pragma unroll 1
    for (int stage = 0; h < end; stage ^= 1) {
        int64_t next_h = h;
        int next = query + QUERIES;
        if (next >= last) next_h++, next = first;
        meet_with_copies();
        if (next_h < end) walked.copy(stage ^ 1, a, delta, b, next_h, next);
        if (query + QUERIES > first + group) {
            const par__factor now_q = of_queries::from(walked.q(stage), 0);
            const par__factor now_do = of_queries::from(walked.d_o(stage), 0);
            uint32_t kept[1][4] = {};
            par__wgmma_begin();
            begin_dot<TYPE, of_keys, of_queries>(s[0], own_k, now_q);
            begin_dot<TYPE, of_keys, of_queries>(dp[0], own_v, now_do);
            if (DROP) draw_columns<1, N>(kept, head_dropout(a, dropout, b, h), query, first + row);
            par__wgmma_wait<1>();
            par__wgmma_settle(s[0]);
            if (query < first + row + 16) mask_columns(s, query - first - row);
            mask_document_columns(s, a, b, query, first + row);
            weigh_columns(s[0], exponent, walked.lse(stage) + column);
            if (DROP) {
                par__wgmma_wait<0>();
                par__wgmma_settle(dp[0]);
                differentiate<DROP>(s[0], dp[0], keep_scale, walked.delta(stage) + column, kept[0]);
                drop_columns(s[0], kept[0]);
            }
            narrow_rows<TYPE>(w, s[0]);
            par__wgmma_begin();
            begin_add<TYPE>(dv[0], w, now_do);
            if (!DROP) {
                par__wgmma_wait<1>();
                par__wgmma_settle(dp[0]);
                differentiate<DROP>(s[0], dp[0], keep_scale, walked.delta(stage) + column, kept[0]);
            }
            narrow_rows<TYPE>(ds, dp[0]);
            par__wgmma_begin();
            begin_add<TYPE>(dk[0], ds, now_q);
            par__wgmma_wait<0>();
            par__wgmma_settle(dk[0]);
            par__wgmma_settle(dv[0]);
        }
        h = next_h;
        query = next;
    }
    __syncthreads();
    float by_scale[1][2] = {{a.scale, a.scale}}, by_keep[1][2] = {{keep_scale, keep_scale}};
    store_rows<TYPE, of_keys>(head_of(a, a.dk, a.lddk, b, kv_head), first, k, row, 0, dk, by_scale);
    store_rows<TYPE, of_keys>(head_of(a, a.dv, a.lddv, b, kv_head), first, k, row, 0, dv, by_keep);
}

/* Warpgroups, rows of a tile that is walked, blocks per multiprocessor, of the two kernels. */
template <int DP, int DQ_GROUPS, int DQ_KEYS, int DQ_BLOCKS, int GROUPS, int QUERIES, int BLOCKS>
struct backward_shape {
    enum {
        DQ_QUERIES = DQ_GROUPS * GROUP_ROWS,
        DQ_NBYTES = (2 * DQ_QUERIES + 6 * DQ_KEYS) * DP * 2,
        KEYS = GROUPS * GROUP_ROWS,
        NBYTES = 2 * KEYS * DP * 2 + walked_tiles<DP, QUERIES, GROUPS * THREADS>::NBYTES
    };
    template <par_dtype TYPE, bool DROP> static par_status allow() {
        PAR__CUDA_TRY(cudaFuncSetAttribute(
            (const void *)attention_wgmma_dq<TYPE, DP, DQ_GROUPS, DQ_KEYS, DQ_BLOCKS, DROP>,
            cudaFuncAttributeMaxDynamicSharedMemorySize, DQ_NBYTES));
        PAR__CUDA_TRY(cudaFuncSetAttribute(
            (const void *)attention_wgmma_dkdv<TYPE, DP, GROUPS, QUERIES, BLOCKS, DROP>,
            cudaFuncAttributeMaxDynamicSharedMemorySize, NBYTES));
        return PAR_OK;
    }
    template <par_dtype TYPE, bool DROP>
    static par_status launch(par_stream *stream, const par_attention *a, const float *delta) {
        int64_t n_tiles = par__blocks(a->T, DQ_QUERIES), n_key_tiles = par__blocks(a->T, KEYS);
        par__device_dropout dropout = par__device_dropout_of(&a->dropout);
        PAR_LAUNCH((attention_wgmma_dq<TYPE, DP, DQ_GROUPS, DQ_KEYS, DQ_BLOCKS, DROP>),
                   dim3((unsigned)(n_tiles * a->B * a->H)), dim3(DQ_GROUPS * THREADS), DQ_NBYTES,
                   stream, *a, dropout, delta, (int)n_tiles);
        PAR_TRY(par__cuda_launched("attention_wgmma_dq"));
        PAR_LAUNCH((attention_wgmma_dkdv<TYPE, DP, GROUPS, QUERIES, BLOCKS, DROP>),
                   dim3((unsigned)(n_key_tiles * a->B * a->K)), dim3(GROUPS * THREADS), NBYTES,
                   stream, *a, dropout, delta);
        return par__cuda_launched("attention_wgmma_dkdv");
    }
};

typedef backward_shape<64, 2, 64, 1, 2, 64, 1> backward_64;
typedef backward_shape<128, 2, 64, 1, 2, 64, 1> backward_128;
#define BACKWARD_DISPATCH(a, f, ...)                                                               \
    ((a)->D <= 64 ? ATTENTION_TYPED(backward_64, a, f, __VA_ARGS__)                                \
                  : ATTENTION_TYPED(backward_128, a, f, __VA_ARGS__))

extern "C" par_status par__cuda_attention_wgmma_backward_prepare(const par_attention *a) {
    return BACKWARD_DISPATCH(a, allow);
}

extern "C" par_status par__cuda_attention_wgmma_backward(par_stream *stream, const par_attention *a,
                                                         const float *delta) {
    return BACKWARD_DISPATCH(a, launch, stream, a, delta);
}
