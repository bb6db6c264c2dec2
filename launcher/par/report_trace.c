/*
 * The measured pipeline: what every rank's main thread did in the last step of RUN/trace.json,
 * which has Chrome's trace format, an event per line. The file is read line by line, as it may be
 * large: once for the step, once for what lies in it.
 */
#define _POSIX_C_SOURCE 200809L
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

enum { SIDE = 1000, MAX_LANES = 64, MAX_DRAWN = 8000, LINE = 4096, MAIN = 1 };

/* One line. */
typedef struct {
    json_t *object;
    const char *name, *category;
    double pid, begin, end; /* microseconds */
} event;

typedef struct {
    double begin, end;
    int64_t step;
    int n_lanes, pids[MAX_LANES];
    char names[MAX_LANES][64];
    char *drawn[MAX_LANES]; /* HTML of each lane */
    size_t nbytes[MAX_LANES];
    FILE *out[MAX_LANES];
    int n_drawn, n_left_out;
} trace;

/* What is drawn of a rank, in this order: later ones lie on earlier ones. */
static const struct {
    const char *category, *name, *color, *text;
} drawn[] = {{"phase", "data", "data", "waiting for samples"},
             {"action", "forward", "forward", "forward"},
             {"action", "backward", "backward", "backward"},
             {"phase", "update", "update", "update"},
             {"phase", "vote", "other", "vote"},
             {"phase", "norms", "other", "gradient norm"},
             {"wait", NULL, "wait", "waiting"}};

enum { N_DRAWN = sizeof drawn / sizeof *drawn };

