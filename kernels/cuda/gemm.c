/*
 * Matrix products by cuBLASLt. It stores matrices by columns: our c [m,n] by rows is its cᵀ [n,m] by columns,
 * so it is asked for cᵀ = op(b)ᵀ · op(a)ᵀ, with our b as its first factor; nothing is copied or turned.
 *
 * A plan is what cuBLASLt's heuristic chose for a shape, its types, alignment and epilogue. prepare makes the
 * plans of a shape, run only finds them, so the same shape always takes the same algorithm and its bits
 * repeat. The first candidate of the heuristic is taken: no choice depends on a clock.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cublasLt.h>

#include "kernels/cuda/gemm.h"

/* NVIDIA's advice for sm_90; other devices use less of it. */
enum { WORKSPACE_NBYTES = 32 << 20, ALIGNED = 16, AUX_LD = 8 };

/* What a plan depends on; compared as bytes, so it is cleared before it is filled. */
typedef struct {
    int64_t m, n, k, lda, ldb, ldc;
    int32_t dtype, dtype_c, ta, tb, bias, epilogue;
    int32_t aligned; /* all pointers and rows to 16 bytes */
} key;

typedef struct {
    key key;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulAlgo_t algorithm;
} plan;

static cublasLtHandle_t handle;
static plan *plans;
static int n_plans, max_plans;
static bool tf32;

#define LT_TRY(call)                                                                                         \
    do {                                                                                                     \
        cublasStatus_t status_ = (call);                                                                     \
        if (status_ != CUBLAS_STATUS_SUCCESS) return failed(status_, #call);                                 \
    } while (0)
#define LT_TRY_GOTO(call, label)                                                                             \
    do {                                                                                                     \
        cublasStatus_t status_ = (call);                                                                     \
        if (status_ != CUBLAS_STATUS_SUCCESS) {                                                              \
            st = failed(status_, #call);                                                                     \
            goto label;                                                                                      \
        }                                                                                                    \
    } while (0)

static par_status failed(cublasStatus_t status, const char *call) {
    par_status st = status == CUBLAS_STATUS_ALLOC_FAILED ? PAR_ERR_MEMORY : PAR_ERR_UNSUPPORTED;
    PAR_FAIL(st, "CUDA device %d: %s: %s (%s)", par__cuda_device_get()->device, call,
             cublasLtGetStatusString(status), cublasLtGetStatusName(status));
}

static cudaDataType_t type_of(par_dtype dtype) {
    return dtype == PAR_F32 ? CUDA_R_32F : dtype == PAR_BF16 ? CUDA_R_16BF : CUDA_R_16F;
}

static int64_t nbytes_of(par_dtype dtype) {
    return dtype == PAR_F32 ? 4 : 2;
}

/* A bias of the products' type is an epilogue if c has that type too; else it is added afterwards. */
static bool bias_fits(const par_gemm *g) {
    return g->dtype == g->dtype_c;
}

static bool is_aligned(const void *p, int64_t ld, par_dtype dtype) {
    return (uintptr_t)p % ALIGNED == 0 && ld * nbytes_of(dtype) % ALIGNED == 0;
}

static key key_of(const par_gemm *g, bool bias) {
    key out;
    memset(&out, 0, sizeof out);
    out.m = g->m, out.n = g->n, out.k = g->k;
    out.lda = g->lda, out.ldb = g->ldb, out.ldc = g->ldc;
    out.dtype = (int32_t)g->dtype, out.dtype_c = (int32_t)g->dtype_c;
    out.ta = g->ta, out.tb = g->tb, out.bias = bias, out.epilogue = (int32_t)g->epilogue;
    out.aligned = is_aligned(g->a, g->lda, g->dtype) && is_aligned(g->b, g->ldb, g->dtype) &&
                  is_aligned(g->c, g->ldc, g->dtype_c) && (!bias || (uintptr_t)g->bias % ALIGNED == 0) &&
                  (!g->epilogue || (uintptr_t)g->aux % ALIGNED == 0);
    return out;
}

static plan *find(const key *k) {
    for (int i = 0; i < n_plans; i++)
        if (memcmp(&plans[i].key, k, sizeof *k) == 0) return &plans[i];
    return NULL;
}

static void destroy(plan *p) {
    if (p->c) cublasLtMatrixLayoutDestroy(p->c);
    if (p->b) cublasLtMatrixLayoutDestroy(p->b);
    if (p->a) cublasLtMatrixLayoutDestroy(p->a);
    if (p->operation) cublasLtMatmulDescDestroy(p->operation);
}

/* cuBLASLt's GELU is the tanh form. */
static cublasLtEpilogue_t epilogue_of(const key *k) {
    if (k->epilogue == PAR_EPILOGUE_GELU)
        return k->bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    if (k->epilogue == PAR_EPILOGUE_GELU_BACKWARD) return CUBLASLT_EPILOGUE_DGELU;
    return k->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

static par_status describe_operation(plan *p) {
    const key *k = &p->key;
    cublasOperation_t first = k->tb ? CUBLAS_OP_T : CUBLAS_OP_N, second = k->ta ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasComputeType_t compute =
        k->dtype == PAR_F32 && tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    cublasLtEpilogue_t epilogue = epilogue_of(k);
    cudaDataType_t type_aux = type_of((par_dtype)k->dtype);
    LT_TRY(cublasLtMatmulDescCreate(&p->operation, compute, CUDA_R_32F));
    LT_TRY(cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first));
    LT_TRY(cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second));
    LT_TRY(cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                          sizeof epilogue));
    if (!k->epilogue) return PAR_OK;
    LT_TRY(cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &k->ldc,
                                          sizeof k->ldc));
    LT_TRY(cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE,
                                          &type_aux, sizeof type_aux));
    return PAR_OK;
}

