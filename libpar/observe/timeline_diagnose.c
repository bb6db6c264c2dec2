/* What a trace file tells of its steps, as a table or as JSON. */
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/json_text.h"
#include "timeline.h"

enum { MAX_STEPS = 4096, MAX_KERNELS = 64, SHOWN_KERNELS = 10 };

static const char *const uses[PAR__USE_AXES] = {
    [PAR__USE_FORWARD] = "forward", [PAR__USE_BACKWARD] = "backward", [PAR__USE_UPDATE] = "update",
    [PAR__USE_DATA] = "data",       [PAR__USE_VOTE] = "vote",         [PAR__USE_OTHER] = "other",
    [PAR__USE_IDLE] = "idle"};

/* A step that is whole on all ranks. Seconds. */
typedef struct {
    int64_t number, begin_ns, end_ns;        /* of all ranks: the first and the last */
    int last;                                /* the rank whose step ended last */
    int slowest;                             /* that worked longest: its step without its waits */
    double slowest_s, bubble;                /* (walk - busy) / busy, the largest of all ranks */
    double mean[PAR__USES], most[PAR__USES]; /* waits, by axis: of all ranks */
    double path[PAR__USES];
} step_facts;

typedef struct {
    int32_t name;
    int64_t n;
    double ns;
} kernel;

typedef struct {
    par__traces traces;
    par__times times;
    step_facts *steps;           /* [n_steps], whole ones */
    int n_steps, n_cut;          /* cut: begun in what was overwritten, or not on all ranks */
    kernel kernels[MAX_KERNELS]; /* the longest first */
    int n_kernels;
    double kernels_ns;
    double path[PAR__USES]; /* mean of the steps */
    void (*print)(void *user, const char *line);
    void *user;
} report;

static bool is_named(const report *r, const par__span *s, const char *name) {
    return strcmp(r->traces.texts.texts[s->name], name) == 0;
}

/* The device's, where there is one. NULL: there is none, or a part of it may be missing: what was
 * overwritten had ended before the first end that is kept. */
static const par__span *step_span(const report *r, const par__rank_spans *rank, int64_t number) {
    const par__span *found = NULL;
    int64_t first_end = INT64_MAX;
    for (int64_t i = 0; i < rank->n; i++) {
        const par__span *s = &rank->spans[i];
        bool device = s->kind == PAR__EVENT_DEVICE;
        if (s->end_ns < first_end) first_end = s->end_ns;
        if ((!device && s->kind != PAR__EVENT_CALL) || s->number != number) continue;
        if (is_named(r, s, "step") && (!found || device)) found = s;
    }
    bool cut = found && rank->n_dropped != 0 && found->begin_ns < first_end;
    return cut ? NULL : found;
}

/* Forward and backward with what they wait for, but for the pipeline's messages; and what the walk
 * over the schedule took, of which they are part. */
static double bubble_of(const report *r, const par__rank_spans *rank, const par__span *step) {
    double busy = 0;
    int64_t walk_end = step->end_ns;
    for (int64_t i = 0; i < rank->n; i++) {
        const par__span *s = &rank->spans[i];
        if (s->begin_ns < step->begin_ns || s->end_ns > step->end_ns) continue;
        bool passes = is_named(r, s, "forward") || is_named(r, s, "backward");
        bool message = s->kind == PAR__EVENT_WAIT && s->peer >= 0;
        bool stage = s->kind == PAR__EVENT_ACTION || s->kind == PAR__EVENT_DEVICE;
        if (stage && passes) busy += (double)(s->end_ns - s->begin_ns);
        if (message && s->thread == step->thread) busy -= (double)(s->end_ns - s->begin_ns);
        if (s->thread == step->thread && is_named(r, s, "gradients")) walk_end = s->begin_ns;
    }
    return busy > 0 ? ((double)(walk_end - step->begin_ns) - busy) / busy : 0;
}

static void add_rank(report *r, step_facts *f, int rank, const par__span *step) {
    const par__rank_spans *of = &r->traces.ranks[rank];
    double waits[PAR__USES] = {0}, sum = 0; /* waits within its step, by axis */
    for (int64_t i = 0; i < of->n; i++) {
        const par__span *s = &of->spans[i];
        if (s->kind != PAR__EVENT_WAIT || s->begin_ns < step->begin_ns || s->end_ns > step->end_ns)
            continue;
        double took = 1e-9 * (double)(s->end_ns - s->begin_ns);
        waits[par__times_axis(&r->times, s->axis)] += took;
        sum += took;
    }
    double worked = 1e-9 * (double)(step->end_ns - step->begin_ns) - sum,
           bubble = bubble_of(r, of, step);
    for (int u = 0; u < PAR__USES; u++) {
        f->mean[u] += waits[u] / r->traces.n_ranks;
        if (waits[u] > f->most[u]) f->most[u] = waits[u];
    }
    if (bubble > f->bubble) f->bubble = bubble;
    if (worked > f->slowest_s) f->slowest_s = worked, f->slowest = rank;
    if (step->begin_ns < f->begin_ns) f->begin_ns = step->begin_ns;
    if (step->end_ns > f->end_ns) f->end_ns = step->end_ns, f->last = rank;
}

