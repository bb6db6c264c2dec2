/*
 * Chrome's trace format:
 * https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU A process per
 * rank. Thread 1 is what the rank's main thread does, 2 what a device does; each further thread is
 * one direction of communication: the collectives of an axis (as many threads as may run beside
 * each other), the sends to a rank, the receives from one. Those run one after another: a
 * collective and a receive begin where the one before has ended, and "started" says when they were
 * called; a send, whose end is noticed late, ends where the next one begins. An event per line;
 * times in microseconds from the first event.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/file.h"
#include "timeline.h"

enum { BUFFER = 1 << 16, LINE = 1024, THREADS = 64 };

const char *const par__event_names[PAR__EVENTS] = {
    [PAR__EVENT_CALL] = "call",     [PAR__EVENT_PHASE] = "phase",
    [PAR__EVENT_ACTION] = "action", [PAR__EVENT_MODULE] = "module",
    [PAR__EVENT_KERNEL] = "kernel", [PAR__EVENT_PROGRESS] = "progress",
    [PAR__EVENT_WAIT] = "wait",     [PAR__EVENT_OPERATION] = "comm",
    [PAR__EVENT_DEVICE] = "device", [PAR__EVENT_USER] = "user"};

/* What follows each other: a thread of the file. */
typedef struct {
    int32_t axis, peer;
    bool sends;
    int64_t end_ns;        /* of its last span */
    int64_t next_begin_ns; /* of sends, seen from behind; 0: it is the last */
} lane;

typedef struct {
    par__writer file;
    par__traces *traces;
    par_status status;
    int64_t begin_ns; /* of all events */
    int64_t nbytes;
    size_t n;
    bool first;
    char buffer[BUFFER];
    lane lanes[THREADS]; /* of the rank under way */
    int n_lanes;
} writer;

static void flush(writer *w) {
    if (w->status == PAR_OK) w->status = par__writer_write(&w->file, w->buffer, w->n);
    w->nbytes += (int64_t)w->n;
    w->n = 0;
}

__attribute__((format(printf, 2, 3))) static void put(writer *w, const char *format, ...) {
    va_list values;
    if (w->n + LINE > BUFFER) flush(w);
    va_start(values, format);
    int n = vsnprintf(w->buffer + w->n, LINE, format, values);
    va_end(values);
    w->n += (size_t)(n < LINE ? n : LINE - 1);
}

static void put_text(writer *w, const char *text) {
    put(w, "\"");
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        put(w, c == '"' || c == '\\' ? "\\%c" : c < 0x20 ? "\\u%04x" : "%c", c);
    }
    put(w, "\"");
}

static void put_number(writer *w, int32_t number) {
    put_text(w, number >= 0 ? w->traces->texts.texts[number] : "");
}

static void next_line(writer *w) {
    put(w, w->first ? "\n" : ",\n");
    w->first = false;
}

static double us(const writer *w, int64_t ns) {
    return 1e-3 * (double)(ns - w->begin_ns);
}

static bool sends(const writer *w, const par__span *s) {
    return s->peer >= 0 && strcmp(w->traces->texts.texts[s->name], "send") == 0;
}

/* Past THREADS directions the last thread takes all. */
static lane *lane_of(writer *w, const par__span *s) {
    bool out = sends(w, s);
    for (int i = 0; i < w->n_lanes; i++) {
        lane *l = &w->lanes[i];
        if (l->axis == s->axis && l->peer == s->peer && l->sends == out) return l;
    }
    if (w->n_lanes == THREADS) return &w->lanes[THREADS - 1];
    w->lanes[w->n_lanes] = (lane){.axis = s->axis, .peer = s->peer, .sends = out};
    return &w->lanes[w->n_lanes++];
}

static void put_where(writer *w, const par__span *s) {
    if (s->layer >= 0) put(w, ",\"layer\":%d", s->layer);
    if (s->chunk >= 0) put(w, ",\"chunk\":%d", s->chunk);
    if (s->micro >= 0) put(w, ",\"micro\":%d", s->micro);
}

