/*
 * Backward of every module against differences of its own forward, on one rank.
 *
 * The scalar is S = sum of c · y with fixed c, summed in double; for the head S is the loss,
 * recomputed here in double from the logits. With a direction v of +-1 and step e, (8 (S(e) -
 * S(-e)) - (S(2e) - S(-2e))) / 12e is compared with <gradient, v>, whose scale is |gradient|.
 * Bound: truncation is O(e^4) with e = 0.01; rounding of y to fp32 gives about 6e-8 · |y| ·
 * sqrt(500) / e = 1e-4 for |y| around 1, and gradients here are at least of order 1: 1e-3 of
 * |gradient|, plus 3e-4 for gradients that are zero (the key's bias).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../harness.h"
#include "driver.h"

/* e: a quarter of it for norms of q and k, whose inputs are small, so that they turn much by a
 * step; rounding is then four times as much, which the gradients of those models' weights
 * outweigh. */
static float step_size = 0.01f;

static float c_of(int64_t i) {
    return harness_noise(11, (uint64_t)i);
}

static double head_loss(driver *d, int module) {
    par_tensor logits;
    int64_t begin, V;
    double sum = 0;
    CHECK_OK(par_transformer_logits(d->modules[module], d->stash[module], &logits, &begin, &V));
    for (int64_t i = 0; i < logits.shape[0]; i++) {
        const float *x = (const float *)logits.data + i * logits.shape[1];
        double z = 0;
        if (d->targets[i] < 0) continue;
        for (int64_t j = 0; j < V; j++) z += exp((double)x[j]);
        sum += log(z) - (double)x[d->targets[i]];
    }
    return sum;
}

static double scalar(driver *d, int module) {
    bool last = module == d->model->n_modules - 1;
    double sum = 0;
    /* training, so that dropout takes part; the head keeps logits only in evaluation */
    if (!driver_forward(d, module, !last)) return 0;
    if (last) return 0.25 * head_loss(d, module); /* the driver's loss seed */
    const float *y = d->x[module + 1].data;
    for (int64_t i = 0; i < par_tensor_n(&d->x[module + 1]); i++)
        sum += (double)y[i] * (double)c_of(i);
    return sum;
}

static float direction(int64_t i) {
    return harness_noise(5, (uint64_t)i) < 0 ? -1.0f : 1.0f;
}

/* S with values[n] moved by step along the direction. */
static double moved(driver *d, int module, float *values, int64_t n, float step) {
    float *old = malloc((size_t)n * sizeof *old);
    memcpy(old, values, (size_t)n * sizeof *old);
    for (int64_t i = 0; i < n; i++) values[i] += step * direction(i);
    double s = scalar(d, module);
    memcpy(values, old, (size_t)n * sizeof *old);
    free(old);
    return s;
}

static void check_gradient(driver *d, int module, const char *name, float *values,
                           const float *gradient, int64_t n) {
    const float e = step_size;
    double expected = 0, size = 0;
    double near = moved(d, module, values, n, e) - moved(d, module, values, n, -e);
    double far = moved(d, module, values, n, 2 * e) - moved(d, module, values, n, -2 * e);
    double found = (8 * near - far) / (12 * (double)e);
    for (int64_t i = 0; i < n; i++) {
        expected += (double)gradient[i] * (double)direction(i);
        size += (double)gradient[i] * (double)gradient[i];
    }
    CHECK(fabs(found - expected) <= 1e-3 * sqrt(size) + 3e-4,
          "module %d, %s: difference quotient %g, backward %g, gradient's norm %g", module, name,
          found, expected, sqrt(size));
}

/* Random input, then every parameter the module wrote and its input. */
static void check_module(driver *d, int module) {
    int64_t n_x = par_tensor_n(&d->x[module]), n_y = par_tensor_n(&d->x[module + 1]);
    float *x = d->x[module].data, *dy = d->dx[module + 1].data;
    for (int64_t i = 0; module > 0 && i < n_x; i++) x[i] = harness_noise(21, (uint64_t)i);
    for (int64_t i = 0; i < n_y; i++) dy[i] = c_of(i);
    driver_clear(d);
    if (!driver_forward(d, module, true) || !driver_backward(d, module)) return;
    for (int i = 0; i < d->registry->n_params && !harness_failed(); i++) {
        par_param *p = d->registry->params[i];
        if (p->written) check_gradient(d, module, p->name, p->weight, p->grad, par__param_n(p));
    }
    if (module > 0) check_gradient(d, module, "x", x, d->dx[module].data, n_x);
}

