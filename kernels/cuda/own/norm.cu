/*
 * LayerNorm (Ba et al. 2016) and RMSNorm (Zhang and Sennrich 2019), par_norm in par/kernels.h;
 * their backward is norm_backward.cu. norm.cuh says what a thread holds of a row: HELD packs as
 * they lie in memory, so that rows up to HELD · 256 packs (8192 of 16 bits, 4096 of fp32) are read
 * once. All loads of a row are under way before the first is used.
 *
 * The residual addition before a forward is made on the packs as they are read: its sum is rounded
 * to T, as a kernel of its own would store it, stored, and normalized.
 */
#include "kernels/cuda/own/dropout.cuh"
#include "kernels/cuda/own/norm.cuh"

enum { HELD = 4, MOST_THREADS = 256 };

template <int W, typename T>
__device__ static inline void hold(par__raw<T, W> (&held)[HELD], int64_t n, const T *row) {
    near<W, HELD>(n, [&](int k, int j) { held[k] = par__get_raw<W>(row + j); });
}

/* What elements [j, j + W) of row i of the sum are, in the type that they are stored in. */
template <typename T, int W>
__device__ static inline par__raw<T, W> added(const par_residual &r, const par__device_dropout &d,
                                              int64_t i, int64_t j, par__pack<W> v,
                                              const par__pack<W> &residual) {
    par__pack<W> bias = {};
    if (r.bias) bias = par__get<W>((const T *)r.bias + j);
#pragma unroll
    for (int e = 0; e < W; e++) v.x[e] += bias.x[e];
    if (d.threshold > 0) par__drop(d, r.T, r.first_row + i, j, v);
#pragma unroll
    for (int e = 0; e < W; e++) v.x[e] += residual.x[e];
    return par__narrow<T>(v);
}

/* Row i of the sum: its held packs into `held`, all of it to r.y. */
template <typename T, int W>
__device__ static inline void add_row(par__raw<T, W> (&held)[HELD], const par_residual &r,
                                      const par__device_dropout &d, int64_t i, int64_t n) {
    const T *x = (const T *)r.x + i * r.n, *residual = (const T *)r.residual + i * r.n;
    T *y = (T *)r.y + i * r.n;
    par__raw<T, W> held_residual[HELD] = {};
    hold<W>(held, n, x);
    if (r.residual) hold<W>(held_residual, n, residual);
    near<W, HELD>(n, [&](int k, int j) {
        held[k] = added<T, W>(r, d, i, j, par__wide(held[k]), par__wide(held_residual[k]));
        par__put_raw<W>(y + j, held[k]);
    });
    far<W, HELD>(n, [&](int64_t j) {
        par__pack<W> of = {};
        if (r.residual) of = par__get<W>(residual + j);
        par__put_raw<W>(y + j, added<T, W>(r, d, i, j, par__get<W>(x + j), of));
    });
}

