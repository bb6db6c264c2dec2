/*
 * From rings to a file, and back: the clocks of ranks (timeline_clock.c), their events brought to
 * rank 0 (timeline_gather.c), threads and arrows in Chrome's trace format (timeline_write.c,
 * timeline_flow.c); a file that is read again (timeline_read.c), and what it tells
 * (timeline_path.c, timeline_diagnose.c).
 */
#ifndef PAR__OBSERVE_TIMELINE_H
#define PAR__OBSERVE_TIMELINE_H

#include <stdbool.h>

#include "libpar/base/timeline.h"
#include "par/timeline.h"

/* An event of any rank on rank 0's clock: as it travels, and as it is written. Texts are numbers in
 * a table. */
typedef struct {
    int64_t begin_ns, end_ns, number, nbytes;
    int32_t name, axis, purpose; /* -1: none */
    int32_t first, peer;         /* as of a par__event */
    int32_t thread;              /* of the file, once it is written */
    int16_t kind, layer, chunk, micro;
} par__span;

/* Texts, each once. */
typedef struct {
    char **texts;
    int n, max;
} par__texts;

/* What rank 0 has of a rank. */
typedef struct {
    int rank; /* of the world */
    char label[64];
    int64_t n, n_dropped;
    par__span *spans;                 /* [n], by their begin, outer ones first */
    par__clock_reading before, after; /* at_ns 0: not known */
} par__rank_spans;

typedef struct {
    par__texts texts;
    par__rank_spans *ranks; /* [n_ranks] */
    int n_ranks;
    bool shared_cores; /* ranks took turns on cores */
} par__traces;

/* The number of a text, which is added where it is new. Errors: PAR_ERR_MEMORY. */
par_status par__texts_add(par__texts *texts, const char *text, int32_t *out);
void par__texts_free(par__texts *texts);

/* timeline_clock.c: the clocks of comm's ranks as `clock` tells them; out [size] is rank 0's. */
par_status par__clocks_compare(par_comm *comm, int64_t (*clock)(void), par__clock_reading *out);
/* A rank's time on rank 0's clock, with one sample or on the line through two. */
int64_t par__clock_convert(const par__clock_reading *before, const par__clock_reading *after,
                           int64_t ns);

/* timeline_gather.c: all ranks' events on rank 0 of comm; the others' traces are empty. */
par_status par__traces_gather(const par_timeline *t, par_comm *comm, const char *label,
                              par__traces *out);
void par__traces_free(par__traces *traces);

/* timeline_flow.c: an operation of a rank, by what it has in common with its peers'. */
typedef struct {
    int32_t axis, from, to; /* of a message; of a collective the group's first rank, and -1 */
    int32_t rank;           /* index in traces */
    int64_t number, span;
    bool sends;
} par__meeting;
/* All of them, those that belong together side by side. To be freed. */
par_status par__meetings_find(const par__traces *traces, par__meeting **out, int64_t *n);
/* Those of the operation that a span is or waits for: the first, and how many. */
const par__meeting *par__meetings_of(const par__traces *traces, const par__meeting *all,
                                     int64_t n_all, int rank, int64_t span, int64_t *n);

/* timeline_flow.c: an arrow, between spans [rank][span]. */
typedef struct {
    int from_rank, to_rank;
    int64_t from, to;
} par__flow_arrow;
/* From sends to their receives, from a collective's last rank to the others. To be freed. */
par_status par__flows_find(const par__traces *traces, par__flow_arrow **out, int64_t *n);

/* timeline_write.c: the threads of a rank, and what kinds of events are called in the file. */
enum { PAR__THREAD_MAIN = 1, PAR__THREAD_DEVICE = 2, PAR__THREAD_COMM = 10 };
extern const char *const par__event_names[PAR__EVENTS];
par_status par__traces_write(par__traces *traces, const char *path, par_timeline_result *out);

/* timeline_read.c: what was written; "started" is an operation's begin. Errors: PAR_ERR_IO,
 * PAR_ERR_FORMAT, PAR_ERR_MEMORY. */
par_status par__traces_read(const char *path, par__traces *out);

/* timeline_path.c: what a rank's time goes to: these, then an axis each. */
enum {
    PAR__USE_FORWARD,
    PAR__USE_BACKWARD,
    PAR__USE_UPDATE,
    PAR__USE_DATA,
    PAR__USE_VOTE,
    PAR__USE_OTHER, /* in a step, and none of these */
    PAR__USE_IDLE,  /* outside of all calls */
    PAR__USE_AXES,
    PAR__USES = PAR__USE_AXES + 16
};

/* The main thread of a rank, or its device, without gaps. */
typedef struct {
    int64_t begin_ns, end_ns, wait; /* wait: the span that is one; -1: no wait */
    int use;
} par__segment_of_time;

typedef struct {
    par__segment_of_time *segments;
    int64_t n;
} par__rank_time;

typedef struct {
    const par__traces *traces;
    int32_t axes[PAR__USES - PAR__USE_AXES]; /* texts of the axes */
    int n_axes;
    par__rank_time *ranks; /* [traces->n_ranks] */
    par__meeting *meetings;
    int64_t n_meetings;
} par__times;

par_status par__times_create(const par__traces *traces, par__times *out);
void par__times_free(par__times *times);
/* The use that is communication on this axis. */
int par__times_axis(par__times *times, int32_t axis);
/* Seconds by use on the way back from `end` on a rank to `begin`: over a wait to the rank that was
 * waited for. They add up to end - begin. */
void par__times_path(const par__times *times, int rank, int64_t begin_ns, int64_t end_ns,
                     double seconds[PAR__USES]);

#endif
