/*
 * The tokenizer object: read from its files, encode, decode. Encoding a byte without a merge is its own
 * token, so every text has ids and decoding them gives the text back, whatever its bytes are.
 */
#include "libpar/data/tokenizer.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/file.h"

struct par_tokenizer {
    par__vocab vocab;
    int32_t of_byte[256];    /* id of a byte alone; -1: a table of characters lacks it */
    par__splitter *splitter; /* NULL: a table, no merges */
    par__merges merges;
    par__bpe bpe;
};

static par_status create(par_tokenizer **out) {
    par_tokenizer *t = calloc(1, sizeof *t);
    if (!t) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a tokenizer");
    *out = t;
    return PAR_OK;
}

void par_tokenizer_close(par_tokenizer **tokenizer) {
    par_tokenizer *t = *tokenizer;
    if (!t) return;
    par__splitter_destroy(&t->splitter);
    par__bpe_destroy(&t->bpe);
    par__merges_destroy(&t->merges);
    par__vocab_destroy(&t->vocab);
    free(t);
    *tokenizer = NULL;
}

int64_t par_tokenizer_vocab(const par_tokenizer *t) {
    return t->vocab.n;
}

int32_t par_tokenizer_id(const par_tokenizer *t, const char *token) {
    return par__vocab_find(&t->vocab, (const uint8_t *)token, strlen(token));
}

static void find_bytes(par_tokenizer *t) {
    for (int b = 0; b < 256; b++) t->of_byte[b] = par__vocab_find(&t->vocab, &(uint8_t){(uint8_t)b}, 1);
}

static par_status create_table(const uint8_t *bytes, int32_t n, par_tokenizer **out) {
    par_tokenizer *t = NULL;
    PAR_TRY(create(&t));
    par_status st = par__vocab_bytes(bytes, n, &t->vocab);
    if (st != PAR_OK) {
        par_tokenizer_close(&t);
        return st;
    }
    find_bytes(t);
    *out = t;
    return PAR_OK;
}

static par_status load_json(const char *path, const char *text, size_t n, json_t **out) {
    json_error_t error;
    if (n == 0) PAR_FAIL(PAR_ERR_FORMAT, "%s: is empty; legal: a vocabulary as GPT-2's vocab.json", path);
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
    if (!root) PAR_FAIL(PAR_ERR_FORMAT, "%s: line %d: %s", path, error.line, error.text);
    if (!json_is_object(root)) {
        json_decref(root);
        PAR_FAIL(PAR_ERR_FORMAT, "%s: is no JSON object", path);
    }
    *out = root;
    return PAR_OK;
}

/* ---- a table of characters ---- */

static par_status read_table(const char *path, const json_t *root, uint8_t *bytes, int32_t *n) {
    const json_t *list = json_object_get(root, "bytes");
    bool seen[256] = {false};
    size_t count = json_array_size(list);
    if (count < 1 || count > 256)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: \"bytes\" has %zu entries; legal: 1 to 256", path, count);
    for (size_t i = 0; i < count; i++) {
        const json_t *entry = json_array_get(list, i);
        json_int_t b = json_is_integer(entry) ? json_integer_value(entry) : -1;
        if (b < 0 || b > 255 || seen[b])
            PAR_FAIL(PAR_ERR_FORMAT,
                     "%s: entry %zu of \"bytes\" is no byte that is new; legal: 0 to 255, once each", path,
                     i);
        seen[b] = true;
        bytes[i] = (uint8_t)b;
    }
    const json_t *vocab = json_object_get(root, "vocab");
    if (vocab && json_integer_value(vocab) != (json_int_t)count)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: \"vocab\" is %lld, \"bytes\" has %zu entries", path,
                 (long long)json_integer_value(vocab), count);
    *n = (int32_t)count;
    return PAR_OK;
}

par_status par__tokenizer_parse_table(const char *path, const char *text, size_t n, par_tokenizer **out) {
    json_t *root = NULL;
    uint8_t bytes[256];
    int32_t count = 0;
    PAR_TRY(load_json(path, text, n, &root));
    par_status st = read_table(path, root, bytes, &count);
    json_decref(root);
    return st == PAR_OK ? create_table(bytes, count, out) : st;
}

/* ---- byte-level BPE ---- */

