/*
 * Dropout on the device, the same bits as kernels/dropout.h (par_dropout in par/kernels.h):
 * Philox4x32-10 (Salmon et al., SC 2011) of an element's coordinates. A call gives the words of 4
 * neighbouring elements.
 */
#ifndef PAR__DROPOUT_CUH
#define PAR__DROPOUT_CUH

#include "kernels/cuda/own/device.cuh"

/* A par_dropout as kernels take it: by value, made on the host by par__device_dropout_of. A kernel
 * calls par__device_dropout_begin on it before anything else. */
struct par__device_dropout {
    uint32_t key[2];
    uint32_t threshold; /* a word keeps its element if it is at least this; 0: everything is kept */
    uint32_t site;      /* in the upper 16 bits */
    float scale;        /* 1 / (1 - p) */
    int64_t first_sample;
    const int64_t *sample_base; /* NULL: 0 */
};

/* p has 24 bits and is below 1, so p · 2^32 rounded up is an integer below 2^32, and word >= it is
 * exact. */
static inline par__device_dropout par__device_dropout_of(const par_dropout *d) {
    par__device_dropout out;
    out.key[0] = (uint32_t)d->seed;
    out.key[1] = (uint32_t)(d->seed >> 32);
    out.threshold = (uint32_t)ceil((double)d->p * 4294967296.0);
    out.site = d->site << 16;
    out.scale = (float)(1.0 / (1.0 - (double)d->p));
    out.first_sample = d->first_sample;
    out.sample_base = d->sample_base;
    return out;
}

__device__ static inline void par__device_dropout_begin(par__device_dropout &d) {
    if (d.threshold && d.sample_base) d.first_sample += *d.sample_base;
}

struct par__words {
    uint32_t w[4];
};

__device__ static inline par__words par__philox(par__words c, uint32_t k0, uint32_t k1) {
#pragma unroll
    for (int round = 0; round < 10; round++) {
        uint32_t high0 = __umulhi(0xD2511F53u, c.w[0]), low0 = 0xD2511F53u * c.w[0];
        uint32_t high1 = __umulhi(0xCD9E8D57u, c.w[2]), low1 = 0xCD9E8D57u * c.w[2];
        c = {{high1 ^ c.w[1] ^ k0, low1, high0 ^ c.w[3] ^ k1, low0}};
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c;
}

/* The words of elements 4 · block .. 4 · block + 3 of a global row; T is the row period. Words 1 to
 * 3 of the counter depend on the row alone, so a loop over its blocks divides once. */
__device__ static inline par__words
par__device_dropout_words(const par__device_dropout &d, int64_t T, int64_t row, uint32_t block) {
    uint64_t n = (uint64_t)(d.first_sample + row / T);
    par__words counter = {
        {block, (uint32_t)(row % T), (uint32_t)n, ((uint32_t)(n >> 32) & 0xffffu) | d.site}};
    return par__philox(counter, d.key[0], d.key[1]);
}

/* What an element with this word is multiplied with. */
__device__ static inline float par__device_dropout_factor(const par__device_dropout &d,
                                                          uint32_t word) {
    return word >= d.threshold ? d.scale : 0.0f;
}

enum { PAR__DROPOUT_GROUP = 4 }; /* elements that one Philox call gives words for */

/* Elements [column, column + W) of a row, column a multiple of 4. A dropped one is 0 even if x is
 * not finite. */
template <int W>
__device__ static inline void par__drop(const par__device_dropout &d, int64_t T, int64_t row,
                                        int64_t column, par__pack<W> &v) {
#pragma unroll
    for (int group = 0; group < W / PAR__DROPOUT_GROUP; group++) {
        par__words words =
            par__device_dropout_words(d, T, row, (uint32_t)(column / PAR__DROPOUT_GROUP + group));
#pragma unroll
        for (int e = 0; e < PAR__DROPOUT_GROUP; e++) {
            float *x = &v.x[group * PAR__DROPOUT_GROUP + e];
            *x = words.w[e] >= d.threshold ? *x * d.scale : 0;
        }
    }
}

/* residual.cu: the operation */
par_status par__residual_launch(par_stream *stream, const par_residual *args);

#endif
