/*
 * Causal attention in 16 bits, forward, on tensor cores (par_attention in par/kernels.h; Dao 2023,
 * algorithm 1): a block has a tile of queries and walks tiles of keys with a running maximum and
 * sum per row, while the next tile is copied. Weights are rounded to 16 bits before they meet v;
 * their sum is not, and leaves dropout out.
 */
#include "kernels/cuda/own/attention_softmax.cuh"

/* Three blocks of the smallest on a multiprocessor, where their registers are enough for that. */
template <par_dtype TYPE, int DP, int M, int KEYS, bool DROP>
__global__ void __launch_bounds__(THREADS, DP == 64 && !DROP && PAR__ARCH < 1000 ? 3 : 2)
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
    const int begin = (int)first_key(a, b, first) / KEYS * KEYS;
    copy_rows<DP, KEYS>(kv, keys, begin);
    copy_rows<DP, KEYS>(kv + TILE, values, begin);
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
        float s[M][KEYS / 8][4];
        dot_rows<TYPE, DP>(s, q, row, k, 0);
        if (key + KEYS > first + row) mask_rows(s, first + row - key, -INFINITY);
        mask_documents(s, a, b, first + row, key);
        float shrink[M][2];
        softmax_rows(x, s, a.scale * LOG2_E, shrink);
        shrink_rows(x, shrink);
        if (DROP) drop_rows(s, kept, first + row, key);
        add_product<TYPE, DP>(x.o, s, v, 0, 0);
    }
    finish<TYPE, row_tile<DP>>(a, DROP ? dropout.scale : 1.0f, b, h, first, q, row, x);
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
    if (has_warpgroups(a)) return par__cuda_attention_wgmma_prepare(a);
    return FORWARD_DISPATCH(a, allow);
}

extern "C" par_status par__cuda_attention_mma(par_stream *stream, const par_attention *a) {
    if (has_warpgroups(a)) return par__cuda_attention_wgmma(stream, a);
    return FORWARD_DISPATCH(a, launch, stream, a);
}
