/*
 * tokenizer.json: ids that Hugging Face's tokenizers library gives, the same ids as from GPT-2's
 * two files, added tokens, and refusals of what would give other ids.
 */
#define _XOPEN_SOURCE 700
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../harness.h"
#include "libpar/data/tokenizer.h"
#include "round_trip.h"
#include "temp.h"

#define LLAMA3                                                                                     \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "                     \
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"                                                               \
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static par_tokenizer *open_llama3(void) {
    return round_trip_open("oracles/tokenizer/llama3-style.tokenizer.json");
}

static void llama3_texts(void) {
    char path[512];
    par_tokenizer *t = open_llama3();
    if (!t) return;
    CHECK(par_tokenizer_vocab(t) == 1024 && par_tokenizer_end(t) == 1, "another vocabulary");
    snprintf(path, sizeof path, "%s/oracles/tokenizer/llama3-style.json", harness_shared());
    round_trip_cases(t, path);
    par_tokenizer_close(&t);
}

static void llama3_any_bytes(void) {
    enum { LONG = 1 << 20 };
    par_tokenizer *t = open_llama3();
    if (!t) return;
    round_trip_random(t);
    char *text = malloc(LONG);
    for (int i = 0; i < 5;
         i++) { /* one piece each, but for the numbers: quadratic work would take hours */
        memset(text,
               " a\n\xff"
               "7"[i],
               LONG);
        round_trip(t, text, LONG, NULL, 0);
    }
    free(text);
    par_tokenizer_close(&t);
}

/* ---- a small one: 256 bytes, then th, he, the ---- */

static json_t *small(void) {
    static const char *const words[] = {"th", "he", "the"};
    par__alphabet alphabet;
    json_t *vocab = json_object();
    par__alphabet_make(&alphabet);
    for (int b = 0; b < 256; b++) {
        char word[4];
        word[par__alphabet_encode(&alphabet, &(uint8_t){(uint8_t)b}, 1, word)] = 0;
        json_object_set_new(vocab, word, json_integer(b));
    }
    for (int i = 0; i < 3; i++) json_object_set_new(vocab, words[i], json_integer(256 + i));
    return json_pack(
        "{s:n, s:[], s:{s:s, s:b, s:b}, s:{s:s, s:n, s:s, s:b, s:b, s:o, s:[[s,s], s, [s,s]]}}",
        "normalizer", "added_tokens", "pre_tokenizer", "type", "ByteLevel", "add_prefix_space", 0,
        "use_regex", 1, "model", "type", "BPE", "dropout", "end_of_word_suffix", "",
        "byte_fallback", 0, "ignore_merges", 0, "vocab", vocab, "merges", "t", "h", "h e", "th",
        "e");
}

static par_status open_json(const json_t *root, par_tokenizer **t) {
    json_dump_file(root, temp_path("small.json"), 0);
    return par_tokenizer_open(temp_path("small.json"), t);
}

static json_t *added(const char *content, int id) {
    return json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", id, "content", content,
                     "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1);
}

static void add(json_t *root, const char *content, int id) {
    json_array_append_new(json_object_get(root, "added_tokens"), added(content, id));
}

/* {"vocab", "merges"} of the small one in GPT-2's two files. */
static void write_two_files(const json_t *root) {
    json_dump_file(json_object_get(json_object_get(root, "model"), "vocab"),
                   temp_path("vocab.json"), 0);
    temp_text("merges.txt", "#version: 0.2\nt h\nh e\nth e\n");
}

static void as_two_files(void) {
    json_t *root = small();
    par_tokenizer *one = NULL, *two = NULL;
    int32_t a[64], b[64];
    write_two_files(root);
    CHECK_OK(open_json(root, &one));
    CHECK_OK(par_tokenizer_open(temp_path(""), &two));
    for (int i = 0; one && two && i < 2000; i++) {
        char text[64];
        size_t n = round_trip_draw(64), n_a = 0, n_b = 0;
        for (size_t k = 0; k < n; k++) text[k] = "the th\n'1\xc3\xa9"[round_trip_draw(11)];
        CHECK_OK(par_tokenizer_encode(one, text, n, a, 64, &n_a));
        CHECK_OK(par_tokenizer_encode(two, text, n, b, 64, &n_b));
        CHECK(n_a == n_b && memcmp(a, b, 4 * n_a) == 0, "text %d: %zu and %zu ids", i, n_a, n_b);
    }
    par_tokenizer_close(&one);
    par_tokenizer_close(&two);
    json_decref(root);
}

/* The leftmost is taken, the longest of several at a place, and text is split as if it began and
 * ended there. */
