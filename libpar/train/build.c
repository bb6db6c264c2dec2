/*
 * Building a trainer: mesh, modules, flat space, schedules, executor, buffers. The same code runs
 * on a measuring memory, for any rank of any world, and on real memory.
 */
#include <stdlib.h>
#include <string.h>

#include "trainer.h"

static void progress(void *transport) {
    par_transport_progress(transport);
}

static par_status copy_staged(void *trainer, void *dst, const void *src, size_t nbytes) {
    return par_trainer_copy(trainer, dst, src, nbytes);
}

/* A module told what it needs to know, and asked for its output and memory. */
static par_status build_module(par_trainer *t, par_registry *registry, par_memory *memory,
                               par_module *module, int16_t chunk, par_tensor x, par_build *build) {
    *build = (par_build){.mesh = t->mesh,
                         .backend = t->backend,
                         .memory = memory,
                         .registry = registry,
                         .dtype = t->params.dtype,
                         .micro_batch = t->params.micro_batch,
                         .seed = t->params.seed,
                         .sequence_parallel = t->sequence_parallel,
                         .recompute = t->params.recompute,
                         .chunk = chunk,
                         .x = x};
    return module->ops->build(module, build);
}

/* Input of the model: the batch's x with B in front. */
static par_tensor batched(const par_tensor *sample, int64_t n) {
    par_tensor t = *sample;
    t.ndim++;
    for (int d = 3; d > 0; d--) t.shape[d] = sample->shape[d - 1];
    t.shape[0] = n;
    return t;
}

/* Shapes of what passes between modules, from a throw-away build of the whole model: x[n_modules +
 * 1]. */
static par_status probe_shapes(par_trainer *t, par_tensor *x) {
    par_status st = PAR_OK;
    par_registry *registry = NULL;
    par_memory *memory = NULL;
    const par_model *model = t->params.model;
    PAR_TRY(par__registry_create(1, 1, 0, &registry));
    PAR_TRY_GOTO(par_memory_create_measuring(&memory), out_registry);
    x[0] = batched(&model->x, t->params.micro_batch);
    for (int i = 0; i < model->n_modules; i++) {
        par_module *module = NULL;
        par_build build;
        PAR_TRY_GOTO(model->create(model->config, i, &module), out_memory);
        module->layer = (int16_t)i;
        st = build_module(t, registry, memory, module, 0, x[i], &build);
        module->ops->destroy(module);
        if (st != PAR_OK) goto out_memory;
        x[i + 1] = build.y;
    }
out_memory:
    par_memory_destroy(&memory);
out_registry:
    par__registry_destroy(&registry);
    return st;
}

static par_status build_chunk(par_trainer *t, int c, int first, int n, const par_tensor *x,
                              size_t *scratch) {
    par__chunk *chunk = &t->chunks[c];
    const par_model *model = t->params.model;
    chunk->first_index = first;
    chunk->modules = calloc((size_t)n, sizeof(par_module *));
    chunk->x = calloc((size_t)n + 1, sizeof *chunk->x);
    chunk->stash_nbytes = calloc((size_t)n, sizeof *chunk->stash_nbytes);
    if (!chunk->modules || !chunk->x || !chunk->stash_nbytes)
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %d modules", n);
    memcpy(chunk->x, x + first, ((size_t)n + 1) * sizeof *x);
    for (int i = 0; i < n; i++) {
        par_build build;
        PAR_TRY(model->create(model->config, first + i, &chunk->modules[i]));
        chunk->n_modules = i + 1;
        chunk->modules[i]->layer = (int16_t)(first + i);
        t->registry->now_module = (int16_t)i;
        PAR_TRY(build_module(t, t->registry, t->memory, chunk->modules[i], (int16_t)c, x[first + i],
                             &build));
        chunk->stash_nbytes[i] = build.stash_nbytes;
        if (build.scratch_nbytes > *scratch) *scratch = build.scratch_nbytes;
    }
    return PAR_OK;
}

/* First module of every part of the model. */
static par_status cut(const par_trainer *t, int parts, int *first) {
    const par_model *model = t->params.model;
    if (!t->params.modules_per_part)
        return par_partition(model->work, model->n_modules, parts, first);
    first[0] = 0;
    for (int i = 0; i < parts; i++) first[i + 1] = first[i] + t->params.modules_per_part[i];
    return PAR_OK;
}

