/*
 * Tokenizers against ids that tiktoken gives with GPT-2's vocabulary, identity of decode ∘ encode
 * on any bytes, the trainer against a slow one that counts all pairs anew for every merge, and
 * refusals.
 */
#define _XOPEN_SOURCE 700
#include "par/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../harness.h"
#include "libpar/data/tokenizer.h"
#include "par/data.h"
#include "round_trip.h"
#include "temp.h"

/* ---- pieces ---- */

static par_status join(void *user, const uint8_t *piece, size_t n) {
    char *out = user;
    size_t at = strlen(out);
    out[at] = '|';
    memcpy(out + at + 1, piece, n);
    out[at + 1 + n] = 0;
    return PAR_OK;
}

static void check_pieces(int which, const char *const texts[][2], size_t n) {
    const par__splitter splitter = {1, {{PAR__STAGE_SCAN, .scan = which}}};
    par__split_memory memory;
    CHECK_OK(par__split_memory_create(&memory));
    for (size_t i = 0; i < n; i++) {
        char got[128] = "";
        CHECK_OK(par__splitter_run(&splitter, &memory, (const uint8_t *)texts[i][0],
                                   strlen(texts[i][0]), true, join, got));
        CHECK(strcmp(got, texts[i][1]) == 0, "text %zu is split so: %s", i, got);
    }
    par__split_memory_destroy(&memory);
}

/* U+180E is not White_Space, U+1680 and U+3000 are. What RFC 3629 forbids is not UTF-8: surrogates,
 * longer forms, characters above U+10FFFF, and characters that are cut off. */
static void pieces(void) {
    static const char *const texts[][2] = {
        {"we'll go'S", "|we|'ll| go|'|S"},
        {"a  b \t\n c \n", "|a| | b| \t\n| c| \n"},
        {"a1 22!? x_y", "|a|1| 22|!?| x|_|y"},
        {"a \xe1\xa0\x8e!", "|a| \xe1\xa0\x8e!"},
        {"a\xe1\x9a\x80\xe3\x80\x80"
         "b",
         "|a|\xe1\x9a\x80|\xe3\x80\x80|b"},
        {"a \xed\xa0\x80!", "|a| |\xed\xa0\x80|!"},
        {"a \xc0\x80\xff!", "|a| |\xc0\x80\xff|!"},
        {"a \xe0\x9f\xbf!", "|a| |\xe0\x9f\xbf|!"},
        {"a \xf0\x8f\xbf\xbf!", "|a| |\xf0\x8f\xbf\xbf|!"},
        {"a \xf4\x90\x80\x80!", "|a| |\xf4\x90\x80\x80|!"},
        {"a \xf4\x8f\xbf\xbf!", "|a| \xf4\x8f\xbf\xbf!"},
        {"a \xe6\x97", "|a| |\xe6\x97"},
        {"\xe6\x97\xa5\xc3\xa9 \xd9\xa3", "|\xe6\x97\xa5\xc3\xa9| \xd9\xa3"},
    };
    check_pieces(PAR__SPLIT_GPT2, texts, sizeof texts / sizeof *texts);
}

/* A sign joins the letters behind it, numbers have up to three digits, line ends belong to the
 * signs before. */
static void llama3_pieces(void) {
    static const char *const texts[][2] = {
        {"we'LL go'S", "|we|'LL| go|'S"},
        {"a  b \t\n c \n", "|a| | b| \t\n| c| \n"},
        {"12345 22!?\n\n x_y", "|123|45| |22|!?\n\n| x|_y"},
        {"a \xe1\xa0\x8e!", "|a| \xe1\xa0\x8e!"},
        {"a \xff\n!", "|a| |\xff|\n|!"},
        {"\r\n\r\n  \n  $x", "|\r\n\r\n  \n| | $|x"},
    };
    check_pieces(PAR__SPLIT_LLAMA3, texts, sizeof texts / sizeof *texts);
}

/* ---- GPT-2 ---- */

static par_tokenizer *open_gpt2(void) {
    return round_trip_open("data/gpt2");
}