static void added_tokens(void) {
    json_t *root = small();
    par_tokenizer *t = NULL;
    add(root, "<|x|>", 259);
    add(root, "<|x|><|y|>", 260);
    add(root, "\xc3\xa9 !", 261); /* not in the byte alphabet: plain text */
    add(root, "<|end_of_text|>", 262);
    CHECK_OK(open_json(root, &t));
    json_decref(root);
    if (!t) return;
    CHECK(par_tokenizer_vocab(t) == 263 && par_tokenizer_end(t) == 262, "another vocabulary");
    round_trip(t, "<|x|>", 5, (int32_t[]){259}, 1);
    round_trip(t, "the<|x|><|y|>the", 16, (int32_t[]){258, 260, 258}, 3);
    round_trip(t, "<|x|><|y<|x|>|>", 15, (int32_t[]){259, '<', '|', 'y', 259, '|', '>'}, 7);
    round_trip(t, "t\xc3\xa9 !he", 7, (int32_t[]){'t', 261, 257}, 3);
    round_trip(t, "\xff<|x|>\xff", 7, (int32_t[]){255, 259, 255}, 3);
    round_trip(t, "<|x|", 4, (int32_t[]){'<', '|', 'x', '|'}, 4);
    round_trip_random(t);
    par_tokenizer_close(&t);
}

/* With ignore_merges a piece that is a token is that token, though no merge makes it. */
static void whole_pieces(void) {
    json_t *root = small(), *model = json_object_get(root, "model");
    par_tokenizer *t = NULL;
    json_object_set_new(json_object_get(model, "vocab"), "ehe", json_integer(259));
    CHECK_FAILS(open_json(root, &t), PAR_ERR_FORMAT, "no merge makes token 259");
    json_object_set_new(model, "ignore_merges", json_true());
    CHECK_OK(open_json(root, &t));
    if (t) {
        round_trip(t, "ehe", 3, (int32_t[]){259}, 1);
        round_trip(t, "ehehe", 5, (int32_t[]){'e', 257, 257}, 3);
    }
    par_tokenizer_close(&t);
    json_decref(root);
}

/* ---- refusals ---- */

static void refuse(json_t *root, const char *part) {
    par_tokenizer *t = NULL;
    par_status st = open_json(root, &t);
    CHECK(st == PAR_ERR_UNSUPPORTED || st == PAR_ERR_FORMAT, "\"%s\": status %d", part, st);
    CHECK(strstr(par_error(), part), "no \"%s\" in: %s", part, par_error());
    CHECK(strstr(par_error(), "small.json"), "the file is not named: %s", par_error());
    CHECK(!t, "a tokenizer");
    json_decref(root);
}

/* The small one with one member replaced; member of the root, or of one of its objects. */
static json_t *with(const char *object, const char *name, json_t *value) {
    json_t *root = small();
    json_object_set_new(object ? json_object_get(root, object) : root, name, value);
    return root;
}

static json_t *with_added(json_t *entry) {
    json_t *root = small();
    json_array_append_new(json_object_get(root, "added_tokens"), entry);
    return root;
}

static json_t *split(const char *regex, const char *behavior) {
    return json_pack("{s:s, s:[{s:s, s:{s:s}, s:s, s:b}, {s:s, s:b, s:b}]}", "type", "Sequence",
                     "pretokenizers", "type", "Split", "pattern", "Regex", regex, "behavior",
                     behavior, "invert", 0, "type", "ByteLevel", "add_prefix_space", 0, "use_regex",
                     0);
}

/* What a stage that removes leaves of a text; the texts in the table are what Oniguruma leaves,
 * through the tokenizers library 0.23.3. */
