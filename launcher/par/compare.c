/*
 * par compare: several runs as one page of HTML and as a table on the terminal. Curves of losses
 * and throughput lie over each other by step, by tokens and by time; numbers have their ratio to
 * the first run's.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "par_tool.h"
#include "report.h"

static const char usage[] =
    "usage: par compare RUN RUN... [options]\n"
    "Lays runs over each other: losses and throughput by step, by tokens and by time, the options\n"
    "that differ, final losses, speeds and cost, with ratios to the first run. A RUN is a run's\n"
    "directory, or its log. The same numbers are printed.";

enum { MAX_RUNS = CHART_MAX_SERIES / 2, N_ROWS = 2 };

typedef struct {
    const char *out;
    bool help;
    report_run runs[MAX_RUNS];
    int n;
    char names[MAX_RUNS][160]; /* different ones */
} comparison;

static void make_rows(comparison *c, par_option rows[N_ROWS]) {
    const par_option list[N_ROWS] = {
        {.name = "out",
         .type = PAR_OPT_TEXT,
         .value = &c->out,
         .initial = "compare.html",
         .help = "the page",
         .metavar = "FILE",
         .also = "output|o"},
        {.name = "help",
         .type = PAR_OPT_BOOL,
         .value = &c->help,
         .help = "print this text and end"},
    };
    memcpy(rows, list, sizeof list);
    for (int i = 0; i < N_ROWS; i++) rows[i].group = "Options";
}

/* The last part of a path; where two are equal, they get their numbers. */
static void name_runs(comparison *c) {
    for (int i = 0; i < c->n; i++) {
        bool equal = false;
        for (int k = 0; k < c->n; k++)
            equal = equal || (k != i && strcmp(c->runs[i].name, c->runs[k].name) == 0);
        if (equal)
            snprintf(c->names[i], sizeof c->names[i], "%.140s (%d)", c->runs[i].name, i + 1);
        else
            snprintf(c->names[i], sizeof c->names[i], "%.150s", c->runs[i].name);
    }
}

/* ---- numbers ---- */

static double last_loss(const report_run *r) {
    return report_last(&r->steps, STEP_LOSS);
}

static double last_validation(const report_run *r) {
    return report_last(&r->validations, VALIDATION_LOSS);
}

static double best_validation(const report_run *r) {
    double step;
    return report_least(&r->validations, VALIDATION_LOSS, &step);
}

static double last_step(const report_run *r) {
    return report_last(&r->steps, STEP_NUMBER);
}

static double tokens(const report_run *r) {
    return report_last(&r->steps, STEP_SUM_TOKENS);
}

static double took(const report_run *r) {
    return report_last(&r->steps, STEP_SUM_SECONDS);
}

static double step_time(const report_run *r) {
    return report_median(&r->steps, STEP_SECONDS);
}

static double rate(const report_run *r) {
    return report_median(&r->steps, STEP_RATE);
}

static double mfu(const report_run *r) {
    return report_median(&r->steps, STEP_MFU);
}

static double cost(const report_run *r) {
    const char *text = report_value(&r->cost, REPORT_COST_OF_RUN);
    return *text ? strtod(text, NULL) : NAN;
}

static const struct {
    const char *name;
    double (*of)(const report_run *run);
    report_text *text;
    bool ratio; /* to the first run's is worth telling */
} numbers[] = {
    {"last training loss", last_loss, report_plain, false},
    {"last validation loss", last_validation, report_plain, false},
    {"best validation loss", best_validation, report_plain, false},
    {"steps", last_step, report_plain, false},
    {"tokens", tokens, report_count, false},
    {"median throughput", rate, report_rate, true},
    {"median step", step_time, report_seconds, true},
    {"median MFU", mfu, report_percent, true},
    {"time of steps and validations", took, report_seconds, true},
    {"cost", cost, report_plain, true},
};

enum { N_NUMBERS = sizeof numbers / sizeof *numbers };

/* "7.73 k tok/s (1.42 x)"; the ratio is left out of the first run's. */
static void number_text(const comparison *c, int number, int run, char text[64]) {
    char value[REPORT_TEXT];
    double own = numbers[number].of(&c->runs[run]), first = numbers[number].of(&c->runs[0]);
    numbers[number].text(own, value);
    if (run > 0 && numbers[number].ratio && own / first > 0 && isfinite(own / first))
        snprintf(text, 64, "%s (%.3g x)", value, own / first);
    else
        snprintf(text, 64, "%s", value);
}

static bool any_run_has(const comparison *c, int number) {
    for (int i = 0; i < c->n; i++)
        if (!isnan(numbers[number].of(&c->runs[i]))) return true;
    return false;
}

/* ---- options ---- */

