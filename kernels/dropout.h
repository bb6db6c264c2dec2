/*
 * Dropout as a function of coordinates (par_dropout in par/kernels.h): which elements of a row are
 * kept. Shared by all host backends, so that the kept set is the same bits everywhere.
 */
#ifndef PAR__DROPOUT_H
#define PAR__DROPOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "par/kernels.h"
#include "par/random.h"

/* Number of the micro-batch's first sample. */
static inline uint64_t par__dropout_sample(const par_dropout *d) {
    return (uint64_t)(d->first_sample + (d->sample_base ? *d->sample_base : 0));
}

/* The random words of elements 4 · block .. 4 · block + 3 of a global row; T is the row period. */
static inline void par__dropout_words(const par_dropout *d, int64_t T, int64_t row, uint32_t block,
                                      uint32_t out[4]) {
    uint64_t n = par__dropout_sample(d) + (uint64_t)(row / T);
    const uint32_t counter[4] = {block, (uint32_t)(row % T), (uint32_t)n,
                                 ((uint32_t)(n >> 32) & 0xffffu) | d->site << 16};
    const uint32_t key[2] = {(uint32_t)d->seed, (uint32_t)(d->seed >> 32)};
    par_philox(counter, key, out);
}

/* A word keeps its element if it is at least this; exact, as p has 24 bits. */
static inline double par__dropout_threshold(const par_dropout *d) {
    return (double)d->p * 4294967296.0;
}

static inline double par__dropout_scale(const par_dropout *d) {
    return 1.0 / (1.0 - (double)d->p);
}

/* What element e of a row is multiplied with: 0, or 1 / (1 - p). */
static inline double par__dropout_factor(const par_dropout *d, int64_t T, int64_t row, int64_t e) {
    uint32_t words[4];
    if (d->p == 0) return 1.0;
    par__dropout_words(d, T, row, (uint32_t)(e / 4), words);
    return words[e % 4] >= par__dropout_threshold(d) ? par__dropout_scale(d) : 0.0;
}

#endif
