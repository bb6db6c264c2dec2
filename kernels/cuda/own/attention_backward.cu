/*
 * Causal attention, backward, own kernels in fp32 arithmetic (par_attention in par/kernels.h; Dao
 * et al. 2022, appendix B). With w_ij = p_ij z_ij (z: the dropout's factor) and dp_ij = dO_i · v_j:
 * ds_ij = w_ij dp_ij - p_ij delta_i, delta_i = dO_i · o_i, dq_i = scale · sum_j ds_ij k_j, dk_j =
 * scale · sum_i ds_ij q_i, dv_j = sum_i w_ij dO_i. One kernel has a tile of queries and walks keys
 * for dq; one has a tile of keys and walks the queries of its group's heads, in their order, for dk
 * and dv. Every sum has one order and no atomics: the bits repeat.
 */
#include "kernels/cuda/own/attention_tile.cuh"

enum { DELTA_ROWS = 8 };

/* delta [B, H, T]: a warp per row. */
__global__ void attention_delta(par_attention a, float *delta) {
    int64_t row = (int64_t)blockIdx.x * DELTA_ROWS + threadIdx.y;
    int64_t head = row / a.T, t = row % a.T;
    float sum = 0;
    if (row < a.B * a.H * a.T) {
        const rows o = rows_of(a, a.o, a.ldo, head / a.H, head % a.H);
        const rows d_o = rows_of(a, a.d_o, a.ldd_o, head / a.H, head % a.H);
        for (int d = threadIdx.x * 4; d < o.D; d += 128) {
            float4 x = PAR_DISPATCH(o.dtype, load4, o.data, t * o.ld + d, o.D - d, o.aligned);
            float4 y = PAR_DISPATCH(o.dtype, load4, d_o.data, t * d_o.ld + d, o.D - d, d_o.aligned);
            sum += x.x * y.x + x.y * y.y + x.z * y.z + x.w * y.w;
        }
    }
    sum = par__warp_sum(sum);
    if (threadIdx.x == 0 && row < a.B * a.H * a.T) delta[row] = sum;
}

/* A thread's queries of a tile: lse and delta; 0 behind the last token. */
template <int R> struct statistics { float lse[R], delta[R]; };

template <int R>
__device__ static inline statistics<R> load_statistics(const par_attention &a, const float *delta,
                                                       int64_t head, int64_t query) {
    statistics<R> out;
#pragma unroll
    for (int i = 0; i < R; i++) {
        int64_t t = query + threadIdx.x / SIDE * R + i;
        out.lse[i] = t < a.T ? a.lse[head * a.T + t] : 0.0f;
        out.delta[i] = t < a.T ? delta[head * a.T + t] : 0.0f;
    }
    return out;
}

/* Scores become p; pairs that causality, a document's begin or the end of the sequence leaves out
 * get 0. */
template <int R>
__device__ static inline void probabilities(const par_attention &a, const statistics<R> &of,
                                            int64_t b, int64_t query, int64_t key,
                                            float (&s)[R][R]) {
    int64_t i0 = query + threadIdx.x / SIDE * R, j0 = key + threadIdx.x % SIDE;
#pragma unroll
    for (int i = 0; i < R; i++) {
        int64_t begin = first_key(a, b, i0 + i);
#pragma unroll
        for (int j = 0; j < R; j++) {
            int64_t k = j0 + SIDE * j;
            bool sees = i0 + i < a.T && k <= i0 + i && k >= begin;
            s[i][j] = sees ? expf(s[i][j] * a.scale - of.lse[i]) : 0.0f;
        }
    }
}

/* p and dp become ds, in p. `w` [TILE][TILE + 4] is left with w = p z. Whole warps own rows of
 * it. */
template <int TILE, int R>
__device__ static inline void
differentiate(const par_attention &a, const par__device_dropout &dropout, const statistics<R> &of,
              int64_t b, int64_t h, int64_t query, int64_t key, float *w, float (&p)[R][R],
              const float (&dp)[R][R]) {
    put_scores<TILE, R>(w, p);
    __syncwarp();
    if (dropout.threshold) drop<TILE, R>(w, a, dropout, b, h, query, key);
    __syncwarp();
#pragma unroll
    for (int i = 0; i < R; i++)
#pragma unroll
        for (int j = 0; j < R; j++)
            p[i][j] = *score_at<TILE, R>(w, i, j) * dp[i][j] - p[i][j] * of.delta[i];
    __syncwarp();
}

