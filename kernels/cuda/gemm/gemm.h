/*
 * The inside of the products, each file using those before it: lt.c makes every call of cuBLASLt,
 * choose.c chooses among its candidates, plan.c keeps a plan per shape, gemm.c is the operation.
 */
#ifndef PAR__CUDA_GEMM_H
#define PAR__CUDA_GEMM_H

#include <cublasLt.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/plan_cache.h"

par_status par__cuda_gemm_init(const par_device_params *params, par_backend *backend);

/* Workspace: NVIDIA's advice for sm_90; other devices use less of it. */
enum { PAR__GEMM_WORKSPACE = 32 << 20, PAR__GEMM_ALIGNED = 16, PAR__GEMM_CANDIDATES = 8 };

/* What a plan depends on; compared as bytes, so it is cleared before it is filled. */
typedef struct {
    int64_t m, n, k, lda, ldb, ldc;
    int32_t dtype, dtype_c, ta, tb, bias, epilogue;
    int32_t aligned; /* rows are of whole 16 bytes, so that pointers are to be on 16 bytes too */
} par__gemm_key;

typedef struct {
    const par__gemm_key *key; /* the cache's */
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulAlgo_t algorithm;
    bool refused; /* cuBLASLt has no algorithm with the bias gradient: product and column sum are
                     run apart */
} par__gemm_plan;

/* The memory of one product. bias: also where its gradient goes, on 16 bytes; it and aux are used
 * only by epilogues that have them. */
typedef struct {
    void *a, *b, *c, *bias, *aux, *workspace;
} par__gemm_operands;

/* lt.c: opens cuBLASLt, once. */
par_status par__lt_open(bool tf32);
/* "cuBLASLt 13.1.0, fp32 in full" */
const char *par__lt_name(void);
int64_t par__lt_nbytes(par_dtype dtype);
/* GELU and its backward have a matrix beside c. */
bool par__lt_has_aux(const par__gemm_key *key);
/* What cuBLASLt is told of a plan's key. On failure nothing is left. */
par_status par__lt_describe(par__gemm_plan *plan);
void par__lt_forget(par__gemm_plan *plan);
/* Algorithms for a described plan, best first; sets `refused`, then *n is 0. */
par_status par__lt_candidates(par__gemm_plan *plan,
                              cublasLtMatmulHeuristicResult_t out[PAR__GEMM_CANDIDATES], int *n);
/* c = op(a) op(b) + beta c, with the plan's epilogue. */
par_status par__lt_multiply(const par__gemm_plan *plan, const cublasLtMatmulAlgo_t *algorithm,
                            const par__gemm_operands *o, float beta, cudaStream_t stream);

/* choose.c */
void par__gemm_choices_open(bool tune);
/* Which of n candidates: as the text of choices says, by time if that was asked for, else the
 * first. */
par_status par__gemm_choose(const par__gemm_plan *plan,
                            const cublasLtMatmulHeuristicResult_t *candidates, int n, int *out);
/* What computes products, and how many of them were timed, in a line. */
const char *par__gemm_method(void);
/* par_backend's choices and choose; plans that were made before must choose again. */
const char *par__gemm_choices(void);
par_status par__gemm_choices_take(const char *text);

/* plan.c */
extern par__plan_cache par__gemm_plans; /* par__gemm_key -> par__gemm_plan */
par__gemm_key par__gemm_key_of(const par_gemm *args, bool bias);
par_status par__gemm_choose_again(void);

#endif
