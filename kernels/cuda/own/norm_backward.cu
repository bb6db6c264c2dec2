/*
 * The backward of LayerNorm and RMSNorm, par_norm in par/kernels.h; the formulas stand in
 * kernels/ref/norm.c. norm.cuh says what a thread holds of a row.
 *
 * dx, dw and db are made in one pass over the rows. A thread's packs of the rows to come are copied
 * to shared memory while it works on one: the sums for dw and db leave no registers for them. A
 * block adds its threads' sums in the order of its rows, and writes them to its row of the
 * workspace [blocks, 2, n]; a second kernel adds these in order. The number of blocks depends on
 * the shape and on the device's number of multiprocessors, so that the bits repeat on every device
 * of a kind.
 */
#include "kernels/cuda/own/norm.cuh"

/* The forms of the kernel, by a row's packs: HELD packs that a thread holds, DEPTH rows under way
 * in shared memory (the one in work included), THREADS of a block, RESIDENT blocks per
 * multiprocessor. Where a thread holds all of a row that it has (WHOLE), w, x̂ and g stay in
 * registers. */
struct one_pack {
    enum { HELD = 1, DEPTH = 4, THREADS = 512, RESIDENT = 1, WHOLE = 1, PACKS = 128 };
};
struct two_packs {
    enum { HELD = 2, DEPTH = 3, THREADS = 512, RESIDENT = 1, WHOLE = 1, PACKS = 1024 };
};
struct long_rows {
    enum { HELD = 4, DEPTH = 2, THREADS = 256, RESIDENT = 2, WHOLE = 0 };
};

/* What a thread adds to dw and db: packs that it holds in registers, others in its block's row of
 * the workspace (a block of such rows has one at a time). */
