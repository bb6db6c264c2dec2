/*
 * Encoding: added tokens are cut out, the texts between them normalized and split, and the model
 * gives the ids of each piece. An encoder has the memory that one thread needs for that; the
 * tokenizer is only read. Ids of short pieces are kept, since most of a text is few words: a slot
 * per hash, the last piece stays.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/utf8.h"
#include "libpar/data/tokenizer.h"

enum { BLOCK = 4096, CACHED_BYTES = 16, CACHED_IDS = 7, CACHE_BITS = 15 };

typedef struct {
    uint64_t low, high; /* of the piece's bytes */
    uint8_t n, n_ids;   /* n 0: free */
    int32_t ids[CACHED_IDS];
} cached;

struct par__encoder {
    const par_tokenizer *t;
    par__split_memory split;
    par__grown buffers[2];
    par__bpe bpe;
    par__unigram_memory paths;
    cached *cache; /* [1 << CACHE_BITS] */
    int32_t block[BLOCK];
    size_t n_block;
    par__id_visitor *visit;
    void *user;
    bool first; /* nothing of the text was split yet */
};

par_status par__encoder_create(const par_tokenizer *t, par__encoder **out) {
    par__encoder *e = calloc(1, sizeof *e);
    if (!e) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for an encoder");
    e->t = t;
    par_status st = PAR_OK;
    if (t->model != PAR__MODEL_TABLE) {
        st = par__split_memory_create(&e->split);
        e->cache = calloc((size_t)1 << CACHE_BITS, sizeof *e->cache);
        if (st == PAR_OK && !e->cache)
            st = par_error_set(PAR_ERR_MEMORY, "no host memory for an encoder");
    }
    if (st == PAR_OK)
        *out = e;
    else
        par__encoder_destroy(&e);
    return st;
}

void par__encoder_destroy(par__encoder **encoder) {
    par__encoder *e = *encoder;
    if (!e) return;
    par__split_memory_destroy(&e->split);
    free(e->buffers[0].data);
    free(e->buffers[1].data);
    par__bpe_destroy(&e->bpe);
    free(e->paths.cells);
    free(e->cache);
    free(e);
    *encoder = NULL;
}

/* ---- ids ---- */

static par_status flush(par__encoder *e) {
    size_t n = e->n_block;
    e->n_block = 0;
    return n > 0 ? e->visit(e->user, e->block, n) : PAR_OK;
}

static inline par_status put(par__encoder *e, int32_t id) {
    if (e->n_block == BLOCK) PAR_TRY(flush(e));
    e->block[e->n_block++] = id;
    return PAR_OK;
}

static par_status put_bytes(par__encoder *e, const uint8_t *bytes, size_t n) {
    const par_tokenizer *t = e->t;
    for (size_t i = 0; i < n; i++) {
        int32_t id = t->of_byte[bytes[i]];
        if (id < 0)
            PAR_FAIL(PAR_ERR_FORMAT,
                     "offset %zu: byte %d is not among the %" PRId32 " of the table of characters",
                     i, bytes[i], t->vocab.n);
        PAR_TRY(put(e, id));
    }
    return PAR_OK;
}

/* ---- models ---- */

static bool has_byte_ids(const par_tokenizer *t, const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (t->of_byte[p[i]] < 0) return false;
    return true;
}

/* The characters of a piece as symbols: its token, a user-defined one, or bytes, or unknown. */
static void begin_characters(par__encoder *e, const uint8_t *piece, size_t n) {
    const par_tokenizer *t = e->t;
    bool was_unknown = false;
    for (size_t at = 0, k; at < n; at += k) {
        const uint8_t *p = piece + at;
        const par__added_token *symbol = par__added_at(&t->symbols, p, n - at);
        k = symbol ? symbol->n : par__utf8_length(p, n - at);
        if (k == 0) k = 1;
        int32_t id = symbol ? symbol->id : par__vocab_find(&t->vocab, p, k);
        bool bytes = id < 0 && has_byte_ids(t, p, k), unknown = id < 0 && !bytes;
        if (id >= 0) par__bpe_put(&e->bpe, id, symbol != NULL);
        for (size_t i = 0; bytes && i < k; i++) par__bpe_put(&e->bpe, t->of_byte[p[i]], false);
        if (unknown && t->unknown >= 0 && !(t->fuse_unknown && was_unknown))
            par__bpe_put(&e->bpe, t->unknown, false);
        was_unknown = unknown;
    }
}

/* The path is walked from its end and turned round; unknown characters that touch are one. */
static par_status cut_unigram(par__encoder *e, const uint8_t *text, size_t n) {
    const par_tokenizer *t = e->t;
    int32_t next = (int32_t)n;
    PAR_TRY(par__unigram_run(&t->unigram, &e->paths, text, n));
    par__unigram_cell *cells = e->paths.cells;
    for (int32_t at = (int32_t)n, begin; at > 0; next = at, at = begin) {
        begin = cells[at].begin;
        cells[at].begin = next; /* from here on: the end of the piece behind */
    }
    if (n > 0) cells[0].begin = next;
    bool was_unknown = false;
    for (int32_t at = 0, end; at < (int32_t)n; at = end) {
        end = cells[at].begin;
        int32_t id = cells[end].id;
        bool bytes = id < 0 && has_byte_ids(t, text + at, (size_t)(end - at));
        if (id >= 0) PAR_TRY(put(e, id));
        if (bytes) PAR_TRY(put_bytes(e, text + at, (size_t)(end - at)));
        bool unknown = id < 0 && !bytes;
        if (unknown && t->unknown >= 0 && !(t->fuse_unknown && was_unknown))
            PAR_TRY(put(e, t->unknown));
        was_unknown = unknown;
    }
    return PAR_OK;
}

