/*
 * Rotary position embedding in place (Su et al. 2021), par_rope in par/kernels.h: a block has a row
 * at a time, a thread W channel pairs of a head.
 */
#include "kernels/cuda/own/device.cuh"

template <typename T, int W> __global__ void __launch_bounds__(256) rope_rows(par_rope a) {
    int64_t half = a.head_size / 2;
    unsigned per_head = (unsigned)(half / W), chunks = (unsigned)a.heads * per_head;
    float sign = a.inverse ? -1.0f : 1.0f;
    for (int64_t r = blockIdx.x; r < a.m; r += gridDim.x) {
        int64_t position = (a.first_row + r) % a.T;
        T *row = (T *)a.x + r * a.ldx;
        for (unsigned c = threadIdx.x; c < chunks; c += blockDim.x) {
            int64_t i = (int64_t)(c % per_head) * W;
            T *first = row + c / per_head * a.head_size + i, *second = first + half;
            par__pack<W> x1 = par__get<W>(first), x2 = par__get<W>(second);
            par__pack<W> cosine = par__get<W>(a.cos + position * half + i);
            par__pack<W> sine = par__get<W>(a.sin + position * half + i);
#pragma unroll
            for (int e = 0; e < W; e++) {
                float u = x1.x[e], v = x2.x[e], s = sign * sine.x[e];
                x1.x[e] = u * cosine.x[e] - v * s;
                x2.x[e] = v * cosine.x[e] + u * s;
            }
            par__put<W>(first, x1);
            par__put<W>(second, x2);
        }
    }
}

template <typename T, int W> static par_status rope_width(par_stream *stream, const par_rope *a) {
    int64_t chunks = a->heads * (a->head_size / 2) / W;
    PAR_LAUNCH((rope_rows<T, W>), dim3(par__grid(a->m)), dim3(par__threads(chunks, 256)), 0, stream,
               *a);
    return par__cuda_launched("rope");
}

template <typename T> static par_status rope(par_stream *stream, const par_rope *a) {
    if (a->m == 0 || a->heads == 0 || a->head_size == 0) return PAR_OK;
    bool packed = par__packable<T>(a->x, a->ldx) && par__packable<T>(a->cos, a->head_size / 2) &&
                  par__packable<T>(a->sin, a->head_size / 2);
    return PAR_DISPATCH_WIDTH(T, packed, rope_width, stream, a);
}

static par_status prepare(const void *args, size_t *workspace_nbytes) {
    const par_rope *a = (const par_rope *)args;
    *workspace_nbytes = 0;
    if (a->heads * a->head_size > INT32_MAX)
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "rope: heads * head_size is %lld, at most %d on cuda",
                 (long long)(a->heads * a->head_size), INT32_MAX);
    return PAR_OK;
}

static par_status run(par_stream *stream, const void *args, void *workspace) {
    const par_rope *a = (const par_rope *)args;
    (void)workspace;
    return PAR_DISPATCH(a->dtype, rope, stream, a);
}

extern "C" void par__cuda_rope_init(par_backend *backend) {
    backend->kernels[PAR_OP_ROPE] = {"rope/cuda/own", prepare, run};
}
