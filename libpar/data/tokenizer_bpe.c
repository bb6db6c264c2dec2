/*
 * Byte-pair merging of one piece: the lowest rank first, the leftmost among equals (Sennrich et al.
 * 2016). A linked list of ids and a heap of candidate pairs make it n log n, so that a piece of a
 * million letters is not a trap. A pair in the heap is stale when its ids no longer stand at its
 * place; it is dropped when it comes up.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "libpar/data/tokenizer.h"

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

static void offer(par__bpe *b, const par__merges *merges, int32_t at) {
    if (at < 0 || b->nodes[at].after < 0) return;
    int32_t left = b->nodes[at].id, right = b->nodes[b->nodes[at].after].id;
    int32_t rank = par__merges_rank(merges, left, right);
    if (rank >= 0) push(b, (par__bpe_pair){rank, at, left, right});
}

static par_status reserve(par__bpe *b, size_t n) {
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

static void merge(par__bpe *b, const par__merges *merges, par__bpe_pair pair) {
    par__bpe_node *node = &b->nodes[pair.at];
    int32_t gone = node->after;
    if (node->id != pair.left || gone < 0 || b->nodes[gone].id != pair.right) return;
    node->id = merges->id[pair.rank];
    node->after = b->nodes[gone].after;
    if (node->after >= 0) b->nodes[node->after].before = pair.at;
    b->nodes[gone].id = -1;
    offer(b, merges, node->before);
    offer(b, merges, pair.at);
}

par_status par__bpe_run(par__bpe *b, const par__merges *merges, const int32_t *of_byte,
                        const uint8_t *piece, size_t n, par__id_visitor *visit, void *user) {
    PAR_TRY(reserve(b, n));
    b->n_heap = 0;
    for (size_t i = 0; i < n; i++)
        b->nodes[i] =
            (par__bpe_node){of_byte[piece[i]], (int32_t)i - 1, i + 1 < n ? (int32_t)i + 1 : -1};
    for (size_t i = 0; i + 1 < n; i++) offer(b, merges, (int32_t)i);
    while (b->n_heap > 0) merge(b, merges, pop(b));
    for (int32_t i = n > 0 ? 0 : -1; i >= 0; i = b->nodes[i].after)
        PAR_TRY(visit(user, &b->nodes[i].id, 1));
    return PAR_OK;
}

void par__bpe_destroy(par__bpe *b) {
    free(b->nodes);
    free(b->heap);
    *b = (par__bpe){0};
}
