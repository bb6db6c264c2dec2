/*
 * The optimizer's work over flat ranges, par_update, par_norm2 and par_cast in par/kernels.h: each
 * array is read and written once. What a step's vote decided is read from par_step: factors are
 * made of it in double, once per block. norm2 sums squares in double, in a number of blocks that
 * depends on the vector's n alone, so that the bits repeat on every device; one launch has the
 * blocks of many vectors, as most are short.
 */
#include "kernels/cuda/own/device.cuh"

/* RESIDENT blocks a multiprocessor are enough to keep its memory busy, and leave 64 registers a
 * thread. */
enum { THREADS = 256, RESIDENT = 4, NORM2_BLOCKS = 512, NORM2_PER_BLOCK = 16384 };

/* Vectors of a launch: their list is an argument, of which a kernel takes 4096 bytes. */
enum { NORM2_VECTORS = 128 };

/* The elementwise operations' factors, in fp32. */
struct adamw_factors {
    float b1, rest1, b2, rest2, decay, step, inverse_sqrt, eps, grad_scale;
};

__device__ static inline adamw_factors adamw_prepare(const par_update &a) {
    const par_step step = *a.step;
    adamw_factors f;
    f.b1 = (float)a.b1;
    f.rest1 = (float)(1 - a.b1);
    f.b2 = (float)a.b2;
    f.rest2 = (float)(1 - a.b2);
    f.decay = (float)((double)step.lr * a.decay);
    f.step = (float)(step.lr / step.correction1);
    f.inverse_sqrt = (float)(1 / sqrt(step.correction2));
    f.eps = a.eps;
    f.grad_scale = step.grad_scale;
    return f;
}

template <typename T, int W>
__global__ void __launch_bounds__(THREADS, RESIDENT) adamw_flat(par_update a) {
    __shared__ adamw_factors shared; /* one thread divides: doubles are slow on some devices */
    if (a.step->skip) return;
    if (threadIdx.x == 0) shared = adamw_prepare(a);
    __syncthreads();
    const adamw_factors f = shared;
    par__flat<W>(a.n, [&](auto width, int64_t i) {
        constexpr int N = decltype(width)::value;
        par__pack<N> w = par__get<N>(a.master + i), grad = par__get<N>(a.grad + i);
        par__pack<N> m = par__get<N>(a.m + i), v = par__get<N>(a.v + i);
#pragma unroll
        for (int e = 0; e < N; e++) {
            float g = grad.x[e] * f.grad_scale;
            m.x[e] = f.b1 * m.x[e] + f.rest1 * g;
            v.x[e] = f.b2 * v.x[e] + f.rest2 * g * g;
            float decayed = w.x[e] - f.decay * w.x[e];
            w.x[e] = decayed - f.step * m.x[e] / (sqrtf(v.x[e]) * f.inverse_sqrt + f.eps);
        }
        par__put<N>(a.master + i, w);
        par__put<N>(a.m + i, m);
        par__put<N>(a.v + i, v);
        if (a.weights) par__put<N>((T *)a.weights + i, w);
    });
}

/* At t = 1 the old momentum is not read. */
template <typename T, int W>
__global__ void __launch_bounds__(THREADS, RESIDENT) sgd_flat(par_update a) {
    if (a.step->skip) return;
    const float momentum = (float)a.b1, lr = a.step->lr, grad_scale = a.step->grad_scale;
    const bool first = a.step->t == 1;
    par__flat<W>(a.n, [&](auto width, int64_t i) {
        constexpr int N = decltype(width)::value;
        par__pack<N> w = par__get<N>(a.master + i), grad = par__get<N>(a.grad + i), m = {};
        if (!first) m = par__get<N>(a.m + i);
#pragma unroll
        for (int e = 0; e < N; e++) {
            m.x[e] = momentum * m.x[e] + (grad.x[e] * grad_scale + a.decay * w.x[e]);
            w.x[e] -= lr * m.x[e];
        }
        par__put<N>(a.master + i, w);
        par__put<N>(a.m + i, m);
        if (a.weights) par__put<N>((T *)a.weights + i, w);
    });
}

/* Vector i has blocks first[i] to first[i + 1] - 1. */
struct norm2_list {
    int n;
    int first[NORM2_VECTORS + 1];
    par_norm2_vector vectors[NORM2_VECTORS];
};

