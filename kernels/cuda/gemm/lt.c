/*
 * Every call of cuBLASLt: its handle, what it is told of a shape, its types, alignment and
 * epilogue, the algorithms that it offers, and the product. cuBLASLt stores by columns: our c [m,n]
 * by rows is its cᵀ [n,m] by columns, so it is asked for cᵀ = op(b)ᵀ · op(a)ᵀ, with our b as its
 * first factor; nothing is copied or turned.
 */
#include <stdio.h>

#include "kernels/cuda/gemm/gemm.h"
#include "kernels/cuda/methods.h"

static cublasLtHandle_t handle;
static bool tf32;

static par_status class_of(cublasStatus_t status) {
    switch (status) {
    case CUBLAS_STATUS_ALLOC_FAILED: return PAR_ERR_MEMORY;
    case CUBLAS_STATUS_NOT_SUPPORTED:
    case CUBLAS_STATUS_ARCH_MISMATCH: return PAR_ERR_UNSUPPORTED;
    case CUBLAS_STATUS_INVALID_VALUE: return PAR_ERR_INTERNAL; /* what it was told is ours */
    default: return PAR_ERR_DEVICE;
    }
}

static par_status failed(cublasStatus_t status, const char *call) {
    PAR_FAIL(class_of(status), "CUDA device %d: %s: %s (%s)", par__cuda_device_get()->device, call,
             cublasLtGetStatusString(status), cublasLtGetStatusName(status));
}

#define LT_TRY(call)                                                                               \
    do {                                                                                           \
        cublasStatus_t status_ = (call);                                                           \
        if (status_ != CUBLAS_STATUS_SUCCESS) return failed(status_, #call);                       \
    } while (0)

static cudaDataType_t type_of(par_dtype dtype) {
    return dtype == PAR_F32 ? CUDA_R_32F : dtype == PAR_BF16 ? CUDA_R_16BF : CUDA_R_16F;
}

int64_t par__lt_nbytes(par_dtype dtype) {
    return dtype == PAR_F32 ? 4 : 2;
}

bool par__lt_has_aux(const par__gemm_key *k) {
    return k->epilogue == PAR_EPILOGUE_GELU || k->epilogue == PAR_EPILOGUE_GELU_BACKWARD;
}

/* cuBLASLt's GELU is the tanh form. Its second factor is our a. */
static cublasLtEpilogue_t epilogue_of(const par__gemm_key *k) {
    if (k->epilogue == PAR_EPILOGUE_GELU)
        return k->bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    if (k->epilogue == PAR_EPILOGUE_GELU_BACKWARD) return CUBLASLT_EPILOGUE_DGELU;
    if (k->epilogue == PAR_EPILOGUE_BIAS_GRADIENT) return CUBLASLT_EPILOGUE_BGRADB;
    return k->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

/* The product, its epilogue with the types of what that reads or writes beside c, and the matrices.
 * A bias and its gradient have the type of c. By columns: a matrix of r rows and c columns of ours
 * has c rows and r columns. */
static par_status describe(par__gemm_plan *p) {
    const par__gemm_key *k = p->key;
    cublasOperation_t first = k->tb ? CUBLAS_OP_T : CUBLAS_OP_N,
                      second = k->ta ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasComputeType_t compute =
        k->dtype == PAR_F32 && tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    cublasLtEpilogue_t epilogue = epilogue_of(k);
    cudaDataType_t type = type_of((par_dtype)k->dtype), type_c = type_of((par_dtype)k->dtype_c),
                   type_aux = type, type_gradient = CUDA_R_32F;
    LT_TRY(cublasLtMatmulDescCreate(&p->operation, compute, CUDA_R_32F));
    LT_TRY(cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_TRANSA, &first,
                                          sizeof first));
    LT_TRY(cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_TRANSB, &second,
                                          sizeof second));
    LT_TRY(cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                          sizeof epilogue));
    if (k->epilogue == PAR_EPILOGUE_BIAS_GRADIENT)
        LT_TRY(cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE,
                                              &type_gradient, sizeof type_gradient));
    if (par__lt_has_aux(k)) {
        LT_TRY(cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD,
                                              &k->ldc, sizeof k->ldc));
        LT_TRY(cublasLtMatmulDescSetAttribute(
            p->operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, &type_aux, sizeof type_aux));
    }
    uint64_t b_rows = (uint64_t)(k->tb ? k->k : k->n), b_columns = (uint64_t)(k->tb ? k->n : k->k);
    uint64_t a_rows = (uint64_t)(k->ta ? k->m : k->k), a_columns = (uint64_t)(k->ta ? k->k : k->m);
    LT_TRY(cublasLtMatrixLayoutCreate(&p->b, type, b_rows, b_columns, k->ldb));
    LT_TRY(cublasLtMatrixLayoutCreate(&p->a, type, a_rows, a_columns, k->lda));
    LT_TRY(cublasLtMatrixLayoutCreate(&p->c, type_c, (uint64_t)k->n, (uint64_t)k->m, k->ldc));
    return PAR_OK;
}

par_status par__lt_describe(par__gemm_plan *p) {
    par_status st = describe(p);
    if (st != PAR_OK) par__lt_forget(p);
    return st;
}

void par__lt_forget(par__gemm_plan *p) {
    if (p->c) cublasLtMatrixLayoutDestroy(p->c);
    if (p->b) cublasLtMatrixLayoutDestroy(p->b);
    if (p->a) cublasLtMatrixLayoutDestroy(p->a);
    if (p->operation) cublasLtMatmulDescDestroy(p->operation);
}

