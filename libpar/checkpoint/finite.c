/* The numbers of a state: inf and NaN, which no checkpoint may hold. */
#include <stdint.h>
#include <string.h>

#include "libpar/checkpoint/checkpoint.h"

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
    /* The bits of the exponent, all set in inf and NaN; 0: a type without them. */
    uint32_t exponent = r->dtype == PAR_F32    ? 0x7f800000
                        : r->dtype == PAR_BF16 ? 0x7f80
                        : r->dtype == PAR_F16  ? 0x7c00
                                               : 0;
    if (exponent == 0 || all_finite(data, n, item, exponent)) return PAR_OK;
    int64_t i = 0;
    for (; i < n; i++) {
        uint32_t x = 0;
        memcpy(&x, data + (size_t)i * item, item); /* little-endian */
        if ((x & exponent) == exponent) break;
    }
    PAR_FAIL(PAR_ERR_NUMERIC,
             "%s/%s: element %lld of this rank's %lld is not finite: not saved, older checkpoints "
             "stay",
             r->kind, r->name, (long long)(at + i), (long long)r->n);
}
