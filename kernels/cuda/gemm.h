/* The inside of the products: plans (gemm_plan.c), the choice among candidates (gemm_choose.c), an
 * own kernel. */
#ifndef PAR__CUDA_GEMM_H
#define PAR__CUDA_GEMM_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* c[i,j] = beta · c[i,j] + bias[j]; bias NULL: zeros. c [m,n] of dtype_c, bias [n] of dtype. With
 * beta 0 the old value is not read. */
par_status par__cuda_add_bias(par_stream *stream, const par_gemm *args, float beta);

#ifdef __cplusplus
}
#else

#include <cublasLt.h>

/* Workspace: NVIDIA's advice for sm_90; other devices use less of it. */
enum { PAR__GEMM_WORKSPACE = 32 << 20, PAR__GEMM_ALIGNED = 16 };

/* What a plan depends on; compared as bytes, so it is cleared before it is filled. */
typedef struct {
    int64_t m, n, k, lda, ldb, ldc;
    int32_t dtype, dtype_c, ta, tb, bias, epilogue;
    int32_t aligned; /* all pointers and rows to 16 bytes */
} par__gemm_key;

typedef struct {
    par__gemm_key key;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulAlgo_t algorithm;
    bool refused; /* cuBLASLt has no algorithm with the bias gradient: product and column sum are
                     run apart */
} par__gemm_plan;

#define PAR__LT_TRY(call)                                                                          \
    do {                                                                                           \
        cublasStatus_t status_ = (call);                                                           \
        if (status_ != CUBLAS_STATUS_SUCCESS) return par__gemm_failed(status_, #call);             \
    } while (0)
par_status par__gemm_failed(cublasStatus_t status, const char *call);

/* gemm_plan.c */
void par__gemm_open_plans(cublasLtHandle_t handle, bool tf32);
par__gemm_key par__gemm_key_of(const par_gemm *args, bool bias);
int64_t par__gemm_nbytes(par_dtype dtype);
/* The plan of a key, made if it is not there. Only that of a bias gradient can be `refused`. */
par_status par__gemm_plan_get(const par__gemm_key *key, par__gemm_plan **out);
/* Pointers of the epilogue for the next product; bias: also where its gradient goes, on 16
 * bytes. */
par_status par__gemm_point(const par__gemm_plan *plan, const void *bias, const void *aux);
/* Choose again for every plan that there is. */
par_status par__gemm_choose_again(void);

/* gemm_choose.c */
void par__gemm_open_choices(cublasLtHandle_t handle, bool tune, par_backend *backend);
/* Which of n candidates: as the text of choices says, by time if that was asked for, else the
 * first. */
par_status par__gemm_choose(const par__gemm_plan *plan,
                            const cublasLtMatmulHeuristicResult_t *candidates, int n, int *out);

#endif
#endif
