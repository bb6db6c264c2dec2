/*
 * What the own attention kernels share: a block of 16 x 16 threads works on tiles of TILE queries
 * and TILE keys that lie in shared memory in fp32, of up to DP channels, zeros behind the last
 * token and channel. A thread (y, x) has rows y R .. y R + R - 1 of a score tile and columns x, x +
 * 16, ...; of a product with channels it has the same rows and channels 4 x .. 4 x + 3 of every 64.
 * Rows of channels are 4 floats longer than DP, so that 8 threads that read 16 bytes of 8 rows meet
 * 8 different groups of banks.
 */
#ifndef PAR__ATTENTION_TILE_CUH
#define PAR__ATTENTION_TILE_CUH

#include "kernels/cuda/own/attention_documents.cuh"
#include "kernels/cuda/own/dropout.cuh"
#include "kernels/cuda/own/own.h"

enum { SIDE = 16, THREADS = SIDE * SIDE, MAX_D = 256 };

/* Shapes that the own kernels do not have. */
static inline par_status check_shape(const par_attention *a) {
    if (a->D > MAX_D)
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "device cuda: attention with head size %lld: at most %d is supported",
                 (long long)a->D, MAX_D);
    int64_t blocks = (a->T / 32 + 1) * a->B;
    if (a->H > 0 && blocks > INT32_MAX / a->H)
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "device cuda: attention of B %lld, T %lld, H %lld needs more than 2^31 - 1 blocks",
                 (long long)a->B, (long long)a->T, (long long)a->H);
    return PAR_OK;
}

/* Shapes, and pointers, that kernels on tensor cores have: 16 bits, rows of whole 16 bytes. */
static inline bool mma_has_shape(const par_attention *a) {
    return a->dtype != PAR_F32 && a->D % 8 == 0 && a->D > 0 && a->scale > 0 &&
           a->T < INT32_MAX / 2 && par__cuda_device_get()->major >= 8;
}
static inline bool mma_has_forward(const par_attention *a) {
    return mma_has_shape(a) && par__packable<par__bf16>(a->q, a->ldq) &&
           par__packable<par__bf16>(a->k, a->ldk) && par__packable<par__bf16>(a->v, a->ldv) &&
           par__packable<par__bf16>(a->o, a->ldo);
}
static inline bool mma_has_backward(const par_attention *a) {
    return mma_has_forward(a) && par__packable<par__bf16>(a->d_o, a->ldd_o) &&
           par__packable<par__bf16>(a->dq, a->lddq) && par__packable<par__bf16>(a->dk, a->lddk) &&
           par__packable<par__bf16>(a->dv, a->lddv);
}

template <int TILE, int DP> struct tile {
    enum {
        R = TILE / SIDE,    /* rows, and columns of scores, of a thread */
        LD = DP + 4,        /* floats from row to row of a tile of channels */
        LDS = TILE + 4,     /* of a tile of scores */
        FLOATS = TILE * LD, /* of a tile of channels */
        SCORES = TILE * LDS
    };
};

/* Tokens of one head of one batch entry: token t starts at data + t ld. */
struct rows {
    const char *data;
    par_dtype dtype;
    int64_t ld, T;
    int D;
    bool aligned; /* any 4 channels, from a multiple of 4 on, can be read and written at once */
};

__device__ static inline rows rows_of(const par_attention &a, const void *data, int64_t ld,
                                      int64_t b, int64_t h) {
    int size = a.dtype == PAR_F32 ? 4 : 2;
    const char *begin = (const char *)data + (b * a.T * ld + h * a.D) * size;
    bool aligned = (uint64_t)(uintptr_t)begin % (4 * size) == 0 && ld % 4 == 0 && a.D % 4 == 0;
    return {begin, a.dtype, ld, a.T, (int)a.D, aligned};
}

template <typename T> struct alignas(4 * sizeof(T)) quad { T x[4]; };

template <typename T>
__device__ static inline float4 load4(const void *data, int64_t at, int n, bool aligned) {
    const T *p = (const T *)data + at;
    float4 out = {0, 0, 0, 0};
    if (aligned) {
        quad<T> q = *(const quad<T> *)p;
        return {par__load(&q.x[0]), par__load(&q.x[1]), par__load(&q.x[2]), par__load(&q.x[3])};
    }
    out.x = par__load(&p[0]);
    if (n > 1) out.y = par__load(&p[1]);
    if (n > 2) out.z = par__load(&p[2]);
    if (n > 3) out.w = par__load(&p[3]);
    return out;
}

