/*
 * A residual multilayer perceptron through par_module_ops. Blocks are tensor parallel by hand (Shoeybi et al.
 * 2019): W1 is split by rows (column-parallel), W2 by columns (row-parallel), and one all-reduce forward and
 * one backward make every tp rank's x and dx equal. Input and head are held by every tp rank.
 */
#include "residual_mlp.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef enum { INPUT, BLOCK, HEAD } kind;

/* One struct for all three: weights w1 [out1, in1], for blocks also w2 [C, hidden]. B samples. */
typedef struct {
    par_module base;
    const residual_mlp_config *config;
    kind kind;
    const par_backend *backend;
    par_comm *tp;
    par_param *w1, *b1, *w2, *b2;
    int64_t B, in, out, hidden; /* hidden: this rank's share */
} mlp;

/* Bytes of the gradient at the head of scratch, rounded so that what follows is aligned. */
static size_t workspace_offset(const mlp *s) {
    return ((size_t)(s->B * s->hidden) * sizeof(float) + 255) / 256 * 256;
}

/* c [m,n] = op(a) op(b) + bias + beta c, in fp32. */
static par_status multiply(const mlp *s, const par_call *call, bool ta, bool tb, int64_t m, int64_t n,
                           int64_t k, const float *a, const float *b, const float *bias, float beta,
                           float *c) {
    par_gemm gemm = {.dtype = PAR_F32,
                     .dtype_c = PAR_F32,
                     .ta = ta,
                     .tb = tb,
                     .m = m,
                     .n = n,
                     .k = k,
                     .a = a,
                     .lda = ta ? m : k,
                     .b = b,
                     .ldb = tb ? k : n,
                     .c = c,
                     .ldc = n,
                     .bias = bias,
                     .beta = beta};
    return par_kernel_run(s->backend, PAR_OP_GEMM, call->stream, &gemm,
                          (char *)call->scratch + workspace_offset(s));
}

static par_status add_columns(const mlp *s, const par_call *call, const float *x, int64_t n,
                              par_param *bias) {
    par_column_sum sum = {
        .dtype = PAR_F32, .m = s->B, .n = n, .x = x, .ldx = n, .y = bias->grad, .beta = par_grad_beta(bias)};
    return par_kernel_run(s->backend, PAR_OP_COLUMN_SUM, call->stream, &sum,
                          (char *)call->scratch + workspace_offset(s));
}

static par_status sum_over_tp(const mlp *s, const par_call *call, float *x) {
    par_tag tag = {"activations", s->base.layer, -1, call->micro};
    if (par_comm_size(s->tp) == 1) return PAR_OK;
    return par_comm_all_reduce(s->tp, x, x, s->B * s->config->channels, PAR_F32, tag, call->stream, NULL);
}

/* A matrix or (columns 0) a vector; `split` 0 or 1 is the dimension that is cut over tp, -1: every tp rank
 * has all. */
static par_status parameter(mlp *s, par_build *build, const char *name, int64_t rows, int64_t columns,
                            int split, par_param **out) {
    int p = par_comm_size(s->tp), rank = par_comm_rank(s->tp);
    par_param_spec spec = {.ndim = columns ? 2 : 1,
                           .decay = columns > 0,
                           .n_replicas = 1,
                           .init = PAR_INIT_CONSTANT,
                           .global = {rows, columns ? columns : 1}};
    snprintf(spec.name, sizeof spec.name, "%d.%s", s->base.layer, name);
    for (int i = 0; i < 2; i++)
        spec.extent[i] = spec.local[i] = i == split ? spec.global[i] / p : spec.global[i];
    if (split >= 0) spec.offset[split] = rank * spec.extent[split];
    if (split < 0) {
        spec.replica = (int16_t)rank; /* equal gradients on all tp ranks: nothing to add */
        spec.n_replicas = (int16_t)p;
    }
    if (columns) {
        spec.init = PAR_INIT_NORMAL;
        spec.init_value = 1 / sqrt((double)columns);
    }
    return par_build_param(build, &spec, false, out);
}