static double number_of(const json_t *object, const char *name) {
    const json_t *value = json_object_get(object, name);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

/* -1: it is no number, below 0, or too large. */
static int64_t whole_of(double number) {
    return number >= 0 && number < 1e15 ? (int64_t)number : -1;
}

static const char *text_of(const json_t *object, const char *name) {
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "";
}

/* Every event of the file whose line has one of the words: the rest need not be parsed. */
static void each(const char *path, const char *const *words, void (*visit)(trace *, const event *),
                 trace *t) {
    static char line[LINE];
    FILE *file = fopen(path, "rb");
    while (file && fgets(line, sizeof line, file)) {
        bool wanted = false;
        for (int i = 0; words[i] && !wanted; i++) wanted = strstr(line, words[i]) != NULL;
        if (!wanted) continue;
        size_t n = strlen(line);
        while (n && strchr(",\r\n ", line[n - 1])) n--;
        event e = {.object = n && *line == '{' ? json_loadb(line, n, 0, NULL) : NULL};
        e.name = text_of(e.object, "name");
        e.category = text_of(e.object, "cat");
        e.pid = number_of(e.object, "pid");
        e.begin = number_of(e.object, "ts");
        e.end = e.begin + number_of(e.object, "dur");
        if (e.object) visit(t, &e);
        json_decref(e.object);
    }
    if (file) fclose(file);
}

static int lane_of(const trace *t, double pid) {
    for (int i = 0; i < t->n_lanes; i++)
        if (t->pids[i] == pid) return i;
    return -1;
}

/* The ranks' names, and the last step: from its first rank's begin to its last one's end. */
static void take_step(trace *t, const event *e) {
    const json_t *args = json_object_get(e->object, "args");
    if (strcmp(e->name, "process_name") == 0 && t->n_lanes < MAX_LANES && e->pid >= 0 &&
        e->pid <= INT_MAX && lane_of(t, e->pid) < 0) {
        t->pids[t->n_lanes] = (int)e->pid;
        snprintf(t->names[t->n_lanes++], 64, "%.63s", text_of(args, "name"));
    }
    if (strcmp(e->category, "call") != 0 || strcmp(e->name, "step") != 0) return;
    int64_t step = whole_of(number_of(args, "step"));
    if (isnan(e->end) || step < t->step) return;
    t->begin = step > t->step ? e->begin : fmin(t->begin, e->begin);
    t->end = step > t->step ? e->end : fmax(t->end, e->end);
    t->step = step;
}

/* What is too short to be seen is left out, so that a step of many waits stays a small page. */
static void take_span(trace *t, const event *e) {
    const json_t *args = json_object_get(e->object, "args");
    double micro = number_of(args, "micro"), chunk = number_of(args, "chunk");
    char text[REPORT_TEXT];
    int lane = lane_of(t, e->pid);
    double length = t->end - t->begin;
    if (lane < 0 || !(e->begin >= t->begin && e->end <= t->end + 1)) return;
    if (number_of(e->object, "tid") != MAIN) return;
    for (int k = 0; k < N_DRAWN; k++) {
        if (strcmp(e->category, drawn[k].category) != 0) continue;
        if (drawn[k].name && strcmp(e->name, drawn[k].name) != 0) continue;
        if (t->n_drawn >= MAX_DRAWN || e->end - e->begin < 5e-4 * length) {
            t->n_left_out++;
            continue;
        }
        t->n_drawn++;
        FILE *out = t->out[lane];
        fprintf(out, "<rect class=\"k-%s\" x=\"%.2f\" width=\"%.2f\" height=\"10\">",
                drawn[k].color, SIDE * (e->begin - t->begin) / length,
                SIDE * (e->end - e->begin) / length);
        fprintf(out, "<title>%s", drawn[k].text);
        if (!isnan(micro)) fprintf(out, " of micro-batch %.0f", micro);
        if (chunk > 0) fprintf(out, ", chunk %.0f", chunk);
        fprintf(out, ", %s</title></rect>\n", report_seconds(1e-6 * (e->end - e->begin), text));
    }
}

static void put_lanes(report_page *p, trace *t) {
    char text[REPORT_TEXT];
    report_put(p, "<figure class=\"gantt\"><figcaption><b>Measured: step %lld, %s</b>",
               (long long)t->step, report_seconds(1e-6 * (t->end - t->begin), text));
    report_put(p,
               "<span class=\"key box c0\">forward</span><span class=\"key box c1\">backward"
               "</span><span class=\"key box c3\">update</span><span class=\"key box c4\">"
               "samples</span><span class=\"key box c7\">vote, norms</span><span class=\"key box "
               "wait\">waiting</span></figcaption>\n<div class=\"lanes\">\n");
    for (int i = 0; i < t->n_lanes; i++) {
        report_put(p, "<div class=\"lane\"><span title=\"");
        report_put_text(p, t->names[i]);
        report_put(p, "\">rank %d</span><svg viewBox=\"0 0 %d 10\" preserveAspectRatio=\"none\">\n",
                   t->pids[i], SIDE);
        fflush(t->out[i]);
        report_put(p, "%s</svg></div>\n", t->drawn[i]);
    }
    report_put(p, "</div></figure>\n");
    report_note(p,
                "The main threads of %s ranks. %d spans that are too short or too many to be "
                "seen are left out; all are in trace.json, which ui.perfetto.dev opens.",
                t->n_lanes == MAX_LANES ? "the first 64" : "all", t->n_left_out);
}

bool report_trace(report_page *p, const report_run *run) {
    static const char *const of_steps[] = {"\"process_name\"", "\"cat\":\"call\"", NULL};
    static const char *const of_spans[] = {"\"cat\":\"action\"", "\"cat\":\"phase\"",
                                           "\"cat\":\"wait\"", NULL};
    static trace t;
    char path[1200];
    t = (trace){.step = -1};
    if (!report_file(run, "trace.json", path)) return false;
    each(path, of_steps, take_step, &t);
    if (t.step < 0 || t.n_lanes == 0 || !(t.end > t.begin)) return false;
    bool whole = true;
    for (int i = 0; i < t.n_lanes; i++) {
        t.out[i] = open_memstream(&t.drawn[i], &t.nbytes[i]);
        whole = whole && t.out[i];
    }
    if (whole) each(path, of_spans, take_span, &t);
    if (whole) put_lanes(p, &t);
    for (int i = 0; i < t.n_lanes; i++) {
        if (t.out[i]) fclose(t.out[i]);
        free(t.drawn[i]);
    }
    return whole;
}