template <typename T>
__device__ static inline void store4(void *data, int64_t at, int n, bool aligned, float4 in) {
    T *p = (T *)data + at;
    if (aligned) {
        quad<T> q;
        par__store(&q.x[0], in.x);
        par__store(&q.x[1], in.y);
        par__store(&q.x[2], in.z);
        par__store(&q.x[3], in.w);
        *(quad<T> *)p = q;
        return;
    }
    par__store(&p[0], in.x);
    if (n > 1) par__store(&p[1], in.y);
    if (n > 2) par__store(&p[2], in.z);
    if (n > 3) par__store(&p[3], in.w);
}

/* to [TILE][LD] = tokens first .. first + TILE - 1. All threads call, and meet before they read. */
template <int TILE, int DP>
__device__ static inline void load_tile(float *to, const rows &x, int64_t first) {
    for (int i = threadIdx.x; i < TILE * DP / 4; i += THREADS) {
        int r = i / (DP / 4), d = i % (DP / 4) * 4;
        float4 value = {0, 0, 0, 0};
        if (first + r < x.T && d < x.D)
            value =
                PAR_DISPATCH(x.dtype, load4, x.data, (first + r) * x.ld + d, x.D - d, x.aligned);
        *(float4 *)&to[r * tile<TILE, DP>::LD + d] = value;
    }
}

/* Write a thread's rows of a product, times a factor a row. */
template <int TILE, int DP, int R = tile<TILE, DP>::R>
__device__ static inline void store_rows(const rows &x, int64_t first,
                                         const float4 (&in)[R][DP / 64], const float (&factor)[R]) {
    int row = threadIdx.x / SIDE * R, d = threadIdx.x % SIDE * 4;
#pragma unroll
    for (int i = 0; i < R; i++)
#pragma unroll
        for (int c = 0; c < DP / 64; c++) {
            float f = factor[i];
            float4 value = {in[i][c].x * f, in[i][c].y * f, in[i][c].z * f, in[i][c].w * f};
            if (first + row + i < x.T && d + 64 * c < x.D)
                PAR_DISPATCH(x.dtype, store4, (char *)x.data, (first + row + i) * x.ld + d + 64 * c,
                             x.D - d - 64 * c, x.aligned, value);
        }
}

/* s[i][j] = sum over channels of a[y R + i] · b[x + 16 j], in the channels' order. */
template <int TILE, int DP, int R = tile<TILE, DP>::R>
__device__ static inline void dot_rows(const float *a, const float *b, int D, float (&s)[R][R]) {
    enum { LD = tile<TILE, DP>::LD };
    const float *p = a + threadIdx.x / SIDE * R * LD, *q = b + threadIdx.x % SIDE * LD;
#pragma unroll
    for (int i = 0; i < R; i++)
#pragma unroll
        for (int j = 0; j < R; j++) s[i][j] = 0;
#pragma unroll 1
    for (int d = 0; d < D; d += 4) {
        float4 u[R], v[R];
#pragma unroll
        for (int i = 0; i < R; i++) u[i] = *(const float4 *)&p[i * LD + d];
#pragma unroll
        for (int j = 0; j < R; j++) v[j] = *(const float4 *)&q[j * SIDE * LD + d];
#pragma unroll
        for (int i = 0; i < R; i++)
#pragma unroll
            for (int j = 0; j < R; j++) {
                s[i][j] += u[i].x * v[j].x;
                s[i][j] += u[i].y * v[j].y;
                s[i][j] += u[i].z * v[j].z;
                s[i][j] += u[i].w * v[j].w;
            }
    }
}

