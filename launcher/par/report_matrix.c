/*
 * Who sent how much to whom: RUN/matrix.json as heat maps, one of all axes and one of each, then
 * axes and purposes. A cell is a pair of ranks, or in a world of more than 64 ranks a square of
 * them; its shade is logarithmic. Cells whose bytes are not what the layout predicts have a frame.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

enum { MAX_CELLS = 64, MAX_AXES = 16, MAX_BORDERS = 16 };

typedef struct {
    const par_matrix *matrix;
    int cells, group;                      /* cells of a side, ranks of a cell */
    int period[PAR_AXIS_COUNT], n_periods; /* ranks between lines of the layout's axes */
    par_matrix_quantity shown;             /* bytes of the algorithm, or logical ones */
    bool compared;                         /* with the prediction */
    double *bytes, *predicted;             /* [cells, cells] of the map under way */
} heat_map;

/* False: the file has no bytes, or there is no memory. */
static bool begin(heat_map *h, const par_matrix *m) {
    h->matrix = m;
    h->group = (m->size + MAX_CELLS - 1) / MAX_CELLS;
    h->cells = (m->size + h->group - 1) / h->group;
    h->shown = m->known[PAR_MATRIX_NBYTES] ? PAR_MATRIX_NBYTES : PAR_MATRIX_LOGICAL;
    h->compared = m->known[PAR_MATRIX_NBYTES] && m->known[PAR_MATRIX_PREDICTED];
    /* A product of sizes per axis but the last: where a line stands. Lines that would lie close to
     * each other are left out. */
    for (int i = 0, product = 1; m->has_layout && i + 1 < PAR_AXIS_COUNT; i++) {
        int size = m->layout.size[m->layout.order[i]];
        product *= size;
        if (size > 1 && product < m->size && m->size / product <= MAX_BORDERS)
            h->period[h->n_periods++] = product;
    }
    size_t n = (size_t)h->cells * (size_t)h->cells;
    h->bytes = calloc(n, sizeof *h->bytes);
    h->predicted = calloc(n, sizeof *h->predicted);
    return m->known[h->shown] && h->bytes && h->predicted;
}

/* The cells of an axis, or of all (NULL). */
static void add_up(heat_map *h, const char *axis) {
    size_t n = (size_t)h->cells * (size_t)h->cells;
    memset(h->bytes, 0, n * sizeof *h->bytes);
    memset(h->predicted, 0, n * sizeof *h->predicted);
    for (int i = 0; i < h->matrix->n; i++) {
        const par_matrix_line *line = &h->matrix->lines[i];
        par_matrix_quantity expected =
            par_matrix_is_predicted(line) ? PAR_MATRIX_PREDICTED : PAR_MATRIX_NBYTES;
        if (axis && strcmp(line->axis, axis) != 0) continue;
        for (int64_t k = 0; k < line->n; k++) {
            const par_matrix_cell *cell = &line->cells[k];
            int at = cell->from / h->group * h->cells + cell->to / h->group;
            h->bytes[at] += par_matrix_value(cell, h->shown);
            h->predicted[at] += par_matrix_value(cell, expected);
        }
    }
}

static void put_cell(report_page *p, const heat_map *h, int row, int column, double low,
                     double high) {
    double bytes = h->bytes[row * h->cells + column];
    double predicted = h->predicted[row * h->cells + column];
    bool wrong = h->compared && bytes != predicted;
    char text[REPORT_TEXT];
    if (bytes <= 0 && !wrong) return;
    report_put(p,
               "<rect class=\"cell\" fill-opacity=\"%.2f\" x=\"%d\" y=\"%d\" width=\"1\" "
               "height=\"1\">",
               bytes > 0 ? 0.15 + 0.85 * par_matrix_shade(low, high, bytes) : 0, column, row);
    report_put(p, "<title>%d to %d: %s", row * h->group, column * h->group,
               report_bytes(bytes, text));
    if (wrong) report_put(p, ", predicted %s", report_bytes(predicted, text));
    report_put(p, "</title></rect>");
    if (wrong)
        report_put(p, "<rect class=\"wrong\" x=\"%d\" y=\"%d\" width=\"1\" height=\"1\"/>", column,
                   row);
}

static void put_map(report_page *p, heat_map *h, const char *axis) {
    double low = INFINITY, high = 0, sum = 0;
    char text[REPORT_TEXT], least[REPORT_TEXT], most[REPORT_TEXT];
    int n = h->cells * h->cells;
    add_up(h, axis);
    for (int i = 0; i < n; i++) {
        if (h->bytes[i] > 0) low = fmin(low, h->bytes[i]);
        high = fmax(high, h->bytes[i]);
        sum += h->bytes[i];
    }
    report_put(p, "<figure class=\"map\"><figcaption><b>");
    report_put_text(p, axis ? axis : "all axes");
    report_put(p, "</b><i>%s</i>", report_bytes(sum, text));
    if (sum > 0)
        report_put(p, "<i>a cell: %s to %s</i>", report_bytes(low, least),
                   report_bytes(high, most));
    report_put(p, "</figcaption>\n<svg viewBox=\"-0.2 -0.2 %.1f %.1f\" role=\"img\">\n",
               h->cells + 0.4, h->cells + 0.4);
    for (int i = 0; i < n; i++) put_cell(p, h, i / h->cells, i % h->cells, low, high);
    report_put(p, "<path class=\"border\" d=\"M0 0h%dv%dh-%dz", h->cells, h->cells, h->cells);
    for (int i = 0; i < h->n_periods; i++)
        for (int at = h->period[i]; at < h->matrix->size; at += h->period[i])
            report_put(p, "M%.3f 0v%dM0 %.3fh%d", (double)at / h->group, h->cells,
                       (double)at / h->group, h->cells);
    report_put(p, "\"/>");
    report_put(p, "</svg></figure>\n");
}