/* Names of all options of all runs, each once, in the order of the first that has them. */
static int option_names(const comparison *c, const char **names, int max) {
    int n = 0;
    for (int i = 0; i < c->n; i++)
        for (int k = 0; k < c->runs[i].options.n; k++) {
            const char *name = c->runs[i].options.pairs[k].name;
            bool known = n == max;
            for (int m = 0; m < n && !known; m++) known = strcmp(names[m], name) == 0;
            if (!known) names[n++] = name;
        }
    return n;
}

static bool differs(const comparison *c, const char *name) {
    const char *first = report_value(&c->runs[0].options, name);
    for (int i = 1; i < c->n; i++)
        if (strcmp(report_value(&c->runs[i].options, name), first) != 0) return true;
    return false;
}

/* As people type it: the log's min_lr is --min-lr. */
static void option_text(const char *name, char text[80]) {
    snprintf(text, 80, "--%.70s", name);
    for (char *at = text; *at; at++)
        if (*at == '_') *at = '-';
}

enum { MAX_OPTIONS = 512 };

/* ---- on the terminal ---- */

static void print_row(const char *name, const comparison *c,
                      void (*cell)(const comparison *c, int run, const char *name, int number,
                                   char text[64]),
                      const char *key, int number) {
    printf("%-30.30s", name);
    for (int i = 0; i < c->n; i++) {
        char text[64];
        cell(c, i, key, number, text);
        printf("  %-*.26s", i < c->n - 1 ? 26 : 0, text);
    }
    printf("\n");
}

static void name_cell(const comparison *c, int run, const char *key, int number, char text[64]) {
    (void)key;
    (void)number;
    snprintf(text, 64, "%.63s", c->names[run]);
}

static void number_cell(const comparison *c, int run, const char *key, int number, char text[64]) {
    (void)key;
    number_text(c, number, run, text);
}

static void option_cell(const comparison *c, int run, const char *key, int number, char text[64]) {
    (void)number;
    char short_text[REPORT_TEXT];
    const char *value = report_short(report_value(&c->runs[run].options, key), short_text);
    snprintf(text, 64, "%.63s", *value ? value : "-");
}

static void print_all(const comparison *c) {
    const char *names[MAX_OPTIONS];
    int n = option_names(c, names, MAX_OPTIONS);
    print_row("", c, name_cell, NULL, 0);
    for (int i = 0; i < N_NUMBERS; i++)
        if (any_run_has(c, i)) print_row(numbers[i].name, c, number_cell, NULL, i);
    for (int i = 0; i < n; i++) {
        char text[80];
        if (!differs(c, names[i])) continue;
        option_text(names[i], text);
        print_row(text, c, option_cell, names[i], 0);
    }
}

/* ---- the page ---- */

static void put_names(report_page *p, const comparison *c, const char *what) {
    const char *heads[MAX_RUNS + 1] = {what};
    for (int i = 0; i < c->n; i++) heads[i + 1] = c->names[i];
    report_table_begin(p, heads, c->n + 1);
}

static void put_numbers(report_page *p, const comparison *c) {
    put_names(p, c, "");
    for (int i = 0; i < N_NUMBERS; i++) {
        if (!any_run_has(c, i)) continue;
        report_row(p);
        report_cell(p, numbers[i].name);
        for (int k = 0; k < c->n; k++) {
            char text[64];
            number_text(c, i, k, text);
            report_cell(p, text);
        }
    }
    report_table_end(p);
}

static void put_options(report_page *p, const comparison *c) {
    const char *names[MAX_OPTIONS];
    int n = option_names(c, names, MAX_OPTIONS), n_differ = 0;
    for (int i = 0; i < n; i++) n_differ += differs(c, names[i]);
    if (n_differ == 0) {
        report_note(p, n ? "All options are the same." : "The logs have no options.");
        return;
    }
    put_names(p, c, "option");
    for (int i = 0; i < n; i++) {
        char text[80];
        if (!differs(c, names[i])) continue;
        option_text(names[i], text);
        report_row(p);
        report_cell(p, text);
        for (int k = 0; k < c->n; k++) {
            char short_text[REPORT_TEXT];
            report_cell(p, report_short(report_value(&c->runs[k].options, names[i]), short_text));
        }
    }
    report_table_end(p);
    report_note(p, "%d other options are the same.", n - n_differ);
}

/* What curves lie over. */
static const struct {
    const char *name;
    int of_step, of_validation;
    report_text *text;
} along[] = {{"step", STEP_NUMBER, VALIDATION_STEP, report_count},
             {"tokens", STEP_SUM_TOKENS, VALIDATION_SUM_TOKENS, report_count},
             {"time", STEP_SUM_SECONDS, VALIDATION_SUM_SECONDS, report_seconds}};

enum { N_ALONG = sizeof along / sizeof *along };

