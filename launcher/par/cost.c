/*
 * par cost analyze: what runs took, added up from their logs. A run's records of cost hold sums
 * since its start, so that their differences belong to the days of the records. Runs without a
 * price or a meter count with their steps' time alone.
 */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "par/log.h"
#include "par/par.h"
#include "par_tool.h"

enum { BY_PROJECT, BY_USER, BY_MODEL, BY_DAY };
enum { NAME = 128, PATH = 4200 };
#define MOST_TARGETS ((int64_t)1 << 40) /* of a step: sums fit into 64 bits */

static const par_choice ways[] = {
    {"project", BY_PROJECT}, {"user", BY_USER}, {"model", BY_MODEL}, {"day", BY_DAY}, {NULL, 0}};

typedef struct {
    double device_hours, money, joules;
    int64_t tokens, steps, runs;
} sums;

typedef struct {
    char name[NAME];
    sums all;
} row;

typedef struct {
    int by;
    const char *csv;
    row *rows; /* [n] */
    int n;
    struct {
        dev_t device;
        ino_t file;
    } * seen; /* [n_seen]: logs, so that one that is named twice counts once */
    int n_seen;
    int left_out, unpriced;
    /* the run that is read */
    char key[NAME], day[NAME];
    bool began, priced, counted; /* counted: in its row's runs */
    double ranks, step_s;
    sums last, open; /* at its last record of cost; tokens and steps that are in no row yet */
} analysis;

/* To the row of the run that is read. */
static par_status add(analysis *a, double device_hours, double money, double joules) {
    const char *name = a->by == BY_DAY ? a->day : a->key;
    int at = 0;
    while (at < a->n && strcmp(a->rows[at].name, name) != 0) at++;
    if (at == a->n) {
        row *more = realloc(a->rows, ((size_t)a->n + 1) * sizeof *more);
        if (!more) return par_error_set(PAR_ERR_MEMORY, "no host memory for a table");
        a->rows = more;
        a->rows[a->n] = (row){0};
        snprintf(a->rows[a->n++].name, NAME, "%s", name);
    }
    row *r = &a->rows[at];
    r->all.device_hours += device_hours;
    r->all.money += money;
    r->all.joules += joules;
    r->all.tokens += a->open.tokens;
    r->all.steps += a->open.steps;
    r->all.runs += !a->counted;
    a->counted = true;
    a->open = (sums){0};
    return PAR_OK;
}

/* The run that was read, to its end. */
static par_status end_run(analysis *a) {
    if (!a->began) return PAR_OK;
    a->unpriced += !a->priced;
    return add(a, a->priced ? 0 : a->ranks * a->step_s / 3600, 0, 0);
}

/* The day of a time like 2026-11-27T11:46:00Z. */
static void take_day(analysis *a, const par_log_record *record) {
    const char *time = par_log_string(record, "measured.time");
    if (time && strlen(time) >= 10) snprintf(a->day, NAME, "%.10s", time);
}

static par_status take_start(analysis *a, const par_log_record *record) {
    static const char *const fields[] = {"project", "measured.user", "model"};
    PAR_TRY(end_run(a));
    a->began = true;
    a->priced = a->counted = false;
    a->step_s = 0;
    a->ranks = (double)par_log_whole(record, "ranks", 1);
    a->last = a->open = (sums){0};
    snprintf(a->day, NAME, "not known");
    take_day(a, record);
    const char *key = a->by == BY_DAY ? NULL : par_log_string(record, fields[a->by]);
    snprintf(a->key, NAME, "%s", key && *key ? key : "none");
    return PAR_OK;
}

static double known(double value, double otherwise) {
    return isfinite(value) ? value : otherwise;
}

static par_status take_cost(analysis *a, const par_log_record *record) {
    const sums was = a->last;
    sums *now = &a->last;
    a->priced = true;
    take_day(a, record);
    now->device_hours = known(par_log_number(record, "measured.device_hours"), was.device_hours);
    now->money = known(par_log_number(record, "measured.cost_run"), was.money);
    now->joules = known(par_log_number(record, "measured.energy_run_j"), was.joules);
    return add(a, now->device_hours - was.device_hours, now->money - was.money,
               now->joules - was.joules);
}

static par_status take(void *user, const par_log_record *record, int64_t line) {
    analysis *a = user;
    const char *event = par_log_event(record);
    (void)line;
    if (strcmp(event, "start") == 0) return take_start(a, record);
    if (!a->began) return PAR_OK;
    if (strcmp(event, "resume") == 0) a->ranks = (double)par_log_whole(record, "ranks", 1);
    if (strcmp(event, "cost") == 0) return take_cost(a, record);
    if (strcmp(event, "step") != 0) return PAR_OK;
    a->open.steps++;
    int64_t targets = par_log_whole(record, "targets", 0);
    if (targets > 0 && targets <= MOST_TARGETS) a->open.tokens += targets;
    a->step_s += known(par_log_number(record, "measured.seconds"), 0);
    return PAR_OK;
}

