/*
 * Attention of one new token a sequence over a cache of keys and values (par_attention_decode in
 * par/kernels.h). The cache is cut into parts of a fixed number of tokens, a block each, so that a
 * few long sequences fill the device; a part leaves its maximum, sum and unnormalised output in
 * fp32, and a second kernel adds the parts in their order: the bits depend on n, not on the device.
 * In a block a warp takes every eighth token, its lanes have the channels.
 */
#include "kernels/cuda/own/attention_tile.cuh"

enum { PART = 256, WARPS = 8, GROUPS = 2 /* of 4 channels of a lane: D up to 256 */ };

/* What a part leaves for a head: maximum, sum, and D sums behind them. */
static __host__ __device__ inline int64_t part_floats(int64_t D) {
    return 2 + D;
}

/* Tokens of the cache of sequence b as head h reads them. */
__device__ static inline rows cached(const par_attention_decode &a, const void *data, int64_t b,
                                     int64_t h) {
    int size = a.dtype == PAR_F32 ? 4 : 2;
    int64_t ld = a.K * a.D;
    const char *begin = (const char *)data + (b * a.capacity * ld + h / (a.H / a.K) * a.D) * size;
    bool aligned = (uint64_t)(uintptr_t)begin % (4 * size) == 0 && ld % 4 == 0 && a.D % 4 == 0;
    return {begin, a.dtype, ld, a.n, (int)a.D, aligned};
}

/* One row of q or o. */
__device__ static inline rows single(const par_attention_decode &a, const void *data, int64_t ld,
                                     int64_t b, int64_t h) {
    int size = a.dtype == PAR_F32 ? 4 : 2;
    const char *begin = (const char *)data + (b * ld + h * a.D) * size;
    return {begin, a.dtype,  ld,
            1,     (int)a.D, (uint64_t)(uintptr_t)begin % (4 * size) == 0 && a.D % 4 == 0};
}

/* A lane's channels of a token; zeros behind the last. */
__device__ static inline void load_lane(const rows &x, int64_t token, float4 (&out)[GROUPS]) {
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
        int d = threadIdx.x * 4 + 128 * g;
        out[g] = {0, 0, 0, 0};
        if (d < x.D)
            out[g] = PAR_DISPATCH(x.dtype, load4, x.data, token * x.ld + d, x.D - d, x.aligned);
    }
}

__device__ static inline float dot_lane(const float4 (&x)[GROUPS], const float4 (&y)[GROUPS]) {
    float sum = 0;
#pragma unroll
    for (int g = 0; g < GROUPS; g++)
        sum += x[g].x * y[g].x + x[g].y * y[g].y + x[g].z * y[g].z + x[g].w * y[g].w;
    return sum;
}

/* out = out · shrink + v · weight */
__device__ static inline void add_lane(float4 (&out)[GROUPS], float shrink,
                                       const float4 (&v)[GROUPS], float weight) {
#pragma unroll
    for (int g = 0; g < GROUPS; g++)
        out[g] = {out[g].x * shrink + v[g].x * weight, out[g].y * shrink + v[g].y * weight,
                  out[g].z * shrink + v[g].z * weight, out[g].w * shrink + v[g].w * weight};
}

__device__ static inline void put_lane(float *to, const float4 (&x)[GROUPS], int64_t D) {
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
        int d = threadIdx.x * 4 + 128 * g;
        if (d < D) to[d] = x[g].x;
        if (d + 1 < D) to[d + 1] = x[g].y;
        if (d + 2 < D) to[d + 2] = x[g].z;
        if (d + 3 < D) to[d + 3] = x[g].w;
    }
}

/* Add what n parts left, in their order, at distance `ld`: thread d has channel d. n may be 0. */
__device__ static inline void combine(const float *parts, int64_t ld, int64_t n, int64_t d,
                                      float &max, float &sum, float &o) {
    max = -INFINITY;
    sum = o = 0;
    for (int64_t i = 0; i < n; i++) max = fmaxf(max, parts[i * ld]);
    for (int64_t i = 0; i < n; i++) {
        /* a part without tokens has the maximum -inf and weighs nothing */
        float weight = parts[i * ld] == -INFINITY ? 0.0f : expf(parts[i * ld] - max);
        sum += parts[i * ld + 1] * weight;
        o += parts[i * ld + 2 + d] * weight;
    }
}

