/* What a run cost so far: the records "cost" of the log. */
#include <math.h>

#include "report.h"

static void put_chart(report_page *p, const report_run *run, const char *title, int column,
                      report_text *text) {
    const report_table *t = &run->costs;
    const chart_series series = {.name = "last",
                                 .x = t->columns[0],
                                 .y = t->columns[column],
                                 .n = t->n,
                                 .color = 4,
                                 .flags = t->n < 40 ? CHART_DOTS : 0};
    const report_chart chart = {.title = title,
                                .x_name = "step",
                                .x_text = report_count,
                                .y_text = text,
                                .series = &series,
                                .n_series = 1,
                                .from_zero = true};
    report_put_chart(p, &chart);
}

void report_cost(report_page *p, const report_run *run) {
    if (run->cost.n == 0) {
        report_missing(p,
                       "The log has no cost; it comes with:", "train_llm --price-per-hour PRICE");
        return;
    }
    if (run->costs.n > 1) {
        report_put(p, "<div class=\"charts\">\n");
        put_chart(p, run, "Cost of the run so far", COST_RUN, report_four);
        put_chart(p, run, "Cost of a million tokens", COST_TOKENS, report_four);
        report_put(p, "</div>\n");
    }
    report_put_pairs(p, &run->cost, "after the last step, in the unit of the price");
}