/* out[i][c] += weight · x's row `token`, for one token. */
template <int TILE, int DP, int R = tile<TILE, DP>::R>
__device__ static inline void add_token(const float *x, int token, const float (&weight)[R],
                                        float4 (&out)[R][DP / 64]) {
    const float *row = x + token * tile<TILE, DP>::LD + threadIdx.x % SIDE * 4;
#pragma unroll
    for (int c = 0; c < DP / 64; c++) {
        float4 v = *(const float4 *)&row[64 * c];
#pragma unroll
        for (int i = 0; i < R; i++) {
            out[i][c].x += weight[i] * v.x;
            out[i][c].y += weight[i] * v.y;
            out[i][c].z += weight[i] * v.z;
            out[i][c].w += weight[i] * v.w;
        }
    }
}

/* out[rows] += s[rows, :] · x, in the order of x's tokens. */
template <int TILE, int DP, int R = tile<TILE, DP>::R>
__device__ static inline void add_product(const float *s, const float *x,
                                          float4 (&out)[R][DP / 64]) {
    const float *row = s + threadIdx.x / SIDE * R * tile<TILE, DP>::LDS;
#pragma unroll 4
    for (int token = 0; token < TILE; token++) {
        float weight[R];
#pragma unroll
        for (int i = 0; i < R; i++) weight[i] = row[i * tile<TILE, DP>::LDS + token];
        add_token<TILE, DP>(x, token, weight, out);
    }
}

/* out[rows] += sᵀ[rows, :] · x: the rows are columns of s. */
template <int TILE, int DP, int R = tile<TILE, DP>::R>
__device__ static inline void add_transposed(const float *s, const float *x,
                                             float4 (&out)[R][DP / 64]) {
    const float *column = s + threadIdx.x / SIDE * R;
#pragma unroll 4
    for (int token = 0; token < TILE; token++) {
        float weight[R];
#pragma unroll
        for (int i = 0; i < R; i++) weight[i] = column[token * tile<TILE, DP>::LDS + i];
        add_token<TILE, DP>(x, token, weight, out);
    }
}

/* A thread's scores to and from a tile of scores. */
template <int TILE, int R> __device__ static inline float *score_at(float *s, int i, int j) {
    return &s[(threadIdx.x / SIDE * R + i) * (TILE + 4) + threadIdx.x % SIDE + SIDE * j];
}

template <int TILE, int R>
__device__ static inline void put_scores(float *to, const float (&s)[R][R]) {
#pragma unroll
    for (int i = 0; i < R; i++)
#pragma unroll
        for (int j = 0; j < R; j++) *score_at<TILE, R>(to, i, j) = s[i][j];
}

/*
 * Multiply weights with the dropout's factors; the first row and column are tokens `query` and
 * `key` of head h of batch entry b. A warp changes the rows that its own threads have, and all its
 * threads wrote before. Neighbouring keys share their random words: 4 of them where 4 divides T.
 */
template <int TILE, int R>
__device__ static inline void drop(float *s, const par_attention &a, const par__device_dropout &d,
                                   int64_t b, int64_t h, int64_t query, int64_t key) {
    int x = threadIdx.x % SIDE * R, y = threadIdx.x / SIDE * R;
    for (int i = 0; i < R; i++) {
        int64_t first = (a.first_head + h) * a.T + key + x;
        uint32_t block = (uint32_t)(first / 4);
        par__words words = par__device_dropout_words(d, a.T, b * a.T + query + y + i, block);
        for (int j = 0; j < R; j++) {
            uint32_t wanted = (uint32_t)((first + j) / 4);
            if (wanted != block)
                words = par__device_dropout_words(d, a.T, b * a.T + query + y + i, block = wanted);
            int place = (int)((first + j) % 4);
            uint32_t word = place < 2 ? (place ? words.w[1] : words.w[0])
                                      : (place == 2 ? words.w[2] : words.w[3]);
            s[(y + i) * (TILE + 4) + x + j] *= par__device_dropout_factor(d, word);
        }
    }
}

/* Call kernel<TILE, DP> launchers by the head size: tiles that fit 99 KB of shared memory up to D =
 * 128. */
#define ATTENTION_DISPATCH(D, TILE_64, TILE_128, TILE_256, f, ...)                                 \
    ((D) <= 64    ? f<TILE_64, 64>(__VA_ARGS__)                                                    \
     : (D) <= 128 ? f<TILE_128, 128>(__VA_ARGS__)                                                  \
                  : f<TILE_256, 256>(__VA_ARGS__))

#endif
