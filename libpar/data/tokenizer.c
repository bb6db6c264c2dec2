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
#include <unistd.h>

#include "libpar/base/directory.h"
#include "libpar/base/file.h"

void par_tokenizer_close(par_tokenizer **tokenizer) {
    par__tokenizer_free(tokenizer);
}

int64_t par_tokenizer_vocab(const par_tokenizer *t) {
    return t->vocab.n;
}

int32_t par_tokenizer_end(const par_tokenizer *t) {
    return t->end;
}

const char *par_tokenizer_note(const par_tokenizer *t) {
    return t->note;
}

size_t par_tokenizer_frame(const par_tokenizer *t, bool behind, const int32_t **ids) {
    *ids = behind ? t->frame.end : t->frame.begin;
    return (size_t)(behind ? t->frame.n_end : t->frame.n_begin);
}

int32_t par_tokenizer_id(const par_tokenizer *t, const char *token) {
    int32_t id = par__added_find(t, token);
    return id >= 0 ? id : par__vocab_find(&t->vocab, (const uint8_t *)token, strlen(token));
}

/* ---- files ---- */

static const char *const json_name = "tokenizer.json", *const model_name = "tokenizer.model";

/* Whether a file is in the directory, and its path. */
static par_status look_for(const char *directory, const char *name, char *path, size_t n,
                           bool *there) {
    if (snprintf(path, n, "%s/%s", directory, name) >= (int)n)
        PAR_FAIL(PAR_ERR_ARG, "%s: name is longer than %zu bytes", directory, n - 17);
    return par__file_exists(path, there);
}

/* The first of the two names that is in the directory. */
static par_status find_file(const char *directory, const char *first, const char *second,
                            char *path, size_t n) {
    bool there = false;
    PAR_TRY(look_for(directory, first, path, n, &there));
    if (!there) PAR_TRY(look_for(directory, second, path, n, &there));
    if (!there)
        PAR_FAIL(PAR_ERR_IO, "%s: has neither %s nor %s; nor a %s, nor a %s", directory, first,
                 second, json_name, model_name);
    return PAR_OK;
}

static par_status hand_over(par_status st, par_tokenizer *t, par_tokenizer **out) {
    if (st == PAR_OK)
        *out = t;
    else
        par__tokenizer_free(&t);
    return st;
}

static par_status open_two_files(const char *vocab_path, const char *directory,
                                 par_tokenizer **out) {
    char merges_path[4096];
    par__map vocab = {NULL, 0}, merges = {NULL, 0};
    par_tokenizer *t = NULL;
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
    par_status st = par__map_open(path, &map);
    if (st != PAR_OK && access(path, F_OK) != 0)
        return par_error_set(
            st, "%s; legal: a file or folder that is here (nothing is fetched from a hub)",
            par_error());
    PAR_TRY(st);
    st = par__tokenizer_parse_file(path, (const char *)map.data, map.nbytes, &t);
    return hand_over(par__map_end(&map, path, st), t, out);
}

static const char note[] = " decides; the vocab.json and merges.txt beside it are not read";

/* A tokenizer.json says how texts are split, and two files of a vocabulary do not: it decides. */
static par_status open_json(const char *path, const char *directory, par_tokenizer **out) {
    char unused[4096];
    bool beside = false;
    PAR_TRY(look_for(directory, "vocab.json", unused, sizeof unused, &beside));
    PAR_TRY(open_file(path, out));
    if (!beside) return PAR_OK;
    size_t n = strlen(path);
    char *text = malloc(n + sizeof note);
    if (!text) {
        par__tokenizer_free(out);
        PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for a tokenizer", path);
    }
    memcpy(text, path, n);
    memcpy(text + n, note, sizeof note);
    (*out)->note = text;
    return PAR_OK;
}

par_status par_tokenizer_open(const char *path, par_tokenizer **out) {
    PAR_REQUIRE(path && out);
    if (strcmp(path, "bytes") == 0) {
        uint8_t bytes[256];
        for (int b = 0; b < 256; b++) bytes[b] = (uint8_t)b;
        return par__tokenizer_create_table(bytes, 256, out);
    }
    char file[4096];
    bool there;
    PAR_TRY(par__directory_exists(path, &there));
    if (!there) return open_file(path, out);
    PAR_TRY(look_for(path, json_name, file, sizeof file, &there));
    if (there) return open_json(file, path, out);
    par_status st = find_file(path, "vocab.json", "encoder.json", file, sizeof file);
    if (st == PAR_OK) return open_two_files(file, path, out);
    PAR_TRY(look_for(path, model_name, file, sizeof file, &there));
    return there ? open_file(file, out) : st;
}

/* ---- encode, decode ---- */

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

static int hex_digit(uint8_t c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

typedef struct {
    uint8_t *bytes;
    size_t n, max;
} byte_room;

static void put_bytes(byte_room *r, const uint8_t *p, size_t n) {
    if (r->n <= r->max && n <= r->max - r->n) memcpy(r->bytes + r->n, p, n);
    r->n += n;
}

/* The bytes of a token: <0xNN> may be a byte, ▁ is a space where the tokenizer says so, the first
 * of all left out. */
static void put_token(const par_tokenizer *t, int32_t id, bool first, byte_room *room) {
    const uint8_t *p = t->vocab.bytes + t->vocab.first[id];
    size_t n = t->vocab.first[id + 1] - t->vocab.first[id];
    if (t->model >= PAR__MODEL_CHARACTERS && n == 6 && memcmp(p, "<0x", 3) == 0) {
        int high = hex_digit(p[3]), low = hex_digit(p[4]);
        if (high >= 0 && low >= 0 && t->of_byte[high << 4 | low] == id) {
            put_bytes(room, &(uint8_t){(uint8_t)(high << 4 | low)}, 1);
            return;
        }
    }
    for (size_t at = 0, k; at < n; at += k) {
        bool space = t->spaces && n - at >= 3 && memcmp(p + at, "\xe2\x96\x81", 3) == 0;
        k = space ? 3 : t->spaces ? 1 : n;
        if (space && at == 0 && first && t->strip_first) continue;
        put_bytes(room, space ? (const uint8_t *)" " : p + at, space ? 1 : k);
    }
}

par_status par_tokenizer_decode(const par_tokenizer *t, const int32_t *ids, size_t n, void *bytes,
                                size_t max, size_t *n_bytes) {
    PAR_REQUIRE(t && n_bytes && (ids || n == 0) && (bytes || max == 0));
    byte_room room = {bytes, 0, max};
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= t->vocab.n)
            PAR_FAIL(PAR_ERR_ARG, "id %zu is %" PRId32 "; legal: 0 to %" PRId32, i, ids[i],
                     t->vocab.n - 1);
        put_token(t, ids[i], i == 0, &room);
    }
    *n_bytes = room.n;
    if (room.n > max)
        PAR_FAIL(PAR_ERR_ARG, "room for %zu bytes; the ids stand for %zu", max, room.n);
    return PAR_OK;
}
