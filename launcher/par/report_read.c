/* A run read back: its log, and files of its directory. See report.h. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "report.h"

static const char *const step_fields[STEP_COLUMNS] = {
    [STEP_NUMBER] = "step",
    [STEP_LOSS] = "loss",
    [STEP_NORM] = "grad_norm",
    [STEP_LR] = "lr",
    [STEP_TARGETS] = "targets",
    [STEP_SCALE] = "loss_scale",
    [STEP_SECONDS] = "measured.seconds",
    [STEP_RATE] = "measured.tokens_per_s",
    [STEP_MFU] = "measured.mfu",
    [STEP_DATA] = "measured.data_s",
    [STEP_FORWARD] = "measured.forward_s",
    [STEP_BACKWARD] = "measured.backward_s",
    [STEP_WAIT_PIPELINE] = "measured.wait_pipeline_s",
    [STEP_WAIT_DP] = "measured.wait_dp_s",
    [STEP_UPDATE] = "measured.update_s",
    [STEP_BUBBLE] = "measured.bubble",
    [STEP_IDEAL] = "ideal_bubble",
};
static const char *const validation_fields[VALIDATION_COLUMNS] = {[VALIDATION_STEP] = "step",
                                                                  [VALIDATION_LOSS] = "loss",
                                                                  [VALIDATION_SECONDS] =
                                                                      "measured.seconds"};

#define SPREAD(name)                                                                               \
    "measured." name "_min_s", "measured." name "_median_s", "measured." name "_max_s",            \
        "measured." name "_ratio", "measured." name "_slowest"
static const char *const health_fields[HEALTH_COLUMNS] = {
    "step", SPREAD("step"), SPREAD("forward"), SPREAD("backward"), SPREAD("wait"), SPREAD("work")};
static const char *const cost_fields[COST_COLUMNS] = {"step", "measured.cost_run",
                                                      "measured.cost_million_tokens"};

/* What is read, and the sums so far. */
typedef struct {
    report_run *run;
    double tokens, seconds;
    bool no_memory;
} reading;

static void table_free(report_table *t) {
    for (int c = 0; t->columns && c < t->n_columns; c++) free(t->columns[c]);
    free(t->columns);
    t->columns = NULL;
    t->n = t->max = 0;
}

/* False: there is no memory. */
static bool add_row(report_table *t, const par_log_record *record) {
    if (!t->columns) t->columns = calloc((size_t)t->n_columns, sizeof *t->columns);
    if (!t->columns) return false;
    if (t->n == t->max) {
        int64_t max = t->max ? 2 * t->max : 16;
        for (int c = 0; c < t->n_columns; c++) {
            double *more = realloc(t->columns[c], (size_t)max * sizeof *more);
            if (!more) return false;
            t->columns[c] = more;
        }
        t->max = max;
    }
    for (int c = 0; c < t->n_columns; c++)
        t->columns[c][t->n] = t->fields[c] ? par_log_number(record, t->fields[c]) : NAN;
    t->n++;
    return true;
}

static void pairs_free(report_pairs *list) {
    for (int i = 0; i < list->n; i++) {
        free(list->pairs[i].name);
        free(list->pairs[i].value);
    }
    free(list->pairs);
    *list = (report_pairs){0};
}

static void add_pair(void *user, const char *name, const char *value) {
    report_pairs *list = user;
    report_pair *more = realloc(list->pairs, (size_t)(list->n + 1) * sizeof *more);
    if (!more) return;
    list->pairs = more;
    report_pair pair = {strdup(name), strdup(value)};
    if (pair.name && pair.value) {
        more[list->n++] = pair;
        return;
    }
    free(pair.name);
    free(pair.value);
}

static void add_mark(report_run *run, double step, const char *what) {
    report_mark *more = realloc(run->marks, (size_t)(run->n_marks + 1) * sizeof *more);
    if (!more) return;
    run->marks = more;
    more[run->n_marks].what = strdup(what);
    more[run->n_marks].step = step;
    run->n_marks += more[run->n_marks].what != NULL;
}

