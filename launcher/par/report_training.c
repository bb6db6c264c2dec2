/* Losses, learning rate and gradient norm; throughput, MFU and where the time of a step goes. */
#include <math.h>

#include "report.h"

static chart_series series_of(const report_table *t, int column, const char *name, int color) {
    return (chart_series){.name = name,
                          .x = t->columns ? t->columns[0] : NULL,
                          .y = t->columns ? t->columns[column] : NULL,
                          .n = t->n,
                          .color = color};
}

static void put_losses(report_page *p, const report_run *run) {
    chart_series series[] = {
        series_of(&run->steps, STEP_LOSS, "training", 0),
        series_of(&run->validations, VALIDATION_LOSS, "validation", 1),
    };
    series[1].flags = CHART_DOTS;
    const report_chart chart = {.title = "Loss, nats per token",
                                .x_name = "step",
                                .x_text = report_count,
                                .y_text = report_plain,
                                .series = series,
                                .n_series = run->validations.n ? 2 : 1,
                                .marks = run->marks,
                                .n_marks = run->n_marks,
                                .wide = true};
    report_put_chart(p, &chart);
}

/* One column over the steps. */
static void put_column(report_page *p, const report_run *run, const char *title, int column,
                       int color, report_text *text, bool from_zero) {
    chart_series series = series_of(&run->steps, column, "last", color);
    const report_chart chart = {.title = title,
                                .x_name = "step",
                                .x_text = report_count,
                                .y_text = text,
                                .series = &series,
                                .n_series = 1,
                                .marks = run->marks,
                                .n_marks = run->n_marks,
                                .from_zero = from_zero};
    report_put_chart(p, &chart);
}

static void put_marks(report_page *p, const report_run *run) {
    static const char *const heads[] = {"#after step", "what"};
    char text[REPORT_TEXT];
    if (run->n_marks == 0) return;
    report_put(p, "<h3>What happened on the way</h3>\n");
    report_table_begin(p, heads, 2);
    for (int i = 0; i < run->n_marks && i < 200; i++) {
        report_row(p);
        report_cell_number(p, run->marks[i].step, report_plain(run->marks[i].step, text));
        report_cell(p, run->marks[i].what);
    }
    report_table_end(p);
    if (run->n_marks > 200) report_note(p, "%d more are left out.", run->n_marks - 200);
}

static void put_validations(report_page *p, const report_run *run) {
    static const char *const heads[] = {"#step", "#validation loss", "#perplexity", "#took"};
    const report_table *t = &run->validations;
    char text[REPORT_TEXT];
    if (t->n == 0) {
        report_missing(p, "No validation; with a part of the data set aside there is one:",
                       "train_llm --split 0.1 --eval-every 50");
        return;
    }
    report_put(p, "<details><summary>Validations</summary>\n");
    report_table_begin(p, heads, 4);
    for (int64_t i = t->n > 1000 ? t->n - 1000 : 0; i < t->n; i++) {
        double loss = t->columns[VALIDATION_LOSS][i], step = t->columns[VALIDATION_STEP][i];
        double took = t->columns[VALIDATION_SECONDS][i];
        report_row(p);
        report_cell_number(p, step, report_plain(step, text));
        report_cell_number(p, loss, report_plain(loss, text));
        report_cell_number(p, exp(loss), report_plain(exp(loss), text));
        report_cell_number(p, took, report_seconds(took, text));
    }
    report_table_end(p);
    if (t->n > 1000) report_note(p, "The last 1000 of %lld.", (long long)t->n);
    report_put(p, "</details>\n");
}

void report_training(report_page *p, const report_run *run) {
    if (run->steps.n == 0) {
        report_note(p, "The log has no step.");
        return;
    }
    const double *scale = run->steps.columns[STEP_SCALE];
    bool varies = false;
    for (int64_t i = 1; i < run->steps.n && !varies; i++) varies = scale[i] != scale[0];
    report_put(p, "<div class=\"charts\">\n");
    put_losses(p, run);
    put_column(p, run, "Gradient norm", STEP_NORM, 3, report_plain, false);
    put_column(p, run, "Learning rate", STEP_LR, 2, report_plain, true);
    if (varies) put_column(p, run, "Loss scale", STEP_SCALE, 4, report_count, false);
    report_put(p, "</div>\n");
    put_validations(p, run);
    put_marks(p, run);
}

/* The median of each part of a step and its share of the median step, on rank 0. */
static void put_parts(report_page *p, const report_run *run) {
    static const char *const heads[] = {"part of a step, on rank 0", "#median", "#of the step"};
    static const struct {
        int column;
        const char *name;
    } parts[] = {{STEP_DATA, "waiting for samples"},
                 {STEP_FORWARD, "forward"},
                 {STEP_BACKWARD, "backward"},
                 {STEP_WAIT_PIPELINE, "waiting for other stages"},
                 {STEP_WAIT_DP, "waiting for other replicas' gradients"},
                 {STEP_UPDATE, "update of the weights"}};
    char text[REPORT_TEXT];
    double step = report_median(&run->steps, STEP_SECONDS);
    report_put(p, "<h3>Where the time of a step goes</h3>\n");
    report_table_begin(p, heads, 3);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        double median = report_median(&run->steps, parts[i].column);
        if (isnan(median)) continue;
        report_row(p);
        report_cell(p, parts[i].name);
        report_cell_number(p, median, report_seconds(median, text));
        report_cell_number(p, median / step, report_percent(median / step, text));
    }
    report_table_end(p);
}

void report_speed(report_page *p, const report_run *run) {
    if (run->steps.n == 0) {
        report_note(p, "The log has no step.");
        return;
    }
    report_put(p, "<div class=\"charts\">\n");
    put_column(p, run, "Throughput", STEP_RATE, 0, report_rate, true);
    put_column(p, run, "Time of a step", STEP_SECONDS, 1, report_seconds, true);
    put_column(p, run, "MFU: share of the devices' peak", STEP_MFU, 2, report_percent, true);
    report_put(p, "</div>\n");
    if (isnan(report_median(&run->steps, STEP_MFU)))
        report_missing(p, "No MFU: the peak of the device is not known; it is what this says:",
                       "train_llm --peak-tflops X");
    put_parts(p, run);
}