static void gpt2_texts(void) {
    char path[512];
    par_tokenizer *t = open_gpt2();
    if (!t) return;
    CHECK(par_tokenizer_vocab(t) == 50257 && par_tokenizer_id(t, "<|endoftext|>") == 50256,
          "another vocabulary");
    snprintf(path, sizeof path, "%s/oracles/tokenizer/gpt2.json", harness_shared());
    round_trip_cases(t, path);
    par_tokenizer_close(&t);
}

static void gpt2_shakespeare(void) {
    char path[512];
    size_t n = 0, n_expected = 0;
    par_tokenizer *t = open_gpt2();
    if (!t) return;
    snprintf(path, sizeof path, "%s/data/tinyshakespeare.txt", harness_shared());
    char *text = temp_read(path, &n);
    snprintf(path, sizeof path, "%s/oracles/tokenizer/tinyshakespeare.gpt2.u16", harness_shared());
    uint8_t *expected = (uint8_t *)temp_read(path, &n_expected);
    if (text && expected) {
        int32_t *ids = malloc((n_expected / 2 + 1) * sizeof *ids);
        for (size_t i = 0; i < n_expected / 2; i++)
            ids[i] = expected[2 * i] | expected[2 * i + 1] << 8;
        round_trip(t, text, n, ids, n_expected / 2);
        free(ids);
    } else {
        harness_skip("no shared text with its ids");
    }
    free(text);
    free(expected);
    par_tokenizer_close(&t);
}

static void gpt2_any_bytes(void) {
    par_tokenizer *t = open_gpt2();
    if (!t) return;
    round_trip_random(t);
    enum { LONG = 1 << 20 };
    char *text = malloc(LONG);
    for (int i = 0; i < 4; i++) { /* one piece each: quadratic merging would take hours */
        memset(text, " a\n\xff"[i], LONG);
        round_trip(t, text, LONG, NULL, 0);
    }
    int32_t one[1];
    size_t n = 0;
    CHECK_FAILS(par_tokenizer_encode(t, "hello world", 11, one, 1, &n), PAR_ERR_ARG,
                "the text has 2");
    CHECK(n == 2, "needs %zu ids", n);
    CHECK_FAILS(par_tokenizer_decode(t, &(int32_t){50257}, 1, text, 0, &n), PAR_ERR_ARG,
                "legal: 0 to 50256");
    free(text);
    par_tokenizer_close(&t);
}

/* ---- bytes and tables ---- */

static void tables(void) {
    par_tokenizer *t = NULL;
    int32_t ids[8];
    size_t n;
    const char *in = temp_text("abc.txt", "cabbage");
    CHECK_OK(par_tokenizer_open("bytes", &t));
    CHECK(par_tokenizer_vocab(t) == 256 && par_tokenizer_id(t, "<|endoftext|>") == -1, "no bytes");
    round_trip(t,
               "\xff"
               "a\0",
               3, (int32_t[]){255, 97, 0}, 3);
    round_trip_random(t);
    par_tokenizer_close(&t);
    const par_corpus abc = {.n_files = 1, .paths = &in};
    CHECK_OK(par_tokenizer_of_text(&abc, &t));
    CHECK_OK(par_corpus_write_tokens(&abc, t, false, temp_path("abc.tok"), NULL, NULL));
    par_tokenizer_close(&t);
    CHECK_OK(par_tokenizer_open(temp_path("abc.tok.vocab"), &t));
    CHECK(par_tokenizer_vocab(t) == 5, "vocabulary %lld", (long long)par_tokenizer_vocab(t));
    round_trip(t, "cabbage", 7, (int32_t[]){2, 0, 1, 1, 0, 4, 3}, 7);
    CHECK_FAILS(par_tokenizer_encode(t, "cabs", 4, ids, 8, &n), PAR_ERR_FORMAT,
                "offset 3: byte 115");
    par_tokenizer_close(&t);
}

