/*
 * Weights as 8-bit integers, par_quantize in par/kernels.h, with the bits that it specifies: a warp
 * has a group, a lane 4 elements side by side.
 */
#include "kernels/cuda/own/device.cuh"

enum { WARPS = 8, LANE = 4 };
static_assert(PAR_INT8_GROUP == 32 * LANE, "a warp has a group");

/* LANE elements in fp32 from p: whole and aligned if PACKED, else the first `count` of them and
 * zeros. */
template <typename T, bool PACKED>
__device__ static inline par__pack<LANE> read(const T *p, int64_t count) {
    par__pack<LANE> out = {};
    if constexpr (PACKED) {
        if (count >= LANE) out = par__get<LANE>(p);
    } else {
#pragma unroll
        for (int e = 0; e < LANE; e++)
            if (e < count) out.x[e] = par__load(p + e);
    }
    return out;
}

template <bool PACKED>
__device__ static inline void write(int8_t *p, int64_t count, const int (&q)[LANE]) {
    if constexpr (PACKED) {
        uint32_t word = 0;
#pragma unroll
        for (int e = 0; e < LANE; e++) word |= ((uint32_t)q[e] & 0xff) << (8 * e);
        if (count >= LANE) *reinterpret_cast<uint32_t *>(p) = word;
    } else {
#pragma unroll
        for (int e = 0; e < LANE; e++)
            if (e < count) p[e] = (int8_t)q[e];
    }
}

template <typename T, bool PACKED>
__global__ void __launch_bounds__(32 * WARPS) quantize_groups(par_quantize a, int64_t groups) {
    for (int64_t g = blockIdx.x * (int64_t)WARPS + threadIdx.y; g < a.m * groups;
         g += gridDim.x * (int64_t)WARPS) {
        int64_t i = g / groups, j = g % groups * PAR_INT8_GROUP + threadIdx.x * LANE;
        par__pack<LANE> x = read<T, PACKED>((const T *)a.x + i * a.ldx + j, a.n - j);
        float max = 0, none = 0;
#pragma unroll
        for (int e = 0; e < LANE; e++) {
            max = fmaxf(max, fabsf(x.x[e]));
            none += x.x[e] * 0.0f; /* NaN if one is inf or NaN */
        }
        max = par__warp_max(max);
        none = par__warp_sum(none);
        bool scaled = none == 0 && max >= 0x1p-100f;
        float inverse = scaled ? 127 / max : 0.0f;
        int q[LANE];
#pragma unroll
        for (int e = 0; e < LANE; e++) q[e] = scaled ? (int)rintf(x.x[e] * inverse) : 0;
        write<PACKED>(a.q + i * a.n + j, a.n - j, q);
        if (threadIdx.x == 0) a.scales[g] = scaled ? max / 127 : none;
    }
}

template <typename T, bool PACKED>
static par_status launch(par_stream *stream, const par_quantize *a, int64_t groups) {
    PAR_LAUNCH((quantize_groups<T, PACKED>), dim3(par__grid(par__blocks(a->m * groups, WARPS))),
               dim3(32, WARPS), 0, stream, *a, groups);
    return par__cuda_launched("quantize");
}

template <typename T> static par_status quantize(par_stream *stream, const par_quantize *a) {
    int64_t groups = par_int8_groups(a->n);
    if (a->m * groups == 0) return PAR_OK;
    bool packed = par__packable<T>(a->x, a->ldx) && a->n % LANE == 0 && (uintptr_t)a->q % LANE == 0;
    return packed ? launch<T, true>(stream, a, groups) : launch<T, false>(stream, a, groups);
}

static par_status prepare(const void *args, size_t *workspace_nbytes) {
    (void)args;
    *workspace_nbytes = 0;
    return PAR_OK;
}

static par_status run(par_stream *stream, const void *args, void *workspace) {
    const par_quantize *a = (const par_quantize *)args;
    (void)workspace;
    return PAR_DISPATCH(a->dtype, quantize, stream, a);
}

extern "C" void par__cuda_quantize_init(par_backend *backend) {
    backend->kernels[PAR_OP_QUANTIZE] = {"quantize/cuda/own", prepare, run};
}
