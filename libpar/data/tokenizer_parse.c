/*
 * Tokenizers from the text of their files: a table of characters, and a vocabulary with merges as
 * GPT-2's. What tokenizer_json.c reads goes through the same checks.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/file.h"
#include "libpar/data/tokenizer.h"
#include "par/text.h"

par_status par__tokenizer_create(par_tokenizer **out) {
    par_tokenizer *t = calloc(1, sizeof *t);
    if (!t) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a tokenizer");
    for (int b = 0; b < 256; b++) t->of_byte[b] = -1;
    t->unknown = t->end = -1;
    *out = t;
    return PAR_OK;
}

void par__tokenizer_free(par_tokenizer **tokenizer) {
    par_tokenizer *t = tokenizer ? *tokenizer : NULL;
    if (!t) return;
    par__encoder_destroy(&t->encoder);
    par__splitter_destroy(&t->splitter);
    par__normalizers_destroy(&t->normalizers);
    par__added_destroy(&t->added);
    par__added_destroy(&t->normalized_added);
    par__added_destroy(&t->symbols);
    par__unigram_destroy(&t->unigram);
    par__merges_destroy(&t->merges);
    par__vocab_destroy(&t->vocab);
    free(t->note);
    free(t);
    *tokenizer = NULL;
}

static void find_bytes(par_tokenizer *t) {
    for (int b = 0; b < 256; b++)
        t->of_byte[b] = par__vocab_find(&t->vocab, &(uint8_t){(uint8_t)b}, 1);
}

par_status par__tokenizer_create_table(const uint8_t *bytes, int32_t n, par_tokenizer **out) {
    par_tokenizer *t = NULL;
    PAR_TRY(par__tokenizer_create(&t));
    par_status st = par__vocab_bytes(bytes, n, &t->vocab);
    if (st == PAR_OK) find_bytes(t);
    if (st == PAR_OK) st = par__tokenizer_finish(t);
    if (st == PAR_OK)
        *out = t;
    else
        par__tokenizer_free(&t);
    return st;
}

/* Ends of documents by their names: GPT-2's, Llama 3's, DeepSeek's, Llama 2's, Gemma's. Where there
 * are added tokens it is one of them. */
static int32_t find_end(const par_tokenizer *t) {
    static const char *const names[] = {
        PAR__END_OF_TEXT, "<|end_of_text|>",
        "<\xef\xbd\x9c\x65nd\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>", "</s>", "<eos>"};
    bool added = t->added.n + t->normalized_added.n > 0;
    int32_t id = -1;
    for (size_t i = 0; id < 0 && i < sizeof names / sizeof *names; i++)
        id = added ? par__added_find(t, names[i])
                   : par__vocab_find(&t->vocab, (const uint8_t *)names[i], strlen(names[i]));
    return id;
}

par_status par__tokenizer_finish(par_tokenizer *t) {
    if (t->frame.n_end > 0) t->end = t->frame.end[0];
    if (t->end < 0 && t->model != PAR__MODEL_TABLE) t->end = find_end(t);
    if (t->frame.n_end == 0 && t->end >= 0) t->frame.end[t->frame.n_end++] = t->end;
    return par__encoder_create(t, &t->encoder);
}

par_status par__tokenizer_load(const char *path, const char *text, size_t n, json_t **out) {
    json_error_t error;
    PAR_TRY(par_text_skip_mark(path, &text, &n));
    if (n == 0)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: is empty; legal: a vocabulary as GPT-2's vocab.json", path);
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
    if (!root) PAR_FAIL(PAR_ERR_FORMAT, "%s: line %d: %s", path, error.line, error.text);
    if (!json_is_object(root)) {
        json_decref(root);
        PAR_FAIL(PAR_ERR_FORMAT, "%s: is not a JSON object", path);
    }
    *out = root;
    return PAR_OK;
}

/* ---- a table of characters ---- */

par_status par__tokenizer_read_table(const char *path, const json_t *root, par_tokenizer **out) {
    const json_t *list = json_object_get(root, "bytes"), *vocab = json_object_get(root, "vocab");
    uint8_t bytes[256];
    bool seen[256] = {false};
    size_t count = json_array_size(list);
    if (count < 1 || count > 256)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: \"bytes\" has %zu entries; legal: 1 to 256", path, count);
    for (size_t i = 0; i < count; i++) {
        const json_t *entry = json_array_get(list, i);
        json_int_t b = json_is_integer(entry) ? json_integer_value(entry) : -1;
        if (b < 0 || b > 255 || seen[b])
            PAR_FAIL(PAR_ERR_FORMAT,
                     "%s: entry %zu of \"bytes\" is not a new byte; legal: 0 to 255, once each",
                     path, i);
        seen[b] = true;
        bytes[i] = (uint8_t)b;
    }
    if (vocab && json_integer_value(vocab) != (json_int_t)count)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: \"vocab\" is %lld, \"bytes\" has %zu entries", path,
                 (long long)json_integer_value(vocab), count);
    return par__tokenizer_create_table(bytes, (int32_t)count, out);
}

