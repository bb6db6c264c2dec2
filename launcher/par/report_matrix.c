/*
 * Who sent how much to whom: RUN/matrix.json (docs/diagnostics.md has its form) as heat maps, one
 * of all axes and one of each, then axes and purposes. A cell is a pair of ranks, or in a world of
 * more than 64 ranks a square of them; its shade is logarithmic. Cells whose bytes are not what the
 * layout predicts have a frame.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

enum { MAX_CELLS = 64, MAX_RANKS = 1 << 20, MAX_AXES = 16, MAX_BORDERS = 16 };

/* Columns of cells that are read; -1: the file has not this one. */
typedef struct {
    int from, to, nbytes, logical, predicted, messages, wait;
} columns;

typedef struct {
    json_t *lines;
    columns at;
    int ranks, cells, group;   /* cells of a side, ranks of a cell */
    int period[8], n_periods;  /* ranks between lines of the layout's axes */
    bool of_algorithm;         /* else logical */
    double *bytes, *predicted; /* [cells, cells] of the map under way */
} matrix;

static int column_of(const json_t *names, const char *name) {
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *other = json_string_value(json_array_get(names, i));
        if (other && strcmp(other, name) == 0) return (int)i;
    }
    return -1;
}

static double cell_number(const json_t *cell, int column) {
    return column < 0 ? 0 : json_number_value(json_array_get(cell, (size_t)column));
}

/* A product of sizes per axis but the last: where a line stands. Lines that would lie close to each
 * other are left out. */
static void read_layout(matrix *m, const json_t *layout) {
    const json_t *sizes = json_object_get(layout, "size");
    int64_t product = 1;
    for (size_t i = 0; i + 1 < json_array_size(sizes); i++) {
        int64_t size = json_integer_value(json_array_get(sizes, i));
        product *= size > 0 ? size : 1;
        if (size > 1 && product < m->ranks && m->ranks / product <= MAX_BORDERS && m->n_periods < 8)
            m->period[m->n_periods++] = (int)product;
    }
}

static bool read_matrix(matrix *m, const json_t *file) {
    const json_t *names = json_object_get(file, "columns");
    m->lines = json_object_get(file, "lines");
    m->ranks = (int)json_integer_value(json_object_get(file, "ranks"));
    m->at = (columns){column_of(names, "from"),
                      column_of(names, "to"),
                      column_of(names, "nbytes"),
                      column_of(names, "logical_nbytes"),
                      column_of(names, "predicted_nbytes"),
                      column_of(names, "n_messages"),
                      column_of(names, "wait_s")};
    if (!json_is_array(m->lines) || m->ranks < 1 || m->ranks > MAX_RANKS) return false;
    if (m->at.from < 0 || m->at.to < 0 || (m->at.nbytes < 0 && m->at.logical < 0)) return false;
    m->group = (m->ranks + MAX_CELLS - 1) / MAX_CELLS;
    m->cells = (m->ranks + m->group - 1) / m->group;
    m->of_algorithm = m->at.nbytes >= 0;
    read_layout(m, json_object_get(file, "layout"));
    size_t n = (size_t)m->cells * (size_t)m->cells;
    m->bytes = calloc(n, sizeof *m->bytes);
    m->predicted = calloc(n, sizeof *m->predicted);
    return m->bytes && m->predicted;
}

/* Of checkpoints and agreements, say, the layout says nothing. */
static bool is_unpredicted(const json_t *line) {
    return json_is_true(json_object_get(line, "unpredicted"));
}

/* The cells of an axis, or of all (NULL). */
static void add_up(matrix *m, const char *axis) {
    size_t i, k, n = (size_t)m->cells * (size_t)m->cells;
    json_t *line, *cell;
    memset(m->bytes, 0, n * sizeof *m->bytes);
    memset(m->predicted, 0, n * sizeof *m->predicted);
    json_array_foreach(m->lines, i, line) {
        const char *of = json_string_value(json_object_get(line, "axis"));
        int expected = m->of_algorithm && is_unpredicted(line) ? m->at.nbytes : m->at.predicted;
        if (axis && (!of || strcmp(of, axis) != 0)) continue;
        json_array_foreach(json_object_get(line, "cells"), k, cell) {
            double from = cell_number(cell, m->at.from), to = cell_number(cell, m->at.to);
            if (!(from >= 0 && from < m->ranks && to >= 0 && to < m->ranks)) continue;
            int at = (int)from / m->group * m->cells + (int)to / m->group;
            m->bytes[at] += cell_number(cell, m->of_algorithm ? m->at.nbytes : m->at.logical);
            m->predicted[at] += cell_number(cell, expected);
        }
    }
}

