/*
 * A brief fuzz run of the tokenizer's parsers: vocab.json, merges.txt, tokenizer.json, a table of
 * characters and JSON Lines, mutated with a fixed seed. What they accept must keep its promise: any
 * bytes come back from their ids.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness.h"
#include "../mutate.h"
#include "libpar/data/tokenizer.h"

enum { CAPACITY = 8192, RUNS = 1500 };

static uint64_t state;
static size_t draw(size_t n) {
    return mutate_draw(&state, n);
}

static size_t mutate(char *b, size_t n) {
    static const char *const words[] = {"{",    "}",  "\"",       ",",   ":",
                                        " ",    "\n", "a b\n",    "-1",  "99999999999",
                                        "null", "[",  "\xc4\xa0", "\xff"};
    const char *word = words[draw(14)];
    size_t at = draw(n + 1), k = strlen(word), cut = draw(8);
    switch (draw(4)) {
    case 0:
        if (at < n) b[at] = (char)draw(256);
        return n;
    case 1:
        if (cut > n - at) cut = n - at;
        memmove(b + at, b + at + cut, n - at - cut);
        return n - cut;
    case 2: return draw(10) ? n : at;
    default:
        if (n + k > CAPACITY) return n;
        memmove(b + at + k, b + at, n - at);
        memcpy(b + at, word, k);
        return n + k;
    }
}

/* A copy of exact size, so that a sanitizer sees a read behind its end. */
static char *exact(const char *text, size_t n) {
    char *copy = malloc(n ? n : 1);
    memcpy(copy, text, n);
    return copy;
}

/* What changes no text: bytes, split as GPT-2 does at most, and tokens that take no spaces. */
static bool keeps_texts(const par_tokenizer *t) {
    const par__splitter *s = &t->splitter;
    if (t->model == PAR__MODEL_TABLE) return true;
    if (t->model != PAR__MODEL_BYTES || t->normalizers.n > 0) return false;
    for (int32_t i = 0; i < t->added.n; i++)
        if (t->added.list[i].left || t->added.list[i].right) return false;
    return s->n == 0 || (s->n == 1 && s->list[0].kind == PAR__STAGE_SCAN);
}

static void use(par_tokenizer *t) {
    static const char text[] = "ab abab 'll\xff\xc3\xa9 12  x";
    int32_t ids[64];
    char back[64];
    size_t n = 0, m = 0;
    if (par_tokenizer_encode(t, text, sizeof text - 1, ids, 64, &n) != PAR_OK) return;
    CHECK_OK(par_tokenizer_decode(t, ids, n, back, 64, &m));
    if (!keeps_texts(t)) return;
    CHECK(m == sizeof text - 1 && memcmp(back, text, m) == 0, "another text comes back");
}

static int accepted;

static void parse_bpe(const char *vocab, size_t n_vocab, const char *merges, size_t n_merges) {
    par_tokenizer *t = NULL;
    char *a = exact(vocab, n_vocab), *b = exact(merges, n_merges);
    if (par__tokenizer_parse("vocab", a, n_vocab, "merges", b, n_merges, &t) == PAR_OK) {
        accepted++;
        use(t);
    }
    par_tokenizer_close(&t);
    free(a);
    free(b);
}

static size_t make_vocab(char *out) {
    par__alphabet alphabet;
    size_t n = 0;
    par__alphabet_make(&alphabet);
    for (int b = 0; b < 256; b++) {
        uint8_t byte = (uint8_t)b;
        n += (size_t)sprintf(out + n, "%s\"%s", b ? "," : "{",
                             byte == '"' || byte == '\\' ? "\\" : "");
        n += par__alphabet_encode(&alphabet, &byte, 1, out + n);
        n += (size_t)sprintf(out + n, "\":%d", b);
    }
    return n + (size_t)sprintf(out + n, ",\"ab\":256,\"abab\":257,\"\xc4\xa0"
                                        "a\":258}");
}

