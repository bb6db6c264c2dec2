/*
 * A residual multilayer perceptron through par_module_ops: blocks y = x + W2 relu(W1 x) + b, and
 * the squared error. Blocks are tensor parallel (Shoeybi et al. 2019): W1 is cut by rows, W2 by
 * columns, one all-reduce forward and one backward make y and dx equal on every tp rank; b is held
 * by all of them. B samples, C channels, F hidden ones of this rank.
 */
#include "residual_mlp.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
    par_module base; /* first: a par_module pointer is a pointer to this */
    const residual_mlp_config *config;
    par_comm *tp;
    par_param *w1, *w2, *b; /* [F, C], [C, F], [C]; NULL in the last module, the error */
    int64_t B, C, F;
} mlp;

/* c[m,n] = a[m,k] b[k,n] + beta c, where a steps (ai, ak) elements and b (bk, bj). */
static void multiply(float *c, int64_t m, int64_t n, int64_t k, const float *a, int64_t ai,
                     int64_t ak, const float *b, int64_t bk, int64_t bj, float beta) {
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = beta == 0 ? 0 : c[i * n + j];
            for (int64_t l = 0; l < k; l++) sum += (double)a[i * ai + l * ak] * b[l * bk + j * bj];
            c[i * n + j] = (float)sum;
        }
}

static par_status sum_over_tp(const mlp *s, const par_call *call, float *x) {
    par_tag tag = {"activations", s->base.layer, -1, call->micro};
    return par_comm_all_reduce(s->tp, x, x, s->B * s->C, PAR_F32, tag, call->stream, NULL);
}

/* [rows, columns], cut over tp along dimension `cut`; -1: a copy on every tp rank, of which the
 * first counts. */
static par_status parameter(mlp *s, par_build *build, const char *name, int64_t rows,
                            int64_t columns, int cut, par_param **out) {
    int p = par_comm_size(s->tp), rank = par_comm_rank(s->tp);
    par_param_spec spec = {
        .ndim = columns > 1 ? 2 : 1, .decay = columns > 1, .global = {rows, columns}};
    snprintf(spec.name, sizeof spec.name, "%d.%s", s->base.layer, name);
    for (int d = 0; d < 2; d++)
        spec.extent[d] = spec.local[d] = d == cut ? spec.global[d] / p : spec.global[d];
    if (cut >= 0) spec.offset[cut] = rank * spec.extent[cut];
    spec.replica = (int16_t)(cut < 0 ? rank : 0);
    spec.n_replicas = (int16_t)(cut < 0 ? p : 1);
    spec.init = columns > 1 ? PAR_INIT_NORMAL : PAR_INIT_CONSTANT;
    spec.init_value = columns > 1 ? 1 / sqrt((double)columns) : 0;
    return par_build_param(build, &spec, false, out);
}

static par_status mlp_build(par_module *module, par_build *build) {
    mlp *s = (mlp *)module;
    int64_t C = s->C = s->config->channels, hidden = s->config->hidden;
    s->tp = build->mesh->axis[PAR_TP];
    s->B = build->micro_batch;
    s->F = hidden / par_comm_size(s->tp);
    if (hidden % par_comm_size(s->tp))
        PAR_FAIL(PAR_ERR_LAYOUT, "hidden %lld is not a multiple of tp %d", (long long)hidden,
                 par_comm_size(s->tp));
    build->y = build->x;
    build->stash_nbytes = build->scratch_nbytes = (size_t)(s->B * s->F) * sizeof(float); /* h, dh */
    if (s->base.layer == s->config->blocks) {
        build->y = par_tensor_make(NULL, PAR_F32, 1, 2, 1, 1, 1); /* {sum, how many} */
        return PAR_OK;
    }
    PAR_TRY(parameter(s, build, "w1", hidden, C, 0, &s->w1));
    PAR_TRY(parameter(s, build, "w2", C, hidden, 1, &s->w2));
    return parameter(s, build, "b", C, 1, -1, &s->b);
}

