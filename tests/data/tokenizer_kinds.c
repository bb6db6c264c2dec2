/*
 * Tokenizers of each kind: ids that Hugging Face's tokenizers library and sentencepiece gave
 * (tests/fixtures/tokenizers, written by scripts/compare-tokenizers), the same tokens for every
 * number of threads, what stands around a document, and which file of a folder decides.
 */
#define _XOPEN_SOURCE 700
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../harness.h"
#include "libpar/data/tokenizer.h"
#include "par/threads.h"
#include "round_trip.h"
#include "temp.h"

static const char *const names[] = {"llama3.json",
                                    "qwen2.json",
                                    "o200k.json",
                                    "smollm.json",
                                    "deepseek.json",
                                    "added.json",
                                    "added-normalized.json",
                                    "merged_with_next.json",
                                    "llama2.json",
                                    "metaspace-first-fused.json",
                                    "unigram.json",
                                    "unigram-ties.json",
                                    "spm-llama2.model",
                                    "spm-gemma.model",
                                    "spm-unigram-fallback.model",
                                    "spm-rules.model",
                                    "spm-ties.model"};
enum { N_NAMES = sizeof names / sizeof *names };

/* From the project's folder, or from a build folder in it. */
static const char *fixture(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "tests/fixtures/tokenizers/%s", name);
    if (access(path, R_OK) != 0)
        snprintf(path, sizeof path, "../tests/fixtures/tokenizers/%s", name);
    return path;
}

/* The texts and ids beside a tokenizer. */
static json_t *cases_of(const char *name) {
    char file[128];
    snprintf(file, sizeof file, "%.*s.cases", (int)(strrchr(name, '.') - name), name);
    json_t *root = json_load_file(fixture(file), 0, NULL);
    CHECK(root != NULL, "no %s", file);
    return root;
}

static size_t ids_in(const json_t *list, int32_t *ids) {
    size_t n = json_array_size(list);
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return n;
}

static void check_frame(const par_tokenizer *t, bool behind, const json_t *list) {
    int32_t expected[PAR__MAX_FRAME];
    const int32_t *ids;
    size_t n = par_tokenizer_frame(t, behind, &ids), n_expected = ids_in(list, expected);
    CHECK(n == n_expected && memcmp(ids, expected, n * sizeof *ids) == 0,
          "%zu ids, or others than %zu, %s a document", n, n_expected,
          behind ? "behind" : "in front of");
}

static void check_case(par_tokenizer *t, const char *name, const json_t *c) {
    int32_t expected[1024], got[1024];
    const char *text = json_string_value(json_object_get(c, "text"));
    size_t n = 0, n_expected = ids_in(json_object_get(c, "ids"), expected);
    CHECK_OK(par_tokenizer_encode(t, text, strlen(text), got, 1024, &n));
    CHECK(n == n_expected && memcmp(got, expected, n * sizeof *got) == 0,
          "%s: \"%s\": %zu ids, or others than %zu", name, text, n, n_expected);
}

static void fixtures(void) {
    for (int i = 0; i < N_NAMES; i++) {
        par_tokenizer *t = NULL;
        json_t *root = cases_of(names[i]);
        const json_t *list = json_object_get(root, "cases");
        CHECK_OK(par_tokenizer_open(fixture(names[i]), &t));
        CHECK(json_array_size(list) > 20, "%zu texts", json_array_size(list));
        for (size_t k = 0; t && k < json_array_size(list); k++)
            check_case(t, names[i], json_array_get(list, k));
        if (t) check_frame(t, false, json_object_get(root, "begin"));
        if (t) check_frame(t, true, json_object_get(root, "end"));
        par_tokenizer_close(&t);
        json_decref(root);
    }
}

/* Byte fallback: any text comes back, with the space in front left out again. */
static void decode(void) {
    static const char *const with_fallback[] = {"llama2.json", "spm-llama2.model",
                                                "spm-gemma.model", "qwen2.json"};
    static const char text[] = "The  cat\n\xe6\x97\xa5\xf0\x9f\x98\x80 sat";
    for (int i = 0; i < 4; i++) {
        par_tokenizer *t = NULL;
        CHECK_OK(par_tokenizer_open(fixture(with_fallback[i]), &t));
        if (t) round_trip(t, text, sizeof text - 1, NULL, 0);
        par_tokenizer_close(&t);
    }
}

