/*
 * Matrix products by cuBLASLt. prepare makes the plans of a shape, run only finds them, so the same
 * shape always takes the same algorithm and its bits repeat. Bias, GELU and its backward are
 * epilogues where types allow. The gradient of a bias is one where cuBLASLt has an algorithm with
 * it, else the own column sum. That epilogue stores and never adds: what is to be added lies in the
 * workspace behind cuBLASLt's.
 *
 * Pointers. Where the shape's rows are of whole 16 bytes, a plan is for pointers on 16 bytes, and
 * run refuses others; where they are not, it is for any. All that libpar hands over lies so: arenas
 * give 256 bytes, parameters begin at multiples of 64 elements. A second plan per shape would
 * double the questions to cuBLASLt at the start, and the plans' memory, for nobody.
 */
#include <stddef.h>

#include "kernels/cuda/gemm/gemm.h"
#include "kernels/cuda/own/own.h"

enum { AUX_LD = 8 };

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

/* A workspace is the same for all products, so a recorded device's is known without a plan; that it
 * has every epilogue is taken for granted. */
static par_status prepare_plan(const par__gemm_key *key, bool *refused) {
    void *plan = NULL;
    if (par__cuda_device_get()->recorded) return PAR_OK;
    PAR_TRY(par__plan_prepare(&par__gemm_plans, key, &plan));
    if (refused) *refused = ((const par__gemm_plan *)plan)->refused;
    return PAR_OK;
}

/* Bytes for either way; a plan without the gradient where there is none with it. */
static par_status prepare_gradient(const par_gemm *g, size_t *workspace_nbytes) {
    par_column_sum sum = sum_of(g);
    size_t fused = PAR__GEMM_WORKSPACE + (size_t)g->m * sizeof(float);
    par__gemm_key key = par__gemm_key_of(g, false);
    bool refused = false;
    if (!g->ta)
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "gemm/cuda/cublaslt: the gradient of a bias needs ta; run the sums apart");
    PAR_TRY(column_sum->prepare(&sum, workspace_nbytes));
    if (g->m == 0 || g->n == 0 || g->k == 0) return PAR_OK;
    PAR_TRY(prepare_plan(&key, &refused));
    key.epilogue = PAR_EPILOGUE_NONE;
    if (refused) PAR_TRY(prepare_plan(&key, NULL));
    if (*workspace_nbytes < fused) *workspace_nbytes = fused;
    return PAR_OK;
}

/* Plans with and without bias. */
static par_status prepare(const void *args, size_t *workspace_nbytes) {
    const par_gemm *g = args;
    *workspace_nbytes = 0;
    if (g->epilogue == PAR_EPILOGUE_BIAS_GRADIENT) return prepare_gradient(g, workspace_nbytes);
    if (g->epilogue && (g->k == 0 || g->ldc % AUX_LD))
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "gemm/cuda/cublaslt: an epilogue needs k > 0 and ldc a multiple of %d", AUX_LD);
    if (g->m == 0 || g->n == 0 || g->k == 0) return PAR_OK;
    par__gemm_key plain = par__gemm_key_of(g, false), with_bias = par__gemm_key_of(g, true);
    PAR_TRY(prepare_plan(&plain, NULL));
    if (bias_fits(g) && g->epilogue != PAR_EPILOGUE_GELU_BACKWARD)
        PAR_TRY(prepare_plan(&with_bias, NULL));
    *workspace_nbytes = PAR__GEMM_WORKSPACE;
    return PAR_OK;
}

static par_status check_pointers(const par__gemm_key *key, const par_gemm *g) {
    const struct {
        const char *name;
        const void *at;
    } all[] = {{"a", g->a},
               {"b", g->b},
               {"c", g->c},
               {"bias", key->bias ? g->bias : NULL},
               {"aux", par__lt_has_aux(key) ? g->aux : NULL}};
    for (int i = 0; i < 5; i++)
        if (key->aligned && (uintptr_t)all[i].at % PAR__GEMM_ALIGNED != 0)
            PAR_FAIL(PAR_ERR_ARG,
                     "gemm/cuda/cublaslt: %s is at %p: where all rows are of whole %d bytes, as "
                     "here, pointers must lie on %d bytes",
                     all[i].name, all[i].at, PAR__GEMM_ALIGNED, PAR__GEMM_ALIGNED);
    return PAR_OK;
}

