/*
 * Samples of train_llm: which tokenizer, which prompt, and the text in a form that cannot break a
 * terminal. Files are read before the model is built, so that a bad prompt is known before a
 * training and not after it. A sample that nobody asked for is left out with a note where it cannot
 * be drawn.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "train_llm.h"

enum { DEFAULT_TOKENS = 100, MAX_ENDS = 64 };

struct llm_sample {
    par_tokenizer *tokenizer;
    char name[4096]; /* of the tokenizer */
    int32_t *prompt; /* [count, n_prompt] */
    int32_t *ids;    /* [count, n_new] */
    int64_t count, n_prompt, n_new, vocab;
    int32_t ends[MAX_ENDS]; /* each ends a text */
    size_t n_ends;
    par_generator *generator;
    char why[1024]; /* why there will be no sample; empty: there will */
};

/* The options ask for a sample, instead of leaving it to what is there. */
static bool is_asked_for(const llm_settings *s) {
    return s->sample || s->tokenizer || s->prompt || s->sample_tokens > 0;
}

static bool exists(const char *directory, const char *name, char *path, size_t nbytes) {
    int n = snprintf(path, nbytes, "%s%s", directory, name);
    return n > 0 && (size_t)n < nbytes && access(path, F_OK) == 0;
}

/* What `par data` left beside the token file, or what came with the imported model. */
static bool find_tokenizer(const llm_settings *s, char *path, size_t nbytes) {
    char unused[4096], tokens[4096] = "";
    if (s->data) llm_data_path(s->data, tokens, sizeof tokens);
    if (s->data && exists(tokens, ".vocab", path, nbytes)) return true;
    if (s->data && exists(tokens, ".tokenizer", path, nbytes)) return true;
    if (s->import && exists(s->import, "/tokenizer.json", path, nbytes)) return true;
    if (!s->import || !exists(s->import, "/vocab.json", unused, sizeof unused) ||
        !exists(s->import, "/merges.txt", unused, sizeof unused))
        return false;
    snprintf(path, nbytes, "%s", s->import);
    return true;
}

static par_status open_tokenizer(const llm_settings *s, llm_sample *p) {
    const char *given = s->tokenizer;
    if (given && strncmp(given, "gpt2:", 5) == 0) given += 5;
    if (given && strncmp(given, "hf:", 3) == 0) given += 3;
    if (given && (!*given || strcmp(given, "chars") == 0))
        return par_error_set(
            PAR_ERR_OPTION,
            "--tokenizer %s: legal: bytes, the .vocab file that par data left, a tokenizer.json, "
            "or a directory "
            "with vocab.json and merges.txt",
            s->tokenizer);
    if (given)
        snprintf(p->name, sizeof p->name, "%s", given);
    else if (!find_tokenizer(s, p->name, sizeof p->name))
        return par_error_set(
            PAR_ERR_OPTION,
            "no tokenizer is known; --tokenizer gives it: bytes, the .vocab file that par data "
            "left, a tokenizer.json, or a directory with vocab.json and merges.txt");
    PAR_TRY(par_tokenizer_open(p->name, &p->tokenizer));
    p->vocab = par_tokenizer_vocab(p->tokenizer);
    if (s->import) PAR_TRY(par_generation_ends(s->import, p->ends, MAX_ENDS - 1, &p->n_ends));
    if (par_tokenizer_end(p->tokenizer) >= 0)
        p->ends[p->n_ends++] = par_tokenizer_end(p->tokenizer);
    return PAR_OK;
}

/* One prompt: what the tokenizer puts in front of a text, and the given text. With neither, what a
 * text follows: the end of the one before, or a new line. */
static par_status encode_prompt(const llm_settings *s, llm_sample *p, int32_t *ids, size_t max) {
    const char *text = s->prompt && *s->prompt ? s->prompt : NULL;
    const int32_t *begin;
    size_t n = par_tokenizer_frame(p->tokenizer, false, &begin), n_text = 0;
    par_status st = PAR_OK;
    memcpy(ids, begin, n * sizeof *ids);
    if (text) {
        st = par_tokenizer_encode(p->tokenizer, text, strlen(text), ids + n, max - n, &n_text);
        if (st != PAR_OK) return par_error_set(PAR_ERR_OPTION, "--prompt: %s", par_error());
        n += n_text;
    } else if (n > 0) {
        /* the front of a text is all that is asked for */
    } else if (par_tokenizer_end(p->tokenizer) >= 0) {
        ids[n++] = par_tokenizer_end(p->tokenizer);
    } else if (par_tokenizer_encode(p->tokenizer, "\n", 1, ids, max, &n) != PAR_OK || n != 1) {
        ids[0] = 0;
        n = 1;
    }
    p->n_prompt = (int64_t)n;
    return PAR_OK;
}