static void check_model(par_transformer_config config, par_recompute recompute) {
    driver d;
    par_transport *self = NULL;
    driver_params params = {.config = config, .tp = 1, .B = 2, .recompute = recompute};
    params.logits_nbytes = 7 * 136 * sizeof(float); /* 7 of 24 tokens at a time */
    CHECK_OK(par_transport_create_self(&(par_transport_params){0}, &self));
    if (driver_create(self, &params, &d))
        for (int i = 0; i < d.model->n_modules && !harness_failed(); i++) check_module(&d, i);
    driver_destroy(&d);
    par_transport_destroy(&self);
}

static void gpt(void) {
    check_model(driver_gpt(), PAR_RECOMPUTE_NONE);
}

static void gpt_erf_without_bias(void) {
    par_transformer_config c = driver_gpt();
    c.gelu_erf = true;
    c.bias = c.tied = false;
    check_model(c, PAR_RECOMPUTE_SELECTIVE);
}

static void gpt_dropout(void) {
    par_transformer_config c = driver_gpt();
    c.dropout = 0.2f;
    c.attention_dropout = 0.3f;
    check_model(c, PAR_RECOMPUTE_SELECTIVE);
}

static void llama(void) {
    check_model(driver_llama(4), PAR_RECOMPUTE_NONE);
}

static void llama_with_bias(void) {
    par_transformer_config c = driver_llama(1);
    c.bias = true;
    c.rope_scaling.factor = 8;
    c.rope_scaling.low_freq_factor = 1;
    c.rope_scaling.high_freq_factor = 4;
    c.rope_scaling.original_positions = 16;
    check_model(c, PAR_RECOMPUTE_SELECTIVE);
}

static void check_qwen(par_transformer_config config, par_recompute recompute) {
    step_size = 0.0025f;
    check_model(config, recompute);
    step_size = 0.01f;
}

static void qwen(void) {
    check_qwen(driver_qwen(4), PAR_RECOMPUTE_NONE);
}

static void qwen_without_rope(void) {
    par_transformer_config c = driver_qwen(1);
    c.rope = false;
    check_qwen(c, PAR_RECOMPUTE_SELECTIVE);
}

/* Gradients accumulate over micro-batches, and forward twice (full recompute) changes nothing. */
static void accumulation(void) {
    driver d;
    par_transport *self = NULL;
    driver_params params = {.config = driver_llama(4), .tp = 1, .B = 2};
    CHECK_OK(par_transport_create_self(&(par_transport_params){0}, &self));
    if (driver_create(self, &params, &d) && driver_step(&d)) {
        size_t n = (size_t)d.registry->n_flat;
        float *once = malloc(n * sizeof *once);
        memcpy(once, d.grads, n * sizeof *once);
        for (int k = 0; k < 2; k++)
            for (int i = 0; i < d.model->n_modules; i++) driver_forward(&d, i, true);
        for (int i = d.model->n_modules - 1; i >= 0; i--) driver_backward(&d, i);
        for (size_t i = 0; i < n; i++) once[i] *= 2;
        double difference = harness_relative(d.grads, once, (int64_t)n);
        /* one more rounding to fp32 per element */
        CHECK(difference <= 2e-7, "two equal micro-batches are not twice one: %g", difference);
        free(once);
    }
    driver_destroy(&d);
    par_transport_destroy(&self);
}

/* Four blocks take as much memory for constant tables as one. */
static void rotary_tables(void) {
    size_t nbytes[2] = {0, 0};
    par_transport *self = NULL;
    CHECK_OK(par_transport_create_self(&(par_transport_params){0}, &self));
    for (int k = 0; k < 2; k++) {
        driver d;
        driver_params params = {.config = driver_llama(4), .tp = 1, .B = 1};
        params.config.layers = k == 0 ? 1 : 4;
        if (driver_create(self, &params, &d))
            nbytes[k] = par_memory_nbytes(d.memory, PAR_MEM_WEIGHTS);
        driver_destroy(&d);
    }
    CHECK(nbytes[0] > 0 && nbytes[1] == nbytes[0], "one block takes %zu bytes, four %zu", nbytes[0],
          nbytes[1]);
    par_transport_destroy(&self);
}

/* ref, whose products with one epilogue are refused or fail in prepare */
static par_epilogue failing;
static par_status failing_with;

static par_status prepare_failing(const void *args, size_t *workspace_nbytes) {
    const par_gemm *g = args;
    *workspace_nbytes = 0;
    return g->epilogue == failing ? par_error_set(failing_with, "no epilogue %d", (int)failing)
                                  : PAR_OK;
}

