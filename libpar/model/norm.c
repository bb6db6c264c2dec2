/*
 * LayerNorm or RMSNorm over own rows, and the gather of its output. The output is kept as own rows
 * alone and gathered again for the weight gradients, or recomputed (Korthikanti et al. 2022).
 * Weights lie on every tp rank; with sequence parallel each rank's rows give a part of their
 * gradients. LayerNorm without bias runs with constant zeros and throws the bias' gradient away.
 */
#include <stdio.h>

#include "layers.h"

static par_norm shape(const par__norm *norm, const par__module_place *place) {
    return (par_norm){.dtype = place->dtype, .m = place->rows, .n = place->C, .eps = norm->eps};
}

static par_status build_bias(par__norm *norm, par__module_place *place, par_build *build, bool bias,
                             const char *prefix) {
    char name[96];
    void *zero = NULL;
    if (norm->rms) return PAR_OK;
    if (bias) {
        snprintf(name, sizeof name, "%s.bias", prefix);
        return par__replicated(place, build, name, 1, place->C, 1, PAR_INIT_CONSTANT, 0, &norm->b);
    }
    norm->db = par__reserve(&place->scratch_nbytes, (size_t)place->C * sizeof(float));
    PAR_TRY(par_memory_take(build->memory, PAR_MEM_WEIGHTS, "zero biases",
                            par__module_place_nbytes(place, place->C), &zero));
    norm->zero = zero;
    return PAR_OK;
}

static void reserve_statistics(par__norm *norm, const par__module_place *place, par_build *build) {
    norm->mean = par__keep(build, "norm.mean", (size_t)place->rows * sizeof(float));
    norm->rstd = par__keep(build, "norm.rstd", (size_t)place->rows * sizeof(float));
}

par_status par__norm_build_decode(par__norm *decode, par__module_place *place, par_build *build) {
    par_norm args = shape(decode, place);
    reserve_statistics(decode, place, build);
    return decode->rms ? par__rmsnorm_prepare(place, build, &args)
                       : par__layernorm_prepare(place, build, &args);
}

par_status par__norm_prepare_added(const par__norm *norm, par__module_place *place,
                                   par_build *build) {
    par_norm args = shape(norm, place);
    const par_residual sum = {.dtype = args.dtype,
                              .m = args.m,
                              .n = args.n,
                              .T = place->T,
                              .first_row = place->first_row};
    args.residual = &sum;
    return norm->rms ? par__rmsnorm_prepare(place, build, &args)
                     : par__layernorm_prepare(place, build, &args);
}

par_status par__norm_build(par__norm *norm, par__module_place *place, par_build *build,
                           const par_transformer_config *config, const char *prefix) {
    char name[96];
    *norm = (par__norm){.rms = config->rmsnorm, .eps = config->norm_eps};
    snprintf(name, sizeof name, "%s.weight", prefix);
    PAR_TRY(par__replicated(place, build, name, 1, place->C, 1, PAR_INIT_CONSTANT, 1, &norm->w));
    PAR_TRY(build_bias(norm, place, build, config->bias, prefix));
    if (!place->selective)
        norm->h = par__keep(build, "norm.output",
                            par__module_place_nbytes(place, place->rows * place->C));
    reserve_statistics(norm, place, build);
    par_norm args = shape(norm, place);
    if (norm->rms) {
        PAR_TRY(par__rmsnorm_prepare(place, build, &args));
        return par__rmsnorm_backward_prepare(place, build, &args);
    }
    PAR_TRY(par__layernorm_prepare(place, build, &args));
    return par__layernorm_backward_prepare(place, build, &args);
}

static par_norm with_data(const par__norm *norm, const par__module_place *place,
                          const par_call *call, const void *x) {
    par_norm args = shape(norm, place);
    args.x = x;
    args.w = norm->w->weight;
    if (!norm->rms) args.b = norm->b ? norm->b->weight : norm->zero;
    args.mean = norm->rms ? NULL : (float *)((char *)call->stash + norm->mean);
    args.rstd = (float *)((char *)call->stash + norm->rstd);
    return args;
}

/* Where own rows of the output are. */
static void *own_output(const par__norm *norm, const par__module_place *place, const par_call *call,
                        void *full) {
    return place->selective ? par__own_rows(place, full) : (char *)call->stash + norm->h;
}

static par_status run(const par__norm *norm, const par__module_place *place, const par_call *call,
                      const par_residual *sum, const void *x, void *y) {
    par_norm args = with_data(norm, place, call, x);
    args.y = y;
    args.residual = sum;
    return norm->rms ? par__rmsnorm_run(place, call, &args)
                     : par__layernorm_run(place, call, &args);
}

par_status par__norm_forward(const par__norm *norm, const par__module_place *place,
                             const par_call *call, const par_residual *sum, const void *x,
                             int which, const void **h) {
    void *full = par__full(place, call, which), *own = own_output(norm, place, call, full);
    PAR_TRY(run(norm, place, call, sum, x, own));
    *h = place->sequence_parallel ? full : own;
    if (!place->sequence_parallel) return PAR_OK;
    return par__gather_rows(place, call, "activations forward", own, full, NULL);
}

par_status par__norm_forward_own(const par__norm *norm, const par__module_place *place,
                                 const par_call *call, const par_residual *sum, const void *x,
                                 int which, const void **h) {
    void *own = place->selective ? par__full(place, call, which) : (char *)call->stash + norm->h;
    *h = own;
    return run(norm, place, call, sum, x, own);
}

par_status par__norm_again(const par__norm *norm, const par__module_place *place,
                           const par_call *call, const void *x, int which, const void **h,
                           par_work *work) {
    void *full = par__full(place, call, which), *own = own_output(norm, place, call, full);
    if (place->selective) PAR_TRY(run(norm, place, call, NULL, x, own));
    *h = place->sequence_parallel ? full : own;
    if (!place->sequence_parallel) return PAR_OK;
    return par__gather_rows(place, call, "activations backward", own, full, work);
}

par_status par__norm_backward(const par__norm *norm, const par__module_place *place,
                              const par_call *call, const void *x, void *dh, const void *add,
                              void *dx) {
    par_norm args = with_data(norm, place, call, x);
    args.dy = par__own_rows(place, dh);
    args.add = add;
    args.dx = dx;
    args.dw = norm->w->grad;
    args.beta = par_grad_beta(norm->w);
    if (norm->b) {
        args.db = norm->b->grad;
        par_grad_beta(norm->b); /* written with its weight, so its beta is the same */
    } else if (!norm->rms) {
        /* beta may be 1 on old bytes of scratch: nothing reads the result */
        args.db = (float *)((char *)call->scratch + norm->db);
    }
    return norm->rms ? par__rmsnorm_backward_run(place, call, &args)
                     : par__layernorm_backward_run(place, call, &args);
}
