/*
 * Matrix products by cuBLASLt. prepare makes the plans of a shape, run only finds them, so the same shape
 * always takes the same algorithm and its bits repeat. Bias, GELU and its backward are epilogues where types
 * allow.
 */
#include <stddef.h>

#include "kernels/cuda/gemm.h"

enum { AUX_LD = 8 };

static cublasLtHandle_t handle;

/* A bias of the products' type is an epilogue if c has that type too; else it is added afterwards. */
static bool bias_fits(const par_gemm *g) {
    return g->dtype == g->dtype_c;
}

/* Plans with and without bias, for aligned pointers, which those of arenas are. */
static par_status prepare(const void *args, size_t *workspace_nbytes) {
    const par_gemm *g = args;
    par__gemm_plan *unused;
    *workspace_nbytes = 0;
    if (g->epilogue && (g->k == 0 || g->ldc % AUX_LD))
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "gemm/cuda/cublaslt: an epilogue needs k > 0 and ldc a multiple of %d",
                 AUX_LD);
    if (g->m == 0 || g->n == 0 || g->k == 0) return PAR_OK;
    par_gemm shape = *g;
    shape.a = shape.b = shape.c = shape.aux = (void *)(uintptr_t)PAR__GEMM_ALIGNED;
    shape.bias = shape.a;
    par__gemm_key plain = par__gemm_key_of(&shape, false), with_bias = par__gemm_key_of(&shape, true);
    PAR_TRY(par__gemm_plan_get(&plain, &unused));
    if (bias_fits(g) && g->epilogue != PAR_EPILOGUE_GELU_BACKWARD)
        PAR_TRY(par__gemm_plan_get(&with_bias, &unused));
    *workspace_nbytes = PAR__GEMM_WORKSPACE;
    return PAR_OK;
}

static par_status run(par_stream *stream, const void *args, void *workspace) {
    const par_gemm *g = args;
    const float one = 1;
    par__gemm_plan *p;
    if (g->m == 0 || g->n == 0) return PAR_OK;
    if (g->k == 0) return par__cuda_add_bias(stream, g, g->beta);
    if (g->bias && g->epilogue == PAR_EPILOGUE_GELU_BACKWARD)
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "gemm/cuda/cublaslt: a gradient through GELU has no bias");
    bool fused = g->bias && bias_fits(g);
    par__gemm_key k = par__gemm_key_of(g, fused);
    PAR_TRY(par__gemm_plan_get(&k, &p));
    PAR_TRY(par__gemm_point(p, g->bias, g->aux));
    PAR__LT_TRY(cublasLtMatmul(handle, p->operation, &one, g->b, p->b, g->a, p->a, &g->beta, g->c, p->c, g->c,
                               p->c, &p->algorithm, workspace, PAR__GEMM_WORKSPACE,
                               par__cuda_stream(stream)));
    return g->bias && !fused ? par__cuda_add_bias(stream, g, 1) : PAR_OK;
}

par_status par__cuda_gemm_init(const par_device_params *params, par_backend *backend) {
    PAR__LT_TRY(cublasLtCreate(&handle));
    par__gemm_open_plans(handle, params->tf32);
    par__gemm_open_choices(handle, params->tune, backend);
    backend->kernels[PAR_OP_GEMM] =
        (par_kernel){params->tf32 ? "gemm/cuda/cublaslt (fp32 as TF32)" : "gemm/cuda/cublaslt", prepare, run};
    return PAR_OK;
}