/* The three products of a linear layer [out, in] and the gradient of its bias. */
static par_status prepare_linear(const mlp *s, par_build *build, int64_t out, int64_t in, size_t *nbytes) {
    par_gemm y = {.tb = true, .m = s->B, .n = out, .k = in, .lda = in, .ldb = in, .ldc = out};
    par_gemm dw = {.ta = true, .m = out, .n = in, .k = s->B, .lda = out, .ldb = in, .ldc = in, .beta = 1};
    par_gemm dx = {.m = s->B, .n = in, .k = out, .lda = out, .ldb = in, .ldc = in};
    par_column_sum db = {.m = s->B, .n = out, .ldx = out};
    PAR_TRY(par_build_prepare(build, PAR_OP_GEMM, &y, nbytes));
    PAR_TRY(par_build_prepare(build, PAR_OP_GEMM, &dw, nbytes));
    PAR_TRY(par_build_prepare(build, PAR_OP_GEMM, &dx, nbytes));
    return par_build_prepare(build, PAR_OP_COLUMN_SUM, &db, nbytes);
}

/* Scratch: a gradient [B, hidden], then the kernels' workspace. */
static par_status prepare(mlp *s, par_build *build) {
    size_t workspace = 0;
    if (s->kind == BLOCK) {
        PAR_TRY(prepare_linear(s, build, s->hidden, s->in, &workspace));
        PAR_TRY(prepare_linear(s, build, s->out, s->hidden, &workspace));
    } else {
        PAR_TRY(prepare_linear(s, build, s->out, s->in, &workspace));
    }
    build->scratch_nbytes = workspace_offset(s) + workspace;
    return PAR_OK;
}

static par_status mlp_build(par_module *module, par_build *build) {
    mlp *s = (mlp *)module;
    const residual_mlp_config *c = s->config;
    s->tp = build->mesh->axis[PAR_TP];
    s->backend = build->backend;
    s->B = build->micro_batch;
    s->in = s->kind == INPUT ? c->inputs : c->channels;
    s->out = s->kind == HEAD ? c->outputs : c->channels;
    s->hidden = s->kind == BLOCK ? c->hidden / par_comm_size(s->tp) : s->out;
    if (c->hidden % par_comm_size(s->tp))
        PAR_FAIL(PAR_ERR_LAYOUT, "hidden %lld must be a multiple of tp %d", (long long)c->hidden,
                 par_comm_size(s->tp));
    bool block = s->kind == BLOCK;
    PAR_TRY(parameter(s, build, "w1", block ? c->hidden : s->out, s->in, block ? 0 : -1, &s->w1));
    PAR_TRY(parameter(s, build, "b1", block ? c->hidden : s->out, 0, block ? 0 : -1, &s->b1));
    if (block) {
        PAR_TRY(parameter(s, build, "w2", s->out, c->hidden, 1, &s->w2));
        PAR_TRY(parameter(s, build, "b2", s->out, 0, -1, &s->b2));
    }
    build->y = s->kind == HEAD ? par_tensor_make(NULL, PAR_F32, 1, 2, 1, 1, 1)
                               : par_tensor_make(NULL, PAR_F32, 2, s->B, s->out, 1, 1);
    build->stash_nbytes = s->kind == INPUT ? 0 : (size_t)(s->B * s->hidden) * sizeof(float);
    return prepare(s, build);
}

static par_status block_forward(mlp *s, const par_call *call, const float *x, float *y) {
    float *h = call->stash; /* relu(W1 x + b1) [B, hidden] */
    int64_t C = s->config->channels;
    PAR_TRY(multiply(s, call, false, true, s->B, s->hidden, C, x, s->w1->weight, s->b1->weight, 0, h));
    for (int64_t i = 0; i < s->B * s->hidden; i++) h[i] = h[i] > 0 ? h[i] : 0;
    PAR_TRY(multiply(s, call, false, true, s->B, C, s->hidden, h, s->w2->weight, NULL, 0, y));
    PAR_TRY(sum_over_tp(s, call, y));
    const float *bias = s->b2->weight;
    for (int64_t i = 0; i < s->B * C; i++) y[i] += x[i] + bias[i % C];
    return PAR_OK;
}

/* y = {sum of squared errors, how many}; the stash keeps the errors. */
static par_status head_forward(mlp *s, const par_call *call, const float *x, float *y) {
    float *error = call->stash;
    const float *targets = call->targets;
    double sum = 0;
    PAR_TRY(multiply(s, call, false, true, s->B, s->out, s->in, x, s->w1->weight, s->b1->weight, 0, error));
    for (int64_t i = 0; i < s->B * s->out; i++) {
        error[i] -= targets[i];
        sum += (double)error[i] * error[i];
    }
    y[0] = (float)sum;
    y[1] = (float)(s->B * s->out);
    return PAR_OK;
}

