/* What the product needs of an own kernel. */
#ifndef PAR__CUDA_GEMM_H
#define PAR__CUDA_GEMM_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* c[i,j] = beta · c[i,j] + bias[j]; bias NULL: zeros. c [m,n] of dtype_c, bias [n] of dtype. With beta 0 the
 * old value is not read. */
par_status par__cuda_add_bias(par_stream *stream, const par_gemm *args, float beta);

#ifdef __cplusplus
}
#endif
#endif