static void put_cell(report_page *p, const matrix *m, int row, int column, double low,
                     double high) {
    double bytes = m->bytes[row * m->cells + column];
    double predicted = m->predicted[row * m->cells + column];
    bool wrong = m->of_algorithm && m->at.predicted >= 0 && bytes != predicted;
    double shade = high > low ? log(bytes / low) / log(high / low) : 1;
    char text[REPORT_TEXT];
    if (bytes <= 0 && !wrong) return;
    report_put(p,
               "<rect class=\"cell\" fill-opacity=\"%.2f\" x=\"%d\" y=\"%d\" width=\"1\" "
               "height=\"1\">",
               bytes > 0 ? 0.15 + 0.85 * shade : 0, column, row);
    report_put(p, "<title>%d to %d: %s", row * m->group, column * m->group,
               report_bytes(bytes, text));
    if (wrong) report_put(p, ", predicted %s", report_bytes(predicted, text));
    report_put(p, "</title></rect>");
    if (wrong)
        report_put(p, "<rect class=\"wrong\" x=\"%d\" y=\"%d\" width=\"1\" height=\"1\"/>", column,
                   row);
}

static void put_borders(report_page *p, const matrix *m) {
    report_put(p, "<path class=\"border\" d=\"M0 0h%dv%dh-%dz", m->cells, m->cells, m->cells);
    for (int i = 0; i < m->n_periods; i++)
        for (int at = m->period[i]; at < m->ranks; at += m->period[i])
            report_put(p, "M%.3f 0v%dM0 %.3fh%d", (double)at / m->group, m->cells,
                       (double)at / m->group, m->cells);
    report_put(p, "\"/>");
}

static void put_map(report_page *p, matrix *m, const char *axis) {
    double low = INFINITY, high = 0, sum = 0;
    char text[REPORT_TEXT], least[REPORT_TEXT], most[REPORT_TEXT];
    int n = m->cells * m->cells;
    add_up(m, axis);
    for (int i = 0; i < n; i++) {
        if (m->bytes[i] > 0) low = fmin(low, m->bytes[i]);
        high = fmax(high, m->bytes[i]);
        sum += m->bytes[i];
    }
    report_put(p, "<figure class=\"map\"><figcaption><b>");
    report_put_text(p, axis ? axis : "all axes");
    report_put(p, "</b><i>%s</i>", report_bytes(sum, text));
    if (sum > 0)
        report_put(p, "<i>a cell: %s to %s</i>", report_bytes(low, least),
                   report_bytes(high, most));
    report_put(p, "</figcaption>\n<svg viewBox=\"-0.2 -0.2 %.1f %.1f\" role=\"img\">\n",
               m->cells + 0.4, m->cells + 0.4);
    for (int i = 0; i < n; i++) put_cell(p, m, i / m->cells, i % m->cells, low, high);
    put_borders(p, m);
    report_put(p, "</svg></figure>\n");
}

/* One map per axis that has bytes, in the order of the file. */
static void put_maps(report_page *p, matrix *m) {
    const char *seen[MAX_AXES];
    int n_seen = 0;
    size_t i;
    json_t *line;
    report_put(p, "<div class=\"maps\">\n");
    put_map(p, m, NULL);
    json_array_foreach(m->lines, i, line) {
        const char *axis = json_string_value(json_object_get(line, "axis"));
        bool known = !axis || n_seen == MAX_AXES;
        for (int k = 0; k < n_seen && !known; k++) known = strcmp(seen[k], axis) == 0;
        if (known) continue;
        seen[n_seen++] = axis;
        put_map(p, m, axis);
    }
    report_put(p, "</div>\n");
}