/* words[id]: the ids of n entries must be 0 .. n - 1, once each. */
static par_status sort_words(const char *path, json_t *root, const char **words, size_t n) {
    const char *word;
    json_t *value;
    json_object_foreach(root, word, value) {
        json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || id >= (json_int_t)n)
            PAR_FAIL(PAR_ERR_FORMAT, "%s: token \"%.40s\": id %lld; legal: 0 to %zu, as there are %zu tokens",
                     path, word, (long long)id, n - 1, n);
        if (words[id])
            PAR_FAIL(PAR_ERR_FORMAT, "%s: tokens \"%.40s\" and \"%.40s\" have the same id %lld", path,
                     words[id], word, (long long)id);
        words[id] = word;
    }
    return PAR_OK;
}

static par_status parse_vocab(const char *path, const char *text, size_t n, par__vocab *out) {
    json_t *root = NULL;
    PAR_TRY(load_json(path, text, n, &root));
    size_t count = json_object_size(root);
    const char **words = calloc(count + 1, sizeof *words);
    par_status st = PAR_OK;
    if (!words)
        st = par_fail(PAR_ERR_MEMORY, "%s: no host memory for %zu tokens", path, count);
    else if (count < 1 || count > INT32_MAX / 4)
        st = par_fail(PAR_ERR_FORMAT, "%s: %zu tokens; legal: 256 to %d", path, count, INT32_MAX / 4);
    if (st == PAR_OK) st = sort_words(path, root, words, count);
    if (st == PAR_OK) st = par__vocab_create(path, words, (int32_t)count, out);
    free(words);
    json_decref(root);
    return st;
}

static bool is_special(const uint8_t *p, size_t n) {
    return (p[0] == '<' && p[n - 1] == '>') || (p[0] == '[' && p[n - 1] == ']');
}

/* A token that no merge makes means that merges are missing: ids would differ, silently. */
static par_status check_complete(const par_tokenizer *t, const char *vocab_path, const char *merges_path) {
    for (int b = 0; b < 256; b++)
        if (t->of_byte[b] < 0) PAR_FAIL(PAR_ERR_FORMAT, "%s: byte %d has no token of its own", vocab_path, b);
    const par__vocab *v = &t->vocab;
    bool *made = calloc((size_t)v->n, sizeof *made);
    if (!made) PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for %" PRId32 " tokens", vocab_path, v->n);
    for (int32_t i = 0; i < t->merges.n; i++) made[t->merges.id[i]] = true;
    par_status st = PAR_OK;
    for (int32_t id = 0; st == PAR_OK && id < v->n; id++) {
        size_t n = v->first[id + 1] - v->first[id];
        if (n > 1 && !made[id] && !is_special(v->bytes + v->first[id], n))
            st = par_fail(PAR_ERR_FORMAT,
                          "%s: no merge makes token %" PRId32 " of %s: cut short, or of another vocabulary",
                          merges_path, id, vocab_path);
    }
    free(made);
    return st;
}

par_status par__tokenizer_parse(const char *vocab_path, const char *vocab, size_t vocab_nbytes,
                                const char *merges_path, const char *merges, size_t merges_nbytes,
                                par_tokenizer **out) {
    par_tokenizer *t = NULL;
    par_status st;
    PAR_TRY(create(&t));
    PAR_TRY_GOTO(parse_vocab(vocab_path, vocab, vocab_nbytes, &t->vocab), failed);
    find_bytes(t);
    PAR_TRY_GOTO(par__merges_parse(merges_path, merges, merges_nbytes, &t->vocab, &t->merges), failed);
    PAR_TRY_GOTO(check_complete(t, vocab_path, merges_path), failed);
    PAR_TRY_GOTO(par__splitter_create(&t->splitter), failed);
    *out = t;
    return PAR_OK;
failed:
    par_tokenizer_close(&t);
    return st;
}

/* ---- files ---- */

/* The first of the two names that is in the directory. */
static par_status find_file(const char *directory, const char *first, const char *second, char *path,
                            size_t n) {
    const char *names[] = {first, second};
    for (int i = 0; i < 2; i++) {
        if (snprintf(path, n, "%s/%s", directory, names[i]) >= (int)n)
            PAR_FAIL(PAR_ERR_ARG, "%s: name is longer than %zu bytes", directory, n - 16);
        if (par__file_exists(path)) return PAR_OK;
    }
    PAR_FAIL(PAR_ERR_IO, "%s: has neither %s nor %s", directory, first, second);
}