/* Of rank 0's numbers, which are all ranks'. */
static par_status add_steps(report *r) {
    const par__rank_spans *first = &r->traces.ranks[0];
    size_t most = first->n < MAX_STEPS ? (size_t)first->n : MAX_STEPS;
    r->steps = calloc(most + 1, sizeof *r->steps);
    if (!r->steps) PAR_FAIL(PAR_ERR_MEMORY, "no memory for steps");
    for (int64_t i = 0; i < first->n && r->n_steps < MAX_STEPS; i++) {
        const par__span *call = &first->spans[i], *step = call;
        step_facts *f = &r->steps[r->n_steps];
        if (call->kind != PAR__EVENT_CALL || !is_named(r, call, "step")) continue;
        *f = (step_facts){.number = call->number, .begin_ns = INT64_MAX, .end_ns = INT64_MIN};
        for (int rank = 0; step && rank < r->traces.n_ranks; rank++) {
            step = step_span(r, &r->traces.ranks[rank], call->number);
            if (step) add_rank(r, f, rank, step);
        }
        if (step) par__times_path(&r->times, f->last, f->begin_ns, f->end_ns, f->path);
        r->n_steps += step != NULL;
        r->n_cut += step == NULL;
    }
    for (int s = 0; s < r->n_steps; s++)
        for (int u = 0; u < PAR__USES; u++) r->path[u] += r->steps[s].path[u] / r->n_steps;
    return PAR_OK;
}

static int longer(const void *a, const void *b) {
    const kernel *x = a, *y = b;
    return (x->ns < y->ns) - (x->ns > y->ns);
}

static void add_kernels(report *r) {
    for (int i = 0; i < r->traces.n_ranks; i++)
        for (int64_t k = 0; k < r->traces.ranks[i].n; k++) {
            const par__span *s = &r->traces.ranks[i].spans[k];
            int at = 0;
            if (s->kind != PAR__EVENT_KERNEL) continue;
            while (at < r->n_kernels && r->kernels[at].name != s->name) at++;
            if (at == MAX_KERNELS) continue;
            if (at == r->n_kernels) r->kernels[r->n_kernels++] = (kernel){.name = s->name};
            r->kernels[at].n++;
            r->kernels[at].ns += (double)(s->end_ns - s->begin_ns);
            r->kernels_ns += (double)(s->end_ns - s->begin_ns);
        }
    qsort(r->kernels, (size_t)r->n_kernels, sizeof *r->kernels, longer);
}

__attribute__((format(printf, 2, 3))) static void say(const report *r, const char *format, ...) {
    char line[1024];
    va_list values;
    va_start(values, format);
    vsnprintf(line, sizeof line, format, values);
    va_end(values);
    r->print(r->user, line);
}

static const char *use_name(const report *r, int use, char text[64]) {
    if (use < PAR__USE_AXES) return uses[use];
    snprintf(text, 64, "comm %.50s", r->traces.texts.texts[r->times.axes[use - PAR__USE_AXES]]);
    return text;
}

static int n_uses(const report *r) {
    return PAR__USE_AXES + r->times.n_axes;
}

static void print_steps(const report *r) {
    char axis[64], bubble[32] = "-  ";
    if (r->traces.shared_cores)
        say(r, "note: the bubble is left out, since ranks that share cores wait for each other's "
               "turns");
    say(r, "   step      time   bubble   the slowest rank, and its time without waits");
    for (int i = 0; i < r->n_steps; i++) {
        const step_facts *f = &r->steps[i];
        const char *label = r->traces.ranks[f->slowest].label;
        if (!r->traces.shared_cores) snprintf(bubble, sizeof bubble, "%.1f %%", 100 * f->bubble);
        say(r, "%7lld %7.1f ms %8s   %d%s%s%s, %.1f ms", (long long)f->number,
            1e-6 * (double)(f->end_ns - f->begin_ns), bubble, f->slowest, *label ? " (" : "", label,
            *label ? ")" : "", 1e3 * f->slowest_s);
    }
    for (int u = PAR__USE_AXES; u < n_uses(r); u++) {
        double mean = 0, most = 0;
        for (int i = 0; i < r->n_steps; i++) {
            mean += r->steps[i].mean[u] / r->n_steps;
            if (r->steps[i].most[u] > most) most = r->steps[i].most[u];
        }
        say(r, "waited for %s: %.1f ms per step and rank, %.1f ms at most",
            use_name(r, u, axis) + strlen("comm "), 1e3 * mean, 1e3 * most);
    }
}

