/*
 * LayerNorm (Ba et al. 2016) and RMSNorm (Zhang and Sennrich 2019), par_norm in par/kernels.h; the
 * formulas of the backward stand in kernels/ref/norm.c. A block has a row at a time; a thread keeps
 * its first HELD chunks of the row in registers, so that rows up to HELD · 256 chunks (8192 of 16
 * bits, 4096 of fp32) are read once.
 *
 * The residual addition before a forward is made on the chunks as they are read: its sum is rounded
 * to T, as a kernel of its own would store it, stored, and normalized.
 *
 * Backward makes dx, dw and db in one pass: a block adds what its rows give to dw and db in
 * registers, and writes it to its row of the workspace [blocks, 2, n]; a second kernel adds these
 * in order. The number of blocks depends on the shape alone, so that the bits repeat on every
 * device.
 */
#include "kernels/cuda/own/columns.cuh"
#include "kernels/cuda/own/dropout.cuh"

enum { HELD = 4, MOST_THREADS = 256, BACKWARD_THREADS = 32768 };

/* f(k, j) for this thread's chunks of a row, chunk k = 0 .. HELD-1 at column j, then k = HELD for
 * all others. */
template <int W, typename F> __device__ static inline void visit(int64_t n, F f) {
#pragma unroll
    for (int k = 0; k < HELD; k++) {
        int64_t j = ((int64_t)threadIdx.x + k * (int64_t)blockDim.x) * W;
        if (j < n) f(k, j);
    }
    for (int64_t j = ((int64_t)threadIdx.x + HELD * (int64_t)blockDim.x) * W; j < n;
         j += (int64_t)blockDim.x * W)
        f(HELD, j);
}

/* What elements [j, j + W) of row i of the sum are, in the type that they are stored in. */
template <typename T, int W>
__device__ static inline par__pack<W> added(const par_residual &r, const par__device_dropout &d,
                                            int64_t i, int64_t j) {
    int64_t at = i * r.n + j;
    par__pack<W> v = par__get<W>((const T *)r.x + at), bias = {}, residual = {};
    if (r.bias) bias = par__get<W>((const T *)r.bias + j);
    if (r.residual) residual = par__get<W>((const T *)r.residual + at);
#pragma unroll
    for (int e = 0; e < W; e++) v.x[e] += bias.x[e];
    if (d.threshold > 0) par__drop(d, r.T, r.first_row + i, j, v);
#pragma unroll
    for (int e = 0; e < W; e++) {
        T stored;
        par__store(&stored, v.x[e] + residual.x[e]);
        v.x[e] = par__load(&stored);
    }
    return v;
}

/* ADDED: x is r.y, made here. */
template <typename T, int W, bool CENTRED, bool ADDED>
__global__ void __launch_bounds__(MOST_THREADS, 2)
    norm_forward(par_norm a, par_residual r, par__device_dropout d) {
    __shared__ float shared[32];
    if (ADDED) par__device_dropout_begin(d);
    for (int64_t i = blockIdx.x; i < a.m; i += gridDim.x) {
        const T *x = (const T *)a.x + i * a.n;
        T *y = (T *)a.y + i * a.n;
        par__pack<W> held[HELD] = {};
        float sum = 0, mean = 0, squares = 0;
        visit<W>(a.n, [&](int k, int64_t j) {
            par__pack<W> v;
            if constexpr (ADDED) {
                v = added<T, W>(r, d, i, j);
                par__put<W>((T *)r.y + i * a.n + j, v);
            } else {
                if (!CENTRED && k == HELD) return;
                v = par__get<W>(x + j);
            }
            if (k < HELD) held[k < HELD ? k : 0] = v;
#pragma unroll
            for (int e = 0; e < W; e++) sum += v.x[e];
        });
        if (CENTRED) mean = par__block_sum(sum, shared) / (float)a.n;
        visit<W>(a.n, [&](int k, int64_t j) {
            par__pack<W> v = k < HELD ? held[k < HELD ? k : 0] : par__get<W>(x + j);
#pragma unroll
            for (int e = 0; e < W; e++) squares += (v.x[e] - mean) * (v.x[e] - mean);
        });
        float rstd = 1 / sqrtf(par__block_sum(squares, shared) / (float)a.n + a.eps);
        visit<W>(a.n, [&](int k, int64_t j) {
            par__pack<W> v = k < HELD ? held[k < HELD ? k : 0] : par__get<W>(x + j);
            par__pack<W> w = par__get<W>((const T *)a.w + j), b = {};
            if (CENTRED) b = par__get<W>((const T *)a.b + j);
#pragma unroll
            for (int e = 0; e < W; e++) v.x[e] = (v.x[e] - mean) * rstd * w.x[e] + b.x[e];
            par__put<W>(y + j, v);
        });
        if (threadIdx.x > 0) continue;
        if (CENTRED) a.mean[i] = mean;
        a.rstd[i] = rstd;
    }
}

