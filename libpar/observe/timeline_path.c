/*
 * Where time goes. The main thread's spans become segments without gaps, each with its use: that of
 * the innermost span that has one. From a step's end the critical path goes back through segments;
 * where one is a wait, what is behind the arrival of the rank that came last is communication, and
 * the path goes on at that rank from there. If that is the waiting rank itself, or its wait began
 * later, all of the wait is communication.
 */
#include <stdlib.h>
#include <string.h>

#include "timeline.h"

enum { DEPTH = 64, INHERITED = -1 };

int par__times_axis(par__times *t, int32_t axis) {
    const int most = PAR__USES - PAR__USE_AXES;
    for (int i = 0; i < t->n_axes; i++)
        if (t->axes[i] == axis) return PAR__USE_AXES + i;
    if (axis < 0 || t->n_axes == most) return PAR__USE_OTHER;
    t->axes[t->n_axes] = axis;
    return PAR__USE_AXES + t->n_axes++;
}

static int use_of(par__times *t, const par__span *s) {
    static const struct {
        const char *name;
        int use;
    } uses[] = {{"forward", PAR__USE_FORWARD}, {"backward", PAR__USE_BACKWARD},
                {"update", PAR__USE_UPDATE},   {"norms", PAR__USE_UPDATE},
                {"data", PAR__USE_DATA},       {"vote", PAR__USE_VOTE}};
    if (s->kind == PAR__EVENT_WAIT) return par__times_axis(t, s->axis);
    if (s->kind == PAR__EVENT_CALL) return PAR__USE_OTHER;
    if (s->kind != PAR__EVENT_ACTION && s->kind != PAR__EVENT_PHASE && s->kind != PAR__EVENT_DEVICE)
        return INHERITED;
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++)
        if (strcmp(t->traces->texts.texts[s->name], uses[i].name) == 0) return uses[i].use;
    return PAR__USE_OTHER;
}

/* A walk over a rank's nested spans. */
typedef struct {
    par__rank_time *out;
    int64_t at; /* segments reach so far */
    int n;
    struct {
        int64_t end, wait;
        int use;
    } open[DEPTH];
} sweep;

static void reach(sweep *w, int64_t to) {
    par__segment_of_time s = {w->at, to, -1, PAR__USE_IDLE};
    if (to <= w->at) return;
    if (w->n > 0) {
        s.use = w->open[w->n - 1].use;
        s.wait = w->open[w->n - 1].wait;
    }
    w->out->segments[w->out->n++] = s;
    w->at = to;
}

static void close_until(sweep *w, int64_t to) {
    for (; w->n > 0 && w->open[w->n - 1].end <= to; w->n--) reach(w, w->open[w->n - 1].end);
}

static par_status segment(par__times *t, int rank) {
    const par__rank_spans *r = &t->traces->ranks[rank];
    int thread = PAR__THREAD_MAIN; /* the device's, where it has one */
    for (int64_t i = 0; i < r->n; i++)
        if (r->spans[i].kind == PAR__EVENT_DEVICE) thread = PAR__THREAD_DEVICE;
    sweep w = {.out = &t->ranks[rank], .at = r->n ? r->spans[0].begin_ns : 0};
    w.out->segments = malloc((size_t)(2 * r->n + 1) * sizeof *w.out->segments);
    if (!w.out->segments)
        PAR_FAIL(PAR_ERR_MEMORY, "no memory for the segments of rank %d", r->rank);
    for (int64_t i = 0; i < r->n; i++) {
        const par__span *s = &r->spans[i];
        if (s->thread != thread) continue;
        close_until(&w, s->begin_ns);
        reach(&w, s->begin_ns);
        int use = use_of(t, s), above = w.n > 0 ? w.open[w.n - 1].use : PAR__USE_IDLE;
        if (w.n == DEPTH) continue;
        w.open[w.n].end = s->end_ns;
        w.open[w.n].wait = s->kind == PAR__EVENT_WAIT ? i : -1;
        w.open[w.n++].use = use == INHERITED ? above : use;
    }
    close_until(&w, INT64_MAX);
    return PAR_OK;
}

par_status par__times_create(const par__traces *traces, par__times *out) {
    par__times t = {.traces = traces};
    t.ranks = calloc((size_t)traces->n_ranks, sizeof *t.ranks);
    par_status st = t.ranks ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "no memory for segments");
    for (int r = 0; st == PAR_OK && r < traces->n_ranks; r++) st = segment(&t, r);
    if (st == PAR_OK) st = par__meetings_find(traces, &t.meetings, &t.n_meetings);
    if (st == PAR_OK)
        *out = t;
    else
        par__times_free(&t);
    return st;
}

void par__times_free(par__times *t) {
    for (int r = 0; t->ranks && r < t->traces->n_ranks; r++) free(t->ranks[r].segments);
    free(t->ranks);
    free(t->meetings);
    *t = (par__times){0};
}

/* The last segment that begins before `to`; -1: none. */
static int64_t segment_before(const par__rank_time *r, int64_t to) {
    int64_t low = 0, high = r->n;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (r->segments[middle].begin_ns < to)
            low = middle + 1;
        else
            high = middle;
    }
    return low - 1;
}

/* Who came last to what this span is a wait for; NULL: it is not known. */
static const par__meeting *last_of(const par__times *t, int rank, int64_t span, int64_t *begin_ns) {
    int64_t n;
    const par__meeting *last = NULL, *all = par__meetings_of(t->traces, t->meetings, t->n_meetings,
                                                             rank, span, &n);
    for (int64_t i = 0; i < n; i++) {
        int64_t begin = t->traces->ranks[all[i].rank].spans[all[i].span].begin_ns;
        if (last && begin <= *begin_ns) continue;
        last = &all[i];
        *begin_ns = begin;
    }
    return last;
}

static void add(double seconds[PAR__USES], int use, int64_t ns) {
    seconds[use] += 1e-9 * (double)ns;
}

void par__times_path(const par__times *t, int rank, int64_t begin, int64_t at,
                     double seconds[PAR__USES]) {
    while (at > begin) {
        const par__rank_time *r = &t->ranks[rank];
        int64_t i = segment_before(r, at), came = 0;
        if (i < 0 || r->segments[i].end_ns < at) { /* before the first, or behind the last */
            int64_t to = i < 0 || r->segments[i].end_ns < begin ? begin : r->segments[i].end_ns;
            add(seconds, PAR__USE_IDLE, at - to);
            at = to;
            continue;
        }
        const par__segment_of_time *s = &r->segments[i];
        int64_t from = s->begin_ns > begin ? s->begin_ns : begin;
        const par__meeting *last = s->wait >= 0 ? last_of(t, rank, s->wait, &came) : NULL;
        if (last && last->rank != rank && came > from && came < at) {
            from = came;
            rank = last->rank;
        }
        add(seconds, s->use, at - from);
        at = from;
    }
}
