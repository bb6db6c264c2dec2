/*
 * A linear layer's forward product, with the weights as they were trained or, for decoding, as
 * 8-bit integers: those are made of the former when a text begins, and lie in the module's stash.
 */
#include "layers.h"

static par_quantize quantize_args(const par__linear *l, const par__module_place *place) {
    return (par_quantize){.dtype = place->dtype, .m = l->out, .n = l->in, .ldx = l->in};
}

par_status par__linear_reserve_int8(par__linear *decode, par__module_place *place,
                                    par_build *build) {
    par_quantize args = quantize_args(decode, place);
    decode->int8 = build->int8;
    if (!decode->int8) return PAR_OK;
    size_t rows = (size_t)decode->out;
    decode->q = par__reserve(&build->stash_nbytes, rows * (size_t)decode->in);
    decode->scales = par__reserve(&build->stash_nbytes,
                                  rows * (size_t)par_int8_groups(decode->in) * sizeof(float));
    return par__quantize_prepare(place, build, &args);
}

par_status par__linear_quantize(const par__linear *decode, const par__module_place *place,
                                const par_call *call) {
    par_quantize args = quantize_args(decode, place);
    if (!decode->int8) return PAR_OK;
    args.x = decode->weights[0]->weight;
    args.q = (int8_t *)call->stash + decode->q;
    args.scales = (float *)((char *)call->stash + decode->scales);
    return par__quantize_run(place, call, &args);
}

/* The same product with the weights' copy; its pointers are left out. */
static par_gemm_int8 int8_args(const par_gemm *g) {
    return (par_gemm_int8){.dtype = g->dtype,
                           .dtype_c = g->dtype_c,
                           .m = g->m,
                           .n = g->n,
                           .k = g->k,
                           .a = g->a,
                           .lda = g->lda,
                           .c = g->c,
                           .ldc = g->ldc,
                           .bias = g->bias};
}

par_status par__linear_product_prepare(const par__linear *linear, par__module_place *place,
                                       par_build *build, const par_gemm *product) {
    par_gemm_int8 args = int8_args(product);
    return linear->int8 ? par__gemm_int8_prepare(place, build, &args)
                        : par__gemm_prepare(place, build, product);
}

par_status par__linear_product_run(const par__linear *linear, const par__module_place *place,
                                   const par_call *call, const par_gemm *product, int64_t row) {
    par_gemm_int8 args = int8_args(product);
    if (!linear->int8) return par__gemm_run(place, call, product);
    args.q = (const int8_t *)call->stash + linear->q + row * linear->in;
    args.scales = (const float *)((const char *)call->stash + linear->scales) +
                  row * par_int8_groups(linear->in);
    return par__gemm_int8_run(place, call, &args);
}
