/* Events of all ranks on rank 0, one rank after the other, in pieces; on the way they lose their
 * pointers. */
#include <stdlib.h>
#include <string.h>

#include "libpar/base/record.h"
#include "timeline.h"

enum { PIECE = 4096, TEXT_NBYTES = 48 };
static const par_tag tag = {"timeline", -1, -1, -1};

/* What a rank says before its events. */
typedef struct {
    int64_t n, n_dropped;
    int32_t n_texts, rank;
    char label[64];
} head;

par_status par__texts_add(par__texts *t, const char *text, int32_t *out) {
    for (int i = 0; i < t->n; i++)
        if (strcmp(t->texts[i], text) == 0) {
            *out = i;
            return PAR_OK;
        }
    if (t->n == t->max) {
        int max = t->max ? 2 * t->max : 64;
        char **texts = realloc(t->texts, (size_t)max * sizeof *texts);
        if (!texts) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the texts of a timeline");
        t->texts = texts;
        t->max = max;
    }
    t->texts[t->n] = malloc(strlen(text) + 1);
    if (!t->texts[t->n]) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the texts of a timeline");
    strcpy(t->texts[t->n], text);
    *out = t->n++;
    return PAR_OK;
}

void par__texts_free(par__texts *t) {
    for (int i = 0; i < t->n; i++) free(t->texts[i]);
    free(t->texts);
    *t = (par__texts){0};
}

void par__traces_free(par__traces *traces) {
    for (int r = 0; traces->ranks && r < traces->n_ranks; r++) free(traces->ranks[r].spans);
    free(traces->ranks);
    par__texts_free(&traces->texts);
    *traces = (par__traces){0};
}

static par_status number_of(par__texts *texts, const char *text, int32_t *out) {
    *out = -1;
    return text ? par__texts_add(texts, text, out) : PAR_OK;
}

/* This rank's events. */
static par_status take_own(const par_timeline *t, par__texts *texts, par__span **out) {
    int64_t n = par__timeline_kept(t);
    *out = malloc((size_t)(n + 1) * sizeof **out);
    if (!*out) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %lld events", (long long)n);
    for (int64_t i = 0; i < n; i++) {
        const par__event *e = &t->events[i];
        par__span *s = &(*out)[i];
        *s = (par__span){.begin_ns = e->begin_ns,
                         .end_ns = e->end_ns,
                         .number = e->number,
                         .nbytes = e->nbytes,
                         .first = e->first,
                         .peer = e->peer,
                         .kind = e->kind,
                         .layer = e->layer,
                         .chunk = e->chunk,
                         .micro = e->micro};
        PAR_TRY(number_of(texts, e->name, &s->name));
        PAR_TRY(number_of(texts, e->axis, &s->axis));
        PAR_TRY(number_of(texts, e->purpose, &s->purpose));
    }
    return PAR_OK;
}

static par_status send_own(par_comm *comm, const head *h, const par__texts *texts,
                           const par__span *spans) {
    char text[TEXT_NBYTES];
    for (int i = 0; i < h->n_texts; i++) {
        memset(text, 0, sizeof text);
        strncpy(text, texts->texts[i], sizeof text - 1);
        PAR_TRY(par_comm_send(comm, text, sizeof text, PAR_U8, 0, tag, NULL, NULL));
    }
    for (int64_t i = 0; i < h->n; i += PIECE) {
        int64_t n = h->n - i < PIECE ? h->n - i : PIECE;
        PAR_TRY(
            par_comm_send(comm, &spans[i], n * (int64_t)sizeof *spans, PAR_U8, 0, tag, NULL, NULL));
    }
    return PAR_OK;
}

/* `failed` is what rank 0 itself met: it takes all that is sent before it says so. */
static par_status receive(par_comm *comm, int r, const head *h, par__traces *traces,
                          par_status *failed) {
    char text[TEXT_NBYTES];
    par__rank_spans *rank = &traces->ranks[r];
    int32_t *numbers = calloc((size_t)h->n_texts + 1, sizeof *numbers);
    if (!numbers) *failed = par_error_set(PAR_ERR_MEMORY, "no host memory for a timeline's texts");
    for (int i = 0; i < h->n_texts; i++) {
        par_status st = par_comm_recv(comm, text, sizeof text, PAR_U8, r, tag, NULL, NULL);
        if (st != PAR_OK) {
            free(numbers);
            return st;
        }
        if (*failed == PAR_OK) *failed = par__texts_add(&traces->texts, text, &numbers[i]);
    }
    par_status st = PAR_OK;
    for (int64_t i = 0; st == PAR_OK && i < h->n; i += PIECE) {
        int64_t n = h->n - i < PIECE ? h->n - i : PIECE;
        st = par_comm_recv(comm, &rank->spans[i], n * (int64_t)sizeof *rank->spans, PAR_U8, r, tag,
                           NULL, NULL);
    }
    for (int64_t i = 0; st == PAR_OK && *failed == PAR_OK && i < h->n; i++) {
        par__span *s = &rank->spans[i];
        if (s->name >= 0) s->name = numbers[s->name];
        if (s->axis >= 0) s->axis = numbers[s->axis];
        if (s->purpose >= 0) s->purpose = numbers[s->purpose];
    }
    free(numbers);
    return st;
}