/* The prompt for every sequence, and room for what is drawn. */
static par_status take_ids(const llm_run *r, llm_sample *p) {
    const llm_settings *s = &r->set;
    /* a normalizer may make a character longer; 16: what stands in front */
    size_t max = 16 + (s->prompt ? 12 * strlen(s->prompt) : 0);
    p->count = s->sample_count;
    p->prompt = malloc(max * (size_t)p->count * sizeof *p->prompt);
    if (!p->prompt)
        return par_error_set(PAR_ERR_MEMORY, "no host memory for prompts of %zu tokens", max);
    PAR_TRY(encode_prompt(s, p, p->prompt, max));
    for (int64_t b = 1; b < p->count; b++)
        memcpy(p->prompt + b * p->n_prompt, p->prompt, (size_t)p->n_prompt * sizeof *p->prompt);
    int64_t room = r->config.tokens - p->n_prompt;
    p->n_new = s->sample_tokens > 0    ? s->sample_tokens
               : room < DEFAULT_TOKENS ? room
                                       : DEFAULT_TOKENS;
    if (p->n_new < 1 || p->n_new > room)
        return par_error_set(
            PAR_ERR_OPTION,
            "--prompt has %lld tokens, --sample-tokens asks for %lld more; legal: together up to "
            "the model's %lld tokens (--tokens)",
            (long long)p->n_prompt,
            (long long)(s->sample_tokens > 0 ? s->sample_tokens
                        : p->n_new > 0       ? p->n_new
                                             : 1),
            (long long)r->config.tokens);
    p->ids = malloc((size_t)(p->count * p->n_new) * sizeof *p->ids);
    return p->ids ? PAR_OK
                  : par_error_set(PAR_ERR_MEMORY, "no host memory for %lld tokens",
                                  (long long)p->n_new);
}

static par_status read_all(const llm_run *r, llm_sample *p) {
    PAR_TRY(open_tokenizer(&r->set, p));
    if (p->vocab > r->config.vocab)
        return par_error_set(
            PAR_ERR_OPTION,
            "%s: has %lld ids; the model %s has a vocabulary of %lld; legal: the tokenizer that it "
            "was trained with",
            p->name, (long long)p->vocab, r->config.name, (long long)r->config.vocab);
    return take_ids(r, p);
}

par_status llm_sample_open(const llm_run *r, llm_world *w, llm_sample **out) {
    const llm_settings *s = &r->set;
    if (s->sample_tokens == 0 || s->verify_parallel) return PAR_OK;
    llm_sample *p = calloc(1, sizeof *p);
    PAR_TRY(llm_world_agree(w, p ? PAR_OK
                                 : par_error_set(PAR_ERR_MEMORY, "no host memory for a sampler")));
    par_status st = llm_world_agree(w, read_all(r, p));
    if (st != PAR_OK && is_asked_for(s)) {
        llm_sample_close(&p);
        return st;
    }
    if (st != PAR_OK) snprintf(p->why, sizeof p->why, "%s", par_error());
    *out = p;
    return PAR_OK;
}

par_status llm_sample_prepare(const llm_run *r, llm_sample *p, par_trainer *trainer) {
    if (!p || *p->why) return PAR_OK;
    const par_generator_params params = {
        .sequences = p->count, .capacity = p->n_prompt + p->n_new, .vocab = p->vocab};
    par_status st = par_generator_create(trainer, &params, &p->generator);
    /* a backend without the operation, or no memory for it: the training does not need it */
    if (is_asked_for(&r->set) || (st != PAR_ERR_UNSUPPORTED && st != PAR_ERR_MEMORY)) return st;
    snprintf(p->why, sizeof p->why, "%s", par_error());
    return PAR_OK;
}

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

