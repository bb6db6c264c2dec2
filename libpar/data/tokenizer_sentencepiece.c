/*
 * tokenizer.model of SentencePiece: a protobuf message with pieces, their scores and types, and how
 * texts are normalized. The reader knows the wire format (varints, fixed 32 and 64 bits, lengths)
 * and the fields that give ids. In a BPE the score of what two pieces become is the rank of their
 * merge.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/data/tokenizer.h"

/* ---- protobuf ---- */

typedef struct {
    const uint8_t *p;
    size_t n;
} span;

typedef struct {
    uint64_t number; /* of the field */
    int wire;        /* 0 varint, 1 64 bits, 2 bytes, 5 32 bits */
    uint64_t value;  /* varint, bits */
    span bytes;
} field;

static bool read_varint(span *s, uint64_t *out) {
    *out = 0;
    for (int shift = 0; shift < 64 && s->n > 0; shift += 7) {
        uint8_t byte = *s->p++;
        s->n--;
        *out |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) return true;
    }
    return false;
}

static bool read_bits(span *s, size_t n, uint64_t *out) {
    if (s->n < n) return false;
    *out = 0;
    for (size_t i = 0; i < n; i++) *out |= (uint64_t)s->p[i] << 8 * i;
    s->p += n;
    s->n -= n;
    return true;
}

/* 1: the next field; 0: the message ends; -1: it is malformed. */
static int next_field(span *s, field *f) {
    uint64_t tag, length;
    if (s->n == 0) return 0;
    if (!read_varint(s, &tag) || tag >> 3 == 0) return -1;
    *f = (field){.number = tag >> 3, .wire = (int)(tag & 7)};
    if (f->wire == 0) return read_varint(s, &f->value) ? 1 : -1;
    if (f->wire == 1) return read_bits(s, 8, &f->value) ? 1 : -1;
    if (f->wire == 5) return read_bits(s, 4, &f->value) ? 1 : -1;
    if (f->wire != 2 || !read_varint(s, &length) || length > s->n) return -1;
    f->bytes = (span){s->p, (size_t)length};
    s->p += length;
    s->n -= (size_t)length;
    return 1;
}

/* ---- the model ---- */

enum { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };
enum { UNIGRAM = 1, BPE };

typedef struct {
    const char *path;
    char **words; /* [n] owned */
    float *scores;
    uint8_t *types;
    int32_t n;
    int64_t kind, begin, end, unknown; /* UNIGRAM or BPE; ids, -1: none */
    bool byte_fallback, suffix, dummy_prefix, remove_spaces, escape_spaces;
    span charsmap;
} model;

static par_status malformed(const model *m, const char *what) {
    return par_error_set(PAR_ERR_FORMAT,
                         "%s: is neither JSON nor a model of SentencePiece: malformed %s", m->path,
                         what);
}

static par_status read_piece(model *m, span s) {
    field f;
    int more;
    span word = {NULL, 0};
    uint32_t bits = 0;
    uint64_t type = NORMAL;
    while ((more = next_field(&s, &f)) > 0) {
        if (f.number == 1 && f.wire == 2) word = f.bytes;
        if (f.number == 2 && f.wire == 5) bits = (uint32_t)f.value;
        if (f.number == 3 && f.wire == 0) type = f.value;
    }
    if (more < 0 || word.n == 0 || memchr(word.p, 0, word.n) || type < NORMAL || type > BYTE)
        return malformed(m, "piece");
    if (type == UNUSED)
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s: piece %" PRId32 ", \"%.*s\", is of the type UNUSED",
                 m->path, m->n, (int)(word.n < 40 ? word.n : 40), (const char *)word.p);
    char *copy = malloc(word.n + 1);
    if (!copy) PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for its pieces", m->path);
    memcpy(copy, word.p, word.n);
    copy[word.n] = 0;
    memcpy(&m->scores[m->n], &bits, 4);
    m->types[m->n] = (uint8_t)type;
    m->words[m->n++] = copy;
    return isfinite(m->scores[m->n - 1]) ? PAR_OK : malformed(m, "score");
}