/* ---- threads ---- */

/* 200 short documents, and one that is cut where it may be; JSON Lines. */
static json_t *documents(void) {
    json_t *all = json_array(), *root = cases_of("added.json");
    const json_t *list = json_object_get(root, "cases");
    size_t n_cases = json_array_size(list), n = 0, max = 3 << 17;
    char *text = malloc(max + 1024);
    for (unsigned i = 0; n < max; i++) {
        const json_t *one =
            json_object_get(json_array_get(list, round_trip_draw((unsigned)n_cases)), "text");
        if (i < 200) json_array_append(all, (json_t *)one);
        n += (size_t)sprintf(text + n, "%s word the", json_string_value(one));
    }
    json_array_insert_new(all, 100, json_stringn(text, n));
    json_decref(root);
    free(text);
    return all;
}

static const char *write_lines(const json_t *all) {
    const char *path = temp_path("lines.jsonl");
    FILE *file = fopen(path, "w");
    for (size_t i = 0; i < json_array_size(all); i++) {
        char *text = json_dumps(json_array_get(all, i), JSON_ENCODE_ANY);
        fprintf(file, "{\"text\": %s}\n", text);
        free(text);
    }
    fclose(file);
    return path;
}

/* Each document encoded as one, with what stands around it. */
static size_t expected_tokens(par_tokenizer *t, const json_t *all, uint16_t *out) {
    size_t count = 0, max = 1 << 22;
    int32_t *ids = malloc(max * sizeof *ids);
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *one = json_array_get(all, i);
        const int32_t *around;
        size_t n = 0, n_around = par_tokenizer_frame(t, false, &around);
        for (size_t k = 0; k < n_around; k++) out[count++] = (uint16_t)around[k];
        CHECK_OK(
            par_tokenizer_encode(t, json_string_value(one), json_string_length(one), ids, max, &n));
        for (size_t k = 0; k < n; k++) out[count++] = (uint16_t)ids[k];
        n_around = par_tokenizer_frame(t, true, &around);
        for (size_t k = 0; k < n_around; k++) out[count++] = (uint16_t)around[k];
    }
    free(ids);
    return count;
}

static void check_threads(const char *name, const json_t *all, const char *lines) {
    const par_corpus corpus = {.n_files = 1, .paths = &lines, .field = "text"};
    par_tokenizer *t = NULL;
    uint16_t *expected = malloc((4 << 20) * sizeof *expected);
    CHECK_OK(par_tokenizer_open(fixture(name), &t));
    size_t n = t ? 2 * expected_tokens(t, all, expected) : 0;
    for (int threads = 1; t && threads <= 5; threads += 2) {
        size_t n_got = 0;
        CHECK_OK(par_threads_set(threads));
        CHECK_OK(par_corpus_write_tokens(&corpus, t, true, temp_path("t.bin"), NULL, NULL));
        char *got = temp_read(temp_path("t.bin"), &n_got);
        CHECK(got && n_got == n && memcmp(got, expected, n) == 0,
              "%s, %d threads: %zu bytes, or others than %zu", name, threads, n_got, n);
        free(got);
    }
    CHECK_OK(par_threads_set(0));
    par_tokenizer_close(&t);
    free(expected);
}

static void threads(void) {
    static const char *const some[] = {"qwen2.json", "smollm.json", "o200k.json", "added.json",
                                       "llama2.json"};
    json_t *all = documents();
    char lines[512];
    snprintf(lines, sizeof lines, "%s", write_lines(all));
    for (int i = 0; i < 5; i++) check_threads(some[i], all, lines);
    json_decref(all);
}

/* ---- folders ---- */

static json_t *load(const char *name) {
    json_t *root = json_load_file(fixture(name), 0, NULL);
    CHECK(root != NULL, "no %s", name);
    return root;
}