static par_status build_chunks(par_trainer *t, size_t *scratch) {
    par_status st = PAR_OK;
    int pp = t->params.layout.size[PAR_PP], stage = t->mesh->coordinate[PAR_PP],
        parts = pp * t->params.chunks;
    int *first = calloc((size_t)parts + 1, sizeof *first);
    par_tensor *x = calloc((size_t)t->params.model->n_modules + 1, sizeof *x);
    if (!first || !x) {
        st = par_error_set(PAR_ERR_MEMORY, "no host memory for %d parts", parts);
        goto out;
    }
    PAR_TRY_GOTO(cut(t, parts, first), out);
    PAR_TRY_GOTO(probe_shapes(t, x), out);
    for (int c = 0; c < t->params.chunks; c++) {
        int part = c * pp + stage;
        t->n_chunks = c + 1;
        PAR_TRY_GOTO(build_chunk(t, c, first[part], first[part + 1] - first[part], x, scratch),
                     out);
    }
out:
    free(x);
    free(first);
    return st;
}

/* Weights, gradients, moments; then every parameter's pointers. */
static par_status take_state(par_trainer *t) {
    par_registry *registry = t->registry;
    size_t size = par_dtype_nbytes(t->params.dtype), n = (size_t)registry->n_flat;
    void *grad = NULL, *master = NULL, *m = NULL, *v = NULL;
    t->state = calloc((size_t)registry->n_buckets + 1, sizeof *t->state);
    t->works = calloc((size_t)registry->n_buckets + 1, sizeof *t->works);
    if (!t->state || !t->works)
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %d buckets", registry->n_buckets);
    for (int b = 0; b < registry->n_buckets; b++) {
        int64_t first, n_owned, unused;
        t->state[b] = t->n_state;
        par__owned(t, b, &first, &n_owned, &unused);
        t->n_state += n_owned;
    }
    PAR_TRY(par_memory_take(t->memory, PAR_MEM_WEIGHTS, "weights", n * size, &t->weights));
    PAR_TRY(par_memory_take(t->memory, PAR_MEM_GRADIENTS, "gradients", n * sizeof(float), &grad));
    size_t state_nbytes = (size_t)t->n_state * sizeof(float);
    if (t->params.dtype != PAR_F32)
        PAR_TRY(
            par_memory_take(t->memory, PAR_MEM_OPTIMIZER, "master weights", state_nbytes, &master));
    PAR_TRY(par_memory_take(t->memory, PAR_MEM_OPTIMIZER, "first moments", state_nbytes, &m));
    if (t->params.optimizer == PAR_ADAMW)
        PAR_TRY(par_memory_take(t->memory, PAR_MEM_OPTIMIZER, "second moments", state_nbytes, &v));
    t->gradients = grad;
    t->master = master;
    t->m = m;
    t->v = v;
    if (par_memory_measuring(t->memory)) return PAR_OK;
    for (int i = 0; i < registry->n_params; i++) {
        par_param *p = registry->params[i];
        p->weight = (char *)t->weights + (size_t)p->flat * size;
        p->grad = t->gradients + p->flat;
    }
    return PAR_OK;
}

/* All stages' schedules, so that they are proved together before anything runs. */
static par_status build_schedules(par_trainer *t) {
    const par_registry *registry = t->registry;
    int pp = t->params.layout.size[PAR_PP], stage = t->mesh->coordinate[PAR_PP];
    par_status st = PAR_OK;
    t->schedules = calloc((size_t)pp, sizeof(par_schedule *));
    int16_t *bucket_module = calloc((size_t)registry->n_buckets + 1, sizeof *bucket_module);
    if (!t->schedules || !bucket_module) {
        st = par_error_set(PAR_ERR_MEMORY, "no host memory for %d schedules", pp);
        goto out;
    }
    for (int b = 0; b < registry->n_buckets; b++) bucket_module[b] = registry->buckets[b].module;
    par_schedule_params p = {.kind = t->params.schedule,
                             .p = pp,
                             .m = t->n_micro,
                             .v = t->n_chunks,
                             .first_bucket = registry->first_bucket,
                             .bucket_module = bucket_module,
                             .n_last_buckets =
                                 registry->n_buckets - registry->first_bucket[t->n_chunks]};
    for (p.stage = 0; p.stage < pp; p.stage++)
        PAR_TRY_GOTO(par_schedule_create(&p, &t->schedules[p.stage]), out);
    PAR_TRY_GOTO(par_schedule_check(t->schedules, pp), out);
    p.kind = PAR_SCHEDULE_FORWARD_ONLY;
    p.stage = stage;
    PAR_TRY_GOTO(par_schedule_create(&p, &t->evaluate), out);
    p.m = 1;
    st = par_schedule_create(&p, &t->single);
out:
    free(bucket_module);
    return st;
}

