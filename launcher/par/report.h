/*
 * par report and par compare: pages of HTML on runs, without anything from elsewhere. report_read.c
 * reads a run, report_page.c and report_chart.c write what a page is made of, each report_SECTION.c
 * writes a section. report.css and report.js are in the program as arrays.
 */
#ifndef PAR_REPORT_H
#define PAR_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "par/par.h"

extern const char report_css[], report_js[]; /* made by `embed` */

/* ---- what a run left ---- */

#define REPORT_COST_OF_RUN "cost_run" /* of the record "cost" */

/* Rows of numbers, a column per field of a record; NAN: the record has none. */
typedef struct {
    const char *const *fields; /* [n_columns], as par_log_number takes them */
    int n_columns;
    int64_t n, max;
    double **columns; /* [n_columns][n] */
} report_table;

/* Columns of report_run.steps. The sums count from the log's first step. */
enum {
    STEP_NUMBER,
    STEP_LOSS,
    STEP_NORM,
    STEP_LR,
    STEP_TARGETS,
    STEP_SCALE,
    STEP_SECONDS,
    STEP_RATE,
    STEP_MFU,
    STEP_DATA,
    STEP_FORWARD,
    STEP_BACKWARD,
    STEP_WAIT_PIPELINE,
    STEP_WAIT_DP,
    STEP_UPDATE,
    STEP_BUBBLE,
    STEP_IDEAL,
    STEP_SUM_TOKENS,
    STEP_SUM_SECONDS, /* of steps and validations */
    STEP_COLUMNS
};
/* Of report_run.validations. */
enum {
    VALIDATION_STEP,
    VALIDATION_LOSS,
    VALIDATION_SECONDS,
    VALIDATION_SUM_TOKENS,
    VALIDATION_SUM_SECONDS,
    VALIDATION_COLUMNS
};

/* Of report_run.health: a step, then for each time HEALTH_OF columns. */
enum { HEALTH_MIN, HEALTH_MEDIAN, HEALTH_MAX, HEALTH_RATIO, HEALTH_SLOWEST, HEALTH_OF };
enum { HEALTH_TIMES = 5, HEALTH_COLUMNS = 1 + HEALTH_TIMES * HEALTH_OF };
/* Of report_run.costs. */
enum { COST_STEP, COST_RUN, COST_TOKENS, COST_COLUMNS };

typedef struct {
    char *name, *value;
} report_pair;

typedef struct {
    report_pair *pairs;
    int n;
} report_pairs;

/* Something that happened after a step: "resumed", "signal", "step skipped". */
typedef struct {
    double step;
    char *what;
} report_mark;

typedef struct {
    char directory[1024], log[1100]; /* "": there is none */
    const char *name;                /* the last part of its path */
    par_log_reading reading;
    int n_before; /* runs that stand in the log before this one */
    report_pairs start, options, methods, cost, slow; /* slow: ranks by step */
    report_table steps, validations, health, costs;
    report_mark *marks;
    int n_marks;
} report_run;

/* A run's directory, or a log alone; close it also after an error. */
par_status report_read(const char *path, report_run *out);
void report_close(report_run *run);
/* Of the record "start", or "". */
const char *report_about(const report_run *run, const char *field);
/* The same as a number; `otherwise` where it is none. */
int64_t report_about_whole(const report_run *run, const char *field, int64_t otherwise);
const char *report_value(const report_pairs *pairs, const char *name);
/* A path of the run's directory, "" if it has none; true: there is something. */
bool report_file(const report_run *run, const char *name, char path[1200]);
double report_last(const report_table *t, int column); /* that is a number; else NAN */
double report_median(const report_table *t, int column);
double report_least(const report_table *t, int column, double *at_step);

/* ---- a page ---- */

typedef struct {
    FILE *out;  /* memory */
    char *text; /* [nbytes] what was written */
    size_t nbytes;
    int n_charts;
    bool in_section;
} report_page;

