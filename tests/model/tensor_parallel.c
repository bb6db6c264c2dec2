/*
 * Tensor parallelism against one rank: logits, losses, activations and every rank's rectangle of
 * every gradient, with and without sequence parallel, with vocabulary 131 and MLP 88 that do not
 * divide, and with more ranks than KV heads.
 *
 * Bound: the ref backend sums in double and rounds results to fp32 once, so what differs is the
 * rounding of partial sums over tp: a few of 6e-8 a sum, through 2 layers with about 10 sums each
 * way. 1e-5 is far above that and far below any wrong term.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../harness.h"
#include "driver.h"

static const double bound = 1e-5;

/* This rank's rectangle of `ours` against the whole of `one`; both locals may be padded. */
static void compare_param(const par_param *ours, const par_param *one) {
    double difference = 0, size = 0, all = 0;
    for (int64_t i = 0; i < ours->local[0]; i++)
        for (int64_t j = 0; j < ours->local[1]; j++) {
            double a = (double)ours->grad[i * ours->local[1] + j];
            if (i >= ours->extent[0] || j >= ours->extent[1]) {
                CHECK(a == 0, "%s: padding has gradient %g", ours->name, a);
                continue;
            }
            double b =
                (double)one->grad[(ours->offset[0] + i) * one->local[1] + ours->offset[1] + j];
            difference += (a - b) * (a - b);
            size += b * b;
        }
    for (int64_t i = 0; i < par__param_n(one); i++)
        all += (double)one->grad[i] * (double)one->grad[i];
    /* the key bias has a zero gradient by construction (softmax does not see it): rounding noise of
     * fp32 */
    double floor = 1e-7 * sqrt((double)par__param_n(one));
    CHECK(sqrt(difference) <= bound * sqrt(size) + bound * sqrt(all) + floor,
          "gradient of %s [%lld+%lld): relative difference %g", ours->name,
          (long long)ours->offset[0], (long long)ours->extent[0], sqrt(difference / size));
}

/* Elements of replicas 0 over tp are the logical tensor, once. */
static void count_param(driver *d, const par_param *p) {
    int64_t n = p->replica == 0 ? p->extent[0] * p->extent[1] : 0;
    CHECK_OK(par_comm_all_reduce(d->mesh->world, &n, &n, 1, PAR_I64, (par_tag){"test", -1, -1, -1},
                                 NULL, NULL));
    CHECK(n == p->global[0] * p->global[1], "%s: replicas 0 have %lld elements", p->name,
          (long long)n);
}

static void compare_gradients(driver *d, driver *one) {
    CHECK(d->registry->n_params == one->registry->n_params, "%d parameters, one rank has %d",
          d->registry->n_params, one->registry->n_params);
    for (int i = 0; i < d->registry->n_params && !harness_failed(); i++) {
        par_param *p = d->registry->params[i], *q = driver_find(one, p->name);
        CHECK(q != NULL, "%s is not on one rank", p->name);
        if (q) compare_param(p, q);
        count_param(d, p);
    }
}

static void compare_activations(driver *d, driver *one) {
    for (int i = 1; i < d->model->n_modules; i++) {
        int64_t rows = d->x[i].shape[0], C = d->x[i].shape[1];
        int64_t first = rows == one->x[i].shape[0] ? 0 : d->mesh->coordinate[PAR_TP] * rows;
        double x = harness_relative(d->x[i].data, (float *)one->x[i].data + first * C, rows * C);
        double dx = harness_relative(d->dx[i].data, (float *)one->dx[i].data + first * C, rows * C);
        CHECK(x <= bound, "input of module %d: relative difference %g", i, x);
        CHECK(dx <= bound, "gradient of the input of module %d: relative difference %g", i, dx);
    }
    const float *ours = d->x[d->model->n_modules].data,
                *theirs = one->x[one->model->n_modules].data;
    CHECK(fabs((double)(ours[0] / theirs[0]) - 1) <= bound, "loss sum %g, one rank %g",
          (double)ours[0], (double)theirs[0]);
    CHECK(ours[1] == theirs[1], "%g targets, one rank %g", (double)ours[1], (double)theirs[1]);
}

