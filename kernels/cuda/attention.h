/*
 * The two forms of attention of the cuda backend: own kernels for every shape up to D = 256, and
 * cuDNN's fused attention for 16-bit types. attention.c chooses. Their statistics agree (natural
 * logarithm of the sum of the scaled scores' exponentials), so that a forward of one and a backward
 * of the other fit together.
 */
#ifndef PAR__CUDA_ATTENTION_H
#define PAR__CUDA_ATTENTION_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Own kernels: attention_forward.cu, attention_backward.cu. */
enum { PAR__ATTENTION_OWN_D = 256 };
par_status par__cuda_attention_own_check(const par_attention *a);
par_status par__cuda_attention_own_prepare(const par_attention *a, size_t *workspace_nbytes);
par_status par__cuda_attention_own(par_stream *stream, const par_attention *a);
par_status par__cuda_attention_own_backward_prepare(const par_attention *a,
                                                    size_t *workspace_nbytes);
par_status par__cuda_attention_own_backward(par_stream *stream, const par_attention *a,
                                            void *workspace);

/* attention_decode.cu */
par_status par__cuda_attention_decode_prepare(const void *args, size_t *workspace_nbytes);
par_status par__cuda_attention_decode(par_stream *stream, const void *args, void *workspace);

/* cuDNN: attention_cudnn.c. */

/* Limits and files, once, before anything else; keeps nothing of params but its values. */
par_status par__cudnn_attention_init(const par_device_params *params);
/* *usable is false if cuDNN has nothing for this shape and device: own kernels then do it. Builds
 * the plan. Errors: PAR_ERR_UNSUPPORTED if the deterministic backward needs more workspace than it
 * may have. */
par_status par__cudnn_attention_prepare(const par_attention *a, bool backward, bool *usable,
                                        size_t *workspace_nbytes);
/* *usable as prepare said for the shape, and false for pointers that are not aligned to 16 bytes.
 * Errors: PAR_ERR_ARG if prepare never saw the shape. */
par_status par__cudnn_attention_run(par_stream *stream, const par_attention *a, bool backward,
                                    void *workspace, bool *usable);

#ifdef __cplusplus
}
#endif
#endif
