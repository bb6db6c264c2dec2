/*
 * RMSNorm of each head of q or k by one weight [D] (Dehghani et al. 2023; Qwen3's form): the heads
 * of all tokens are the rows of one norm, so they lie without gaps. Every tp rank has the weight
 * and its own heads, so its gradient is partial over tp, with and without sequence parallel; where
 * KV heads are copied, each copy has the gradient of its own query heads alone.
 */
#include "layers.h"

static par_norm shape(const par__head_norm *norm, const par__module_place *place) {
    return (par_norm){
        .dtype = place->dtype, .m = place->N * norm->heads, .n = norm->D, .eps = norm->eps};
}

static size_t reserve_statistics(const par__head_norm *norm, const par__module_place *place,
                                 par_build *build) {
    return par__keep(build, "attention.norm.rstd",
                     (size_t)(place->N * norm->heads) * sizeof(float));
}

par_status par__head_norm_build(par__head_norm *norm, par__module_place *place, par_build *build,
                                const par_transformer_config *config, const char *name,
                                int64_t heads) {
    *norm = (par__head_norm){.eps = config->norm_eps, .heads = heads, .D = config->head_size};
    PAR_TRY(par__partial(place, build, name, norm->D, 1, &norm->w));
    norm->rstd = reserve_statistics(norm, place, build);
    par_norm args = shape(norm, place);
    PAR_TRY(par__rmsnorm_prepare(place, build, &args));
    return par__rmsnorm_backward_prepare(place, build, &args);
}

par_status par__head_norm_build_decode(par__head_norm *decode, par__module_place *place,
                                       par_build *build) {
    par_norm args = shape(decode, place);
    decode->rstd = reserve_statistics(decode, place, build);
    return par__rmsnorm_prepare(place, build, &args);
}

static par_norm with_data(const par__head_norm *norm, const par__module_place *place,
                          const par_call *call, const void *x) {
    par_norm args = shape(norm, place);
    args.x = x;
    args.w = norm->w->weight;
    args.rstd = (float *)((char *)call->stash + norm->rstd);
    return args;
}

par_status par__head_norm_forward(const par__head_norm *norm, const par__module_place *place,
                                  const par_call *call, const void *x, void *y) {
    par_norm args = with_data(norm, place, call, x);
    args.y = y;
    return par__rmsnorm_run(place, call, &args);
}

par_status par__head_norm_sequence(const par__head_norm *norm, const par__module_place *place,
                                   const par_call *call, const void *x, void *y) {
    par_norm args = with_data(norm, place, call, x);
    args.m = norm->heads;
    args.y = y;
    return par__rmsnorm_run(place, call, &args);
}

par_status par__head_norm_backward(const par__head_norm *norm, const par__module_place *place,
                                   const par_call *call, const void *x, void *dy) {
    par_norm args = with_data(norm, place, call, x);
    args.dy = args.dx = dy;
    args.dw = norm->w->grad;
    args.beta = par_grad_beta(norm->w);
    return par__rmsnorm_backward_run(place, call, &args);
}