/* By columns: a matrix of r rows and c columns of ours has c rows and r columns. */
static par_status describe_matrices(plan *p) {
    const key *k = &p->key;
    cudaDataType_t type = type_of((par_dtype)k->dtype), type_c = type_of((par_dtype)k->dtype_c);
    uint64_t b_rows = (uint64_t)(k->tb ? k->k : k->n), b_columns = (uint64_t)(k->tb ? k->n : k->k);
    uint64_t a_rows = (uint64_t)(k->ta ? k->m : k->k), a_columns = (uint64_t)(k->ta ? k->k : k->m);
    LT_TRY(cublasLtMatrixLayoutCreate(&p->b, type, b_rows, b_columns, k->ldb));
    LT_TRY(cublasLtMatrixLayoutCreate(&p->a, type, a_rows, a_columns, k->lda));
    LT_TRY(cublasLtMatrixLayoutCreate(&p->c, type_c, (uint64_t)k->n, (uint64_t)k->m, k->ldc));
    return PAR_OK;
}

static par_status set_alignments(cublasLtMatmulPreference_t preference, const key *k) {
    static const cublasLtMatmulPreferenceAttributes_t which[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    for (int i = 0; i < 4; i++) {
        uint32_t least = (uint32_t)nbytes_of((par_dtype)(i < 2 ? k->dtype : k->dtype_c));
        uint32_t nbytes = k->aligned ? ALIGNED : least;
        LT_TRY(cublasLtMatmulPreferenceSetAttribute(preference, which[i], &nbytes, sizeof nbytes));
    }
    return PAR_OK;
}

static par_status choose(plan *p) {
    par_status st = PAR_OK;
    const key *k = &p->key;
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t result;
    size_t nbytes = WORKSPACE_NBYTES;
    int n = 0;
    LT_TRY(cublasLtMatmulPreferenceCreate(&preference));
    LT_TRY_GOTO(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                     &nbytes, sizeof nbytes),
                out_preference);
    PAR_TRY_GOTO(set_alignments(preference, k), out_preference);
    cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle, p->operation, p->b, p->a, p->c, p->c,
                                                           preference, 1, &result, &n);
    if (status != CUBLAS_STATUS_SUCCESS || n == 0)
        st = par_fail(PAR_ERR_UNSUPPORTED,
                      "cuBLASLt has no algorithm for [%lld,%lld] = [%lld,%lld] x [%lld,%lld] in %s: %s",
                      (long long)k->m, (long long)k->n, (long long)k->m, (long long)k->k, (long long)k->k,
                      (long long)k->n,
                      k->dtype == PAR_F32    ? "fp32"
                      : k->dtype == PAR_BF16 ? "bf16"
                                             : "fp16",
                      cublasLtGetStatusString(status));
    else
        p->algorithm = result.algo;
