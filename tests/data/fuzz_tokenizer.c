/*
 * The tokenizer's parsers: vocab.json, merges.txt, tokenizer.json, a table of characters and JSON
 * Lines, mutated: see ../mutate.h. What they accept must keep its promise: any bytes come back from
 * their ids.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness.h"
#include "../mutate.h"
#include "libpar/data/tokenizer.h"

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
    size_t n = 0, needed = 0, m = 0;
    if (par_tokenizer_encode(t, text, sizeof text - 1, ids, 64, &n) != PAR_OK) return;
    (void)par_tokenizer_decode(t, ids, n, NULL, 0, &needed); /* an unknown text may be longer */
    char *back = malloc(needed + 1);
    CHECK(back, "%zu bytes", needed);
    if (!back) return;
    CHECK_OK(par_tokenizer_decode(t, ids, n, back, needed, &m));
    CHECK(m == needed, "%zu bytes; %zu were needed", m, needed);
    if (keeps_texts(t))
        CHECK(m == sizeof text - 1 && memcmp(back, text, m) == 0, "another text comes back");
    free(back);
}

static char vocab[MUTATE_CAPACITY];
static const char merges[] = "#version: 0.2\na b\nab ab\n\xc4\xa0 a\n";
static size_t n_vocab;

static int end(par_status st, par_tokenizer **t) {
    if (st == PAR_OK) use(*t);
    par_tokenizer_close(t);
    return st == PAR_OK ? 0 : -1;
}

static int target_vocab(const uint8_t *data, size_t n) {
    par_tokenizer *t = NULL;
    return end(par__tokenizer_parse("vocab", (const char *)data, n, "merges", merges,
                                    sizeof merges - 1, &t),
               &t);
}

static par_tokenizer *sound_pair; /* of the sound files */

/* The vocabulary, which takes longest, is read again only for merges that suit it. */
static int target_merges(const uint8_t *data, size_t n) {
    const char *text = (const char *)data;
    size_t k = n;
    par_tokenizer *t = NULL;
    par__merges m = {0};
    par_status st = par_text_skip_mark("merges", &text, &k);
    if (st == PAR_OK) st = par__merges_read("merges", text, k, &sound_pair->vocab, &m);
    par__merges_destroy(&m);
    if (st != PAR_OK) return -1;
    return end(par__tokenizer_parse("vocab", vocab, n_vocab, "merges", (const char *)data, n, &t),
               &t);
}

static int target_file(const uint8_t *data, size_t n) {
    par_tokenizer *t = NULL;
    return end(par__tokenizer_parse_file("file", (const char *)data, n, &t), &t);
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
    n_vocab = make_vocab(vocab);
    mutate_run("tokenizer-vocab", target_vocab, vocab, n_vocab, 1000);
    CHECK_OK(par__tokenizer_parse("vocab", vocab, n_vocab, "merges", merges, sizeof merges - 1,
                                  &sound_pair));
    mutate_run("tokenizer-merges", target_merges, merges, sizeof merges - 1, 1000);
    par_tokenizer_close(&sound_pair);
}

static void json(void) {
    static char whole[MUTATE_CAPACITY];
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
    mutate_run("tokenizer-json", target_file, whole, n, 1500);
}

static par_status look(void *user, const uint8_t *text, size_t n) {
    size_t *sum = user;
    for (size_t i = 0; i < n; i++) *sum += text[i];
    return PAR_OK;
}

static int target_lines(const uint8_t *data, size_t n) {
    size_t sum = 0;
    return par__jsonl_parse("lines", (const char *)data, n, "text", look, &sum) == PAR_OK && sum
               ? 0
               : -1;
}

static void lines(void) {
    static const char sound[] = "{\"text\": \"a\\u00e9\"}\n\n{\"n\": [1, {}], \"text\": \"b\"}\r\n";
    mutate_run("json-lines", target_lines, sound, sizeof sound - 1, 4000);
}

static void table(void) {
    static const char sound[] =
        "{\"tokenizer\": \"chars\", \"vocab\": 3, \"bytes\": [10, 32, 97]}\n";
    mutate_run("tokenizer-table", target_file, sound, sizeof sound - 1, 4000);
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {{"bpe", bpe, 0, NULL, 0},
                                         {"json", json, 0, NULL, 0},
                                         {"lines", lines, 0, NULL, 0},
                                         {"table", table, 0, NULL, 0}};
    return harness_main("fuzz-tokenizer", cases, HARNESS_COUNT(cases), argc, argv);
}
