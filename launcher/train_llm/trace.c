/*
 * The timeline of --trace: recorded between the steps that were asked for, gathered and written
 * behind the last of them. A file that cannot be opened is refused before the first step; one that
 * cannot be written later is reported and given up.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "observe.h"

enum { MAX_RANGES = 32, ALL_RANKS_EVENTS = 1 << 20, LEAST_EVENTS = 4096 };

static struct {
    par_timeline *timeline;
    struct {
        int64_t first, last;
    } ranges[MAX_RANGES];
    int n_ranges;
    int64_t n_steps;
    bool on, aligned, written;
} trace;

/* "10", "10-12", "10-12,20": in order. False: it is something else. */
static bool parse(const char *text) {
    int64_t before = 0;
    trace.n_ranges = 0;
    trace.n_steps = 0;
    for (const char *at = text; trace.n_ranges < MAX_RANGES; at++) {
        char *end;
        long long first = strtoll(at, &end, 10), last = first;
        if (end == at || *at < '0' || *at > '9') return false;
        if (*end == '-' && end[1] >= '0' && end[1] <= '9') last = strtoll(end + 1, &end, 10);
        if (first <= before || last < first || last > 1000000000) return false;
        trace.ranges[trace.n_ranges].first = first;
        trace.ranges[trace.n_ranges++].last = before = last;
        trace.n_steps += last - first + 1;
        if (*end == 0) return true;
        if (*end != ',') return false;
        at = end;
    }
    return false;
}

void llm_trace_check(const llm_run *r, par_problems *problems) {
    const llm_settings *s = &r->set;
    if (!s->trace && (s->trace_file || s->trace_events))
        par_problem(problems, "--trace-file, --trace-events: need --trace");
    if (!s->trace) return;
    if (!parse(s->trace))
        par_problem(
            problems,
            "--trace %s: is not a list of steps; legal: ascending, as 10, 10-12 or 10-12,20",
            s->trace);
    else if (trace.ranges[0].first > s->steps)
        par_problem(problems, "--trace %s: legal: up to --steps %lld", s->trace,
                    (long long)s->steps);
}

/* In the run's directory, where there is one. */
static const char *file_of(const llm_run *r) {
    const char *own = llm_run_file(r, "trace.json");
    return r->set.trace_file ? r->set.trace_file : own ? own : "trace.json";
}

static bool records(int64_t step) {
    for (int i = 0; i < trace.n_ranges; i++)
        if (step >= trace.ranges[i].first && step <= trace.ranges[i].last) return true;
    return false;
}

bool llm_trace_edge(int64_t step) {
    return trace.timeline && records(step) != records(step + 1);
}

static par_status check_file(const char *path) {
    struct stat info;
    bool there = stat(path, &info) == 0;
    FILE *file = there && !S_ISREG(info.st_mode) ? NULL : fopen(path, "a");
    if (!file)
        return par_error_set(PAR_ERR_IO, "%s: cannot be opened for writing (--trace-file)", path);
    fclose(file);
    if (!there) remove(path);
    return PAR_OK;
}

par_status llm_trace_begin(const llm_run *r, llm_world *w, const par_trainer *trainer) {
    if (!r->set.trace) return PAR_OK;
    par_status st = w->rank == 0 ? check_file(file_of(r)) : PAR_OK;
    /* Generously: of a module's two passes some 40 kernels, waits and operations, per parameter its
     * update, gather and reduction. */
    int64_t modules = (r->config.layers + 2) / r->params.layout.size[PAR_PP] + 3;
    int64_t step = par_trainer_n_micro(trainer) * (modules * 64 + 32) +
                   8 * par_trainer_n_params(trainer) + 512;
    int64_t n = step * trace.n_steps, most = ALL_RANKS_EVENTS / w->size;
    if (n >= most) n = most > LEAST_EVENTS ? most : LEAST_EVENTS;
    if (r->set.trace_events) n = r->set.trace_events;
    if (st == PAR_OK) st = par_timeline_create(n, &trace.timeline);
    return llm_world_agree(w, st);
}