static bool is_end(const llm_sample *p, int32_t id) {
    for (size_t i = 0; i < p->n_ends; i++)
        if (p->ends[i] == id) return true;
    return false;
}

/* New tokens of a text until its end; *ended: there was one. */
static int64_t n_until_end(const llm_sample *p, const int32_t *ids, bool *ended) {
    int64_t n = 0;
    while (n < p->n_new && !is_end(p, ids[n])) n++;
    *ended = n < p->n_new;
    return n;
}

/* Decoded in one piece, since a character may be spread over tokens, and behind the prompt's last
 * token, whose bytes are left out again: in front of a text a space may be. */
static par_status print_tokens(const llm_sample *p, const int32_t *ids, int64_t n) {
    size_t needed = 0, n_last = 0, n_all = (size_t)n + 1;
    unsigned char none[1];
    if (n == 0) return PAR_OK;
    int32_t *all = malloc(n_all * sizeof *all);
    if (!all) return par_error_set(PAR_ERR_MEMORY, "no host memory for %zu tokens", n_all);
    all[0] = p->prompt[p->n_prompt - 1];
    memcpy(all + 1, ids, (size_t)n * sizeof *all);
    (void)par_tokenizer_decode(p->tokenizer, all, 1, none, 0, &n_last);
    (void)par_tokenizer_decode(p->tokenizer, all, n_all, none, 0, &needed);
    unsigned char *text = malloc(needed + 1);
    par_status st =
        text ? par_tokenizer_decode(p->tokenizer, all, n_all, text, needed, &needed)
             : par_error_set(PAR_ERR_MEMORY, "no host memory for a text of %zu bytes", needed);
    if (st == PAR_OK) print_safely(text + n_last, needed - n_last);
    free(text);
    free(all);
    return st;
}

/* The b-th text; *n_drawn gets its new tokens added. */
static par_status print_text(const llm_settings *s, const llm_sample *p, int64_t b,
                             int64_t *n_drawn) {
    bool ended, has_prompt = s->prompt && *s->prompt;
    const int32_t *ids = p->ids + b * p->n_new;
    int64_t n = n_until_end(p, ids, &ended);
    *n_drawn += n;
    printf("--- sample %lld of %lld | seed %lld | temperature %g | top-k %lld | %lld + %lld tokens "
           "---\n",
           (long long)b + 1, (long long)p->count, (long long)s->sample_seed, s->temperature,
           (long long)s->top_k, (long long)p->n_prompt, (long long)n);
    if (has_prompt) print_safely((const unsigned char *)s->prompt, strlen(s->prompt));
    PAR_TRY(print_tokens(p, ids, n));
    printf("\n--- end of sample%s ---\n", ended ? ": the text ended there" : "");
    return PAR_OK;
}

par_status llm_sample_draw(const llm_run *r, llm_world *w, llm_sample *p) {
    const llm_settings *s = &r->set;
    par_status st = PAR_OK;
    int64_t n = 0;
    double begin = llm_world_seconds();
    if (!p) return PAR_OK;
    if (*p->why) {
        if (w->rank == 0) printf("no sample: %s\n", p->why);
        return PAR_OK;
    }
    const par_generation what = {.prompt = p->prompt,
                                 .n_prompt = p->n_prompt,
                                 .n_new = p->n_new,
                                 .temperature = s->temperature,
                                 .top_k = s->top_k,
                                 .seed = (uint64_t)s->sample_seed};
    PAR_TRY(par_generator_run(p->generator, &what, p->ids));
    double seconds = llm_world_seconds() - begin;
    for (int64_t b = 0; w->rank == 0 && st == PAR_OK && b < p->count; b++)
        st = print_text(s, p, b, &n);
    if (w->rank == 0 && st == PAR_OK)
        printf("%lld token%s drawn in %.2f s, %.1f per second\n", (long long)n, llm_report_s(n),
               seconds, (double)n / seconds);
    return llm_world_agree(w, st);
}

void llm_sample_close(llm_sample **handle) {
    llm_sample *p = *handle;
    if (!p) return;
    par_generator_destroy(&p->generator);
    par_tokenizer_close(&p->tokenizer);
    free(p->prompt);
    free(p->ids);
    free(p);
    *handle = NULL;
}