/* An epilogue that cuBLASLt does not have for a shape: its work is a pass of its own. */
static void note_refusal(const par__gemm_key *k) {
    static const char *const names[] = {[PAR_EPILOGUE_GELU] = "GELU",
                                        [PAR_EPILOGUE_GELU_BACKWARD] = "GELU's backward",
                                        [PAR_EPILOGUE_BIAS_GRADIENT] = "the gradient of a bias"};
    if (k->epilogue == PAR_EPILOGUE_NONE) return;
    par__method_note("products",
                     "this cuBLASLt has no algorithm with that epilogue for the shape and type; "
                     "to have one: install a newer cuBLASLt, or train in another type",
                     "%s apart from its product, m %lld n %lld k %lld in %s", names[k->epilogue],
                     (long long)k->m, (long long)k->n, (long long)k->k,
                     par__type_name((par_dtype)k->dtype));
}

/* Pointers' alignment, and how parts of a product that is cut along k are added: in fp32. cuBLASLt
 * may also add them rounded to the result's 16 bits, which costs digits that numerics.md
 * promises. */
static par_status set_preferences(cublasLtMatmulPreference_t preference, const par__gemm_key *k) {
    static const cublasLtMatmulPreferenceAttributes_t which[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    uint32_t allowed = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    for (int i = 0; i < 4; i++) {
        uint32_t least = (uint32_t)par__lt_nbytes((par_dtype)(i < 2 ? k->dtype : k->dtype_c));
        uint32_t nbytes = k->aligned ? PAR__GEMM_ALIGNED : least;
        LT_TRY(cublasLtMatmulPreferenceSetAttribute(preference, which[i], &nbytes, sizeof nbytes));
    }
    if ((par_dtype)k->dtype_c == PAR_F32) return PAR_OK;
    LT_TRY(cublasLtMatmulPreferenceSetAttribute(
        preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &allowed, sizeof allowed));
    return PAR_OK;
}

par_status par__lt_candidates(par__gemm_plan *p,
                              cublasLtMatmulHeuristicResult_t out[PAR__GEMM_CANDIDATES], int *n) {
    par_status st = PAR_OK;
    const par__gemm_key *k = p->key;
    cublasLtMatmulPreference_t preference = NULL;
    size_t nbytes = PAR__GEMM_WORKSPACE;
    *n = 0;
    LT_TRY(cublasLtMatmulPreferenceCreate(&preference));
    cublasStatus_t status = cublasLtMatmulPreferenceSetAttribute(
        preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &nbytes, sizeof nbytes);
    if (status == CUBLAS_STATUS_SUCCESS) st = set_preferences(preference, k);
    if (status == CUBLAS_STATUS_SUCCESS && st == PAR_OK)
        status = cublasLtMatmulAlgoGetHeuristic(handle, p->operation, p->b, p->a, p->c, p->c,
                                                preference, PAR__GEMM_CANDIDATES, out, n);
    cublasLtMatmulPreferenceDestroy(preference);
    PAR_TRY(st);
    /* "No such algorithm", by the statuses documented for it, or a library that fails. */
    bool refusal = status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE ||
                   (status == CUBLAS_STATUS_SUCCESS && *n == 0);
    if (!refusal)
        return status == CUBLAS_STATUS_SUCCESS ? PAR_OK
                                               : failed(status, "cublasLtMatmulAlgoGetHeuristic");
    *n = 0;
    note_refusal(k);
    p->refused = k->epilogue == PAR_EPILOGUE_BIAS_GRADIENT;
    if (!p->refused)
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "cuBLASLt has no algorithm for [%lld,%lld] = [%lld,%lld] x [%lld,%lld] in %s: %s",
                 (long long)k->m, (long long)k->n, (long long)k->m, (long long)k->k,
                 (long long)k->k, (long long)k->n, par__type_name((par_dtype)k->dtype),
                 cublasLtGetStatusString(status));
    return PAR_OK;
}

par_status par__lt_multiply(const par__gemm_plan *p, const cublasLtMatmulAlgo_t *algorithm,
                            const par__gemm_operands *o, float beta, cudaStream_t stream) {
    const float one = 1;
    const void *bias = o->bias, *aux = o->aux;
    if (p->key->bias || p->key->epilogue == PAR_EPILOGUE_BIAS_GRADIENT)
        LT_TRY(cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                              &bias, sizeof bias));
    if (par__lt_has_aux(p->key))
        LT_TRY(cublasLtMatmulDescSetAttribute(
            p->operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &aux, sizeof aux));
    LT_TRY(cublasLtMatmul(handle, p->operation, &one, o->b, p->b, o->a, p->a, &beta, o->c, p->c,
                          o->c, p->c, algorithm, o->workspace, PAR__GEMM_WORKSPACE, stream));
    return PAR_OK;
}

const char *par__lt_name(void) {
    static char text[96];
    size_t version = cublasLtGetVersion();
    snprintf(text, sizeof text, "cuBLASLt %zu.%zu.%zu, fp32 %s", version / 10000,
             version / 100 % 100, version % 100, tf32 ? "with factors rounded to TF32" : "in full");
    return text;
}

par_status par__lt_open(bool as_tf32) {
    tf32 = as_tf32;
    if (par__cuda_device_get()->recorded) return PAR_OK; /* nobody asks it */
    LT_TRY(cublasLtCreate(&handle));
    return PAR_OK;
}
