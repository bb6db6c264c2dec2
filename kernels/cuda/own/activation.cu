/*
 * GELU and SwiGLU, par_gelu and par_swiglu in par/kernels.h. With z = 2u, (1 + tanh u) / 2 is the
 * logistic function s(z), and 1 + erf(x / sqrt 2) is erfc(-x / sqrt 2): no cancellation in the left
 * tail.
 */
#include "kernels/cuda/own/device.cuh"

enum { THREADS = 256 };

/* s(z) and 1 - s(z), both to full relative precision */
__device__ static inline void logistic(float z, float *s, float *rest) {
    float e = expf(-fabsf(z)), large = 1 / (1 + e), small = e * large;
    *s = z >= 0 ? large : small;
    *rest = z >= 0 ? small : large;
}

/* z and its derivative: 2 sqrt(2/pi) (x + 0.044715 x³) */
__device__ static inline float tanh_argument(float x) {
    return 1.59576912f * (x + 0.044715f * x * x * x);
}
__device__ static inline float tanh_derivative(float x) {
    return 1.59576912f * (1 + 3 * 0.044715f * x * x);
}

/* erfc(-x / sqrt 2) / 2, for results that are stored in T. For 16 bits to 1.5e-6 relative: with
 * t = 1 / (1 + z / 2), z >= 0, log(erfc(z) / t) + z² is near a polynomial in t, here the one that
 * meets it in the Chebyshev points of [0, 1]. The exact function takes longer than its bytes. */
template <typename T> __device__ static inline float normal_cdf(float x) {
    if (sizeof(T) == 4) return 0.5f * erfcf(-0.70710678f * x);
    float z = 0.70710678f * fabsf(x), t = __fdividef(1.0f, 1 + 0.5f * z), q = -0.05373678f;
    q = q * t + 0.04952329f;
    q = q * t + 0.31676876f;
    q = q * t - 0.57395390f;
    q = q * t + 0.10742077f;
    q = q * t + 0.04011988f;
    q = q * t + 0.37954478f;
    q = q * t + 0.99982303f;
    q = q * t - 1.26551102f;
    float tail = 0.5f * t * __expf(q - z * z);
    return x > 0 ? 1 - tail : tail;
}

template <typename T, bool ERF> __device__ static inline float gelu_of(float x) {
    if (ERF) return x * normal_cdf<T>(x);
    return x / (1 + expf(-tanh_argument(x)));
}

template <typename T, bool ERF> __device__ static inline float gelu_slope(float x) {
    float s, rest;
    if (ERF) return normal_cdf<T>(x) + x * 0.39894228f * expf(-0.5f * x * x);
    logistic(tanh_argument(x), &s, &rest);
    return s + x * s * rest * tanh_derivative(x);
}

/* y may be x */
template <typename T, int W, bool ERF>
__global__ void __launch_bounds__(THREADS) gelu_forward(int64_t n, const T *x, T *y) {
    par__flat<W>(n, [&](auto width, int64_t i) {
        constexpr int N = decltype(width)::value;
        par__pack<N> v = par__get<N>(x + i);
#pragma unroll
        for (int e = 0; e < N; e++) v.x[e] = gelu_of<T, ERF>(v.x[e]);
        par__put<N>(y + i, v);
    });
}

/* dx may be dy */
template <typename T, int W, bool ERF>
__global__ void __launch_bounds__(THREADS)
    gelu_backward(int64_t n, const T *x, const T *dy, T *dx) {
    par__flat<W>(n, [&](auto width, int64_t i) {
        constexpr int N = decltype(width)::value;
        par__pack<N> v = par__get<N>(x + i), d = par__get<N>(dy + i);
#pragma unroll
        for (int e = 0; e < N; e++) d.x[e] *= gelu_slope<T, ERF>(v.x[e]);
        par__put<N>(dx + i, d);
    });
}

/* Grid: columns, rows. */
template <typename T, int W>
__global__ void __launch_bounds__(THREADS) swiglu_forward(int64_t m, int64_t n, const T *x, T *y) {
    int64_t j = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * W;
    if (j >= n) return;
    for (int64_t i = blockIdx.y; i < m; i += gridDim.y) {
        par__pack<W> gate = par__get<W>(x + 2 * i * n + j),
                     up = par__get<W>(x + (2 * i + 1) * n + j);
#pragma unroll
        for (int e = 0; e < W; e++) up.x[e] *= gate.x[e] / (1 + expf(-gate.x[e]));
        par__put<W>(y + i * n + j, up);
    }
}

