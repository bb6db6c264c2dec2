/*
 * Checkpoints of train_llm: whose the directory is, saving, resuming.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train_llm.h"

/* The shape, so that another model is refused by a difference that a person can read. */
static void describe_model(const par_transformer_config *c, char *text, size_t nbytes) {
    snprintf(
        text, nbytes,
        "%s, V %lld T %lld P %lld L %lld C %lld H %lld K %lld D %lld F %lld, %s eps %g, %s %g, "
        "scaling %g %g %g %lld, %s%s%s, dropout %g %g",
        c->name, (long long)c->vocab, (long long)c->tokens, (long long)c->positions,
        (long long)c->layers, (long long)c->channels, (long long)c->heads, (long long)c->kv_heads,
        (long long)c->head_size, (long long)c->mlp, c->rmsnorm ? "rmsnorm" : "layernorm",
        (double)c->norm_eps, c->rope ? "rope" : "positions", c->rope_theta, c->rope_scaling.factor,
        c->rope_scaling.low_freq_factor, c->rope_scaling.high_freq_factor,
        (long long)c->rope_scaling.original_positions,
        c->swiglu     ? "swiglu"
        : c->gelu_erf ? "gelu erf"
                      : "gelu tanh",
        c->bias ? ", bias" : "", c->tied ? ", tied" : "", (double)c->dropout,
        (double)c->attention_dropout);
}

/* The options whose rows say so, then what the run made of others. */
static void describe_options(const llm_run *r, const llm_world *w, const llm_data *d, char *text,
                             size_t nbytes) {
    size_t used = 0;
    char value[256];
    for (int i = 0; i < r->n_options && used < nbytes; i++) {
        const par_option *row = &r->options[i];
        if (row->recorded & LLM_IN_CHECKPOINT)
            used += (size_t)snprintf(text + used, nbytes - used, "%s %s, ", row->name,
                                     par_option_text(row, value, sizeof value));
    }
    if (used < nbytes)
        snprintf(text + used, nbytes - used, "training tokens %lld, threads %d",
                 (long long)(d->cut - d->begin), w->threads);
}

static void print_notes(const par_checkpoint_result *result) {
    for (const char *line = result->notes.text; *line;
         line += strcspn(line, "\n"), line += *line == '\n')
        printf("note: checkpoint: %.*s\n", (int)strcspn(line, "\n"), line);
}

static const char *resumes_from(const llm_settings *s) {
    return s->resume && strcmp(s->resume, "auto") == 0 ? s->save : s->resume;
}

par_status llm_checkpoint_claim(llm_run *r, const llm_world *w) {
    const par_owner_params params = {
        .directory = r->set.save, .from = resumes_from(&r->set), .print = llm_report_line};
    if (!r->set.save) return PAR_OK;
    par_status st = par_owner_claim(w->comm, &params, &r->owner);
    return st == PAR_OK || st == PAR_ERR_TRANSPORT
               ? st
               : par_error_set(st, "%s (--save, --resume)", par_error());
}

/* Before hours of training, not after them. */
par_status llm_checkpoint_check(const llm_run *r, const llm_world *w, par_trainer *trainer) {
    if (!r->set.save) return PAR_OK;
    par_checkpoint_result *result = calloc(1, sizeof *result);
    const par_checkpoint_params params = {
        .directory = r->set.save, .owner = r->owner, .check_only = true};
    par_status st = par_comm_agree(
        w->comm, result ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "no host memory for a result"));
    if (st == PAR_OK) st = par_trainer_save(trainer, &params, result);
    free(result);
    return st;
}

par_status llm_checkpoint_save(llm_run *r, const llm_world *w, const llm_data *d,
                               par_trainer *trainer, int64_t step, double loss, double validation) {
    const llm_settings *s = &r->set;
    char model[1024], options[2048];
    double begin = llm_world_seconds();
    if (!s->save) return PAR_OK;
    describe_model(&r->config, model, sizeof model);
    describe_options(r, w, d, options, sizeof options);
    par_checkpoint_result *result = calloc(1, sizeof *result);
    par_status st = par_comm_agree(
        w->comm, result ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "no host memory for a result"));
    const par_checkpoint_params params = {.directory = s->save,
                                          .owner = r->owner,
                                          .keep = (int)s->keep,
                                          .keep_every = s->keep_every,
                                          .keep_best = (int)s->keep_best,
                                          .validation = validation,
                                          .step = step,
                                          .loss = loss,
                                          .about = {.model = model, .options = options}};
    if (st == PAR_OK) st = par_trainer_save(trainer, &params, result);
    llm_signals_saved(llm_world_seconds() - begin);
    if (st == PAR_OK && w->rank == 0) {
        snprintf(r->newest, sizeof r->newest, "%s", result->path);
        llm_signals_newest(r, w);
        printf("saved %s | %.1f MiB | %.1f s\n", result->path, (double)result->nbytes / 1048576,
               llm_world_seconds() - begin);
        print_notes(result);
    }
    free(result);
    if (st != PAR_ERR_NUMERIC) return st;
    if (w->rank == 0) printf("note: checkpoint: %s\n", par_error());
    return PAR_OK;
}

static par_status resume(llm_run *r, const llm_world *w, const llm_data *d, par_trainer *trainer,
                         par_checkpoint_result *result) {
    char model[1024], options[2048];
    const llm_settings *s = &r->set;
    bool automatic = strcmp(s->resume, "auto") == 0;
    describe_model(&r->config, model, sizeof model);
    describe_options(r, w, d, options, sizeof options);
    const par_checkpoint_about about = {.model = model, .options = options};
    const char *directory = resumes_from(s);
    PAR_TRY(par_trainer_resume(trainer, directory, &about, result));
    if (r->owner && *result->path)
        PAR_TRY(par_owner_resumed(w->comm, r->owner, result->path, result->run, &result->notes));
    if (!*result->path && (!automatic || s->sample))
        return par_error_set(
            PAR_ERR_IO,
            "--resume %s: there is no checkpoint in it; legal: a directory that --save made",
            directory);
    if (w->rank != 0) return PAR_OK;
    snprintf(r->newest, sizeof r->newest, "%s", result->path);
    /* options of a training differ, and that it is over, when there is none */
    if (!s->sample) print_notes(result);
    if (*result->path)
        printf("resumed %s | step %lld, %lld samples consumed, loss %.4f\n", result->path,
               (long long)result->step, (long long)result->consumed, result->loss);
    if (!s->sample && *result->path && result->step >= s->steps)
        printf("note: --steps %lld are done already\n", (long long)s->steps);
    if (!*result->path) printf("no checkpoint in %s yet: starting anew\n", directory);
    return PAR_OK;
}

par_status llm_checkpoint_resume(llm_run *r, const llm_world *w, const llm_data *d,
                                 par_trainer *trainer, llm_beginning *from) {
    if (!r->set.resume) return PAR_OK;
    par_checkpoint_result *result = calloc(1, sizeof *result);
    par_status st = par_comm_agree(
        w->comm, result ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "no host memory for a result"));
    if (st == PAR_OK) st = resume(r, w, d, trainer, result);
    if (st == PAR_OK) *from = (llm_beginning){result->step, result->loss};
    free(result);
    return st;
}
