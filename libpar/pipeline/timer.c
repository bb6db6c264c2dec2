/* Phases of a stream's work, by events or by the clock: see timer.h. */
#include "timer.h"

#include <stdlib.h>
#include <string.h>

#include "libpar/base/clock.h"

enum { ROUNDS = 2, CAPTURED = 2, NONE = -1 };

typedef struct {
    int phase;
    bool ended;
    par_event *from, *to;  /* on a device */
    double begin_s, end_s; /* on the host */
} span;

typedef struct {
    span *spans; /* [max] */
    int n;
    int open[PAR__TIMER_PHASES]; /* the span that has begun; NONE */
} set;

struct par__timer {
    const par_backend *backend;
    int max;
    int64_t n_rounds;
    set sets[ROUNDS + CAPTURED]; /* in turn; then those of graphs */
    int in[ROUNDS];              /* round k's set, at k mod ROUNDS */
    set *now;                    /* where spans go; NULL before the first round */
};

static bool by_events(const par__timer *t) {
    return t->backend->elapsed != NULL;
}

par_status par__timer_create(const par_backend *backend, int max_spans, par__timer **out) {
    par_status st = PAR_OK;
    par__timer *t = calloc(1, sizeof *t);
    if (!t) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a timer");
    t->backend = backend;
    t->max = max_spans;
    int n_sets = backend->capture_begin ? ROUNDS + CAPTURED : ROUNDS;
    for (int k = 0; k < n_sets; k++) {
        span *spans = t->sets[k].spans = calloc((size_t)max_spans + 1, sizeof *spans);
        if (!spans) {
            st = par_error_set(PAR_ERR_MEMORY, "no host memory for %d timed spans", max_spans);
            goto out_timer;
        }
        for (int i = 0; by_events(t) && i < max_spans; i++) {
            PAR_TRY_GOTO(backend->timed_event_create(&spans[i].from), out_timer);
            PAR_TRY_GOTO(backend->timed_event_create(&spans[i].to), out_timer);
        }
    }
    *out = t;
    return PAR_OK;
out_timer:
    par__timer_destroy(&t);
    return st;
}

void par__timer_destroy(par__timer **handle) {
    par__timer *t = *handle;
    if (!t) return;
    for (int k = 0; k < ROUNDS + CAPTURED; k++) {
        span *spans = t->sets[k].spans;
        for (int i = 0; spans && i < t->max; i++) {
            if (spans[i].from) t->backend->event_destroy(spans[i].from);
            if (spans[i].to) t->backend->event_destroy(spans[i].to);
        }
        free(spans);
    }
    free(t);
    *handle = NULL;
}

static void clear(set *s) {
    s->n = 0;
    for (int p = 0; p < PAR__TIMER_PHASES; p++) s->open[p] = NONE;
}

/* The next round, whose spans are those of a set. */
static int64_t next_round(par__timer *t, int in) {
    t->in[t->n_rounds % ROUNDS] = in;
    t->now = &t->sets[in];
    return t->n_rounds++;
}

int64_t par__timer_round(par__timer *t) {
    int64_t number = next_round(t, (int)(t->n_rounds % ROUNDS));
    clear(t->now);
    return number;
}

int64_t par__timer_capture(par__timer *t, int captured) {
    t->now = &t->sets[ROUNDS + captured];
    clear(t->now);
    return t->n_rounds;
}

int64_t par__timer_repeat(par__timer *t, int captured) {
    return next_round(t, ROUNDS + captured);
}

par_status par__timer_begin(par__timer *t, int phase, par_stream *stream) {
    set *s = t->now;
    if (!s) PAR_FAIL(PAR_ERR_INTERNAL, "phase %d is timed before the first round", phase);
    if (s->open[phase] != NONE)
        PAR_FAIL(PAR_ERR_INTERNAL, "a span of phase %d has not ended", phase);
    if (s->n == t->max) PAR_FAIL(PAR_ERR_INTERNAL, "more than the %d timed spans planned", t->max);
    span *x = &s->spans[s->n];
    x->phase = phase;
    x->ended = false;
    s->open[phase] = s->n++;
    if (by_events(t)) return t->backend->event_record(stream, x->from);
    x->begin_s = par__seconds();
    return PAR_OK;
}

par_status par__timer_end(par__timer *t, int phase, par_stream *stream) {
    set *s = t->now;
    if (!s || s->open[phase] == NONE)
        PAR_FAIL(PAR_ERR_INTERNAL, "no span of phase %d has begun", phase);
    span *x = &s->spans[s->open[phase]];
    s->open[phase] = NONE;
    x->ended = true;
    if (by_events(t)) return t->backend->event_record(stream, x->to);
    x->end_s = par__seconds();
    return PAR_OK;
}

par_status par__timer_read(const par__timer *t, int64_t round, double seconds[PAR__TIMER_PHASES]) {
    memset(seconds, 0, PAR__TIMER_PHASES * sizeof *seconds);
    if (round < 0 || round >= t->n_rounds || round < t->n_rounds - ROUNDS)
        PAR_FAIL(PAR_ERR_INTERNAL, "round %lld of %lld: the times of the last %d are kept",
                 (long long)round, (long long)t->n_rounds, ROUNDS);
    const set *s = &t->sets[t->in[round % ROUNDS]];
    for (int i = 0; i < s->n; i++) {
        const span *x = &s->spans[i];
        double took = x->end_s - x->begin_s;
        if (!x->ended) PAR_FAIL(PAR_ERR_INTERNAL, "a span of phase %d has not ended", x->phase);
        if (by_events(t)) PAR_TRY(t->backend->elapsed(x->from, x->to, &took));
        seconds[x->phase] += took;
    }
    return PAR_OK;
}

par_status par__timer_spans(const par__timer *t, int64_t round, par_event *origin,
                            void (*visit)(void *user, int phase, double begin_s, double end_s),
                            void *user) {
    const set *s = &t->sets[t->in[round % ROUNDS]];
    for (int i = 0; i < s->n; i++) {
        const span *x = &s->spans[i];
        double begin = 0, took = 0;
        if (x->from != origin) PAR_TRY(t->backend->elapsed(origin, x->from, &begin));
        PAR_TRY(t->backend->elapsed(x->from, x->to, &took));
        visit(user, x->phase, begin, begin + took);
    }
    return PAR_OK;
}

par_event *par__timer_origin(const par__timer *t, int64_t round) {
    const set *s = &t->sets[t->in[round % ROUNDS]];
    return s->n > 0 ? s->spans[0].from : NULL;
}
