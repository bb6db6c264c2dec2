/*
 * LayerNorm (Ba et al. 2016) and RMSNorm (Zhang and Sennrich 2019), par_norm in par/kernels.h; the
 * formulas of the backward stand in kernels/ref/norm.c. A row has whole warps (threadIdx.x), a
 * block as many rows (threadIdx.y) as MOST_THREADS hold. A thread keeps its first HELD packs of the
 * row in registers, as they lie in memory, so that rows up to HELD · 256 packs (8192 of 16 bits, 4096
 * of fp32) are read once. All loads of a row are under way before the first is used.
 *
 * The residual addition before a forward is made on the packs as they are read: its sum is rounded
 * to T, as a kernel of its own would store it, stored, and normalized.
 *
 * Backward makes dx, dw and db in one pass: the packs of a thread's next row are copied to shared
 * memory while it works on one, as the sums for dw and db leave no registers for them. A block adds
 * its threads' sums in the order of its rows, and writes them to its row of the workspace [blocks,
 * 2, n]; a second kernel adds these in order. The number of blocks depends
 * on the shape and on the device's number of multiprocessors, so that the bits repeat on every
 * device of a kind.
 */
#include "kernels/cuda/own/device.cuh"
#include "kernels/cuda/own/dropout.cuh"

enum { HELD = 4, MOST_THREADS = 256, BACKWARD_RESIDENT = 2 };

/* f(k, j) for the packs k of a row of n elements that this thread holds, at column j. */
template <int W, typename F> __device__ static inline void near(int64_t n, F f) {
#pragma unroll
    for (int k = 0; k < HELD; k++) {
        int j = (int)(threadIdx.x + k * blockDim.x) * W;
        if (j < n) f(k, j);
    }
}

/* f(j) for its other packs. */
template <int W, typename F> __device__ static inline void far(int64_t n, F f) {
    for (int64_t j = ((int64_t)threadIdx.x + HELD * (int64_t)blockDim.x) * W; j < n;
         j += (int64_t)blockDim.x * W)
        f(j);
}

template <int W, typename T>
__device__ static inline void hold(par__raw<T, W> (&held)[HELD], int64_t n, const T *row) {
    near<W>(n, [&](int k, int j) { held[k] = par__get_raw<W>(row + j); });
}

/* Sums over the threads of a row, the same bits in each. `shared` [N][MOST_THREADS / 32]; all
 * threads of the block call. */
template <int N>
__device__ static inline void row_sums(float (&x)[N], float (*shared)[MOST_THREADS / 32]) {
    int n_warps = (int)blockDim.x / 32, first = (int)threadIdx.y * n_warps;
#pragma unroll
    for (int s = 0; s < N; s++) x[s] = par__warp_sum(x[s]);
    if (n_warps == 1) return;
    __syncthreads();
#pragma unroll
    for (int s = 0; s < N; s++)
        if (threadIdx.x % 32 == 0) shared[s][first + (int)threadIdx.x / 32] = x[s];
    __syncthreads();
#pragma unroll
    for (int s = 0; s < N; s++) {
        x[s] = 0;
        for (int w = 0; w < n_warps; w++) x[s] += shared[s][first + w];
    }
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
    near<W>(n, [&](int k, int j) {
        held[k] = added<T, W>(r, d, i, j, par__wide(held[k]), par__wide(held_residual[k]));
        par__put_raw<W>(y + j, held[k]);
    });
    far<W>(n, [&](int64_t j) {
        par__pack<W> of = {};
        if (r.residual) of = par__get<W>(residual + j);
        par__put_raw<W>(y + j, added<T, W>(r, d, i, j, par__get<W>(x + j), of));
    });
}