static par_status mlp_forward(par_module *module, const par_call *call, const par_tensor *x, par_tensor *y) {
    mlp *s = (mlp *)module;
    if (s->kind == BLOCK) return block_forward(s, call, x->data, y->data);
    if (s->kind == HEAD) return head_forward(s, call, x->data, y->data);
    return multiply(s, call, false, true, s->B, s->out, s->in, x->data, s->w1->weight, s->b1->weight, 0,
                    y->data);
}

/* Gradients of y = x Wᵀ + b: dW += dyᵀ x, db += column sums of dy, dx = dy W. */
static par_status linear_backward(mlp *s, const par_call *call, const float *x, const float *dy, int64_t n,
                                  int64_t k, par_param *w, par_param *b, float *dx) {
    PAR_TRY(multiply(s, call, true, false, n, k, s->B, dy, x, NULL, par_grad_beta(w), w->grad));
    if (b) PAR_TRY(add_columns(s, call, dy, n, b));
    return dx ? multiply(s, call, false, false, s->B, k, n, dy, w->weight, NULL, 0, dx) : PAR_OK;
}

static par_status block_backward(mlp *s, const par_call *call, const float *x, const float *dy, float *dx) {
    const float *h = call->stash;
    float *dh = call->scratch;
    int64_t C = s->config->channels;
    PAR_TRY(linear_backward(s, call, h, dy, C, s->hidden, s->w2, s->b2, dh));
    for (int64_t i = 0; i < s->B * s->hidden; i++) dh[i] = h[i] > 0 ? dh[i] : 0;
    PAR_TRY(linear_backward(s, call, x, dh, s->hidden, C, s->w1, s->b1, dx));
    PAR_TRY(sum_over_tp(s, call, dx));
    for (int64_t i = 0; i < s->B * C; i++) dx[i] += dy[i];
    return PAR_OK;
}

static par_status mlp_backward(par_module *module, const par_call *call, const par_tensor *x,
                               const par_tensor *dy, par_tensor *dx) {
    mlp *s = (mlp *)module;
    if (s->kind == BLOCK) return block_backward(s, call, x->data, dy->data, dx->data);
    if (s->kind == INPUT)
        return linear_backward(s, call, x->data, dy->data, s->out, s->in, s->w1, s->b1, dx ? dx->data : NULL);
    const float *error = call->stash;
    float *d = call->scratch;
    for (int64_t i = 0; i < s->B * s->out; i++) d[i] = 2 * error[i] * call->loss_seed;
    return linear_backward(s, call, x->data, d, s->out, s->in, s->w1, s->b1, dx ? dx->data : NULL);
}

static void mlp_destroy(par_module *module) {
    free(module);
}

static const par_module_ops ops = {mlp_build, mlp_forward, mlp_backward, NULL, mlp_destroy};

static par_status create(const void *config, int index, par_module **out) {
    const residual_mlp_config *c = config;
    mlp *s = calloc(1, sizeof *s);
    if (!s) PAR_FAIL(PAR_ERR_MEMORY, "no memory for module %d", index);
    s->base = (par_module){.ops = &ops, .layer = (int16_t)index};
    s->config = c;
    s->kind = index == 0 ? INPUT : index <= c->blocks ? BLOCK : HEAD;
    *out = &s->base;
    return PAR_OK;
}

void residual_mlp_model(const residual_mlp_config *config, par_model *out) {
    *out = (par_model){.name = "residual-mlp",
                       .config = config,
                       .n_modules = config->blocks + 2,
                       .create = create,
                       .x = par_tensor_make(NULL, PAR_F32, 1, config->inputs, 1, 1, 1),
                       .targets = par_tensor_make(NULL, PAR_F32, 1, config->outputs, 1, 1, 1)};
}

static par_status read_samples(void *user, int64_t first, int64_t n, void *x, void *targets) {
    const residual_mlp_config *c = user;
    float *inputs = x, *outputs = targets;
    for (int64_t i = 0; i < n; i++) {
        float *in = inputs + i * c->inputs;
        for (int64_t k = 0; k < c->inputs; k++)
            in[k] = (float)par_random_normal(1, (uint64_t)(first + i), (uint64_t)k);
        for (int64_t k = 0; k < c->outputs; k++)
            outputs[i * c->outputs + k] = sinf(in[k % c->inputs]) * in[(k + 1) % c->inputs];
    }
    return PAR_OK;
}

par_source residual_mlp_source(const residual_mlp_config *config) {
    return (par_source){.read = read_samples, .user = (void *)config};
}