static par_status encode_uncached(par__encoder *e, const uint8_t *piece, size_t n) {
    const par_tokenizer *t = e->t;
    int32_t whole = t->whole_pieces ? par__vocab_find(&t->vocab, piece, n) : -1;
    if (whole >= 0) return put(e, whole);
    if (t->model == PAR__MODEL_UNIGRAM) return cut_unigram(e, piece, n);
    PAR_TRY(par__bpe_begin(&e->bpe, n));
    if (t->model == PAR__MODEL_CHARACTERS)
        begin_characters(e, piece, n);
    else
        for (size_t i = 0; i < n; i++) par__bpe_put(&e->bpe, t->of_byte[piece[i]], false);
    par__bpe_merge(&e->bpe, &t->merges);
    for (int32_t i = e->bpe.n > 0 ? 0 : -1; i >= 0; i = e->bpe.nodes[i].after)
        PAR_TRY(put(e, e->bpe.nodes[i].id));
    return PAR_OK;
}

static inline uint64_t load8(const uint8_t *p) {
    uint64_t x;
    memcpy(&x, p, 8);
    return x;
}

static inline uint64_t load4(const uint8_t *p) {
    uint32_t x;
    memcpy(&x, p, 4);
    return x;
}

/* The slot of a piece of 1 to 16 bytes; with n they tell it from all others. */
static cached *find_cached(par__encoder *e, const uint8_t *p, size_t n, uint64_t *low,
                           uint64_t *high) {
    *low = n >= 8   ? load8(p)
           : n >= 4 ? load4(p)
                    : p[0] | (uint64_t)p[n / 2] << 8 | (uint64_t)p[n - 1] << 16;
    *high = n >= 8 ? load8(p + n - 8) : n >= 4 ? load4(p + n - 4) : 0;
    uint64_t hash = (*low ^ (*high << 29 | *high >> 35) ^ n) * 0x9E3779B97F4A7C15u;
    hash = (hash ^ hash >> 32) * 0xD6E8FEB86659FD93u;
    return &e->cache[hash >> (64 - CACHE_BITS)];
}

static par_status encode_word(par__encoder *e, const uint8_t *piece, size_t n) {
    uint64_t low, high;
    if (n > CACHED_BYTES || n == 0) return n ? encode_uncached(e, piece, n) : PAR_OK;
    cached *c = find_cached(e, piece, n, &low, &high);
    if (c->n == n && c->low == low && c->high == high) {
        for (int i = 0; i < c->n_ids; i++) PAR_TRY(put(e, c->ids[i]));
        return PAR_OK;
    }
    /* a block that is not given away meanwhile still has all of the piece's ids */
    if (e->n_block + CACHED_BYTES > BLOCK) PAR_TRY(flush(e));
    size_t before = e->n_block;
    PAR_TRY(encode_uncached(e, piece, n));
    size_t n_ids = e->n_block - before;
    if (n_ids > CACHED_IDS) return PAR_OK;
    *c = (cached){.low = low, .high = high, .n = (uint8_t)n, .n_ids = (uint8_t)n_ids};
    memcpy(c->ids, e->block + before, n_ids * sizeof *c->ids);
    return PAR_OK;
}

static bool is_mark(const uint8_t *p, size_t n) {
    return n >= 3 && p[0] == 0xE2 && p[1] == 0x96 && p[2] == 0x81;
}

/* A piece may be cut before each ▁ that follows another character: no merge goes across. */
static par_status encode_piece(void *user, const uint8_t *piece, size_t n) {
    par__encoder *e = user;
    size_t begin = 0;
    if (!e->t->by_words) return encode_word(e, piece, n);
    for (size_t at = 0; at < n;) {
        while (is_mark(piece + at, n - at)) at += 3;
        while (at < n && !is_mark(piece + at, n - at)) at++;
        PAR_TRY(encode_word(e, piece + begin, at - begin));
        begin = at;
    }
    return PAR_OK;
}

/* ---- from a text to pieces ---- */

static par_status take_normalized(void *user, const par__added_token *token, const uint8_t *text,
                                  size_t n) {
    par__encoder *e = user;
    const par_tokenizer *t = e->t;
    bool first = e->first;
    e->first = false;
    if (token) return put(e, token->id);
    return par__splitter_run(&t->splitter, &e->split, text, n, first, encode_piece, e);
}

static par_status take_text(void *user, const par__added_token *token, const uint8_t *text,
                            size_t n) {
    par__encoder *e = user;
    const par_tokenizer *t = e->t;
    if (token) {
        e->first = false;
        return put(e, token->id);
    }
    PAR_TRY(par__normalize(&t->normalizers, e->split.match, text, n, e->buffers, &text, &n));
    return par__added_run(&t->normalized_added, text, n, take_normalized, e);
}

par_status par__encoder_run(par__encoder *e, const uint8_t *bytes, size_t n, par__id_visitor *visit,
                            void *user) {
    const par_tokenizer *t = e->t;
    e->visit = visit;
    e->user = user;
    e->first = true;
    e->n_block = 0;
    PAR_TRY(t->model == PAR__MODEL_TABLE ? put_bytes(e, bytes, n)
                                         : par__added_run(&t->added, bytes, n, take_text, e));
    return flush(e);
}

par_status par__tokenizer_stream(par_tokenizer *t, const uint8_t *bytes, size_t n,
                                 par__id_visitor *visit, void *user) {
    return par__encoder_run(t->encoder, bytes, n, visit, user);
}
