/* Plans of products: what each depends on, and the cache of them. */
#include <string.h>

#include "kernels/cuda/gemm/gemm.h"

static bool whole(int64_t ld, par_dtype dtype) {
    return ld * par__lt_nbytes(dtype) % PAR__GEMM_ALIGNED == 0;
}

par__gemm_key par__gemm_key_of(const par_gemm *g, bool bias) {
    par__gemm_key out;
    memset(&out, 0, sizeof out);
    out.m = g->m, out.n = g->n, out.k = g->k;
    out.lda = g->lda, out.ldb = g->ldb, out.ldc = g->ldc;
    out.dtype = (int32_t)g->dtype, out.dtype_c = (int32_t)g->dtype_c;
    out.ta = g->ta, out.tb = g->tb, out.bias = bias, out.epilogue = (int32_t)g->epilogue;
    out.aligned = whole(g->lda, g->dtype) && whole(g->ldb, g->dtype) && whole(g->ldc, g->dtype_c);
    return out;
}

/* The algorithm of a described plan. */
static par_status choose(par__gemm_plan *p) {
    cublasLtMatmulHeuristicResult_t candidates[PAR__GEMM_CANDIDATES];
    int n = 0, chosen = 0;
    PAR_TRY(par__lt_candidates(p, candidates, &n));
    if (p->refused) return PAR_OK;
    PAR_TRY(par__gemm_choose(p, candidates, n, &chosen));
    p->algorithm = candidates[chosen].algo;
    return PAR_OK;
}

static par_status make(const void *key, void *plan) {
    par__gemm_plan *p = plan;
    p->key = key;
    PAR_TRY(par__lt_describe(p));
    par_status st = choose(p);
    if (st != PAR_OK) par__lt_forget(p);
    return st;
}

par__plan_cache par__gemm_plans = {.what = "products",
                                   .key_nbytes = sizeof(par__gemm_key),
                                   .plan_nbytes = sizeof(par__gemm_plan),
                                   .make = make,
                                   .lock = PTHREAD_MUTEX_INITIALIZER};

static par_status again(const void *key, void *plan) {
    return choose(plan);
}

par_status par__gemm_choose_again(void) {
    return par__plan_each(&par__gemm_plans, again);
}
