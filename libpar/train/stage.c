/* A stage: the model cut into parts, this rank's modules and their shapes, schedules, executor. */
#include "stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A module told what it needs to know, and asked for its output and memory. *sublayer is that of
 * its first one in the chunk, and then of the next module's. */
static par_status build_module(const par__context *on, par_registry *registry, par_memory *memory,
                               par_module *module, int16_t chunk, int *sublayer, par_tensor x,
                               par_build *build) {
    int first = registry->n_params, end = *sublayer + par__sublayers(module);
    if (end > INT16_MAX) PAR_FAIL(PAR_ERR_ARG, "a chunk has more than %d sublayers", INT16_MAX);
    registry->now_sublayer = (int16_t)*sublayer;
    *build = (par_build){.mesh = on->mesh,
                         .backend = on->backend,
                         .memory = memory,
                         .registry = registry,
                         .dtype = on->params.dtype,
                         .micro_batch = on->params.micro_batch,
                         .seed = on->params.seed,
                         .sequence_parallel = on->sequence_parallel,
                         .tp_pieces = on->params.tp_pieces,
                         .recompute = on->params.recompute,
                         .logits_nbytes = on->params.logits_nbytes,
                         .keep_logits = on->params.keep_logits,
                         .apart = on->params.documents_apart,
                         .inference = on->params.inference && !on->params.evaluates,
                         .forward_only = on->params.inference,
                         .chunk = chunk,
                         .x = x};
    PAR_TRY(module->ops->build(module, build));
    for (int i = first; i < registry->n_params; i++)
        if (registry->sublayer[i] < *sublayer || registry->sublayer[i] >= end)
            PAR_FAIL(PAR_ERR_ARG,
                     "module %d registers parameter %s for sublayer %d; legal: 0 to %d",
                     module->layer, registry->params[i]->name, registry->sublayer[i] - *sublayer,
                     end - *sublayer - 1);
    *sublayer = end;
    return PAR_OK;
}

/* Shapes of what passes between modules, from a throw-away build of the whole model: x[n_modules +
 * 1]. */
