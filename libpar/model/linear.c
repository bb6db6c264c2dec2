/*
 * Linear layers split over tp (Shoeybi et al. 2019): by output channels, where the input is whole
 * and dx is partial, or by input channels, where the output is partial and the bias is added once
 * after the sum. Fused tensors (q, k, v; gate, up) are adjacent parameters that one GEMM sees as
 * one matrix, unless their outputs are to lie in blocks of their own.
 */
#include <stdint.h>
#include <stdio.h>

#include "layers.h"

/* One tensor [rows, columns] or [rows] of a layer. */
static par_status build_one(par_build *build, const char *prefix, const char *name,
                            const char *what, const par__share *rows, const par__share *columns,
                            double std, bool adjacent, par_param **out) {
    par_param_spec spec = {.ndim = columns ? 2 : 1,
                           .decay = columns != NULL,
                           .global = {rows->global, columns ? columns->global : 1},
                           .offset = {rows->offset, columns ? columns->offset : 0},
                           .extent = {rows->extent, columns ? columns->extent : 1},
                           .local = {rows->local, columns ? columns->local : 1},
                           .replica = rows->replica,
                           .n_replicas = rows->n_replicas,
                           .sum = rows->sum,
                           .init = std > 0 ? PAR_INIT_NORMAL : PAR_INIT_CONSTANT,
                           .init_value = std};
    int n = snprintf(spec.name, sizeof spec.name, "%s.%s.%s", prefix, name, what);
    if (n < 0 || n >= (int)sizeof spec.name)
        PAR_FAIL(PAR_ERR_ARG, "parameter name %s.%s is too long", prefix, name);
    return par_build_param(build, &spec, adjacent, out);
}

par_status par__linear_build_output_split(par__linear *linear, par__module_place *place,
                                          par_build *build, const char *prefix,
                                          const par__share *shares, int n_parts, int64_t in,
                                          bool bias, bool blocks, double std) {
    par__share columns = par__split(NULL, in, 1, 0);
    *linear =
        (par__linear){.n_parts = n_parts, .in = in, .blocks = blocks, .dtype_y = place->dtype};
    for (int i = 0; i < n_parts; i++) {
        linear->out += shares[i].local;
        PAR_TRY(build_one(build, prefix, shares[i].name, "weight", &shares[i], &columns, std, i > 0,
                          &linear->weights[i]));
    }
    for (int i = 0; bias && i < n_parts; i++)
        PAR_TRY(build_one(build, prefix, shares[i].name, "bias", &shares[i], NULL, 0, i > 0,
                          &linear->biases[i]));
    return par__linear_prepare(linear, place, build, place->N);
}

par_status par__linear_build_input_split(par__linear *linear, par__module_place *place,
                                         par_build *build, const char *prefix, const par__share *in,
                                         int64_t out, bool bias, double std) {
    par__share rows = par__split(in->name, out, 1, 0);
    char name[96];
    *linear = (par__linear){
        .n_parts = 1, .in = in->local, .out = out, .bias_apart = true, .dtype_y = place->dtype};
    PAR_TRY(
        build_one(build, prefix, in->name, "weight", &rows, in, std, false, &linear->weights[0]));
    snprintf(name, sizeof name, "%s.%s.bias", prefix, in->name);
    if (bias)
        PAR_TRY(par__replicated(place, build, name, 1, out, 1, PAR_INIT_CONSTANT, 0,
                                &linear->biases[0]));
    return par__linear_prepare(linear, place, build, place->N);
}

static int n_products(const par__linear *linear) {
    return linear->blocks ? linear->n_parts : 1;
}

/* What the i-th of them computes, as a layer of its own. */
static par__linear product(const par__linear *linear, int i) {
    par__linear one = *linear;
    if (!linear->blocks) return one;
    one.n_parts = 1;
    one.weights[0] = linear->weights[i];
    one.biases[0] = linear->biases[i];
    one.out = linear->weights[i]->local[0];
    return one;
}

/* Where the block of the product behind `one` begins, if that of `one` begins at y [m, one.out]. */
static char *next_block(const par__module_place *place, const par__linear *one, int64_t m,
                        const void *y) {
    return (char *)(uintptr_t)y + par__module_place_nbytes(place, m * one->out);
}

static const void *weight(const par__linear *linear) {
    return linear->weights[0] ? linear->weights[0]->weight : NULL;
}

static par_gemm forward_args(const par__linear *l, const par__module_place *place, int64_t m,
                             const void *x, void *y) {
    return (par_gemm){.dtype = place->dtype,
                      .dtype_c = l->dtype_y,
                      .tb = true,
                      .m = m,
                      .n = l->out,
                      .k = l->in,
                      .a = x,
                      .lda = l->in,
                      .b = weight(l),
                      .ldb = l->in,
                      .c = y,
                      .ldc = l->out,
                      .bias = l->biases[0] && !l->bias_apart ? l->biases[0]->weight : NULL};
}

