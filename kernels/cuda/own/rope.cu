/*
 * Rotary position embedding in place (Su et al. 2021), par_rope in par/kernels.h: a thread has W
 * channel pairs of HEADS heads of a row, whose angles are the same.
 */
#include "kernels/cuda/own/device.cuh"

enum { ROPE_HEADS = 2 };

template <typename T, int W, int HEADS>
__global__ void __launch_bounds__(256) rope_rows(par_rope a) {
    const int64_t half = a.head_size / 2;
    const unsigned per_head = (unsigned)(half / W);
    const unsigned per_row = (unsigned)((a.heads + HEADS - 1) / HEADS) * per_head;
    const float sign = a.inverse ? -1.0f : 1.0f;
    for (int64_t r = blockIdx.x * (int64_t)blockDim.y + threadIdx.y; r < a.m;
         r += (int64_t)gridDim.x * blockDim.y) {
        const int64_t position = (a.first_row + r) % a.T;
        for (unsigned c = threadIdx.x; c < per_row; c += blockDim.x) {
            const unsigned head = c / per_head * HEADS;
            const int64_t i = (int64_t)(c % per_head) * W;
            T *first = (T *)a.x + r * a.ldx + head * a.head_size + i;
            par__raw<T, W> x1[HEADS] = {}, x2[HEADS] = {};
#pragma unroll
            for (int h = 0; h < HEADS; h++)
                if (head + h < a.heads) {
                    x1[h] = par__get_raw<W>(first + h * a.head_size);
                    x2[h] = par__get_raw<W>(first + h * a.head_size + half);
                }
            const par__pack<W> cosine = par__get<W>(a.cos + position * half + i);
            const par__pack<W> sine = par__get<W>(a.sin + position * half + i);
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
                if (head + h >= a.heads) continue;
                par__pack<W> u = par__wide(x1[h]), v = par__wide(x2[h]), y1, y2;
#pragma unroll
                for (int e = 0; e < W; e++) {
                    float s = sign * sine.x[e];
                    y1.x[e] = u.x[e] * cosine.x[e] - v.x[e] * s;
                    y2.x[e] = v.x[e] * cosine.x[e] + u.x[e] * s;
                }
                par__put<W>(first + h * a.head_size, y1);
                par__put<W>(first + h * a.head_size + half, y2);
            }
        }
    }
}

template <typename T, int W> static par_status rope_width(par_stream *stream, const par_rope *a) {
    int64_t per_row = par__blocks(a->heads, ROPE_HEADS) * (a->head_size / 2 / W);
    unsigned threads = per_row < 256 ? (unsigned)per_row : 256, rows = 256 / threads;
    PAR_LAUNCH((rope_rows<T, W, ROPE_HEADS>), dim3(par__grid(par__blocks(a->m, rows))),
               dim3(threads, rows), 0, stream, *a);
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