/* ADDED: x is r.y, made here. */
template <typename T, int W, bool CENTRED, bool ADDED>
__global__ void __launch_bounds__(MOST_THREADS, ADDED ? 3 : 4)
    norm_forward(par_norm a, par_residual r, par__device_dropout d) {
    __shared__ float shared[1][MOST_THREADS / 32];
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
            near<W>(n, [&](int k, int) { sum[0] += par__pack_sum(par__wide(held[k])); });
            far<W>(n, [&](int64_t j) { sum[0] += par__pack_sum(par__get<W>(x + j)); });
            row_sums(sum, shared);
            mean = sum[0] / (float)a.n;
        }
        auto square = [&](const par__pack<W> &v) {
#pragma unroll
            for (int e = 0; e < W; e++) squares[0] += (v.x[e] - mean) * (v.x[e] - mean);
        };
        near<W>(n, [&](int k, int) { square(par__wide(held[k])); });
        far<W>(n, [&](int64_t j) { square(par__get<W>(x + j)); });
        row_sums(squares, shared);
        float rstd = 1 / sqrtf(squares[0] / (float)a.n + a.eps);
        auto normalize = [&](int64_t j, par__pack<W> v) {
            par__pack<W> w = par__get<W>((const T *)a.w + j), b = {};
            if (CENTRED) b = par__get<W>((const T *)a.b + j);
#pragma unroll
            for (int e = 0; e < W; e++) v.x[e] = (v.x[e] - mean) * rstd * w.x[e] + b.x[e];
            par__put<W>((T *)a.y + i * a.n + j, v);
        };
        near<W>(n, [&](int k, int j) { normalize(j, par__wide(held[k])); });
        far<W>(n, [&](int64_t j) { normalize(j, par__get<W>(x + j)); });
        if (threadIdx.x > 0 || n == 0) continue;
        if (CENTRED) a.mean[i] = mean;
        a.rstd[i] = rstd;
    }
}

/* What a thread adds to dw and db: packs that it holds in registers, others in its block's row of
 * the workspace (a block of such rows has one at a time). */
template <int W> struct sums { par__pack<W> dw[HELD], db[HELD]; };

template <int W>
__device__ static inline void add_far(float *partial, bool first, const par__pack<W> &v) {
    par__pack<W> old = {};
    if (!first) old = par__get<W>(partial);
#pragma unroll
    for (int e = 0; e < W; e++) old.x[e] += v.x[e];
    par__put<W>(partial, old);
}

/* The sums of a block's rows, added in the order of threadIdx.y, to partial [2, n]. `buffer` has 2
 * W floats for each thread. */
template <int W, bool CENTRED>
__device__ static inline void put_sums(const sums<W> &sum, int64_t n, float *partial,
                                       float *buffer) {
    enum { N = CENTRED ? 2 * W : W };
#pragma unroll
    for (int k = 0; k < HELD; k++) {
        int64_t j = ((int64_t)threadIdx.x + k * (int64_t)blockDim.x) * W;
        __syncthreads();
#pragma unroll
        for (int e = 0; e < N; e++)
            buffer[(threadIdx.y * N + e) * blockDim.x + threadIdx.x] =
                e < W ? sum.dw[k].x[e % W] : sum.db[k].x[e % W];
        __syncthreads();
        if (j >= n) continue;
        for (int e = threadIdx.y; e < N; e += blockDim.y) {
            float total = 0;
            for (unsigned row = 0; row < blockDim.y; row++)
                total += buffer[(row * N + e) * blockDim.x + threadIdx.x];
            partial[(e / W) * n + j + e % W] = total;
        }
    }
}

/* Packs of two rows in shared memory, [stage][X, DY, ADD][HELD][MOST_THREADS]: each thread copies
 * and reads its own. Rows that are not in packs are read where they are. */
enum { X, DY, ADD, OPERANDS, STAGE = OPERANDS * HELD * MOST_THREADS };

/* Of a backward: two stages, or what put_sums needs. */
static constexpr int shared_nbytes(int width) {
    return width > 1 ? 2 * STAGE * (int)sizeof(uint4) : 2 * MOST_THREADS * (int)sizeof(float);
}

__device__ static inline uint4 *staged(uint4 *stage, int operand, int k) {
    return stage + (operand * HELD + k) * MOST_THREADS + threadIdx.y * blockDim.x + threadIdx.x;
}

template <typename T, int W>
__device__ static inline void stage_row(uint4 *stage, const par_norm &a, int64_t i) {
    const T *rows[OPERANDS] = {(const T *)a.x, (const T *)a.dy, (const T *)a.add};
    if constexpr (W > 1) {
#pragma unroll
        for (int operand = 0; operand < OPERANDS; operand++)
            if (i < a.m && rows[operand])
                near<W>(a.n, [&](int k, int j) {
                    par__copy_16(staged(stage, operand, k), rows[operand] + i * a.n + j, true);
                });
    }
}

template <int W, typename T>
__device__ static inline par__pack<W> staged_pack(uint4 *stage, int operand, int k, const T *p) {
    if constexpr (W == 1)
        return par__get<W>(p);
    else
        return par__wide(par__raw<T, W>{*staged(stage, operand, k)});
}

