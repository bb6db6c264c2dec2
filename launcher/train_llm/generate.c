/*
 * Samples of train_llm, what they need: which tokenizer, which prompts, where a text ends. Files
 * are read before the model is built, so that a bad prompt is known before a training and not after
 * it. A sample that nobody asked for is left out with a note where it cannot be drawn.
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "generate.h"

enum { DEFAULT_TOKENS = 100 };

bool llm_generate_is_asked_for(const llm_settings *s) {
    return s->sample || s->tokenizer || s->prompt || s->prompt_file || s->sample_tokens > 0;
}

static bool exists(const char *directory, const char *name, char *path, size_t nbytes) {
    int n = snprintf(path, nbytes, "%s%s", directory, name);
    return n > 0 && (size_t)n < nbytes && access(path, F_OK) == 0;
}

bool llm_generate_find_tokenizer(const llm_settings *s, char *path, size_t nbytes) {
    char unused[4096], tokens[4096] = "";
    if (s->data) llm_data_path(s->data, tokens, sizeof tokens);
    if (s->data && exists(tokens, ".vocab", path, nbytes)) return true;
    if (s->data && exists(tokens, ".tokenizer", path, nbytes)) return true;
    if (s->import && exists(s->import, "/tokenizer.json", path, nbytes)) return true;
    if (s->import && exists(s->import, "/tokenizer.model", path, nbytes)) return true;
    if (!s->import || !exists(s->import, "/vocab.json", unused, sizeof unused) ||
        !exists(s->import, "/merges.txt", unused, sizeof unused))
        return false;
    snprintf(path, nbytes, "%s", s->import);
    return true;
}

int64_t llm_generate_vocab(const llm_settings *s) {
    char path[4096];
    par_tokenizer *tokenizer = NULL;
    if (!llm_generate_find_tokenizer(s, path, sizeof path)) return 0;
    if (par_tokenizer_open(path, &tokenizer) != PAR_OK) return 0;
    int64_t vocab = par_tokenizer_vocab(tokenizer);
    par_tokenizer_close(&tokenizer);
    return vocab;
}

static par_status open_tokenizer(const llm_run *r, llm_generation *p) {
    const llm_settings *s = &r->set;
    const char *given = s->tokenizer, *path = p->name;
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
    else if (*r->tokenizer.path)
        path = r->tokenizer.path, snprintf(p->name, sizeof p->name, "%s", r->tokenizer.name);
    else if (*r->carried.tokenizer_file)
        return par_error_set(PAR_ERR_OPTION,
                             "the checkpoint's tokenizer, fingerprint %s, is not in %s any more; "
                             "--tokenizer FILE|DIR gives it",
                             r->carried.tokenizer, r->carried.tokenizer_file);
    else
        return par_error_set(
            PAR_ERR_OPTION,
            "no tokenizer is known; --tokenizer gives it: bytes, the .vocab file that par data "
            "left, a tokenizer.json, or a directory with vocab.json and merges.txt");
    PAR_TRY(par_tokenizer_open(path, &p->tokenizer));
    p->vocab = par_tokenizer_vocab(p->tokenizer);
    int32_t end = par_tokenizer_end(p->tokenizer);
    if (end >= 0) p->ends[p->n_ends++] = end;
    return PAR_OK;
}

/* \n, \t, \\ and \| of a command line or of a line, in place. */
static void unescape(char *text) {
    char *to = text;
    for (const char *c = text; *c; c++, to++) {
        const char *found = *c == '\\' && c[1] ? strchr("nt\\|", c[1]) : NULL;
        *to = found ? "\n\t\\|"[found - strchr("nt\\|", 'n')] : *c;
        if (found) c++;
    }
    *to = 0;
}

/* The strings of --stop, parted by |. */
static par_status read_stops(const llm_settings *s, llm_generation *p) {
    const char *at = s->stop;
    for (size_t n = 0; at && *at; at += n + (at[n] == '|')) {
        for (n = 0; at[n] && at[n] != '|'; n++) n += at[n] == '\\' && at[n + 1];
        if (n == 0 || p->n_stops == LLM_MAX_STOPS)
            return par_error_set(PAR_ERR_OPTION, "--stop %s: legal: 1 to %d strings, parted by |",
                                 s->stop, LLM_MAX_STOPS);
        char *stop = p->stops[p->n_stops] = strndup(at, n);
        if (!stop) return par_error_set(PAR_ERR_MEMORY, "no host memory for --stop");
        p->n_stops++;
        unescape(stop);
    }
    return PAR_OK;
}

/* A prompt's tokens: what the tokenizer puts in front of a text, and the text. With neither, what a
 * text follows: the end of the one before, or a new line. */
