/*
 * What a checkpoint carries beside its arrays and what this run need not be told again: the model,
 * the form of the data, whose tokenizer it is. It is read before anything is settled, so that a
 * plan, a training and a sample know the model as if options had given it.
 */
#include <stdio.h>
#include <string.h>

#include "train_llm.h"

static void keep(const par_checkpoint *c, const char *name, char *to, size_t nbytes) {
    int n;
    const par_checkpoint_pair *pairs = par_checkpoint_pairs(c, &n);
    for (int i = 0; i < n; i++)
        if (strcmp(pairs[i].name, name) == 0) snprintf(to, nbytes, "%s", pairs[i].value);
}

/* Rank 0. */
static void look(const char *directory, llm_carried *out) {
    par_checkpoint *c = NULL;
    int n;
    if (!directory) return;
    if (par_checkpoint_open(directory, NULL, &c) != PAR_OK) {
        snprintf(out->why, sizeof out->why, "%s", par_error());
        return;
    }
    const par_checkpoint_pair *pairs = par_checkpoint_pairs(c, &n);
    snprintf(out->path, sizeof out->path, "%s", par_checkpoint_info(c)->path);
    out->model = par_config_of_pairs(out->path, pairs, n, &out->config) == PAR_OK;
    if (!out->model) snprintf(out->why, sizeof out->why, "%s", par_error());
    keep(c, "tokenizer", out->tokenizer, sizeof out->tokenizer);
    keep(c, "tokenizer file", out->tokenizer_file, sizeof out->tokenizer_file);
    keep(c, "end ids", out->ends, sizeof out->ends);
    keep(c, "config.json", out->kept, sizeof out->kept);
    keep(c, "data", out->data, sizeof out->data);
    keep(c, "origin", out->origin, sizeof out->origin);
    keep(c, "data-form", out->data_form, sizeof out->data_form);
    par_checkpoint_close(&c);
}

void llm_carried_read(llm_run *r, const llm_world *w, par_problems *problems) {
    const llm_settings *s = &r->set;
    if (!s->resume || s->import || s->verify_parallel) return;
    if (w->rank == 0) look(llm_resume_from(r), &r->carried);
    if (w->rank == 0 && llm_resume_first(s) && !*r->carried.path) {
        r->carried = (llm_carried){.first = true};
        look(llm_resume_from(r), &r->carried);
    }
    if (w->size > 1) llm_world_share(&r->carried, sizeof r->carried);
    /* the form that was given for the same file by hand, where it is not again */
    const llm_carried *c = &r->carried;
    char data[LLM_ABOUT_VALUE] = "";
    if (s->data) llm_data_shorten(s->data, data, sizeof data);
    bool same = *c->data_form && *data && strcmp(data, c->data) == 0;
    for (int i = 0; same && !llm_config_given(r, "data-form") && i < r->n_options; i++) {
        bool is_form = strcmp(r->options[i].name, "data-form") == 0;
        for (const par_choice *p = r->options[i].choices; is_form && p && p->name; p++)
            if (strcmp(p->name, c->data_form) == 0) r->set.data_form = p->value;
    }
    /* a training may begin anew, and says by itself what it cannot read */
    if (!*r->carried.path && *r->carried.why && (s->sample || s->eval_only) &&
        !par_checkpoint_missing())
        par_problem(problems, "--resume: %s", r->carried.why);
    if (*c->origin && !s->sample && !s->eval_only)
        par_problem(
            problems,
            "--resume: %s holds weights alone (%s), and a training goes on from moments, too; "
            "legal: --import DIR, which par checkpoint export %s --hf DIR writes",
            c->path, c->origin, c->path);
    if (*r->carried.path && !r->carried.model)
        par_problem(&r->notes,
                    "%s; so it is what the options say (--model, --layers, --channels, --heads, "
                    "--tokens ...)",
                    r->carried.why);
}

/* A size that is given must be the checkpoint's. */
static void compare(const llm_run *r, const char *option, int64_t given, const char *name,
                    int64_t stored, par_problems *problems) {
    if (given && given != stored)
        par_problem(problems,
                    "--%s %lld: %s: its %s is \"%lld\"; this run's is \"%lld\"; legal: without the "
                    "option",
                    option, (long long)given, r->carried.path, name, (long long)stored,
                    (long long)given);
}

void llm_carried_settle(llm_run *r, par_problems *problems) {
    const llm_settings *s = &r->set;
    par_transformer_config *c = &r->config;
    *c = r->carried.config;
    compare(r, "layers", s->layers, "layers", c->layers, problems);
    compare(r, "channels", s->channels, "channels", c->channels, problems);
    compare(r, "heads", s->heads, "heads", c->heads, problems);
    compare(r, "kv-heads", s->kv_heads, "kv heads", c->kv_heads, problems);
    compare(r, "head-size", s->head_size, "head size", c->head_size, problems);
    compare(r, "mlp", s->mlp, "mlp", c->mlp, problems);
    compare(r, "vocab", s->vocab, "vocabulary", c->vocab, problems);
    if (c->rope && s->tokens > c->positions) c->positions = s->tokens;
}
