/*
 * What a checkpoint records of a trainer, as pairs. Everything but the optimizer may change on
 * resuming, with a note and other bits than the uninterrupted run's: moments of AdamW mean nothing
 * to SGD, and the other way round. The model's shape is compared tensor by tensor by the load. A
 * trainer for inference has no training to compare.
 */
#include "checkpoint_about.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/number.h"

PAR_PRINTF(4, 5)
static void add(par__about *a, par_checkpoint_class class_of, const char *name, const char *format,
                ...) {
    assert(a->n < PAR__ABOUT_MAX);
    char *text = a->texts[a->n];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof a->texts[0], format, list);
    va_end(list);
    a->pairs[a->n++] = (par_checkpoint_pair){name, text, class_of};
}

/* Numbers read back as they were. */
static void add_double(par__about *a, par_checkpoint_class class_of, const char *name, double x) {
    char text[PAR__NUMBER_NBYTES];
    add(a, class_of, name, "%s", par__exact(text, x));
}

static void add_float(par__about *a, const char *name, float x) {
    char text[PAR__NUMBER_NBYTES];
    add(a, PAR_CHECKPOINT_NOTED, name, "%s", par__exact_float(text, x));
}

static void add_layout(par__about *a, const par__context *on) {
    const par_trainer_params *p = &on->params;
    const par_axis *o = on->mesh->layout.order;
    for (int axis = 0; axis < PAR_AXIS_COUNT; axis++)
        add(a, PAR_CHECKPOINT_NOTED, par_axis_name((par_axis)axis), "%d", p->layout.size[axis]);
    add(a, PAR_CHECKPOINT_NOTED, "order", "%s-%s-%s-%s", par_axis_name(o[0]), par_axis_name(o[1]),
        par_axis_name(o[2]), par_axis_name(o[3]));
    add(a, PAR_CHECKPOINT_NOTED, "chunks", "%d", p->chunks);
    add(a, PAR_CHECKPOINT_NOTED, "schedule", "%s", par_schedule_kind_name(p->schedule));
    char parts[sizeof a->texts[0]] = "balanced";
    size_t used = 0;
    for (int i = 0; p->modules_per_part && i < p->layout.size[PAR_PP] * p->chunks; i++)
        if (used < sizeof parts)
            used += (size_t)snprintf(parts + used, sizeof parts - used, "%s%d", i ? "," : "",
                                     p->modules_per_part[i]);
    add(a, PAR_CHECKPOINT_NOTED, "modules per part", "%s", parts);
    add(a, PAR_CHECKPOINT_NOTED, "tp pieces", "%d", p->tp_pieces);
    add(a, PAR_CHECKPOINT_NOTED, "logits memory", "%zu", p->logits_nbytes);
    add(a, PAR_CHECKPOINT_NOTED, "zero", "%d", p->zero);
    add(a, PAR_CHECKPOINT_NOTED, "sequence parallel", "%s", on->sequence_parallel ? "on" : "off");
    add(a, PAR_CHECKPOINT_NOTED, "recompute", "%s",
        p->recompute == PAR_RECOMPUTE_NONE        ? "none"
        : p->recompute == PAR_RECOMPUTE_SELECTIVE ? "selective"
                                                  : "full");
    add(a, PAR_CHECKPOINT_NOTED, "bucket", "%lld", (long long)p->bucket_n);
    add(a, PAR_CHECKPOINT_NOTED, "backend", "%s", on->backend->name);
}