static void leave_out(analysis *a, const char *path, const char *why) {
    fprintf(stderr, "par cost: %s: %s; left out\n", path, why);
    a->left_out++;
}

static par_status read_log(analysis *a, const char *path) {
    par_log_reading reading = {0};
    a->began = false;
    par_status st = par_log_read(path, take, a, &reading);
    bool began = a->began;
    if (st == PAR_OK) st = end_run(a);
    if (st == PAR_ERR_MEMORY) return st;
    if (st != PAR_OK)
        leave_out(a, path, par_error());
    else if (!began)
        leave_out(a, path, "is not the log of a run");
    else if (reading.n_left_out)
        fprintf(stderr, "par cost: %s: lines that are not records: %lld; the first is line %lld\n",
                path, (long long)reading.n_left_out, (long long)reading.left_out);
    return PAR_OK;
}

/* A log, or a directory with one; *found is false for anything else. */
static par_status read_run(analysis *a, const char *path, bool *found) {
    char log[PATH + 16];
    struct stat info;
    *found = stat(path, &info) == 0;
    snprintf(log, sizeof log, "%s", path);
    if (*found && S_ISDIR(info.st_mode)) {
        snprintf(log, sizeof log, "%s/log.jsonl", path);
        *found = stat(log, &info) == 0;
    }
    *found = *found && S_ISREG(info.st_mode);
    if (!*found) return PAR_OK;
    for (int i = 0; i < a->n_seen; i++)
        if (a->seen[i].device == info.st_dev && a->seen[i].file == info.st_ino) return PAR_OK;
    void *more = realloc(a->seen, ((size_t)a->n_seen + 1) * sizeof *a->seen);
    if (!more) return par_error_set(PAR_ERR_MEMORY, "no host memory for a list of logs");
    a->seen = more;
    a->seen[a->n_seen].device = info.st_dev;
    a->seen[a->n_seen++].file = info.st_ino;
    return read_log(a, log);
}

/* Folders in a folder of runs. */
static par_status read_folder(analysis *a, const char *path) {
    char inside[PATH];
    struct stat info;
    int n = 0;
    par_status st = PAR_OK;
    DIR *d = opendir(path);
    if (!d) {
        leave_out(a, path, strerror(errno));
        return PAR_OK;
    }
    for (struct dirent *e; st == PAR_OK && (errno = 0, e = readdir(d));) {
        bool found;
        snprintf(inside, sizeof inside, "%.3900s/%s", path, e->d_name);
        if (*e->d_name == '.' || stat(inside, &info) != 0 || !S_ISDIR(info.st_mode)) continue;
        n++;
        st = read_run(a, inside, &found);
        if (st == PAR_OK && !found) leave_out(a, inside, "has no log.jsonl");
    }
    if (st == PAR_OK && errno)
        st = par_error_set(PAR_ERR_IO, "%s: cannot be listed: %s", path, strerror(errno));
    closedir(d);
    if (n == 0) leave_out(a, path, "has no log.jsonl, and no folder with one");
    return st;
}

/* Days in their order, others from the dearest down. */
static int by_day(const void *a, const void *b) {
    return strcmp(((const row *)a)->name, ((const row *)b)->name);
}

static int by_cost(const void *a, const void *b) {
    const sums *x = &((const row *)a)->all, *y = &((const row *)b)->all;
    if (x->money != y->money) return x->money < y->money ? 1 : -1;
    if (x->device_hours != y->device_hours) return x->device_hours < y->device_hours ? 1 : -1;
    return by_day(a, b);
}

static double per_million(const sums *s) {
    return s->tokens ? 1e6 * s->money / (double)s->tokens : 0;
}

static void print_row(const char *name, const sums *s, int width) {
    printf("%-*s %5lld %9lld %14lld %12.3f %10.3f %12.2f %12.4g\n", width, name, (long long)s->runs,
           (long long)s->steps, (long long)s->tokens, s->device_hours, s->joules / 3.6e6, s->money,
           per_million(s));
}

