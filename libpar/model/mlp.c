/*
 * The MLP branch: up, GELU, down; or gate and up as one GEMM, SwiGLU, down. The width is split over
 * tp; if it does not divide, the last ranks are padded with zeros. Padding stays zero: a padded
 * unit's output is f(0) = 0, and its weights' gradients are products with zeros.
 */
#include <math.h>
#include <stdio.h>

#include "layers.h"

static int64_t u_width(const par__mlp *mlp) {
    return mlp->swiglu ? 2 * mlp->F : mlp->F;
}

static par_gelu gelu_args(const par__mlp *mlp, const par__module_place *place) {
    return (par_gelu){.dtype = place->dtype, .n = place->N * mlp->F, .erf = mlp->erf};
}

static par_swiglu swiglu_args(const par__mlp *mlp, const par__module_place *place) {
    return (par_swiglu){.dtype = place->dtype, .m = place->N, .n = mlp->F};
}

static par_status prepare(par__mlp *mlp, par__module_place *place, par_build *build) {
    par_gelu gelu = gelu_args(mlp, place);
    par_swiglu swiglu = swiglu_args(mlp, place);
    if (mlp->swiglu) {
        PAR_TRY(par__branch_prepare_pieces(&mlp->branch, place, build, NULL));
        PAR_TRY(par__swiglu_prepare(place, build, &swiglu));
        return par__swiglu_backward_prepare(place, build, &swiglu);
    }
    if (!mlp->erf)
        PAR_TRY(par__linear_prepare_gelu(&mlp->branch.in, &mlp->branch.out, place, build, place->N,
                                         &mlp->fused));
    PAR_TRY(par__branch_prepare_pieces(&mlp->branch, place, build, &mlp->fused));
    PAR_TRY(par__gelu_prepare(place, build, &gelu));
    return par__gelu_backward_prepare(place, build, &gelu);
}

par_status par__mlp_build(par__mlp *mlp, par__module_place *place, par_build *build,
                          const par_transformer_config *config, int layer, size_t *areas) {
    char prefix[64];
    double std = par__init_std(config);
    par__share gate_up[2] = {par__split("gate", config->mlp, place->p, place->r),
                             par__split("up", config->mlp, place->p, place->r)};
    par__share down = par__split("down", config->mlp, place->p, place->r);
    *mlp = (par__mlp){.swiglu = config->swiglu, .erf = config->gelu_erf, .F = down.local};
    snprintf(prefix, sizeof prefix, "layers.%d.mlp", layer);
    PAR_TRY(par__linear_build_output_split(&mlp->branch.in, place, build, prefix,
                                           mlp->swiglu ? gate_up : gate_up + 1, mlp->swiglu ? 2 : 1,
                                           config->channels, config->bias, false, std));
    PAR_TRY(par__linear_build_input_split(&mlp->branch.out, place, build, prefix, &down,
                                          config->channels, config->bias,
                                          std / sqrt(2.0 * (double)config->layers)));
    PAR_TRY(par__branch_build(&mlp->branch, place, build, config, prefix,
                              (uint32_t)place->layer * 4 + 3));
    size_t a_nbytes = par__module_place_nbytes(place, place->N * mlp->F);
    size_t u_nbytes = par__module_place_nbytes(place, place->N * u_width(mlp));
    mlp->u = par__keep(build, "mlp.up", u_nbytes);
    if (!place->selective) mlp->a = par__keep(build, "mlp.activated", a_nbytes);
    mlp->da = par__reserve(areas, a_nbytes);
    /* GELU's backward works in place */
    mlp->du = mlp->swiglu ? par__reserve(areas, u_nbytes) : mlp->da;
    return prepare(mlp, place, build);
}

par_status par__mlp_build_decode(par__mlp *decode, par__module_place *place, par_build *build) {
    par_gelu gelu = gelu_args(decode, place);
    par_swiglu swiglu = swiglu_args(decode, place);
    PAR_TRY(par__branch_build_decode(&decode->branch, place, build));
    PAR_TRY(par__linear_prepare_forward(&decode->branch.in, place, build, place->N));
    decode->decodes = true;
    decode->fused = false; /* that was asked for the rows of training */
    decode->u = par__reserve(&place->scratch_nbytes,
                             par__module_place_nbytes(place, place->N * u_width(decode)));
    decode->da =
        par__reserve(&place->scratch_nbytes, par__module_place_nbytes(place, place->N * decode->F));
    return decode->swiglu ? par__swiglu_prepare(place, build, &swiglu)
                          : par__gelu_prepare(place, build, &gelu);
}

static char *before_activation(const par__mlp *mlp, const par_call *call) {
    return (char *)(mlp->decodes ? call->scratch : call->stash) + mlp->u;
}

static void *activation(const par__mlp *mlp, const par__module_place *place, const par_call *call) {
    return place->selective ? (char *)call->scratch + mlp->da : (char *)call->stash + mlp->a;
}

static par_status activate(const par__mlp *mlp, const par__module_place *place,
                           const par_call *call) {
    par_gelu gelu = gelu_args(mlp, place);
    par_swiglu swiglu = swiglu_args(mlp, place);
    gelu.x = swiglu.x = before_activation(mlp, call);
    gelu.y = swiglu.y = activation(mlp, place, call);
    return mlp->swiglu ? par__swiglu_run(place, call, &swiglu) : par__gelu_run(place, call, &gelu);
}

par_status par__mlp_forward(const par__mlp *mlp, const par__module_place *place,
                            const par_call *call, const par_residual *sum, const void *x, void *y) {
    par_residual last;
    void *u = before_activation(mlp, call), *a = activation(mlp, place, call);
    PAR_TRY(par__branch_input(&mlp->branch, place, call, sum, x, u, mlp->fused ? a : NULL));
    if (!mlp->fused) PAR_TRY(activate(mlp, place, call));
    PAR_TRY(par__branch_output(&mlp->branch, place, call, a, x, y, &last));
    return par__residual_run(place, call, &last);
}

par_status par__mlp_backward(const par__mlp *mlp, const par__module_place *place,
                             const par_call *call, const void *x, const void *dy, void *dx) {
    void *da = (char *)call->scratch + mlp->da, *du = (char *)call->scratch + mlp->du;
    const void *dp = NULL;
    PAR_TRY(par__branch_output_backward(&mlp->branch, place, call, dy, &dp));
    if (place->selective) PAR_TRY(activate(mlp, place, call));
    PAR_TRY(par__linear_backward_weight(&mlp->branch.out, place, call, place->N,
                                        activation(mlp, place, call), dp));
    /* from here on a recomputed activation is dead and da takes its place */
    if (mlp->fused) {
        PAR_TRY(par__linear_backward_gelu(&mlp->branch.out, place, call, place->N, dp,
                                          before_activation(mlp, call), du));
    } else {
        PAR_TRY(par__linear_backward_input(&mlp->branch.out, place, call, place->N, dp, da));
        par_gelu gelu = gelu_args(mlp, place);
        par_swiglu swiglu = swiglu_args(mlp, place);
        gelu.x = swiglu.x = before_activation(mlp, call);
        gelu.dy = swiglu.dy = da;
        gelu.dx = swiglu.dx = du;
        PAR_TRY(mlp->swiglu ? par__swiglu_backward_run(place, call, &swiglu)
                            : par__gelu_backward_run(place, call, &gelu));
    }
    return par__branch_input_backward(&mlp->branch, place, call, x, du, dy, dx);
}
