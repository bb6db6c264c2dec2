/*
 * Operations of a backend whose memory the host cannot touch, on operands that lie on the host:
 * bench.c uses it, so that the same cases run for each backend. Whatever a pointer of the
 * arguments points at is copied to the device with what lies around it, and back after the
 * operation.
 */
#ifndef PAR_TESTS_DEVICE_H
#define PAR_TESTS_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "par/kernels.h"

/* Memory of the host with its surroundings: what the operation may touch, and what it must not. */
typedef struct {
    unsigned char *begin; /* first byte that is copied */
    size_t nbytes;
} device_range;

/* The whole buffer, guards included, that a pointer points into; nbytes 0: none, then what the
 * operand's shape says is copied. */
typedef device_range device_find(void *user, const void *data);

/* prepare, run and sync; the workspace is on the device, poisoned and guarded. *intact: nothing was
 * written outside of operands and workspace. */
par_status device_call(const par_backend *backend, par_op op, const void *args, device_find *find,
                       void *user, bool *intact);

#endif