par_status report_page_begin(report_page *p, const char *title);
/* The page under its name at once, or an error; frees it. NULL: it is given up. */
par_status report_page_end(report_page *p, const char *path);
/* HTML as it is. */
__attribute__((format(printf, 2, 3))) void report_put(report_page *p, const char *format, ...);
/* Text of any kind: what HTML reserves is escaped, what is not UTF-8 becomes ?. */
void report_put_text(report_page *p, const char *text);
/* The same as a string of JSON within a script. */
void report_put_json(report_page *p, const char *text);
/* A number with every digit, null where it is none: for JSON and data attributes. */
void report_put_number(report_page *p, double value);
void report_section(report_page *p, const char *id, const char *title);
/* What the run does not have, and which option brings it. */
void report_missing(report_page *p, const char *what, const char *how);
/* A note of printf's text, escaped. */
__attribute__((format(printf, 2, 3))) void report_note(report_page *p, const char *format, ...);

/* Tables whose columns sort by a click. A head that begins with '#' is of numbers: to the right. */
void report_table_begin(report_page *p, const char *const *heads, int n);
void report_row(report_page *p);
void report_cell(report_page *p, const char *text);
void report_cell_number(report_page *p, double sorts_as, const char *text);
void report_table_end(report_page *p);
/* Names and values as a table, _ in names as a space; `what`: the head of the names. */
void report_put_pairs(report_page *p, const report_pairs *list, const char *what);

/* Numbers as people read them, with a unit that fits; "-" for NAN. Return text. */
enum { REPORT_TEXT = 40 };
typedef const char *report_text(double value, char text[REPORT_TEXT]);
const char *report_plain(double value, char text[REPORT_TEXT]);
const char *report_four(double value, char text[REPORT_TEXT]);    /* 4 digits, no unit */
const char *report_count(double value, char text[REPORT_TEXT]);   /* 1.23 M */
const char *report_bytes(double value, char text[REPORT_TEXT]);   /* 3.20 MiB */
const char *report_seconds(double value, char text[REPORT_TEXT]); /* 132 ms, 2 h 14 min */
const char *report_rate(double value, char text[REPORT_TEXT]);    /* 7.73 k tok/s */
/* 0.00030000000000000003 is 0.0003 for people; other texts stay. */
const char *report_short(const char *value, char text[REPORT_TEXT]);
const char *report_percent(double value, char text[REPORT_TEXT]); /* of a share: 38.1 % */

/* ---- charts ---- */

enum { CHART_DOTS = 1, CHART_MAX_SERIES = 16 };

typedef struct {
    const char *name;
    const double *x, *y; /* [n]; rising x */
    int64_t n;
    int color; /* 0..7 */
    unsigned flags;
} chart_series;

typedef struct {
    const char *title, *x_name;
    report_text *x_text, *y_text;
    const chart_series *series;
    int n_series;
    const report_mark *marks; /* [n_marks] along x, which is steps */
    int n_marks;
    bool from_zero; /* y begins at 0 */
    bool wide;      /* takes the page's whole width */
} report_chart;

/* Linear and, where all is positive, logarithmic; nothing where no series has a number. */
void report_put_chart(report_page *p, const report_chart *chart);

/* ---- sections ---- */

void report_configuration(report_page *p, const report_run *run);
void report_training(report_page *p, const report_run *run);
void report_speed(report_page *p, const report_run *run);
void report_pipeline(report_page *p, const report_run *run);
/* The measured pipeline of the last traced step; false: the run has no trace. */
bool report_trace(report_page *p, const report_run *run);
void report_communication(report_page *p, const report_run *run);
void report_memory(report_page *p, const report_run *run);
void report_health(report_page *p, const report_run *run);
void report_cost(report_page *p, const report_run *run);
void report_checkpoints(report_page *p, const report_run *run);
void report_methods(report_page *p, const report_run *run);

#endif
