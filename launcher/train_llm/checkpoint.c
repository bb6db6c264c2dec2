/* Checkpoints of train_llm: whose the directory is, saving, resuming. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train_llm.h"

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
    if (st == PAR_OK && w->rank == 0) print_notes(result);
    free(result);
    return st;
}

/* A result and what is recorded, on every rank or on none. */
static par_status prepare(const llm_run *r, const llm_world *w, const llm_data *d,
                          par_checkpoint_result **result, llm_about **about) {
    par_status st = llm_about_make(r, w, d, about);
    *result = calloc(1, sizeof **result);
    if (st == PAR_OK && !*result) st = par_error_set(PAR_ERR_MEMORY, "no host memory for a result");
    return par_comm_agree(w->comm, st);
}

par_status llm_checkpoint_save(llm_run *r, const llm_world *w, const llm_data *d,
                               par_trainer *trainer, int64_t step, double loss, double validation) {
    const llm_settings *s = &r->set;
    double begin = llm_world_seconds();
    par_checkpoint_result *result = NULL;
    llm_about *about = NULL;
    if (!s->save) return PAR_OK;
    par_status st = prepare(r, w, d, &result, &about);
    if (st == PAR_OK) {
        const par_checkpoint_params params = {.directory = s->save,
                                              .owner = r->owner,
                                              .keep = (int)s->keep,
                                              .keep_every = s->keep_every,
                                              .keep_best = (int)s->keep_best,
                                              .validation = validation,
                                              .step = step,
                                              .loss = loss,
                                              .about = about->about};
        st = par_trainer_save(trainer, &params, result);
    }
    llm_signals_saved(llm_world_seconds() - begin);
    if (st == PAR_OK) {
        snprintf(r->newest, sizeof r->newest, "%s", result->path);
        llm_signals_newest(r, w);
    }
    if (st == PAR_OK && w->rank == 0) {
        printf("saved %s | %.1f MiB | %.1f s\n", result->path, (double)result->nbytes / 1048576,
               llm_world_seconds() - begin);
        print_notes(result);
    }
    free(about);
    free(result);
    if (st != PAR_ERR_NUMERIC) return st;
    if (w->rank == 0) printf("note: checkpoint: %s\n", par_error());
    return PAR_OK;
}

static par_status resume(llm_run *r, const llm_world *w, const llm_about *about,
                         par_trainer *trainer, par_checkpoint_result *result) {
    const llm_settings *s = &r->set;
    bool automatic = strcmp(s->resume, "auto") == 0;
    const char *directory = resumes_from(s);
    double begin = llm_world_seconds();
    PAR_TRY(par_trainer_resume(trainer, directory, &about->about, result));
    if (r->owner && *result->path)
        PAR_TRY(par_owner_resumed(w->comm, r->owner, result->path, result->run, &result->notes));
    if (!*result->path && automatic && !s->sample && !s->import) PAR_TRY(par_trainer_draw(trainer));
    if (!*result->path && (!automatic || s->sample))
        return par_error_set(
            PAR_ERR_IO,
            "--resume %s: there is no checkpoint in it; legal: a directory that --save made",
            directory);
    snprintf(r->newest, sizeof r->newest, "%s", result->path);
    if (w->rank != 0) return PAR_OK;
    /* options of a training differ, and that it is over, when there is none */
    if (!s->sample) print_notes(result);
    if (*result->path)
        printf("resumed %s | step %lld, %lld samples consumed, loss %.4f | %.1f MiB read, at most "
               "%.1f MiB beside the model, %.1f s\n",
               result->path, (long long)result->step, (long long)result->consumed, result->loss,
               (double)result->nbytes / 1048576, (double)result->memory / 1048576,
               llm_world_seconds() - begin);
    if (!s->sample && *result->path && result->step >= s->steps)
        printf("note: --steps %lld are done already\n", (long long)s->steps);
    if (!*result->path) printf("no checkpoint in %s yet: starting anew\n", directory);
    return PAR_OK;
}

par_status llm_checkpoint_resume(llm_run *r, const llm_world *w, const llm_data *d,
                                 par_trainer *trainer, llm_beginning *from) {
    par_checkpoint_result *result = NULL;
    llm_about *about = NULL;
    if (!r->set.resume) return PAR_OK;
    par_status st = prepare(r, w, d, &result, &about);
    if (st == PAR_OK) st = resume(r, w, about, trainer, result);
    if (st == PAR_OK) *from = (llm_beginning){result->step, result->loss};
    free(about);
    free(result);
    return st;
}