__device__ static inline int norm2_vector_of(const norm2_list &list, int block) {
    int low = 0, high = list.n;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (list.first[middle] <= block)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* partial [gridDim.x, 2]: squares of what is finite, number of what is not */
__global__ void __launch_bounds__(THREADS, RESIDENT)
    norm2_blocks(norm2_list list, double *partial) {
    __shared__ double shared[32];
    const int i = norm2_vector_of(list, (int)blockIdx.x), first = list.first[i];
    const float *x = list.vectors[i].x;
    double sum = 0, bad = 0;
    auto add = [&](auto width, int64_t at) {
        constexpr int N = decltype(width)::value;
        par__pack<N> v = par__get<N>(x + at);
#pragma unroll
        for (int e = 0; e < N; e++) {
            bool finite = (__float_as_uint(v.x[e]) & 0x7f800000u) != 0x7f800000u;
            double value = finite ? v.x[e] : 0.0f;
            sum += value * value;
            bad += finite ? 0 : 1;
        }
    };
    const int block = (int)blockIdx.x - first, n_blocks = list.first[i + 1] - first;
    if ((uintptr_t)x % 16 == 0)
        par__flat_by<4>(block, n_blocks, list.vectors[i].n, add);
    else
        par__flat_by<1>(block, n_blocks, list.vectors[i].n, add);
    sum = par__block_sum(sum, shared);
    bad = par__block_sum(bad, shared);
    if (threadIdx.x > 0) return;
    partial[2 * blockIdx.x] = sum;
    partial[2 * blockIdx.x + 1] = bad;
}

/* A block for each vector. */
__global__ void __launch_bounds__(NORM2_BLOCKS) norm2_sums(norm2_list list, const double *partial) {
    __shared__ double shared[32];
    const int first = list.first[blockIdx.x], n = list.first[blockIdx.x + 1] - first;
    const int i = threadIdx.x;
    double *out = list.vectors[blockIdx.x].out;
    partial += 2 * first;
    double sum = par__block_sum(i < n ? partial[2 * i] : 0.0, shared);
    double bad = par__block_sum(i < n ? partial[2 * i + 1] : 0.0, shared);
    if (i > 0) return;
    out[0] += sum;
    out[1] += bad;
}

/* y may be x */
template <typename X, typename Y, int W>
__global__ void __launch_bounds__(THREADS, RESIDENT)
    cast_flat(int64_t n, const X *x, Y *y, float scale) {
    par__flat<W>(n, [&](auto width, int64_t i) {
        constexpr int N = decltype(width)::value;
        par__pack<N> v = par__get<N>(x + i);
#pragma unroll
        for (int e = 0; e < N; e++) v.x[e] *= scale;
        par__put<N>(y + i, v);
    });
}

static dim3 flat_grid(int64_t n, int width) {
    return dim3(par__grid(par__blocks(n, (int64_t)THREADS * width)));
}

static bool update_packed(const par_update *a) {
    return par__packable<float>(a->master, 0) && par__packable<float>(a->grad, 0) &&
           par__packable<float>(a->m, 0) && par__packable<float>(a->v, 0) &&
           par__packable<float>(a->weights, 0);
}

template <typename T, int W>
static par_status adamw_width(par_stream *stream, const par_update *a) {
    PAR_LAUNCH((adamw_flat<T, W>), flat_grid(a->n, W), dim3(THREADS), 0, stream, *a);
    return par__cuda_launched("adamw");
}

template <typename T> static par_status adamw(par_stream *stream, const par_update *a) {
    if (a->n == 0) return PAR_OK;
    return PAR_DISPATCH_WIDTH(T, update_packed(a), adamw_width, stream, a);
}

template <typename T, int W> static par_status sgd_width(par_stream *stream, const par_update *a) {
    PAR_LAUNCH((sgd_flat<T, W>), flat_grid(a->n, W), dim3(THREADS), 0, stream, *a);
    return par__cuda_launched("sgd");
}

template <typename T> static par_status sgd(par_stream *stream, const par_update *a) {
    if (a->n == 0) return PAR_OK;
    return PAR_DISPATCH_WIDTH(T, update_packed(a), sgd_width, stream, a);
}

template <typename X, typename Y>
static par_status cast_types(par_stream *stream, const par_cast *a) {
    enum { W = sizeof(X) == 4 || sizeof(Y) == 4 ? 4 : 8 };
    const X *x = (const X *)a->x;
    if (par__packable<X>(a->x, 0) && par__packable<Y>(a->y, 0))
        PAR_LAUNCH((cast_flat<X, Y, W>), flat_grid(a->n, W), dim3(THREADS), 0, stream, a->n, x,
                   (Y *)a->y, a->scale);
    else
        PAR_LAUNCH((cast_flat<X, Y, 1>), flat_grid(a->n, 1), dim3(THREADS), 0, stream, a->n, x,
                   (Y *)a->y, a->scale);
    return par__cuda_launched("cast");
}

template <typename X> static par_status cast(par_stream *stream, const par_cast *a) {
    if (a->n == 0) return PAR_OK;
    return a->dtype_y == PAR_F32    ? cast_types<X, float>(stream, a)
           : a->dtype_y == PAR_BF16 ? cast_types<X, par__bf16>(stream, a)
                                    : cast_types<X, par__f16>(stream, a);
}

/* The vectors of a launch that are not empty, from *at on, which becomes the first of the next. */
static norm2_list norm2_next(const par_norm2 *a, int64_t *at) {
    norm2_list list = {};
    for (; *at < a->n_vectors && list.n < NORM2_VECTORS; (*at)++) {
        const par_norm2_vector *v = &a->vectors[*at];
        if (v->n == 0) continue;
        int64_t blocks = par__blocks(v->n, NORM2_PER_BLOCK);
        if (blocks > NORM2_BLOCKS) blocks = NORM2_BLOCKS;
        list.vectors[list.n] = *v;
        list.first[list.n + 1] = list.first[list.n] + (int)blocks;
        list.n++;
    }
    return list;
}

static par_status prepare(const void *args, size_t *workspace_nbytes) {
    (void)args;
    *workspace_nbytes = 0;
    return PAR_OK;
}

static par_status norm2_prepare(const void *args, size_t *workspace_nbytes) {
    const par_norm2 *a = (const par_norm2 *)args;
    int most = 0;
    for (int64_t at = 0; at < a->n_vectors;) {
        const norm2_list list = norm2_next(a, &at);
        if (list.first[list.n] > most) most = list.first[list.n];
    }
    *workspace_nbytes = 2 * sizeof(double) * (size_t)most;
    return PAR_OK;
}

static par_status run_adamw(par_stream *stream, const void *args, void *workspace) {
    const par_update *a = (const par_update *)args;
    (void)workspace;
    return PAR_DISPATCH(a->dtype, adamw, stream, a);
}

static par_status run_sgd(par_stream *stream, const void *args, void *workspace) {
    const par_update *a = (const par_update *)args;
    (void)workspace;
    return PAR_DISPATCH(a->dtype, sgd, stream, a);
}

static par_status run_norm2(par_stream *stream, const void *args, void *workspace) {
    const par_norm2 *a = (const par_norm2 *)args;
    double *partial = (double *)workspace;
    for (int64_t at = 0; at < a->n_vectors;) {
        const norm2_list list = norm2_next(a, &at);
        if (list.n == 0) break;
        PAR_LAUNCH((norm2_blocks), dim3((unsigned)list.first[list.n]), dim3(THREADS), 0, stream,
                   list, partial);
        PAR_LAUNCH((norm2_sums), dim3((unsigned)list.n), dim3(NORM2_BLOCKS), 0, stream, list,
                   (const double *)partial);
        PAR_TRY(par__cuda_launched("norm2"));
    }
    return PAR_OK;
}

static par_status run_cast(par_stream *stream, const void *args, void *workspace) {
    const par_cast *a = (const par_cast *)args;
    (void)workspace;
    return PAR_DISPATCH(a->dtype_x, cast, stream, a);
}

extern "C" void par__cuda_update_init(par_backend *backend) {
    par_kernel *k = backend->kernels;
    k[PAR_OP_ADAMW] = {"adamw/cuda/own", prepare, run_adamw};
    k[PAR_OP_SGD] = {"sgd/cuda/own", prepare, run_sgd};
    k[PAR_OP_NORM2] = {"norm2/cuda/own", norm2_prepare, run_norm2};
    k[PAR_OP_CAST] = {"cast/cuda/own", prepare, run_cast};
}
