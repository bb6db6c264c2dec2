/*
 * Matrix products by cuBLASLt. prepare makes the plans of a shape, run only finds them, so the same
 * shape always takes the same algorithm and its bits repeat. Bias, GELU and its backward are
 * epilogues where types allow. The gradient of a bias is one where cuBLASLt has an algorithm with
 * it, else the own column sum. That epilogue stores and never adds: what is to be added lies in the
 * workspace behind cuBLASLt's.
 */
#include <stddef.h>

#include "kernels/cuda/gemm.h"

enum { AUX_LD = 8 };

static cublasLtHandle_t handle;
static const par_kernel *column_sum;

/* A bias of the products' type is an epilogue if c has that type too; else it is added
 * afterwards. */
static bool bias_fits(const par_gemm *g) {
    return g->dtype == g->dtype_c;
}

static par_column_sum sum_of(const par_gemm *g) {
    return (par_column_sum){.dtype = g->dtype,
                            .m = g->k,
                            .n = g->m,
                            .x = g->a,
                            .ldx = g->lda,
                            .y = g->aux,
                            .beta = g->beta};
}

/* The plan of the product without the gradient, if there is none with it. */
static par_status gradient_plan(const par_gemm *g, par__gemm_plan **out) {
    par__gemm_key key = par__gemm_key_of(g, false);
    PAR_TRY(par__gemm_plan_get(&key, out));
    if (!(*out)->refused) return PAR_OK;
    key.epilogue = PAR_EPILOGUE_NONE;
    return par__gemm_plan_get(&key, out);
}

/* Bytes for either way, whatever the alignment at run will be. */
static par_status prepare_gradient(const par_gemm *g, size_t *workspace_nbytes) {
    par_column_sum sum = sum_of(g);
    size_t fused = PAR__GEMM_WORKSPACE + (size_t)g->m * sizeof(float);
    par__gemm_plan *unused;
    if (!g->ta)
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "gemm/cuda/cublaslt: the gradient of a bias needs ta; run the sums apart");
    PAR_TRY(column_sum->prepare(&sum, workspace_nbytes));
    if (g->m == 0 || g->n == 0 || g->k == 0) return PAR_OK;
    par_gemm shape = *g;
    shape.a = shape.b = shape.c = (void *)(uintptr_t)PAR__GEMM_ALIGNED;
    PAR_TRY(gradient_plan(&shape, &unused));
    if (*workspace_nbytes < fused) *workspace_nbytes = fused;
    return PAR_OK;
}

/* Plans with and without bias, for aligned pointers, which those of arenas are. */
static par_status prepare(const void *args, size_t *workspace_nbytes) {
    const par_gemm *g = args;
    par__gemm_plan *unused;
    *workspace_nbytes = 0;
    if (g->epilogue == PAR_EPILOGUE_BIAS_GRADIENT) return prepare_gradient(g, workspace_nbytes);
    if (g->epilogue && (g->k == 0 || g->ldc % AUX_LD))
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "gemm/cuda/cublaslt: an epilogue needs k > 0 and ldc a multiple of %d", AUX_LD);
    if (g->m == 0 || g->n == 0 || g->k == 0) return PAR_OK;
    par_gemm shape = *g;
    shape.a = shape.b = shape.c = shape.aux = (void *)(uintptr_t)PAR__GEMM_ALIGNED;
    shape.bias = shape.a;
    par__gemm_key plain = par__gemm_key_of(&shape, false),
                  with_bias = par__gemm_key_of(&shape, true);
    PAR_TRY(par__gemm_plan_get(&plain, &unused));
    if (bias_fits(g) && g->epilogue != PAR_EPILOGUE_GELU_BACKWARD)
        PAR_TRY(par__gemm_plan_get(&with_bias, &unused));
    *workspace_nbytes = PAR__GEMM_WORKSPACE;
    return PAR_OK;
}

static par_status multiply(par_stream *stream, const par_gemm *g, const par__gemm_plan *p,
                           void *workspace) {
    const float one = 1;
    PAR__LT_TRY(cublasLtMatmul(handle, p->operation, &one, g->b, p->b, g->a, p->a, &g->beta, g->c,
                               p->c, g->c, p->c, &p->algorithm, workspace, PAR__GEMM_WORKSPACE,
                               par__cuda_stream(stream)));
    return PAR_OK;
}

/* Straight into aux where it may be overwritten and lies as the plan expects. */
static par_status run_fused_gradient(par_stream *stream, const par_gemm *g, const par__gemm_plan *p,
                                     void *workspace) {
    bool direct = g->beta == 0 && (uintptr_t)g->aux % PAR__GEMM_ALIGNED == 0;
    void *to = direct ? g->aux : (char *)workspace + PAR__GEMM_WORKSPACE;
    const par_gemm add = {.dtype = PAR_F32,
                          .dtype_c = PAR_F32,
                          .m = 1,
                          .n = g->m,
                          .c = g->aux,
                          .ldc = g->m,
                          .bias = to};
    PAR_TRY(par__gemm_point(p, to, NULL));
    PAR_TRY(multiply(stream, g, p, workspace));
    return direct ? PAR_OK : par__cuda_add_bias(stream, &add, g->beta);
}

static par_status run_gradient(par_stream *stream, const par_gemm *g, void *workspace) {
    par_column_sum sum = sum_of(g);
    par__gemm_plan *p;
    if (g->m == 0) return PAR_OK;
    if (g->n > 0 && g->k > 0) {
        PAR_TRY(gradient_plan(g, &p));
        if (p->key.epilogue == PAR_EPILOGUE_BIAS_GRADIENT)
            return run_fused_gradient(stream, g, p, workspace);
        PAR_TRY(multiply(stream, g, p, workspace));
    } else if (g->n > 0) {
        PAR_TRY(par__cuda_add_bias(stream, g, g->beta));
    }
    return column_sum->run(stream, &sum, workspace);
}

static par_status run(par_stream *stream, const void *args, void *workspace) {
    const par_gemm *g = args;
    par__gemm_plan *p;
    if (g->epilogue == PAR_EPILOGUE_BIAS_GRADIENT) return run_gradient(stream, g, workspace);
    if (g->m == 0 || g->n == 0) return PAR_OK;
    if (g->k == 0) return par__cuda_add_bias(stream, g, g->beta);
    if (g->bias && g->epilogue == PAR_EPILOGUE_GELU_BACKWARD)
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "gemm/cuda/cublaslt: a gradient through GELU has no bias");
    bool fused = g->bias && bias_fits(g);
    par__gemm_key k = par__gemm_key_of(g, fused);
    PAR_TRY(par__gemm_plan_get(&k, &p));
    PAR_TRY(par__gemm_point(p, g->bias, g->aux));
    PAR_TRY(multiply(stream, g, p, workspace));
    return g->bias && !fused ? par__cuda_add_bias(stream, g, 1) : PAR_OK;
}

par_status par__cuda_gemm_init(const par_device_params *params, par_backend *backend) {
    PAR__LT_TRY(cublasLtCreate(&handle));
    par__gemm_open_plans(handle, params->tf32);
    par__gemm_open_choices(handle, params->tune, backend);
    column_sum = &backend->kernels[PAR_OP_COLUMN_SUM];
    backend->kernels[PAR_OP_GEMM] = (par_kernel){
        params->tf32 ? "gemm/cuda/cublaslt (fp32 as TF32)" : "gemm/cuda/cublaslt", prepare, run};
    return PAR_OK;
}
