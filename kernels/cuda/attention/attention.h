/*
 * The two forms of attention of the cuda backend: own kernels for every shape up to D = 256, and
 * cuDNN's fused attention for 16-bit types. attention.c chooses. Their statistics agree (natural
 * logarithm of the sum of the scaled scores' exponentials), so that a forward of one and a backward
 * of the other fit together.
 */
#ifndef PAR__CUDA_ATTENTION_H
#define PAR__CUDA_ATTENTION_H

#include "par/kernels.h"

par_status par__cuda_attention_init(const par_device_params *params, par_backend *backend);

/* cuDNN: cudnn.c. */

/* Limits and files, once, before anything else; keeps nothing of params but its values. */
par_status par__cudnn_attention_init(const par_device_params *params);
/* What cuDNN says of a shape. */
typedef struct {
    size_t workspace_nbytes;
    const char *why;    /* NULL: it computes it; else own kernels do, for this reason */
    const char *remedy; /* with why: what would let it; NULL: nothing */
} par__cudnn_attention;

/* Builds the plan. Errors: PAR_ERR_UNSUPPORTED if the deterministic backward needs more workspace
 * than it may have; PAR_ERR_DEVICE. */
par_status par__cudnn_attention_prepare(const par_attention *a, bool backward,
                                        par__cudnn_attention *out);
/* "cuDNN 9.19.0, deterministic" */
const char *par__cudnn_attention_name(bool backward);
/* *usable as prepare said for the shape, and false for pointers that are not aligned to 16 bytes.
 * Errors: PAR_ERR_ARG if prepare never saw the shape. */
par_status par__cudnn_attention_run(par_stream *stream, const par_attention *a, bool backward,
                                    void *workspace, bool *usable);

#endif
