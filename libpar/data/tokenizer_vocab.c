/*
 * What a byte-level BPE is made of: GPT-2's alphabet in which its files spell bytes, the vocabulary
 * with a hash from bytes to ids, and the merges with a hash from pairs to ranks. Hashes are
 * open-addressed and at most half full.
 */
#include "libpar/data/tokenizer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/hash.h"

void par__alphabet_make(par__alphabet *a) {
    uint16_t next = 256;
    memset(a->byte, -1, sizeof a->byte);
    for (int b = 0; b < 256; b++) {
        bool printable = (b >= 33 && b <= 126) || (b >= 161 && b != 173);
        a->code[b] = printable ? (uint16_t)b : next++;
        a->byte[a->code[b]] = (int16_t)b;
    }
}

int64_t par__alphabet_decode(const par__alphabet *a, const char *word, size_t n, uint8_t *out) {
    const uint8_t *p = (const uint8_t *)word;
    int64_t count = 0;
    for (size_t i = 0; i < n; count++) {
        unsigned code = p[i++];
        if (code >= 0x80) { /* all of the alphabet is below U+0800: two bytes */
            if (code < 0xC2 || code > 0xDF || i == n || (p[i] & 0xC0) != 0x80) return -1;
            code = (code & 0x1F) << 6 | (p[i++] & 0x3F);
        }
        if (code >= PAR__ALPHABET_CODES || a->byte[code] < 0) return -1;
        out[count] = (uint8_t)a->byte[code];
    }
    return count;
}

size_t par__alphabet_encode(const par__alphabet *a, const uint8_t *bytes, size_t n, char *out) {
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned code = a->code[bytes[i]];
        if (code < 0x80) {
            out[k++] = (char)code;
        } else {
            out[k++] = (char)(0xC0 | code >> 6);
            out[k++] = (char)(0x80 | (code & 0x3F));
        }
    }
    return k;
}

static size_t table_size(size_t n) {
    size_t size = 16;
    while (size < 2 * n) size *= 2;
    return size;
}

/* The slot of these bytes, or the free one where they belong. */
static int32_t *slot_of(const par__vocab *v, const uint8_t *bytes, size_t n) {
    uint64_t hash = par__fnv64(PAR__FNV64, bytes, n);
    for (size_t i = (size_t)(hash ^ hash >> 32);; i++) {
        int32_t *slot = &v->slots[i & v->mask], id = *slot;
        if (id < 0) return slot;
        if (v->first[id + 1] - v->first[id] == n && memcmp(v->bytes + v->first[id], bytes, n) == 0)
            return slot;
    }
}

int32_t par__vocab_find(const par__vocab *v, const uint8_t *bytes, size_t n) {
    return n == 0 ? -1 : *slot_of(v, bytes, n);
}

static par_status allocate(par__vocab *v, int32_t n, size_t nbytes) {
    size_t size = table_size((size_t)n);
    *v = (par__vocab){.n = n, .mask = size - 1};
    v->bytes = malloc(nbytes + 1);
    v->first = calloc((size_t)n + 1, sizeof *v->first);
    v->slots = malloc(size * sizeof *v->slots);
    if (!v->bytes || !v->first || !v->slots) {
        par__vocab_destroy(v);
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a vocabulary of %" PRId32, n);
    }
    memset(v->slots, -1, size * sizeof *v->slots);
    return PAR_OK;
}

/* a: NULL: the word is as it is */
static par_status add_word(par__vocab *v, const par__alphabet *a, const char *path,
                           const char *word, int32_t id) {
    uint8_t *at = v->bytes + v->first[id];
    size_t n = strlen(word);
    int64_t k = a ? par__alphabet_decode(a, word, n, at) : (int64_t)n;
    if (!a) memcpy(at, word, n);
    if (k <= 0)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: token %" PRId32 ", \"%.40s\", is %s: not the vocabulary of a byte-level BPE",
                 path, id, word, k == 0 ? "empty" : "not spelt in GPT-2's byte alphabet");
    v->first[id + 1] = v->first[id] + (size_t)k;
    return PAR_OK;
}

/* added: another token may have the same bytes, which is found by them; this one is found in texts
 * by itself. */
static par_status index_word(par__vocab *v, const char *path, int32_t id, bool added) {
    int32_t *slot = slot_of(v, v->bytes + v->first[id], v->first[id + 1] - v->first[id]);
    if (*slot >= 0 && !added)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: tokens %" PRId32 " and %" PRId32 " are the same", path, *slot,
                 id);
    if (*slot < 0) *slot = id;
    return PAR_OK;
}

par_status par__vocab_create(const char *path, const char *const *words, const bool *plain,
                             int32_t n, par__vocab *out) {
    par__alphabet alphabet;
    par__vocab v;
    size_t nbytes = 0;
    par_status st = PAR_OK;
    par__alphabet_make(&alphabet);
    for (int32_t i = 0; i < n; i++) nbytes += strlen(words[i]);
    PAR_TRY(allocate(&v, n, nbytes));
    for (int32_t i = 0; st == PAR_OK && i < n; i++)
        st = add_word(&v, plain[i] ? NULL : &alphabet, path, words[i], i);
    for (int added = 0; added < 2; added++)
        for (int32_t i = 0; st == PAR_OK && i < n; i++)
            if (plain[i] == added) st = index_word(&v, path, i, added);
    if (st == PAR_OK)
        *out = v;
    else
        par__vocab_destroy(&v);
    return st;
}