/* What a block adds to dw and db: chunks below HELD in registers, others in its row of the
 * workspace. */
template <int W> struct sums { par__pack<W> dw[HELD], db[HELD]; };

template <int W>
__device__ static inline void add_far(float *partial, bool first, const par__pack<W> &v) {
    par__pack<W> old = {};
    if (!first) old = par__get<W>(partial);
#pragma unroll
    for (int e = 0; e < W; e++) old.x[e] += v.x[e];
    par__put<W>(partial, old);
}

/* partial [gridDim.x, 2, n], or NULL. dx may be dy or add: a thread reads an element before it
 * writes it. */
template <typename T, int W, bool CENTRED>
__global__ void __launch_bounds__(MOST_THREADS) norm_backward(par_norm a, float *partial) {
    __shared__ float shared[32];
    sums<W> sum = {};
    if (partial) partial += 2 * a.n * blockIdx.x;
    for (int64_t i = blockIdx.x; i < a.m; i += gridDim.x) {
        const T *x = (const T *)a.x + i * a.n, *dy = (const T *)a.dy + i * a.n;
        const T *w = (const T *)a.w;
        float mean = CENTRED ? a.mean[i] : 0, rstd = a.rstd[i], sum_g = 0, sum_gx = 0;
        par__pack<W> held_x[HELD] = {}, held_dy[HELD] = {};
        visit<W>(a.n, [&](int k, int64_t j) {
            par__pack<W> xhat = par__get<W>(x + j), d = par__get<W>(dy + j), v = par__get<W>(w + j),
                         t;
#pragma unroll
            for (int e = 0; e < W; e++) {
                xhat.x[e] = (xhat.x[e] - mean) * rstd;
                sum_g += d.x[e] * v.x[e];
                sum_gx += d.x[e] * v.x[e] * xhat.x[e];
                t.x[e] = d.x[e] * xhat.x[e];
            }
            if (k < HELD) {
                int held = k < HELD ? k : 0;
                held_x[held] = xhat;
                held_dy[held] = d;
#pragma unroll
                for (int e = 0; e < W; e++) {
                    sum.dw[held].x[e] += t.x[e];
                    if (CENTRED) sum.db[held].x[e] += d.x[e];
                }
            } else if (partial) {
                add_far<W>(partial + j, i == blockIdx.x, t);
                if (CENTRED) add_far<W>(partial + a.n + j, i == blockIdx.x, d);
            }
        });
        float mean_g = CENTRED ? par__block_sum(sum_g, shared) / (float)a.n : 0;
        float mean_gx = par__block_sum(sum_gx, shared) / (float)a.n;
        visit<W>(a.n, [&](int k, int64_t j) {
            int held = k < HELD ? k : 0;
            par__pack<W> xhat = held_x[held], d = held_dy[held], v = par__get<W>(w + j), add = {};
            if (k == HELD) {
                xhat = par__get<W>(x + j);
                d = par__get<W>(dy + j);
#pragma unroll
                for (int e = 0; e < W; e++) xhat.x[e] = (xhat.x[e] - mean) * rstd;
            }
            if (a.add) add = par__get<W>((const T *)a.add + i * a.n + j);
#pragma unroll
            for (int e = 0; e < W; e++)
                d.x[e] = (d.x[e] * v.x[e] - mean_g - xhat.x[e] * mean_gx) * rstd + add.x[e];
            par__put<W>((T *)a.dx + i * a.n + j, d);
        });
    }
    if (!partial) return;
    visit<W>(a.n, [&](int k, int64_t j) {
        if (k == HELD) return;
        par__put<W>(partial + j, sum.dw[k < HELD ? k : 0]);
        if (CENTRED) par__put<W>(partial + a.n + j, sum.db[k < HELD ? k : 0]);
    });
}