static par_status open_directory(const char *directory, par_tokenizer **out) {
    char vocab_path[4096], merges_path[4096];
    par__map vocab = {NULL, 0}, merges = {NULL, 0};
    PAR_TRY(find_file(directory, "vocab.json", "encoder.json", vocab_path, sizeof vocab_path));
    PAR_TRY(find_file(directory, "merges.txt", "vocab.bpe", merges_path, sizeof merges_path));
    PAR_TRY(par__map_open(vocab_path, &vocab));
    par_status st = par__map_open(merges_path, &merges);
    if (st == PAR_OK)
        st = par__tokenizer_parse(vocab_path, (const char *)vocab.data, vocab.nbytes, merges_path,
                                  (const char *)merges.data, merges.nbytes, out);
    par__map_close(&merges);
    par__map_close(&vocab);
    return st;
}

static par_status open_table(const char *path, par_tokenizer **out) {
    par__map map = {NULL, 0};
    PAR_TRY(par__map_open(path, &map));
    par_status st = par__tokenizer_parse_table(path, (const char *)map.data, map.nbytes, out);
    par__map_close(&map);
    return st;
}

par_status par_tokenizer_open(const char *path, par_tokenizer **out) {
    PAR_REQUIRE(path && out);
    if (strcmp(path, "bytes") == 0) {
        uint8_t bytes[256];
        for (int b = 0; b < 256; b++) bytes[b] = (uint8_t)b;
        return create_table(bytes, 256, out);
    }
    return par__directory_exists(path) ? open_directory(path, out) : open_table(path, out);
}

/* ---- encode, decode ---- */

typedef struct {
    par_tokenizer *tokenizer;
    par__id_visitor *visit;
    void *user;
} piece_context;

static par_status encode_piece(void *user, const uint8_t *piece, size_t n) {
    piece_context *c = user;
    return par__bpe_run(&c->tokenizer->bpe, &c->tokenizer->merges, c->tokenizer->of_byte, piece, n, c->visit,
                        c->user);
}

static par_status encode_bytes(const par_tokenizer *t, const uint8_t *bytes, size_t n, par__id_visitor *visit,
                               void *user) {
    for (size_t i = 0; i < n; i++) {
        if (t->of_byte[bytes[i]] < 0)
            PAR_FAIL(PAR_ERR_FORMAT,
                     "offset %zu: byte %d is not among the %" PRId32 " of the table of characters", i,
                     bytes[i], t->vocab.n);
        PAR_TRY(visit(user, &t->of_byte[bytes[i]], 1));
    }
    return PAR_OK;
}

par_status par__tokenizer_stream(par_tokenizer *t, const uint8_t *bytes, size_t n, par__id_visitor *visit,
                                 void *user) {
    piece_context c = {t, visit, user};
    if (!t->splitter) return encode_bytes(t, bytes, n, visit, user);
    return par__splitter_run(t->splitter, bytes, n, encode_piece, &c);
}

typedef struct {
    int32_t *ids;
    size_t n, max;
} id_room;

static par_status store(void *user, const int32_t *ids, size_t n) {
    id_room *r = user;
    for (size_t i = 0; i < n; i++, r->n++)
        if (r->n < r->max) r->ids[r->n] = ids[i];
    return PAR_OK;
}

par_status par_tokenizer_encode(par_tokenizer *t, const void *bytes, size_t n, int32_t *ids, size_t max,
                                size_t *n_ids) {
    PAR_REQUIRE(t && n_ids && (bytes || n == 0) && (ids || max == 0));
    id_room room = {ids, 0, max};
    PAR_TRY(par__tokenizer_stream(t, bytes, n, store, &room));
    *n_ids = room.n;
    if (room.n > max) PAR_FAIL(PAR_ERR_ARG, "room for %zu ids; the text has %zu", max, room.n);
    return PAR_OK;
}

par_status par_tokenizer_decode(const par_tokenizer *t, const int32_t *ids, size_t n, void *bytes, size_t max,
                                size_t *n_bytes) {
    PAR_REQUIRE(t && n_bytes && (ids || n == 0) && (bytes || max == 0));
    uint8_t *out = bytes;
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= t->vocab.n)
            PAR_FAIL(PAR_ERR_ARG, "id %zu is %" PRId32 "; legal: 0 to %" PRId32, i, ids[i], t->vocab.n - 1);
        size_t first = t->vocab.first[ids[i]], k = t->vocab.first[ids[i] + 1] - first;
        if (count <= max && k <= max - count) memcpy(out + count, t->vocab.bytes + first, k);
        count += k;
    }
    *n_bytes = count;
    if (count > max) PAR_FAIL(PAR_ERR_ARG, "room for %zu bytes; the ids stand for %zu", max, count);
    return PAR_OK;
}