static par_gemm input_args(const par__linear *l, const par__module_place *place, int64_t m,
                           const void *dy, void *dx) {
    return (par_gemm){.dtype = place->dtype,
                      .dtype_c = place->dtype,
                      .m = m,
                      .n = l->in,
                      .k = l->out,
                      .a = dy,
                      .lda = l->out,
                      .b = weight(l),
                      .ldb = l->in,
                      .c = dx,
                      .ldc = l->in};
}

static par_gemm weight_args(const par__linear *l, const par__module_place *place, int64_t m,
                            const void *x, const void *dy) {
    return (par_gemm){.dtype = place->dtype,
                      .dtype_c = PAR_F32,
                      .ta = true,
                      .m = l->out,
                      .n = l->in,
                      .k = m,
                      .a = dy,
                      .lda = l->out,
                      .b = x,
                      .ldb = l->in,
                      .c = l->weights[0]->grad,
                      .ldc = l->in};
}

static par_column_sum bias_args(const par__linear *l, const par__module_place *place, int64_t m,
                                const void *dy) {
    return (par_column_sum){.dtype = place->dtype, .m = m, .n = l->out, .x = dy, .ldx = l->out};
}

par_status par__linear_prepare_forward(const par__linear *linear, par__module_place *place,
                                       par_build *build, int64_t m) {
    for (int i = 0; i < n_products(linear); i++) {
        par__linear one = product(linear, i);
        par_gemm args = forward_args(&one, place, m, NULL, NULL);
        PAR_TRY(par__linear_product_prepare(&one, place, build, &args));
    }
    return PAR_OK;
}

static par_gemm part_args(const par__linear *l, const par__module_place *place, int part, int64_t m,
                          const void *x, void *y, int64_t ldy) {
    par_gemm args = forward_args(l, place, m, x, y);
    args.n = l->weights[part]->local[0];
    args.b = l->weights[part]->weight;
    args.ldc = ldy;
    if (args.bias) args.bias = l->biases[part]->weight;
    return args;
}

par_status par__linear_prepare_part(const par__linear *linear, par__module_place *place,
                                    par_build *build, int part, int64_t m, int64_t ldy) {
    par_gemm args = part_args(linear, place, part, m, NULL, NULL, ldy);
    return par__linear_product_prepare(linear, place, build, &args);
}

par_status par__linear_forward_part(const par__linear *linear, const par__module_place *place,
                                    const par_call *call, int part, int64_t m, const void *x,
                                    void *y, int64_t ldy) {
    par_gemm args = part_args(linear, place, part, m, x, y, ldy);
    int64_t row = 0;
    for (int i = 0; i < part; i++) row += linear->weights[i]->local[0];
    return par__linear_product_run(linear, place, call, &args, row);
}

/* A product with an epilogue, which a version may refuse: only then is *has false. */
static par_status prepare_epilogue(par__module_place *place, par_build *build, par_gemm args,
                                   par_epilogue epilogue, bool *has) {
    args.epilogue = epilogue;
    par_status st = par__gemm_prepare(place, build, &args);
    *has = st == PAR_OK;
    return st == PAR_ERR_UNSUPPORTED ? PAR_OK : st;
}

static par_status prepare_product(par__linear *linear, par__module_place *place, par_build *build,
                                  int64_t m) {
    par_gemm forward = forward_args(linear, place, m, NULL, NULL),
             input = input_args(linear, place, m, NULL, NULL),
             weights = weight_args(linear, place, m, NULL, NULL);
    par_column_sum bias = bias_args(linear, place, m, NULL);
    PAR_TRY(par__gemm_prepare(place, build, &forward));
    PAR_TRY(par__gemm_prepare(place, build, &input));
    /* where the bias is apart its gradient sums own rows, that of the weights all */
    if (linear->biases[0] && !linear->bias_apart && !linear->blocks)
        PAR_TRY(prepare_epilogue(place, build, weights, PAR_EPILOGUE_BIAS_GRADIENT,
                                 &linear->bias_gradient));
    if (!linear->bias_gradient) PAR_TRY(par__gemm_prepare(place, build, &weights));
    return linear->biases[0] ? par__column_sum_prepare(place, build, &bias) : PAR_OK;
}

par_status par__linear_prepare(par__linear *linear, par__module_place *place, par_build *build,
                               int64_t m) {
    if (build->forward_only) return par__linear_prepare_forward(linear, place, build, m);
    if (!linear->blocks) return prepare_product(linear, place, build, m);
    for (int i = 0; i < linear->n_parts; i++) {
        par__linear one = product(linear, i);
        PAR_TRY(prepare_product(&one, place, build, m));
    }
    return PAR_OK;
}