static void template(void) {
    json_t *root = load("llama3.json");
    par_tokenizer *t = NULL;
    json_object_set_new(
        root, "post_processor",
        json_pack("{s:s, s:[{s:s}, {s:s, s:[{s:{s:s}}, {s:{s:s}}], s:{s:{s:[i]}}}]}", "type",
                  "Sequence", "processors", "type", "ByteLevel", "type", "TemplateProcessing",
                  "single", "SpecialToken", "id", "<|begin_of_text|>", "Sequence", "id", "A",
                  "special_tokens", "<|begin_of_text|>", "ids", 0));
    json_dump_file(root, temp_path("template.json"), 0);
    CHECK_OK(par_tokenizer_open(temp_path("template.json"), &t));
    if (t) {
        json_t *begin = json_pack("[i]", 0), *end = json_pack("[i]", 1);
        check_frame(t, false, begin);
        check_frame(t, true, end); /* the template has none: the vocabulary's */
        json_decref(begin);
        json_decref(end);
    }
    par_tokenizer_close(&t);
    json_decref(root);
}

/* Another split than GPT-2's: without the tokenizer.json ids would differ. */
static void json_decides(void) {
    json_t *root = load("smollm.json");
    par_tokenizer *t = NULL;
    char path[1024];
    snprintf(path, sizeof path, "%s", temp_path(""));
    json_dump_file(json_object_get(json_object_get(root, "model"), "vocab"),
                   temp_path("vocab.json"), 0);
    temp_text("merges.txt", "#version: 0.2\n");
    json_dump_file(root, temp_path("tokenizer.json"), 0);
    CHECK_OK(par_tokenizer_open(path, &t));
    if (t) {
        round_trip(t, "12", 2, (int32_t[]){17, 18}, 2); /* digits stand alone */
        const char *note = par_tokenizer_note(t);
        CHECK(note && strstr(note, "tokenizer.json decides"), "the note: %s", note ? note : "none");
    }
    par_tokenizer_close(&t);
    temp_remove("vocab.json");
    temp_remove("merges.txt");
    temp_remove("tokenizer.json");
    json_decref(root);
}

/* Runs of spaces are added though the BPE has them, too, in its own spelling: the added one
 * wins. */
static void added_wins(void) {
    json_t *root = load("qwen2.json"),
           *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    size_t n = json_object_size(vocab);
    par_tokenizer *t = NULL;
    CHECK(json_object_get(vocab, "\xc4\xa0\xc4\xa0") != NULL, "the BPE has no two spaces");
    json_array_append_new(
        json_object_get(root, "added_tokens"),
        json_pack("{s:i, s:s, s:b}", "id", (int)n, "content", "  ", "normalized", 0));
    json_dump_file(root, temp_path("spaces.json"), 0);
    CHECK_OK(par_tokenizer_open(temp_path("spaces.json"), &t));
    if (t) round_trip(t, "  ", 2, (int32_t[]){(int32_t)n}, 1);
    if (t) CHECK(par_tokenizer_id(t, "  ") == (int32_t)n, "another id");
    par_tokenizer_close(&t);
    json_decref(root);
}

static void refusals(void) {
    par_tokenizer *t = NULL;
    CHECK_FAILS(par_tokenizer_open(temp_text("ranks.model", "IQ== 0\nIg== 1\n"), &t),
                PAR_ERR_UNSUPPORTED, "tiktoken");
    CHECK_FAILS(par_tokenizer_open(
                    temp_text("lfs.json", "version https://git-lfs.github.com/spec/v1\n"), &t),
                PAR_ERR_FORMAT, "git lfs pull");
    CHECK_FAILS(par_tokenizer_open(temp_text("cut.model", "\n\x0e\n\x05<unk>"), &t), PAR_ERR_FORMAT,
                "nor a model of SentencePiece");
    static const char unused[] = "\n\x05\n\x01"
                                 "a\x18\x05";
    CHECK_FAILS(par_tokenizer_open(temp_text("unused.model", unused), &t), PAR_ERR_UNSUPPORTED,
                "UNUSED");
    CHECK(!t, "a tokenizer");
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {"fixtures", fixtures, 0, NULL, 0},         {"decode", decode, 0, NULL, 0},
        {"threads", threads, 0, NULL, 0},           {"template", template, 0, NULL, 0},
        {"json-decides", json_decides, 0, NULL, 0}, {"added-wins", added_wins, 0, NULL, 0},
        {"refusals", refusals, 0, NULL, 0},
    };
    temp_open();
    int rc = harness_main("tokenizer-kinds", cases, HARNESS_COUNT(cases), argc, argv);
    temp_close();
    return rc;
}