out_preference:
    cublasLtMatmulPreferenceDestroy(preference);
    return st;
}

static par_status add(const key *k, plan **out) {
    plan made = {.key = *k};
    if (n_plans == max_plans) {
        int max = max_plans ? 2 * max_plans : 64;
        plan *more = realloc(plans, (size_t)max * sizeof *more);
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

static par_status find_or_add(const key *k, plan **out) {
    *out = find(k);
    return *out ? PAR_OK : add(k, out);
}

/* Plans with and without bias, for aligned pointers, which those of arenas are. */
static par_status prepare(const void *args, size_t *workspace_nbytes) {
    const par_gemm *g = args;
    plan *unused;
    *workspace_nbytes = 0;
    if (g->epilogue && (g->k == 0 || g->ldc % AUX_LD))
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "gemm/cuda/cublaslt: an epilogue needs k > 0 and ldc a multiple of %d",
                 AUX_LD);
    if (g->m == 0 || g->n == 0 || g->k == 0) return PAR_OK;
    par_gemm shape = *g;
    shape.a = shape.b = shape.c = shape.aux = (void *)(uintptr_t)ALIGNED;
    shape.bias = shape.a;
    key plain = key_of(&shape, false), with_bias = key_of(&shape, true);
    PAR_TRY(find_or_add(&plain, &unused));
    if (bias_fits(g) && g->epilogue != PAR_EPILOGUE_GELU_BACKWARD) PAR_TRY(find_or_add(&with_bias, &unused));
    *workspace_nbytes = WORKSPACE_NBYTES;
    return PAR_OK;
}

static par_status run(par_stream *stream, const void *args, void *workspace) {
    const par_gemm *g = args;
    const float one = 1;
    plan *p;
    if (g->m == 0 || g->n == 0) return PAR_OK;
    if (g->k == 0) return par__cuda_add_bias(stream, g, g->beta);
    if (g->bias && g->epilogue == PAR_EPILOGUE_GELU_BACKWARD)
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "gemm/cuda/cublaslt: a gradient through GELU has no bias");
    bool fused = g->bias && bias_fits(g);
    key k = key_of(g, fused);
    PAR_TRY(find_or_add(&k, &p));
    if (g->epilogue)
        LT_TRY(cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER,
                                              &g->aux, sizeof g->aux));
    if (fused)
        LT_TRY(cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &g->bias,
                                              sizeof g->bias));
    LT_TRY(cublasLtMatmul(handle, p->operation, &one, g->b, p->b, g->a, p->a, &g->beta, g->c, p->c, g->c,
                          p->c, &p->algorithm, workspace, WORKSPACE_NBYTES, par__cuda_stream(stream)));
    return g->bias && !fused ? par__cuda_add_bias(stream, g, 1) : PAR_OK;
}

par_status par__cuda_gemm_init(const par_device_params *params, par_backend *backend) {
    tf32 = params->tf32;
    LT_TRY(cublasLtCreate(&handle));
    backend->kernels[PAR_OP_GEMM] =
        (par_kernel){tf32 ? "gemm/cuda/cublaslt (fp32 as TF32)" : "gemm/cuda/cublaslt", prepare, run};
    return PAR_OK;
}
