/* The options of a run, those that differ from their defaults first, and what computed what. The
 * rows of train_llm's own table say what they mean. */
#include <stdlib.h>
#include <string.h>

#include "../train_llm/settings.h"
#include "report.h"

static llm_settings defaults;
static par_option rows[LLM_MAX_OPTIONS];
static int n_rows;

static void key_of(const par_option *row, char key[64]) {
    snprintf(key, 64, "%s", row->name);
    for (char *c = key; *c; c++)
        if (*c == '-') *c = '_';
}

/* NULL: the log has no such option. */
static const char *logged(const report_run *run, const par_option *row) {
    char key[64];
    key_of(row, key);
    for (int i = 0; i < run->options.n; i++)
        if (strcmp(run->options.pairs[i].name, key) == 0) return run->options.pairs[i].value;
    return NULL;
}

/* Numbers are equal as numbers: 1e-3 is 0.001. */
static bool equal(const char *a, const char *b) {
    char *end_a, *end_b;
    double x = strtod(a, &end_a), y = strtod(b, &end_b);
    if (strcmp(a, b) == 0) return true;
    return *a && *b && !*end_a && !*end_b && x == y;
}

static void put_option(report_page *p, const char *name, const char *value, const char *initial,
                       const char *help) {
    char text[REPORT_TEXT];
    report_row(p);
    report_put(p, "<td><code>--");
    report_put_text(p, name);
    report_put(p, "</code>");
    report_cell(p, report_short(value, text));
    if (initial) report_cell(p, initial);
    report_cell(p, help);
}

/* One table: of those that differ, or of the others. */
static void put_options(report_page *p, const report_run *run, bool differ) {
    static const char *const heads[] = {"option", "value", "default", "meaning"},
                             *const short_heads[] = {"option", "value", "meaning"};
    report_table_begin(p, differ ? heads : short_heads, differ ? 4 : 3);
    for (int i = 0; i < n_rows; i++) {
        char text[4096];
        const char *value = rows[i].type == PAR_OPT_ABSENT ? NULL : logged(run, &rows[i]);
        if (!value) continue;
        par_option_text(&rows[i], text, sizeof text);
        if (equal(value, text) == differ) continue;
        put_option(p, rows[i].name, value, differ ? text : NULL, rows[i].help);
    }
    report_table_end(p);
}

/* Of a run of another version. */
static void put_unknown(report_page *p, const report_run *run) {
    static const char *const heads[] = {"option", "value", "meaning"};
    bool any = false;
    for (int i = 0; i < run->options.n; i++) {
        const report_pair *pair = &run->options.pairs[i];
        bool has_row = false;
        for (int k = 0; k < n_rows && !has_row; k++) {
            char key[64];
            key_of(&rows[k], key);
            has_row = rows[k].type != PAR_OPT_ABSENT && strcmp(key, pair->name) == 0;
        }
        if (has_row) continue;
        if (!any) {
            report_put(p, "<h3>Options that this version of par does not know</h3>\n");
            report_table_begin(p, heads, 3);
        }
        any = true;
        put_option(p, pair->name, pair->value, NULL, "");
    }
    if (any) report_table_end(p);
}

void report_configuration(report_page *p, const report_run *run) {
    if (run->options.n == 0) {
        report_missing(p, "The log has no options of the run; a run's log begins with them:",
                       "train_llm --log FILE");
        return;
    }
    par_problems none = {0};
    n_rows = llm_options_rows(&defaults, rows);
    par_options_parse(rows, n_rows, 0, NULL, &none);
    report_put(p, "<h3>Options that differ from their defaults</h3>\n");
    put_options(p, run, true);
    put_unknown(p, run);
    report_put(p, "<details><summary>All other options</summary>\n");
    put_options(p, run, false);
    report_put(p, "</details>\n<details><summary>The run as its log describes it</summary>\n");
    report_put_pairs(p, &run->start, "field");
    report_put(p, "</details>\n");
}

void report_methods(report_page *p, const report_run *run) {
    if (run->methods.n == 0) {
        report_missing(p,
                       "No record of methods: on the host every operation has one kernel. A "
                       "run on a GPU logs them:",
                       "train_llm --device cuda");
        return;
    }
    report_put_pairs(p, &run->methods, "work");
}
