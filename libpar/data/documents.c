/*
 * The documents of a corpus, one after the other: whole files of text, or strings of JSON Lines.
 * What is not usual is counted (par_corpus_counts), so that nothing is left out in silence.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/utf8.h"
#include "libpar/data/text_load.h"
#include "libpar/data/tokenizer.h"

typedef struct {
    const par_corpus *corpus;
    par__document_visitor *visit;
    void *user;
    par__json_text json; /* used again by every line */
    par_corpus_counts counts;
} pass;

static par_status give(pass *p, const uint8_t *text, size_t n) {
    if (n == 0) {
        p->counts.empty++;
        return PAR_OK;
    }
    p->counts.documents++;
    p->counts.nbytes += (int64_t)n;
    return p->visit(p->user, text, n);
}

static par_status give_line(pass *p, const char *path, int64_t number, const char *line, size_t n) {
    par_corpus_counts *c = &p->counts;
    int64_t column = 1; /* characters up to what is bad, from 1 */
    switch (par__json_field(line, n, p->corpus->field, &p->json)) {
    case PAR__JSON_NULL: c->nulls++; return PAR_OK;
    case PAR__JSON_NO_MEMORY:
        PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for line %" PRId64, path, number);
    case PAR__JSON_STRING:
        c->surrogates += p->json.surrogates;
        return give(p, p->json.text.bytes, p->json.text.n);
    case PAR__JSON_BAD: break;
    }
    for (size_t i = 0; i < p->json.at; i++) column += ((unsigned char)line[i] & 0xC0) != 0x80;
    (void)par_error_set(PAR_ERR_FORMAT,
                        "%s: line %" PRId64 ", column %" PRId64
                        ": %s; legal: one object per line, in UTF-8, with a string \"%s\"",
                        path, number, column, p->json.why, p->corpus->field);
    if (c->bad_lines++ == 0)
        snprintf(c->first_bad_line, sizeof c->first_bad_line, "%s", par_error());
    return p->corpus->skip_bad_lines ? PAR_OK : PAR_ERR_FORMAT;
}

static par_status give_lines(pass *p, const char *path, const char *text, size_t n) {
    int64_t number = 0;
    for (size_t at = 0; at < n;) {
        const char *line = text + at, *end = memchr(line, '\n', n - at);
        size_t k = end ? (size_t)(end - line) : n - at, spaces = 0;
        number++;
        /* where files with a byte order mark were put behind each other */
        if (k >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) line += 3, k -= 3, at += 3;
        while (spaces < k && line[spaces] != 0 && strchr(" \t\r", line[spaces])) spaces++;
        if (spaces < k) PAR_TRY(give_line(p, path, number, line, k));
        at += k + 1;
    }
    return PAR_OK;
}

par_status par__jsonl_parse(const char *path, const char *text, size_t n, const char *field,
                            par__document_visitor *visit, void *user) {
    const par_corpus corpus = {.field = field};
    pass p = {.corpus = &corpus, .visit = visit, .user = user};
    par_status st = give_lines(&p, path, text, n);
    free(p.json.text.bytes);
    return st;
}

/* The first byte that is zero or not UTF-8; n: there is none. */
static size_t first_odd(const uint8_t *text, size_t n) {
    size_t i = 0;
    for (size_t k = 1; i < n && k > 0 && text[i] != 0; i += k) {
        uint64_t eight; /* ASCII without a zero: no borrow and no byte reaches its highest bit */
        bool plain = n - i >= 8;
        if (plain) memcpy(&eight, text + i, 8);
        if (plain) plain = ((eight | (eight - 0x0101010101010101)) & 0x8080808080808080) == 0;
        k = plain ? 8 : par__utf8_length(text + i, n - i);
    }
    return i < n ? i : n;
}

/* Tokens are of bytes, so any text is taken; but what has such bytes is rarely meant. */
static void count_odd(pass *p, const char *path, const par__text *text) {
    size_t at = first_odd(text->data, text->n);
    par_corpus_counts *c = &p->counts;
    if (at == text->n || c->odd_files++ > 0) return;
    snprintf(c->first_odd_file, sizeof c->first_odd_file,
             text->data[at] ? "%s: is not UTF-8 from byte %zu on"
                            : "%s: byte %zu is zero, as in no text",
             path, at);
}

static par_status load(pass *p, const char *path, par__text *text) {
    par_status st = par__text_load(path, text);
    par_corpus_counts *c = &p->counts;
    if (st != PAR_ERR_FORMAT) return st;
    if (c->bad_files++ == 0)
        snprintf(c->first_bad_file, sizeof c->first_bad_file, "%s", par_error());
    *text = (par__text){0};
    return p->corpus->skip_bad_files ? PAR_OK : st;
}

static par_status give_file(pass *p, const char *path) {
    par__text text;
    int64_t n_bad = p->counts.bad_files;
    PAR_TRY(load(p, path, &text));
    if (p->counts.bad_files > n_bad) return PAR_OK;
    if (!p->corpus->field) count_odd(p, path, &text);
    p->counts.unpacked += text.unpacked;
    p->counts.converted += text.converted;
    p->counts.surrogates += text.surrogates;
    par_status st = p->corpus->field ? give_lines(p, path, (const char *)text.data, text.n)
                                     : give(p, text.data, text.n);
    st = par__map_end(&text.map, path, st);
    par__text_free(&text);
    return st;
}

par_status par__corpus_run(const par_corpus *corpus, par__document_visitor *visit, void *user) {
    pass p = {.corpus = corpus, .visit = visit, .user = user};
    par_status st = PAR_OK;
    for (int i = 0; st == PAR_OK && i < corpus->n_files; i++) st = give_file(&p, corpus->paths[i]);
    free(p.json.text.bytes);
    if (corpus->counts) *corpus->counts = p.counts;
    if (st != PAR_OK || p.counts.documents > 0) return st;
    if (p.counts.bad_lines > 0)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "no line has a text: %" PRId64
                 " bad line%s left out, the first is %s; nothing was "
                 "written",
                 p.counts.bad_lines, p.counts.bad_lines == 1 ? "" : "s", p.counts.first_bad_line);
    if (p.counts.bad_files > 0)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "no file has a text: %" PRId64
                 " bad file%s left out, the first is %s; nothing was "
                 "written",
                 p.counts.bad_files, p.counts.bad_files == 1 ? "" : "s", p.counts.first_bad_file);
    PAR_FAIL(PAR_ERR_FORMAT,
             "%s: the text is empty: %d file%s without a byte of text; nothing was written",
             corpus->paths[0], corpus->n_files, corpus->n_files == 1 ? "" : "s");
}