static void compare_logits(driver *d, driver *one) {
    int last = d->model->n_modules - 1;
    par_tensor a, b;
    int64_t begin, valid, zero, V;
    for (int i = 0; i <= last; i++)
        if (!driver_forward(d, i, false) || !driver_forward(one, i, false)) return;
    CHECK_OK(par_transformer_logits(d->modules[last], d->stash[last], &a, &begin, &valid));
    CHECK_OK(par_transformer_logits(one->modules[last], one->stash[last], &b, &zero, &V));
    CHECK(V == d->params.config.vocab && b.shape[1] >= V && zero == 0, "one rank has %lld logits",
          (long long)V);
    double difference = 0, size = 0;
    for (int64_t i = 0; i < a.shape[0]; i++)
        for (int64_t j = 0; j < valid; j++) {
            double x = (double)((float *)a.data)[i * a.shape[1] + j];
            double y = (double)((float *)b.data)[i * b.shape[1] + begin + j];
            difference += (x - y) * (x - y);
            size += y * y;
        }
    CHECK(difference <= bound * bound * size, "logits: relative difference %g",
          sqrt(difference / size));
}

static void compare(par_transport *transport, const driver_params *params) {
    driver d, one;
    par_transport *self = NULL;
    driver_params alone = *params;
    alone.tp = 1;
    alone.sequence_parallel = false;
    alone.recompute = PAR_RECOMPUTE_NONE;
    alone.logits_nbytes = 0;
    CHECK_OK(par_transport_create_self(&(par_transport_params){0}, &self));
    if (driver_create(self, &alone, &one) && driver_create(transport, params, &d)) {
        if (driver_step(&one) && driver_step(&d)) {
            compare_gradients(&d, &one);
            compare_activations(&d, &one);
        }
        if (!harness_failed()) compare_logits(&d, &one);
        driver_destroy(&d);
    }
    driver_destroy(&one);
    par_transport_destroy(&self);
}

/* All settings of one model at this transport's size. */
static void settings(par_transport *transport, par_transformer_config config) {
    /* tokens at a time: all 24, 1, some that do not divide 24, all */
    static const int bounds[] = {0, 1, 2800, 1 << 20};
    for (int k = 0; k < 4 && !harness_failed(); k++) {
        driver_params params = {.config = config,
                                .tp = par_transport_size(transport),
                                .sequence_parallel = k % 2 == 1,
                                .recompute = k / 2 ? PAR_RECOMPUTE_SELECTIVE : PAR_RECOMPUTE_NONE,
                                .logits_nbytes = (size_t)bounds[k],
                                .B = 2};
        compare(transport, &params);
    }
}

static void gpt(par_transport *transport) {
    settings(transport, driver_gpt());
}

static void gpt_no_bias(par_transport *transport) {
    par_transformer_config c = driver_gpt();
    c.bias = c.tied = false;
    c.gelu_erf = true;
    settings(transport, c);
}

static void dropout(par_transport *transport) {
    par_transformer_config c = driver_gpt();
    c.dropout = 0.2f;
    c.attention_dropout = 0.3f;
    settings(transport, c);
}

static void one_kv_head(par_transport *transport) {
    settings(transport, driver_llama(1));
}

static void two_kv_heads(par_transport *transport) {
    par_transformer_config c = driver_llama(2);
    c.bias = true;
    settings(transport, c);
}

static void four_kv_heads(par_transport *transport) {
    settings(transport, driver_llama(4));
}

static void qwen(par_transport *transport) {
    settings(transport, driver_qwen(2));
}

static const harness_case cases[] = {
    {.name = "gpt-2", .run_mpi = gpt, .ranks = 2},
    {.name = "gpt-3", .run_mpi = gpt, .ranks = 3},
    {.name = "gpt-4", .run_mpi = gpt, .ranks = 4},
    {.name = "gpt-no-bias-3", .run_mpi = gpt_no_bias, .ranks = 3},
    {.name = "dropout-2", .run_mpi = dropout, .ranks = 2},
    {.name = "dropout-4", .run_mpi = dropout, .ranks = 4},
    {.name = "one-kv-head-3", .run_mpi = one_kv_head, .ranks = 3},
    {.name = "one-kv-head-4", .run_mpi = one_kv_head, .ranks = 4},
    {.name = "two-kv-heads-2", .run_mpi = two_kv_heads, .ranks = 2},
    {.name = "two-kv-heads-4", .run_mpi = two_kv_heads, .ranks = 4},
    {.name = "qwen-2", .run_mpi = qwen, .ranks = 2},
    {.name = "qwen-4", .run_mpi = qwen, .ranks = 4},
    {.name = "four-kv-heads-4", .run_mpi = four_kv_heads, .ranks = 4},
};

int main(int argc, char **argv) {
    return harness_main_mpi("tensor-parallel", cases, HARNESS_COUNT(cases), argc, argv);
}
