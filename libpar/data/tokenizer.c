/*
 * The tokenizer object: opened from its files, encode, decode. In a BPE a byte without a merge is
 * its own token, so every text has ids and decoding them gives the text back, whatever its bytes
 * are.
 */
#include "libpar/data/tokenizer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/directory.h"
#include "libpar/base/file.h"

void par_tokenizer_close(par_tokenizer **tokenizer) {
    par__tokenizer_free(tokenizer);
}

int64_t par_tokenizer_vocab(const par_tokenizer *t) {
    return t->vocab.n;
}

int32_t par_tokenizer_end(const par_tokenizer *t) {
    static const char *const names[] = {PAR__END_OF_TEXT,
                                        "<|end_of_text|>"}; /* GPT-2's, Llama 3's */
    int32_t id = par_tokenizer_id(t, names[0]);
    return id >= 0 ? id : par_tokenizer_id(t, names[1]);
}

int32_t par_tokenizer_id(const par_tokenizer *t, const char *token) {
    return par__vocab_find(&t->vocab, (const uint8_t *)token, strlen(token));
}

/* ---- files ---- */

/* The first of the two names that is in the directory. */
static par_status find_file(const char *directory, const char *first, const char *second,
                            char *path, size_t n) {
    const char *names[] = {first, second};
    for (int i = 0; i < 2; i++) {
        if (snprintf(path, n, "%s/%s", directory, names[i]) >= (int)n)
            PAR_FAIL(PAR_ERR_ARG, "%s: name is longer than %zu bytes", directory, n - 16);
        if (par__file_exists(path)) return PAR_OK;
    }
    PAR_FAIL(PAR_ERR_IO, "%s: has neither %s nor %s; a tokenizer.json is opened by its own name",
             directory, first, second);
}

static par_status hand_over(par_status st, par_tokenizer *t, par_tokenizer **out) {
    if (st == PAR_OK)
        *out = t;
    else
        par_tokenizer_close(&t);
    return st;
}

static par_status open_directory(const char *directory, par_tokenizer **out) {
    char vocab_path[4096], merges_path[4096];
    par__map vocab = {NULL, 0}, merges = {NULL, 0};
    par_tokenizer *t = NULL;
    PAR_TRY(find_file(directory, "vocab.json", "encoder.json", vocab_path, sizeof vocab_path));
    PAR_TRY(find_file(directory, "merges.txt", "vocab.bpe", merges_path, sizeof merges_path));
    PAR_TRY(par__map_open(vocab_path, &vocab));
    par_status st = par__map_open(merges_path, &merges);
    if (st == PAR_OK)
        st = par__tokenizer_parse(vocab_path, (const char *)vocab.data, vocab.nbytes, merges_path,
                                  (const char *)merges.data, merges.nbytes, &t);
    st = par__map_end(&merges, merges_path, st);
    return hand_over(par__map_end(&vocab, vocab_path, st), t, out);
}

static par_status open_file(const char *path, par_tokenizer **out) {
    par__map map = {NULL, 0};
    par_tokenizer *t = NULL;
    PAR_TRY(par__map_open(path, &map));
    par_status st = par__tokenizer_parse_file(path, (const char *)map.data, map.nbytes, &t);
    return hand_over(par__map_end(&map, path, st), t, out);
}

par_status par_tokenizer_open(const char *path, par_tokenizer **out) {
    PAR_REQUIRE(path && out);
    if (strcmp(path, "bytes") == 0) {
        uint8_t bytes[256];
        for (int b = 0; b < 256; b++) bytes[b] = (uint8_t)b;
        return par__tokenizer_create_table(bytes, 256, out);
    }
    return par__directory_exists(path) ? open_directory(path, out) : open_file(path, out);
}

/* ---- encode, decode ---- */

typedef struct {
    par_tokenizer *tokenizer;
    par__id_visitor *visit;
    void *user;
} piece_context;