/* partial [gridDim.x, 2, n], or NULL. dx may be dy or add: a thread reads an element before it
 * writes it. */
template <typename T, int W, bool CENTRED>
__global__ void __launch_bounds__(MOST_THREADS, BACKWARD_RESIDENT)
    norm_backward(par_norm a, float *partial) {
    __shared__ float shared[2][MOST_THREADS / 32];
    PAR_SHARED(uint4, memory);
    sums<W> sum = {};
    int64_t step = gridDim.x * (int64_t)blockDim.y, begin = blockIdx.x * (int64_t)blockDim.y;
    if (partial) partial += 2 * a.n * blockIdx.x;
    stage_row<T, W>(memory, a, begin + threadIdx.y);
    for (int64_t first = begin, at = 0; first < a.m; first += step, at ^= 1) {
        int64_t i = first + threadIdx.y, n = i < a.m ? a.n : 0;
        const T *x = (const T *)a.x + i * a.n, *dy = (const T *)a.dy + i * a.n;
        float mean = CENTRED && n ? a.mean[i] : 0, rstd = n ? a.rstd[i] : 0;
        uint4 *stage = memory + at * STAGE;
        par__copy_wait();
        stage_row<T, W>(memory + (at ^ 1) * STAGE, a, i + step);
        float of[2] = {0, 0}; /* sums of g x̂ and of g = dy w */
        auto add = [&](int64_t j, const par__pack<W> &v, const par__pack<W> &d, par__pack<W> &dw) {
            par__pack<W> w = par__get<W>((const T *)a.w + j);
#pragma unroll
            for (int e = 0; e < W; e++) {
                float xhat = (v.x[e] - mean) * rstd, g = d.x[e] * w.x[e];
                of[0] += g * xhat;
                of[1] += g;
                dw.x[e] += d.x[e] * xhat;
            }
        };
        near<W>(n, [&](int k, int j) {
            par__pack<W> d = staged_pack<W>(stage, DY, k, dy + j);
            add(j, staged_pack<W>(stage, X, k, x + j), d, sum.dw[k]);
#pragma unroll
            for (int e = 0; CENTRED && e < W; e++) sum.db[k].x[e] += d.x[e];
        });
        far<W>(n, [&](int64_t j) {
            par__pack<W> d = par__get<W>(dy + j), dw = {};
            add(j, par__get<W>(x + j), d, dw);
            if (!partial) return;
            add_far<W>(partial + j, first == begin, dw);
            if (CENTRED) add_far<W>(partial + a.n + j, first == begin, d);
        });
        row_sums(of, shared);
        float mean_gx = of[0] / (float)a.n, mean_g = CENTRED ? of[1] / (float)a.n : 0;
        auto put = [&](int64_t j, const par__pack<W> &v, par__pack<W> d, const par__pack<W> &onto) {
            par__pack<W> w = par__get<W>((const T *)a.w + j);
#pragma unroll
            for (int e = 0; e < W; e++) {
                float xhat = (v.x[e] - mean) * rstd;
                d.x[e] = (d.x[e] * w.x[e] - mean_g - xhat * mean_gx) * rstd + onto.x[e];
            }
            par__put<W>((T *)a.dx + i * a.n + j, d);
        };
        const T *onto = (const T *)a.add + i * a.n;
        near<W>(n, [&](int k, int j) {
            par__pack<W> o = {};
            if (a.add) o = staged_pack<W>(stage, ADD, k, onto + j);
            put(j, staged_pack<W>(stage, X, k, x + j), staged_pack<W>(stage, DY, k, dy + j), o);
        });
        far<W>(n, [&](int64_t j) {
            par__pack<W> o = {};
            if (a.add) o = par__get<W>(onto + j);
            put(j, par__get<W>(x + j), par__get<W>(dy + j), o);
        });
    }
    if (partial) put_sums<W, CENTRED>(sum, a.n, partial, (float *)memory);
}

/* dw and db (+)= the sums of partial [blocks, 2, n], in fixed order: a block has 32 columns, its
 * warp w adds rows w, w + 32, ... Column n + j is db[j]. */