static void table_refusals(void) {
    static const char *const bad[][2] = {{"", "is empty"},
                                         {"{\"bytes\": [1, 2", "line 1"},
                                         {"[]", "not a JSON object"},
                                         {"{\"bytes\": []}", "0 entries"},
                                         {"{\"bytes\": [1, 1]}", "entry 1"},
                                         {"{\"bytes\": [256]}", "entry 0"},
                                         {"{\"bytes\": [1], \"vocab\": 2}", "\"vocab\" is 2"}};
    par_tokenizer *t = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_FAILS(par_tokenizer_open(temp_text("bad.vocab", bad[i][0]), &t), PAR_ERR_FORMAT,
                    bad[i][1]);
    CHECK_FAILS(par_tokenizer_open(temp_path("absent.vocab"), &t), PAR_ERR_IO, "absent.vocab");
    CHECK(!t, "a tokenizer of nothing");
}

/* ---- training ---- */

enum { TEXT = 40000 };

/* Words of a few syllables, some of them not ASCII, with spaces, line ends and a byte that is not
 * UTF-8. */
static void make_text(char *text, size_t n) {
    static const char *const parts[] = {"ba",  "na", "aaa",  "str", "\xc3\xa9",
                                        "ing", "o",  "\"\\", "12",  "\xff"};
    size_t i = 0;
    while (i + 8 < n) {
        for (unsigned k = 1 + round_trip_draw(4); k > 0 && i + 8 < n; k--) {
            unsigned which = round_trip_draw(10) * round_trip_draw(10) / 10;
            memcpy(text + i, parts[which], strlen(parts[which]));
            i += strlen(parts[which]);
        }
        text[i++] = round_trip_draw(9) ? ' ' : '\n';
    }
    memset(text + i, '.', n - i);
}

static bool same_file(const char *a, const char *b) {
    size_t n = 0, m = 1;
    char *x = temp_read(a, &n), *y = temp_read(b, &m);
    bool same = x && y && n == m && memcmp(x, y, n) == 0;
    free(x);
    free(y);
    return same;
}

static void empty_directory(const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/vocab.json", name);
    temp_remove(path);
    snprintf(path, sizeof path, "%s/merges.txt", name);
    temp_remove(path);
    rmdir(temp_path(name));
}

static void training(void) {
    static char text[TEXT];
    int64_t made = 0, again = 0;
    par_tokenizer *t = NULL;
    make_text(text, TEXT);
    const char *path = temp_file("train.txt", text, TEXT);
    const par_corpus corpus = {.n_files = 1, .paths = &path};
    CHECK_OK(par_tokenizer_train(&corpus, 400, temp_path("bpe"), &made));
    CHECK_OK(par_tokenizer_train(&corpus, 400, temp_path("bpe2"), &again));
    CHECK(made == 400 && again == 400, "%lld and %lld ids", (long long)made, (long long)again);
    CHECK(same_file(temp_path("bpe/vocab.json"), temp_path("bpe2/vocab.json")) &&
              same_file(temp_path("bpe/merges.txt"), temp_path("bpe2/merges.txt")),
          "the second training gives others");
    CHECK_OK(par_tokenizer_open(temp_path("bpe"), &t));
    if (!t) return;
    CHECK(par_tokenizer_vocab(t) == 400 && par_tokenizer_id(t, "<|endoftext|>") == 399,
          "another vocabulary");
    size_t n = round_trip(t, text, TEXT, NULL, 0);
    CHECK(2 * n < TEXT, "%zu ids of %d bytes", n, TEXT);
    round_trip_random(t);
    par_tokenizer_close(&t);
    empty_directory("bpe");
    empty_directory("bpe2");
}

/* One word of 'a' to 'd' without a break is one piece: the slow trainer needs no splitter. */
enum { LETTERS = 900, MERGES = 40 };

static int slow_best(const int *ids, int n, int vocab, int *left, int *right) {
    int best = 0;
    for (int a = 0; a < vocab; a++)
        for (int b = 0; b < vocab; b++) {
            int count = 0;
            for (int i = 0; i + 1 < n; i++) count += ids[i] == a && ids[i + 1] == b;
            if (count > best) best = count, *left = a, *right = b;
        }
    return best;
}

/* The lines of merges.txt, by counting everything anew each time. Ids: 'a'.. 'd' are 0..3, in the
 * order of GPT-2's too. */