static void bpe(void) {
    static char vocab[CAPACITY], b[CAPACITY];
    static const char merges[] = "#version: 0.2\na b\nab ab\n\xc4\xa0 a\n";
    size_t n_vocab = make_vocab(vocab), n_merges = sizeof merges - 1;
    parse_bpe(vocab, n_vocab, merges, n_merges);
    CHECK(accepted == 1, "the sound files are refused: %s", par_error());
    for (int i = 0; i < RUNS && !harness_failed(); i++) {
        size_t n = i % 2 ? n_vocab : n_merges;
        state = (uint64_t)i * 2 + 1;
        memcpy(b, i % 2 ? vocab : merges, n);
        for (size_t k = 1 + draw(3); k > 0; k--) n = mutate(b, n);
        if (i % 2)
            parse_bpe(b, n, merges, n_merges);
        else
            parse_bpe(vocab, n_vocab, b, n);
    }
    CHECK(accepted < RUNS, "nothing was refused");
}

static void json(void) {
    static char whole[CAPACITY], b[CAPACITY];
    size_t n = (size_t)sprintf(
        whole, "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"
               "\"added_tokens\":[{\"id\":258,\"content\":\"ab ab\"},"
               "{\"id\":259,\"content\":\"\xc3\xa9 1\"}],\"model\":{\"type\":\"BPE\","
               "\"merges\":[\"a b\",[\"ab\",\"ab\"]],\"vocab\":");
    n += make_vocab(whole + n);
    n = (size_t)(strstr(whole, ",\"\xc4\xa0"
                               "a\":258}") -
                 whole);
    n += (size_t)sprintf(whole + n, "}}}");
    accepted = 0;
    for (int i = 0; i <= RUNS && !harness_failed(); i++) {
        par_tokenizer *t = NULL;
        size_t k = n;
        state = (uint64_t)i * 2 + 3;
        memcpy(b, whole, n);
        for (size_t m = i ? 1 + draw(3) : 0; m > 0; m--) k = mutate(b, k); /* the first is sound */
        char *copy = exact(b, k);
        if (par__tokenizer_parse_file("json", copy, k, &t) == PAR_OK) {
            accepted++;
            use(t);
        } else {
            CHECK(i > 0, "the sound file is refused: %s", par_error());
        }
        par_tokenizer_close(&t);
        free(copy);
    }
    CHECK(accepted > 1 && accepted < RUNS, "%d of %d were accepted", accepted, RUNS);
}

static par_status look(void *user, const uint8_t *text, size_t n) {
    size_t *sum = user;
    for (size_t i = 0; i < n; i++) *sum += text[i];
    return PAR_OK;
}

static void lines_and_tables(void) {
    static const char *const seeds[] = {
        "{\"text\": \"a\\u00e9\"}\n\n{\"n\": [1, {}], \"text\": \"b\"}\r\n",
        "{\"tokenizer\": \"chars\", \"vocab\": 3, \"bytes\": [10, 32, 97]}\n"};
    char b[CAPACITY];
    size_t sum = 0;
    for (int i = 0; i < 4 * RUNS; i++) {
        size_t n = strlen(seeds[i % 2]);
        par_tokenizer *t = NULL;
        state = (uint64_t)i * 2 + 7;
        memcpy(b, seeds[i % 2], n);
        for (size_t k = 1 + draw(4); k > 0; k--) n = mutate(b, n);
        char *copy = exact(b, n);
        par__jsonl_parse("lines", copy, n, "text", look, &sum);
        if (par__tokenizer_parse_file("table", copy, n, &t) == PAR_OK) use(t);
        par_tokenizer_close(&t);
        free(copy);
    }
    CHECK(sum > 0, "no text was found");
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {{"bpe", bpe, 0, NULL, 0},
                                         {"json", json, 0, NULL, 0},
                                         {"lines-and-tables", lines_and_tables, 0, NULL, 0}};
    return harness_main("fuzz-tokenizer", cases, HARNESS_COUNT(cases), argc, argv);
}