/* ---- byte-level BPE ---- */

/* words[id]: the ids of n entries must be 0 .. n - 1, once each. */
static par_status sort_words(const char *path, json_t *root, const char **words, size_t n) {
    const char *word;
    json_t *value;
    json_object_foreach(root, word, value) {
        json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || id >= (json_int_t)n)
            PAR_FAIL(PAR_ERR_FORMAT,
                     "%s: token \"%.40s\": id %lld; legal: 0 to %zu, as there are %zu tokens", path,
                     word, (long long)id, n - 1, n);
        if (words[id])
            PAR_FAIL(PAR_ERR_FORMAT, "%s: tokens \"%.40s\" and \"%.40s\" have the same id %lld",
                     path, words[id], word, (long long)id);
        words[id] = word;
    }
    return PAR_OK;
}

/* Their text is spelt plainly. One that the words have too must have the same id. */
static par_status add_tokens(const char *path, const json_t *words_root, const json_t *added,
                             const char **words, bool *plain, size_t n) {
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *entry = json_array_get(added, i), *number = json_object_get(entry, "id");
        const char *content = json_string_value(json_object_get(entry, "content"));
        json_int_t id = json_is_integer(number) ? json_integer_value(number) : -1;
        if (!content || !*content || id < 0 || id >= (json_int_t)n)
            PAR_FAIL(PAR_ERR_FORMAT,
                     "%s: entry %zu of \"added_tokens\": legal: a \"content\" and an \"id\" from 0 "
                     "to %zu, as "
                     "there are %zu tokens",
                     path, i, n - 1, n);
        if (words[id] && (plain[id] || strcmp(words[id], content) != 0))
            PAR_FAIL(PAR_ERR_FORMAT, "%s: tokens \"%.40s\" and \"%.40s\" have the same id %lld",
                     path, words[id], content, (long long)id);
        if (!words[id] && json_object_get(words_root, content))
            PAR_FAIL(PAR_ERR_FORMAT, "%s: token \"%.40s\" has two ids, one of them %lld", path,
                     content, (long long)id);
        words[id] = content;
        plain[id] = true;
    }
    return PAR_OK;
}

par_status par__vocab_read(const char *path, json_t *words_root, const json_t *added,
                           bool all_plain, par__vocab *out) {
    size_t count = json_object_size(words_root);
    for (size_t i = 0; i < json_array_size(added); i++) { /* one may be among the words */
        const char *content =
            json_string_value(json_object_get(json_array_get(added, i), "content"));
        count += !content || !json_object_get(words_root, content);
    }
    const char **words = calloc(count + 1, sizeof *words);
    bool *plain = calloc(count + 1, sizeof *plain);
    par_status st = PAR_OK;
    if (!words || !plain)
        st = par_error_set(PAR_ERR_MEMORY, "%s: no host memory for %zu tokens", path, count);
    else if (count < 1 || count > INT32_MAX / 4)
        st = par_error_set(PAR_ERR_FORMAT, "%s: %zu tokens; legal: 256 to %d", path, count,
                           INT32_MAX / 4);
    if (st == PAR_OK) st = sort_words(path, words_root, words, count);
    if (st == PAR_OK) st = add_tokens(path, words_root, added, words, plain, count);
    for (size_t i = 0; st == PAR_OK && all_plain && i < count; i++) plain[i] = true;
    if (st == PAR_OK) st = par__vocab_create(path, words, plain, (int32_t)count, out);
    free(plain);
    free(words);
    return st;
}

bool par__find_byte_tokens(par_tokenizer *t) {
    bool all = true;
    for (unsigned b = 0; b < 256; b++) {
        char word[8];
        snprintf(word, sizeof word, "<0x%02X>", b);
        t->of_byte[b] = par__vocab_find(&t->vocab, (const uint8_t *)word, 6);
        all &= t->of_byte[b] >= 0;
    }
    return all;
}