/* parts [B H][n_parts][2 + D]; a block is one part of one head. */
__global__ void __launch_bounds__(32 * WARPS)
    attention_decode_part(par_attention_decode a, int64_t n_parts, float *parts) {
    PAR_SHARED(float, shared);
    int64_t head = blockIdx.x / n_parts, part = blockIdx.x % n_parts, b = head / a.H,
            h = head % a.H;
    int64_t end = (part + 1) * PART < a.n ? (part + 1) * PART : a.n, ld = part_floats(a.D);
    const rows keys = cached(a, a.k, b, h), values = cached(a, a.v, b, h);
    float max = -INFINITY, sum = 0;
    float4 q[GROUPS], x[GROUPS], o[GROUPS] = {};
    load_lane(single(a, a.q, a.ldq, b, h), 0, q);
    for (int64_t t = part * PART + threadIdx.y; t < end; t += WARPS) {
        load_lane(keys, t, x);
        float score = a.scale * par__warp_sum(dot_lane(q, x)), before = max;
        max = fmaxf(before, score);
        float shrink = expf(before - max), weight = expf(score - max);
        sum = sum * shrink + weight;
        load_lane(values, t, x);
        add_lane(o, shrink, x, weight);
    }
    float *own = shared + threadIdx.y * ld;
    if (threadIdx.x == 0) own[0] = max, own[1] = sum;
    put_lane(own + 2, o, a.D);
    __syncthreads();
    int64_t d = threadIdx.y * 32 + threadIdx.x;
    if (d >= a.D) return;
    float *out = parts + (int64_t)blockIdx.x * ld, all;
    combine(shared, ld, WARPS, d, max, sum, all);
    if (d == 0) out[0] = max, out[1] = sum;
    out[2 + d] = all;
}

template <typename T>
__global__ void __launch_bounds__(256)
    attention_decode_sum(par_attention_decode a, int64_t n_parts, const float *parts) {
    int64_t head = blockIdx.x, d = threadIdx.x;
    float max, sum, o;
    if (d >= a.D) return;
    combine(parts + head * n_parts * part_floats(a.D), part_floats(a.D), n_parts, d, max, sum, o);
    par__store((T *)a.o + head / a.H * a.ldo + head % a.H * a.D + d, n_parts > 0 ? o / sum : 0.0f);
}

template <typename T>
static par_status add_parts(par_stream *stream, const par_attention_decode *a, int64_t n_parts,
                            const float *parts) {
    PAR_LAUNCH((attention_decode_sum<T>), dim3((unsigned)(a->B * a->H)), dim3(256), 0, stream, *a,
               n_parts, parts);
    return par__cuda_launched("attention_decode_sum");
}

extern "C" par_status par__cuda_attention_decode_prepare(const void *args,
                                                         size_t *workspace_nbytes) {
    const par_attention_decode *a = (const par_attention_decode *)args;
    int64_t n_parts = par__blocks(a->capacity, PART);
    if (a->D > MAX_D || (a->B * a->H > 0 && n_parts > INT32_MAX / (a->B * a->H)))
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "device cuda: decoding of B %lld, %lld heads of %lld, a cache of %lld tokens: "
                 "head sizes up to "
                 "%d and 2^31 - 1 blocks of %d tokens are supported",
                 (long long)a->B, (long long)a->H, (long long)a->D, (long long)a->capacity, MAX_D,
                 PART);
    *workspace_nbytes = (size_t)(a->B * a->H * n_parts * part_floats(a->D)) * sizeof(float);
    return PAR_OK;
}

extern "C" par_status par__cuda_attention_decode(par_stream *stream, const void *args,
                                                 void *workspace) {
    const par_attention_decode *a = (const par_attention_decode *)args;
    int64_t n_parts = par__blocks(a->n, PART);
    if (a->B * a->H * a->D == 0) return PAR_OK;
    PAR_REQUIRE(workspace || n_parts == 0);
    if (n_parts > 0) {
        PAR_LAUNCH((attention_decode_part), dim3((unsigned)(a->B * a->H * n_parts)),
                   dim3(32, WARPS), WARPS * part_floats(a->D) * sizeof(float), stream, *a, n_parts,
                   (float *)workspace);
        PAR_TRY(par__cuda_launched("attention_decode_part"));
    }
    return PAR_DISPATCH(a->dtype, add_parts, stream, a, n_parts, (const float *)workspace);
}