static void put_args(writer *w, const par__span *s, int64_t started_ns) {
    switch (s->kind) {
    case PAR__EVENT_CALL: put(w, ",\"args\":{\"step\":%lld}", (long long)s->number); break;
    case PAR__EVENT_ACTION:
    case PAR__EVENT_MODULE:
        put(w, ",\"args\":{\"n\":%lld", (long long)s->number);
        put_where(w, s);
        put(w, "}");
        break;
    case PAR__EVENT_PHASE:
        if (s->micro >= 0) put(w, ",\"args\":{\"micro\":%d}", s->micro);
        break;
    case PAR__EVENT_DEVICE: put(w, ",\"args\":{\"step\":%lld}", (long long)s->number); break;
    case PAR__EVENT_WAIT:
    case PAR__EVENT_OPERATION:
        put(w, ",\"args\":{\"axis\":");
        put_number(w, s->axis);
        put(w, ",\"purpose\":");
        put_number(w, s->purpose);
        put(w, ",\"n\":%lld,\"first\":%d", (long long)s->number, s->first);
        if (s->peer >= 0) put(w, ",\"peer\":%d", s->peer);
        put_where(w, s);
        if (s->kind == PAR__EVENT_OPERATION) put(w, ",\"bytes\":%lld", (long long)s->nbytes);
        if (started_ns < s->begin_ns) put(w, ",\"started\":%.3f", us(w, started_ns));
        put(w, "}");
        break;
    default: break;
    }
}

static void put_span(writer *w, int pid, par__span *s) {
    int64_t started = s->begin_ns;
    s->thread = s->kind == PAR__EVENT_DEVICE ? PAR__THREAD_DEVICE : PAR__THREAD_MAIN;
    if (s->kind == PAR__EVENT_OPERATION) { /* behind the one before it on its thread */
        lane *l = lane_of(w, s);
        s->thread = PAR__THREAD_COMM + (int)(l - w->lanes);
        if (s->begin_ns < l->end_ns) s->begin_ns = l->end_ns;
        if (s->end_ns <= s->begin_ns) s->end_ns = s->begin_ns + 1;
        l->end_ns = s->end_ns;
    }
    next_line(w);
    put(w, "{\"ph\":\"X\",\"pid\":%d,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f,\"cat\":\"%s\",\"name\":",
        pid, s->thread, us(w, s->begin_ns), 1e-3 * (double)(s->end_ns - s->begin_ns),
        par__event_names[s->kind]);
    put_number(w, s->name);
    put_args(w, s, started);
    put(w, "}");
}

static void put_meta(writer *w, int pid, int tid, const char *what, const char *name) {
    next_line(w);
    put(w, "{\"ph\":\"M\",\"pid\":%d,\"tid\":%d,\"name\":\"%s\",\"args\":{\"name\":", pid, tid,
        what);
    put_text(w, name);
    put(w, "}}");
}

static void put_threads(writer *w, int pid) {
    char name[160];
    put_meta(w, pid, PAR__THREAD_MAIN, "thread_name", "compute");
    for (int i = 0; i < w->n_lanes; i++) {
        const lane *l = &w->lanes[i];
        const char *axis = l->axis >= 0 ? w->traces->texts.texts[l->axis] : "";
        if (i == THREADS - 1)
            snprintf(name, sizeof name, "comm: others");
        else if (l->peer == -1)
            snprintf(name, sizeof name, "comm %.100s", axis);
        else if (l->peer < 0)
            snprintf(name, sizeof name, "comm %.100s, %d", axis, -l->peer);
        else
            snprintf(name, sizeof name, "comm %.100s: %s rank %d", axis,
                     l->sends ? "send to" : "receive from", l->peer);
        put_meta(w, pid, PAR__THREAD_COMM + i, "thread_name", name);
    }
}

static void put_rank(writer *w, par__rank_spans *r) {
    char name[128];
    bool device = false;
    w->n_lanes = 0;
    snprintf(name, sizeof name, "rank %d%s%s", r->rank, *r->label ? ": " : "", r->label);
    put_meta(w, r->rank, PAR__THREAD_MAIN, "process_name", name);
    next_line(w);
    put(w, "{\"ph\":\"M\",\"pid\":%d,\"name\":\"process_sort_index\",\"args\":{\"sort_index\":%d}}",
        r->rank, r->rank);
    for (int64_t i = r->n - 1; i >= 0; i--) { /* a send ends where the next one begins */
        par__span *s = &r->spans[i];
        if (s->kind != PAR__EVENT_OPERATION || !sends(w, s)) continue;
        lane *l = lane_of(w, s);
        if (l->next_begin_ns && s->end_ns > l->next_begin_ns) s->end_ns = l->next_begin_ns;
        l->next_begin_ns = s->begin_ns;
    }
    for (int64_t i = 0; i < r->n; i++) {
        device = device || r->spans[i].kind == PAR__EVENT_DEVICE;
        put_span(w, r->rank, &r->spans[i]);
    }
    put_threads(w, r->rank);
    if (device) put_meta(w, r->rank, PAR__THREAD_DEVICE, "thread_name", "device");
}