static void add_training(par__about *a, const par_trainer_params *p) {
    bool sgd = p->optimizer == PAR_SGD;
    add(a, PAR_CHECKPOINT_NOTED, "batch", "%lld", (long long)p->global_batch);
    add(a, PAR_CHECKPOINT_NOTED, "micro-batch", "%lld", (long long)p->micro_batch);
    add(a, PAR_CHECKPOINT_NOTED, "seed", "%llu", (unsigned long long)p->seed);
    add(a, PAR_CHECKPOINT_EQUAL, "optimizer", "%s", sgd ? "sgd" : "adamw");
    if (sgd) add_double(a, PAR_CHECKPOINT_NOTED, "momentum", p->momentum);
    if (!sgd) add_double(a, PAR_CHECKPOINT_NOTED, "beta1", p->beta1);
    if (!sgd) add_double(a, PAR_CHECKPOINT_NOTED, "beta2", p->beta2);
    if (!sgd) add_float(a, "eps", p->eps);
    add_float(a, "weight decay", p->weight_decay);
    add_float(a, "clip", p->clip);
    add(a, PAR_CHECKPOINT_NOTED, "nonfinite", "%s",
        p->nonfinite == PAR_NONFINITE_SKIP ? "skip" : "stop");
    if (p->documents_apart)
        add(a, PAR_CHECKPOINT_NOTED, "documents", "apart behind id %d", (int)p->document_end);
    else
        add(a, PAR_CHECKPOINT_NOTED, "documents", "across");
    add(a, PAR_CHECKPOINT_NOTED, "precision", "%s", par_dtype_name(p->dtype));
    add(a, PAR_CHECKPOINT_NOTED, "reduce type", "%s", par_dtype_name(p->reduce_dtype));
}

static void add_scaler(par__about *a, const par_trainer *t) {
    const par_scaler_params *p = &t->on.params.scaler;
    const par_scaler *s = &t->vote.scaler;
    if (t->on.params.dtype == PAR_F16) {
        if (p->constant > 0) add_double(a, PAR_CHECKPOINT_NOTED, "loss scale", p->constant);
        if (p->constant == 0) add(a, PAR_CHECKPOINT_NOTED, "loss scale", "dynamic");
        add_double(a, PAR_CHECKPOINT_NOTED, "loss scale: init", p->init);
        add_double(a, PAR_CHECKPOINT_NOTED, "loss scale: growth", p->growth);
        add_double(a, PAR_CHECKPOINT_NOTED, "loss scale: backoff", p->backoff);
        add_double(a, PAR_CHECKPOINT_NOTED, "loss scale: min", p->min);
        add_double(a, PAR_CHECKPOINT_NOTED, "loss scale: max", p->max);
        add(a, PAR_CHECKPOINT_NOTED, "loss scale: interval", "%lld", (long long)p->interval);
        add(a, PAR_CHECKPOINT_NOTED, "loss scale: hysteresis", "%lld", (long long)p->hysteresis);
    }
    add(a, PAR_CHECKPOINT_NOTED, "loss scale: max skips", "%lld", (long long)p->max_skips);
    add_double(a, PAR_CHECKPOINT_STATED, "now: loss scale", s->scale);
    add(a, PAR_CHECKPOINT_STATED, "now: clean steps", "%lld", (long long)s->clean);
    add(a, PAR_CHECKPOINT_STATED, "now: hysteresis", "%lld", (long long)s->hysteresis);
    add(a, PAR_CHECKPOINT_STATED, "now: skips at the floor", "%lld", (long long)s->floor_skips);
    add(a, PAR_CHECKPOINT_STATED, "now: skipped steps", "%lld", (long long)s->skipped);
}

par_status par__about_make(const par_trainer *t, const par_checkpoint_about *given,
                           par__about **out) {
    PAR_REQUIRE(given->n >= 0 && (given->pairs || given->n == 0));
    par__about *a = calloc(1, sizeof *a + (size_t)(PAR__ABOUT_MAX + given->n) * sizeof *a->pairs);
    if (!a) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %d pairs", given->n);
    add(a, PAR_CHECKPOINT_NOTED, "model", "%s", t->on.params.model->name);
    add_layout(a, &t->on);
    if (!t->on.params.inference) add_training(a, &t->on.params);
    if (!t->on.params.inference) add_scaler(a, t);
    for (int i = 0; i < given->n; i++) {
        bool has = false;
        for (int k = 0; k < a->n && !has; k++)
            has = strcmp(a->pairs[k].name, given->pairs[i].name) == 0;
        if (!has) a->pairs[a->n++] = given->pairs[i];
    }
    a->about = (par_checkpoint_about){.pairs = a->pairs, .n = a->n, .memory = given->memory};
    *out = a;
    return PAR_OK;
}
