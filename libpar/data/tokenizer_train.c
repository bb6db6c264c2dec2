/*
 * Training of a byte-level BPE (Sennrich et al. 2016): distinct pieces with their counts; every
 * pair with its count and the pieces that hold it; each step merges the pair of the highest count.
 * The heap of pairs is lazy: a merge only lowers the counts of pairs that were there before, so an
 * entry whose count has fallen is put back when it comes up, and pairs with the new id, the only
 * ones that rise, are put in after the merge.
 */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/directory.h"
#include "libpar/base/file.h"
#include "libpar/data/tokenizer.h"

enum { LONGEST = 1024, VOCAB_MIN = 257, VOCAB_MAX = 1 << 20 };

/* An array that doubles. */
typedef struct {
    void *data;
    size_t n, max;
} array;

static void *grow(array *a, size_t extra, size_t width) {
    if (a->n + extra > a->max) {
        size_t max = 2 * a->max + extra + 16;
        void *data = realloc(a->data, max * width);
        if (!data) return NULL;
        a->data = data;
        a->max = max;
    }
    a->n += extra;
    return (char *)a->data + (a->n - extra) * width;
}

typedef struct {
    size_t first; /* into ids */
    int32_t n;    /* ids left; at first one per byte */
    int64_t count;
} word;

typedef struct {
    int32_t left, right;
    int64_t count;
    array words;  /* int32_t: pieces in which it occurs or occurred */
    int32_t last; /* the word appended last; -1: none */
} pair;

typedef struct {
    int64_t count;
    int32_t pair;
} candidate;

typedef struct {
    par__splitter splitter;
    par__split_memory split;
    array ids, words, pairs, heap;    /* int32_t, word, pair, candidate */
    int32_t *word_slots, *pair_slots; /* index; -1: free */
    size_t word_mask, pair_mask;
    uint8_t *bytes; /* of every id, one after the other */
    size_t *first;  /* [vocab + 1] into bytes */
    int32_t (*merges)[2];
    int32_t n_merges;
    int32_t of_byte[256]; /* GPT-2's order: printable bytes first */
} trainer;

static par_status no_memory(void) {
    return par_error_set(PAR_ERR_MEMORY, "no host memory to train a tokenizer");
}

static uint64_t mix(uint64_t h) {
    h *= 0x9E3779B97F4A7C15u;
    return h ^ h >> 29;
}

/* ---- pieces ---- */

static bool same_word(const trainer *t, const word *w, const uint8_t *piece, size_t n) {
    const int32_t *ids = (const int32_t *)t->ids.data + w->first;
    if ((size_t)w->n != n) return false;
    for (size_t i = 0; i < n; i++)
        if (ids[i] != t->of_byte[piece[i]]) return false;
    return true;
}

static uint64_t hash_word(const int32_t *ids, size_t n) {
    uint64_t h = n;
    for (size_t i = 0; i < n; i++) h = mix(h ^ (uint32_t)ids[i]);
    return h;
}

static par_status more_word_slots(trainer *t) {
    size_t size = t->word_slots ? 2 * (t->word_mask + 1) : 1024;
    const word *words = t->words.data;
    int32_t *slots = malloc(size * sizeof *slots);
    if (!slots) return no_memory();
    memset(slots, -1, size * sizeof *slots);
    for (size_t k = 0; k < t->words.n; k++) {
        size_t i = (size_t)hash_word((int32_t *)t->ids.data + words[k].first, (size_t)words[k].n);
        while (slots[i & (size - 1)] >= 0) i++;
        slots[i & (size - 1)] = (int32_t)k;
    }
    free(t->word_slots);
    t->word_slots = slots;
    t->word_mask = size - 1;
    return PAR_OK;
}

static par_status count_part(trainer *t, const uint8_t *piece, size_t n) {
    int32_t ids[LONGEST];
    for (size_t i = 0; i < n; i++) ids[i] = t->of_byte[piece[i]];
    if (!t->word_slots || 2 * t->words.n > t->word_mask) PAR_TRY(more_word_slots(t));
    size_t i = (size_t)hash_word(ids, n);
    for (; t->word_slots[i & t->word_mask] >= 0; i++) {
        word *w = (word *)t->words.data + t->word_slots[i & t->word_mask];
        if (!same_word(t, w, piece, n)) continue;
        w->count++;
        return PAR_OK;
    }
    if (t->words.n >= INT32_MAX / 2)
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "more than %d distinct pieces", INT32_MAX / 2);
    word *w = grow(&t->words, 1, sizeof *w);
    int32_t *to = grow(&t->ids, n, sizeof *to);
    if (!w || !to) return no_memory();
    memcpy(to, ids, n * sizeof *to);
    *w = (word){t->ids.n - n, (int32_t)n, 1};
    t->word_slots[i & t->word_mask] = (int32_t)t->words.n - 1;
    return PAR_OK;
}