static void add_series(chart_series *list, int *n, const report_table *t, int x, int y,
                       const char *name, int color) {
    if (t->n)
        list[(*n)++] = (chart_series){
            .name = name, .x = t->columns[x], .y = t->columns[y], .n = t->n, .color = color};
}

static void put_chart(report_page *p, const char *title, const chart_series *series, int n,
                      int over, report_text *text, bool from_zero) {
    const report_chart chart = {.title = title,
                                .x_name = along[over].name,
                                .x_text = along[over].text,
                                .y_text = text,
                                .series = series,
                                .n_series = n,
                                .from_zero = from_zero,
                                .wide = over == 0};
    report_put_chart(p, &chart);
}

static void put_losses(report_page *p, const comparison *c, bool validation) {
    report_put(p, "<div class=\"charts\">\n");
    for (int over = 0; over < N_ALONG; over++) {
        chart_series series[MAX_RUNS];
        char title[64];
        int n = 0;
        for (int i = 0; i < c->n; i++)
            add_series(series, &n, validation ? &c->runs[i].validations : &c->runs[i].steps,
                       validation ? along[over].of_validation : along[over].of_step,
                       validation ? (int)VALIDATION_LOSS : (int)STEP_LOSS, c->names[i], i);
        for (int i = 0; i < n && validation; i++) series[i].flags = CHART_DOTS;
        snprintf(title, sizeof title, "%s loss by %s", validation ? "Validation" : "Training",
                 along[over].name);
        put_chart(p, title, series, n, over, report_plain, false);
    }
    report_put(p, "</div>\n");
}

static void put_rates(report_page *p, const comparison *c) {
    report_put(p, "<div class=\"charts\">\n");
    for (int over = 0; over < N_ALONG; over++) {
        chart_series series[MAX_RUNS];
        char title[64];
        int n = 0;
        for (int i = 0; i < c->n; i++)
            add_series(series, &n, &c->runs[i].steps, along[over].of_step, STEP_RATE, c->names[i],
                       i);
        snprintf(title, sizeof title, "Throughput by %s", along[over].name);
        put_chart(p, title, series, n, over, report_rate, true);
    }
    report_put(p, "</div>\n");
}

static par_status write_page(const comparison *c) {
    report_page p;
    PAR_TRY(report_page_begin(&p, "Runs compared"));
    report_put(&p, "<header><h1>%d runs compared</h1>\n<p class=\"about\">", c->n);
    for (int i = 0; i < c->n; i++) {
        report_put(&p, i ? " · " : "");
        report_put_text(&p, c->names[i]);
    }
    report_put(&p, "</p></header>\n<main>\n");
    report_section(&p, "numbers", "Side by side");
    put_numbers(&p, c);
    report_section(&p, "differ", "Options that differ");
    put_options(&p, c);
    report_section(&p, "training", "Training loss");
    put_losses(&p, c, false);
    report_section(&p, "validation", "Validation loss");
    put_losses(&p, c, true);
    report_section(&p, "speed", "Throughput");
    put_rates(&p, c);
    return report_page_end(&p, c->out);
}

static int compare(comparison *c, char **paths) {
    par_status st = PAR_OK;
    for (int i = 0; i < c->n && st == PAR_OK; i++) st = report_read(paths[i], &c->runs[i]);
    if (st == PAR_OK) name_runs(c);
    if (st == PAR_OK) st = write_page(c);
    if (st == PAR_OK) {
        print_all(c);
        printf("%s\n", c->out);
    } else {
        fprintf(stderr, "par compare: %s\n", par_error());
    }
    for (int i = 0; i < c->n; i++) report_close(&c->runs[i]);
    return st == PAR_OK ? EXIT_SUCCESS : PAR_TOOL_INPUT;
}

int par_compare(int argc, char **argv) {
    static comparison c;
    par_problems problems = {0};
    par_option rows[N_ROWS];
    char **paths = argv;
    make_rows(&c, rows);
    while (argc > 0 && argv[0][0] != '-') {
        c.n++;
        argv++;
        argc--;
    }
    par_options_parse(rows, N_ROWS, argc, argv, &problems);
    if (c.help) {
        char text[4096];
        par_options_help(rows, N_ROWS, usage, text, sizeof text);
        printf("%s", text);
        return EXIT_SUCCESS;
    }
    if (c.n < 2 || c.n > MAX_RUNS)
        par_problem(&problems, "RUN: there are %d; legal: 2 to %d, in front of options", c.n,
                    MAX_RUNS);
    if (par_problems_status(&problems, PAR_ERR_OPTION) != PAR_OK) {
        fprintf(stderr, "par compare: %s\n", par_error());
        return PAR_TOOL_INPUT;
    }
    return compare(&c, paths);
}
