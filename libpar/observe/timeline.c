/* A timeline: its ring, its transport, and the way from all ranks' rings to one file. */
#include "timeline.h"

#include <stdlib.h>
#include <string.h>

#include "collectives/internal.h"
#include "libpar/base/record.h"

par_status par_timeline_create(int64_t n_events, par_timeline **out) {
    PAR_REQUIRE(out && n_events >= 1);
    par_timeline *t = calloc(1, sizeof *t);
    size_t nbytes = (size_t)n_events * sizeof *t->events;
    if (t && n_events < INT64_MAX / (int64_t)sizeof *t->events) t->events = malloc(nbytes);
    if (!t || !t->events) {
        par_timeline_destroy(&t);
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a timeline of %lld events",
                 (long long)n_events);
    }
    memset(t->events, 0xff, nbytes); /* so that no page is first touched within a step */
    t->max = n_events;
    *out = t;
    return PAR_OK;
}

void par_timeline_destroy(par_timeline **handle) {
    par_timeline *t = handle ? *handle : NULL;
    if (!t) return;
    free(t->events);
    free(t->before);
    free(t->after);
    free(t);
    *handle = NULL;
}

void par_timeline_begin(par_timeline *t, const char *name) {
    if (!t) return;
    if (t->n_open < PAR__TIMELINE_DEPTH) {
        t->open[t->n_open].name = name;
        t->open[t->n_open].begin_ns = par__nanoseconds();
    }
    t->n_open++;
}

void par_timeline_end(par_timeline *t) {
    if (!t || t->n_open == 0 || --t->n_open >= PAR__TIMELINE_DEPTH) return;
    par__timeline_add(t, (par__event){.begin_ns = t->open[t->n_open].begin_ns,
                                      .name = t->open[t->n_open].name,
                                      .kind = PAR__EVENT_USER,
                                      .peer = -1,
                                      .layer = -1,
                                      .chunk = -1,
                                      .micro = -1});
}

int64_t par_timeline_kept(const par_timeline *t) {
    return par__timeline_kept(t);
}

int64_t par_timeline_dropped(const par_timeline *t) {
    return t->n - par__timeline_kept(t);
}

void par_timeline_start(par_timeline *t, par_transport *transport, int64_t step) {
    t->step = step;
    par__recorder_trace(par_transport_recorder(transport), t);
}

void par_timeline_stop(par_timeline *t, par_transport *transport) {
    par_recorder *recorder = par_transport_recorder(transport);
    if (par__recorder_timeline(recorder) == t) par__recorder_trace(recorder, NULL);
}

/* On rank 0 of comm, room for its ranks' samples; those of another comm are forgotten. */
static par_status take_samples(par_timeline *t, par_comm *comm) {
    int p = par_comm_size(comm);
    if (t->n_clocks == p) return PAR_OK;
    free(t->before);
    free(t->after);
    t->n_clocks = t->n_aligned = 0;
    t->before = calloc((size_t)p, sizeof *t->before);
    t->after = calloc((size_t)p, sizeof *t->after);
    if (!t->before || !t->after)
        PAR_FAIL(PAR_ERR_MEMORY, "no host memory for the clocks of %d ranks", p);
    t->n_clocks = p;
    return PAR_OK;
}

static par_status align(par_timeline *t, par_comm *comm) {
    PAR_TRY(par_comm_agree(comm, take_samples(t, comm)));
    PAR_TRY(par__clocks_compare(comm, par__nanoseconds, t->after));
    if (t->n_aligned++ > 0) return PAR_OK;
    for (int r = 0; r < t->n_clocks; r++) t->before[r] = t->after[r];
    return PAR_OK;
}

/* What the comm sends meanwhile is not counted, and nothing is recorded. */
typedef struct {
    const par_comm *comm;
    par_recorder *recorder, *before;
    par_timeline *timeline;
} silence;

static par_status begin_silence(silence *s, par_comm *comm) {
    *s = (silence){.comm = comm, .recorder = comm->transport->recorder};
    s->timeline = par__recorder_timeline(s->recorder);
    par__recorder_trace(s->recorder, NULL);
    par_status st = par__recorder_like(s->recorder, &s->before);
    if (st == PAR_OK) par__recorder_add(s->before, s->recorder, 1);
    return par_comm_agree(comm, st);
}

static void end_silence(silence *s) {
    par__recorder_trace(s->recorder, s->timeline);
    if (!s->before) return;
    par__recorder_restore(s->recorder, s->before, s->comm->axis);
    par__recorder_destroy(&s->before);
}

par_status par_timeline_align(par_timeline *t, par_comm *comm) {
    silence quiet;
    PAR_REQUIRE(t && comm);
    par_status st = begin_silence(&quiet, comm);
    if (st == PAR_OK) st = align(t, comm);
    end_silence(&quiet);
    return st;
}

static par_status write_file(par_timeline *t, par_comm *comm, const par_timeline_file *file,
                             par_timeline_result *out) {
    static const par_tag tag = {"timeline", -1, -1, -1};
    par__traces traces = {0};
    par_status st = PAR_OK;
    PAR_TRY(align(t, comm));
    PAR_TRY(par__traces_gather(t, comm, file->label, &traces));
    traces.shared_cores = file->shared_cores;
    if (par_comm_rank(comm) == 0) st = par__traces_write(&traces, file->path, out);
    par__traces_free(&traces);
    PAR_TRY(par_comm_agree(comm, st));
    PAR_TRY(par_comm_broadcast(comm, out, sizeof *out, PAR_U8, 0, tag, NULL, NULL));
    if (par_comm_rank(comm) != 0) out->nbytes = 0; /* sums of all ranks are rank 0's to know */
    return PAR_OK;
}

par_status par_timeline_write(par_timeline *t, par_comm *comm, const par_timeline_file *file,
                              par_timeline_result *out) {
    silence quiet;
    par_timeline_result result = {0};
    PAR_REQUIRE(t && comm && file && out);
    par_status st = begin_silence(&quiet, comm);
    if (st == PAR_OK) st = write_file(t, comm, file, &result);
    end_silence(&quiet);
    if (st == PAR_OK) *out = result;
    return st;
}
