/*
 * What a checkpoint records of a run of train_llm beside the trainer's own: the model's shape,
 * which must be equal to resume, the options whose rows say so, the data and the tokenizer.
 */
#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train_llm.h"

PAR_PRINTF(4, 5)
static void add(llm_about *a, par_checkpoint_class class_of, const char *name, const char *format,
                ...) {
    assert(a->n < LLM_ABOUT_MAX);
    va_list list;
    va_start(list, format);
    vsnprintf(a->values[a->n], sizeof a->values[0], format, list);
    va_end(list);
    par_utf8_clean(a->values[a->n]);
    a->pairs[a->n] = (par_checkpoint_pair){name, a->values[a->n], class_of};
    a->n++;
}

par_status llm_about_make(const llm_run *r, const llm_world *w, const llm_data *d,
                          llm_about **out) {
    llm_about *a = calloc(1, sizeof *a);
    if (!a) return par_error_set(PAR_ERR_MEMORY, "no host memory for what a checkpoint records");
    par_config_pairs_of(&r->config, &a->model);
    memcpy(a->pairs, a->model.pairs, (size_t)a->model.n * sizeof *a->pairs);
    a->n = a->model.n;
    for (int i = 0; i < r->n_options; i++) {
        char value[sizeof a->values[0]];
        const par_option *row = &r->options[i];
        bool used = r->set.lr_schedule == LLM_LR_WSD || strcmp(row->name, "decay-steps") != 0;
        if (used && (row->recorded & LLM_IN_CHECKPOINT))
            add(a, PAR_CHECKPOINT_NOTED, row->name, "%s",
                par_option_text(row, value, sizeof value));
    }
    if (d->n_sets) {
        char fingerprint[LLM_ABOUT_VALUE], data[LLM_ABOUT_VALUE];
        llm_data_fingerprint(d, fingerprint, sizeof fingerprint);
        llm_data_shorten(r->set.data ? r->set.data : "", data, sizeof data);
        add(a, PAR_CHECKPOINT_NOTED, "training tokens", "%lld", (long long)(d->cut - d->begin));
        add(a, PAR_CHECKPOINT_NOTED, "data", "%s", data);
        add(a, PAR_CHECKPOINT_NOTED, "fingerprint of the data", "%s", fingerprint);
    }
    const llm_tokenizer *t = &r->tokenizer;
    if (*t->id) {
        /* ids mean nothing to another tokenizer */
        add(a, PAR_CHECKPOINT_EQUAL, "tokenizer", "%s", t->id);
        add(a, PAR_CHECKPOINT_STATED, "tokenizer file", "%.255s", t->name);
        if (*t->ends) add(a, PAR_CHECKPOINT_STATED, "end ids", "%.255s", t->ends);
    }
    if (*r->carried.kept) add(a, PAR_CHECKPOINT_STATED, "config.json", "%s", r->carried.kept);
    add(a, PAR_CHECKPOINT_NOTED, "threads", "%d", w->threads);
    a->about = (par_checkpoint_about){
        .pairs = a->pairs, .n = a->n, .memory = (size_t)r->set.checkpoint_memory << 20};
    *out = a;
    return PAR_OK;
}
