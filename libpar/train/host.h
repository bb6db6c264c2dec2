/*
 * The device's memory as the host gets at it between steps: initial weights, visits, checkpoints.
 * Where the device's memory is the host's own, nothing is copied; else everything goes through one
 * pinned piece of PAR__STAGING bytes, so that nothing is allocated and no address of the device is
 * read by the host. Every call waits for the stream.
 */
#ifndef PAR__HOST_H
#define PAR__HOST_H

#include "context.h"

enum { PAR__STAGING = 1 << 20 };

typedef struct {
    const par__context *on;
    char *staging;                     /* [PAR__STAGING]; NULL: the device's memory is the host's */
    par_checkpoint_staging checkpoint; /* the same, as checkpoints are told */
} par__host;

par_status par__host_take(par__host *host, const par__context *on);
/* Between host and device, any way; done on return. */
par_status par__host_copy(const par__host *host, void *dst, const void *src, size_t nbytes);
/* Elements of `size` bytes that view and store take at once: all n where no copy is needed. */
int64_t par__host_piece(const par__host *host, int64_t n, size_t size);
/* The bytes at a device's address, valid until the next call of these. */
par_status par__host_view(const par__host *host, const void *device, size_t nbytes,
                          const void **out);
/* Where the host puts what belongs to that address of the device; store then takes it there. */
void *par__host_room(const par__host *host, void *device);
par_status par__host_store(const par__host *host, void *device, size_t nbytes);

#endif