template <int W, int H> struct sums { par__pack<W> dw[H], db[H]; };

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
template <int W, int H, bool CENTRED>
__device__ static inline void put_sums(const sums<W, H> &sum, int64_t n, float *partial,
                                       float *buffer) {
    enum { N = CENTRED ? 2 * W : W };
#pragma unroll
    for (int k = 0; k < H; k++) {
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

/* A row's mean and 1 / σ. */
struct moments {
    float mean, rstd;
};

template <bool CENTRED> __device__ static inline moments moments_of(const par_norm &a, int64_t i) {
    if (i >= a.m) return {0, 0};
    return {CENTRED ? a.mean[i] : 0, a.rstd[i]};
}

/* Packs of rows in shared memory, [DEPTH][X, DY, ADD (if there is one)][H][threads]: each thread
 * copies and reads its own. Rows that are not in packs are read where they are. */
enum { X, DY, ADD };

template <int H> __device__ static inline uint4 *staged(uint4 *stage, int operand, int k) {
    unsigned threads = blockDim.x * blockDim.y;
    return stage + (operand * H + k) * threads + threadIdx.y * blockDim.x + threadIdx.x;
}

template <typename T, int W, int H>
__device__ static inline void stage_row(uint4 *stage, const par_norm &a, int64_t i) {
    const T *rows[] = {(const T *)a.x, (const T *)a.dy, (const T *)a.add};
    if constexpr (W > 1) {
#pragma unroll
        for (int operand = 0; operand < 3; operand++)
            if (i < a.m && rows[operand])
                near<W, H>(a.n, [&](int k, int j) {
                    par__copy_16(staged<H>(stage, operand, k), rows[operand] + i * a.n + j, true);
                });
    }
    par__copy_end();
}

template <int W, int H, typename T>
__device__ static inline par__pack<W> staged_pack(uint4 *stage, int operand, int k, const T *p) {
    if constexpr (W == 1)
        return par__get<W>(p);
    else
        return par__wide(par__raw<T, W>{*staged<H>(stage, operand, k)});
}

/* Of a pack: x̂ and g = dy w are made, and added to `of`, the sums of g x̂ and of g, and to dw. */
template <int W>
__device__ static inline void
add_pack(const moments &s, const par__pack<W> &x, const par__pack<W> &dy, const par__pack<W> &w,
         float (&of)[2], par__pack<W> &dw, par__pack<W> &xhat, par__pack<W> &g) {
#pragma unroll
    for (int e = 0; e < W; e++) {
        xhat.x[e] = (x.x[e] - s.mean) * s.rstd, g.x[e] = dy.x[e] * w.x[e];
        of[0] += g.x[e] * xhat.x[e];
        of[1] += g.x[e];
        dw.x[e] += dy.x[e] * xhat.x[e];
    }
}

/* x becomes x̂, and dy becomes g. */
template <int W>
__device__ static inline void remake(const moments &s, par__pack<W> &x, par__pack<W> &dy,
                                     const par__pack<W> &w) {
#pragma unroll
    for (int e = 0; e < W; e++) x.x[e] = (x.x[e] - s.mean) * s.rstd, dy.x[e] *= w.x[e];
}

/* dx = (g - mean(g) - x̂ mean(g x̂)) / σ, added to what it is added to. */
template <typename T, int W>
__device__ static inline void put_dx(T *dx, const moments &s, const float (&mean)[2],
                                     const par__pack<W> &xhat, const par__pack<W> &g,
                                     par__pack<W> onto) {
#pragma unroll
    for (int e = 0; e < W; e++) onto.x[e] += (g.x[e] - mean[1] - xhat.x[e] * mean[0]) * s.rstd;
    par__put<W>(dx, onto);
}

/* partial [gridDim.x, 2, n], or NULL. dx may be dy or add: a thread reads an element before it
 * writes it. x̂ and g = dy w are kept for the second half where registers hold them. */
template <typename T, int W, bool CENTRED, typename FORM>
__global__ void __launch_bounds__(FORM::THREADS, FORM::RESIDENT)
    norm_backward(par_norm a, float *partial) {
    constexpr int H = FORM::HELD, DEPTH = FORM::DEPTH;
    constexpr bool KEEP = FORM::WHOLE, FAR = !FORM::WHOLE;
    __shared__ float shared[2][2][FORM::THREADS / 32];
    PAR_SHARED(uint4, memory);
    sums<W, H> sum = {};
    const unsigned stage_size = (a.add ? 3 : 2) * H * blockDim.x * blockDim.y;
    const int64_t step = gridDim.x * (int64_t)blockDim.y;
    const int64_t begin = blockIdx.x * (int64_t)blockDim.y;
    if (partial) partial += 2 * a.n * blockIdx.x;
    moments next = moments_of<CENTRED>(a, begin + threadIdx.y);
    for (int d = 0; d < DEPTH - 1; d++)
        stage_row<T, W, H>(memory + d * stage_size, a, begin + d * step + threadIdx.y);
    par__raw<T, W> weight[H] = {};
    if (KEEP)
        near<W, H>(a.n, [&](int k, int j) { weight[k] = par__get_raw<W>((const T *)a.w + j); });
    int turn = 0, at = 0, ahead = DEPTH - 1;
    for (int64_t first = begin; first < a.m; first += step, turn ^= 1) {
        const int64_t i = first + threadIdx.y, n = i < a.m ? a.n : 0;
        const T *x = (const T *)a.x + i * a.n, *dy = (const T *)a.dy + i * a.n;
        const moments s = FAR ? moments_of<CENTRED>(a, i) : next;
        uint4 *stage = memory + at * stage_size;
        par__copy_wait_for<DEPTH - 2>();
        stage_row<T, W, H>(memory + ahead * stage_size, a, i + (DEPTH - 1) * step);
        if (!FAR) next = moments_of<CENTRED>(a, i + step);
        at = at == DEPTH - 1 ? 0 : at + 1;
        ahead = ahead == DEPTH - 1 ? 0 : ahead + 1;
        float of[2] = {0, 0}; /* sums of g x̂ and of g */
        par__pack<W> kept_xhat[H] = {}, kept_g[H] = {};
        auto w_of = [&](int k, int64_t j) {
            return KEEP ? par__wide(weight[k]) : par__get<W>((const T *)a.w + j);
        };
        near<W, H>(n, [&](int k, int j) {
            par__pack<W> d = staged_pack<W, H>(stage, DY, k, dy + j), xhat, g;
            add_pack<W>(s, staged_pack<W, H>(stage, X, k, x + j), d, w_of(k, j), of, sum.dw[k],
                        xhat, g);
#pragma unroll
            for (int e = 0; CENTRED && e < W; e++) sum.db[k].x[e] += d.x[e];
            if (KEEP) kept_xhat[k] = xhat, kept_g[k] = g;
        });
        if (FAR)
            far<W, H>(n, [&](int64_t j) {
                par__pack<W> d = par__get<W>(dy + j), dw = {}, xhat, g;
                add_pack<W>(s, par__get<W>(x + j), d, par__get<W>((const T *)a.w + j), of, dw, xhat,
                            g);
                if (!partial) return;
                add_far<W>(partial + j, first == begin, dw);
                if (CENTRED) add_far<W>(partial + a.n + j, first == begin, d);
            });
        row_sums(of, shared[turn]);
        const float mean[2] = {of[0] / (float)a.n, CENTRED ? of[1] / (float)a.n : 0};
        const T *onto = (const T *)a.add + i * a.n;
        T *dx = (T *)a.dx + i * a.n;
        near<W, H>(n, [&](int k, int j) {
            par__pack<W> o = {}, xhat, g;
            if (a.add) o = staged_pack<W, H>(stage, ADD, k, onto + j);
            if (KEEP)
                xhat = kept_xhat[k], g = kept_g[k];
            else {
                xhat = staged_pack<W, H>(stage, X, k, x + j);
                g = staged_pack<W, H>(stage, DY, k, dy + j);
                remake<W>(s, xhat, g, w_of(k, j));
            }
            put_dx<T, W>(dx + j, s, mean, xhat, g, o);
        });
        if (FAR)
            far<W, H>(n, [&](int64_t j) {
                par__pack<W> o = {}, xhat = par__get<W>(x + j), g = par__get<W>(dy + j);
                if (a.add) o = par__get<W>(onto + j);
                remake<W>(s, xhat, g, par__get<W>((const T *)a.w + j));
                put_dx<T, W>(dx + j, s, mean, xhat, g, o);
            });
    }
    if (partial) {
        par__copy_wait_for<0>();
        put_sums<W, H, CENTRED>(sum, a.n, partial, (float *)memory);
    }
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

/* Of a block of `threads`: what is staged, or what put_sums needs. */
template <typename FORM> static int shared_nbytes(const par_norm *a, int threads, int width) {
    int sums = 2 * width * threads * (int)sizeof(float);
    int staged = FORM::DEPTH * (a->add ? 3 : 2) * FORM::HELD * threads * (int)sizeof(uint4);
    return width > 1 && staged > sums ? staged : sums;
}

template <typename T, int W, bool CENTRED, typename FORM>
static par_status launch(par_stream *stream, const par_norm *a, float *partial) {
    dim3 block = block_of(a->n, W, FORM::HELD, FORM::THREADS);
    int64_t blocks = par__blocks(a->m, block.y), most = FORM::RESIDENT * par__multiprocessors();
    int64_t columns = CENTRED ? 2 * a->n : a->n;
    if (blocks > most) blocks = most;
    if (a->m > 0) {
        PAR_LAUNCH((norm_backward<T, W, CENTRED, FORM>), dim3((unsigned)blocks), block,
                   shared_nbytes<FORM>(a, (int)(block.x * block.y), W), stream, *a, partial);
        PAR_TRY(par__cuda_launched("norm_backward"));
    }
    if (!a->dw || a->n == 0) return PAR_OK;
    PAR_LAUNCH((norm_sums), dim3((unsigned)par__blocks(columns, 32)), dim3(32, 32), 0, stream,
               (const float *)partial, blocks, *a, columns);
    return par__cuda_launched("norm_sums");
}

/* two_packs takes up to 144 KiB of shared memory per block: 8.6, 8.9 and 12.x have 99. */
static bool has_room_for_two_packs(void) {
    const par__cuda_device *d = par__cuda_device_get();
    return d->major < 12 && !(d->major == 8 && (d->minor == 6 || d->minor == 9));
}

template <typename T, int W, bool CENTRED>
static par_status launch_form(par_stream *stream, const par_norm *a, float *partial) {
    int64_t packs = par__blocks(a->n, W);
    if constexpr (W > 1) {
        if (packs <= one_pack::PACKS) return launch<T, W, CENTRED, one_pack>(stream, a, partial);
        if (packs <= two_packs::PACKS && has_room_for_two_packs())
            return launch<T, W, CENTRED, two_packs>(stream, a, partial);
    }
    return launch<T, W, CENTRED, long_rows>(stream, a, partial);
}

template <typename T, int W>
static par_status backward_width(par_stream *stream, const par_norm *a, bool centred,
                                 float *partial) {
    return centred ? launch_form<T, W, true>(stream, a, partial)
                   : launch_form<T, W, false>(stream, a, partial);
}

template <typename T>
static par_status backward(par_stream *stream, const par_norm *a, bool centred, float *workspace) {
    bool packed = packable<T>(a->n, a->x, a->dy, a->dx, a->w, a->add);
    return PAR_DISPATCH_WIDTH(T, packed, backward_width, stream, a, centred,
                              a->dw ? workspace : NULL);
}

template <typename T, typename FORM> static par_status allow_form(bool centred) {
    enum { W = 16 / sizeof(T) };
    const int most = FORM::DEPTH * 3 * FORM::HELD * FORM::THREADS * (int)sizeof(uint4);
    const void *kernel = centred ? (const void *)norm_backward<T, W, true, FORM>
                                 : (const void *)norm_backward<T, W, false, FORM>;
    PAR__CUDA_TRY(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most));
    return PAR_OK;
}

template <typename T> static par_status allow(bool centred) {
    PAR_TRY((allow_form<T, one_pack>(centred)));
    if (has_room_for_two_packs()) PAR_TRY((allow_form<T, two_packs>(centred)));
    return allow_form<T, long_rows>(centred);
}

/* Alignment and dw are not known here: room for every form, with dw. */
static par_status prepare(const par_norm *a, bool centred, size_t *workspace_nbytes) {
    int64_t blocks = long_rows::RESIDENT * par__multiprocessors();
    *workspace_nbytes = (size_t)((a->m < blocks ? a->m : blocks) * 2 * a->n) * sizeof(float);
    return PAR_DISPATCH(a->dtype, allow, centred);
}

static par_status layernorm_prepare(const void *args, size_t *workspace_nbytes) {
    return prepare((const par_norm *)args, true, workspace_nbytes);
}

static par_status rmsnorm_prepare(const void *args, size_t *workspace_nbytes) {
    return prepare((const par_norm *)args, false, workspace_nbytes);
}

static par_status layernorm(par_stream *stream, const void *args, void *workspace) {
    const par_norm *a = (const par_norm *)args;
    return PAR_DISPATCH(a->dtype, backward, stream, a, true, (float *)workspace);
}

static par_status rmsnorm(par_stream *stream, const void *args, void *workspace) {
    const par_norm *a = (const par_norm *)args;
    return PAR_DISPATCH(a->dtype, backward, stream, a, false, (float *)workspace);
}

extern "C" void par__cuda_norm_backward_init(par_backend *backend) {
    par_kernel *k = backend->kernels;
    k[PAR_OP_LAYERNORM_BACKWARD] = {"layernorm_backward/cuda/own", layernorm_prepare, layernorm};
    k[PAR_OP_RMSNORM_BACKWARD] = {"rmsnorm_backward/cuda/own", rmsnorm_prepare, rmsnorm};
}
