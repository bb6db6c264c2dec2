/*
 * Where the memory went: RUN/memory.json (docs/diagnostics.md has its form). Ranks with the same
 * ledger are one row; of the largest one its largest tensors; what other options would take; and
 * what the process took over time.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

enum { MAX_KINDS = 24, MAX_PARTS = 25 };

static double number_of(const json_t *object, const char *name) {
    const json_t *value = json_object_get(object, name);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static const char *text_of(const json_t *object, const char *name) {
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "";
}

/* A ledger's lines: an array, or the member "lines" of an object. */
static json_t *lines_of(const json_t *ledger) {
    return json_is_array(ledger) ? (json_t *)ledger : json_object_get(ledger, "lines");
}

/* Bytes of a kind, of all kinds (NULL). */
static double sum(const json_t *ledger, const char *kind) {
    double bytes = 0;
    size_t i;
    json_t *line;
    json_array_foreach(lines_of(ledger), i, line) {
        double more = number_of(line, "nbytes");
        if ((!kind || strcmp(text_of(line, "kind"), kind) == 0) && more > 0) bytes += more;
    }
    return bytes;
}

static int find_kinds(const json_t *ledgers, const char *kinds[MAX_KINDS]) {
    int n = 0;
    size_t l, i;
    json_t *ledger, *line;
    json_array_foreach(ledgers, l, ledger) json_array_foreach(lines_of(ledger), i, line) {
        const char *kind = text_of(line, "kind");
        bool known = n == MAX_KINDS;
        for (int k = 0; k < n && !known; k++) known = strcmp(kinds[k], kind) == 0;
        if (!known && sum(ledger, kind) > 0) kinds[n++] = kind;
    }
    return n;
}

/* "0, 1, 4 and 5 more": the ranks that have a ledger. */
static void ranks_text(const json_t *ranks, size_t ledger, char text[128]) {
    size_t i, used = 0;
    int n = 0;
    json_t *rank;
    *text = 0;
    json_array_foreach(ranks, i, rank) {
        if (number_of(rank, "ledger") != (double)ledger) continue;
        if (n++ < 8)
            used += (size_t)snprintf(text + used, 128 - used, "%s%.0f", used ? ", " : "",
                                     number_of(rank, "rank"));
    }
    if (n > 8) snprintf(text + used, 128 - used, " and %d more", n - 8);
}

static void put_ledgers(report_page *p, const json_t *ledgers, const json_t *ranks) {
    const char *kinds[MAX_KINDS], *heads[MAX_KINDS + 2] = {"ranks", "#all"};
    static char names[MAX_KINDS][48];
    char text[REPORT_TEXT], who[128];
    int n = find_kinds(ledgers, kinds);
    size_t l;
    json_t *ledger;
    for (int k = 0; k < n; k++) {
        snprintf(names[k], sizeof names[k], "#%.40s", kinds[k]);
        heads[k + 2] = names[k];
    }
    report_table_begin(p, heads, n + 2);
    json_array_foreach(ledgers, l, ledger) {
        ranks_text(ranks, l, who);
        report_row(p);
        report_cell(p, who);
        report_cell_number(p, sum(ledger, NULL), report_bytes(sum(ledger, NULL), text));
        for (int k = 0; k < n; k++)
            report_cell_number(p, sum(ledger, kinds[k]), report_bytes(sum(ledger, kinds[k]), text));
    }
    report_table_end(p);
}

static void put_differences(report_page *p, const json_t *ledgers) {
    size_t l, i;
    int n = 0;
    char used[REPORT_TEXT], planned[REPORT_TEXT];
    json_t *ledger, *line;
    json_array_foreach(ledgers, l, ledger) json_array_foreach(lines_of(ledger), i, line) {
        double a = number_of(line, "nbytes"), b = number_of(line, "planned");
        if (isnan(b) || a == b || n++ >= 20) continue;
        report_note(p, "Not as planned: %.40s, %.60s took %s and %s were planned.",
                    text_of(line, "kind"), text_of(line, "what"), report_bytes(a, used),
                    report_bytes(b, planned));
    }
    if (n == 0) report_note(p, "Every line of the ledger took what was planned.");
}

/* A tensor, or a line that has none. */
typedef struct {
    const json_t *line, *part;
    double nbytes;
} piece;

static int by_size(const void *a, const void *b) {
    double x = ((const piece *)a)->nbytes, y = ((const piece *)b)->nbytes;
    return x > y ? -1 : x < y;
}

/* All pieces of a ledger, the largest first; their number. */
static int find_pieces(const json_t *ledger, piece **out) {
    size_t i, k;
    int n = 0, max = 0;
    json_t *line, *part;
    json_array_foreach(lines_of(ledger), i, line) max +=
        1 + (int)json_array_size(json_object_get(line, "parts"));
    piece *list = calloc((size_t)max + 1, sizeof *list);
    json_array_foreach(lines_of(ledger), i, line) {
        json_t *parts = json_object_get(line, "parts");
        if (list && json_array_size(parts) == 0)
            list[n++] = (piece){line, NULL, fmax(0, number_of(line, "nbytes"))};
        json_array_foreach(parts, k, part) if (list) list[n++] =
            (piece){line, part, fmax(0, number_of(part, "nbytes"))};
    }
    if (list) qsort(list, (size_t)n, sizeof *list, by_size);
    *out = list;
    return n;
}