static void expressions(void) {
    static const struct {
        const char *regex, *text, *left;
    } rows[] = {
        {"\\w",
         "\xc2\xbd x\xc2\xbdy \xe2\x93\xa2"
         "e\xc2\xb2 A\xcc\x81 \xc2\xb9?",
         "    ?"},
        {"\\W",
         "\xc2\xbd x\xc2\xbdy \xe2\x93\xa2"
         "e\xc2\xb2",
         "\xc2\xbdx\xc2\xbdy\xe2\x93\xa2"
         "e\xc2\xb2"},
        {"[\\w]",
         "\xc2\xbd x\xc2\xbdy \xe2\x93\xa2"
         "e\xc2\xb2",
         "\xc2\xbd \xc2\xbd \xc2\xb2"},
        {"[^\\w]",
         "\xc2\xbd x\xc2\xbdy \xe2\x93\xa2"
         "e\xc2\xb2",
         "xy\xe2\x93\xa2"
         "e"},
        {"\\s",
         "a\xe1\xa0\x8e"
         "b\xc2\x85"
         "c\xe3\x80\x80"
         "d",
         "a\xe1\xa0\x8e"
         "bcd"},
        {"^a", "a\nab\nb", "\nb\nb"},
        {"b$", "ab\nb\r\nb", "a\nb\r\n"},
        {"\\n$", "a\n\nb\n", "a\nb"},
        {"\\p{Han}", "\xe6\x97\xa5\xe3\x80\x85\xe3\x83\xbc\xe3\x80\x81\xe3\x80\x87x",
         "\xe3\x83\xbc\xe3\x80\x81x"},
        {"\\P{Han}", "\xe6\x97\xa5\xe3\x83\xbc\xe3\x80\x81x", "\xe6\x97\xa5"},
        {"\\p{^Han}", "\xe6\x97\xa5\xe3\x83\xbc\xe3\x80\x81x", "\xe6\x97\xa5"},
        {"\\p{Katakana}", "\xe3\x82\xab\xe3\x83\xbc\xe3\x83\x8a\xe3\x83\xbbx",
         "\xe3\x83\xbc\xe3\x83\xbbx"},
        {"(?i:'s)|(?i:a(?-i:b)c)", "'S '\xc5\xbf AbC ABC", "   ABC"},
        {"(?i)k|C", "Kk\xe2\x84\xaa cC", " "},
        {"'(?i:[sdmt]|ll)", "'LL 'M 'x", "  'x"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        par_tokenizer *t = NULL;
        int32_t ids[64];
        char left[64];
        size_t n = 0, k = 0;
        json_t *root = with(NULL, "pre_tokenizer", split(rows[i].regex, "Removed"));
        CHECK_OK(open_json(root, &t));
        CHECK_OK(par_tokenizer_encode(t, rows[i].text, strlen(rows[i].text), ids, 64, &n));
        CHECK_OK(par_tokenizer_decode(t, ids, n, left, sizeof left, &k));
        CHECK(k == strlen(rows[i].left) && memcmp(left, rows[i].left, k) == 0,
              "%s leaves \"%.*s\" of \"%s\"", rows[i].regex, (int)k, left, rows[i].text);
        par_tokenizer_close(&t);
        json_decref(root);
    }
}

/* An expression that tries too much of a text is named, with its file. */
static void endless(void) {
    par_tokenizer *t = NULL;
    int32_t ids[64];
    size_t n = 0;
    const char text[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!";
    json_t *root = with(NULL, "pre_tokenizer", split("(a+)+$", "Isolated"));
    CHECK_OK(open_json(root, &t));
    CHECK_FAILS(par_tokenizer_encode(t, text, strlen(text), ids, 64, &n), PAR_ERR_UNSUPPORTED,
                "small.json: \"Split\" has \"Regex\": \"(a+)+$\": PCRE2 splits no piece at byte 0 "
                "of 41 of a text: match limit exceeded; legal: an expression");
    par_tokenizer_close(&t);
    json_decref(root);
}

static void refusals(void) {
    par_tokenizer *t = NULL;
    json_t *good = with(NULL, "pre_tokenizer", split(LLAMA3, "Isolated"));
    CHECK_OK(open_json(good, &t));
    par_tokenizer_close(&t);
    json_decref(good);
    refuse(with(NULL, "normalizer", json_pack("{s:s}", "type", "BertNormalizer")),
           "\"normalizer\" has \"type\": \"BertNormalizer\"");
    refuse(with(NULL, "normalizer",
                json_pack("{s:s, s:{s:s}}", "type", "Replace", "pattern", "X", "")),
           "\"Replace\" has \"pattern\": {\"X\":\"\"}");
    refuse(with(NULL, "normalizer",
                json_pack("{s:s, s:s}", "type", "Precompiled", "precompiled_charsmap", "AAAAAAAA")),
           "malformed \"precompiled_charsmap\"");
    refuse(with(NULL, "pre_tokenizer", json_pack("{s:s}", "type", "BertPreTokenizer")),
           "\"pre_tokenizer\" has \"type\": \"BertPreTokenizer\"");
    refuse(with(NULL, "pre_tokenizer", split(LLAMA3, "Merged")),
           "\"Split\" has \"behavior\": \"Merged\"");
    refuse(with(NULL, "pre_tokenizer", split("[a[bc]]+", "Isolated")), "and from \"[bc]]+\" on");
    refuse(with(NULL, "pre_tokenizer", split("[a-z&&b]+", "Isolated")), "and from \"&&b]+\" on");
    refuse(with(NULL, "pre_tokenizer", split("\\p{N}{1,3}+", "Isolated")), "and from \"}+\" on");
    refuse(with(NULL, "pre_tokenizer", split("\\ba", "Isolated")), "and from \"\\ba\" on");
    refuse(with(NULL, "pre_tokenizer", split("(a", "Isolated")), "PCRE2: missing");
    /* what both spell alike, and each means in its way */
    static const char *const other_meanings[][2] = {
        {"ba{,2}", "{,2}"},         {"(?m).+", "(?m).+"},          {"b|(?x)a b", "(?x)a b"},
        {"a(?i)b|C", "(?i)b|C"},    {"(?i:stop)", "top)"},         {"(?i:(?:s)s)", "s)"},
        {"(?i)a|\u00df", "\u00df"}, {"(?i)[\\p{Lu}]", "\\p{Lu}]"}, {"a\\pL", "\\pL"},
        {"(*UTF)a", "(*UTF)a"},     {"a(?P<x>b)", "(?P<x>b)"}};
    for (size_t i = 0; i < sizeof other_meanings / sizeof *other_meanings; i++) {
        char part[64];
        snprintf(part, sizeof part, "and from \"%s\" on", other_meanings[i][1]);
        refuse(with(NULL, "pre_tokenizer", split(other_meanings[i][0], "Isolated")), part);
    }
    json_t *after = split(LLAMA3, "Isolated");
    json_array_append_new(json_object_get(after, "pretokenizers"),
                          json_pack("{s:s}", "type", "Digits"));
    refuse(with(NULL, "pre_tokenizer", after), "\"type\": \"Digits\"");
    refuse(with(NULL, "post_processor", json_pack("{s:s}", "type", "X")),
           "\"post_processor\" has \"type\": \"X\"");
    refuse(with(NULL, "post_processor",
                json_pack("{s:s, s:[{s:{s:s}}], s:{}}", "type", "TemplateProcessing", "single",
                          "SpecialToken", "id", "<x>", "special_tokens")),
           "\"special_tokens\" has");
    refuse(with(NULL, "decoder", json_pack("{s:s}", "type", "WordPiece")), "\"WordPiece\"");
    refuse(with(NULL, "model", json_integer(1)), "legal: BPE");
    refuse(with("model", "type", json_string("WordPiece")), "\"type\": \"WordPiece\"; legal: BPE");
    refuse(with("model", "type", json_string("Unigram")), "legal: BPE");
    refuse(with("model", "dropout", json_real(0.1)), "dropout");
    refuse(with("model", "end_of_word_suffix", json_string("</w>")), "end_of_word_suffix");
    refuse(with("model", "vocab", json_array()), "no \"vocab\"");
    refuse(with("model", "vocab", json_object()), "0 tokens");
    refuse(with("model", "merges", json_null()), "no \"merges\"");
    refuse(with("model", "merges", json_pack("[s]", "t h e")),
           "merge 1: \"t h e\"; legal: two tokens");
    refuse(with("model", "merges", json_pack("[s,[s]]", "t h", "h")), "merge 2; legal: two tokens");
    refuse(with("model", "merges", json_pack("[[s,s]]", "t", "x")), "merge 1: the two together");
    refuse(with("model", "merges", json_pack("[s]", "t h")), "no merge makes token 257");
    refuse(with(NULL, "added_tokens", json_object()), "not a list");
    refuse(with_added(added("<x>", 300)), "legal: a \"content\" and an \"id\" from 0 to 259");
    refuse(with_added(added("", 259)), "entry 0 of \"added_tokens\"");
    refuse(with_added(added("<x>", 258)), "have the same id 258");
    refuse(with_added(added("the", 257)), "have the same id 257");
    json_t *two_ids = with_added(added("the", 259));
    add(two_ids, "<x>", 258);
    refuse(two_ids, "\"the\" has two ids");
    CHECK_FAILS(par_tokenizer_open(temp_text("cut.json", "{\"model\": {"), &t), PAR_ERR_FORMAT,
                "line 1");
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {"llama3-texts", llama3_texts, 0, NULL, 0},
        {"llama3-any-bytes", llama3_any_bytes, 0, NULL, 0},
        {"as-two-files", as_two_files, 0, NULL, 0},
        {"added-tokens", added_tokens, 0, NULL, 0},
        {"whole-pieces", whole_pieces, 0, NULL, 0},
        {"expressions", expressions, 0, NULL, 0},
        {"endless", endless, 0, NULL, 0},
        {"refusals", refusals, 0, NULL, 0},
    };
    harness_foreign_json();
    temp_open();
    int rc = harness_main("tokenizer-json", cases, HARNESS_COUNT(cases), argc, argv);
    temp_close();
    return rc;
}
