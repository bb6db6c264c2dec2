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

typedef par_status visit_fn(void *user, const par_checkpoint_run *run);

/* One array of a segment. */
static par_status offer(const par_trainer *t, const par__segment *s, const char *kind,
                        par_dtype dtype, void *data, visit_fn *visit, void *user) {
    const par_param *p = s->param;
    par_checkpoint_run run = {.kind = kind,
                              .name = p->name,
                              .dtype = dtype,
                              .n = s->n,
                              .data = data,
                              .staging = t->host.staging ? &t->host.checkpoint : NULL,
                              .first = s->first,
                              .replica = p->replica};
    memcpy(run.global, p->global, sizeof run.global);
    memcpy(run.offset, p->offset, sizeof run.offset);
    memcpy(run.extent, p->extent, sizeof run.extent);
    memcpy(run.local, p->local, sizeof run.local);
    return data ? visit(user, &run) : PAR_OK;
}

static par_status each_run(const par_trainer *t, visit_fn *visit, void *user) {
    const par__flat *f = &t->flat;
    for (par__segment s = par__segments(f, PAR__SHARD); par__segment_next(&s);) {
        float *master = f->master ? s.master : NULL;
        PAR_TRY(offer(t, &s, "weight", f->dtype, s.weight, visit, user));
        PAR_TRY(offer(t, &s, "master", PAR_F32, master, visit, user));
        PAR_TRY(offer(t, &s, "m", PAR_F32, s.m, visit, user));
        PAR_TRY(offer(t, &s, "v", PAR_F32, s.v, visit, user));
    }
    const par_checkpoint_run scaler = {.kind = "scaler",
                                       .name = "loss scale",
                                       .dtype = PAR_U8,
                                       .n = sizeof t->vote.scaler,
                                       .data = (void *)&t->vote.scaler};
    const par_checkpoint_run choices = {.kind = "backend",
                                        .name = "choices",
                                        .dtype = PAR_U8,
                                        .n = sizeof t->choices,
                                        .data = (void *)t->choices};
    PAR_TRY(visit(user, &scaler));
    return visit(user, &choices);
}

par_status par_trainer_state_runs(const par_trainer *t, visit_fn *visit, void *user) {
    PAR_REQUIRE(t && visit);
    PAR_TRY(par__no_step_begun(&t->vote));
    return each_run(t, visit, user);
}

/* Empty where the backend times nothing. */
static void note_choices(par_trainer *t) {
    memset(t->choices, 0, sizeof t->choices);
    if (t->on.backend->choices)
        snprintf(t->choices, sizeof t->choices, "%s", t->on.backend->choices());
}

/* The run that saved chose so: the same bits need the same choices. Those of another device are of
 * no use here. */
static par_status take_choices(par_trainer *t, par_problems *notes) {
    t->choices[sizeof t->choices - 1] = 0;
    if (!*t->choices || !t->on.backend->choose) return PAR_OK;
    if (strcmp(t->choices, t->on.backend->choices()) == 0) return PAR_OK;
    par_status st = t->on.backend->choose(t->choices);
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
    const par_trainer_params *p = &t->on.params;
    const int *size = p->layout.size;
    const par_axis *o = t->on.mesh->layout.order;
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
    const par_trainer_params *p = &t->on.params;
    snprintf(
        text, nbytes,
        "batch %lld, micro-batch %lld, seed %llu, %s, recompute %d, zero %d, sequence parallel %s, "
        "backend %s, "
        "betas %g %g, eps %g, momentum %g, weight decay %g, clip %g%s%s",
        (long long)p->global_batch, (long long)p->micro_batch, (unsigned long long)p->seed,
        par_schedule_kind_name(p->schedule), (int)p->recompute, p->zero,
        t->on.sequence_parallel ? "on" : "off", t->on.backend->name, (double)p->beta1,
        (double)p->beta2, (double)p->eps, (double)p->momentum, (double)p->weight_decay,
        (double)p->clip, more && *more ? "; " : "", more ? more : "");
}

/* The caller's description of the model, the trainer's of all else. */
typedef struct {
    char layout[4096], options[4096];
} description;

static par_checkpoint_about describe(const par_trainer *t, const par_checkpoint_about *given,
                                     description *d) {
    describe_layout(t, d->layout, sizeof d->layout);
    describe_options(t, given->options, d->options, sizeof d->options);
    return (par_checkpoint_about){given->model ? given->model : t->on.params.model->name, d->layout,
                                  d->options};
}

par_status par_trainer_save(par_trainer *t, const par_checkpoint_params *params,
                            par_checkpoint_result *out) {
    description d;
    list l = {0};
    PAR_REQUIRE(t && params && out);
    PAR_TRY(par__no_step_begun(&t->vote));
    if (!params->check_only) PAR_TRY(par__trainer_ready(t, true));
    par_checkpoint_params p = *params;
    p.about = describe(t, &params->about, &d);
    p.consumed = t->vote.consumed;
    p.updates = t->vote.updates;
    note_choices(t);
    par__enter(&t->on, PAR__PHASE_SAVE);
    par_status st = par_comm_agree(t->on.mesh->world, each_run(t, append, &l));
    if (st == PAR_OK) st = par_checkpoint_save(t->on.mesh->world, &p, l.runs, l.n, out);
    free(l.runs);
    return par__leave(&t->on, st);
}

par_status par_trainer_resume(par_trainer *t, const char *directory,
                              const par_checkpoint_about *about, par_checkpoint_result *out) {
    description d;
    list l = {0};
    PAR_REQUIRE(t && directory && about && out);
    PAR_TRY(par__no_step_begun(&t->vote));
    if (t->on.params.inference)
        PAR_FAIL(PAR_ERR_ARG,
                 "the trainer is for inference: a checkpoint has more than its weights");
    par_checkpoint_about a = describe(t, about, &d);
    PAR_TRY(par__fatal(&t->on, par__buckets_settle(&t->buckets)));
    const par_scaler before = t->vote.scaler;
    par__enter(&t->on, PAR__PHASE_LOAD);
    par_status st = par_comm_agree(t->on.mesh->world, each_run(t, append, &l));
    if (st == PAR_OK) st = par_checkpoint_load(t->on.mesh->world, directory, &a, l.runs, l.n, out);
    free(l.runs);
    (void)par__leave(&t->on, st);
    if (st != PAR_OK || !*out->path) return st;
    const par_scaler stored = t->vote.scaler;
    t->vote.scaler = before; /* other options may not allow the stored one */
    PAR_TRY(par__vote_set_scaler(&t->vote, &stored));
    par__vote_restart(&t->vote, out->consumed, out->updates);
    PAR_TRY(par_comm_agree(t->on.mesh->world, take_choices(t, &out->notes)));
    PAR_TRY(par__fatal(&t->on, par__buckets_share(&t->buckets)));
    t->has_weights = true;
    return PAR_OK;
}
