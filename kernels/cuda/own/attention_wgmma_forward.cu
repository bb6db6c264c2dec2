/*
 * Causal attention in 16 bits, forward, for compute capability 9.0 (attention_mma_forward.cu is the
 * same for others; Shah et al. 2024, without their roles of warps): while a tile's weights are
 * computed, the product of the tile before with its values runs, and copies of the next.
 */
#include "kernels/cuda/own/attention_softmax.cuh"
#include "kernels/cuda/own/attention_wgmma.cuh"

template <par_dtype TYPE, int DP, int GROUPS, int KEYS, int BLOCKS, bool DROP>
__global__ void __launch_bounds__(GROUPS *THREADS, BLOCKS)
    attention_wgmma_forward(par_attention a, par__device_dropout dropout, int n_tiles) {
    enum { QUERIES = GROUPS * GROUP_ROWS, N = KEYS / 8 };
    typedef panel_tile<DP, QUERIES> of_queries;
    typedef panel_tile<DP, KEYS> of_keys;
    PAR_SHARED(uint16_t, q);
    if (DROP) par__device_dropout_begin(dropout);
    uint16_t *k = q + of_queries::SIZE, *v = k + 2 * of_keys::SIZE;
    int64_t head = blockIdx.x % (a.B * a.H), b = head / a.H, h = head % a.H;
    int first = (n_tiles - 1 - (int)(blockIdx.x / (a.B * a.H))) * QUERIES;
    int row = threadIdx.x / 32 * 16, group = threadIdx.x / THREADS * GROUP_ROWS;
    int end = (min(first + QUERIES, (int)a.T) + KEYS - 1) / KEYS; /* tiles of keys */
    int own_end = min(end, (first + group + GROUP_ROWS + KEYS - 1) / KEYS);
    const head_rows keys = head_of(a, a.k, a.ldk, b, h / (a.H / a.K));
    const head_rows values = head_of(a, a.v, a.ldv, b, h / (a.H / a.K));
    const head_dropout kept(a, dropout, b, h);
    forward_state<1, DP / 8> x;
    float s[1][N][4], shrink[1][2];
    uint32_t p[N / 2][4];
    clear(x.o);
    for (int half = 0; half < 2; half++) x.max[0][half] = -INFINITY, x.sum[0][half] = 0;
    copy_tile<of_queries, GROUPS * THREADS>(q, head_of(a, a.q, a.ldq, b, h), first);
    const int begin = (int)first_key(a, b, first) / KEYS;
    copy_tile<of_keys, GROUPS * THREADS>(k + begin % 2 * of_keys::SIZE, keys, begin * KEYS);
    const par__factor own = of_queries::from(q, group);
    const auto meet = [&](int j) { /* keys j and values j - 1 are there, their next ones begun */
                                   meet_with_copies();
                                   if (j + 1 < end)
                                       copy_tile<of_keys, GROUPS * THREADS>(
                                           k + (j + 1) % 2 * of_keys::SIZE, keys, (j + 1) * KEYS);
                                   if (j < end)
                                       copy_tile<of_keys, GROUPS * THREADS>(
                                           v + j % 2 * of_keys::SIZE, values, j * KEYS);
    };
    const auto begin_scores = [&](int j) {
        par__wgmma_begin();
        begin_dot<TYPE, of_queries, of_keys>(s[0], own,
                                             of_keys::from(k + j % 2 * of_keys::SIZE, 0));
    };
    const auto begin_sum = [&](int j) {
        begin_add<TYPE>(x.o[0], p, of_keys::from(v + j % 2 * of_keys::SIZE, 0));
    };
    const auto weigh = [&](int j) {
        par__wgmma_settle(s[0]);
        if ((j + 1) * KEYS > first + row) mask_rows(s, first + row - j * KEYS, -INFINITY);
        mask_documents(s, a, b, first + row, j * KEYS);
        softmax_rows(x, s, a.scale * LOG2_E, shrink);
    };
    const auto narrow = [&](int j) {
        if (DROP) drop_rows(s, kept, first + row, j * KEYS);
        narrow_rows<TYPE>(p, s[0]);
    };
    meet(begin);
    begin_scores(begin);
    par__wgmma_wait<0>();
    weigh(begin);
    narrow(begin);
    int j = begin + 1;
#pragma unroll 1
    for (; j < own_end; j++) {
        meet(j);
        begin_scores(j);
        begin_sum(j - 1);
        par__wgmma_wait<1>();
        weigh(j);
        par__wgmma_wait<0>();
        par__wgmma_settle(x.o[0]);
        shrink_rows(x, shrink);
        narrow(j);
    }
    meet(j);
    par__wgmma_begin();
    begin_sum(j - 1);
    par__wgmma_wait<0>();
    par__wgmma_settle(x.o[0]);
    for (j++; j <= end; j++) meet(j); /* of the block's other warpgroups */
    __syncthreads();
    finish<TYPE, of_queries>(a, DROP ? dropout.scale : 1.0f, b, h, first, q, row, x);
}

template <int DP, int GROUPS, int KEYS, int BLOCKS> struct forward_shape {
    enum { QUERIES = GROUPS * GROUP_ROWS, NBYTES = (QUERIES + 4 * KEYS) * DP * 2 };
    template <par_dtype TYPE, bool DROP> static par_status allow() {
        PAR__CUDA_TRY(cudaFuncSetAttribute(
            (const void *)attention_wgmma_forward<TYPE, DP, GROUPS, KEYS, BLOCKS, DROP>,
            cudaFuncAttributeMaxDynamicSharedMemorySize, NBYTES));
        return PAR_OK;
    }
    template <par_dtype TYPE, bool DROP>
    static par_status launch(par_stream *stream, const par_attention *a) {
        int64_t n_tiles = par__blocks(a->T, QUERIES);
        PAR_LAUNCH((attention_wgmma_forward<TYPE, DP, GROUPS, KEYS, BLOCKS, DROP>),
                   dim3((unsigned)(n_tiles * a->B * a->H)), dim3(GROUPS * THREADS), NBYTES, stream,
                   *a, par__device_dropout_of(&a->dropout), (int)n_tiles);
        return par__cuda_launched("attention_wgmma_forward");
    }
};

typedef forward_shape<64, 2, 64, 2> forward_64;
typedef forward_shape<128, 3, 64, 1> forward_128;
#define FORWARD_DISPATCH(a, f, ...)                                                                \
    ((a)->D <= 64 ? ATTENTION_TYPED(forward_64, a, f, __VA_ARGS__)                                 \
                  : ATTENTION_TYPED(forward_128, a, f, __VA_ARGS__))

extern "C" par_status par__cuda_attention_wgmma_prepare(const par_attention *a) {
    return FORWARD_DISPATCH(a, allow);
}

extern "C" par_status par__cuda_attention_wgmma(par_stream *stream, const par_attention *a) {
    return FORWARD_DISPATCH(a, launch, stream, a);
}