static void slow_merges(const char *text, char *out) {
    static char names[4 + MERGES][LETTERS];
    int ids[LETTERS], n = LETTERS, vocab = 4, left = 0, right = 0;
    for (int i = 0; i < n; i++) ids[i] = text[i] - 'a';
    for (int i = 0; i < 4; i++) snprintf(names[i], 2, "%c", 'a' + i);
    out += sprintf(out, "#version: 0.2\n");
    while (vocab < 4 + MERGES && slow_best(ids, n, vocab, &left, &right) >= 2) {
        int k = 0;
        out += sprintf(out, "%s %s\n", names[left], names[right]);
        strcpy(names[vocab], names[left]);
        strcat(names[vocab], names[right]);
        for (int i = 0; i < n; k++) {
            bool both = i + 1 < n && ids[i] == left && ids[i + 1] == right;
            ids[k] = both ? vocab : ids[i];
            i += both ? 2 : 1;
        }
        n = k;
        vocab++;
    }
}

static void training_slow(void) {
    static char text[LETTERS], expected[MERGES * LETTERS];
    size_t n;
    for (int trial = 0; trial < 20; trial++) {
        for (int i = 0; i < LETTERS; i++)
            text[i] =
                (char)('a' + round_trip_draw(4) * round_trip_draw(4) / 3); /* many equal counts */
        const char *path = temp_file("letters.txt", text, LETTERS);
        const par_corpus corpus = {.n_files = 1, .paths = &path};
        CHECK_OK(par_tokenizer_train(&corpus, 257 + MERGES, temp_path("slow"), NULL));
        slow_merges(text, expected);
        char *got = temp_read(temp_path("slow/merges.txt"), &n);
        CHECK(got && strcmp(got, expected) == 0, "trial %d: other merges than by counting anew",
              trial);
        free(got);
    }
    empty_directory("slow");
}

