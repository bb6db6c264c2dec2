/*
 * Samples of train_llm, drawing: one run of the generator per prompt, which ends when all its texts
 * have: at a token that ends a text, at a string of --stop, or with their last token. Every rank
 * sees the same tokens and so comes to the same end. Then they are printed in a form that cannot
 * break a terminal.
 */
#define _GNU_SOURCE
#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "generate.h"

/* Text as it is, but U+FFFD for bytes that are not UTF-8, and control characters (C1's too:
 * terminals obey them) as \xNN. */
static void print_safely(const unsigned char *c, size_t n) {
    for (size_t i = 0, length; i < n; i += length ? length : 1) {
        length = par_utf8_length(c + i, n - i);
        bool control = (c[i] < 0x20 && c[i] != '\n' && c[i] != '\t') || c[i] == 0x7f;
        if (length == 0)
            fputs("\xef\xbf\xbd", stdout);
        else if (control)
            printf("\\x%02x", c[i]);
        else if (length == 2 && c[i] == 0xc2 && c[i + 1] < 0xa0)
            printf("\\x%02x", c[i + 1]);
        else
            fwrite(c + i, 1, length, stdout);
    }
}

/* How a run goes on. */
typedef struct {
    llm_generation *sample;
    llm_world *world;
    const llm_prompt *prompt;
    int64_t n_new;
    double begin, first; /* s: of the run, and when its first tokens were there */
    par_status st;       /* of the signals, with each token */
} run;

/* The text of n new tokens behind a prompt, malloc'ed, in one piece, since a character may be
 * spread over tokens; decoded behind the prompt's last token, whose bytes are left out again,
 * since a tokenizer may drop the space in front of a text. */
static par_status decode(const llm_generation *p, const llm_prompt *prompt, const int32_t *ids,
                         int64_t n, unsigned char **text, size_t *nbytes) {
    size_t n_last = 0, needed = 0, n_all = (size_t)n + 1;
    unsigned char none[1], *bytes = NULL;
    int32_t *all = malloc(n_all * sizeof *all);
    if (all) {
        all[0] = prompt->ids[prompt->n - 1];
        memcpy(all + 1, ids, (size_t)n * sizeof *all);
        (void)par_tokenizer_decode(p->tokenizer, all, 1, none, 0, &n_last);
        (void)par_tokenizer_decode(p->tokenizer, all, n_all, none, 0, &needed);
        bytes = malloc(needed + 1);
    }
    par_status st =
        bytes ? par_tokenizer_decode(p->tokenizer, all, n_all, bytes, needed, &needed)
              : par_error_set(PAR_ERR_MEMORY, "no host memory for a text of %zu bytes", needed);
    free(all);
    if (st != PAR_OK) {
        free(bytes);
        return st;
    }
    *nbytes = needed > n_last ? needed - n_last : 0;
    memmove(bytes, bytes + n_last, *nbytes);
    *text = bytes;
    return PAR_OK;
}

/* The first string of --stop in the text's new tokens. A rank that cannot look for it could go on
 * where its peers end. */
static void find_stop(const run *r, llm_text *t, const int32_t *ids) {
    const llm_generation *p = r->sample;
    unsigned char *text;
    size_t n;
    if (p->n_stops == 0) return;
    par_status st = decode(p, r->prompt, ids, t->n, &text, &n);
    if (st != PAR_OK) {
        (void)par_transport_abort(r->world->transport, st, par_error());
        return;
    }
    for (int i = 0; i < p->n_stops; i++) {
        const unsigned char *at = memmem(text, n, p->stops[i], strlen(p->stops[i]));
        size_t cut = at ? (size_t)(at - text) : t->cut;
        if (cut < t->cut) t->cut = cut, t->why = "a stop was there";
    }
    free(text);
}

/* New token i of all texts; false when all have ended, or a signal asks for it. */
static bool take(void *user, int64_t i, const int32_t *ids) {
    run *r = user;
    llm_generation *p = r->sample;
    bool goes_on = false;
    if (i == 0) r->first = llm_world_seconds();
    for (int64_t b = 0; b < p->count; b++) {
        llm_text *t = &p->texts[b];
        if (t->why) continue;
        p->ids[b * r->n_new + i] = ids[b];
        bool ends = false;
        for (int k = 0; k < p->n_ends; k++) ends |= p->ends[k] == ids[b];
        if (ends)
            t->why = "the text ended there";
        else
            t->n++, find_stop(r, t, p->ids + b * r->n_new);
        goes_on |= !t->why;
    }
    r->st = llm_signals_drawing(r->world);
    return goes_on && r->st == PAR_OK;
}

