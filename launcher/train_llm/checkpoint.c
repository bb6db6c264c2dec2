/* Checkpoints of train_llm: whose the directory is, saving, resuming. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train_llm.h"

/* The option of a pair that has another name; "": it has the pair's, or there is none. */
static const char *option_of(const char *line) {
    static const struct {
        const char *pair, *option;
    } rows[] = {
        {"loss scale: init", " (--loss-scale-init)"},
        {"loss scale: min", " (--loss-scale-min)"},
        {"loss scale: max", " (--loss-scale-max)"},
        {"loss scale: interval", " (--loss-scale-window)"},
        {"loss scale: hysteresis", " (--loss-scale-hysteresis)"},
        {"loss scale: max skips", " (--max-skips)"},
        {"loss scale", " (--loss-scale)"},
        {"logits memory", " bytes (--logits-memory, in MiB)"},
        {"modules per part", " (--pp-layers)"},
        {"tp pieces", " (--tp-pieces)"},
        {"sequence parallel", " (--sequence-parallel)"},
        {"weight decay", " (--weight-decay)"},
        {"reduce type", " (--reduce-dtype)"},
        {"positions", " (--tokens)"},
        {"attention dropout", " (--dropout)"},
        {"embedding dropout", " (--dropout)"},
        {"training tokens", " (--data, --split)"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t n = strlen(rows[i].pair);
        if (strncmp(line, rows[i].pair, n) == 0 && line[n] == ':') return rows[i].option;
    }
    return "";
}

/* Those that begin so. */
static void print_notes_of(const par_checkpoint_result *result, const char *beginning) {
    for (const char *line = result->notes.text; *line;
         line += strcspn(line, "\n"), line += *line == '\n')
        if (strncmp(line, beginning, strlen(beginning)) == 0)
            printf("note: checkpoint: %.*s%s\n", (int)strcspn(line, "\n"), line, option_of(line));
}

static void print_notes(const par_checkpoint_result *result) {
    print_notes_of(result, "");
}

par_status llm_checkpoint_claim(llm_run *r, const llm_world *w) {
    const par_owner_params params = {
        .directory = r->set.save, .from = llm_resume_from(r), .print = llm_report_line};
    if (!r->set.save) return PAR_OK;
    par_status st = par_owner_claim(w->comm, &params, &r->owner);
    return st == PAR_OK || st == PAR_ERR_TRANSPORT
               ? st
               : par_error_set(st, "%s (--save, --resume)", par_error());
}

/* A result and what is recorded, on every rank or on none. */
static par_status prepare(const llm_run *r, const llm_world *w, const llm_data *d,
                          par_checkpoint_result **result, llm_about **about) {
    par_status st = llm_about_make(r, w, d, about);
    *result = calloc(1, sizeof **result);
    if (st == PAR_OK && !*result) st = par_error_set(PAR_ERR_MEMORY, "no host memory for a result");
    return par_comm_agree(w->comm, st);
}

/* Before hours of training, not after them. */
par_status llm_checkpoint_check(llm_run *r, const llm_world *w, const llm_data *d,
                                par_trainer *trainer) {
    static const par_tag tag = {"checkpoint", -1, -1, -1};
    const llm_settings *s = &r->set;
    par_checkpoint_result *result = NULL;
    llm_about *about = NULL;
    if (!s->save) return PAR_OK;
    par_status st = prepare(r, w, d, &result, &about);
    if (st == PAR_OK) {
        const par_checkpoint_params params = {.directory = s->save,
                                              .owner = r->owner,
                                              .about = about->about,
                                              .blobs = r->tokenizer.blobs,
                                              .n_blobs = r->tokenizer.n_blobs,
                                              .check_only = true};
        st = par_trainer_save(trainer, &params, result);
    }
    if (st == PAR_OK && w->rank == 0) print_notes(result);
    free(about);
    free(result);
    if (st != PAR_OK || !s->save_async) return st;
    /* whether all ranks have memory for the copy: the same answer on all */
    size_t nbytes;
    bool has = par_trainer_saves_behind(trainer, &nbytes);
    int64_t without = has ? 0 : (int64_t)nbytes, sum;
    PAR_TRY(par_comm_all_reduce(w->comm, &without, &sum, 1, PAR_I64, tag, NULL, NULL));
    r->behind.can = sum == 0;
    if (!has && w->rank == 0)
        printf("note: --save-memory %lld: a copy of rank 0's state takes %.1f MiB, so the training "
               "waits while a checkpoint is written; a larger --save-memory avoids it\n",
               (long long)s->save_memory, (double)nbytes / 1048576);
    else if (sum > 0 && w->rank == 0)
        printf("note: --save-memory %lld: copies of ranks' states take %.1f MiB in all, so the "
               "training waits while a checkpoint is written; a larger --save-memory avoids it\n",
               (long long)s->save_memory, (double)sum / 1048576);
    return PAR_OK;
}

/* A save has ended, which began at `since`, and for which the training has waited `waited` just
 * now; behind: while the training went on. A state that is not finite is an error of the training
 * only if it is the last one. */
static par_status report(llm_run *r, const llm_world *w, par_status st,
                         const par_checkpoint_result *result, double since, double waited,
                         bool behind) {
    double took = llm_world_seconds() - since;
    llm_signals_saved(took, waited);
    *r->unsaved = 0;
    if (st == PAR_OK) {
        snprintf(r->newest, sizeof r->newest, "%s", result->path);
        r->newest_is_own = true;
        llm_signals_newest(r, w);
    }
    if (st == PAR_OK && w->rank == 0) {
        llm_report_progress_clear();
        printf("saved %s | %.1f MiB | %.1f s", result->path, (double)result->nbytes / 1048576,
               took);
        if (behind) printf(", of which the training waited %.3f s", r->behind.waited);
        printf("\n");
        print_notes(result);
    }
    if (st != PAR_ERR_NUMERIC) return st;
    snprintf(r->unsaved, sizeof r->unsaved, "%s", par_error());
    if (w->rank == 0) printf("note: checkpoint: %s\n", r->unsaved);
    return PAR_OK;
}

static par_status end_behind(llm_run *r, const llm_world *w, par_trainer *trainer) {
    par_checkpoint_result result;
    double begin = llm_world_seconds();
    if (!r->behind.under_way) return PAR_OK;
    r->behind.under_way = false;
    par_status st = par_trainer_save_end(trainer, &result);
    double waited = llm_world_seconds() - begin;
    r->behind.waited += waited;
    return report(r, w, st, &result, r->behind.since, waited, true);
}

par_status llm_checkpoint_go_on(llm_run *r, const llm_world *w, par_trainer *trainer) {
    bool ended = false;
    double begin = llm_world_seconds();
    if (!r->behind.under_way) return PAR_OK;
    PAR_TRY(par_trainer_save_poll(trainer, &ended));
    r->behind.waited += llm_world_seconds() - begin;
    return ended ? end_behind(r, w, trainer) : PAR_OK;
}

par_status llm_checkpoint_await(llm_run *r, const llm_world *w, par_trainer *trainer,
                                par_status st) {
    static char why[PAR_ERROR_NBYTES];
    memcpy(why, par_error(), sizeof why);
    par_status saved = end_behind(r, w, trainer);
    bool good = st == PAR_OK || st == PAR_ERR_STOPPED;
    if (saved != PAR_OK && good) return saved;
    if (good && *r->unsaved)
        return par_error_set(PAR_ERR_NUMERIC, "the last state was not saved: %s", r->unsaved);
    if (saved != PAR_OK && w->rank == 0) printf("note: checkpoint: %s\n", par_error());
    return st == PAR_OK ? st : par_error_set(st, "%s", why);
}

par_status llm_checkpoint_save(llm_run *r, const llm_world *w, const llm_data *d,
                               par_trainer *trainer, const llm_moment *at) {
    const llm_settings *s = &r->set;
    par_checkpoint_result *result = NULL;
    llm_about *about = NULL;
    if (!s->save) return PAR_OK;
    PAR_TRY(end_behind(r, w, trainer));
    bool behind = r->behind.can && at->goes_on;
    double begin = llm_world_seconds();
    par_status st = prepare(r, w, d, &result, &about);
    if (st == PAR_OK) {
        const par_checkpoint_params params = {.directory = s->save,
                                              .owner = r->owner,
                                              .keep = (int)s->keep,
                                              .keep_every = s->keep_every,
                                              .keep_best = (int)s->keep_best,
                                              .validation = at->validation,
                                              .step = at->step,
                                              .loss = at->loss,
                                              .about = about->about,
                                              .blobs = r->tokenizer.blobs,
                                              .n_blobs = r->tokenizer.n_blobs};
        st = behind ? par_trainer_save_begin(trainer, &params)
                    : par_trainer_save(trainer, &params, result);
    }
    r->behind.under_way = behind && st == PAR_OK;
    r->behind.since = begin;
    r->behind.waited = llm_world_seconds() - begin;
    if (!r->behind.under_way) st = report(r, w, st, result, begin, r->behind.waited, false);
    free(about);
    free(result);
    return st;
}

static par_status resume(llm_run *r, const llm_world *w, const llm_about *about,
                         par_trainer *trainer, par_checkpoint_result *result, bool *own) {
    const llm_settings *s = &r->set;
    bool automatic = llm_resume_is_auto(s) && !llm_resume_first(s);
    const char *directory = llm_resume_from(r);
    double begin = llm_world_seconds();
    par_status st = par_trainer_resume(trainer, directory, &about->about, result);
    if (st == PAR_ERR_OPTION && strstr(par_error(), "its tokenizer is"))
        return par_error_set(st,
                             "%s\n(the checkpoint's: %s; this run's: %s; legal: the checkpoint's, "
                             "which needs no --tokenizer)",
                             par_error(), r->carried.tokenizer_file, r->tokenizer.name);
    PAR_TRY(st);
    if (r->owner && *result->path) {
        bool goes_on = result->step < s->steps;
        PAR_TRY(par_owner_resumed(w->comm, r->owner, result->path, result->run, goes_on, own,
                                  &result->notes));
    }
    if (!*result->path && automatic && !s->sample && !s->import) PAR_TRY(par_trainer_draw(trainer));
    if (!*result->path && (!automatic || s->sample))
        return par_error_set(
            PAR_ERR_IO,
            "--resume %s: there is no checkpoint in it; legal: a directory that --save made",
            directory);
    snprintf(r->newest, sizeof r->newest, "%s", result->path);
    r->newest_is_own = *own;
    if (w->rank != 0) return PAR_OK;
    /* options of a training differ, and that it is over, when there is none */
    print_notes_of(result, s->sample ? "passed over:" : "");
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
    bool own = false;
    if (!r->set.resume) return PAR_OK;
    par_status st = prepare(r, w, d, &result, &about);
    if (st == PAR_OK) st = resume(r, w, about, trainer, result, &own);
    if (st == PAR_OK) *from = (llm_beginning){result->step, result->loss, result->validation, own};
    free(about);
    free(result);
    return st;
}