/* The outer one first. */
static int by_begin(const void *a, const void *b) {
    const par__span *x = a, *y = b;
    if (x->begin_ns != y->begin_ns) return x->begin_ns < y->begin_ns ? -1 : 1;
    return (x->end_ns < y->end_ns) - (x->end_ns > y->end_ns);
}

static par_status prepare_rank0(const par_timeline *t, par_comm *comm, const head *heads,
                                par__traces *out) {
    int p = par_comm_size(comm);
    out->ranks = calloc((size_t)p, sizeof *out->ranks);
    if (!out->ranks) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for timelines of %d ranks", p);
    out->n_ranks = p;
    for (int r = 0; r < p; r++) {
        par__rank_spans *rank = &out->ranks[r];
        rank->rank = heads[r].rank;
        rank->n = heads[r].n;
        rank->n_dropped = heads[r].n_dropped;
        memcpy(rank->label, heads[r].label, sizeof rank->label);
        if (t->n_clocks == p && t->n_aligned > 0) rank->after = t->after[r];
        if (t->n_clocks == p && t->n_aligned > 1) rank->before = t->before[r];
        if (r == 0) continue;
        rank->spans = malloc((size_t)(rank->n + 1) * sizeof *rank->spans);
        if (!rank->spans)
            PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %lld events of rank %d",
                     (long long)rank->n, rank->rank);
    }
    return PAR_OK;
}

static par_status bring(par_comm *comm, const head *heads, const par__texts *texts,
                        const par__span *own, par__traces *out) {
    par_status failed = PAR_OK;
    int me = par_comm_rank(comm);
    if (me != 0) PAR_TRY(send_own(comm, &heads[me], texts, own));
    for (int r = 1; me == 0 && r < out->n_ranks; r++)
        PAR_TRY(receive(comm, r, &heads[r], out, &failed));
    for (int r = 0; failed == PAR_OK && r < out->n_ranks; r++) {
        par__rank_spans *rank = &out->ranks[r];
        for (int64_t i = 0; i < rank->n; i++) { /* on rank 0's clock */
            par__span *s = &rank->spans[i];
            s->begin_ns = par__clock_convert(&rank->before, &rank->after, s->begin_ns);
            s->end_ns = par__clock_convert(&rank->before, &rank->after, s->end_ns);
            if (s->end_ns < s->begin_ns) s->end_ns = s->begin_ns;
        }
        if (rank->n) qsort(rank->spans, (size_t)rank->n, sizeof *rank->spans, by_begin);
    }
    return par_comm_agree(comm, failed);
}

par_status par__traces_gather(const par_timeline *t, par_comm *comm, const char *label,
                              par__traces *out) {
    int p = par_comm_size(comm), me = par_comm_rank(comm);
    par__traces traces = {0};
    par__texts texts = {0};
    par__span *own = NULL;
    head *heads = calloc((size_t)p, sizeof *heads);
    head mine = {.n = par__timeline_kept(t),
                 .n_dropped = (t->n - par__timeline_kept(t)),
                 .rank = par_comm_world_rank(comm, me)};
    if (label) strncpy(mine.label, label, sizeof mine.label - 1);
    par_status st = heads ? take_own(t, &texts, &own)
                          : par_error_set(PAR_ERR_MEMORY, "no host memory for %d heads", p);
    mine.n_texts = texts.n;
    st = par_comm_agree(comm, st);
    if (st == PAR_OK)
        st = par_comm_all_gather(comm, &mine, heads, sizeof mine, PAR_U8, tag, NULL, NULL);
    if (st == PAR_OK) {
        st = me == 0 ? prepare_rank0(t, comm, heads, &traces) : PAR_OK;
        st = par_comm_agree(comm, st);
    }
    if (st == PAR_OK && me == 0) {
        traces.texts = texts;
        traces.ranks[0].spans = own;
        texts = (par__texts){0};
        own = NULL;
    }
    if (st == PAR_OK) st = bring(comm, heads, &texts, own, &traces);
    free(own);
    free(heads);
    par__texts_free(&texts);
    if (st == PAR_OK)
        *out = traces;
    else
        par__traces_free(&traces);
    return st;
}