void par__find_words(par_tokenizer *t) {
    static const char mark[] = "\xe2\x96\x81";
    const par__vocab *v = &t->vocab;
    t->by_words = !t->whole_pieces && par__vocab_find(v, (const uint8_t *)mark, 3) >= 0;
    for (int32_t id = 0; id < v->n && t->by_words; id++) {
        bool others = false; /* before this byte */
        for (size_t i = v->first[id]; i < v->first[id + 1]; i++) {
            bool is_mark = i + 3 <= v->first[id + 1] && memcmp(v->bytes + i, mark, 3) == 0;
            if (is_mark && others) t->by_words = false;
            others |= !is_mark;
            if (is_mark) i += 2;
        }
    }
}

static par_status read_lines(par__merge_reader *r, const char *text, size_t n, par__merges *m) {
    for (size_t at = 0; at < n;) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t k = end ? (size_t)(end - text) - at : n - at, shown = k;
        r->at++;
        if (shown > 0 && text[at + shown - 1] == '\r') shown--;
        bool version = r->at == 1 && shown >= 8 && memcmp(text + at, "#version", 8) == 0;
        if (shown > 0 && !version) PAR_TRY(par__merges_add_line(r, text + at, shown, m));
        at += k + 1;
    }
    return PAR_OK;
}

par_status par__merges_read(const char *path, const char *text, size_t n, const par__vocab *vocab,
                            par__merges *out) {
    par__merge_reader r = {.path = path, .unit = "line", .vocab = vocab};
    size_t n_lines = 1;
    for (size_t i = 0; i < n; i++) n_lines += text[i] == '\n';
    PAR_TRY(par__merges_begin(&r, n_lines, n, out));
    par_status st = read_lines(&r, text, n, out);
    par__merges_end(&r);
    return st;
}

/* A token that no merge makes means that merges are missing: ids would differ, silently. */
par_status par__tokenizer_complete(par_tokenizer *t, const char *vocab_path,
                                   const char *merges_path) {
    find_bytes(t);
    for (int b = 0; b < 256; b++)
        if (t->of_byte[b] < 0)
            PAR_FAIL(PAR_ERR_FORMAT, "%s: byte %d has no token of its own", vocab_path, b);
    if (t->whole_pieces) return PAR_OK; /* a token needs no merge to be found */
    const par__vocab *v = &t->vocab;
    bool *made = calloc((size_t)v->n, sizeof *made);
    if (!made)
        PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for %" PRId32 " tokens", vocab_path, v->n);
    for (size_t i = 0; i <= t->merges.mask; i++)
        if (t->merges.slots[i].rank >= 0) made[t->merges.slots[i].id] = true;
    for (int32_t i = 0; i < t->added.n; i++) made[t->added.list[i].id] = true;
    for (int32_t i = 0; i < t->normalized_added.n; i++) made[t->normalized_added.list[i].id] = true;
    par_status st = PAR_OK;
    for (int32_t id = 0; st == PAR_OK && id < v->n; id++) {
        size_t n = v->first[id + 1] - v->first[id];
        const uint8_t *p = v->bytes + v->first[id];
        bool special =
            n > 1 && ((p[0] == '<' && p[n - 1] == '>') || (p[0] == '[' && p[n - 1] == ']'));
        if (n > 1 && !made[id] && !special)
            st = par_error_set(PAR_ERR_FORMAT,
                               "%s: no merge makes token %" PRId32
                               " of %s: cut short, or of another vocabulary",
                               merges_path, id, vocab_path);
    }
    free(made);
    return st;
}

par_status par__tokenizer_parse(const char *vocab_path, const char *vocab, size_t vocab_nbytes,
                                const char *merges_path, const char *merges, size_t merges_nbytes,
                                par_tokenizer **out) {
    par_tokenizer *t = NULL;
    json_t *root = NULL;
    par_status st;
    PAR_TRY(par_text_skip_mark(merges_path, &merges, &merges_nbytes));
    PAR_TRY(par__tokenizer_create(&t));
    t->model = PAR__MODEL_BYTES;
    PAR_TRY_GOTO(par__tokenizer_load(vocab_path, vocab, vocab_nbytes, &root), failed);
    st = par__vocab_read(vocab_path, root, NULL, false, &t->vocab);
    json_decref(root);
    if (st != PAR_OK) goto failed;
    PAR_TRY_GOTO(par__merges_read(merges_path, merges, merges_nbytes, &t->vocab, &t->merges),
                 failed);
    PAR_TRY_GOTO(par__tokenizer_complete(t, vocab_path, merges_path), failed);
    t->splitter.list[t->splitter.n++] = (par__stage){PAR__STAGE_SCAN, .scan = PAR__SPLIT_GPT2};
    PAR_TRY_GOTO(par__tokenizer_finish(t), failed);
    *out = t;
    return PAR_OK;
failed:
    par__tokenizer_free(&t);
    return st;
}