static void print_text(const report *r) {
    int64_t dropped = 0;
    double path_s = 0;
    char name[64];
    for (int i = 0; i < r->traces.n_ranks; i++) dropped += r->traces.ranks[i].n_dropped;
    if (r->n_cut)
        say(r,
            "note: %d step%s not whole on all ranks and left out; %lld events did not fit (a "
            "larger ring keeps more)",
            r->n_cut, r->n_cut == 1 ? " is" : "s are", (long long)dropped);
    if (r->n_steps > 0) print_steps(r);
    for (int u = 0; u < n_uses(r); u++) path_s += r->path[u];
    if (r->n_steps > 0) say(r, "critical path of a step, %.1f ms:", 1e3 * path_s);
    for (int u = 0; u < n_uses(r); u++)
        if (r->path[u] > 0)
            say(r, "  %-16s %9.1f ms %5.1f %%", use_name(r, u, name), 1e3 * r->path[u],
                100 * r->path[u] / path_s);
    if (r->n_kernels > 0)
        say(r, "kernels, of all ranks:       calls         time   share   of one");
    for (int i = 0; i < r->n_kernels && i < SHOWN_KERNELS; i++) {
        const kernel *k = &r->kernels[i];
        say(r, "  %-20s %11lld %9.1f ms %5.1f %% %6.1f us", r->traces.texts.texts[k->name],
            (long long)k->n, 1e-6 * k->ns, 100 * k->ns / r->kernels_ns,
            1e-3 * k->ns / (double)k->n);
    }
}

static json_t *json_uses(const report *r, const double seconds[PAR__USES], int first) {
    json_t *object = json_object();
    char name[64];
    for (int u = first; u < n_uses(r); u++)
        json_object_set_new(object, use_name(r, u, name), json_real(seconds[u]));
    return object;
}

static par_status print_json(const report *r) {
    json_t *steps = json_array(), *kernels = json_array();
    for (int i = 0; i < r->n_steps; i++) {
        const step_facts *f = &r->steps[i];
        json_array_append_new(
            steps, json_pack("{s:I,s:f,s:f,s:i,s:f,s:o,s:o,s:o}", "step", (json_int_t)f->number,
                             "seconds", 1e-9 * (double)(f->end_ns - f->begin_ns), "bubble",
                             f->bubble, "slowest_rank", f->slowest, "slowest_s", f->slowest_s,
                             "waited_mean_s", json_uses(r, f->mean, PAR__USE_AXES), "waited_most_s",
                             json_uses(r, f->most, PAR__USE_AXES), "critical_path_s",
                             json_uses(r, f->path, 0)));
    }
    for (int i = 0; i < r->n_kernels; i++)
        json_array_append_new(kernels, json_pack("{s:s,s:I,s:f}", "name",
                                                 r->traces.texts.texts[r->kernels[i].name], "calls",
                                                 (json_int_t)r->kernels[i].n, "seconds",
                                                 1e-9 * r->kernels[i].ns));
    json_t *root =
        json_pack("{s:i,s:b,s:i,s:o,s:o,s:o}", "ranks", r->traces.n_ranks, "shared_cores",
                  r->traces.shared_cores, "cut_steps", r->n_cut, "steps", steps, "critical_path_s",
                  json_uses(r, r->path, 0), "kernels", kernels);
    char *text = root ? par__json_text(root, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(root);
    if (!text) PAR_FAIL(PAR_ERR_MEMORY, "no memory for the timeline's figures");
    r->print(r->user, text);
    free(text);
    return PAR_OK;
}

par_status par_timeline_diagnose(const char *path, bool json,
                                 void (*print)(void *user, const char *line), void *user) {
    PAR_REQUIRE(path && print);
    report *r = calloc(1, sizeof *r);
    if (!r) PAR_FAIL(PAR_ERR_MEMORY, "no memory for a report");
    r->print = print;
    r->user = user;
    par_status st = par__traces_read(path, &r->traces);
    if (st == PAR_OK) st = par__times_create(&r->traces, &r->times);
    if (st == PAR_OK) st = add_steps(r);
    if (st == PAR_OK) add_kernels(r);
    if (st == PAR_OK && !json) print_text(r);
    if (st == PAR_OK && json) st = print_json(r);
    free(r->steps);
    par__times_free(&r->times);
    par__traces_free(&r->traces);
    free(r);
    return st;
}