/* A run begins: what stands before it in the log is another one's. */
static void forget(report_run *run) {
    table_free(&run->steps);
    table_free(&run->validations);
    table_free(&run->health);
    table_free(&run->costs);
    pairs_free(&run->start);
    pairs_free(&run->options);
    pairs_free(&run->methods);
    pairs_free(&run->cost);
    pairs_free(&run->slow);
    for (int i = 0; i < run->n_marks; i++) free(run->marks[i].what);
    free(run->marks);
    run->marks = NULL;
    run->n_marks = 0;
}

/* What a process said of itself. */
static void take_process(report_run *run, const par_log_record *record) {
    par_log_fields(record, NULL, add_pair, &run->start);
    par_log_fields(record, "options", add_pair, &run->options);
}

static void take_start(reading *r, const par_log_record *record) {
    report_run *run = r->run;
    if (run->start.n || run->steps.n) run->n_before++;
    forget(run);
    r->tokens = r->seconds = 0;
    take_process(run, record);
}

static void take_step(reading *r, const par_log_record *record) {
    report_table *t = &r->run->steps;
    if (!add_row(t, record)) {
        r->no_memory = true;
        return;
    }
    int64_t at = t->n - 1;
    double targets = t->columns[STEP_TARGETS][at], seconds = t->columns[STEP_SECONDS][at];
    r->tokens += isnan(targets) ? 0 : targets;
    r->seconds += isnan(seconds) ? 0 : seconds;
    t->columns[STEP_SUM_TOKENS][at] = r->tokens;
    t->columns[STEP_SUM_SECONDS][at] = r->seconds;
    if (par_log_flag(record, "skipped"))
        add_mark(r->run, t->columns[STEP_NUMBER][at], "step skipped");
}

static void take_validation(reading *r, const par_log_record *record) {
    report_table *t = &r->run->validations;
    if (!add_row(t, record)) {
        r->no_memory = true;
        return;
    }
    int64_t at = t->n - 1;
    double seconds = t->columns[VALIDATION_SECONDS][at];
    r->seconds += isnan(seconds) ? 0 : seconds;
    t->columns[VALIDATION_SUM_TOKENS][at] = r->tokens;
    t->columns[VALIDATION_SUM_SECONDS][at] = r->seconds;
}

static void take_resume(reading *r, const par_log_record *record) {
    char what[64];
    snprintf(what, sizeof what, "resumed on %lld ranks",
             (long long)par_log_whole(record, "ranks", 0));
    add_mark(r->run, par_log_number(record, "step"), what);
    if (!par_log_string(record, "version")) return; /* as older logs have it */
    pairs_free(&r->run->start);
    pairs_free(&r->run->options);
    take_process(r->run, record);
}

static void take_signal(reading *r, const par_log_record *record) {
    add_mark(r->run, par_log_number(record, "step"), "signal");
}

static void take_methods(reading *r, const par_log_record *record) {
    pairs_free(&r->run->methods);
    par_log_fields(record, NULL, add_pair, &r->run->methods);
}

static void take_health(reading *r, const par_log_record *record) {
    char step[32];
    const char *slow = par_log_string(record, "measured.slow");
    if (!add_row(&r->run->health, record)) r->no_memory = true;
    snprintf(step, sizeof step, "%lld", (long long)par_log_whole(record, "step", 0));
    if (slow && *slow) add_pair(&r->run->slow, step, slow);
}

/* The last one has the sums. */
static void take_cost(reading *r, const par_log_record *record) {
    if (!add_row(&r->run->costs, record)) r->no_memory = true;
    pairs_free(&r->run->cost);
    par_log_fields(record, NULL, add_pair, &r->run->cost);
    par_log_fields(record, "measured", add_pair, &r->run->cost);
}

static const struct {
    const char *event;
    void (*take)(reading *, const par_log_record *);
} events[] = {{"step", take_step},     {"validation", take_validation}, {"start", take_start},
              {"resume", take_resume}, {"signal", take_signal},         {"methods", take_methods},
              {"cost", take_cost},     {"health", take_health}};

