/*
 * What a byte-level BPE is made of: GPT-2's alphabet in which its files spell bytes, the vocabulary with a
 * hash from bytes to ids, and the merges with a hash from pairs to ranks. Hashes are open-addressed and at
 * most half full.
 */
#include "libpar/data/tokenizer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

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

/* FNV-1a, 64 bits, folded. */
static size_t hash_bytes(const uint8_t *p, size_t n) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001b3u;
    return (size_t)(h ^ h >> 32);
}

static size_t table_size(size_t n) {
    size_t size = 16;
    while (size < 2 * n) size *= 2;
    return size;
}

/* The slot of these bytes, or the free one where they belong. */
static int32_t *slot_of(const par__vocab *v, const uint8_t *bytes, size_t n) {
    for (size_t i = hash_bytes(bytes, n);; i++) {
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

static par_status add_word(par__vocab *v, const par__alphabet *a, const char *path, const char *word,
                           int32_t id) {
    uint8_t *at = v->bytes + v->first[id];
    int64_t k = par__alphabet_decode(a, word, strlen(word), at);
    if (k <= 0)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: token %" PRId32 ", \"%.40s\", is %s: not the vocabulary of a byte-level BPE", path, id,
                 word, k == 0 ? "empty" : "not spelt in GPT-2's byte alphabet");
    v->first[id + 1] = v->first[id] + (size_t)k;
    int32_t *slot = slot_of(v, at, (size_t)k);
    if (*slot >= 0)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: tokens %" PRId32 " and %" PRId32 " are the same", path, *slot, id);
    *slot = id;
    return PAR_OK;
}

par_status par__vocab_create(const char *path, const char *const *words, int32_t n, par__vocab *out) {
    par__alphabet alphabet;
    par__vocab v;
    size_t nbytes = 0;
    par_status st = PAR_OK;
    par__alphabet_make(&alphabet);
    for (int32_t i = 0; i < n; i++) nbytes += strlen(words[i]);
    PAR_TRY(allocate(&v, n, nbytes));
    for (int32_t i = 0; st == PAR_OK && i < n; i++) st = add_word(&v, &alphabet, path, words[i], i);
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

int32_t par__merges_rank(const par__merges *m, int32_t left, int32_t right) {
    return merge_slot(m, (uint64_t)left << 32 | (uint32_t)right)->rank;
}

typedef struct {
    const char *path;
    int64_t line;
    const par__vocab *vocab;
    par__alphabet alphabet;
    uint8_t *bytes; /* of the two words of a line, decoded */
} merge_reader;

static par_status find_word(const merge_reader *r, const char *word, size_t n, uint8_t *bytes,
                            size_t *n_bytes, int32_t *id) {
    int64_t k = par__alphabet_decode(&r->alphabet, word, n, bytes);
    *n_bytes = k < 0 ? 0 : (size_t)k;
    *id = k > 0 ? par__vocab_find(r->vocab, bytes, (size_t)k) : -1;
    if (*id < 0)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: line %" PRId64 ": \"%.*s\" is not in the vocabulary", r->path, r->line,
                 (int)(n < 40 ? n : 40), word);
    return PAR_OK;
}

static par_status add_merge(const merge_reader *r, const char *line, size_t n, par__merges *m) {
    const char *space = memchr(line, ' ', n);
    int32_t left = -1, right = -1;
    size_t n_left, n_right;
    if (!space || space == line || space == line + n - 1 ||
        memchr(space + 1, ' ', (size_t)(line + n - space - 1)))
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: line %" PRId64 ": \"%.*s\"; legal: two tokens with one space between them", r->path,
                 r->line, (int)(n < 40 ? n : 40), line);
    PAR_TRY(find_word(r, line, (size_t)(space - line), r->bytes, &n_left, &left));
    PAR_TRY(find_word(r, space + 1, (size_t)(line + n - space - 1), r->bytes + n_left, &n_right, &right));
    int32_t id = par__vocab_find(r->vocab, r->bytes, n_left + n_right);
    if (id < 0)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: line %" PRId64 ": the two together are not in the vocabulary", r->path,
                 r->line);
    uint64_t key = (uint64_t)left << 32 | (uint32_t)right;
    par__merge_slot *slot = merge_slot(m, key);
    if (slot->key == key)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: line %" PRId64 ": the same pair as merge %" PRId32 " before it",
                 r->path, r->line, slot->rank + 1);
    *slot = (par__merge_slot){key, m->n};
    m->id[m->n++] = id;
    return PAR_OK;
}

static par_status read_lines(merge_reader *r, const char *text, size_t n, par__merges *m) {
    for (size_t at = 0; at < n;) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t k = end ? (size_t)(end - text) - at : n - at, shown = k;
        r->line++;
        if (shown > 0 && text[at + shown - 1] == '\r') shown--;
        bool version = r->line == 1 && shown >= 8 && memcmp(text + at, "#version", 8) == 0;
        if (shown > 0 && !version) PAR_TRY(add_merge(r, text + at, shown, m));
        at += k + 1;
    }
    return PAR_OK;
}

par_status par__merges_parse(const char *path, const char *text, size_t n, const par__vocab *vocab,
                             par__merges *out) {
    merge_reader r = {.path = path, .vocab = vocab};
    size_t lines = 1, size;
    for (size_t i = 0; i < n; i++) lines += text[i] == '\n';
    if (lines > INT32_MAX / 4) PAR_FAIL(PAR_ERR_FORMAT, "%s: %zu lines; legal: fewer than 2^29", path, lines);
    size = table_size(lines);
    *out = (par__merges){.mask = size - 1};
    out->id = malloc(lines * sizeof *out->id);
    out->slots = malloc(size * sizeof *out->slots);
    r.bytes = malloc(n + 1);
    par_status st = PAR_OK;
    if (!out->id || !out->slots || !r.bytes)
        st = par_fail(PAR_ERR_MEMORY, "%s: no host memory for %zu lines", path, lines);
    for (size_t i = 0; st == PAR_OK && i < size; i++) out->slots[i] = (par__merge_slot){UINT64_MAX, -1};
    par__alphabet_make(&r.alphabet);
    if (st == PAR_OK) st = read_lines(&r, text, n, out);
    free(r.bytes);
    if (st != PAR_OK) par__merges_destroy(out);
    return st;
}

void par__merges_destroy(par__merges *m) {
    free(m->id);
    free(m->slots);
    *m = (par__merges){0};
}