par_status par__vocab_bytes(const uint8_t *bytes, int32_t n, par__vocab *out) {
    PAR_TRY(allocate(out, n, (size_t)n));
    memcpy(out->bytes, bytes, (size_t)n);
    for (int32_t i = 0; i < n; i++) out->first[i + 1] = (size_t)i + 1;
    for (int32_t i = 0; i < n; i++) *slot_of(out, bytes + i, 1) = i;
    return PAR_OK;
}

void par__vocab_destroy(par__vocab *v) {
    free(v->bytes);
    free(v->first);
    free(v->slots);
    *v = (par__vocab){0};
}

/* ---- merges ---- */

static par__merge_slot *merge_slot(const par__merges *m, uint64_t key) {
    uint64_t h = key * 0x9E3779B97F4A7C15u;
    size_t i = (size_t)(h >> 32);
    while (m->slots[i & m->mask].key != key && m->slots[i & m->mask].key != UINT64_MAX) i++;
    return &m->slots[i & m->mask];
}

const par__merge_slot *par__merges_find(const par__merges *m, int32_t left, int32_t right) {
    return merge_slot(m, (uint64_t)left << 32 | (uint32_t)right);
}

par_status par__merges_allocate(size_t max, par__merges *out) {
    size_t size = table_size(max);
    *out = (par__merges){.mask = size - 1};
    out->slots = malloc(size * sizeof *out->slots);
    if (!out->slots) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %zu merges", max);
    for (size_t i = 0; i < size; i++) out->slots[i] = (par__merge_slot){UINT64_MAX, -1, -1};
    return PAR_OK;
}

bool par__merges_put(par__merges *m, int32_t left, int32_t right, int32_t id, int32_t *rank) {
    uint64_t key = (uint64_t)left << 32 | (uint32_t)right;
    par__merge_slot *slot = merge_slot(m, key);
    if (slot->key == key) {
        *rank = slot->rank;
        return false;
    }
    *slot = (par__merge_slot){key, *rank, id};
    m->n++;
    return true;
}

static par_status find_word(const par__merge_reader *r, const char *word, size_t n, uint8_t *bytes,
                            size_t *n_bytes, int32_t *id) {
    int64_t k = r->plain ? (int64_t)n : par__alphabet_decode(&r->alphabet, word, n, bytes);
    if (r->plain) memcpy(bytes, word, n);
    *n_bytes = k < 0 ? 0 : (size_t)k;
    *id = k > 0 ? par__vocab_find(r->vocab, bytes, (size_t)k) : -1;
    if (*id < 0)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: %s %" PRId64 ": \"%.*s\" is not in the vocabulary", r->path,
                 r->unit, r->at, (int)(n < 40 ? n : 40), word);
    return PAR_OK;
}

par_status par__merges_add(const par__merge_reader *r, const char *left_word, size_t n_left_word,
                           const char *right_word, size_t n_right_word, par__merges *m) {
    int32_t left = -1, right = -1;
    size_t n_left, n_right;
    PAR_TRY(find_word(r, left_word, n_left_word, r->bytes, &n_left, &left));
    PAR_TRY(find_word(r, right_word, n_right_word, r->bytes + n_left, &n_right, &right));
    int32_t id = par__vocab_find(r->vocab, r->bytes, n_left + n_right);
    if (id < 0)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: %s %" PRId64 ": the two together are not in the vocabulary",
                 r->path, r->unit, r->at);
    int32_t rank = m->n;
    if (!par__merges_put(m, left, right, id, &rank))
        PAR_FAIL(PAR_ERR_FORMAT, "%s: %s %" PRId64 ": the same pair as merge %" PRId32 " before it",
                 r->path, r->unit, r->at, rank + 1);
    return PAR_OK;
}

par_status par__merges_add_line(const par__merge_reader *r, const char *line, size_t n,
                                par__merges *m) {
    const char *space = memchr(line, ' ', n), *end = line + n;
    if (!space || space == line || space == end - 1 ||
        memchr(space + 1, ' ', (size_t)(end - space - 1)))
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: %s %" PRId64 ": \"%.*s\"; legal: two tokens with one space between them",
                 r->path, r->unit, r->at, (int)(n < 40 ? n : 40), line);
    return par__merges_add(r, line, (size_t)(space - line), space + 1, (size_t)(end - space - 1),
                           m);
}

par_status par__merges_begin(par__merge_reader *r, size_t max, size_t nbytes, par__merges *out) {
    if (max > INT32_MAX / 4)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: %zu %ss; legal: fewer than 2^29", r->path, max, r->unit);
    PAR_TRY(par__merges_allocate(max, out));
    r->bytes = malloc(nbytes + 1);
    if (!r->bytes) {
        par__merges_destroy(out);
        PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for %zu merges", r->path, max);
    }
    par__alphabet_make(&r->alphabet);
    return PAR_OK;
}

void par__merges_end(par__merge_reader *r) {
    free(r->bytes);
    r->bytes = NULL;
}

void par__merges_destroy(par__merges *m) {
    free(m->slots);
    *m = (par__merges){0};
}