/* silu'(g) = s (1 + g (1 - s)) */
template <typename T, int W>
__global__ void __launch_bounds__(THREADS)
    swiglu_backward(int64_t m, int64_t n, const T *x, const T *dy, T *dx) {
    int64_t j = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * W;
    if (j >= n) return;
    for (int64_t i = blockIdx.y; i < m; i += gridDim.y) {
        int64_t at = 2 * i * n + j;
        par__pack<W> gate = par__get<W>(x + at), up = par__get<W>(x + at + n),
                     d = par__get<W>(dy + i * n + j);
#pragma unroll
        for (int e = 0; e < W; e++) {
            float g = gate.x[e], s, rest;
            logistic(g, &s, &rest);
            gate.x[e] = d.x[e] * up.x[e] * s * (1 + g * rest);
            up.x[e] = d.x[e] * g * s;
        }
        par__put<W>(dx + at, gate);
        par__put<W>(dx + at + n, up);
    }
}

template <typename T, int W>
static par_status gelu_width(par_stream *stream, const par_gelu *a, bool back) {
    dim3 grid(par__grid(par__blocks(a->n, (int64_t)THREADS * W))), block(THREADS);
    const T *x = (const T *)a->x, *dy = (const T *)a->dy;
    if (back && a->erf)
        PAR_LAUNCH((gelu_backward<T, W, true>), grid, block, 0, stream, a->n, x, dy, (T *)a->dx);
    else if (back)
        PAR_LAUNCH((gelu_backward<T, W, false>), grid, block, 0, stream, a->n, x, dy, (T *)a->dx);
    else if (a->erf)
        PAR_LAUNCH((gelu_forward<T, W, true>), grid, block, 0, stream, a->n, x, (T *)a->y);
    else
        PAR_LAUNCH((gelu_forward<T, W, false>), grid, block, 0, stream, a->n, x, (T *)a->y);
    return par__cuda_launched("gelu");
}

template <typename T> static par_status gelu(par_stream *stream, const par_gelu *a, bool back) {
    if (a->n == 0) return PAR_OK;
    bool packed = par__packable<T>(a->x, 0) &&
                  (back ? par__packable<T>(a->dy, 0) && par__packable<T>(a->dx, 0)
                        : par__packable<T>(a->y, 0));
    return PAR_DISPATCH_WIDTH(T, packed, gelu_width, stream, a, back);
}

template <typename T, int W>
static par_status swiglu_width(par_stream *stream, const par_swiglu *a, bool back) {
    dim3 grid((unsigned)par__blocks(a->n, (int64_t)THREADS * W), par__grid(a->m)), block(THREADS);
    const T *x = (const T *)a->x;
    if (back)
        PAR_LAUNCH((swiglu_backward<T, W>), grid, block, 0, stream, a->m, a->n, x, (const T *)a->dy,
                   (T *)a->dx);
    else
        PAR_LAUNCH((swiglu_forward<T, W>), grid, block, 0, stream, a->m, a->n, x, (T *)a->y);
    return par__cuda_launched("swiglu");
}

template <typename T> static par_status swiglu(par_stream *stream, const par_swiglu *a, bool back) {
    if (a->m == 0 || a->n == 0) return PAR_OK;
    bool packed = par__packable<T>(a->x, a->n) &&
                  (back ? par__packable<T>(a->dy, 0) && par__packable<T>(a->dx, 0)
                        : par__packable<T>(a->y, 0));
    return PAR_DISPATCH_WIDTH(T, packed, swiglu_width, stream, a, back);
}

static par_status prepare(const void *args, size_t *workspace_nbytes) {
    (void)args;
    *workspace_nbytes = 0;
    return PAR_OK;
}

static par_status run_gelu(par_stream *stream, const void *args, void *workspace) {
    const par_gelu *a = (const par_gelu *)args;
    (void)workspace;
    return PAR_DISPATCH(a->dtype, gelu, stream, a, false);
}

static par_status run_gelu_backward(par_stream *stream, const void *args, void *workspace) {
    const par_gelu *a = (const par_gelu *)args;
    (void)workspace;
    return PAR_DISPATCH(a->dtype, gelu, stream, a, true);
}

static par_status run_swiglu(par_stream *stream, const void *args, void *workspace) {
    const par_swiglu *a = (const par_swiglu *)args;
    (void)workspace;
    return PAR_DISPATCH(a->dtype, swiglu, stream, a, false);
}

static par_status run_swiglu_backward(par_stream *stream, const void *args, void *workspace) {
    const par_swiglu *a = (const par_swiglu *)args;
    (void)workspace;
    return PAR_DISPATCH(a->dtype, swiglu, stream, a, true);
}

extern "C" void par__cuda_activation_init(par_backend *backend) {
    par_kernel *k = backend->kernels;
    k[PAR_OP_GELU] = {"gelu/cuda/own", prepare, run_gelu};
    k[PAR_OP_GELU_BACKWARD] = {"gelu_backward/cuda/own", prepare, run_gelu_backward};
    k[PAR_OP_SWIGLU] = {"swiglu/cuda/own", prepare, run_swiglu};
    k[PAR_OP_SWIGLU_BACKWARD] = {"swiglu_backward/cuda/own", prepare, run_swiglu_backward};
}
