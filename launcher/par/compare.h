/* par compare: compare.c (the command, the table on the terminal), compare_numbers.c (what is
 * compared), compare_page.c (the page). */
#ifndef PAR_COMPARE_H
#define PAR_COMPARE_H

#include "report.h"

enum { MAX_RUNS = CHART_MAX_SERIES / 2, MAX_OPTIONS = 512 };

/* The command line, and the runs that it names. */
typedef struct {
    const char *out;
    report_run runs[MAX_RUNS];
    int n;
    char names[MAX_RUNS][160]; /* different ones */
} comparison;

/* Numbers of runs: how many there are, and their names. */
int compare_n_numbers(void);
const char *compare_number_name(int number);
/* "7.73 k tok/s (1.42 x)"; the ratio is left out of the first run's. */
void compare_number_text(const comparison *c, int number, int run, char text[64]);
bool compare_any_has(const comparison *c, int number);

/* What the runs' starts say beside options: "version", "ranks", ...; NULL behind the last one. */
const char *compare_about(int which);
bool compare_about_differs(const comparison *c, int which);
/* "a: lines that are not records are left out: 1; the first is line 12"; false: there is none. */
bool compare_left_out(const comparison *c, int run, char *text, size_t nbytes);

/* Names of all options of all runs, each once, in the order of the first that has them. */
int compare_option_names(const comparison *c, const char **names, int max);
bool compare_differs(const comparison *c, const char *option);
/* As people type it: the log's min_lr is --min-lr. */
void compare_option_text(const char *option, char text[80]);

par_status compare_write_page(const comparison *c);

#endif