static par_status encode(const llm_generation *p, llm_prompt *prompt, const char *from) {
    const int32_t *begin;
    size_t front = par_tokenizer_frame(p->tokenizer, false, &begin), n = 0;
    /* a normalizer may make a character longer */
    size_t length = prompt->text ? strlen(prompt->text) : 0, max = 12 * length + 1;
    prompt->ids = malloc((front + max) * sizeof *prompt->ids);
    if (!prompt->ids)
        return par_error_set(PAR_ERR_MEMORY, "no host memory for a prompt of %zu tokens", max);
    int32_t *ids = prompt->ids + front;
    memcpy(prompt->ids, begin, front * sizeof *begin);
    if (prompt->text) {
        if (par_tokenizer_encode(p->tokenizer, prompt->text, length, ids, max, &n) != PAR_OK)
            return par_error_set(PAR_ERR_OPTION, "%s: %s", from, par_error());
    } else if (front > 0) {
        /* the front of a text is all that is asked for */
    } else if (par_tokenizer_end(p->tokenizer) >= 0) {
        ids[n++] = par_tokenizer_end(p->tokenizer);
    } else if (par_tokenizer_encode(p->tokenizer, "\n", 1, ids, max, &n) != PAR_OK || n != 1) {
        ids[0] = 0;
        n = 1;
    }
    prompt->n = (int64_t)(front + n);
    return PAR_OK;
}

/* text: the prompt's, which becomes the sample's; NULL: none. */
static par_status add_prompt(const llm_run *r, llm_generation *p, char *text, const char *from) {
    llm_prompt *prompt = &p->prompts[p->n_prompts++];
    prompt->text = text;
    PAR_TRY(encode(p, prompt, from));
    int64_t asked = r->set.sample_tokens, room = r->config.tokens - prompt->n;
    prompt->n_new = asked > 0 ? asked : room < DEFAULT_TOKENS ? room : DEFAULT_TOKENS;
    if (prompt->n_new < 1 || prompt->n_new > room)
        return par_error_set(
            PAR_ERR_OPTION,
            "%s has %lld tokens, --sample-tokens asks for %lld more; legal: together up to the "
            "model's %lld tokens (--tokens)",
            from, (long long)prompt->n, (long long)(asked > 0 ? asked : 1),
            (long long)r->config.tokens);
    if (prompt->n + prompt->n_new > p->capacity) p->capacity = prompt->n + prompt->n_new;
    return PAR_OK;
}

/* The prompt of a line: its text, or the string "prompt" of an object; NULL if that is empty. */
static par_status prompt_of_line(char *line, const char *from, char **text) {
    bool object = line[0] == '{';
    if (object && par_json_string(line, strlen(line), "prompt", text) != PAR_OK)
        return par_error_set(PAR_ERR_OPTION, "%s: begins with { and is not a prompt: %s", from,
                             par_error());
    if (!object) {
        unescape(line);
        *text = strdup(line);
        if (!*text) return par_error_set(PAR_ERR_MEMORY, "no host memory for a prompt");
    }
    if (**text) return PAR_OK;
    free(*text);
    *text = NULL;
    return PAR_OK;
}

/* A line of --prompt-file, n bytes with its end. */
static par_status take_line(const llm_run *r, llm_generation *p, char *line, size_t n, int number) {
    char from[4200], *text = NULL;
    const char *at = line;
    snprintf(from, sizeof from, "--prompt-file %.4000s, line %d", r->set.prompt_file, number);
    n -= n > 0 && line[n - 1] == '\n';
    n -= n > 0 && line[n - 1] == '\r';
    line[n] = 0;
    if (number == 1) PAR_TRY(par_text_skip_mark(from, &at, &n));
    if (strlen(at) != n)
        return par_error_set(PAR_ERR_OPTION, "%s: has a zero byte; legal: UTF-8", from);
    if (n == 0) return PAR_OK;
    if (p->n_prompts == LLM_MAX_PROMPTS)
        return par_error_set(PAR_ERR_OPTION, "%s: no room for it; legal: up to %d prompts", from,
                             LLM_MAX_PROMPTS);
    memmove(line, at, n + 1);
    PAR_TRY(prompt_of_line(line, from, &text));
    return add_prompt(r, p, text, from);
}

static par_status cannot(const char *path, const char *verb) {
    return par_error_set(PAR_ERR_IO, "--prompt-file %s: cannot be %s: %s", path, verb,
                         strerror(errno));
}

/* Of --prompt-file a prompt per line that is not empty, else that of --prompt. */
static par_status read_prompts(const llm_run *r, llm_generation *p) {
    const llm_settings *s = &r->set;
    const char *path = s->prompt_file;
    par_status st = PAR_OK;
    p->prompts = calloc(LLM_MAX_PROMPTS, sizeof *p->prompts);
    if (!p->prompts) return par_error_set(PAR_ERR_MEMORY, "no host memory for prompts");
    if (!path)
        return add_prompt(r, p, s->prompt && *s->prompt ? strdup(s->prompt) : NULL, "--prompt");
    FILE *file = fopen(path, "r");
    if (!file) return cannot(path, "opened");
    char *line = NULL;
    size_t size = 0;
    ssize_t n;
    for (int number = 1; st == PAR_OK && (n = getline(&line, &size, file)) >= 0; number++)
        st = take_line(r, p, line, (size_t)n, number);
    if (st == PAR_OK && ferror(file)) st = cannot(path, "read");
    free(line);
    fclose(file);
    if (st == PAR_OK && p->n_prompts == 0)
        st = par_error_set(PAR_ERR_OPTION, "--prompt-file %s: has no prompt; legal: one per line",
                           path);
    return st;
}