/* What clocks, or the order of a thread, put into the wrong order gets no arrow. */
static par_status put_arrows(writer *w, par_timeline_result *out) {
    static const char format[] = "{\"ph\":\"%c\",\"id\":%lld,\"pid\":%d,\"tid\":%d,\"ts\":%.3f,"
                                 "\"cat\":\"flow\",\"name\":\"%s\"%s}";
    par__flow_arrow *arrows = NULL;
    int64_t n = 0;
    PAR_TRY(par__flows_find(w->traces, &arrows, &n));
    for (int64_t i = 0; i < n; i++) {
        const par__rank_spans *from = &w->traces->ranks[arrows[i].from_rank],
                              *to = &w->traces->ranks[arrows[i].to_rank];
        const par__span *a = &from->spans[arrows[i].from], *b = &to->spans[arrows[i].to];
        const char *name = a->peer < 0 ? "came last" : "message";
        if (b->end_ns - 1 <= a->begin_ns) continue;
        long long id = ++out->n_flows;
        next_line(w);
        put(w, format, 's', id, from->rank, a->thread, us(w, a->begin_ns), name, "");
        next_line(w);
        put(w, format, 'f', id, to->rank, b->thread, us(w, b->end_ns - 1), name, ",\"bp\":\"e\"");
    }
    free(arrows);
    return PAR_OK;
}

static double drift_of(const par__rank_spans *r) {
    if (!r->before.at_ns || r->after.at_ns <= r->before.at_ns) return 0;
    return (double)(r->after.offset_ns - r->before.offset_ns) /
           (double)(r->after.at_ns - r->before.at_ns);
}

static double error_of(const par__rank_spans *r) {
    int64_t ns = r->before.error_ns > r->after.error_ns ? r->before.error_ns : r->after.error_ns;
    return 1e-9 * (double)ns;
}

/* Another clock than rank 0's. */
static bool has_clock(const par__rank_spans *r) {
    return r->before.error_ns > 0 || r->after.error_ns > 0;
}

static void sum_up(const par__traces *traces, par_timeline_result *out) {
    for (int i = 0; i < traces->n_ranks; i++) {
        const par__rank_spans *r = &traces->ranks[i];
        out->n_events += r->n;
        out->n_dropped += r->n_dropped;
        if (!has_clock(r)) continue;
        out->n_clocks++;
        out->offset_s = fmax(out->offset_s, fabs(1e-9 * (double)r->after.offset_ns));
        out->error_s = fmax(out->error_s, error_of(r));
        out->drift = fmax(out->drift, fabs(drift_of(r)));
    }
}

/* What concerns ranks as such: cores, clocks, what is missing. */
static void put_about(writer *w) {
    put(w,
        "{\"displayTimeUnit\":\"ms\",\n\"otherData\":{\"program\":\"libpar\",\"version\":1,"
        "\"ranks\":%d,\"shared_cores\":%s,\n\"clocks\":[",
        w->traces->n_ranks, w->traces->shared_cores ? "true" : "false");
    for (int i = 0; i < w->traces->n_ranks; i++) {
        const par__rank_spans *r = &w->traces->ranks[i];
        put(w,
            "%s\n{\"rank\":%d,\"own\":%s,\"offset_us\":%.3f,\"error_us\":%.3f,\"drift_ppm\":%.3f}",
            i ? "," : "", r->rank, has_clock(r) ? "true" : "false",
            1e-3 * (double)r->after.offset_ns, 1e6 * error_of(r), 1e6 * drift_of(r));
    }
    put(w, "],\n\"dropped\":[");
    for (int i = 0; i < w->traces->n_ranks; i++)
        put(w, "%s%lld", i ? "," : "", (long long)w->traces->ranks[i].n_dropped);
    put(w, "]},\n\"traceEvents\":[");
    w->first = true;
}

par_status par__traces_write(par__traces *traces, const char *path, par_timeline_result *out) {
    writer *w = calloc(1, sizeof *w);
    if (!w) PAR_FAIL(PAR_ERR_MEMORY, "no host memory to write a timeline");
    w->traces = traces;
    w->begin_ns = INT64_MAX;
    for (int i = 0; i < traces->n_ranks; i++)
        if (traces->ranks[i].n > 0 && traces->ranks[i].spans[0].begin_ns < w->begin_ns)
            w->begin_ns = traces->ranks[i].spans[0].begin_ns;
    sum_up(traces, out);
    w->status = par__writer_open(path, &w->file);
    if (w->status != PAR_OK) {
        par_status st = w->status;
        free(w);
        return st;
    }
    put_about(w);
    for (int i = 0; i < traces->n_ranks; i++) put_rank(w, &traces->ranks[i]);
    par_status st = put_arrows(w, out);
    put(w, "\n]}\n");
    flush(w);
    if (w->status != PAR_OK) st = w->status;
    if (st == PAR_OK)
        st = par__writer_commit(&w->file);
    else
        par__writer_abort(&w->file);
    out->nbytes = w->nbytes;
    free(w);
    return st;
}
