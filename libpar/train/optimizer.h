/* Norms of the gradients, the update, and weights rounded from fp32: the kernels that run over the
 * flat space. */
#ifndef PAR__OPTIMIZER_H
#define PAR__OPTIMIZER_H

#include "flat.h"

typedef struct {
    const par__context *on;
    const par__flat *flat;
    double *norms;   /* [n_params][2] of the norm kernel, on the device */
    void *workspace; /* of these kernels */
} par__optimizer;

par_status par__optimizer_take(par__optimizer *optimizer, const par__context *on,
                               const par__flat *flat);
/* Enqueue the norms of the gradients that this rank counts. */
par_status par__optimizer_norms(par__optimizer *optimizer);
/* Enqueue the update that the vote decided, of one bucket; `step` lies on the device. */
par_status par__optimizer_update(par__optimizer *optimizer, const par_step *step, int bucket);

/* Where fp32 values of a parameter [local] are put before par__optimizer_adopt: the weight itself,
 * or the gradient's memory, which has the size and type and is free between steps. NULL where there
 * is neither: 16 bits, inference. */
float *par__optimizer_room(const par__optimizer *optimizer, const par__segment *whole);
/* What was put there for every parameter becomes the master's, and rounded the weights. Zeroes the
 * gradients whose memory was used. */
par_status par__optimizer_adopt(par__optimizer *optimizer);

#endif
