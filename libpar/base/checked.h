/* Checked arithmetic on sizes: true means that the result is right. */
#ifndef PAR__CHECKED_H
#define PAR__CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool par__mul(size_t a, size_t b, size_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool par__add(size_t a, size_t b, size_t *out) {
    return !__builtin_add_overflow(a, b, out);
}
static inline bool par__mul64(int64_t a, int64_t b, int64_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool par__add64(int64_t a, int64_t b, int64_t *out) {
    return !__builtin_add_overflow(a, b, out);
}
/* Of counts from 0 on: the sum, or INT64_MAX. */
static inline int64_t par__add_counts(int64_t a, int64_t b) {
    int64_t sum;
    return par__add64(a, b, &sum) ? sum : INT64_MAX;
}
/* The whole part of a number; what int64_t cannot hold is its nearest end, and no number is 0. */
static inline int64_t par__whole(double x) {
    if (x >= 0x1p63) return INT64_MAX;
    if (x < -0x1p63) return INT64_MIN;
    return x == x ? (int64_t)x : 0;
}

#endif