static void print_table(const analysis *a) {
    sums all = {0};
    int width = 8;
    for (int i = 0; i < a->n; i++) {
        const sums *s = &a->rows[i].all;
        int n = (int)strlen(a->rows[i].name);
        if (n > width) width = n;
        all.device_hours += s->device_hours, all.money += s->money, all.joules += s->joules;
        all.tokens += s->tokens, all.steps += s->steps, all.runs += s->runs;
    }
    printf("%-*s %5s %9s %14s %12s %10s %12s %12s\n", width, par_choice_name(ways, a->by), "runs",
           "steps", "tokens", "device-hours", "kWh", "cost", "per 1M tokens");
    for (int i = 0; i < a->n; i++) print_row(a->rows[i].name, &a->rows[i].all, width);
    print_row("all", &all, width);
    if (a->unpriced)
        printf("%d of the runs had neither a price nor a meter: their device-hours are those of "
               "their steps\n",
               a->unpriced);
}

static par_status write_csv(const analysis *a) {
    char *text = NULL;
    size_t nbytes = 0;
    FILE *out = open_memstream(&text, &nbytes);
    if (!out) return par_error_set(PAR_ERR_MEMORY, "no host memory for %s", a->csv);
    fprintf(out, "%s,runs,steps,tokens,device_hours,kwh,cost,cost_million_tokens\n",
            par_choice_name(ways, a->by));
    for (int i = 0; i < a->n; i++) {
        const sums *s = &a->rows[i].all;
        putc('"', out); /* RFC 4180 */
        for (const char *c = a->rows[i].name; *c; c++) {
            if (*c == '"') putc('"', out);
            putc(*c, out);
        }
        fprintf(out, "\",%lld,%lld,%lld,%.9g,%.9g,%.9g,%.9g\n", (long long)s->runs,
                (long long)s->steps, (long long)s->tokens, s->device_hours, s->joules / 3.6e6,
                s->money, per_million(s));
    }
    bool whole = !ferror(out);
    whole = fclose(out) == 0 && whole;
    par_status st = whole ? par_tool_write(a->csv, text, nbytes)
                          : par_error_set(PAR_ERR_MEMORY, "no host memory for %s", a->csv);
    free(text);
    return st;
}

static par_status analyze_all(analysis *a, const par_words *runs) {
    for (int i = 0; i < runs->n; i++) {
        const char *path = runs->words[i];
        struct stat info;
        bool found, folder = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
        PAR_TRY(read_run(a, path, &found));
        if (!found && folder) PAR_TRY(read_folder(a, path));
        if (!found && !folder) leave_out(a, path, "is neither a directory nor a log");
    }
    if (a->n == 0)
        return par_error_set(PAR_ERR_IO, "there is no run; legal: directories that train_llm's "
                                         "--run left, folders of them, or logs");
    qsort(a->rows, (size_t)a->n, sizeof *a->rows, a->by == BY_DAY ? by_day : by_cost);
    print_table(a);
    return a->csv ? write_csv(a) : PAR_OK;
}

static const char usage[] =
    "usage: par cost analyze RUNS... [options]\n"
    "Adds up what runs took: device-hours, energy, money. What is not a run is named and left out.";

static int analyze(int argc, char **argv) {
    analysis a = {0};
    par_problems problems = {0};
    par_words runs;
    const par_option rows[] = {
        {.name = "RUNS...",
         .type = PAR_OPT_OPERANDS,
         .value = &runs,
         .legal = "1..",
         .help = "directories that train_llm's --run left, folders of such directories, or logs"},
        {.name = "by",
         .type = PAR_OPT_CHOICE,
         .value = &a.by,
         .initial = "project",
         .choices = ways,
         .help = "what a row adds up; days are of UTC"},
        {.name = "csv",
         .type = PAR_OPT_TEXT,
         .value = &a.csv,
         .help = "write the rows as a table, too",
         .metavar = "FILE"},
    };
    if (par_tool_read(rows, 3, usage, argc, argv, &problems)) return EXIT_SUCCESS;
    par_tool_output("--csv", a.csv, PAR_OUTPUT_COST_CSV, &problems);
    int code = par_tool_refuse("cost analyze", &problems);
    if (code) return code;
    par_status st = analyze_all(&a, &runs);
    free(a.rows);
    free(a.seen);
    if (st == PAR_OK) return EXIT_SUCCESS;
    fprintf(stderr, "par cost analyze: %s\n", par_error());
    return PAR_TOOL_INPUT;
}

/* Its one subcommand's help is the command's, too. */
int par_cost(int argc, char **argv) {
    static char help[] = "--help", *const ask[] = {help};
    const char *word = argc > 0 ? argv[0] : "--help";
    if (strcmp(word, "analyze") == 0) return analyze(argc - 1, argv + 1);
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) return analyze(1, (char **)ask);
    fprintf(stderr, "par cost: %s: unknown; legal: analyze\n", word);
    return PAR_TOOL_INPUT;
}