static par_status build_executor(par_trainer *t, size_t scratch) {
    int stage = t->mesh->coordinate[PAR_PP];
    par_schedule *walked[3] = {t->schedules[stage], t->evaluate, t->single};
    par__executor_params p = {.mesh = t->mesh,
                              .backend = t->backend,
                              .stream = t->stream,
                              .chunks = t->chunks,
                              .n_chunks = t->n_chunks,
                              .recompute = t->params.recompute,
                              .model = t->params.model,
                              .micro_batch = t->params.micro_batch,
                              .scratch_nbytes = scratch,
                              .schedules = walked,
                              .n_schedules = 3};
    p.hooks = (par__executor_hooks){t, par__batch_load, par__bucket_reduce, par__bucket_gather};
    return par__executor_create(&p, t->memory, &t->executor);
}

/* What steps and visits need besides: ballots, norms, batches, staging. */
static par_status take_small(par_trainer *t) {
    void *staging = NULL;
    PAR_TRY(par__vote_take(t));
    PAR_TRY(par__update_take(t));
    PAR_TRY(par__batch_take(t));
    if (t->backend->on_host) return PAR_OK;
    PAR_TRY(par_memory_take(t->memory, PAR_MEM_DATA, "staging", PAR__STAGING, &staging));
    t->staging = staging;
    t->checkpoint_staging = (par_checkpoint_staging){copy_staged, t, staging, PAR__STAGING};
    return PAR_OK;
}

static par_status create_stream(par_trainer *t) {
    if (par_memory_measuring(t->memory)) return PAR_OK;
    PAR_TRY(t->backend->stream_create(&t->stream));
    t->stream->progress = progress;
    t->stream->user = t->transport;
    return PAR_OK;
}

static par_status build(par_trainer *t) {
    size_t scratch = 0;
    par_layout *layout = &t->params.layout;
    PAR_TRY(par__trainer_backend(&t->params, &t->backend));
    PAR_TRY(create_stream(t));
    PAR_TRY(par_mesh_create(t->transport, layout, t->backend, t->memory, &t->mesh));
    t->sequence_parallel = layout->size[PAR_TP] > 1 && !t->params.no_sequence_parallel;
    t->n_micro = (int)(t->params.global_batch / (t->params.micro_batch * layout->size[PAR_DP]));
    PAR_TRY(par__registry_create(t->params.chunks, layout->size[PAR_DP],
                                 t->mesh->coordinate[PAR_DP], &t->registry));
    PAR_TRY(build_chunks(t, &scratch));
    PAR_TRY(par__registry_finish(t->registry, t->params.bucket_n));
    PAR_TRY(take_state(t));
    PAR_TRY(build_schedules(t));
    PAR_TRY(build_executor(t, scratch));
    if (!par_memory_measuring(t->memory))
        PAR_TRY(par__timer_create(t->backend, PAR__STEP_SPANS, &t->timer));
    return take_small(t);
}

par_status par__trainer_build(par_transport *transport, const par_trainer_params *params,
                              par_memory *memory, par_trainer **out) {
    par_trainer *t = calloc(1, sizeof *t);
    if (!t) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a trainer");
    t->params = *params;
    par__trainer_defaults(&t->params);
    t->transport = transport;
    t->memory = memory;
    par_scaler_init(&t->params.scaler, &t->scaler);
    t->upload = true;
    par_status st = build(t);
    if (st != PAR_OK) {
        par__trainer_free(&t);
        return st;
    }
    *out = t;
    return PAR_OK;
}

static void free_chunk(par__chunk *chunk) {
    for (int i = 0; i < chunk->n_modules; i++) chunk->modules[i]->ops->destroy(chunk->modules[i]);
    free(chunk->modules);
    free(chunk->x);
    free(chunk->stash_nbytes);
}

void par__trainer_free(par_trainer **handle) {
    par_trainer *t = *handle;
    if (!t) return;
    if (t->stream) (void)t->backend->sync(t->stream); /* its work reads and writes what goes */
    if (t->executor) par__executor_destroy(&t->executor);
    if (t->timer) par__timer_destroy(&t->timer);
    for (int s = 0; t->schedules && s < t->params.layout.size[PAR_PP]; s++)
        par_schedule_destroy(&t->schedules[s]);
    free(t->schedules);
    par_schedule_destroy(&t->evaluate);
    par_schedule_destroy(&t->single);
    for (int c = 0; c < t->n_chunks; c++) free_chunk(&t->chunks[c]);
    if (t->registry) par__registry_destroy(&t->registry);
    par_mesh_destroy(&t->mesh);
    par__batch_free(t);
    par__vote_free(t);
    if (t->stream) t->backend->stream_destroy(t->stream);
    free(t->state);
    free(t->works);
    free(t);
    *handle = NULL;
}
