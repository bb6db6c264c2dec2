/*
 * Softmax cross-entropy over a split vocabulary, par_xent in par/kernels.h. Stats read the logits
 * once: each thread keeps a running maximum and the sum of exponentials below it (Milakov and
 * Gimelshein 2018, "Online normalizer calculation for softmax"). The loss is small and in double,
 * in two passes of fixed order.
 */
#include "kernels/cuda/own/device.cuh"

enum { MOST_THREADS = 512, LOSS_THREADS = 256, LOSS_BLOCKS = 256 };

/* A maximum, and the sum of exp(x - max); {-inf, 0} of nothing. */
struct running {
    float max, sum;
};

template <int W> __device__ static inline void add(running &r, const par__pack<W> &v) {
    float max = r.max, sum = 0;
#pragma unroll
    for (int e = 0; e < W; e++) max = fmaxf(max, v.x[e]);
#pragma unroll
    for (int e = 0; e < W; e++) sum += expf(v.x[e] - (max == -INFINITY ? 0 : max));
    r.sum = (r.sum == 0 ? 0 : r.sum * expf(r.max - max)) + sum;
    r.max = max;
}

template <typename T, int W>
__global__ void __launch_bounds__(MOST_THREADS) xent_stats(par_xent a) {
    __shared__ float shared[32];
    for (int64_t i = blockIdx.x; i < a.m; i += gridDim.x) {
        const T *x = (const T *)a.logits + i * a.ldx;
        running r = {-INFINITY, 0};
        for (int64_t j = threadIdx.x; j < a.valid / W; j += blockDim.x)
            add(r, par__get<W>(x + j * W));
        if (W > 1)
            for (int64_t j = a.valid / W * W + threadIdx.x; j < a.valid; j += blockDim.x)
                add(r, par__get<1>(x + j));
        float max = par__block_max(r.max, shared);
        float sum = par__block_sum(r.sum == 0 ? 0 : r.sum * expf(r.max - max), shared);
        if (threadIdx.x > 0) continue;
        int64_t target = a.targets[i] < 0 ? -1 : a.targets[i] - a.begin;
        a.stats[3 * i] = max;
        a.stats[3 * i + 1] = sum;
        a.stats[3 * i + 2] = 0 <= target && target < a.valid ? par__load(x + target) : 0;
    }
}

/* log sum exp of row i over the ranks in their order; a rank without valid columns has sum 0. */
__device__ static inline double combine(const par_xent &a, int64_t i, double *target) {
    double max = -INFINITY, sum = 0;
    *target = 0;
    for (int r = 0; r < a.p; r++) {
        const float *stats = a.stats + 3 * (r * a.m + i);
        if (stats[0] > max) max = stats[0];
        *target += stats[2];
    }
    for (int r = 0; r < a.p; r++) {
        const float *stats = a.stats + 3 * (r * a.m + i);
        if (stats[1] != 0) sum += stats[1] * exp(stats[0] - max);
    }
    return max + log(sum);
}

/* partial [gridDim.x, 2]: loss and rows of a block */
__global__ void __launch_bounds__(LOSS_THREADS) xent_loss(par_xent a, double *partial) {
    __shared__ double shared[32];
    double loss = 0, rows = 0;
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < a.m; i += step) {
        double target, lse = combine(a, i, &target);
        a.lse[i] = (float)lse;
        if (a.targets[i] < 0) continue;
        loss += lse - target;
        rows += 1;
    }
    loss = par__block_sum(loss, shared);
    rows = par__block_sum(rows, shared);
    if (threadIdx.x > 0) return;
    partial[2 * blockIdx.x] = loss;
    partial[2 * blockIdx.x + 1] = rows;
}

__global__ void __launch_bounds__(LOSS_BLOCKS)
    xent_sums(const double *partial, int n, float *sums, bool accumulate) {
    __shared__ double shared[32];
    int i = threadIdx.x;
    double loss = par__block_sum(i < n ? partial[2 * i] : 0.0, shared);
    double rows = par__block_sum(i < n ? partial[2 * i + 1] : 0.0, shared);
    if (i > 0) return;
    sums[0] = (float)(loss + (accumulate ? sums[0] : 0));
    sums[1] = (float)(rows + (accumulate ? sums[1] : 0));
}

/* The gradient of W logits from column j on; target is below 0 in ignored rows, valid then 0. What
 * stands behind the valid columns may be NaN. */
