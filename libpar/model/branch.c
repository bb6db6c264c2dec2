/*
 * The way into and out of attention and MLP. Forward: norm on own rows, gather; product partial
 * over tp, sum to own rows, bias, dropout, residual; in pieces: pieces.c. Backward is the mirror:
 * gather where forward summed, sum where forward gathered. The gather of the norm's output, which
 * the weights' gradient needs, runs under the product for the input's gradient, and the sum of that
 * one under the product for the weights'.
 */
#include <stdio.h>

#include "layers.h"

static par_residual residual_args(const par__module_place *place) {
    return (par_residual){.dtype = place->dtype,
                          .m = place->rows,
                          .n = place->C,
                          .T = place->T,
                          .first_row = place->first_row};
}

par_status par__branch_build(par__branch *branch, par__module_place *place, par_build *build,
                             const par_transformer_config *config, const char *prefix,
                             uint32_t site) {
    char name[96];
    par_residual residual = residual_args(place);
    snprintf(name, sizeof name, "%s.norm", prefix);
    PAR_TRY(par__norm_build(&branch->norm, place, build, config, name));
    branch->dropout = config->dropout;
    branch->site = site;
    residual.dropout.p = config->dropout;
    residual.dropout.site = site;
    return par__residual_prepare(place, build, &residual);
}

par_status par__branch_build_decode(par__branch *decode, par__module_place *place,
                                    par_build *build) {
    par_residual residual = residual_args(place);
    PAR_TRY(par__norm_build_decode(&decode->norm, place, build));
    PAR_TRY(par__linear_prepare_forward(&decode->out, place, build, place->N));
    return par__residual_prepare(place, build, &residual);
}

par_status par__branch_reserve_int8(par__branch *decode, par__module_place *place,
                                    par_build *build) {
    PAR_TRY(par__linear_reserve_int8(&decode->in, place, build));
    return par__linear_reserve_int8(&decode->out, place, build);
}

par_status par__branch_quantize(const par__branch *decode, const par__module_place *place,
                                const par_call *call) {
    PAR_TRY(par__linear_quantize(&decode->in, place, call));
    return par__linear_quantize(&decode->out, place, call);
}

par_status par__branch_input(const par__branch *branch, const par__module_place *place,
                             const par_call *call, const par_residual *sum, const void *x, void *y,
                             void *a) {
    const void *h = NULL;
    if (place->pieces > 1 && place->sequence_parallel)
        return par__branch_input_pieces(branch, place, call, sum, x, y, a);
    PAR_TRY(par__norm_forward(&branch->norm, place, call, sum, x, 0, &h));
    return a ? par__linear_forward_gelu(&branch->in, place, call, place->N, h, y, a)
             : par__linear_forward(&branch->in, place, call, place->N, h, y);
}

par_status par__branch_output(const par__branch *branch, const par__module_place *place,
                              const par_call *call, const void *o, const void *x, void *y,
                              par_residual *sum) {
    void *p = par__full(place, call, 0);
    *sum = residual_args(place);
    if (place->pieces > 1) {
        PAR_TRY(par__branch_output_pieces(branch, place, call, o, &sum->x));
    } else {
        PAR_TRY(par__linear_forward(&branch->out, place, call, place->N, o, p));
        PAR_TRY(par__reduce_rows(place, call, "activations forward", p, NULL));
        sum->x = par__own_rows(place, p);
    }
    sum->bias = branch->out.biases[0] ? branch->out.biases[0]->weight : NULL;
    sum->residual = x;
    sum->y = y;
    sum->dropout = par__dropout_of(place, call, branch->dropout, branch->site);
    return PAR_OK;
}

par_status par__branch_output_backward(const par__branch *branch, const par__module_place *place,
                                       const par_call *call, const void *dy, const void **dp) {
    void *full = par__full(place, call, 0);
    par_dropout dropout = par__dropout_of(place, call, branch->dropout, branch->site);
    PAR_TRY(par__dropout(place, call, dropout, dy, par__own_rows(place, full), dp));
    par_work gather = {0};
    const void *own = *dp;
    if (place->sequence_parallel) {
        PAR_TRY(par__gather_rows(place, call, "activations backward", own, full, &gather));
        *dp = full;
    }
    PAR_TRY(par__linear_backward_bias(&branch->out, place, call, place->rows, own));
    return par_work_wait(gather, call->stream);
}

par_status par__branch_input_backward(const par__branch *branch, const par__module_place *place,
                                      const par_call *call, const void *x, const void *dy,
                                      const void *add, void *dx) {
    void *dh = par__full(place, call, 0);
    const void *h = NULL;
    par_work gather = {0}, sum = {0};
    PAR_TRY(par__norm_again(&branch->norm, place, call, x, 1, &h, &gather));
    PAR_TRY(par__linear_backward_input(&branch->in, place, call, place->N, dy, dh));
    PAR_TRY(par_work_wait(gather, call->stream));
    PAR_TRY(par__reduce_rows(place, call, "activations backward", dh, &sum));
    PAR_TRY(par__linear_backward_weight(&branch->in, place, call, place->N, h, dy));
    PAR_TRY(par_work_wait(sum, call->stream));
    return par__norm_backward(&branch->norm, place, call, x, dh, add, dx);
}
