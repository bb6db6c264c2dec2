/* The page of par compare. */
#include "compare.h"

static void put_names(report_page *p, const comparison *c, const char *what) {
    const char *heads[MAX_RUNS + 1] = {what};
    for (int i = 0; i < c->n; i++) heads[i + 1] = c->names[i];
    report_table_begin(p, heads, c->n + 1);
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

/* Sections of curves: a column of the steps, or of the validations. */
static const struct {
    const char *id, *title;
    bool validation;
    int column;
    report_text *text;
    bool from_zero;
} curves[] = {{"training", "Training loss", false, STEP_LOSS, report_plain, false},
              {"validation", "Validation loss", true, VALIDATION_LOSS, report_plain, false},
              {"speed", "Throughput", false, STEP_RATE, report_rate, true}};

static void put_curves(report_page *p, const comparison *c, int which) {
    bool validation = curves[which].validation;
    report_put(p, "<div class=\"charts\">\n");
    for (int over = 0; over < N_ALONG; over++) {
        chart_series series[MAX_RUNS];
        char title[64];
        int n = 0, x = validation ? along[over].of_validation : along[over].of_step;
        for (int i = 0; i < c->n; i++) {
            const report_table *t = validation ? &c->runs[i].validations : &c->runs[i].steps;
            if (t->n == 0) continue;
            series[n++] = (chart_series){.name = c->names[i],
                                         .x = t->columns[x],
                                         .y = t->columns[curves[which].column],
                                         .n = t->n,
                                         .color = i,
                                         .flags = validation ? CHART_DOTS : 0};
        }
        snprintf(title, sizeof title, "%s by %s", curves[which].title, along[over].name);
        const report_chart chart = {.title = title,
                                    .x_name = along[over].name,
                                    .x_text = along[over].text,
                                    .y_text = curves[which].text,
                                    .series = series,
                                    .n_series = n,
                                    .from_zero = curves[which].from_zero,
                                    .wide = over == 0};
        report_put_chart(p, &chart);
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
    put_names(&p, c, "");
    for (int i = 0; i < compare_n_numbers(); i++) {
        if (!compare_any_has(c, i)) continue;
        report_row(&p);
        report_cell(&p, compare_number_name(i));
        for (int k = 0; k < c->n; k++) {
            char text[64];
            compare_number_text(c, i, k, text);
            report_cell(&p, text);
        }
    }
    for (int i = 0; compare_about(i); i++) {
        if (!compare_about_differs(c, i)) continue;
        report_row(&p);
        report_cell(&p, compare_about(i));
        for (int k = 0; k < c->n; k++) report_cell(&p, report_about(&c->runs[k], compare_about(i)));
    }
    report_table_end(&p);
    for (int i = 0; i < c->n; i++) {
        char text[256];
        if (compare_left_out(c, i, text, sizeof text)) report_note(&p, "%s", text);
    }
    report_section(&p, "differ", "Options that differ");
    put_options(&p, c);
    for (size_t i = 0; i < sizeof curves / sizeof *curves; i++) {
        report_section(&p, curves[i].id, curves[i].title);
        put_curves(&p, c, (int)i);
    }
    return report_page_end(&p, c->out);
}
