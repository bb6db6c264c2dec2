/*
 * Checkpoints of train_llm: signals, saving, resuming. A signal reaches ranks at different times:
 * it only sets a flag, the step's vote carries it to all, and one more agreement says what was
 * asked.
 */
#define _XOPEN_SOURCE 700
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train_llm.h"

static volatile sig_atomic_t asked_to_save, asked_to_stop;

static void on_signal(int number) {
    if (number == SIGUSR1)
        asked_to_save = 1;
    else
        asked_to_stop = 1;
}

/*
 * On a stack of their own: a signal that interrupts a generated GEMM kernel was seen to leave its
 * frame in the heap, as such kernels may use the stack pointer for other things. 64 KiB hold the
 * frame of any register set.
 */
void llm_checkpoint_catch_signals(void) {
    static char stack[1 << 16];
    const stack_t own = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART | SA_ONSTACK};
    sigaltstack(&own, NULL);
    const int numbers[] = {SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
    for (int i = 0; i < 4; i++) sigaction(numbers[i], &action, NULL);
}

int llm_checkpoint_asked(void) {
    return asked_to_stop ? LLM_ASKED_STOP : asked_to_save ? LLM_ASKED_SAVE : LLM_ASKED_NOTHING;
}

par_status llm_checkpoint_agree(const llm_world *w, int *asked) {
    static const par_tag tag = {"signals", -1, -1, -1};
    int32_t wishes[2] = {asked_to_save, asked_to_stop};
    asked_to_save = 0;
    PAR_TRY(par_comm_all_reduce(w->comm, wishes, wishes, 2, PAR_I32, tag, NULL, NULL));
    *asked = wishes[1] ? LLM_ASKED_STOP : wishes[0] ? LLM_ASKED_SAVE : LLM_ASKED_NOTHING;
    return PAR_OK;
}

/* The shape, so that another model is refused by a difference that a person can read. */
static void describe_model(const par_transformer_config *c, char *text, size_t nbytes) {
    char own[48] = ""; /* of the embedding */
    if (c->embedding_dropout != 0)
        snprintf(own, sizeof own, ", embedding %g", (double)c->embedding_dropout);
    snprintf(
        text, nbytes,
        "%s, V %lld T %lld P %lld L %lld C %lld H %lld K %lld D %lld F %lld, %s eps %g, %s %g, "
        "scaling %g %g %g %lld, %s%s%s%s%s, dropout %g %g%s",
        c->name, (long long)c->vocab, (long long)c->tokens, (long long)c->positions,
        (long long)c->layers, (long long)c->channels, (long long)c->heads, (long long)c->kv_heads,
        (long long)c->head_size, (long long)c->mlp, c->rmsnorm ? "rmsnorm" : "layernorm",
        (double)c->norm_eps, c->rope ? "rope" : "positions", c->rope_theta, c->rope_scaling.factor,
        c->rope_scaling.low_freq_factor, c->rope_scaling.high_freq_factor,
        (long long)c->rope_scaling.original_positions,
        c->swiglu     ? "swiglu"
        : c->gelu_erf ? "gelu erf"
                      : "gelu tanh",
        c->bias ? ", bias" : "", c->qkv_bias ? ", qkv bias" : "", c->qk_norm ? ", qk norm" : "",
        c->tied ? ", tied" : "", (double)c->dropout, (double)c->attention_dropout, own);
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

/* Before hours of training, not after them. */
par_status llm_checkpoint_check(const llm_run *r, const llm_world *w, par_trainer *trainer) {
    if (!r->set.save) return PAR_OK;
    par_checkpoint_result *result = calloc(1, sizeof *result);
    const par_checkpoint_params params = {
        .directory = r->set.save, .keep = (int)r->set.keep, .check_only = true};
    par_status st = par_comm_agree(
        w->comm, result ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "no host memory for a result"));
    if (st == PAR_OK) st = par_trainer_save(trainer, &params, result);
    free(result);
    return st;
}

par_status llm_checkpoint_save(llm_run *r, const llm_world *w, const llm_data *d,
                               par_trainer *trainer, int64_t step, double loss) {
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
                                          .keep = (int)s->keep,
                                          .step = step,
                                          .loss = loss,
                                          .about = {.model = model, .options = options}};
    if (st == PAR_OK) st = par_trainer_save(trainer, &params, result);
    if (st == PAR_OK) snprintf(r->newest, sizeof r->newest, "%s", result->path);
    if (st == PAR_OK && w->rank == 0) {
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
    const char *directory = automatic ? s->save : s->resume;
    PAR_TRY(par_trainer_resume(trainer, directory, &about, result));
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
