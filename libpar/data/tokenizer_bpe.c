/*
 * Byte-pair merging of one piece: the lowest rank first, the leftmost among equals (Sennrich et al.
 * 2016). A short piece looks through all of its pairs for each merge. A longer one has a linked
 * list of ids and a heap of candidate pairs, which make it n log n, so that a piece of a million
 * letters is not a trap. A pair in the heap is stale when its ids no longer stand at its place; it
 * is dropped when it comes up.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "libpar/data/tokenizer.h"

enum { SHORT = 32 }; /* symbols */

static bool before(const par__bpe_pair *a, const par__bpe_pair *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void push(par__bpe *b, par__bpe_pair pair) {
    size_t i = b->n_heap++;
    for (; i > 0 && before(&pair, &b->heap[(i - 1) / 2]); i = (i - 1) / 2)
        b->heap[i] = b->heap[(i - 1) / 2];
    b->heap[i] = pair;
}

static par__bpe_pair pop(par__bpe *b) {
    par__bpe_pair top = b->heap[0], last = b->heap[--b->n_heap];
    size_t i = 0, child;
    for (; (child = 2 * i + 1) < b->n_heap; i = child) {
        if (child + 1 < b->n_heap && before(&b->heap[child + 1], &b->heap[child])) child++;
        if (!before(&b->heap[child], &last)) break;
        b->heap[i] = b->heap[child];
    }
    b->heap[i] = last;
    return top;
}

static const par__merge_slot *find_pair(const par__bpe *b, const par__merges *merges, int32_t at) {
    const par__bpe_node *left = &b->nodes[at], *right = &b->nodes[left->after];
    static const par__merge_slot none = {UINT64_MAX, -1, -1};
    if (left->frozen || right->frozen) return &none;
    return par__merges_find(merges, left->id, right->id);
}

static void offer(par__bpe *b, const par__merges *merges, int32_t at) {
    if (at < 0 || b->nodes[at].after < 0) return;
    int32_t left = b->nodes[at].id, right = b->nodes[b->nodes[at].after].id;
    int32_t rank = find_pair(b, merges, at)->rank;
    if (rank >= 0) push(b, (par__bpe_pair){rank, at, left, right});
}

par_status par__bpe_begin(par__bpe *b, size_t n) {
    b->n = b->n_heap = 0;
    if (n <= b->max) return PAR_OK;
    if (n > INT32_MAX / 2)
        PAR_FAIL(PAR_ERR_UNSUPPORTED, "a piece of %zu bytes without a break; legal: up to %d", n,
                 INT32_MAX / 2);
    size_t max = n < 64 ? 64 : n + n / 2;
    par__bpe_node *nodes = realloc(b->nodes, max * sizeof *nodes);
    if (nodes) b->nodes = nodes;
    /* n - 1 pairs at the start, and each of at most n - 1 merges offers two. */
    par__bpe_pair *heap = realloc(b->heap, 3 * max * sizeof *heap);
    if (heap) b->heap = heap;
    if (!nodes || !heap)
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory to merge a piece of %zu bytes", n);
    b->max = max;
    return PAR_OK;
}

void par__bpe_put(par__bpe *b, int32_t id, bool frozen) {
    int32_t at = (int32_t)b->n++;
    b->nodes[at] = (par__bpe_node){id, at - 1, -1, frozen};
    if (at > 0) b->nodes[at - 1].after = at;
}

/* slots[i]: of nodes i and i + 1, which lie side by side. */
static void merge_short(par__bpe *b, const par__merges *merges) {
    const par__merge_slot *slots[SHORT];
    int n = (int)b->n;
    for (int i = 0; i + 1 < n; i++) slots[i] = find_pair(b, merges, i);
    for (;;) {
        int best = -1;
        for (int i = 0; i + 1 < n; i++)
            if (slots[i]->rank >= 0 && (best < 0 || slots[i]->rank < slots[best]->rank)) best = i;
        if (best < 0) break;
        b->nodes[best].id = slots[best]->id;
        n--;
        for (int i = best + 1; i < n; i++) {
            b->nodes[i].id = b->nodes[i + 1].id;
            b->nodes[i].frozen = b->nodes[i + 1].frozen;
            slots[i - 1] = slots[i];
        }
        b->nodes[n - 1].after = -1;
        if (best + 1 < n) slots[best] = find_pair(b, merges, best);
        if (best > 0) slots[best - 1] = find_pair(b, merges, best - 1);
    }
}

void par__bpe_merge(par__bpe *b, const par__merges *merges) {
    if (b->n <= SHORT) {
        merge_short(b, merges);
        return;
    }
    for (size_t i = 0; i + 1 < b->n; i++) offer(b, merges, (int32_t)i);
    while (b->n_heap > 0) {
        par__bpe_pair pair = pop(b);
        par__bpe_node *node = &b->nodes[pair.at];
        int32_t gone = node->after;
        if (node->id != pair.left || gone < 0 || b->nodes[gone].id != pair.right) continue;
        node->id = par__merges_find(merges, pair.left, pair.right)->id;
        node->after = b->nodes[gone].after;
        if (node->after >= 0) b->nodes[node->after].before = pair.at;
        b->nodes[gone].id = -1;
        offer(b, merges, node->before);
        offer(b, merges, pair.at);
    }
}

void par__bpe_destroy(par__bpe *b) {
    free(b->nodes);
    free(b->heap);
    *b = (par__bpe){0};
}