static par_status print_text(const llm_settings *s, const llm_generation *p, int k, int64_t b) {
    const llm_prompt *prompt = &p->prompts[k];
    const llm_text *t = &p->texts[b];
    char top_p[40] = "";
    if (s->top_p < 1) snprintf(top_p, sizeof top_p, " | top-p %g", s->top_p);
    printf("--- sample %lld of %lld | seed %lld | temperature %g | top-k %lld%s | %lld + %lld "
           "tokens ---\n",
           (long long)(k * p->count + b + 1), (long long)(p->n_prompts * p->count),
           (long long)s->sample_seed, s->temperature, (long long)s->top_k, top_p,
           (long long)prompt->n, (long long)t->n);
    if (prompt->text) print_safely((const unsigned char *)prompt->text, strlen(prompt->text));
    if (t->n > 0) {
        unsigned char *text;
        size_t n;
        PAR_TRY(decode(p, prompt, p->ids + b * prompt->n_new, t->n, &text, &n));
        print_safely(text, t->cut < n ? t->cut : n);
        free(text);
    }
    printf("\n--- end of sample%s%s ---\n", t->why ? ": " : "", t->why ? t->why : "");
    return PAR_OK;
}

/* What all runs took. Their prompts and first tokens are one part, the tokens behind those the
 * other. */
typedef struct {
    int64_t n, n_prompt, n_later;
    double seconds, first, first_at; /* first: of the first run alone; first_at: on the clock */
    double prompt_s, later_s;
} totals;

static par_status draw_prompt(const llm_settings *s, llm_world *w, llm_generation *p, int k,
                              totals *all) {
    const llm_prompt *prompt = &p->prompts[k];
    run r = {.sample = p,
             .world = w,
             .prompt = prompt,
             .n_new = prompt->n_new,
             .begin = llm_world_seconds()};
    const par_generation what = {.prompt = p->batch,
                                 .n_prompt = prompt->n,
                                 .n_new = prompt->n_new,
                                 .temperature = s->temperature,
                                 .top_k = s->top_k,
                                 .top_p = s->top_p > 0 ? s->top_p : DBL_MIN, /* 0: one token */
                                 .seed = (uint64_t)s->sample_seed,
                                 .token = take,
                                 .user = &r};
    for (int64_t b = 0; b < p->count; b++) {
        p->texts[b] = (llm_text){.cut = SIZE_MAX};
        memcpy(p->batch + b * prompt->n, prompt->ids, (size_t)prompt->n * sizeof *p->batch);
    }
    PAR_TRY(par_generator_run(p->generator, &what, NULL));
    PAR_TRY(r.st);
    double end = llm_world_seconds();
    all->seconds += end - r.begin;
    all->prompt_s += r.first - r.begin;
    all->later_s += end - r.first;
    all->n_prompt += p->count * prompt->n;
    for (int64_t b = 0; b < p->count; b++) {
        all->n += p->texts[b].n;
        all->n_later += p->texts[b].n > 0 ? p->texts[b].n - 1 : 0;
    }
    if (k == 0) all->first = r.first - r.begin, all->first_at = r.first;
    par_status st = PAR_OK;
    for (int64_t b = 0; w->rank == 0 && st == PAR_OK && b < p->count; b++)
        st = print_text(s, p, k, b);
    return llm_world_agree(w, st);
}

par_status llm_generate_draw(const llm_run *r, llm_world *w, llm_generation *p) {
    totals all = {0};
    if (!p) return PAR_OK;
    if (*p->why) {
        if (w->rank == 0) printf("no sample: %s\n", p->why);
        return PAR_OK;
    }
    for (int k = 0; k < p->n_prompts; k++) PAR_TRY(draw_prompt(&r->set, w, p, k, &all));
    if (w->rank != 0) return PAR_OK;
    printf("%lld token%s drawn in %.2f s, %.1f per second; the first after %.2f s",
           (long long)all.n, llm_report_s(all.n), all.seconds, (double)all.n / all.seconds,
           all.first);
    if (r->set.sample) printf(", %.2f s after the start", all.first_at - w->start);
    printf("\nprompts and first tokens: %lld token%s of prompts in %.2f s, %.1f per second",
           (long long)all.n_prompt, llm_report_s(all.n_prompt), all.prompt_s,
           (double)all.n_prompt / all.prompt_s);
    if (all.n_later > 0)
        printf("; then %lld token%s in %.2f s, %.1f per second", (long long)all.n_later,
               llm_report_s(all.n_later), all.later_s, (double)all.n_later / all.later_s);
    printf("\n");
    return PAR_OK;
}
