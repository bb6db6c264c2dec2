/*
 * cuBLASLt's stand-in: products by columns in fp32, exactly as its documentation states them, with
 * its checks of shapes. Storage by columns is what the caller must get right, so nothing here knows
 * of rows. It has no algorithm with a bias gradient for fp16, which the documentation allows: so
 * that callers' other way runs too.
 */
#include <cmath>
#include <cstring>

#include <cublasLt.h>

#include "kernels/half.h"
#include "tests/cuda/acts.h"
#include "tests/cuda/standin.h"

namespace {

struct operation {
    cublasComputeType_t compute;
    cublasOperation_t transa = CUBLAS_OP_N, transb = CUBLAS_OP_N;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    const void *bias = nullptr;
    void *aux = nullptr;
    int64_t aux_ld = 0;
    cudaDataType aux_type = CUDA_R_32F;
    int32_t bias_type = -1; /* that of D */
};
struct matrix {
    cudaDataType type;
    uint64_t rows, columns;
    int64_t ld;
};

double get(const void *data, cudaDataType type, int64_t i) {
    if (type == CUDA_R_32F) return ((const float *)data)[i];
    uint16_t bits = ((const uint16_t *)data)[i];
    return type == CUDA_R_16BF ? par__bf16_to_f32(bits) : par__f16_to_f32(bits);
}

void set(void *data, cudaDataType type, int64_t i, double x) {
    if (type == CUDA_R_32F)
        ((float *)data)[i] = (float)x;
    else
        ((uint16_t *)data)[i] =
            type == CUDA_R_16BF ? par__f32_to_bf16((float)x) : par__f32_to_f16((float)x);
}

size_t size_of(cudaDataType type) {
    return type == CUDA_R_32F ? 4 : 2;
}

/* From the first element to the last. */
size_t nbytes_of(const matrix &m) {
    return ((size_t)(m.columns - 1) * (size_t)m.ld + m.rows) * size_of(m.type);
}

double at(const void *data, const matrix &m, bool turned, int64_t i, int64_t j) {
    return get(data, m.type, turned ? j + i * m.ld : i + j * m.ld);
}

bool fits(const operation &o, const matrix &a, const matrix &b, const matrix &c) {
    bool ta = o.transa != CUBLAS_OP_N, tb = o.transb != CUBLAS_OP_N;
    uint64_t m = ta ? a.columns : a.rows, k = ta ? a.rows : a.columns;
    uint64_t k2 = tb ? b.columns : b.rows, n = tb ? b.rows : b.columns;
    for (const matrix *x : {&a, &b, &c})
        if (x->ld < (int64_t)x->rows) return false;
    return m == c.rows && n == c.columns && k == k2 && m && n && k && a.type == b.type;
}

/* Whether there is an algorithm for a product that fits. A bias and its gradient have the type of
 * D. */
bool has_algorithm(const operation &o, const matrix &a, const matrix &c) {
    switch ((int)o.epilogue) {
    case CUBLASLT_EPILOGUE_DEFAULT:
    case CUBLASLT_EPILOGUE_GELU_AUX:
    case CUBLASLT_EPILOGUE_DGELU: return true;
    case CUBLASLT_EPILOGUE_BIAS:
    case CUBLASLT_EPILOGUE_GELU_AUX_BIAS:
        return o.bias_type == -1 || o.bias_type == (int32_t)c.type;
    case CUBLASLT_EPILOGUE_BGRADB:
        return (o.bias_type == -1 || o.bias_type == (int32_t)c.type) && a.type != CUDA_R_16F;
    default: return false;
    }
}

/* An element of D's columns: the sum of op(B)'s over k. Stored, whatever beta is. */
void bias_gradient(const operation &o, const matrix &b, const matrix &c, const void *B) {
    bool tb = o.transb != CUBLAS_OP_N;
    int64_t k = (int64_t)(tb ? b.columns : b.rows);
    for (int64_t j = 0; j < (int64_t)c.columns; j++) {
        double sum = 0;
        for (int64_t l = 0; l < k; l++) sum += at(B, b, tb, l, j);
        set((void *)(uintptr_t)o.bias, c.type, j, sum);
    }
}

/* What the epilogue reads or writes besides the matrices lies on the device too. */
void require_epilogue(const operation &o, const matrix &c) {
    bool biased =
        o.epilogue == CUBLASLT_EPILOGUE_BIAS || o.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
    bool has_aux = o.epilogue == CUBLASLT_EPILOGUE_GELU_AUX ||
                   o.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS ||
                   o.epilogue == CUBLASLT_EPILOGUE_DGELU;
    const matrix aux = {o.aux_type, c.rows, c.columns, o.aux_ld};
    if (biased) standin_require_device("cublasLtMatmul", "bias", o.bias, c.rows * size_of(c.type));
    if (o.epilogue == CUBLASLT_EPILOGUE_BGRADB)
        standin_require_device("cublasLtMatmul", "the bias gradient", o.bias,
                               c.columns * size_of(c.type));
    if (has_aux) standin_require_device("cublasLtMatmul", "aux", o.aux, nbytes_of(aux));
}

double gelu(double x) {
    return x / 2 * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
}
double gelu_slope(double x) { /* by a central difference, error below 1e-9 */
    const double h = 1e-5;
    return (gelu(x + h) - gelu(x - h)) / (2 * h);
}

/* What an algorithm's number says: the order of its additions, and that parts of long sums are
 * rounded to c's type, as cuBLASLt's may unless it is told not to. */
enum : uint64_t { BACKWARDS = 1, ROUNDS = 2 };

double round_to(cudaDataType type, double x) {
    double stored[1] = {0};
    set(stored, type, 0, x);
    return get(stored, type, 0);
}

/* Types that NVIDIA's table lists for a bias: that of c. */
void multiply(const operation &o, const matrix &a, const matrix &b, const matrix &c, float alpha,
              float beta, const void *A, const void *B, const void *C, void *D,
              uint64_t algorithm) {
    bool ta = o.transa != CUBLAS_OP_N, tb = o.transb != CUBLAS_OP_N;
    int64_t k = (int64_t)(ta ? a.rows : a.columns);
    for (int64_t j = 0; j < (int64_t)c.columns; j++)
        for (int64_t i = 0; i < (int64_t)c.rows; i++) {
            float in_order = 0;
            for (int64_t l = 0; l < k; l++) {
                int64_t at_l = algorithm & BACKWARDS ? k - 1 - l : l;
                if (algorithm & ROUNDS && l % 256 == 0)
                    in_order = (float)round_to(c.type, in_order);
                in_order += (float)(at(A, a, ta, i, at_l) * at(B, b, tb, at_l, j));
            }
            double sum = in_order;
            sum *= alpha;
            if (beta != 0) sum += beta * at(C, c, false, i, j);
            if (o.epilogue == CUBLASLT_EPILOGUE_BIAS ||
                o.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS)
                sum += get(o.bias, c.type, i);
            if (o.epilogue == CUBLASLT_EPILOGUE_GELU_AUX ||
                o.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS) {
                set(o.aux, o.aux_type, i + j * o.aux_ld, sum);
                sum = gelu(sum);
            }
            if (o.epilogue == CUBLASLT_EPILOGUE_DGELU)
                sum *= gelu_slope(get(o.aux, o.aux_type, i + j * o.aux_ld));
            set(D, c.type, i + j * c.ld, sum);
        }
}

} // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out) {
    *out = (cublasLtHandle_t) new char;
    return CUBLAS_STATUS_SUCCESS;
}
size_t cublasLtGetVersion(void) {
    return CUBLAS_VERSION;
}
const char *cublasLtGetStatusString(cublasStatus_t) {
    return "stand-in";
}
const char *cublasLtGetStatusName(cublasStatus_t) {
    return "stand-in";
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
    standin_count(STANDIN_PLANS);
    if (scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
    auto *o = new operation;
    o->compute = compute;
    *out = (cublasLtMatmulDesc_t)o;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d) {
    delete (operation *)d;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d,
                                              cublasLtMatmulDescAttributes_t which,
                                              const void *value, size_t nbytes) {
    auto *o = (operation *)d;
    void *to = which == CUBLASLT_MATMUL_DESC_TRANSA                   ? (void *)&o->transa
               : which == CUBLASLT_MATMUL_DESC_TRANSB                 ? (void *)&o->transb
               : which == CUBLASLT_MATMUL_DESC_EPILOGUE               ? (void *)&o->epilogue
               : which == CUBLASLT_MATMUL_DESC_BIAS_POINTER           ? (void *)&o->bias
               : which == CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER   ? (void *)&o->aux
               : which == CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD        ? (void *)&o->aux_ld
               : which == CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE ? (void *)&o->aux_type
               : which == CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE         ? (void *)&o->bias_type
                                                                      : nullptr;
    bool wide = which == CUBLASLT_MATMUL_DESC_BIAS_POINTER ||
                which == CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER ||
                which == CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD;
    size_t expected = wide ? sizeof(void *) : sizeof(int32_t);
    if (!to || nbytes != expected) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, value, nbytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t ld) {
    standin_count(STANDIN_PLANS);
    *out = (cublasLtMatrixLayout_t) new matrix{type, rows, columns, ld};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t m) {
    delete (matrix *)m;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out) {
    standin_count(STANDIN_PLANS);
    *out = (cublasLtMatmulPreference_t) new uint32_t(CUBLASLT_REDUCTION_SCHEME_MASK);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p) {
    delete (uint32_t *)p;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t which,
                                                    const void *value, size_t nbytes) {
    if (which == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES && nbytes != sizeof(size_t))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (which == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK) {
        if (nbytes != sizeof(uint32_t)) return CUBLAS_STATUS_INVALID_VALUE;
        memcpy(p, value, nbytes);
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t d,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t p, int n_asked,
                                              cublasLtMatmulHeuristicResult_t results[], int *n) {
    standin_count(STANDIN_PLANS);
    *n = 0;
    if (standin_broken()) return CUBLAS_STATUS_EXECUTION_FAILED;
    if (n_asked < 1 || !fits(*(operation *)d, *(matrix *)a, *(matrix *)b, *(matrix *)c))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!has_algorithm(*(operation *)d, *(matrix *)a, *(matrix *)c))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    /* two candidates, which add in opposite orders: other bits, as with other algorithms */
    bool rounds = *(uint32_t *)p &
                  (CUBLASLT_REDUCTION_SCHEME_INPLACE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE);
    *n = n_asked < 2 ? n_asked : 2;
    for (int i = 0; i < *n; i++) {
        memset(&results[i], 0, sizeof results[i]);
        results[i].algo.data[0] = (i ? BACKWARDS : 0) | (rounds ? ROUNDS : 0);
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t d, const void *alpha,
                              const void *A, cublasLtMatrixLayout_t a, const void *B,
                              cublasLtMatrixLayout_t b, const void *beta, const void *C,
                              cublasLtMatrixLayout_t c, void *D, cublasLtMatrixLayout_t,
                              const cublasLtMatmulAlgo_t *algorithm, void *workspace, size_t nbytes,
                              cudaStream_t stream) {
    operation o = *(operation *)d;
    matrix ma = *(matrix *)a, mb = *(matrix *)b, mc = *(matrix *)c;
    float alpha_value = *(const float *)alpha, beta_value = *(const float *)beta;
    if (!algorithm || !fits(o, ma, mb, mc)) return CUBLAS_STATUS_INVALID_VALUE;
    if (!has_algorithm(o, ma, mc)) return CUBLAS_STATUS_NOT_SUPPORTED;
    bool gradient = o.epilogue == CUBLASLT_EPILOGUE_BGRADB;
    if (gradient && (!o.bias || (uintptr_t)o.bias % 16 != 0)) return CUBLAS_STATUS_INVALID_VALUE;
    standin_require_device("cublasLtMatmul", "A", A, nbytes_of(ma));
    standin_require_device("cublasLtMatmul", "B", B, nbytes_of(mb));
    standin_require_device("cublasLtMatmul", "C", C, nbytes_of(mc));
    standin_require_device("cublasLtMatmul", "D", D, nbytes_of(mc));
    standin_require_device("cublasLtMatmul", "the workspace", workspace, nbytes);
    require_epilogue(o, mc);
    uint64_t which = algorithm->data[0];
    standin_enqueue(stream, [=] {
        if (nbytes) memset(workspace, 0xff, nbytes < 4096 ? nbytes : 4096); /* it is used */
        multiply(o, ma, mb, mc, alpha_value, beta_value, A, B, C, D, which);
        if (gradient) bias_gradient(o, mb, mc, B);
    });
    return CUBLAS_STATUS_SUCCESS;
}
}