template <int R, int C> __device__ static inline void clear(float4 (&x)[R][C]) {
#pragma unroll
    for (int i = 0; i < R; i++)
#pragma unroll
        for (int c = 0; c < C; c++) x[i][c] = {0, 0, 0, 0};
}

template <int R> struct factors {
    float of[R];
    __device__ factors(float x) {
        for (int i = 0; i < R; i++) of[i] = x;
    }
};

template <int TILE, int DP>
__global__ void __launch_bounds__(THREADS, DP <= 128 ? 2 : 1)
    attention_dq(par_attention a, par__device_dropout dropout, const float *delta,
                 int64_t n_tiles) {
    enum { R = tile<TILE, DP>::R };
    PAR_SHARED(float, q);
    par__device_dropout_begin(dropout);
    float *d_o = q + tile<TILE, DP>::FLOATS, *kv = d_o + tile<TILE, DP>::FLOATS;
    float *ds = kv + tile<TILE, DP>::FLOATS;
    int64_t head = blockIdx.x % (a.B * a.H), b = head / a.H, h = head % a.H;
    int64_t first = (n_tiles - 1 - blockIdx.x / (a.B * a.H)) * TILE;
    const rows keys = rows_of(a, a.k, a.ldk, b, h / (a.H / a.K));
    const rows values = rows_of(a, a.v, a.ldv, b, h / (a.H / a.K));
    const statistics<R> of = load_statistics<R>(a, delta, head, first);
    float4 dq[R][DP / 64];
    clear(dq);
    load_tile<TILE, DP>(q, rows_of(a, a.q, a.ldq, b, h), first);
    load_tile<TILE, DP>(d_o, rows_of(a, a.d_o, a.ldd_o, b, h), first);
    for (int64_t key = first_key(a, b, first) / TILE * TILE; key <= first; key += TILE) {
        float p[R][R], dp[R][R];
        __syncthreads();
        load_tile<TILE, DP>(kv, values, key);
        __syncthreads();
        dot_rows<TILE, DP>(d_o, kv, (int)a.D, dp);
        __syncthreads();
        load_tile<TILE, DP>(kv, keys, key);
        __syncthreads();
        dot_rows<TILE, DP>(q, kv, (int)a.D, p);
        probabilities<R>(a, of, b, first, key, p);
        differentiate<TILE, R>(a, dropout, of, b, h, first, key, ds, p, dp);
        put_scores<TILE, R>(ds, p);
        __syncwarp();
        add_product<TILE, DP>(ds, kv, dq);
    }
    store_rows<TILE, DP>(rows_of(a, a.dq, a.lddq, b, h), first, dq, factors<R>(a.scale).of);
}

template <int TILE, int DP>
__global__ void __launch_bounds__(THREADS, DP <= 128 ? 2 : 1)
    attention_dkdv(par_attention a, par__device_dropout dropout, const float *delta) {
    enum { R = tile<TILE, DP>::R };
    PAR_SHARED(float, k);
    par__device_dropout_begin(dropout);
    float *v = k + tile<TILE, DP>::FLOATS, *q = v + tile<TILE, DP>::FLOATS;
    float *d_o = q + tile<TILE, DP>::FLOATS, *w = d_o + tile<TILE, DP>::FLOATS;
    int64_t kv_head = blockIdx.x % (a.B * a.K), b = kv_head / a.K, group = a.H / a.K;
    int64_t first = (int64_t)(blockIdx.x / (a.B * a.K)) * TILE;
    const int64_t end = queries_end(a, b, min(first + TILE, a.T) - 1);
    float4 dk[R][DP / 64], dv[R][DP / 64];
    clear(dk);
    clear(dv);
    load_tile<TILE, DP>(k, rows_of(a, a.k, a.ldk, b, kv_head % a.K), first);
    load_tile<TILE, DP>(v, rows_of(a, a.v, a.ldv, b, kv_head % a.K), first);
    for (int64_t n = 0; n < group; n++) {
        int64_t h = kv_head % a.K * group + n;
        for (int64_t query = first; query < end; query += TILE) {
            float p[R][R], dp[R][R];
            const statistics<R> of = load_statistics<R>(a, delta, b * a.H + h, query);
            __syncthreads();
            load_tile<TILE, DP>(q, rows_of(a, a.q, a.ldq, b, h), query);
            load_tile<TILE, DP>(d_o, rows_of(a, a.d_o, a.ldd_o, b, h), query);
            __syncthreads();
            dot_rows<TILE, DP>(q, k, (int)a.D, p);
            dot_rows<TILE, DP>(d_o, v, (int)a.D, dp);
            probabilities<R>(a, of, b, query, first, p);
            differentiate<TILE, R>(a, dropout, of, b, h, query, first, w, p, dp);
            __syncthreads();
            add_transposed<TILE, DP>(w, d_o, dv);
            __syncthreads();
            put_scores<TILE, R>(w, p);
            __syncthreads();
            add_transposed<TILE, DP>(w, q, dk);
        }
    }
    store_rows<TILE, DP>(rows_of(a, a.dk, a.lddk, b, kv_head % a.K), first, dk,
                         factors<R>(a.scale).of);
    store_rows<TILE, DP>(rows_of(a, a.dv, a.lddv, b, kv_head % a.K), first, dv, factors<R>(1).of);
}