static void put_pieces(report_page *p, const json_t *ledger) {
    static const char *const heads[] = {"purpose", "what", "layer", "tensor", "#bytes", "#of all"};
    char text[REPORT_TEXT];
    double all = sum(ledger, NULL);
    piece *list = NULL;
    int n = find_pieces(ledger, &list);
    report_put(p, "<h3>What is large on the largest rank</h3>\n");
    report_table_begin(p, heads, 6);
    for (int i = 0; i < n && i < MAX_PARTS; i++) {
        report_row(p);
        report_cell(p, text_of(list[i].line, "kind"));
        report_cell(p, text_of(list[i].line, "what"));
        report_cell(p, list[i].part ? text_of(list[i].part, "layer") : "");
        report_cell(p, list[i].part ? text_of(list[i].part, "tensor") : "");
        report_cell_number(p, list[i].nbytes, report_bytes(list[i].nbytes, text));
        report_cell_number(p, list[i].nbytes / all, report_percent(list[i].nbytes / all, text));
    }
    report_table_end(p);
    if (n > MAX_PARTS) report_note(p, "%d smaller ones are left out.", n - MAX_PARTS);
    free(list);
}

static void put_savings(report_page *p, const json_t *list, double now) {
    static const char *const heads[] = {"option", "#largest rank", "#of now"};
    char text[REPORT_TEXT];
    size_t i;
    json_t *saving;
    if (json_array_size(list) == 0) return;
    report_put(p, "<h3>What other options would take, each alone</h3>\n");
    report_table_begin(p, heads, 3);
    json_array_foreach(list, i, saving) {
        double bytes = number_of(saving, "nbytes");
        report_row(p);
        report_cell(p, text_of(saving, "option"));
        report_cell_number(p, bytes, report_bytes(bytes, text));
        report_cell_number(p, bytes / now, report_percent(bytes / now, text));
    }
    report_table_end(p);
}

/* A column of samples as numbers; NULL: no memory. */
static double *column(const json_t *samples, const char *name, size_t n) {
    const json_t *list = json_object_get(samples, name);
    double *values = malloc((n + 1) * sizeof *values);
    for (size_t i = 0; values && i < n; i++) {
        const json_t *value = json_array_get(list, i);
        values[i] = json_is_number(value) ? json_number_value(value) : NAN;
    }
    return values;
}

/* What one rank's process and device took over the steps. */
static void put_samples(report_page *p, const json_t *rank) {
    static const char *const names[] = {"step", "resident", "anonymous", "device"};
    const json_t *samples = json_object_get(rank, "samples");
    size_t n = json_array_size(json_object_get(samples, "step"));
    double *values[4] = {NULL};
    chart_series series[3];
    int n_series = 0;
    char title[96];
    snprintf(title, sizeof title, "Process of rank %.0f", number_of(rank, "rank"));
    for (int i = 0; i < 4; i++) values[i] = column(samples, names[i], n);
    for (int i = 1; i < 4 && values[0] && n; i++) {
        bool known = values[i] && !isnan(values[i][n - 1]) && (i < 3 || values[i][n - 1] > 0);
        if (known)
            series[n_series++] = (chart_series){
                .name = names[i], .x = values[0], .y = values[i], .n = (int64_t)n, .color = i - 1};
    }
    const report_chart chart = {.title = title,
                                .x_name = "step",
                                .x_text = report_count,
                                .y_text = report_bytes,
                                .series = series,
                                .n_series = n_series,
                                .from_zero = true,
                                .wide = true};
    report_put_chart(p, &chart);
    for (int i = 0; i < 4; i++) free(values[i]);
}

static void put_memory(report_page *p, const json_t *file) {
    const json_t *ledgers = json_object_get(file, "ledgers"),
                 *ranks = json_object_get(file, "ranks");
    const json_t *largest = NULL, *ledger, *rank, *of = NULL;
    size_t i;
    json_array_foreach(ledgers, i, ledger) if (!largest || sum(ledger, NULL) > sum(largest, NULL))
        largest = ledger;
    if (!largest) {
        report_note(p, "memory.json has no ledger that this version can read.");
        return;
    }
    report_put(p, "<h3>By purpose</h3>\n");
    put_ledgers(p, ledgers, ranks);
    put_differences(p, ledgers);
    put_pieces(p, largest);
    put_savings(p, json_object_get(file, "largest_rank_with"), sum(largest, NULL));
    json_array_foreach(
        ranks, i,
        rank) if (!of && json_array_get(ledgers, (size_t)fmax(0, number_of(rank, "ledger"))) ==
                             largest) of = rank;
    if (of) put_samples(p, of);
}

void report_memory(report_page *p, const report_run *run) {
    char why[256];
    json_t *file = report_json(run, "memory.json", why);
    if (file)
        put_memory(p, file);
    else if (*why)
        report_note(p, "%s", why);
    else
        report_missing(p, "There is no ledger of the ranks' memory; it is in the directory of:",
                       "train_llm --run DIR");
    json_decref(file);
}