template <typename T, int W>
__device__ static inline void gradient(T *x, int64_t j, int64_t valid, int64_t target, float lse,
                                       float seed) {
    par__pack<W> v = {};
    if (j < valid) v = par__get<W>(x + j);
#pragma unroll
    for (int e = 0; e < W; e++) {
        float d = (expf(v.x[e] - lse) - (j + e == target ? 1.0f : 0.0f)) * seed;
        v.x[e] = j + e < valid ? d : 0;
    }
    par__put<W>(x + j, v);
}

template <typename T, int W>
__global__ void __launch_bounds__(MOST_THREADS) xent_backward(par_xent a) {
    float seed = *a.seed;
    for (int64_t i = blockIdx.x; i < a.m; i += gridDim.x) {
        T *x = (T *)a.logits + i * a.ldx;
        float lse = a.lse[i];
        int64_t target = a.targets[i] - a.begin, valid = a.targets[i] < 0 ? 0 : a.valid;
        for (int64_t j = threadIdx.x; j < a.n / W; j += blockDim.x)
            gradient<T, W>(x, j * W, valid, target, lse, seed);
        if (W > 1)
            for (int64_t j = a.n / W * W + threadIdx.x; j < a.n; j += blockDim.x)
                gradient<T, 1>(x, j, valid, target, lse, seed);
    }
}

static unsigned row_threads(int64_t n, int width) {
    return par__threads(par__blocks(n, (int64_t)width * 4), MOST_THREADS);
}

template <typename T, int W> static par_status stats_width(par_stream *stream, const par_xent *a) {
    PAR_LAUNCH((xent_stats<T, W>), dim3(par__grid(a->m)), dim3(row_threads(a->valid, W)), 0, stream,
               *a);
    return par__cuda_launched("xent_stats");
}

template <typename T> static par_status stats(par_stream *stream, const par_xent *a) {
    if (a->m == 0) return PAR_OK;
    return PAR_DISPATCH_WIDTH(T, par__packable<T>(a->logits, a->ldx), stats_width, stream, a);
}

template <typename T, int W>
static par_status backward_width(par_stream *stream, const par_xent *a) {
    PAR_LAUNCH((xent_backward<T, W>), dim3(par__grid(a->m)), dim3(row_threads(a->n, W)), 0, stream,
               *a);
    return par__cuda_launched("xent_backward");
}

template <typename T> static par_status backward(par_stream *stream, const par_xent *a) {
    if (a->m == 0 || a->n == 0) return PAR_OK;
    return PAR_DISPATCH_WIDTH(T, par__packable<T>(a->logits, a->ldx), backward_width, stream, a);
}

/* From the rows alone, so that the bits repeat on every device. */
static int loss_blocks(const par_xent *a) {
    int64_t blocks = par__blocks(a->m, LOSS_THREADS);
    return (int)(blocks < 1 ? 1 : blocks < LOSS_BLOCKS ? blocks : (int64_t)LOSS_BLOCKS);
}

static par_status prepare(const void *args, size_t *workspace_nbytes) {
    (void)args;
    *workspace_nbytes = 0;
    return PAR_OK;
}

static par_status loss_prepare(const void *args, size_t *workspace_nbytes) {
    *workspace_nbytes = 2 * sizeof(double) * (size_t)loss_blocks((const par_xent *)args);
    return PAR_OK;
}

static par_status run_stats(par_stream *stream, const void *args, void *workspace) {
    const par_xent *a = (const par_xent *)args;
    (void)workspace;
    return PAR_DISPATCH(a->dtype, stats, stream, a);
}

static par_status run_loss(par_stream *stream, const void *args, void *workspace) {
    const par_xent *a = (const par_xent *)args;
    int blocks = loss_blocks(a);
    PAR_LAUNCH((xent_loss), dim3((unsigned)blocks), dim3(LOSS_THREADS), 0, stream, *a,
               (double *)workspace);
    PAR_LAUNCH((xent_sums), dim3(1), dim3(LOSS_BLOCKS), 0, stream, (const double *)workspace,
               blocks, a->sums, a->accumulate);
    return par__cuda_launched("xent_loss");
}

static par_status run_backward(par_stream *stream, const void *args, void *workspace) {
    const par_xent *a = (const par_xent *)args;
    (void)workspace;
    return PAR_DISPATCH(a->dtype, backward, stream, a);
}

extern "C" void par__cuda_xent_init(par_backend *backend) {
    par_kernel *k = backend->kernels;
    k[PAR_OP_XENT_STATS] = {"xent_stats/cuda/own", prepare, run_stats};
    k[PAR_OP_XENT_LOSS] = {"xent_loss/cuda/own", loss_prepare, run_loss};
    k[PAR_OP_XENT_BACKWARD] = {"xent_backward/cuda/own", prepare, run_backward};
}