static void training_refusals(void) {
    const char *none = temp_text("none.txt", ""), *one = temp_text("one.txt", "abab"),
               *absent = temp_path("absent");
    const par_corpus nothing = {.n_files = 1, .paths = &none},
                     small = {.n_files = 1, .paths = &one},
                     missing = {.n_files = 1, .paths = &absent};
    par_tokenizer *t = NULL;
    int64_t made = 0;
    CHECK_FAILS(par_tokenizer_train(&small, 256, temp_path("r"), NULL), PAR_ERR_ARG, "legal: 257");
    CHECK_FAILS(par_tokenizer_train(&nothing, 300, temp_path("r"), NULL), PAR_ERR_FORMAT,
                "the text is empty");
    CHECK_FAILS(par_tokenizer_train(&missing, 300, temp_path("r"), NULL), PAR_ERR_IO, "absent");
    CHECK_FAILS(par_tokenizer_train(&small, 300, temp_path("one.txt"), NULL), PAR_ERR_IO,
                "one.txt");
    CHECK_OK(par_tokenizer_train(&small, 300, temp_path("tiny"), &made));
    CHECK(made == 258, "%lld ids of abab: only ab occurs twice", (long long)made);
    /* Refusals of directories: spoil the one that was just made. */
    size_t n;
    char *vocab = temp_read(temp_path("tiny/vocab.json"), &n);
    temp_text("tiny/merges.txt", "#version: 0.2\na b\na b\n");
    CHECK_FAILS(par_tokenizer_open(temp_path("tiny"), &t), PAR_ERR_FORMAT, "line 3: the same pair");
    temp_text("tiny/merges.txt", "#version: 0.2\n");
    CHECK_FAILS(par_tokenizer_open(temp_path("tiny"), &t), PAR_ERR_FORMAT,
                "no merge makes token 256");
    temp_text("tiny/merges.txt", "#version: 0.2\na");
    CHECK_FAILS(par_tokenizer_open(temp_path("tiny"), &t), PAR_ERR_FORMAT, "line 2: \"a\"; legal");
    temp_text("tiny/merges.txt", "#version: 0.2\na b\nab b\n");
    CHECK_FAILS(par_tokenizer_open(temp_path("tiny"), &t), PAR_ERR_FORMAT,
                "line 3: the two together");
    temp_text("tiny/merges.txt", "#version: 0.2\na b\nxx b\n");
    CHECK_FAILS(par_tokenizer_open(temp_path("tiny"), &t), PAR_ERR_FORMAT,
                "line 3: \"xx\" is not in the vocabulary");
    temp_text("tiny/merges.txt", "#version: 0.2\r\na b\r\n");
    CHECK_OK(par_tokenizer_open(temp_path("tiny"), &t));
    par_tokenizer_close(&t);
    temp_text("tiny/merges.txt", "\xff\xfe#");
    CHECK_FAILS(par_tokenizer_open(temp_path("tiny"), &t), PAR_ERR_FORMAT, "is UTF-16");
    temp_text("tiny/merges.txt", "\xef\xbb\xbf#version: 0.2\na b\n");
    CHECK_OK(par_tokenizer_open(temp_path("tiny"), &t));
    par_tokenizer_close(&t);
    temp_file("tiny/vocab.json", vocab ? vocab : "", n / 2);
    CHECK_FAILS(par_tokenizer_open(temp_path("tiny"), &t), PAR_ERR_FORMAT, "vocab.json: line");
    temp_text("tiny/vocab.json", "{\"a\": 0, \"a\": 1}");
    CHECK_FAILS(par_tokenizer_open(temp_path("tiny"), &t), PAR_ERR_FORMAT, "duplicate");
    temp_text("tiny/vocab.json", "{\"a\": 0, \"b\": 0}");
    CHECK_FAILS(par_tokenizer_open(temp_path("tiny"), &t), PAR_ERR_FORMAT, "the same id 0");
    temp_text("tiny/vocab.json", "{\"a\": 0, \"b\": 2}");
    CHECK_FAILS(par_tokenizer_open(temp_path("tiny"), &t), PAR_ERR_FORMAT, "legal: 0 to 1");
    temp_text("tiny/vocab.json", "{\"a\": 0, \"a b\": 1}");
    CHECK_FAILS(par_tokenizer_open(temp_path("tiny"), &t), PAR_ERR_FORMAT, "byte alphabet");
    temp_text("tiny/vocab.json", "{\"a\": 0, \"b\": 1, \"ab\": 2}");
    CHECK_FAILS(par_tokenizer_open(temp_path("tiny"), &t), PAR_ERR_FORMAT, "byte 0 has no token");
    free(vocab);
    empty_directory("tiny");
    CHECK_FAILS(par_tokenizer_open(temp_path(""), &t), PAR_ERR_IO,
                "neither vocab.json nor encoder.json");
}

/* ---- corpora ---- */

static void check_tokens(const char *path, const int32_t *expected, int64_t n) {
    par_tokens *t = NULL;
    int32_t got[64] = {0};
    CHECK_OK(par_tokens_open(path, &t));
    CHECK(t && par_tokens_n(t) == n, "%lld tokens", t ? (long long)par_tokens_n(t) : -1);
    if (t && par_tokens_n(t) == n) CHECK_OK(par_tokens_read(t, 0, n, got));
    CHECK(memcmp(got, expected, 4 * (size_t)n) == 0, "%s: other tokens", path);
    par_tokens_close(&t);
}

