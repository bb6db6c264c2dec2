/* How far ranks are apart: the records "health" of the log, a round of steps each. */
#include <math.h>
#include <stdio.h>

#include "report.h"

static const char *const names[HEALTH_TIMES] = {"step", "forward", "backward", "wait", "work"};

static double value(const report_table *t, int time, int of) {
    return t->columns[1 + time * HEALTH_OF + of][t->n - 1];
}

/* The largest rank's time to the smallest one's, round by round. */
static void put_ratios(report_page *p, const report_run *run) {
    chart_series series[HEALTH_TIMES];
    int n = 0;
    const report_table *t = &run->health;
    for (int i = 0; i < HEALTH_TIMES; i++) {
        if (isnan(report_median(t, 1 + i * HEALTH_OF + HEALTH_RATIO))) continue;
        series[n++] = (chart_series){.name = names[i],
                                     .x = t->columns[0],
                                     .y = t->columns[1 + i * HEALTH_OF + HEALTH_RATIO],
                                     .n = t->n,
                                     .color = i,
                                     .flags = t->n < 40 ? CHART_DOTS : 0};
    }
    const report_chart chart = {.title = "Slowest rank's time to the fastest one's",
                                .x_name = "step",
                                .x_text = report_count,
                                .y_text = report_plain,
                                .series = series,
                                .n_series = n,
                                .wide = true};
    report_put(p, "<div class=\"charts\">\n");
    report_put_chart(p, &chart);
    report_put(p, "</div>\n");
}

static void put_last_round(report_page *p, const report_run *run) {
    static const char *const heads[] = {"time of a step", "#fastest rank", "#median",
                                        "#slowest rank",  "#ratio",        "#which is slowest"};
    char text[REPORT_TEXT];
    const report_table *t = &run->health;
    report_put(p, "<h3>The last round</h3>\n");
    report_table_begin(p, heads, 6);
    for (int i = 0; i < HEALTH_TIMES; i++) {
        double ratio = value(t, i, HEALTH_RATIO), slowest = value(t, i, HEALTH_SLOWEST);
        report_row(p);
        report_cell(p, names[i]);
        for (int of = HEALTH_MIN; of <= HEALTH_MAX; of++)
            report_cell_number(p, value(t, i, of), report_seconds(value(t, i, of), text));
        report_cell_number(p, ratio, report_plain(ratio, text));
        report_cell_number(p, slowest, report_plain(slowest, text));
    }
    report_table_end(p);
    report_note(p, "Work is forward and backward without waits for other ranks: it tells who is "
                   "slow.");
}

void report_health(report_page *p, const report_run *run) {
    if (run->health.n == 0) {
        report_missing(p, "The log has no times of every rank; they come with:",
                       "train_llm --health-every STEPS");
        return;
    }
    put_ratios(p, run);
    put_last_round(p, run);
    if (run->slow.n == 0) {
        report_note(p, "No rank was slow in several rounds one after another.");
        return;
    }
    report_put(p, "<h3>Slow ranks</h3>\n");
    report_put_pairs(p, &run->slow, "after step");
}