static par_status count_piece(void *user, const uint8_t *piece, size_t n) {
    for (size_t i = 0; i < n; i += LONGEST)
        PAR_TRY(count_part(user, piece + i, n - i < LONGEST ? n - i : LONGEST));
    return PAR_OK;
}

static par_status count_document(void *user, const uint8_t *text, size_t n) {
    trainer *t = user;
    return par__splitter_run(&t->splitter, &t->split, text, n, true, count_piece, t);
}

/* ---- pairs ---- */

static size_t pair_hash(int32_t left, int32_t right) {
    return (size_t)mix((uint64_t)left << 32 | (uint32_t)right);
}

static par_status more_pair_slots(trainer *t) {
    size_t size = t->pair_slots ? 2 * (t->pair_mask + 1) : 4096;
    const pair *pairs = t->pairs.data;
    int32_t *slots = malloc(size * sizeof *slots);
    if (!slots) return no_memory();
    memset(slots, -1, size * sizeof *slots);
    for (size_t k = 0; k < t->pairs.n; k++) {
        size_t i = pair_hash(pairs[k].left, pairs[k].right);
        while (slots[i & (size - 1)] >= 0) i++;
        slots[i & (size - 1)] = (int32_t)k;
    }
    free(t->pair_slots);
    t->pair_slots = slots;
    t->pair_mask = size - 1;
    return PAR_OK;
}

/* The pair's entry, made if it is not there; NULL without memory. */
static pair *find_pair(trainer *t, int32_t left, int32_t right) {
    if ((!t->pair_slots || 2 * t->pairs.n > t->pair_mask) && more_pair_slots(t) != PAR_OK)
        return NULL;
    size_t i = pair_hash(left, right);
    for (; t->pair_slots[i & t->pair_mask] >= 0; i++) {
        pair *p = (pair *)t->pairs.data + t->pair_slots[i & t->pair_mask];
        if (p->left == left && p->right == right) return p;
    }
    pair *p = grow(&t->pairs, 1, sizeof *p);
    if (!p) return NULL;
    *p = (pair){.left = left, .right = right, .last = -1};
    t->pair_slots[i & t->pair_mask] = (int32_t)t->pairs.n - 1;
    return p;
}

/* Add sign × count of the word to all of its pairs; with sign 1 the word is listed with pairs that
 * hold `id`
 * (-1: all). */
static par_status count_pairs(trainer *t, int32_t index, int sign, int32_t id) {
    const word *w = (const word *)t->words.data + index;
    const int32_t *ids = (const int32_t *)t->ids.data + w->first;
    for (int32_t i = 0; i + 1 < w->n; i++) {
        pair *p = find_pair(t, ids[i], ids[i + 1]);
        if (!p) return no_memory();
        p->count += sign * w->count;
        if (sign < 0 || p->last == index || (id >= 0 && ids[i] != id && ids[i + 1] != id)) continue;
        int32_t *place = grow(&p->words, 1, sizeof *place);
        if (!place) return no_memory();
        *place = p->last = index;
    }
    return PAR_OK;
}

/* ---- the heap ---- */

static bool better(const trainer *t, candidate a, candidate b) {
    const pair *x = (const pair *)t->pairs.data + a.pair, *y = (const pair *)t->pairs.data + b.pair;
    if (a.count != b.count) return a.count > b.count;
    return x->left != y->left ? x->left < y->left : x->right < y->right;
}