static par_status read_trainer(model *m, span s) {
    field f;
    int more;
    while ((more = next_field(&s, &f)) > 0) {
        if (f.wire != 0) continue;
        if (f.number == 3) m->kind = (int64_t)f.value;
        if (f.number == 24) m->suffix = f.value;
        if (f.number == 35) m->byte_fallback = f.value;
        if (f.number == 40) m->unknown = (int32_t)f.value;
        if (f.number == 41) m->begin = (int32_t)f.value;
        if (f.number == 42) m->end = (int32_t)f.value;
    }
    return more < 0 ? malformed(m, "trainer's specification") : PAR_OK;
}

static par_status read_normalizer(model *m, span s) {
    field f;
    int more;
    while ((more = next_field(&s, &f)) > 0) {
        if (f.number == 2 && f.wire == 2) m->charsmap = f.bytes;
        if (f.number == 3 && f.wire == 0) m->dummy_prefix = f.value;
        if (f.number == 4 && f.wire == 0) m->remove_spaces = f.value;
        if (f.number == 5 && f.wire == 0) m->escape_spaces = f.value;
    }
    return more < 0 ? malformed(m, "normalizer") : PAR_OK;
}

static par_status read_fields(model *m, span s) {
    field f;
    int more;
    while ((more = next_field(&s, &f)) > 0) {
        if (f.wire != 2) continue;
        if (f.number == 1) PAR_TRY(read_piece(m, f.bytes));
        if (f.number == 2) PAR_TRY(read_trainer(m, f.bytes));
        if (f.number == 3) PAR_TRY(read_normalizer(m, f.bytes));
    }
    if (more < 0) return malformed(m, "field");
    if (m->n < 1) return malformed(m, "list of pieces");
    if (m->kind != UNIGRAM && m->kind != BPE)
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "%s: a model of SentencePiece of type %" PRId64 "; legal: 1 (unigram), 2 (BPE)",
                 m->path, m->kind);
    return PAR_OK;
}

static bool is_found(const model *m, int32_t id) {
    return m->types[id] == NORMAL || m->types[id] == USER_DEFINED;
}

/* ---- merges ---- */

typedef struct {
    int32_t id;
    float score;
} scored;