static double line_sum(const json_t *line, int column) {
    double sum = 0;
    size_t k;
    json_t *cell;
    json_array_foreach(json_object_get(line, "cells"), k, cell) sum += cell_number(cell, column);
    return sum;
}

static void put_sum(report_page *p, const json_t *line, int column, report_text *as_text) {
    char text[REPORT_TEXT];
    double sum = column < 0 ? NAN : line_sum(line, column);
    report_cell_number(p, sum, as_text(sum, text));
}

static void put_lines(report_page *p, const matrix *m) {
    static const char *const heads[] = {"axis",     "purpose",   "#sent",  "#predicted",
                                        "#logical", "#messages", "#waited"};
    size_t i;
    json_t *line;
    report_table_begin(p, heads, 7);
    json_array_foreach(m->lines, i, line) {
        const char *axis = json_string_value(json_object_get(line, "axis"));
        const char *purpose = json_string_value(json_object_get(line, "purpose"));
        report_row(p);
        report_cell(p, axis ? axis : "");
        report_cell(p, purpose ? purpose : "");
        put_sum(p, line, m->at.nbytes, report_bytes);
        put_sum(p, line, is_unpredicted(line) ? -1 : m->at.predicted, report_bytes);
        put_sum(p, line, m->at.logical, report_bytes);
        put_sum(p, line, m->at.messages, report_count);
        put_sum(p, line, m->at.wait, report_seconds);
    }
    report_table_end(p);
}

/* algbw and busbw of what was timed, as NCCL's performance tests define them. */
static void put_operations(report_page *p, json_t *list) {
    static const char *const heads[] = {"axis",   "purpose",  "operation",    "#ranks",
                                        "#count", "#logical", "#algbw, GB/s", "#busbw, GB/s"};
    char text[REPORT_TEXT];
    size_t i;
    json_t *o;
    if (json_array_size(list) == 0) return;
    report_put(p, "<h3>Operations</h3>\n");
    report_table_begin(p, heads, 8);
    json_array_foreach(list, i, o) {
        const char *words[] = {"axis", "purpose", "op"};
        double seconds = json_number_value(json_object_get(o, "seconds"));
        double logical = json_number_value(json_object_get(o, "logical_nbytes"));
        double bus = json_number_value(json_object_get(o, "bus_nbytes"));
        double ranks = json_number_value(json_object_get(o, "n_ranks"));
        double n = json_number_value(json_object_get(o, "n_ops"));
        double algbw = seconds > 0 ? 1e-9 * logical / seconds : NAN;
        double busbw = seconds > 0 ? 1e-9 * bus / seconds : NAN;
        report_row(p);
        for (int k = 0; k < 3; k++) {
            const char *word = json_string_value(json_object_get(o, words[k]));
            report_cell(p, word ? word : "");
        }
        report_cell_number(p, ranks, report_plain(ranks, text));
        report_cell_number(p, n, report_count(n, text));
        report_cell_number(p, logical, report_bytes(logical, text));
        report_cell_number(p, algbw, report_four(algbw, text));
        report_cell_number(p, busbw, report_four(busbw, text));
    }
    report_table_end(p);
}

static void put_matrix(report_page *p, const json_t *file) {
    matrix m = {0};
    if (read_matrix(&m, file)) {
        report_note(p,
                    "Bytes from row to column over %d ranks%s, %s; shades are logarithmic, "
                    "lines stand at the borders of the layout's axes. A red frame: not what the "
                    "layout predicts.",
                    m.ranks, m.group > 1 ? ", in squares of ranks" : "",
                    m.of_algorithm ? "as the algorithms sent them"
                                   : "as the operations ask for them (logical traffic)");
        put_maps(p, &m);
        put_lines(p, &m);
        put_operations(p, json_object_get(file, "operations"));
    } else {
        report_note(p, "matrix.json is not a communication matrix that this version can read.");
    }
    free(m.bytes);
    free(m.predicted);
}

void report_communication(report_page *p, const report_run *run) {
    char why[256];
    json_t *file = report_json(run, "matrix.json", why);
    if (file)
        put_matrix(p, file);
    else if (*why)
        report_note(p, "%s", why);
    else
        report_missing(p, "There is no communication matrix; it is in the directory of:",
                       "train_llm --run DIR");
    json_decref(file);
}
