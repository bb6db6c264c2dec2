/*
 * Plans of products: what cuBLASLt is told of a shape, its types, alignment and epilogue, and the
 * algorithm that was chosen for it. cuBLASLt stores by columns: our c [m,n] by rows is its cᵀ [n,m]
 * by columns, so it is asked for cᵀ = op(b)ᵀ · op(a)ᵀ, with our b as its first factor; nothing is
 * copied or turned.
 */
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/gemm.h"

enum { MAX_CANDIDATES = 8 };

static cublasLtHandle_t handle;
static bool tf32;
static par__gemm_plan *plans;
static int n_plans, max_plans;

par_status par__gemm_failed(cublasStatus_t status, const char *call) {
    par_status st = status == CUBLAS_STATUS_ALLOC_FAILED ? PAR_ERR_MEMORY : PAR_ERR_UNSUPPORTED;
    PAR_FAIL(st, "CUDA device %d: %s: %s (%s)", par__cuda_device_get()->device, call,
             cublasLtGetStatusString(status), cublasLtGetStatusName(status));
}

static cudaDataType_t type_of(par_dtype dtype) {
    return dtype == PAR_F32 ? CUDA_R_32F : dtype == PAR_BF16 ? CUDA_R_16BF : CUDA_R_16F;
}

int64_t par__gemm_nbytes(par_dtype dtype) {
    return dtype == PAR_F32 ? 4 : 2;
}

static bool is_aligned(const void *p, int64_t ld, par_dtype dtype) {
    return (uintptr_t)p % PAR__GEMM_ALIGNED == 0 &&
           ld * par__gemm_nbytes(dtype) % PAR__GEMM_ALIGNED == 0;
}

/* GELU and its backward have a matrix beside c. */
static bool has_aux(int32_t epilogue) {
    return epilogue == PAR_EPILOGUE_GELU || epilogue == PAR_EPILOGUE_GELU_BACKWARD;
}

par__gemm_key par__gemm_key_of(const par_gemm *g, bool bias) {
    par__gemm_key out;
    memset(&out, 0, sizeof out);
    out.m = g->m, out.n = g->n, out.k = g->k;
    out.lda = g->lda, out.ldb = g->ldb, out.ldc = g->ldc;
    out.dtype = (int32_t)g->dtype, out.dtype_c = (int32_t)g->dtype_c;
    out.ta = g->ta, out.tb = g->tb, out.bias = bias, out.epilogue = (int32_t)g->epilogue;
    out.aligned = is_aligned(g->a, g->lda, g->dtype) && is_aligned(g->b, g->ldb, g->dtype) &&
                  is_aligned(g->c, g->ldc, g->dtype_c) &&
                  (!bias || (uintptr_t)g->bias % PAR__GEMM_ALIGNED == 0) &&
                  (!has_aux(out.epilogue) || (uintptr_t)g->aux % PAR__GEMM_ALIGNED == 0);
    return out;
}

static par__gemm_plan *find(const par__gemm_key *k) {
    for (int i = 0; i < n_plans; i++)
        if (memcmp(&plans[i].key, k, sizeof *k) == 0) return &plans[i];
    return NULL;
}

static void destroy(par__gemm_plan *p) {
    if (p->c) cublasLtMatrixLayoutDestroy(p->c);
    if (p->b) cublasLtMatrixLayoutDestroy(p->b);
    if (p->a) cublasLtMatrixLayoutDestroy(p->a);
    if (p->operation) cublasLtMatmulDescDestroy(p->operation);
}

/* cuBLASLt's GELU is the tanh form. Its second factor is our a. */
static cublasLtEpilogue_t epilogue_of(const par__gemm_key *k) {
    if (k->epilogue == PAR_EPILOGUE_GELU)
        return k->bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    if (k->epilogue == PAR_EPILOGUE_GELU_BACKWARD) return CUBLASLT_EPILOGUE_DGELU;
    if (k->epilogue == PAR_EPILOGUE_BIAS_GRADIENT) return CUBLASLT_EPILOGUE_BGRADB;
    return k->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

/* The types of what the epilogue reads or writes beside c; a bias and its gradient have the type of
 * c. */
static par_status describe_epilogue(par__gemm_plan *p) {
    const par__gemm_key *k = &p->key;
    cudaDataType_t type_aux = type_of((par_dtype)k->dtype), type_gradient = CUDA_R_32F;
    if (k->epilogue == PAR_EPILOGUE_BIAS_GRADIENT)
        PAR__LT_TRY(cublasLtMatmulDescSetAttribute(p->operation,
                                                   CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE,
                                                   &type_gradient, sizeof type_gradient));
    if (!has_aux(k->epilogue)) return PAR_OK;
    PAR__LT_TRY(cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD,
                                               &k->ldc, sizeof k->ldc));
    PAR__LT_TRY(cublasLtMatmulDescSetAttribute(
        p->operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, &type_aux, sizeof type_aux));
    return PAR_OK;
}

static par_status describe_operation(par__gemm_plan *p) {
    const par__gemm_key *k = &p->key;
    cublasOperation_t first = k->tb ? CUBLAS_OP_T : CUBLAS_OP_N,
                      second = k->ta ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasComputeType_t compute =
        k->dtype == PAR_F32 && tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    cublasLtEpilogue_t epilogue = epilogue_of(k);
    PAR__LT_TRY(cublasLtMatmulDescCreate(&p->operation, compute, CUDA_R_32F));
    PAR__LT_TRY(cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_TRANSA, &first,
                                               sizeof first));
    PAR__LT_TRY(cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_TRANSB, &second,
                                               sizeof second));
    PAR__LT_TRY(cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_EPILOGUE,
                                               &epilogue, sizeof epilogue));
    return describe_epilogue(p);
}