static int by_score(const void *a, const void *b) {
    const scored *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Every cut of a piece into two pieces is a merge that makes it; count alone, or put them. */
static size_t each_cut(const model *m, const par__vocab *v, int32_t id, int32_t rank,
                       par__merges *out) {
    const uint8_t *p = v->bytes + v->first[id];
    size_t n = v->first[id + 1] - v->first[id], count = 0;
    for (size_t k = 1; k < n; k++) {
        if ((p[k] & 0xC0) == 0x80) continue;
        int32_t left = par__vocab_find(v, p, k), right = par__vocab_find(v, p + k, n - k);
        if (left < 0 || right < 0 || !is_found(m, left) || !is_found(m, right)) continue;
        if (out) par__merges_put(out, left, right, id, &rank);
        count++;
    }
    return count;
}

static par_status make_merges(const model *m, par_tokenizer *t) {
    scored *order = malloc((size_t)m->n * sizeof *order);
    size_t count = 0;
    int32_t n = 0;
    if (!order) PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for its merges", m->path);
    for (int32_t id = 0; id < m->n; id++) {
        if (!is_found(m, id)) continue;
        order[n++] = (scored){id, m->scores[id]};
        count += each_cut(m, &t->vocab, id, 0, NULL);
    }
    qsort(order, (size_t)n, sizeof *order, by_score);
    par_status st = par__merges_allocate(count, &t->merges);
    for (int32_t i = 0, rank = 0; st == PAR_OK && i < n; i++) { /* equal scores: leftmost first */
        if (i > 0 && order[i].score != order[i - 1].score) rank = i;
        each_cut(m, &t->vocab, order[i].id, rank, &t->merges);
    }
    free(order);
    return st;
}

/* ---- the tokenizer ---- */

static par_status make_unigram(const model *m, par_tokenizer *t) {
    par__unigram *u = &t->unigram;
    double low = 0;
    size_t n = (size_t)m->n;
    u->scores = calloc(n, sizeof *u->scores);
    u->skipped = calloc(n, sizeof *u->skipped);
    u->defined = calloc(n, sizeof *u->defined);
    if (!u->scores || !u->skipped || !u->defined)
        PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for its pieces", m->path);
    bool any = false;
    for (int32_t id = 0; id < m->n; id++) {
        if (m->types[id] != NORMAL) continue;
        if (!any || m->scores[id] < low) low = m->scores[id];
        any = true;
    }
    for (int32_t id = 0; id < m->n; id++) {
        u->skipped[id] = !is_found(m, id);
        u->defined[id] = m->types[id] == USER_DEFINED;
        u->scores[id] = m->scores[id];
    }
    u->unknown = (float)low - 10.0f;
    u->single = true;
    return par__unigram_build(u, &t->vocab);
}

static int32_t legal_id(const model *m, int64_t id) {
    return id >= 0 && id < m->n ? (int32_t)id : -1;
}

static par_status make(const model *m, par_tokenizer *t) {
    bool *plain = malloc((size_t)m->n);
    if (!plain) PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for its pieces", m->path);
    for (int32_t id = 0; id < m->n; id++) plain[id] = true;
    t->model = m->kind == BPE ? PAR__MODEL_CHARACTERS : PAR__MODEL_UNIGRAM;
    par_status st =
        par__vocab_create(m->path, (const char *const *)m->words, plain, m->n, &t->vocab);
    free(plain);
    PAR_TRY(st);
    for (int32_t id = 0; id < m->n; id++) {
        if (m->types[id] != USER_DEFINED) continue;
        par__added_token token = {.id = id, .text = m->words[id], .n = strlen(m->words[id])};
        PAR_TRY(par__added_put(&t->symbols, &token));
    }
    par__normalizer *s = &t->normalizers.list[t->normalizers.n++];
    *s = (par__normalizer){.kind = PAR__NORMALIZE_SENTENCEPIECE,
                           .dummy_prefix = m->dummy_prefix,
                           .remove_spaces = m->remove_spaces,
                           .escape_spaces = m->escape_spaces,
                           .suffix = m->suffix,
                           .symbols = &t->symbols};
    if (m->charsmap.n > 0)
        PAR_TRY(par__charsmap_read(m->path, m->charsmap.p, m->charsmap.n, &s->map));
    PAR_TRY(m->kind == BPE ? make_merges(m, t) : make_unigram(m, t));
    if (m->byte_fallback && !par__find_byte_tokens(t))
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: falls back to bytes, and not all of <0x00> to <0xFF> are there", m->path);
    t->unknown = legal_id(m, m->unknown);
    t->fuse_unknown = true;
    t->spaces = m->escape_spaces;
    t->strip_first = m->dummy_prefix && !m->suffix;
    t->end = legal_id(m, m->end);
    if (legal_id(m, m->begin) >= 0) t->frame.begin[t->frame.n_begin++] = legal_id(m, m->begin);
    if (m->kind == BPE) par__find_words(t);
    return par__tokenizer_finish(t);
}

par_status par__sentencepiece_parse(const char *path, const uint8_t *bytes, size_t n,
                                    par_tokenizer **out) {
    span all = {bytes, n}, rest = all;
    field f;
    int64_t max = 0; /* pieces */
    model m = {.path = path,
               .kind = UNIGRAM,
               .begin = 1,
               .end = 2, /* defaults of the fields */
               .dummy_prefix = true,
               .remove_spaces = true,
               .escape_spaces = true};
    par_tokenizer *t = NULL;
    while (next_field(&rest, &f) > 0) max += f.wire == 2 && f.number == 1;
    if (max > INT32_MAX / 4) return malformed(&m, "number of pieces");
    m.words = calloc((size_t)max + 1, sizeof *m.words);
    m.scores = calloc((size_t)max + 1, sizeof *m.scores);
    m.types = calloc((size_t)max + 1, sizeof *m.types);
    par_status st = m.words && m.scores && m.types
                        ? PAR_OK
                        : par_error_set(PAR_ERR_MEMORY, "%s: no host memory for its pieces", path);
    if (st == PAR_OK) st = read_fields(&m, all);
    if (st == PAR_OK) st = par__tokenizer_create(&t);
    if (st == PAR_OK) st = make(&m, t);
    for (int32_t i = 0; i < m.n; i++) free(m.words[i]);
    free(m.words);
    free(m.scores);
    free(m.types);
    if (st == PAR_OK)
        *out = t;
    else
        par__tokenizer_free(&t);
    return st;
}
