/* The driver of tests/model: see driver.h. Stash and scratch are filled with NaNs, so that a read
 * of old bytes shows. */
#include "driver.h"

#include <stdlib.h>
#include <string.h>

#include "../harness.h"
#include "par/random.h"

par_transformer_config driver_gpt(void) {
    return (par_transformer_config){.name = "gpt",
                                    .vocab = 131,
                                    .tokens = 12,
                                    .positions = 16,
                                    .layers = 2,
                                    .channels = 48,
                                    .heads = 12,
                                    .kv_heads = 12,
                                    .head_size = 4,
                                    .mlp = 88,
                                    .norm_eps = 1e-5f,
                                    .bias = true,
                                    .tied = true};
}

par_transformer_config driver_llama(int kv_heads) {
    par_transformer_config c = driver_gpt();
    c.kv_heads = kv_heads;
    c.head_size = 6; /* heads · size is not C */
    c.rmsnorm = c.rope = c.swiglu = true;
    c.bias = c.tied = false;
    c.rope_theta = 10000;
    return c;
}

par_transformer_config driver_qwen(int kv_heads) {
    par_transformer_config c = driver_llama(kv_heads);
    c.qkv_bias = c.qk_norm = true;
    return c;
}

/* Everything that is created twice. Offsets and sizes are the same both times. */
static par_status build(driver *d, par_transport *transport, size_t *stash, size_t *scratch) {
    const driver_params *p = &d->params;
    par_layout layout = {.size = {p->tp, 1, 1, 1}};
    par_problems problems = {0};
    par_transformer_check(&p->config, &layout, p->B, p->sequence_parallel, &problems, NULL);
    PAR_TRY(par_problems_status(&problems, PAR_ERR_OPTION));
    PAR_TRY(par_mesh_create(transport, &layout, NULL, d->memory, &d->mesh));
    PAR_TRY(par__registry_create(1, 1, 0, &d->registry));
    *scratch = 0;
    d->x[0] = par_tensor_make(NULL, PAR_I32, 2, p->B, p->config.tokens, 1, 1);
    for (int i = 0; i < d->model->n_modules; i++) {
        par_build b = {.mesh = d->mesh,
                       .backend = d->backend,
                       .memory = d->memory,
                       .registry = d->registry,
                       .dtype = PAR_F32,
                       .micro_batch = p->B,
                       .seed = 7,
                       .sequence_parallel = p->sequence_parallel,
                       .recompute = p->recompute,
                       .logits_nbytes = p->logits_nbytes,
                       .keep_logits = true,
                       .x = d->x[i]};
        PAR_TRY(d->model->create(d->model->config, i, &d->modules[i]));
        PAR_TRY(d->modules[i]->ops->build(d->modules[i], &b));
        d->x[i + 1] = b.y;
        stash[i] = b.stash_nbytes;
        if (b.scratch_nbytes > *scratch) *scratch = b.scratch_nbytes;
    }
    return par__registry_finish(d->registry, 1 << 30);
}

static void unbuild(driver *d) {
    for (int i = 0; i < DRIVER_MAX_MODULES; i++) {
        if (d->modules[i]) d->modules[i]->ops->destroy(d->modules[i]);
        d->modules[i] = NULL;
    }
    if (d->registry) par__registry_destroy(&d->registry);
    par_mesh_destroy(&d->mesh);
}

static void *poisoned(size_t nbytes) {
    size_t rounded = (nbytes + 255) / 256 * 256 + 256;
    void *block = aligned_alloc(256, rounded);
    if (block) memset(block, 0xff, rounded); /* a NaN in fp32 */
    return block;
}

static void fill_param(driver *d, par_param *p) {
    uint64_t stream = par_hash_name(p->name);
    float *w = p->weight = d->weights + p->flat;
    p->grad = d->grads + p->flat;
    memset(w, 0, (size_t)par__param_n(p) * sizeof *w);
    for (int64_t i = 0; i < p->extent[0]; i++)
        for (int64_t j = 0; j < p->extent[1]; j++) {
            uint64_t index = (uint64_t)((p->offset[0] + i) * p->global[1] + p->offset[1] + j);
            float noise = 0.2f * harness_noise(stream, index);
            w[i * p->local[1] + j] =
                p->init == PAR_INIT_CONSTANT ? (float)p->init_value + noise : noise;
        }
}

static void fill(driver *d, const size_t *stash, size_t scratch) {
    int64_t N = d->params.B * d->params.config.tokens, V = d->params.config.vocab;
    d->weights = calloc((size_t)d->registry->n_flat + 1, sizeof *d->weights);
    d->grads = calloc((size_t)d->registry->n_flat + 1, sizeof *d->grads);
    d->ids = calloc((size_t)N, sizeof *d->ids);
    d->targets = calloc((size_t)N, sizeof *d->targets);
    d->scratch = poisoned(scratch);
    for (int64_t i = 0; i < N; i++) {
        d->ids[i] = (int32_t)(par_random_u64(1, 2, (uint64_t)i) % (uint64_t)V);
        d->targets[i] =
            i % 5 == 3 ? -1 : (int32_t)(par_random_u64(1, 3, (uint64_t)i) % (uint64_t)V);
    }
    d->ids[0] = d->targets[0] = (int32_t)V - 1;
    for (int i = 0; i < d->registry->n_params; i++) fill_param(d, d->registry->params[i]);
    for (int i = 0; i <= d->model->n_modules; i++) {
        d->x[i].data = i == 0 ? (void *)d->ids : poisoned(par_tensor_nbytes(&d->x[i]));
        d->dx[i] = d->x[i];
        d->dx[i].data = i == 0 ? NULL : poisoned(par_tensor_nbytes(&d->x[i]));
        if (i < d->model->n_modules) d->stash[i] = poisoned(stash[i]);
    }
}