static par_status encode_piece(void *user, const uint8_t *piece, size_t n) {
    piece_context *c = user;
    const par_tokenizer *t = c->tokenizer;
    int32_t whole = t->whole_pieces ? par__vocab_find(&t->vocab, piece, n) : -1;
    if (whole >= 0) return c->visit(c->user, &whole, 1);
    return par__bpe_run(&c->tokenizer->bpe, &c->tokenizer->merges, c->tokenizer->of_byte, piece, n,
                        c->visit, c->user);
}

static par_status encode_bytes(const par_tokenizer *t, const uint8_t *bytes, size_t n,
                               par__id_visitor *visit, void *user) {
    int32_t ids[4096];
    for (size_t at = 0, k; at < n; at += k) {
        k = n - at < 4096 ? n - at : 4096;
        for (size_t i = 0; i < k; i++) {
            ids[i] = t->of_byte[bytes[at + i]];
            if (ids[i] < 0)
                PAR_FAIL(PAR_ERR_FORMAT,
                         "offset %zu: byte %d is not among the %" PRId32
                         " of the table of characters",
                         at + i, bytes[at + i], t->vocab.n);
        }
        PAR_TRY(visit(user, ids, k));
    }
    return PAR_OK;
}

/* Id of the longest added token at the front, and its bytes; -1: there is none. */
static int32_t find_added(const par_tokenizer *t, const uint8_t *text, size_t n, size_t *n_found) {
    const par__vocab *v = &t->vocab;
    int32_t found = -1;
    *n_found = 0;
    if (!t->added.begins[text[0]]) return -1;
    for (int32_t i = 0; i < t->added.n; i++) {
        int32_t id = t->added.ids[i];
        size_t k = v->first[id + 1] - v->first[id];
        if (k <= *n_found || k > n || memcmp(v->bytes + v->first[id], text, k) != 0) continue;
        found = id;
        *n_found = k;
    }
    return found;
}

par_status par__tokenizer_stream(par_tokenizer *t, const uint8_t *bytes, size_t n,
                                 par__id_visitor *visit, void *user) {
    piece_context c = {t, visit, user};
    size_t from = 0, k;
    if (!t->splitter) return encode_bytes(t, bytes, n, visit, user);
    for (size_t at = 0; t->added.n > 0 && at < n; at += k) {
        int32_t id = find_added(t, bytes + at, n - at, &k);
        if (id < 0) {
            k = 1;
            continue;
        }
        PAR_TRY(par__splitter_run(t->splitter, bytes + from, at - from, encode_piece, &c));
        PAR_TRY(visit(user, &id, 1));
        from = at + k;
    }
    return par__splitter_run(t->splitter, bytes + from, n - from, encode_piece, &c);
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

par_status par_tokenizer_encode(par_tokenizer *t, const void *bytes, size_t n, int32_t *ids,
                                size_t max, size_t *n_ids) {
    PAR_REQUIRE(t && n_ids && (bytes || n == 0) && (ids || max == 0));
    id_room room = {ids, 0, max};
    PAR_TRY(par__tokenizer_stream(t, bytes, n, store, &room));
    *n_ids = room.n;
    if (room.n > max) PAR_FAIL(PAR_ERR_ARG, "room for %zu ids; the text has %zu", max, room.n);
    return PAR_OK;
}

par_status par_tokenizer_decode(const par_tokenizer *t, const int32_t *ids, size_t n, void *bytes,
                                size_t max, size_t *n_bytes) {
    PAR_REQUIRE(t && n_bytes && (ids || n == 0) && (bytes || max == 0));
    uint8_t *out = bytes;
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= t->vocab.n)
            PAR_FAIL(PAR_ERR_ARG, "id %zu is %" PRId32 "; legal: 0 to %" PRId32, i, ids[i],
                     t->vocab.n - 1);
        size_t first = t->vocab.first[ids[i]], k = t->vocab.first[ids[i] + 1] - first;
        if (count <= max && k <= max - count) memcpy(out + count, t->vocab.bytes + first, k);
        count += k;
    }
    *n_bytes = count;
    if (count > max) PAR_FAIL(PAR_ERR_ARG, "room for %zu bytes; the ids stand for %zu", max, count);
    return PAR_OK;
}