static par_status push(trainer *t, int32_t index) {
    candidate c = {((const pair *)t->pairs.data)[index].count, index};
    if (c.count < 2) return PAR_OK; /* it never rises again */
    if (!grow(&t->heap, 1, sizeof c)) return no_memory();
    candidate *heap = t->heap.data;
    size_t i = t->heap.n - 1;
    for (; i > 0 && better(t, c, heap[(i - 1) / 2]); i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = c;
    return PAR_OK;
}

static candidate pop(trainer *t) {
    candidate *heap = t->heap.data, top = heap[0], last = heap[--t->heap.n];
    size_t i = 0, child;
    for (; (child = 2 * i + 1) < t->heap.n; i = child) {
        if (child + 1 < t->heap.n && better(t, heap[child + 1], heap[child])) child++;
        if (!better(t, heap[child], last)) break;
        heap[i] = heap[child];
    }
    heap[i] = last;
    return top;
}

/* ---- merging ---- */

static par_status merge_word(trainer *t, int32_t index, int32_t left, int32_t right, int32_t id) {
    word *w = (word *)t->words.data + index;
    int32_t *ids = (int32_t *)t->ids.data + w->first, n = 0;
    bool there = false;
    for (int32_t i = 0; i + 1 < w->n && !there; i++) there = ids[i] == left && ids[i + 1] == right;
    if (!there) return PAR_OK;
    PAR_TRY(count_pairs(t, index, -1, -1));
    for (int32_t i = 0; i < w->n; n++) {
        bool both = i + 1 < w->n && ids[i] == left && ids[i + 1] == right;
        ids[n] = both ? id : ids[i];
        i += both ? 2 : 1;
    }
    w->n = n;
    return count_pairs(t, index, 1, id);
}

static par_status merge_pair(trainer *t, int32_t index) {
    pair *p = (pair *)t->pairs.data + index;
    int32_t left = p->left, right = p->right, id = 256 + t->n_merges;
    array words = p->words;
    par_status st = PAR_OK;
    p->words = (array){0}; /* pairs may move while entries are added */
    size_t n_pairs = t->pairs.n;
    for (size_t i = 0; st == PAR_OK && i < words.n; i++)
        st = merge_word(t, ((const int32_t *)words.data)[i], left, right, id);
    free(words.data);
    for (size_t i = n_pairs; st == PAR_OK && i < t->pairs.n; i++) st = push(t, (int32_t)i);
    if (st != PAR_OK) return st;
    size_t at = t->first[id], n_left = t->first[left + 1] - t->first[left],
           n_right = t->first[right + 1] - t->first[right];
    memcpy(t->bytes + at, t->bytes + t->first[left], n_left);
    memcpy(t->bytes + at + n_left, t->bytes + t->first[right], n_right);
    t->first[id + 1] = at + n_left + n_right;
    t->merges[t->n_merges][0] = left;
    t->merges[t->n_merges++][1] = right;
    return PAR_OK;
}

static par_status merge_best(trainer *t, int32_t n_merges) {
    for (size_t i = 0; i < t->words.n; i++) PAR_TRY(count_pairs(t, (int32_t)i, 1, -1));
    for (size_t i = 0; i < t->pairs.n; i++) PAR_TRY(push(t, (int32_t)i));
    while (t->n_merges < n_merges && t->heap.n > 0) {
        candidate c = pop(t);
        par_status st = ((const pair *)t->pairs.data)[c.pair].count == c.count
                            ? merge_pair(t, c.pair)
                            : push(t, c.pair);
        if (st != PAR_OK) return st;
    }
    return PAR_OK;
}

/* ---- files ---- */

static size_t spell(const trainer *t, const par__alphabet *a, int32_t id, char *out) {
    return par__alphabet_encode(a, t->bytes + t->first[id], t->first[id + 1] - t->first[id], out);
}

static par_status write_merges(const trainer *t, const par__alphabet *a, par__writer *file,
                               char *line) {
    static const char version[] = "#version: 0.2\n";
    PAR_TRY(par__writer_write(file, version, sizeof version - 1));
    for (int32_t i = 0; i < t->n_merges; i++) {
        size_t n = spell(t, a, t->merges[i][0], line);
        line[n++] = ' ';
        n += spell(t, a, t->merges[i][1], line + n);
        line[n++] = '\n';
        PAR_TRY(par__writer_write(file, line, n));
    }
    return PAR_OK;
}

/* The alphabet has no control characters: " and \ are all that JSON wants escaped. */
static par_status write_vocab(const trainer *t, const par__alphabet *a, par__writer *file,
                              char *line) {
    static const char end[] = "\"" PAR__END_OF_TEXT "\": ";
    for (int32_t id = 0; id < 256 + t->n_merges; id++) {
        size_t n_word = spell(t, a, id, line), n = n_word;
        line[n++] = id ? ' ' : '{';
        line[n++] = '"';
        for (size_t i = 0; i < n_word; i++) {
            if (line[i] == '"' || line[i] == '\\') line[n++] = '\\';
            line[n++] = line[i];
        }
        n += (size_t)snprintf(line + n, 20, "\": %" PRId32 ",\n", id);
        PAR_TRY(par__writer_write(file, line + n_word, n - n_word));
    }
    PAR_TRY(par__writer_write(file, " ", 1));
    PAR_TRY(par__writer_write(file, end, sizeof end - 1));
    int n = snprintf(line, 20, "%d}\n", 256 + t->n_merges);
    return par__writer_write(file, line, (size_t)n);
}

typedef par_status token_writer(const trainer *t, const par__alphabet *a, par__writer *file,
                                char *line);

static par_status write_file(const trainer *t, const char *directory, const char *name,
                             token_writer *write) {
    /* A token has at most LONGEST bytes of two characters, each escaped once more; a line at most
     * two tokens. */
    char path[4096], line[8 * LONGEST + 64];
    par__alphabet alphabet;
    par__writer file;
    if (snprintf(path, sizeof path, "%s/%s", directory, name) >= (int)sizeof path)
        PAR_FAIL(PAR_ERR_ARG, "%s: name is longer than %zu bytes", directory, sizeof path - 16);
    par__alphabet_make(&alphabet);
    PAR_TRY(par__writer_open(path, &file));
    par_status st = write(t, &alphabet, &file, line);
    if (st == PAR_OK) return par__writer_commit(&file);
    par__writer_abort(&file);
    return st;
}

/* ---- the whole ---- */

static par_status prepare(trainer *t, int64_t vocab) {
    par__alphabet a;
    int32_t id = 0;
    t->first = calloc((size_t)vocab + 1, sizeof *t->first);
    t->bytes = malloc((size_t)vocab * LONGEST);
    t->merges = malloc((size_t)vocab * sizeof *t->merges);
    if (!t->first || !t->bytes || !t->merges) return no_memory();
    par__alphabet_make(&a);
    for (int code = 0; code < PAR__ALPHABET_CODES; code++) {
        if (a.byte[code] < 0) continue;
        t->of_byte[a.byte[code]] = id;
        t->bytes[id] = (uint8_t)a.byte[code];
        id++;
        t->first[id] = (size_t)id;
    }
    t->splitter.list[t->splitter.n++] = (par__stage){PAR__STAGE_SCAN, .scan = PAR__SPLIT_GPT2};
    return par__split_memory_create(&t->split);
}

par_status par_tokenizer_train(const par_corpus *corpus, int64_t vocab, const char *directory,
                               int64_t *made) {
    trainer t = {0};
    PAR_REQUIRE(corpus && corpus->n_files > 0 && corpus->paths && directory);
    if (vocab < VOCAB_MIN || vocab > VOCAB_MAX)
        PAR_FAIL(PAR_ERR_ARG, "a vocabulary of %" PRId64 "; legal: %d (256 bytes and %s) to %d",
                 vocab, VOCAB_MIN, PAR__END_OF_TEXT, VOCAB_MAX);
    par_status st = prepare(&t, vocab);
    if (st == PAR_OK) st = par__corpus_run(corpus, count_document, &t);
    if (st == PAR_OK) st = merge_best(&t, (int32_t)vocab - VOCAB_MIN);
    /* The vocabulary last: without it there is no tokenizer, and with merges of another one opening
     * it fails. */
    if (st == PAR_OK) st = par__make_directory(directory);
    if (st == PAR_OK) st = write_file(&t, directory, "merges.txt", write_merges);
    if (st == PAR_OK) st = write_file(&t, directory, "vocab.json", write_vocab);
    if (st == PAR_OK && made) *made = VOCAB_MIN + t.n_merges;
    for (size_t i = 0; i < t.pairs.n; i++) free(((pair *)t.pairs.data)[i].words.data);
    free(t.ids.data);
    free(t.words.data);
    free(t.pairs.data);
    free(t.heap.data);
    free(t.word_slots);
    free(t.pair_slots);
    free(t.bytes);
    free(t.first);
    free(t.merges);
    par__splitter_destroy(&t.splitter);
    par__split_memory_destroy(&t.split);
    return st;
}