/* The product with the key's epilogue; `bias`: what that adds, or where the gradient goes. */
static par_status multiply(par_stream *stream, const par_gemm *g, const par__gemm_key *key,
                           const void *bias, void *workspace) {
    PAR_TRY(check_pointers(key, g));
    const par__gemm_plan *plan = par__plan_acquire(&par__gemm_plans, key);
    if (!plan)
        PAR_FAIL(
            PAR_ERR_ARG,
            "gemm/cuda/cublaslt: a product of m %lld, n %lld, k %lld with these rows and types "
            "was not prepared",
            (long long)g->m, (long long)g->n, (long long)g->k);
    const par__gemm_operands o = {.a = (void *)(uintptr_t)g->a,
                                  .b = (void *)(uintptr_t)g->b,
                                  .c = g->c,
                                  .bias = (void *)(uintptr_t)bias,
                                  .aux = g->aux,
                                  .workspace = workspace};
    par_status st = par__lt_multiply(plan, &plan->algorithm, &o, g->beta, par__cuda_stream(stream));
    par__plan_release(&par__gemm_plans);
    return st;
}

/* Straight into aux where it may be overwritten and lies as the plan expects. */
static par_status run_fused_gradient(par_stream *stream, const par_gemm *g,
                                     const par__gemm_key *key, void *workspace) {
    bool direct = g->beta == 0 && (uintptr_t)g->aux % PAR__GEMM_ALIGNED == 0;
    void *to = direct ? g->aux : (char *)workspace + PAR__GEMM_WORKSPACE;
    const par_gemm add = {.dtype = PAR_F32,
                          .dtype_c = PAR_F32,
                          .m = 1,
                          .n = g->m,
                          .c = g->aux,
                          .ldc = g->m,
                          .bias = to};
    PAR_TRY(multiply(stream, g, key, to, workspace));
    return direct ? PAR_OK : par__cuda_add_bias(stream, &add, g->beta);
}

static par_status run_gradient(par_stream *stream, const par_gemm *g, void *workspace) {
    par_column_sum sum = sum_of(g);
    par__gemm_key key = par__gemm_key_of(g, false);
    if (g->m == 0) return PAR_OK;
    if (g->n > 0 && g->k > 0) {
        const par__gemm_plan *plan = par__plan_acquire(&par__gemm_plans, &key);
        bool refused = plan && plan->refused; /* to make the gradient of the bias */
        if (plan) par__plan_release(&par__gemm_plans);
        if (!refused) return run_fused_gradient(stream, g, &key, workspace);
        key.epilogue = PAR_EPILOGUE_NONE;
        PAR_TRY(multiply(stream, g, &key, NULL, workspace));
    } else if (g->n > 0) {
        PAR_TRY(par__cuda_add_bias(stream, g, g->beta));
    }
    return column_sum->run(stream, &sum, workspace);
}

static par_status run(par_stream *stream, const void *args, void *workspace) {
    const par_gemm *g = args;
    if (g->epilogue == PAR_EPILOGUE_BIAS_GRADIENT) return run_gradient(stream, g, workspace);
    if (g->m == 0 || g->n == 0) return PAR_OK;
    if (g->k == 0) return par__cuda_add_bias(stream, g, g->beta);
    if (g->bias && g->epilogue == PAR_EPILOGUE_GELU_BACKWARD)
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "gemm/cuda/cublaslt: a gradient through GELU has no bias");
    bool fused = g->bias && bias_fits(g);
    par__gemm_key key = par__gemm_key_of(g, fused);
    PAR_TRY(multiply(stream, g, &key, g->bias, workspace));
    return g->bias && !fused ? par__cuda_add_bias(stream, g, 1) : PAR_OK;
}

static par_status take_choices(const char *text) {
    PAR_TRY(par__gemm_choices_take(text));
    return par__gemm_choose_again();
}

par_status par__cuda_gemm_init(const par_device_params *params, par_backend *backend) {
    PAR_TRY(par__lt_open(params->tf32));
    par__gemm_choices_open(params->tune);
    backend->choices = par__gemm_choices;
    backend->choose = take_choices;
    column_sum = &backend->kernels[PAR_OP_COLUMN_SUM];
    backend->kernels[PAR_OP_GEMM] = (par_kernel){
        params->tf32 ? "gemm/cuda/cublaslt (fp32 as TF32)" : "gemm/cuda/cublaslt", prepare, run};
    return PAR_OK;
}
