/*
 * The own kernels, as C sees them: what each topic adds to the backend's table, and those that
 * gemm/ and attention/ call where a library has no form of its own.
 */
#ifndef PAR__CUDA_OWN_H
#define PAR__CUDA_OWN_H

#include "par/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One per topic: fills its operations of the table. */
void par__cuda_norm_init(par_backend *backend);
void par__cuda_norm_backward_init(par_backend *backend);
void par__cuda_rope_init(par_backend *backend);
void par__cuda_activation_init(par_backend *backend);
void par__cuda_residual_init(par_backend *backend);
void par__cuda_column_sum_init(par_backend *backend);
void par__cuda_embedding_init(par_backend *backend);
void par__cuda_xent_init(par_backend *backend);
void par__cuda_update_init(par_backend *backend); /* adamw, sgd, norm2, cast */
void par__cuda_vote_init(par_backend *backend);
void par__cuda_quantize_init(par_backend *backend);
void par__cuda_gemm_int8_init(par_backend *backend);

/* gemm_bias.cu: c[i,j] = beta · c[i,j] + bias[j]; bias NULL: zeros. c [m,n] of dtype_c, bias [n] of
 * dtype. With beta 0 the old value is not read. */
par_status par__cuda_add_bias(par_stream *stream, const par_gemm *args, float beta);

/* attention_forward.cu, attention_backward.cu: every type and shape, D up to 256. */
par_status par__cuda_attention_own_prepare(const par_attention *a, size_t *workspace_nbytes);
par_status par__cuda_attention_own(par_stream *stream, const par_attention *a);
par_status par__cuda_attention_own_backward_prepare(const par_attention *a,
                                                    size_t *workspace_nbytes);
par_status par__cuda_attention_own_backward(par_stream *stream, const par_attention *a,
                                            void *workspace);

/* attention_mma_forward.cu, attention_mma_backward.cu: the same on tensor cores, for 16-bit types,
 * D a multiple of 8 and rows of whole 16 bytes. delta [B, H, T] is workspace. */
par_status par__cuda_attention_mma_prepare(const par_attention *a);
par_status par__cuda_attention_mma(par_stream *stream, const par_attention *a);
par_status par__cuda_attention_mma_backward_prepare(const par_attention *a);
par_status par__cuda_attention_mma_backward(par_stream *stream, const par_attention *a,
                                            float *delta);

/* attention_wgmma_forward.cu, attention_wgmma_backward.cu: what these two call on compute
 * capability 9.0 for D up to 128. delta is computed. */
par_status par__cuda_attention_wgmma_prepare(const par_attention *a);
par_status par__cuda_attention_wgmma(par_stream *stream, const par_attention *a);
par_status par__cuda_attention_wgmma_backward_prepare(const par_attention *a);
par_status par__cuda_attention_wgmma_backward(par_stream *stream, const par_attention *a,
                                              const float *delta);

/* attention_decode.cu */
par_status par__cuda_attention_decode_prepare(const void *args, size_t *workspace_nbytes);
par_status par__cuda_attention_decode(par_stream *stream, const void *args, void *workspace);

#ifdef __cplusplus
}
#endif
#endif
