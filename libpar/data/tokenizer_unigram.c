/*
 * Unigram models (Kudo 2018): a text is cut into the pieces whose scores, which are logarithms of
 * probabilities, have the highest sum. Best paths to each byte are found from left to right
 * (Viterbi); a trie gives the pieces that begin at a byte. Of equal sums the path that was found
 * first stays, which is the one with the longer last piece.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/utf8.h"
#include "libpar/data/tokenizer.h"

static size_t slot_of(const par__unigram *u, int32_t node, uint8_t byte) {
    uint64_t key = ((uint64_t)(uint32_t)node << 8 | byte) + 1;
    size_t i = (size_t)((key * 0x9E3779B97F4A7C15u) >> 32);
    while (u->keys[i & u->mask] != 0 && u->keys[i & u->mask] != key) i++;
    return i & u->mask;
}

par_status par__unigram_build(par__unigram *u, const par__vocab *v) {
    size_t max = v->first[v->n] + 1, size = 16; /* nodes */
    while (size < 2 * max) size *= 2;
    u->mask = size - 1;
    u->keys = calloc(size, sizeof *u->keys);
    u->next = malloc(size * sizeof *u->next);
    u->ids = malloc(max * sizeof *u->ids);
    if (!u->keys || !u->next || !u->ids)
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a trie of %zu nodes", max);
    u->n_nodes = 1;
    u->ids[0] = -1;
    for (int32_t id = 0; id < v->n; id++) {
        int32_t node = 0;
        for (size_t i = v->first[id]; i < v->first[id + 1] && !u->skipped[id]; i++) {
            size_t slot = slot_of(u, node, v->bytes[i]);
            if (u->keys[slot] == 0) {
                u->keys[slot] = ((uint64_t)(uint32_t)node << 8 | v->bytes[i]) + 1;
                u->ids[u->n_nodes] = -1;
                u->next[slot] = u->n_nodes++;
            }
            node = u->next[slot];
        }
        if (!u->skipped[id]) u->ids[node] = id;
    }
    return PAR_OK;
}

void par__unigram_destroy(par__unigram *u) {
    free(u->scores);
    free(u->skipped);
    free(u->defined);
    free(u->keys);
    free(u->next);
    free(u->ids);
    *u = (par__unigram){0};
}

static void relax(const par__unigram *u, par__unigram_cell *cells, size_t begin, size_t end,
                  int32_t id, double score) {
    double sum = cells[begin].score + score;
    if (u->single) sum = (float)sum;
    if (cells[end].begin >= 0 && sum <= cells[end].score) return;
    cells[end] = (par__unigram_cell){sum, (int32_t)begin, id};
}

/* All pieces that begin at a byte, and the unknown one if none is a single character. */
static void relax_from(const par__unigram *u, par__unigram_cell *cells, const uint8_t *text,
                       size_t n, size_t at) {
    size_t k = par__utf8_length(text + at, n - at);
    bool has_single = false;
    int32_t node = 0;
    if (k == 0) k = 1;
    for (size_t i = at; i < n; i++) {
        size_t slot = slot_of(u, node, text[i]);
        if (u->keys[slot] == 0) break; /* no piece goes on with this byte */
        node = u->next[slot];
        int32_t id = u->ids[node];
        if (id < 0) continue;
        size_t length = i + 1 - at;
        /* a user-defined piece is better than any cut of it, whose scores are negative */
        bool defined = u->defined && u->defined[id];
        double score = defined ? (double)((float)length * 0.1f - 0.1f) : u->scores[id];
        relax(u, cells, at, i + 1, id, score);
        has_single |= length == k;
    }
    if (!has_single) relax(u, cells, at, at + k, -1, u->unknown);
}

par_status par__unigram_run(const par__unigram *u, par__unigram_memory *m, const uint8_t *text,
                            size_t n) {
    if (n >= INT32_MAX / 2)
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "a piece of %zu bytes without a break; legal: up to %d", n,
                 INT32_MAX / 2);
    if (n >= m->max) {
        par__unigram_cell *cells = realloc(m->cells, (n + n / 2 + 64) * sizeof *cells);
        if (!cells) PAR_FAIL(PAR_ERR_MEMORY, "no host memory to cut a piece of %zu bytes", n);
        m->cells = cells;
        m->max = n + n / 2 + 64;
    }
    for (size_t i = 0; i <= n; i++) m->cells[i] = (par__unigram_cell){0, -1, -1};
    for (size_t at = 0, k; at < n; at += k) {
        relax_from(u, m->cells, text, n, at);
        k = par__utf8_length(text + at, n - at);
        if (k == 0) k = 1;
    }
    return PAR_OK;
}
