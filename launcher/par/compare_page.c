/* The page of par compare. */
#include "compare.h"

static void put_names(report_page *p, const comparison *c, const char *what) {
    const char *heads[MAX_RUNS + 1] = {what};
    for (int i = 0; i < c->n; i++) heads[i + 1] = c->names[i];
    report_table_begin(p, heads, c->n + 1);
}

static void put_numbers(report_page *p, const comparison *c) {
    put_names(p, c, "");
    for (int i = 0; i < compare_n_numbers(); i++) {
        if (!compare_any_has(c, i)) continue;
        report_row(p);
        report_cell(p, compare_number_name(i));
        for (int k = 0; k < c->n; k++) {
            char text[64];
            compare_number_text(c, i, k, text);
            report_cell(p, text);
        }
    }
    report_table_end(p);
}

static void put_options(report_page *p, const comparison *c) {
    const char *names[MAX_OPTIONS];
    int n = compare_option_names(c, names, MAX_OPTIONS), n_differ = 0;
    for (int i = 0; i < n; i++) n_differ += compare_differs(c, names[i]);
    if (n_differ == 0) {
        report_note(p, n ? "All options are the same." : "The logs have no options.");
        return;
    }
    put_names(p, c, "option");
    for (int i = 0; i < n; i++) {
        char text[80];
        if (!compare_differs(c, names[i])) continue;
        compare_option_text(names[i], text);
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

par_status compare_write_page(const comparison *c) {
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
