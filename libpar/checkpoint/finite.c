/* The numbers of a state: inf and NaN, which no checkpoint may hold. */
#include <stdint.h>
#include <string.h>

#include "libpar/checkpoint/checkpoint.h"

/* The bits of the exponent, all set in inf and NaN; 0: a type without them. */
static uint32_t exponent_of(par_dtype dtype) {
    switch (dtype) {
    case PAR_F32: return 0x7f800000;
    case PAR_BF16: return 0x7f80;
    case PAR_F16: return 0x7c00;
    default: return 0;
    }
}

/* Of the first element that is not finite; -1: all are. */
static int64_t find(const char *data, int64_t n, size_t item, uint32_t exponent) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t x = 0;
        memcpy(&x, data + (size_t)i * item, item); /* little-endian */
        if ((x & exponent) == exponent) return i;
    }
    return -1;
}

/* Without a branch for each element: most states are finite. */
static bool all_finite(const char *data, int64_t n, size_t item, uint32_t exponent) {
    uint32_t bad = 0;
    for (int64_t i = 0; item == 4 && i < n; i++) {
        uint32_t x;
        memcpy(&x, data + 4 * i, 4);
        bad |= (x & exponent) == exponent;
    }
    for (int64_t i = 0; item == 2 && i < n; i++) {
        uint16_t x;
        memcpy(&x, data + 2 * i, 2);
        bad |= (x & exponent) == exponent;
    }
    return !bad;
}

par_status par__check_finite(const par_checkpoint_run *r, int64_t at, int64_t n, const char *data) {
    size_t item = par_dtype_nbytes(r->dtype);
    uint32_t exponent = exponent_of(r->dtype);
    if (exponent == 0 || all_finite(data, n, item, exponent)) return PAR_OK;
    PAR_FAIL(PAR_ERR_NUMERIC,
             "%s/%s: element %lld of this rank's %lld is not finite: not saved, older checkpoints "
             "stay",
             r->kind, r->name, (long long)(at + find(data, n, item, exponent)), (long long)r->n);
}