/* Only a version that does not support an epilogue is done without it. */
static void epilogue_fails(void) {
    static const par_epilogue epilogues[] = {PAR_EPILOGUE_GELU, PAR_EPILOGUE_GELU_BACKWARD,
                                             PAR_EPILOGUE_BIAS_GRADIENT};
    const par_backend *ref = NULL;
    par_transport *self = NULL;
    CHECK_OK(par_backend_get("ref", &ref));
    CHECK_OK(par_transport_create_self(&(par_transport_params){0}, &self));
    if (harness_failed()) return;
    par_backend backend = *ref;
    backend.kernels[PAR_OP_GEMM].prepare = prepare_failing;
    const driver_params params = {.config = driver_gpt(), .tp = 1, .B = 2, .backend = &backend};
    for (int i = 0; i < HARNESS_COUNT(epilogues); i++) {
        failing = epilogues[i];
        failing_with = PAR_ERR_UNSUPPORTED;
        CHECK_OK(driver_measure(self, &params));
        failing_with = PAR_ERR_MEMORY;
        CHECK_FAILS(driver_measure(self, &params), PAR_ERR_MEMORY, "no epilogue");
        failing_with = PAR_ERR_INTERNAL;
        CHECK_FAILS(driver_measure(self, &params), PAR_ERR_INTERNAL, "no epilogue");
    }
    par_transport_destroy(&self);
}

/* What the step sums over dp behind a sublayer's backward: the parameters that the module has
 * registered for it have their gradients then, and keep them, and no others are written. */
static void sublayers(void) {
    const driver_params params = {.config = driver_llama(2), .tp = 1, .B = 2};
    const int module = 1;
    par_transport *self = NULL;
    driver d;
    CHECK_OK(par_transport_create_self(&(par_transport_params){0}, &self));
    if (harness_failed() || !driver_create(self, &params, &d)) return;
    for (int i = 0; i < d.model->n_modules; i++) driver_forward(&d, i, true);
    driver_clear(&d);
    for (int64_t i = 0; i < par_tensor_n(&d.dx[module + 1]); i++)
        ((float *)d.dx[module + 1].data)[i] = c_of(i);
    size_t nbytes = (size_t)d.registry->n_flat * sizeof(float);
    float *after = malloc(nbytes);
    int n = par__sublayers(d.modules[module]), written[2] = {0, 0};
    CHECK(n == 2, "%d sublayers", n);
    for (int k = n - 1; k >= 0 && after && !harness_failed(); k--) {
        driver_backward_sublayer(&d, module, k);
        for (int i = 0; i < d.registry->n_params; i++) {
            const par_param *p = d.registry->params[i];
            int own = strstr(p->name, ".mlp.") ? 1 : 0;
            bool expected = strncmp(p->name, "layers.0.", 9) == 0 && own >= k;
            CHECK(p->written == expected, "sublayer %d: %s is %swritten", k, p->name,
                  p->written ? "" : "not ");
            CHECK(!expected || d.registry->sublayer[i] == own, "%s is registered for sublayer %d",
                  p->name, d.registry->sublayer[i]);
            written[k] += p->written;
            if (own > k)
                CHECK(memcmp(p->grad, after + p->flat, (size_t)par__param_n(p) * sizeof *after) ==
                          0,
                      "sublayer %d writes into %s", k, p->name);
        }
        memcpy(after, d.grads, nbytes);
    }
    CHECK(written[1] > 0 && written[0] > written[1], "%d and %d parameters are written", written[1],
          written[0]);
    free(after);
    driver_destroy(&d);
    par_transport_destroy(&self);
}

static const harness_case cases[] = {
    {.name = "gpt", .run = gpt},
    {.name = "gpt-erf-without-bias", .run = gpt_erf_without_bias},
    {.name = "gpt-dropout", .run = gpt_dropout},
    {.name = "llama", .run = llama},
    {.name = "llama-with-bias", .run = llama_with_bias},
    {.name = "qwen", .run = qwen},
    {.name = "qwen-without-rope", .run = qwen_without_rope},
    {.name = "accumulation", .run = accumulation},
    {.name = "rotary-tables", .run = rotary_tables},
    {.name = "sublayers", .run = sublayers},
    {.name = "epilogue-fails", .run = epilogue_fails},
};

int main(int argc, char **argv) {
    return harness_main("modules", cases, HARNESS_COUNT(cases), argc, argv);
}