/* Coordinates, as "tp 0, pp 1, dp 2": of axes that have several ranks. */
static void label_of(const par_trainer *trainer, char *text, size_t nbytes) {
    static const struct {
        int axis;
        const char *name;
    } axes[] = {{PAR_TP, "tp"}, {PAR_CP, "cp"}, {PAR_PP, "pp"}, {PAR_DP, "dp"}};
    const par_mesh *mesh = par_trainer_mesh(trainer);
    *text = 0;
    for (int i = 0; i < 4; i++) {
        size_t used = strlen(text);
        if (mesh->layout.size[axes[i].axis] == 1) continue;
        snprintf(text + used, nbytes - used, "%s%s %d", used ? ", " : "", axes[i].name,
                 mesh->coordinate[axes[i].axis]);
    }
}

static par_status write_file(const llm_run *r, const llm_world *w, const par_trainer *trainer) {
    char label[64], size[32];
    par_timeline_result result;
    label_of(trainer, label, sizeof label);
    const par_timeline_file file = {
        .path = file_of(r), .label = label, .shared_cores = llm_report_takes_turns(r, w)};
    trace.written = true;
    par_status st = par_timeline_write(trace.timeline, w->comm, &file, &result);
    if (st == PAR_ERR_TRANSPORT) return st;
    if (w->rank != 0) return PAR_OK;
    llm_report_progress_clear();
    if (st != PAR_OK) {
        llm_report_problems("the trace is given up", par_error());
        return PAR_OK;
    }
    printf("trace: %lld events of %d rank%s, %lld arrows | %s | %s; ui.perfetto.dev opens it, par "
           "diagnose timeline reads it\n",
           (long long)result.n_events, w->size, llm_report_s(w->size), (long long)result.n_flows,
           llm_report_bytes((double)result.nbytes, size), file.path);
    if (result.n_clocks)
        printf("trace: clocks of %d ranks are not rank 0's: up to %.1f us apart, corrected to "
               "within %.1f us; drift up to %.1f us per second\n",
               result.n_clocks, 1e6 * result.offset_s, 1e6 * result.error_s, 1e6 * result.drift);
    else if (w->size > 1)
        printf("trace: all ranks have rank 0's clock\n");
    if (result.n_dropped)
        printf("note: trace: %lld events did not fit, the oldest of the ranks are missing; "
               "--trace-events gives each rank more\n",
               (long long)result.n_dropped);
    return PAR_OK;
}

/* Weights that still travel belong to the step. */
static par_status stop(const llm_run *r, const llm_world *w, par_trainer *trainer, bool last) {
    PAR_TRY(par_trainer_settle(trainer));
    par_timeline_stop(trace.timeline, w->transport);
    trace.on = false;
    return last ? write_file(r, w, trainer) : PAR_OK;
}

par_status llm_trace_step(const llm_run *r, const llm_world *w, par_trainer *trainer,
                          int64_t step) {
    if (!trace.timeline || trace.on == records(step)) return PAR_OK;
    if (trace.on) return stop(r, w, trainer, step > trace.ranges[trace.n_ranges - 1].last);
    /* the ranks' clocks are compared before the first step that is recorded, and when the file is
     * written */
    if (!trace.aligned) PAR_TRY(par_timeline_align(trace.timeline, w->comm));
    trace.aligned = true;
    par_timeline_start(trace.timeline, w->transport, step);
    trace.on = true;
    return PAR_OK;
}

par_status llm_trace_end(const llm_run *r, const llm_world *w, par_trainer *trainer) {
    if (trace.on) return stop(r, w, trainer, true);
    bool missing = trace.timeline && !trace.written;
    return missing && par_timeline_kept(trace.timeline) > 0 ? write_file(r, w, trainer) : PAR_OK;
}

void llm_trace_close(void) {
    par_timeline_destroy(&trace.timeline);
}
