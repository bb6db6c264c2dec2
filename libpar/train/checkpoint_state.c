/*
 * The trainer's state as runs of a checkpoint. Each dp rank stores its part of every bucket, with
 * and without ZeRO, so that of weights and moments every dp rank's copy is stored once; copies
 * along tp and tied weights on two stages are stored by each rank that holds them. After loading,
 * the parts are gathered over dp as in a step. The loss scaler's state is one more run, the same on
 * every rank, and so is the text of what the backend timed and chose, which is each rank's own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer.h"

typedef struct {
    par_status (*visit)(void *user, const par_checkpoint_run *run);
    void *user;
} visitor;

static par_status offer(const par_param *p, int64_t first, int64_t n, const char *kind,
                        par_dtype dtype, void *data, const par_trainer *t, const visitor *v) {
    par_checkpoint_run run = {.kind = kind,
                              .name = p->name,
                              .dtype = dtype,
                              .n = n,
                              .data = data,
                              .staging = t->staging ? &t->checkpoint_staging : NULL,
                              .first = first,
                              .replica = p->replica};
    memcpy(run.global, p->global, sizeof run.global);
    memcpy(run.offset, p->offset, sizeof run.offset);
    memcpy(run.extent, p->extent, sizeof run.extent);
    memcpy(run.local, p->local, sizeof run.local);
    return v->visit(v->user, &run);
}

/* Everything of parameter p that this dp rank stores. */
static par_status each_run(const par_trainer *t, const par_param *p, const visitor *v) {
    int64_t first, n, owned, n_owned, state;
    par__param_shard(t->registry, p, &first, &n);
    if (n == 0) return PAR_OK;
    par__owned(t, p->bucket, &owned, &n_owned, &state);
    int64_t at = state + (p->flat - owned) + first;
    size_t size = par_dtype_nbytes(t->params.dtype);
    PAR_TRY(offer(p, first, n, "weight", t->params.dtype, (char *)p->weight + (size_t)first * size,
                  t, v));
    if (t->master) PAR_TRY(offer(p, first, n, "master", PAR_F32, t->master + at, t, v));
    PAR_TRY(offer(p, first, n, "m", PAR_F32, t->m + at, t, v));
    if (t->v) PAR_TRY(offer(p, first, n, "v", PAR_F32, t->v + at, t, v));
    return PAR_OK;
}

par_status par_trainer_state_runs(const par_trainer *t,
                                  par_status (*visit)(void *user, const par_checkpoint_run *run),
                                  void *user) {
    PAR_REQUIRE(t && visit);
    const visitor v = {visit, user};
    for (int i = 0; i < t->registry->n_params; i++)
        PAR_TRY(each_run(t, t->registry->params[i], &v));
    const par_checkpoint_run scaler = {.kind = "scaler",
                                       .name = "loss scale",
                                       .dtype = PAR_U8,
                                       .n = sizeof t->scaler,
                                       .data = (void *)&t->scaler};
    const par_checkpoint_run choices = {.kind = "backend",
                                        .name = "choices",
                                        .dtype = PAR_U8,
                                        .n = sizeof t->choices,
                                        .data = (void *)t->choices};
    PAR_TRY(visit(user, &scaler));
    return visit(user, &choices);
}

/* Empty where the backend times nothing. */
static void note_choices(par_trainer *t) {
    memset(t->choices, 0, sizeof t->choices);
    if (t->backend->choices) snprintf(t->choices, sizeof t->choices, "%s", t->backend->choices());
}

/* The run that saved chose so: the same bits need the same choices. Those of another device are no
 * use here. */
static par_status take_choices(par_trainer *t, par_problems *notes) {
    t->choices[sizeof t->choices - 1] = 0;
    if (!*t->choices || !t->backend->choose) return PAR_OK;
    if (strcmp(t->choices, t->backend->choices()) == 0) return PAR_OK;
    par_status st = t->backend->choose(t->choices);
    if (st != PAR_ERR_OPTION) return st;
    par_problem(notes, "the choices timed by the run that saved are not taken: %s", par_error());
    return PAR_OK;
}

typedef struct {
    par_checkpoint_run *runs;
    int n, max;
} list;

static par_status append(void *user, const par_checkpoint_run *run) {
    list *l = user;
    if (l->n == l->max) {
        int max = l->max ? 2 * l->max : 64;
        par_checkpoint_run *runs = realloc(l->runs, (size_t)max * sizeof *runs);
        if (!runs) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a list of %d arrays", max);
        l->runs = runs;
        l->max = max;
    }
    l->runs[l->n++] = *run;
    return PAR_OK;
}