static void corpus(void) {
    const char *path =
        temp_text("two.jsonl",
                  "{\"text\": \"ab\", \"n\": 1}\n\n{\"text\": \"\"}\r\n{\"text\": \"abc\\u0000\"}");
    const par_corpus lines = {.n_files = 1, .paths = &path, .field = "text"};
    par_tokenizer *t = NULL;
    int64_t n = 0, documents = 0;
    CHECK_OK(par_tokenizer_train(&lines, 258, temp_path("c"), NULL));
    CHECK_OK(par_tokenizer_open(temp_path("c"), &t));
    if (!t) return;
    int32_t c = par_tokenizer_id(t, "c"), nul = 0;
    size_t one;
    CHECK_OK(par_tokenizer_encode(t, "", 1, &nul, 1, &one));
    const int32_t expected[] = {256, 257, 256, c, nul, 257}; /* ab is 256, the end of a text 257 */
    for (int megatron = 0; megatron < 2; megatron++) {
        const char *out = temp_path(megatron ? "m.bin" : "l.tok");
        CHECK_OK(par_corpus_write_tokens(&lines, t, megatron, out, &n, &documents));
        CHECK(n == 6 && documents == 2, "%lld tokens of %lld documents", (long long)n,
              (long long)documents);
        check_tokens(out, expected, 6);
    }
    static const uint8_t index[] = {
        'M', 'M', 'I', 'D', 'I', 'D', 'X', 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0, 0, 0, 0, 0,
        0,   0,   3,   0,   0,   0,   0,   0, 0, 0, /* 34 */
        2,   0,   0,   0,   4,   0,   0,   0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0,
        0,   0,   0,   0,   0,   0,   0,   0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0};
    size_t size = 0;
    char *got = temp_read(temp_path("m.idx"), &size);
    CHECK(got && size == sizeof index && memcmp(got, index, size) == 0, "the index differs");
    free(got);
    par_tokenizer_close(&t);
    empty_directory("c");
}

static void corpus_refusals(void) {
    static const char *const bad[][2] = {
        {"{\"text\": \"a\"}\nhello\n", "line 2, column 1: is not JSON"},
        {"{\"text\": \"a\"}\n\n{\"text\": \"b", "line 3, column 12: is not JSON"},
        {"{\"txt\": \"a\"}\n", "line 1, column 1: has no such field"},
        {"{\"text\": 5}\n", "line 1, column 10: no text"},
        {"[\"text\"]\n", "line 1, column 1: is an array, not an object"},
        {"{\"text\": \"a\", \"text\": \"b\"}", "column 23: has the field twice"},
        {"{\"text\": \"\xff\"}", "line 1, column 11: is not JSON: a byte that is not UTF-8"},
        {"{\"text\": \"\"}\n", "the text is empty"},
        {"", "the text is empty"}};
    par_tokenizer *t = NULL;
    CHECK_OK(par_tokenizer_open("bytes", &t));
    for (size_t i = 0; i < 2 * sizeof bad / sizeof *bad; i++) {
        const char *path = temp_text("bad.jsonl", bad[i / 2][0]), *out = temp_path("refused.bin");
        const par_corpus lines = {.n_files = 1, .paths = &path, .field = "text"};
        CHECK_FAILS(par_corpus_write_tokens(&lines, t, i % 2, out, NULL, NULL), PAR_ERR_FORMAT,
                    bad[i / 2][1]);
    }
    const char *path = temp_text("a.txt", "a");
    const par_corpus plain = {.n_files = 1, .paths = &path};
    CHECK_FAILS(par_corpus_write_tokens(&plain, t, true, temp_path("refused.tok"), NULL, NULL),
                PAR_ERR_ARG, ".bin");
    CHECK_FAILS(par_corpus_write_tokens(&plain, t, true, temp_path("no/refused.bin"), NULL, NULL),
                PAR_ERR_IO, "no/");
    CHECK(temp_count("refused") == 0, "something is left behind");
    par_tokenizer_close(&t);
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {"pieces", pieces, 0, NULL, 0},
        {"llama3-pieces", llama3_pieces, 0, NULL, 0},
        {"gpt2-texts", gpt2_texts, 0, NULL, 0},
        {"gpt2-shakespeare", gpt2_shakespeare, 0, NULL, 0},
        {"gpt2-any-bytes", gpt2_any_bytes, 0, NULL, 0},
        {"tables", tables, 0, NULL, 0},
        {"table-refusals", table_refusals, 0, NULL, 0},
        {"training", training, 0, NULL, 0},
        {"training-slow", training_slow, 0, NULL, 0},
        {"training-refusals", training_refusals, 0, NULL, 0},
        {"corpus", corpus, 0, NULL, 0},
        {"corpus-refusals", corpus_refusals, 0, NULL, 0},
    };
    temp_open();
    int rc = harness_main("tokenizer", cases, HARNESS_COUNT(cases), argc, argv);
    temp_close();
    return rc;
}
