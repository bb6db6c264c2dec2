/*
 * Who waited for whom. An operation has the same number on all of its ranks: of a collective that
 * among the collectives of its comm, of a message that among those of its ordered pair. So
 * operations that belong together lie side by side when all are sorted by comm and number.
 */
#include <stdlib.h>
#include <string.h>

#include "timeline.h"

static par__meeting meeting_of(const par__traces *traces, int r, int64_t i) {
    const par__span *s = &traces->ranks[r].spans[i];
    int me = traces->ranks[r].rank;
    par__meeting o = {
        .axis = s->axis, .from = s->first, .to = -1, .rank = r, .number = s->number, .span = i};
    if (s->peer < 0) return o;
    o.sends = strcmp(traces->texts.texts[s->name], "send") == 0;
    o.from = o.sends ? me : s->peer;
    o.to = o.sends ? s->peer : me;
    return o;
}

static int compare(const void *a, const void *b) {
    const par__meeting *x = a, *y = b;
    const int64_t left[] = {x->axis, x->from, x->to, x->number, !x->sends, x->rank},
                  right[] = {y->axis, y->from, y->to, y->number, !y->sends, y->rank};
    for (int i = 0; i < 6; i++)
        if (left[i] != right[i]) return left[i] < right[i] ? -1 : 1;
    return 0;
}

static bool together(const par__meeting *a, const par__meeting *b) {
    return a->axis == b->axis && a->from == b->from && a->to == b->to && a->number == b->number;
}

static const par__span *span_of(const par__traces *traces, const par__meeting *o) {
    return &traces->ranks[o->rank].spans[o->span];
}

/* One arrow at most per operation. What clocks put into the wrong order gets none. */
static int64_t draw(const par__traces *traces, const par__meeting *all, int64_t n_all,
                    par__flow_arrow *out) {
    int64_t n = 0;
    for (int64_t i = 0, end; i < n_all; i = end) {
        for (end = i + 1; end < n_all && together(&all[i], &all[end]);) end++;
        const par__meeting *from = &all[i]; /* the send; of a collective the rank that came last */
        for (int64_t k = i + 1; all[i].to < 0 && k < end; k++)
            if (span_of(traces, &all[k])->begin_ns > span_of(traces, from)->begin_ns)
                from = &all[k];
        if (from->to >= 0 && !from->sends) continue;
        for (int64_t k = i; k < end; k++)
            if (&all[k] != from && !all[k].sends &&
                span_of(traces, &all[k])->end_ns - 1 > span_of(traces, from)->begin_ns)
                out[n++] = (par__flow_arrow){from->rank, all[k].rank, from->span, all[k].span};
    }
    return n;
}

par_status par__meetings_find(const par__traces *traces, par__meeting **out, int64_t *n) {
    int64_t at = 0;
    *n = 0;
    for (int r = 0; r < traces->n_ranks; r++)
        for (int64_t i = 0; i < traces->ranks[r].n; i++)
            *n += traces->ranks[r].spans[i].kind == PAR__EVENT_OPERATION;
    par__meeting *all = malloc((size_t)(*n + 1) * sizeof *all);
    if (!all) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %lld operations", (long long)*n);
    for (int r = 0; r < traces->n_ranks; r++)
        for (int64_t i = 0; i < traces->ranks[r].n; i++)
            if (traces->ranks[r].spans[i].kind == PAR__EVENT_OPERATION)
                all[at++] = meeting_of(traces, r, i);
    qsort(all, (size_t)*n, sizeof *all, compare);
    *out = all;
    return PAR_OK;
}

/* Rank and direction come last in the order: the first of a group is the least of it. */
const par__meeting *par__meetings_of(const par__traces *traces, const par__meeting *all,
                                     int64_t n_all, int rank, int64_t span, int64_t *n) {
    par__meeting key = meeting_of(traces, rank, span);
    key.sends = true;
    key.rank = -1;
    int64_t low = 0, high = n_all;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (compare(&all[middle], &key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (*n = 0; low + *n < n_all && together(&all[low + *n], &key);) ++*n;
    return &all[low];
}

par_status par__flows_find(const par__traces *traces, par__flow_arrow **out, int64_t *n) {
    int64_t n_all;
    par__meeting *all;
    PAR_TRY(par__meetings_find(traces, &all, &n_all));
    *out = malloc((size_t)(n_all + 1) * sizeof **out);
    if (*out) *n = draw(traces, all, n_all, *out);
    free(all);
    if (!*out)
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the arrows of %lld operations",
                 (long long)n_all);
    return PAR_OK;
}