/* What decides which elements a rank holds, and of what type: must be equal to load. */
static void describe_layout(const par_trainer *t, char *text, size_t nbytes) {
    const par_trainer_params *p = &t->params;
    const int *size = p->layout.size;
    const par_axis *o = t->mesh->layout.order;
    int n = snprintf(text, nbytes,
                     "tp %d x cp %d x pp %d x dp %d, order %s-%s-%s-%s, %d chunks a stage, %s, %s, "
                     "buckets of %lld",
                     size[PAR_TP], size[PAR_CP], size[PAR_PP], size[PAR_DP], par_axis_name(o[0]),
                     par_axis_name(o[1]), par_axis_name(o[2]), par_axis_name(o[3]), p->chunks,
                     par_dtype_name(p->dtype), p->optimizer == PAR_SGD ? "sgd" : "adamw",
                     (long long)p->bucket_n);
    int parts = p->modules_per_part ? size[PAR_PP] * p->chunks : 0;
    for (int i = 0; i < parts && n > 0 && (size_t)n < nbytes; i++)
        n += snprintf(text + n, nbytes - (size_t)n, "%s%d", i ? "," : ", modules ",
                      p->modules_per_part[i]);
}

/* What may change on resuming, at the price of other bits than the uninterrupted run's; then the
 * caller's. */
static void describe_options(const par_trainer *t, const char *more, char *text, size_t nbytes) {
    const par_trainer_params *p = &t->params;
    snprintf(
        text, nbytes,
        "batch %lld, micro-batch %lld, seed %llu, %s, recompute %d, zero %d, sequence parallel %s, "
        "backend %s, "
        "betas %g %g, eps %g, momentum %g, weight decay %g, clip %g%s%s",
        (long long)p->global_batch, (long long)p->micro_batch, (unsigned long long)p->seed,
        par_schedule_kind_name(p->schedule), (int)p->recompute, p->zero,
        t->sequence_parallel ? "on" : "off", t->backend->name, (double)p->beta1, (double)p->beta2,
        (double)p->eps, (double)p->momentum, (double)p->weight_decay, (double)p->clip,
        more && *more ? "; " : "", more ? more : "");
}

/* The caller's description of the model, the trainer's of all else. */
typedef struct {
    char layout[4096], options[4096];
} description;

static par_checkpoint_about describe(const par_trainer *t, const par_checkpoint_about *given,
                                     description *d) {
    describe_layout(t, d->layout, sizeof d->layout);
    describe_options(t, given->options, d->options, sizeof d->options);
    return (par_checkpoint_about){given->model ? given->model : t->params.model->name, d->layout,
                                  d->options};
}

par_status par_trainer_save(par_trainer *t, const par_checkpoint_params *params,
                            par_checkpoint_result *out) {
    description d;
    list l = {0};
    PAR_REQUIRE(t && params && out);
    PAR_TRY(par__no_step_begun(t));
    par_checkpoint_params p = *params;
    p.about = describe(t, &params->about, &d);
    p.consumed = t->consumed;
    p.updates = t->updates;
    note_choices(t);
    par_status st = par_comm_agree(t->mesh->world, par_trainer_state_runs(t, append, &l));
    if (st == PAR_OK) st = par_checkpoint_save(t->mesh->world, &p, l.runs, l.n, out);
    free(l.runs);
    return st;
}

/* The parts of all dp ranks: weights always, master and moments where every dp rank has them
 * whole. */
static par_status gather(par_trainer *t) {
    static const par_tag tag = {"checkpoint", -1, -1, -1};
    par_comm *dp = t->mesh->axis[PAR_DP];
    size_t size = par_dtype_nbytes(t->params.dtype);
    if (par_comm_size(dp) == 1) return PAR_OK;
    for (int b = 0; b < t->registry->n_buckets; b++) {
        const par__bucket *k = &t->registry->buckets[b];
        char *weights = (char *)t->weights + (size_t)k->begin * size;
        int64_t part = k->shard - k->begin;
        PAR_TRY(par_comm_all_gather(dp, weights + (size_t)part * size, weights, k->n_shard,
                                    t->params.dtype, tag, t->stream, NULL));
        float *const states[] = {t->master, t->m, t->v};
        for (int i = 0; i < 3 && t->params.zero == 0; i++) {
            if (!states[i]) continue;
            float *all = states[i] + t->state[b];
            PAR_TRY(par_comm_all_gather(dp, all + part, all, k->n_shard, PAR_F32, tag, t->stream,
                                        NULL));
        }
    }
    return PAR_OK;
}

par_status par_trainer_resume(par_trainer *t, const char *directory,
                              const par_checkpoint_about *about, par_checkpoint_result *out) {
    description d;
    list l = {0};
    PAR_REQUIRE(t && directory && about && out);
    PAR_TRY(par__no_step_begun(t));
    par_checkpoint_about a = describe(t, about, &d);
    for (int b = 0; b < t->registry->n_buckets; b++) PAR_TRY(par__bucket_gather(t, b));
    const par_scaler before = t->scaler;
    par_status st = par_comm_agree(t->mesh->world, par_trainer_state_runs(t, append, &l));
    if (st == PAR_OK) st = par_checkpoint_load(t->mesh->world, directory, &a, l.runs, l.n, out);
    free(l.runs);
    if (st != PAR_OK || !*out->path) return st;
    const par_scaler stored = t->scaler;
    t->scaler = before; /* other options may not allow the stored one */
    PAR_TRY(par_trainer_set_scaler(t, &stored));
    t->consumed = out->consumed;
    t->updates = out->updates;
    t->upload = true;
    PAR_TRY(par_comm_agree(t->mesh->world, take_choices(t, &out->notes)));
    return gather(t);
}