static par_status take(void *user, const par_log_record *record, int64_t line) {
    reading *r = user;
    const char *event = par_log_event(record);
    (void)line;
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        if (strcmp(event, events[i].event) == 0) events[i].take(r, record);
    return r->no_memory ? par_error_set(PAR_ERR_MEMORY, "no host memory for the steps of a log")
                        : PAR_OK;
}

static const char *last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

/* The directory's log, or the file itself. */
static par_status find(const char *path, report_run *out) {
    struct stat info;
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    if (n >= sizeof out->directory)
        return par_error_set(PAR_ERR_ARG, "%.64s...: the path is too long", path);
    if (stat(path, &info) != 0)
        return par_error_set(PAR_ERR_IO, "%s: is not there; legal: a run's directory, or a log",
                             path);
    if (!S_ISDIR(info.st_mode)) {
        snprintf(out->log, sizeof out->log, "%s", path);
        out->name = last_part(out->log);
        return PAR_OK;
    }
    memcpy(out->directory, path, n);
    snprintf(out->log, sizeof out->log, "%s/log.jsonl", out->directory);
    out->name = last_part(out->directory);
    return PAR_OK;
}

par_status report_read(const char *path, report_run *out) {
    reading r = {.run = out};
    *out = (report_run){0};
    out->steps = (report_table){.fields = step_fields, .n_columns = STEP_COLUMNS};
    out->validations = (report_table){.fields = validation_fields, .n_columns = VALIDATION_COLUMNS};
    out->health = (report_table){.fields = health_fields, .n_columns = HEALTH_COLUMNS};
    out->costs = (report_table){.fields = cost_fields, .n_columns = COST_COLUMNS};
    par_status st = find(path, out);
    if (st == PAR_OK) st = par_log_read(out->log, take, &r, &out->reading);
    if (st == PAR_OK && out->reading.n_records == 0)
        st = par_error_set(PAR_ERR_FORMAT,
                           "%s: has no records of a run; legal: a run's directory, or a log",
                           out->log);
    return st;
}

void report_close(report_run *run) {
    forget(run);
}

const char *report_value(const report_pairs *pairs, const char *name) {
    for (int i = 0; i < pairs->n; i++)
        if (strcmp(pairs->pairs[i].name, name) == 0) return pairs->pairs[i].value;
    return "";
}

const char *report_about(const report_run *run, const char *field) {
    return report_value(&run->start, field);
}

int64_t report_about_whole(const report_run *run, const char *field, int64_t otherwise) {
    const char *text = report_about(run, field);
    char *end;
    long long value = strtoll(text, &end, 10);
    return *text && !*end ? value : otherwise;
}

bool report_file(const report_run *run, const char *name, char path[1200]) {
    struct stat info;
    *path = 0;
    if (*run->directory) snprintf(path, 1200, "%s/%s", run->directory, name);
    return *path && stat(path, &info) == 0;
}

double report_last(const report_table *t, int column) {
    for (int64_t i = t->n; i > 0; i--)
        if (!isnan(t->columns[column][i - 1])) return t->columns[column][i - 1];
    return NAN;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double report_median(const report_table *t, int column) {
    double *sorted = malloc((size_t)(t->n + 1) * sizeof *sorted), median = NAN;
    int64_t n = 0;
    for (int64_t i = 0; sorted && i < t->n; i++)
        if (!isnan(t->columns[column][i])) sorted[n++] = t->columns[column][i];
    if (n) {
        qsort(sorted, (size_t)n, sizeof *sorted, by_value);
        median = sorted[n / 2];
    }
    free(sorted);
    return median;
}

double report_least(const report_table *t, int column, double *at_step) {
    double least = NAN;
    *at_step = NAN;
    for (int64_t i = 0; i < t->n; i++) {
        double value = t->columns[column][i];
        if (isnan(value) || value >= least) continue;
        least = value;
        *at_step = t->columns[0][i];
    }
    return least;
}