/* ADDED: x is r.y, made here. */
template <typename T, int W, bool CENTRED, bool ADDED>
__global__ void __launch_bounds__(MOST_THREADS, ADDED ? 3 : 4)
    norm_forward(par_norm a, par_residual r, par__device_dropout d) {
    __shared__ float shared[2][1][MOST_THREADS / 32];
    int turn = 0;
    if (ADDED) par__device_dropout_begin(d);
    for (int64_t first = blockIdx.x * (int64_t)blockDim.y; first < a.m;
         first += gridDim.x * (int64_t)blockDim.y) {
        int64_t i = first + threadIdx.y, n = i < a.m ? a.n : 0;
        const T *x = (const T *)a.x + i * a.n;
        par__raw<T, W> held[HELD] = {};
        float sum[1] = {0}, squares[1] = {0}, mean = 0;
        if (ADDED)
            add_row<T, W>(held, r, d, i, n);
        else
            hold<W>(held, n, x);
        if (CENTRED) {
            near<W, HELD>(n, [&](int k, int) { sum[0] += par__pack_sum(par__wide(held[k])); });
            far<W, HELD>(n, [&](int64_t j) { sum[0] += par__pack_sum(par__get<W>(x + j)); });
            row_sums(sum, shared[turn ^= 1]);
            mean = sum[0] / (float)a.n;
        }
        auto square = [&](const par__pack<W> &v) {
#pragma unroll
            for (int e = 0; e < W; e++) squares[0] += (v.x[e] - mean) * (v.x[e] - mean);
        };
        near<W, HELD>(n, [&](int k, int) { square(par__wide(held[k])); });
        far<W, HELD>(n, [&](int64_t j) { square(par__get<W>(x + j)); });
        row_sums(squares, shared[turn ^= 1]);
        float rstd = 1 / sqrtf(squares[0] / (float)a.n + a.eps);
        auto normalize = [&](int64_t j, par__pack<W> v) {
            par__pack<W> w = par__get<W>((const T *)a.w + j), b = {};
            if (CENTRED) b = par__get<W>((const T *)a.b + j);
#pragma unroll
            for (int e = 0; e < W; e++) v.x[e] = (v.x[e] - mean) * rstd * w.x[e] + b.x[e];
            par__put<W>((T *)a.y + i * a.n + j, v);
        };
        near<W, HELD>(n, [&](int k, int j) { normalize(j, par__wide(held[k])); });
        far<W, HELD>(n, [&](int64_t j) { normalize(j, par__get<W>(x + j)); });
        if (threadIdx.x > 0 || n == 0) continue;
        if (CENTRED) a.mean[i] = mean;
        a.rstd[i] = rstd;
    }
}

template <typename T, int W, bool ADDED>
static par_status forward_launch(par_stream *stream, const par_norm *a, bool centred) {
    dim3 block = block_of(a->n, W, HELD, MOST_THREADS), grid(par__grid(par__blocks(a->m, block.y)));
    par_residual r = {};
    if (ADDED) r = *a->residual;
    par__device_dropout d = par__device_dropout_of(&r.dropout);
    if (centred)
        PAR_LAUNCH((norm_forward<T, W, true, ADDED>), grid, block, 0, stream, *a, r, d);
    else
        PAR_LAUNCH((norm_forward<T, W, false, ADDED>), grid, block, 0, stream, *a, r, d);
    return par__cuda_launched("norm_forward");
}

template <typename T, int W>
static par_status forward_width(par_stream *stream, const par_norm *a, bool centred) {
    return forward_launch<T, W, false>(stream, a, centred);
}

/* Rows that cannot be read in packs are added by the kernel that can. */
template <typename T>
static par_status forward(par_stream *stream, const par_norm *a, bool centred) {
    enum { W = 16 / sizeof(T) };
    const par_residual *r = a->residual;
    if (a->m == 0) return PAR_OK;
    bool packed = packable<T>(a->n, a->x, a->y, a->w, centred ? a->b : NULL, NULL);
    if (r && packed && packable<T>(a->n, r->x, r->bias, r->residual, NULL, NULL))
        return forward_launch<T, W, true>(stream, a, centred);
    if (r) PAR_TRY(par__residual_launch(stream, r));
    return PAR_DISPATCH_WIDTH(T, packed, forward_width, stream, a, centred);
}

static par_status prepare(const void *args, size_t *workspace_nbytes) {
    (void)args;
    *workspace_nbytes = 0;
    return PAR_OK;
}

static par_status layernorm(par_stream *stream, const void *args, void *workspace) {
    const par_norm *a = (const par_norm *)args;
    (void)workspace;
    return PAR_DISPATCH(a->dtype, forward, stream, a, true);
}

static par_status rmsnorm(par_stream *stream, const void *args, void *workspace) {
    const par_norm *a = (const par_norm *)args;
    (void)workspace;
    return PAR_DISPATCH(a->dtype, forward, stream, a, false);
}

extern "C" void par__cuda_norm_init(par_backend *backend) {
    par_kernel *k = backend->kernels;
    k[PAR_OP_LAYERNORM] = {"layernorm/cuda/own", prepare, layernorm};
    k[PAR_OP_RMSNORM] = {"rmsnorm/cuda/own", prepare, rmsnorm};
}