/* Rows [first, first + m) of y [n, out]. */
static par_status forward(const par__linear *linear, const par__module_place *place,
                          const par_call *call, int64_t first, int64_t m, int64_t n, const void *x,
                          void *y) {
    for (int64_t i = 0, row = 0; i < n_products(linear); i++) {
        par__linear one = product(linear, (int)i);
        size_t at = (size_t)(first * one.out) * par_dtype_nbytes(one.dtype_y);
        par_gemm args = forward_args(&one, place, m, x, (char *)y + at);
        PAR_TRY(par__linear_product_run(&one, place, call, &args, row));
        row += one.out;
        y = next_block(place, &one, n, y);
    }
    return PAR_OK;
}

par_status par__linear_forward(const par__linear *linear, const par__module_place *place,
                               const par_call *call, int64_t m, const void *x, void *y) {
    return forward(linear, place, call, 0, m, m, x, y);
}

par_status par__linear_forward_rows(const par__linear *linear, const par__module_place *place,
                                    const par_call *call, int64_t row, int64_t m, const void *x,
                                    void *y) {
    return forward(linear, place, call, row, m, place->N, x, y);
}

par_status par__linear_backward_input(const par__linear *linear, const par__module_place *place,
                                      const par_call *call, int64_t m, const void *dy, void *dx) {
    for (int i = 0; i < n_products(linear); i++) {
        par__linear one = product(linear, i);
        par_gemm args = input_args(&one, place, m, dy, dx);
        args.beta = i > 0 ? 1 : 0;
        PAR_TRY(par__gemm_run(place, call, &args));
        dy = next_block(place, &one, m, dy);
    }
    return PAR_OK;
}

par_status par__linear_prepare_gelu(const par__linear *in, const par__linear *out,
                                    par__module_place *place, par_build *build, int64_t m,
                                    bool *has) {
    PAR_TRY(prepare_epilogue(place, build, forward_args(in, place, m, NULL, NULL),
                             PAR_EPILOGUE_GELU, has));
    return *has ? prepare_epilogue(place, build, input_args(out, place, m, NULL, NULL),
                                   PAR_EPILOGUE_GELU_BACKWARD, has)
                : PAR_OK;
}

par_status par__linear_forward_gelu(const par__linear *in, const par__module_place *place,
                                    const par_call *call, int64_t m, const void *x, void *u,
                                    void *a) {
    par_gemm args = forward_args(in, place, m, x, a);
    args.epilogue = PAR_EPILOGUE_GELU;
    args.aux = u;
    return par__gemm_run(place, call, &args);
}

par_status par__linear_backward_gelu(const par__linear *out, const par__module_place *place,
                                     const par_call *call, int64_t m, const void *dy, void *u,
                                     void *du) {
    par_gemm args = input_args(out, place, m, dy, du);
    args.epilogue = PAR_EPILOGUE_GELU_BACKWARD;
    args.aux = u;
    return par__gemm_run(place, call, &args);
}

/* Adjacent parameters are written by the same calls, so all have the beta of the first. */
static float beta(par_param *const *params, int n) {
    float first = par_grad_beta(params[0]);
    for (int i = 1; i < n; i++) par_grad_beta(params[i]);
    return first;
}

par_status par__linear_backward_weight(const par__linear *linear, const par__module_place *place,
                                       const par_call *call, int64_t m, const void *x,
                                       const void *dy) {
    for (int i = 0; i < n_products(linear); i++) {
        par__linear one = product(linear, i);
        par_gemm args = weight_args(&one, place, m, x, dy);
        args.beta = beta(one.weights, one.n_parts);
        /* one beta is for both */
        bool with_bias = one.bias_gradient && one.biases[0]->written == (args.beta != 0);
        if (with_bias) {
            beta(one.biases, one.n_parts);
            args.epilogue = PAR_EPILOGUE_BIAS_GRADIENT;
            args.aux = one.biases[0]->grad;
        }
        PAR_TRY(par__gemm_run(place, call, &args));
        if (!with_bias && !one.bias_apart)
            PAR_TRY(par__linear_backward_bias(&one, place, call, m, dy));
        dy = next_block(place, &one, m, dy);
    }
    return PAR_OK;
}

par_status par__linear_backward_bias(const par__linear *linear, const par__module_place *place,
                                     const par_call *call, int64_t m, const void *dy) {
    par_column_sum args = bias_args(linear, place, m, dy);
    if (!linear->biases[0]) return PAR_OK;
    args.y = linear->biases[0]->grad;
    args.beta = beta(linear->biases, linear->n_parts);
    return par__column_sum_run(place, call, &args);
}
