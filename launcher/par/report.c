/* par report: one run as a page of HTML. */
#include <math.h>
#include <stdlib.h>

#include "par_tool.h"
#include "report.h"

static const char usage[] =
    "usage: par report RUN [options]\n"
    "Writes one page of HTML on a run: its options, losses, speed, pipeline, communication, "
    "memory,\n"
    "cost and checkpoints. The page needs nothing from elsewhere, can be printed, and works "
    "without\n"
    "scripts.";

static const struct {
    const char *id, *title;
    void (*write)(report_page *p, const report_run *run);
} sections[] = {
    {"training", "Training", report_training},
    {"speed", "Speed", report_speed},
    {"pipeline", "Pipeline", report_pipeline},
    {"communication", "Communication", report_communication},
    {"memory", "Memory", report_memory},
    {"health", "Stragglers and health", report_health},
    {"cost", "Cost", report_cost},
    {"checkpoints", "Checkpoints", report_checkpoints},
    {"configuration", "Configuration", report_configuration},
    {"methods", "What computed what", report_methods},
};

enum { N_SECTIONS = sizeof sections / sizeof *sections };

static void put_tile(report_page *p, const char *value, const char *name) {
    report_put(p, "<div class=\"tile\"><b>");
    report_put_text(p, value);
    report_put(p, "</b><span>");
    report_put_text(p, name);
    report_put(p, "</span></div>\n");
}

static void put_tiles(report_page *p, const report_run *run) {
    const report_table *t = &run->steps;
    char text[REPORT_TEXT], name[64];
    double mfu = report_median(t, STEP_MFU);
    double step, least = report_least(&run->validations, VALIDATION_LOSS, &step);
    const char *cost = report_value(&run->cost, REPORT_COST_OF_RUN);
    report_put(p, "<div class=\"tiles\">\n");
    put_tile(p, report_plain(report_last(t, STEP_LOSS), text), "last training loss");
    if (!isnan(least)) {
        snprintf(name, sizeof name, "best validation loss, step %.0f", step);
        put_tile(p, report_plain(least, text), name);
    }
    snprintf(name, sizeof name, "steps of %.20s", report_value(&run->options, "steps"));
    put_tile(p, report_plain(report_last(t, STEP_NUMBER), text), name);
    put_tile(p, report_count(report_last(t, STEP_SUM_TOKENS), text), "tokens");
    put_tile(p, report_rate(report_median(t, STEP_RATE), text), "median throughput");
    put_tile(p, report_seconds(report_median(t, STEP_SECONDS), text), "median step");
    if (!isnan(mfu)) put_tile(p, report_percent(mfu, text), "median MFU");
    put_tile(p, report_seconds(report_last(t, STEP_SUM_SECONDS), text), "of steps and validations");
    if (*cost) put_tile(p, report_four(strtod(cost, NULL), text), "cost");
    report_put(p, "</div>\n");
}

/* "gpt2-124m, 124 M parameters | 8 ranks = tp 2 x pp 2 x dp 2 | bf16 | libpar 0.1.0" */
static void put_about(report_page *p, const report_run *run) {
    static const char *const axes[] = {"tp", "cp", "pp", "dp"};
    char text[REPORT_TEXT];
    if (run->start.n == 0) return;
    report_put(p, "<p class=\"about\">");
    report_put_text(p, report_about(run, "model"));
    report_put(p, ", %s parameters · ",
               report_count((double)report_about_whole(run, "parameters", 0), text));
    report_put_text(p, report_about(run, "ranks"));
    report_put(p, " ranks =");
    for (int i = 0, n = 0; i < 4; i++) {
        int64_t size = report_about_whole(run, axes[i], 1);
        if (size > 1 || (i == 3 && n == 0))
            report_put(p, "%s %s %lld", n++ ? " ×" : "", axes[i], (long long)size);
    }
    report_put(p, " · ");
    report_put_text(p, report_about(run, "precision"));
    report_put(p, " on ");
    report_put_text(p, report_about(run, "device"));
    report_put(p, " · libpar ");
    report_put_text(p, report_about(run, "version"));
    report_put(p, "</p>\n");
}

static void put_head(report_page *p, const report_run *run) {
    const par_log_reading *r = &run->reading;
    report_put(p, "<header><h1>");
    report_put_text(p, run->name);
    report_put(p, "</h1>\n");
    put_about(p, run);
    /* what of the log is not on the page */
    if (r->n_left_out)
        report_note(p,
                    "%lld line%s of the log %s no records and %s left out; the first is line %lld.",
                    (long long)r->n_left_out, r->n_left_out == 1 ? "" : "s",
                    r->n_left_out == 1 ? "is" : "are", r->n_left_out == 1 ? "is" : "are",
                    (long long)r->left_out);
    if (run->n_before)
        report_note(p, "The log holds %d earlier run%s; this page is on the last one.",
                    run->n_before, run->n_before == 1 ? "" : "s");
    if (run->start.n == 0)
        report_note(p, "The log has no record of the run's start: options and layout are not "
                       "known.");
    put_tiles(p, run);
    report_put(p, "</header>\n<nav>");
    for (int i = 0; i < N_SECTIONS; i++)
        report_put(p, "<a href=\"#%s\">%s</a> ", sections[i].id, sections[i].title);
    report_put(p, "</nav>\n<main>\n");
}

static int report(const char *path, const char *page) {
    report_run run;
    report_page p;
    char beside[1300];
    par_problems problems = {0};
    par_status st = report_read(path, &run);
    if (*run.directory)
        snprintf(beside, sizeof beside, "%s/report.html", run.directory);
    else
        snprintf(beside, sizeof beside, "%s.html", run.log);
    if (!page) page = beside;
    par_tool_output("--out", page, PAR_OUTPUT_PAGE, &problems);
    if (st == PAR_OK) st = par_problems_status(&problems, PAR_ERR_OPTION);
    if (st == PAR_OK) st = report_page_begin(&p, run.name);
    if (st == PAR_OK) {
        put_head(&p, &run);
        for (int i = 0; i < N_SECTIONS; i++) {
            report_section(&p, sections[i].id, sections[i].title);
            sections[i].write(&p, &run);
        }
        st = report_page_end(&p, page);
    }
    if (st == PAR_OK)
        printf("%s\n", page);
    else
        fprintf(stderr, "par report: %s\n", par_error());
    report_close(&run);
    return st == PAR_OK ? EXIT_SUCCESS : PAR_TOOL_INPUT;
}

int par_report(int argc, char **argv) {
    par_problems problems = {0};
    par_words runs;
    const char *out;
    const par_option rows[] = {
        {.name = "RUN",
         .type = PAR_OPT_OPERANDS,
         .value = &runs,
         .legal = "1..1",
         .help = "a run's directory, or its log"},
        {.name = "out",
         .type = PAR_OPT_TEXT,
         .value = &out,
         .help = "the page; without it report.html in RUN, or of a log, LOG.html",
         .metavar = "FILE",
         .also = "output|o"},
    };
    if (par_tool_read(rows, 2, usage, argc, argv, &problems)) return EXIT_SUCCESS;
    int code = par_tool_refuse("report", &problems);
    return code ? code : report(runs.words[0], out);
}