/* By columns: a matrix of r rows and c columns of ours has c rows and r columns. */
static par_status describe_matrices(par__gemm_plan *p) {
    const par__gemm_key *k = &p->key;
    cudaDataType_t type = type_of((par_dtype)k->dtype), type_c = type_of((par_dtype)k->dtype_c);
    uint64_t b_rows = (uint64_t)(k->tb ? k->k : k->n), b_columns = (uint64_t)(k->tb ? k->n : k->k);
    uint64_t a_rows = (uint64_t)(k->ta ? k->m : k->k), a_columns = (uint64_t)(k->ta ? k->k : k->m);
    PAR__LT_TRY(cublasLtMatrixLayoutCreate(&p->b, type, b_rows, b_columns, k->ldb));
    PAR__LT_TRY(cublasLtMatrixLayoutCreate(&p->a, type, a_rows, a_columns, k->lda));
    PAR__LT_TRY(cublasLtMatrixLayoutCreate(&p->c, type_c, (uint64_t)k->n, (uint64_t)k->m, k->ldc));
    return PAR_OK;
}

static par_status set_alignments(cublasLtMatmulPreference_t preference, const par__gemm_key *k) {
    static const cublasLtMatmulPreferenceAttributes_t which[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    for (int i = 0; i < 4; i++) {
        uint32_t least = (uint32_t)par__gemm_nbytes((par_dtype)(i < 2 ? k->dtype : k->dtype_c));
        uint32_t nbytes = k->aligned ? PAR__GEMM_ALIGNED : least;
        PAR__LT_TRY(
            cublasLtMatmulPreferenceSetAttribute(preference, which[i], &nbytes, sizeof nbytes));
    }
    return PAR_OK;
}

/* "No such algorithm", by the statuses documented for it, in contrast to a library that fails. */
static bool is_refusal(cublasStatus_t status, int n) {
    return status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE ||
           (status == CUBLAS_STATUS_SUCCESS && n == 0);
}

static par_status choose(par__gemm_plan *p) {
    par_status st = PAR_OK;
    const par__gemm_key *k = &p->key;
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t candidates[MAX_CANDIDATES];
    size_t nbytes = PAR__GEMM_WORKSPACE;
    int n = 0, chosen = 0;
    PAR__LT_TRY(cublasLtMatmulPreferenceCreate(&preference));
    cublasStatus_t status = cublasLtMatmulPreferenceSetAttribute(
        preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &nbytes, sizeof nbytes);
    if (status == CUBLAS_STATUS_SUCCESS) st = set_alignments(preference, k);
    if (status == CUBLAS_STATUS_SUCCESS && st == PAR_OK)
        status = cublasLtMatmulAlgoGetHeuristic(handle, p->operation, p->b, p->a, p->c, p->c,
                                                preference, MAX_CANDIDATES, candidates, &n);
    cublasLtMatmulPreferenceDestroy(preference);
    PAR_TRY(st);
    p->refused = k->epilogue == PAR_EPILOGUE_BIAS_GRADIENT && is_refusal(status, n);
    if (p->refused) return PAR_OK;
    if (status != CUBLAS_STATUS_SUCCESS || n == 0)
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "cuBLASLt has no algorithm for [%lld,%lld] = [%lld,%lld] x [%lld,%lld] in %s: %s",
                 (long long)k->m, (long long)k->n, (long long)k->m, (long long)k->k,
                 (long long)k->k, (long long)k->n,
                 k->dtype == PAR_F32    ? "fp32"
                 : k->dtype == PAR_BF16 ? "bf16"
                                        : "fp16",
                 cublasLtGetStatusString(status));
    PAR_TRY(par__gemm_choose(p, candidates, n, &chosen));
    p->algorithm = candidates[chosen].algo;
    return PAR_OK;
}

static par_status add(const par__gemm_key *k, par__gemm_plan **out) {
    par__gemm_plan made = {.key = *k};
    if (n_plans == max_plans) {
        int max = max_plans ? 2 * max_plans : 64;
        par__gemm_plan *more = realloc(plans, (size_t)max * sizeof *more);
        if (!more) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %d plans of products", max);
        plans = more;
        max_plans = max;
    }
    par_status st = describe_operation(&made);
    if (st == PAR_OK) st = describe_matrices(&made);
    if (st == PAR_OK) st = choose(&made);
    if (st != PAR_OK) {
        destroy(&made);
        return st;
    }
    plans[n_plans] = made;
    *out = &plans[n_plans++];
    return PAR_OK;
}

par_status par__gemm_plan_get(const par__gemm_key *k, par__gemm_plan **out) {
    *out = find(k);
    return *out ? PAR_OK : add(k, out);
}

par_status par__gemm_point(const par__gemm_plan *p, const void *bias, const void *aux) {
    if (p->key.bias || p->key.epilogue == PAR_EPILOGUE_BIAS_GRADIENT)
        PAR__LT_TRY(cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                                   &bias, sizeof bias));
    if (has_aux(p->key.epilogue))
        PAR__LT_TRY(cublasLtMatmulDescSetAttribute(
            p->operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &aux, sizeof aux));
    return PAR_OK;
}

par_status par__gemm_choose_again(void) {
    for (int i = 0; i < n_plans; i++) PAR_TRY(choose(&plans[i]));
    return PAR_OK;
}

void par__gemm_open_plans(cublasLtHandle_t opened, bool as_tf32) {
    handle = opened;
    tf32 = as_tf32;
}