__global__ void __launch_bounds__(1024)
    norm_sums(const float *partial, int64_t blocks, par_norm a, int64_t columns) {
    __shared__ float sums[32][33];
    int64_t column = blockIdx.x * (int64_t)32 + threadIdx.x;
    float sum = 0;
    if (column < columns)
#pragma unroll 4
        for (int64_t i = threadIdx.y; i < blocks; i += 32) sum += partial[i * 2 * a.n + column];
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    sum = par__warp_sum(sums[threadIdx.x][threadIdx.y]);
    column = blockIdx.x * (int64_t)32 + threadIdx.y;
    if (threadIdx.x > 0 || column >= columns) return;
    float *out = column < a.n ? &a.dw[column] : &a.db[column - a.n];
    *out = a.beta == 0 ? sum : *out + sum;
}

/* Rows of n elements of T at these addresses (NULL: absent) can be read in packs. */
template <typename T>
static bool packable(int64_t n, const void *p0, const void *p1, const void *p2, const void *p3,
                     const void *p4) {
    return par__packable<T>(p0, n) && par__packable<T>(p1, n) && par__packable<T>(p2, n) &&
           par__packable<T>(p3, n) && par__packable<T>(p4, n);
}

/* Threads of a row, and rows of a block. */
static dim3 block_of(int64_t n, int width) {
    unsigned row = par__threads(par__blocks(n, (int64_t)width * HELD), MOST_THREADS);
    return dim3(row, MOST_THREADS / row);
}

template <typename T, int W, bool ADDED>
static par_status forward_launch(par_stream *stream, const par_norm *a, bool centred) {
    dim3 block = block_of(a->n, W), grid(par__grid(par__blocks(a->m, block.y)));
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

static int64_t backward_blocks(const par_norm *a, dim3 block) {
    int64_t blocks = par__blocks(a->m, block.y);
    int64_t most = BACKWARD_RESIDENT * par__multiprocessors();
    return blocks < most ? blocks : most;
}

template <typename T, int W>
static par_status backward_width(par_stream *stream, const par_norm *a, bool centred,
                                 float *partial) {
    dim3 block = block_of(a->n, W);
    int64_t blocks = backward_blocks(a, block), columns = centred ? 2 * a->n : a->n;
    dim3 grid((unsigned)blocks);
    if (a->m > 0) {
        if (centred)
            PAR_LAUNCH((norm_backward<T, W, true>), grid, block, shared_nbytes(W), stream, *a,
                       partial);
        else
            PAR_LAUNCH((norm_backward<T, W, false>), grid, block, shared_nbytes(W), stream, *a,
                       partial);
        PAR_TRY(par__cuda_launched("norm_backward"));
    }
    if (!a->dw || a->n == 0) return PAR_OK;
    PAR_LAUNCH((norm_sums), dim3((unsigned)par__blocks(columns, 32)), dim3(32, 32), 0, stream,
               (const float *)partial, blocks, *a, columns);
    return par__cuda_launched("norm_sums");
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

template <typename T> static par_status allow(bool centred) {
    enum { W = 16 / sizeof(T) };
    const void *kernel = centred ? (const void *)norm_backward<T, W, true>
                                 : (const void *)norm_backward<T, W, false>;
    PAR__CUDA_TRY(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                       shared_nbytes(W)));
    return PAR_OK;
}

/* Alignment and dw are not known here: room for either path, with dw. */
static par_status backward_prepare(const par_norm *a, bool centred, size_t *workspace_nbytes) {
    int64_t blocks = BACKWARD_RESIDENT * par__multiprocessors();
    *workspace_nbytes = (size_t)((a->m < blocks ? a->m : blocks) * 2 * a->n) * sizeof(float);
    return PAR_DISPATCH(a->dtype, allow, centred);
}

static par_status layernorm_backward_prepare(const void *args, size_t *workspace_nbytes) {
    return backward_prepare((const par_norm *)args, true, workspace_nbytes);
}

static par_status rmsnorm_backward_prepare(const void *args, size_t *workspace_nbytes) {
    return backward_prepare((const par_norm *)args, false, workspace_nbytes);
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
    k[PAR_OP_LAYERNORM_BACKWARD] = {"layernorm_backward/cuda/own", layernorm_backward_prepare,
                                    layernorm_backward};
    k[PAR_OP_RMSNORM] = {"rmsnorm/cuda/own", forward_prepare, rmsnorm};
    k[PAR_OP_RMSNORM_BACKWARD] = {"rmsnorm_backward/cuda/own", rmsnorm_backward_prepare,
                                  rmsnorm_backward};
}