static par_status mlp_forward(par_module *module, const par_call *call, const par_tensor *x_,
                              par_tensor *y_) {
    mlp *s = (mlp *)module;
    const float *x = x_->data, *targets = call->targets;
    float *y = y_->data, *h = call->stash;
    int64_t B = s->B, C = s->C, F = s->F;
    if (!s->w1) {
        double sum = 0;
        for (int64_t i = 0; i < B * C; i++) sum += pow((double)x[i] - targets[i], 2);
        y[0] = (float)sum;
        y[1] = (float)(B * C);
        return PAR_OK;
    }
    multiply(h, B, F, C, x, C, 1, s->w1->weight, 1, C, 0);
    for (int64_t i = 0; i < B * F; i++) h[i] = fmaxf(h[i], 0);
    multiply(y, B, C, F, h, F, 1, s->w2->weight, 1, F, 0);
    PAR_TRY(sum_over_tp(s, call, y));
    for (int64_t i = 0; i < B * C; i++) y[i] += x[i] + ((float *)s->b->weight)[i % C];
    return PAR_OK;
}

static par_status mlp_backward(par_module *module, const par_call *call, const par_tensor *x_,
                               const par_tensor *dy_, par_tensor *dx_) {
    mlp *s = (mlp *)module;
    const float *x = x_->data, *dy = dy_ ? dy_->data : NULL, *targets = call->targets,
                *h = call->stash, one = 1;
    float *dx = dx_ ? dx_->data : NULL, *dh = call->scratch;
    int64_t B = s->B, C = s->C, F = s->F;
    if (!s->w1) {
        for (int64_t i = 0; i < B * C; i++) dx[i] = 2 * (x[i] - targets[i]) * *call->loss_seed;
        return PAR_OK;
    }
    multiply(s->w2->grad, C, F, B, dy, 1, C, h, F, 1, par_grad_beta(s->w2));
    multiply(s->b->grad, 1, C, B, &one, 0, 0, dy, C, 1, par_grad_beta(s->b));
    multiply(dh, B, F, C, dy, C, 1, s->w2->weight, F, 1, 0);
    for (int64_t i = 0; i < B * F; i++) dh[i] = h[i] > 0 ? dh[i] : 0;
    multiply(s->w1->grad, F, C, B, dh, 1, F, x, C, 1, par_grad_beta(s->w1));
    if (!dx) return PAR_OK; /* the first module of the model */
    multiply(dx, B, C, F, dh, F, 1, s->w1->weight, C, 1, 0);
    PAR_TRY(sum_over_tp(s, call, dx));
    for (int64_t i = 0; i < B * C; i++) dx[i] += dy[i];
    return PAR_OK;
}

static void mlp_destroy(par_module *module) {
    free(module);
}

static par_status create(const void *config, int index, par_module **out) {
    static const par_module_ops ops = {.build = mlp_build,
                                       .forward = mlp_forward,
                                       .backward = mlp_backward,
                                       .destroy = mlp_destroy};
    mlp *s = calloc(1, sizeof *s);
    if (!s) PAR_FAIL(PAR_ERR_MEMORY, "no memory for module %d", index);
    s->base.ops = &ops;
    s->config = config;
    *out = &s->base;
    return PAR_OK;
}

void residual_mlp_model(const residual_mlp_config *c, par_model *out) {
    par_tensor sample = par_tensor_make(NULL, PAR_F32, 1, c->channels, 1, 1, 1);
    *out = (par_model){.name = "residual-mlp",
                       .config = c,
                       .n_modules = c->blocks + 1,
                       .create = create,
                       .x = sample,
                       .targets = sample};
}

static par_status read_samples(void *user, int64_t first, int64_t n, void *x, void *targets) {
    const residual_mlp_config *c = user;
    float *in = x, *out = targets;
    for (int64_t i = 0; i < n * c->channels; i++)
        in[i] = (float)par_random_normal(1, (uint64_t)(first + i / c->channels),
                                         (uint64_t)(i % c->channels));
    for (int64_t i = 0; i < n * c->channels; i++) {
        int64_t next = (i + 1) % c->channels ? i + 1 : i + 1 - c->channels;
        out[i] = sinf(in[i]) * in[next];
    }
    return PAR_OK;
}

par_source residual_mlp_source(const residual_mlp_config *config) {
    return (par_source){.read = read_samples, .user = (void *)config};
}