/* Before the first build. */
static void start(driver *d, const driver_params *params) {
    *d = (driver){.params = *params, .backend = params->backend};
    if (!d->backend) CHECK_OK(par_backend_get("ref", &d->backend));
    CHECK_OK(par_transformer_create(&params->config, &d->model));
}

par_status driver_measure(par_transport *transport, const driver_params *params) {
    driver d;
    size_t stash[DRIVER_MAX_MODULES] = {0}, scratch = 0;
    start(&d, params);
    CHECK_OK(par_memory_create_measuring(&d.memory));
    par_status st = build(&d, transport, stash, &scratch);
    driver_destroy(&d);
    return st;
}

bool driver_create(par_transport *transport, const driver_params *params, driver *d) {
    size_t stash[DRIVER_MAX_MODULES] = {0}, scratch = 0;
    par_memory *measured = NULL;
    start(d, params);
    CHECK_OK(par_memory_create_measuring(&measured));
    if (harness_failed()) return false;
    d->memory = measured;
    CHECK_OK(build(d, transport, stash, &scratch));
    unbuild(d);
    d->memory = NULL;
    CHECK_OK(
        par_memory_create(&d->backend->memory, &d->backend->host_memory, measured, &d->memory));
    if (!harness_failed()) CHECK_OK(build(d, transport, stash, &scratch));
    if (!harness_failed()) {
        CHECK(par_memory_nbytes(d->memory, PAR_MEM_WEIGHTS) ==
                  par_memory_nbytes(measured, PAR_MEM_WEIGHTS),
              "the second build took other memory than the first");
        fill(d, stash, scratch);
    }
    par_memory_destroy(&measured);
    return !harness_failed();
}

void driver_destroy(driver *d) {
    unbuild(d);
    for (int i = 0; i <= DRIVER_MAX_MODULES; i++) {
        if (i > 0) free(d->x[i].data);
        free(d->dx[i].data);
        if (i < DRIVER_MAX_MODULES) free(d->stash[i]);
    }
    free(d->scratch);
    free(d->ids);
    free(d->targets);
    free(d->weights);
    free(d->grads);
    par_transformer_destroy(&d->model);
    par_memory_destroy(&d->memory);
}

par_call driver_call(const driver *d, int module, bool training) {
    static const float seed = 0.25f;
    return (par_call){.stream = (par_stream *)&d->stream,
                      .stash = d->stash[module],
                      .scratch = d->scratch,
                      .targets = d->targets,
                      .first_sample = 3,
                      .training = training,
                      .loss_seed = &seed,
                      .loss = d->x[d->model->n_modules].data};
}

bool driver_forward(driver *d, int module, bool training) {
    par_call call = driver_call(d, module, training);
    for (; call.sublayer < par__sublayers(d->modules[module]); call.sublayer++)
        CHECK_OK(d->modules[module]->ops->forward(d->modules[module], &call, &d->x[module],
                                                  &d->x[module + 1]));
    return !harness_failed();
}

bool driver_backward_sublayer(driver *d, int module, int sublayer) {
    par_call call = driver_call(d, module, true);
    bool last = module == d->model->n_modules - 1;
    call.sublayer = (int16_t)sublayer;
    CHECK_OK(d->modules[module]->ops->backward(d->modules[module], &call, &d->x[module],
                                               last ? NULL : &d->dx[module + 1],
                                               module ? &d->dx[module] : NULL));
    return !harness_failed();
}

bool driver_backward(driver *d, int module) {
    for (int k = par__sublayers(d->modules[module]) - 1; k >= 0; k--)
        if (!driver_backward_sublayer(d, module, k)) return false;
    return true;
}

void driver_clear(driver *d) {
    for (int i = 0; i < d->registry->n_params; i++) {
        par_param *p = d->registry->params[i];
        p->written = false;
        memset(p->grad, 0xff, (size_t)par__param_n(p) * sizeof *p->grad);
    }
}

bool driver_sum(driver *d) {
    for (int i = 0; i < d->registry->n_params; i++) {
        par_param *p = d->registry->params[i];
        CHECK(p->written, "%s has no gradient", p->name);
        if (p->sum)
            CHECK_OK(par_comm_all_reduce(p->sum, p->grad, p->grad, par__param_n(p), PAR_F32,
                                         (par_tag){"gradients", -1, -1, -1}, &d->stream, NULL));
    }
    return !harness_failed();
}

bool driver_step(driver *d) {
    int n = d->model->n_modules;
    driver_clear(d);
    for (int i = 0; i < n; i++)
        if (!driver_forward(d, i, true)) return false;
    for (int i = n - 1; i >= 0; i--)
        if (!driver_backward(d, i)) return false;
    return driver_sum(d);
}

par_param *driver_find(const driver *d, const char *name) {
    for (int i = 0; i < d->registry->n_params; i++)
        if (strcmp(d->registry->params[i]->name, name) == 0) return d->registry->params[i];
    return NULL;
}
