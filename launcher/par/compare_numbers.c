/* What par compare puts side by side: numbers of runs, and options that differ. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compare.h"

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
    {"cost", cost, report_four, true},
};

enum { N_NUMBERS = sizeof numbers / sizeof *numbers };

void compare_number_text(const comparison *c, int number, int run, char text[64]) {
    char value[REPORT_TEXT];
    double own = numbers[number].of(&c->runs[run]), first = numbers[number].of(&c->runs[0]);
    numbers[number].text(own, value);
    const char *all = report_value(&c->runs[run].options, "steps");
    if (numbers[number].of == last_step && strtod(all, NULL) > own) /* it runs, or ended early */
        snprintf(text, 64, "%s of %.20s", value, all);
    else if (run > 0 && numbers[number].ratio && own / first > 0 && isfinite(own / first))
        snprintf(text, 64, "%s (%.3g x)", value, own / first);
    else
        snprintf(text, 64, "%s", value);
}

bool compare_any_has(const comparison *c, int number) {
    for (int i = 0; i < c->n; i++)
        if (!isnan(numbers[number].of(&c->runs[i]))) return true;
    return false;
}

const char *compare_about(int which) {
    static const char *const about[] = {"version", "ranks", "threads", NULL};
    return about[which];
}

bool compare_about_differs(const comparison *c, int which) {
    const char *name = compare_about(which), *first = report_about(&c->runs[0], name);
    for (int i = 1; i < c->n; i++)
        if (strcmp(report_about(&c->runs[i], name), first) != 0) return true;
    return false;
}

bool compare_left_out(const comparison *c, int run, char *text, size_t nbytes) {
    const par_log_reading *r = &c->runs[run].reading;
    snprintf(text, nbytes,
             "%s: lines that are not records are left out: %lld; the first is line %lld",
             c->names[run], (long long)r->n_left_out, (long long)r->left_out);
    return r->n_left_out > 0;
}

int compare_n_numbers(void) {
    return N_NUMBERS;
}

const char *compare_number_name(int number) {
    return numbers[number].name;
}

int compare_option_names(const comparison *c, const char **names, int max) {
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

bool compare_differs(const comparison *c, const char *name) {
    const char *first = report_value(&c->runs[0].options, name);
    for (int i = 1; i < c->n; i++)
        if (strcmp(report_value(&c->runs[i].options, name), first) != 0) return true;
    return false;
}

void compare_option_text(const char *name, char text[80]) {
    snprintf(text, 80, "--%.70s", name);
    for (char *at = text; *at; at++)
        if (*at == '_') *at = '-';
}