template <int TILE, int DP> static int shared_nbytes(int tiles) {
    return (tiles * tile<TILE, DP>::FLOATS + tile<TILE, DP>::SCORES) * (int)sizeof(float);
}

template <int TILE, int DP> static par_status allow(void) {
    PAR__CUDA_TRY(cudaFuncSetAttribute((const void *)attention_dq<TILE, DP>,
                                       cudaFuncAttributeMaxDynamicSharedMemorySize,
                                       shared_nbytes<TILE, DP>(3)));
    PAR__CUDA_TRY(cudaFuncSetAttribute((const void *)attention_dkdv<TILE, DP>,
                                       cudaFuncAttributeMaxDynamicSharedMemorySize,
                                       shared_nbytes<TILE, DP>(4)));
    return PAR_OK;
}

template <int TILE, int DP>
static par_status launch(par_stream *stream, const par_attention *a, float *delta) {
    int64_t n_tiles = par__blocks(a->T, TILE), n_rows = a->B * a->H * a->T;
    par__device_dropout dropout = par__device_dropout_of(&a->dropout);
    PAR_LAUNCH((attention_delta), dim3((unsigned)par__blocks(n_rows, DELTA_ROWS)),
               dim3(32, DELTA_ROWS), 0, stream, *a, delta);
    PAR_TRY(par__cuda_launched("attention_delta"));
    PAR_LAUNCH((attention_dq<TILE, DP>), dim3((unsigned)(n_tiles * a->B * a->H)), dim3(THREADS),
               (shared_nbytes<TILE, DP>(3)), stream, *a, dropout, (const float *)delta, n_tiles);
    PAR_TRY(par__cuda_launched("attention_dq"));
    PAR_LAUNCH((attention_dkdv<TILE, DP>), dim3((unsigned)(n_tiles * a->B * a->K)), dim3(THREADS),
               (shared_nbytes<TILE, DP>(4)), stream, *a, dropout, (const float *)delta);
    return par__cuda_launched("attention_dkdv");
}

extern "C" par_status par__cuda_attention_own_backward_prepare(const par_attention *a,
                                                               size_t *workspace_nbytes) {
    PAR_TRY(check_shape(a));
    *workspace_nbytes = (size_t)(a->B * a->H * a->T) * sizeof(float);
    if (mma_has_shape(a)) PAR_TRY(par__cuda_attention_mma_backward_prepare(a));
    return ATTENTION_DISPATCH(a->D, 32, 32, 32, allow);
}

extern "C" par_status par__cuda_attention_own_backward(par_stream *stream, const par_attention *a,
                                                       void *workspace) {
    if (a->B * a->T * a->H * a->D == 0) return PAR_OK;
    PAR_REQUIRE(workspace);
    if (mma_has_backward(a)) return par__cuda_attention_mma_backward(stream, a, (float *)workspace);
    return ATTENTION_DISPATCH(a->D, 32, 32, 32, launch, stream, a, (float *)workspace);
}