/* One map per axis that has bytes, in the order of the file. */
static void put_maps(report_page *p, heat_map *h) {
    const char *seen[MAX_AXES];
    int n_seen = 0;
    report_put(p, "<div class=\"maps\">\n");
    put_map(p, h, NULL);
    for (int i = 0; i < h->matrix->n; i++) {
        const char *axis = h->matrix->lines[i].axis;
        bool known = n_seen == MAX_AXES;
        for (int k = 0; k < n_seen && !known; k++) known = strcmp(seen[k], axis) == 0;
        if (known) continue;
        seen[n_seen++] = axis;
        put_map(p, h, axis);
    }
    report_put(p, "</div>\n");
}

static void put_sum(report_page *p, const par_matrix *m, const par_matrix_line *line,
                    par_matrix_quantity q, report_text *as_text) {
    char text[REPORT_TEXT];
    bool known = m->known[q] && (q != PAR_MATRIX_PREDICTED || par_matrix_is_predicted(line));
    double sum = known ? 0 : NAN;
    for (int64_t k = 0; k < line->n; k++) sum += par_matrix_value(&line->cells[k], q);
    report_cell_number(p, sum, as_text(sum, text));
}

static void put_lines(report_page *p, const par_matrix *m) {
    static const char *const heads[] = {"axis",     "purpose",   "#sent",  "#predicted",
                                        "#logical", "#messages", "#waited"};
    report_table_begin(p, heads, 7);
    for (int i = 0; i < m->n; i++) {
        const par_matrix_line *line = &m->lines[i];
        report_row(p);
        report_cell(p, line->axis);
        report_cell(p, line->purpose);
        put_sum(p, m, line, PAR_MATRIX_NBYTES, report_bytes);
        put_sum(p, m, line, PAR_MATRIX_PREDICTED, report_bytes);
        put_sum(p, m, line, PAR_MATRIX_LOGICAL, report_bytes);
        put_sum(p, m, line, PAR_MATRIX_MESSAGES, report_count);
        put_sum(p, m, line, PAR_MATRIX_WAIT, report_seconds);
    }
    report_table_end(p);
}

/* algbw and busbw of what was timed, as NCCL's performance tests define them. */
static void put_operations(report_page *p, const par_matrix *m) {
    static const char *const heads[] = {"axis",   "purpose",  "operation",    "#ranks",
                                        "#count", "#logical", "#algbw, GB/s", "#busbw, GB/s"};
    char text[REPORT_TEXT];
    if (m->n_ops == 0) return;
    report_put(p, "<h3>Operations</h3>\n");
    report_table_begin(p, heads, 8);
    for (int i = 0; i < m->n_ops; i++) {
        const par_traffic_op *o = &m->ops[i];
        double logical = (double)o->logical_nbytes;
        double algbw = o->seconds > 0 ? 1e-9 * logical / o->seconds : NAN;
        double busbw = o->seconds > 0 ? 1e-9 * o->bus_nbytes / o->seconds : NAN;
        report_row(p);
        report_cell(p, o->axis);
        report_cell(p, o->purpose);
        report_cell(p, o->op);
        report_cell_number(p, o->n_ranks, report_plain(o->n_ranks, text));
        report_cell_number(p, (double)o->n_ops, report_count((double)o->n_ops, text));
        report_cell_number(p, logical, report_bytes(logical, text));
        report_cell_number(p, algbw, report_four(algbw, text));
        report_cell_number(p, busbw, report_four(busbw, text));
    }
    report_table_end(p);
}

static void put_matrix(report_page *p, const par_matrix *m) {
    heat_map h = {0};
    if (begin(&h, m)) {
        report_note(p,
                    "Bytes from row to column over %d ranks%s, %s; shades are logarithmic, "
                    "lines stand at the borders of the layout's axes. A red frame: not what the "
                    "layout predicts.",
                    m->size, h.group > 1 ? ", in squares of ranks" : "",
                    h.shown == PAR_MATRIX_NBYTES
                        ? "as the algorithms sent them"
                        : "as the operations ask for them (logical traffic)");
        put_maps(p, &h);
        put_lines(p, m);
        put_operations(p, m);
    } else {
        report_note(p, "matrix.json has no bytes, or there is no memory for its maps.");
    }
    free(h.bytes);
    free(h.predicted);
}

void report_communication(report_page *p, const report_run *run) {
    char path[1200];
    par_matrix *m = NULL;
    if (!report_file(run, "matrix.json", path))
        report_missing(p, "There is no communication matrix; it is in the directory of:",
                       "train_llm --run DIR");
    else if (par_matrix_read_json(path, &m) == PAR_OK)
        put_matrix(p, m);
    else
        report_note(p, "matrix.json cannot be read: %s", par_error());
    par_matrix_destroy(&m);
}