static par_status probe_shapes(const par__context *on, par_tensor *x) {
    par_status st = PAR_OK;
    par_registry *registry = NULL;
    par_memory *memory = NULL;
    const par_model *model = on->params.model;
    PAR_TRY(par__registry_create(1, 1, 0, &registry));
    PAR_TRY_GOTO(par_memory_create_measuring(&memory), out_registry);
    x[0] = model->x; /* with B in front */
    x[0].ndim++;
    for (int d = 3; d > 0; d--) x[0].shape[d] = model->x.shape[d - 1];
    x[0].shape[0] = on->params.micro_batch;
    for (int i = 0; i < model->n_modules; i++) {
        par_module *module = NULL;
        par_build build;
        PAR_TRY_GOTO(model->create(model->config, i, &module), out_memory);
        module->layer = (int16_t)i;
        int sublayer = 0;
        st = build_module(on, registry, memory, module, 0, &sublayer, x[i], &build);
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

static par_status build_chunk(par__stage *s, par_registry *registry, int c, int first, int n,
                              const par_tensor *x) {
    par__chunk *chunk = &s->chunks[c];
    const par_model *model = s->on->params.model;
    int sublayer = 0;
    chunk->first_index = first;
    chunk->modules = calloc((size_t)n, sizeof(par_module *));
    chunk->x = calloc((size_t)n + 1, sizeof *chunk->x);
    chunk->stash_nbytes = calloc((size_t)n, sizeof *chunk->stash_nbytes);
    chunk->told = calloc((size_t)n, sizeof *chunk->told);
    if (!chunk->modules || !chunk->x || !chunk->stash_nbytes || !chunk->told)
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %d modules", n);
    memcpy(chunk->x, x + first, ((size_t)n + 1) * sizeof *x);
    for (int i = 0; i < n; i++) {
        par_build build;
        PAR_TRY(model->create(model->config, first + i, &chunk->modules[i]));
        chunk->n_modules = i + 1;
        chunk->modules[i]->layer = (int16_t)(first + i);
        int before = registry->n_params;
        PAR_TRY(build_module(s->on, registry, s->on->memory, chunk->modules[i], (int16_t)c,
                             &sublayer, x[first + i], &build));
        /* the ledger calls a module as the first parameter that it registered, and none before */
        par__module_memory *told = &chunk->told[i];
        if (registry->n_params > before)
            par__param_layer(registry->params[before]->name, told->layer, sizeof told->layer);
        else
            snprintf(told->layer, sizeof told->layer, "module %d", chunk->modules[i]->layer);
        told->n_kept = build.n_kept;
        memcpy(told->kept, build.kept, sizeof told->kept);
        chunk->stash_nbytes[i] = build.stash_nbytes;
        if (s->scratch_layer && build.scratch_nbytes <= s->scratch_nbytes) continue;
        s->scratch_nbytes = build.scratch_nbytes;
        s->workspace_nbytes = build.workspace_nbytes;
        s->scratch_layer = told->layer;
    }
    return PAR_OK;
}

par_status par__stage_build(par__stage *s, const par__context *on, par_registry *registry) {
    const par_trainer_params *p = &on->params;
    par_status st = PAR_OK;
    int pp = p->layout.size[PAR_PP], parts = pp * p->chunks;
    int *first = calloc((size_t)parts + 1, sizeof *first); /* module of every part */
    par_tensor *x = calloc((size_t)p->model->n_modules + 1, sizeof *x);
    s->on = on;
    if (!first || !x) {
        st = par_error_set(PAR_ERR_MEMORY, "no host memory for %d parts", parts);
        goto out;
    }
    if (!p->modules_per_part)
        PAR_TRY_GOTO(par_partition(p->model->work, p->model->n_modules, parts, first), out);
    for (int i = 0; p->modules_per_part && i < parts; i++)
        first[i + 1] = first[i] + p->modules_per_part[i];
    PAR_TRY_GOTO(probe_shapes(on, x), out);
    for (int c = 0; c < p->chunks; c++) {
        int part = c * pp + on->mesh->coordinate[PAR_PP];
        s->n_chunks = c + 1;
        PAR_TRY_GOTO(build_chunk(s, registry, c, first[part], first[part + 1] - first[part], x),
                     out);
    }
out:
    free(x);
    free(first);
    return st;
}

/* All stages' schedules, so that they are proved together before anything runs. */
static par_status build_schedules(par__stage *s, const par_registry *registry) {
    int pp = s->on->params.layout.size[PAR_PP];
    par_status st = PAR_OK;
    s->schedules = calloc((size_t)pp, sizeof(par_schedule *));
    int16_t *bucket_sublayer = calloc((size_t)registry->n_buckets + 1, sizeof *bucket_sublayer);
    if (!s->schedules || !bucket_sublayer) {
        st = par_error_set(PAR_ERR_MEMORY, "no host memory for %d schedules", pp);
        goto out;
    }
    for (int b = 0; b < registry->n_buckets; b++)
        bucket_sublayer[b] = registry->buckets[b].sublayer;
    par_schedule_params p = {.kind = s->on->params.schedule,
                             .p = pp,
                             .m = s->on->n_micro,
                             .v = s->n_chunks,
                             .first_bucket = registry->first_bucket,
                             .bucket_sublayer = bucket_sublayer,
                             .n_last_buckets =
                                 registry->n_buckets - registry->first_bucket[s->n_chunks]};
    for (p.stage = 0; p.stage < pp; p.stage++)
        PAR_TRY_GOTO(par_schedule_create(&p, &s->schedules[p.stage]), out);
    PAR_TRY_GOTO(par_schedule_check(s->schedules, pp), out);
    p.kind = PAR_SCHEDULE_FORWARD_ONLY;
    p.stage = s->on->mesh->coordinate[PAR_PP];
    PAR_TRY_GOTO(par_schedule_create(&p, &s->evaluate), out);
    p.m = 1;
    st = par_schedule_create(&p, &s->single);
out:
    free(bucket_sublayer);
    return st;
}

par_status par__stage_connect(par__stage *s, const par_registry *registry,
                              const par__executor_hooks *hooks) {
    bool trains = !s->on->params.inference;
    if (!trains && !s->on->params.evaluates) return PAR_OK; /* nothing is walked */
    PAR_TRY(build_schedules(s, registry));
    par_schedule *walked[3] = {s->evaluate, s->single,
                               s->schedules[s->on->mesh->coordinate[PAR_PP]]};
    const par__executor_params p = {.mesh = s->on->mesh,
                                    .recorder = par_transport_recorder(s->on->transport),
                                    .backend = s->on->backend,
                                    .stream = s->on->stream,
                                    .chunks = s->chunks,
                                    .n_chunks = s->n_chunks,
                                    .recompute = s->on->params.recompute,
                                    .model = s->on->params.model,
                                    .micro_batch = s->on->params.micro_batch,
                                    .apart = s->on->params.documents_apart,
                                    .scratch_nbytes = s->scratch_nbytes,
                                    .workspace_nbytes = s->workspace_nbytes,
                                    .scratch_layer = s->scratch_layer,
                                    .schedules = walked,
                                    .n_schedules = trains ? 3 : 2,
                                    .hooks = *hooks};
    return par__executor_create(&p, s->on->memory, &s->executor);
}

void par__stage_free(par__stage *s) {
    if (s->executor) par__executor_destroy(&s->executor);
    for (int i = 0; s->schedules && i < s->on->params.layout.size[PAR_PP]; i++)
        par_schedule_destroy(&s->schedules[i]);
    free(s->schedules);
    par_schedule_destroy(&s->evaluate);
    par_schedule_destroy(&s->single);
    for (int c = 0; c < s->n_chunks; c++) {
        par__chunk *chunk = &s->chunks[c];
        for (int i = 0; i < chunk->n_modules; i++)
            chunk->modules[i]->ops->destroy(chunk->modules[i]);
        free(chunk->modules);
        free(chunk->x);
        free(chunk->stash_nbytes);
        free(chunk->told);
    }
}