/* Rows of n elements of T at these addresses (NULL: absent) can be read in packs. */
template <typename T>
static bool packable(int64_t n, const void *p0, const void *p1, const void *p2, const void *p3,
                     const void *p4) {
    return par__packable<T>(p0, n) && par__packable<T>(p1, n) && par__packable<T>(p2, n) &&
           par__packable<T>(p3, n) && par__packable<T>(p4, n);
}

static unsigned row_threads(int64_t n, int width) {
    return par__threads(par__blocks(n, (int64_t)width * HELD), MOST_THREADS);
}

template <typename T, int W, bool ADDED>
static par_status forward_launch(par_stream *stream, const par_norm *a, bool centred) {
    dim3 grid(par__grid(a->m)), block(row_threads(a->n, W));
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

/* Of the narrowest rows that one block has; the workspace has room for it whatever the
 * alignment. */
static int64_t backward_blocks(const par_norm *a, int width) {
    int64_t blocks = BACKWARD_THREADS / row_threads(a->n, width);
    return a->m < blocks ? a->m : blocks;
}

template <typename T, int W>
static par_status backward_width(par_stream *stream, const par_norm *a, bool centred,
                                 float *partial) {
    int64_t blocks = backward_blocks(a, W);
    dim3 grid((unsigned)blocks), block(row_threads(a->n, W));
    if (a->m > 0) {
        if (centred)
            PAR_LAUNCH((norm_backward<T, W, true>), grid, block, 0, stream, *a, partial);
        else
            PAR_LAUNCH((norm_backward<T, W, false>), grid, block, 0, stream, *a, partial);
        PAR_TRY(par__cuda_launched("norm_backward"));
    }
    if (!a->dw) return PAR_OK;
    PAR_TRY(par__columns_launch(stream, (const float *)partial, blocks, a->n, 2 * a->n, 1, a->dw,
                                a->beta));
    if (!centred) return PAR_OK;
    return par__columns_launch(stream, (const float *)partial + a->n, blocks, a->n, 2 * a->n, 1,
                               a->db, a->beta);
}

template <typename T>
static par_status backward(par_stream *stream, const par_norm *a, bool centred, float *workspace) {
    bool packed = packable<T>(a->n, a->x, a->dy, a->dx, a->w, a->add);
    return PAR_DISPATCH_WIDTH(T, packed, backward_width, stream, a, centred,
                              a->dw ? workspace : NULL);
}

static par_status forward_prepare(const void *args, size_t *workspace_nbytes) {
    (void)args;
    *workspace_nbytes = 0;
    return PAR_OK;
}

/* Alignment and dw are not known here: room for either path, with dw. */
static par_status backward_prepare(const void *args, size_t *workspace_nbytes) {
    const par_norm *a = (const par_norm *)args;
    int64_t wide = backward_blocks(a, 16 / (int)(a->dtype == PAR_F32 ? 4 : 2)),
            narrow = backward_blocks(a, 1);
    *workspace_nbytes = (size_t)((wide > narrow ? wide : narrow) * 2 * a->n) * sizeof(float);
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

static par_status layernorm_backward(par_stream *stream, const void *args, void *workspace) {
    const par_norm *a = (const par_norm *)args;
    return PAR_DISPATCH(a->dtype, backward, stream, a, true, (float *)workspace);
}

static par_status rmsnorm_backward(par_stream *stream, const void *args, void *workspace) {
    const par_norm *a = (const par_norm *)args;
    return PAR_DISPATCH(a->dtype, backward, stream, a, false, (float *)workspace);
}

extern "C" void par__cuda_norm_init(par_backend *backend) {
    par_kernel *k = backend->kernels;
    k[PAR_OP_LAYERNORM] = {"layernorm/cuda/own", forward_prepare, layernorm};
    k[PAR_OP_LAYERNORM_BACKWARD] = {"layernorm_backward/cuda/own", backward_prepare,
                                    layernorm_backward};
    k[PAR_OP_RMSNORM] = {"rmsnorm/cuda/own", forward_prepare, rmsnorm};
    k[PAR_OP_RMSNORM_BACKWARD] = {"rmsnorm_backward/cuda/own", backward_prepare, rmsnorm_backward};
}
