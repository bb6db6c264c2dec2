/*
 * par compare: several runs as one page of HTML and as a table on the terminal. Curves of losses
 * and throughput lie over each other by step, by tokens and by time; numbers have their ratio to
 * the first run's.
 */
#include <stdlib.h>
#include <string.h>

#include "compare.h"
#include "par_tool.h"

static const char usage[] =
    "usage: par compare RUN RUN... [options]\n"
    "Lays runs over each other: losses and throughput by step, by tokens and by time, the options\n"
    "that differ, final losses, speeds and cost, with ratios to the first run. The same numbers "
    "are\n"
    "printed.";

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
    compare_number_text(c, number, run, text);
}

static void option_cell(const comparison *c, int run, const char *key, int number, char text[64]) {
    (void)number;
    char short_text[REPORT_TEXT];
    const char *value = report_short(report_value(&c->runs[run].options, key), short_text);
    snprintf(text, 64, "%.63s", *value ? value : "-");
}

static void about_cell(const comparison *c, int run, const char *key, int number, char text[64]) {
    (void)number;
    snprintf(text, 64, "%.63s", report_about(&c->runs[run], key));
}

static void print_all(const comparison *c) {
    const char *names[MAX_OPTIONS];
    int n = compare_option_names(c, names, MAX_OPTIONS);
    print_row("", c, name_cell, NULL, 0);
    for (int i = 0; compare_about(i); i++)
        if (compare_about_differs(c, i))
            print_row(compare_about(i), c, about_cell, compare_about(i), 0);
    for (int i = 0; i < compare_n_numbers(); i++)
        if (compare_any_has(c, i)) print_row(compare_number_name(i), c, number_cell, NULL, i);
    for (int i = 0; i < n; i++) {
        char text[80];
        if (!compare_differs(c, names[i])) continue;
        compare_option_text(names[i], text);
        print_row(text, c, option_cell, names[i], 0);
    }
    for (int i = 0; i < c->n; i++) {
        char text[256];
        if (compare_left_out(c, i, text, sizeof text)) printf("note: %s\n", text);
    }
    printf("%s\n", c->out);
}

static int compare(comparison *c, const char *const *paths) {
    par_problems problems = {0};
    for (int i = 0; i < c->n; i++) {
        if (report_read(paths[i], &c->runs[i]) != PAR_OK) par_problem(&problems, "%s", par_error());
    }
    int code = par_tool_refuse("compare", &problems);
    par_status st = code ? PAR_ERR_IO : PAR_OK;
    /* a run's name is the last part of its path; where two are equal, they get their numbers */
    for (int i = 0; i < c->n && st == PAR_OK; i++) {
        bool equal = false;
        for (int k = 0; k < c->n; k++)
            equal = equal || (k != i && strcmp(c->runs[i].name, c->runs[k].name) == 0);
        if (equal)
            snprintf(c->names[i], sizeof c->names[i], "%.140s (%d)", c->runs[i].name, i + 1);
        else
            snprintf(c->names[i], sizeof c->names[i], "%.150s", c->runs[i].name);
    }
    if (st == PAR_OK) st = compare_write_page(c);
    if (st == PAR_OK)
        print_all(c);
    else if (!code)
        fprintf(stderr, "par compare: %s\n", par_error());
    for (int i = 0; i < c->n; i++) report_close(&c->runs[i]);
    return st == PAR_OK ? EXIT_SUCCESS : PAR_TOOL_INPUT;
}

int par_compare(int argc, char **argv) {
    static comparison c;
    par_problems problems = {0};
    par_words runs;
    const par_option rows[] = {
        {.name = "RUN...",
         .type = PAR_OPT_OPERANDS,
         .value = &runs,
         .legal = "2..8",
         .help = "runs' directories, or their logs, from 2 to 8"},
        {.name = "out",
         .type = PAR_OPT_TEXT,
         .value = &c.out,
         .initial = "compare.html",
         .help = "the page",
         .metavar = "FILE",
         .also = "output|o"},
    };
    _Static_assert(MAX_RUNS == 8, "the row of runs says how many there may be");
    if (par_tool_read(rows, 2, usage, argc, argv, &problems)) return EXIT_SUCCESS;
    par_tool_output("--out", c.out, PAR_OUTPUT_PAGE, &problems);
    int code = par_tool_refuse("compare", &problems);
    if (code) return code;
    c.n = runs.n;
    return compare(&c, runs.words);
}