static par_status read_all(const llm_run *r, const par_import *import, llm_generation *p) {
    PAR_TRY(open_tokenizer(r, p));
    if (p->vocab > r->config.vocab)
        return par_error_set(
            PAR_ERR_OPTION,
            "%s: has %lld ids; the model %s has a vocabulary of %lld; legal: the tokenizer that it "
            "was trained with",
            p->name, (long long)p->vocab, r->config.name, (long long)r->config.vocab);
    for (int i = 0; import && par_import_end(import, i) >= 0 && p->n_ends < LLM_MAX_ENDS; i++)
        p->ends[p->n_ends++] = par_import_end(import, i);
    for (const char *id = r->tokenizer.ends; *id && p->n_ends < LLM_MAX_ENDS; id++) {
        p->ends[p->n_ends++] = (int32_t)strtol(id, NULL, 10);
        id += strcspn(id, ",");
        if (!*id) break;
    }
    PAR_TRY(read_stops(&r->set, p));
    PAR_TRY(read_prompts(r, p));
    /* room for the largest of all runs */
    p->count = r->set.sample_count;
    size_t most = (size_t)(p->count * p->capacity);
    p->batch = malloc(most * sizeof *p->batch);
    p->ids = malloc(most * sizeof *p->ids);
    p->texts = calloc((size_t)p->count, sizeof *p->texts);
    return p->batch && p->ids && p->texts
               ? PAR_OK
               : par_error_set(PAR_ERR_MEMORY, "no host memory for %zu tokens", most);
}

par_status llm_generate_open(const llm_run *r, llm_world *w, const par_import *import,
                             llm_generation **out) {
    const llm_settings *s = &r->set;
    if (s->sample_tokens == 0 || s->verify_parallel) return PAR_OK;
    llm_generation *p = calloc(1, sizeof *p);
    PAR_TRY(llm_world_agree(w, p ? PAR_OK
                                 : par_error_set(PAR_ERR_MEMORY, "no host memory for a sampler")));
    par_status st = llm_world_agree(w, read_all(r, import, p));
    if (st != PAR_OK && llm_generate_is_asked_for(s)) {
        llm_generate_close(&p);
        return st;
    }
    if (st != PAR_OK) snprintf(p->why, sizeof p->why, "%s", par_error());
    *out = p;
    return PAR_OK;
}

/* What the generator must have room for. */
static par_generator_params size_of(const llm_run *r, const llm_generation *p) {
    int64_t longest = 1;
    for (int k = 0; k < p->n_prompts; k++)
        if (p->prompts[k].n > longest) longest = p->prompts[k].n;
    return (par_generator_params){.sequences = p->count,
                                  .capacity = p->capacity,
                                  .prompt = longest - 1,
                                  .vocab = p->vocab,
                                  .int8 = r->set.quantize == LLM_QUANTIZE_INT8};
}

par_status llm_generate_size(const llm_run *r, par_generator_params *out) {
    const llm_settings *s = &r->set;
    *out = (par_generator_params){0};
    if (s->sample_tokens == 0 || s->verify_parallel || s->eval_only) return PAR_OK;
    llm_generation *p = calloc(1, sizeof *p);
    if (!p) return par_error_set(PAR_ERR_MEMORY, "no host memory for a sampler");
    par_status st = read_all(r, NULL, p);
    if (st == PAR_OK) *out = size_of(r, p);
    llm_generate_close(&p);
    return st;
}

par_status llm_generate_prepare(const llm_run *r, llm_generation *p, par_trainer *trainer) {
    if (!p || *p->why) return PAR_OK;
    const par_generator_params params = size_of(r, p);
    par_status st = par_generator_create(trainer, &params, &p->generator);
    /* a backend without the operation, or no memory for it: the training does not need it */
    if (llm_generate_is_asked_for(&r->set) || (st != PAR_ERR_UNSUPPORTED && st != PAR_ERR_MEMORY))
        return st;
    snprintf(p->why, sizeof p->why, "%s", par_error());
    return PAR_OK;
}

void llm_generate_close(llm_generation **handle) {
    llm_generation *p = *handle;
    if (!p) return;
    par_generator_destroy(&p->generator);
    par_tokenizer_close(&p->tokenizer);
    for (int k = 0; k < p->n_prompts; k++) {
        free(p->prompts[k].text);
        free(p->prompts[k].ids);
    }
    for (int i = 0; i < p->n_stops; i++) free(p->stops[i]);
    free(p->prompts);
    free(p->batch);
    free(p->ids);
    free(p->texts);
    free(p);
    *handle = NULL;
}
