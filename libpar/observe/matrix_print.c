/*
 * The communication matrix on a terminal: heat maps, one where counted and predicted bytes are
 * equal, else both side by side, 2 · 64 cells and a label in 132 columns; tables (matrix_table.c);
 * every difference.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "libpar/base/checked.h"
#include "matrix_table.h"

enum { MAX_CELLS = PAR__MAP_CELLS, MAX_DIFFERENCES = 20, WIDE_CELLS = 32, SHADES = 4 };

/* Lines stand where the outermost axis goes on, if one map alone is drawn. */
static bool has_line(const par__heat_map *m, int cell, bool two) {
    int every[PAR_AXIS_COUNT];
    par_axis axis[PAR_AXIS_COUNT];
    int border = par__heat_map_border(m, cell);
    return !two && border > 0 && border == par__heat_map_borders(m->matrix, every, axis) &&
           m->cells * m->group / every[border - 1] <= 16;
}

static int put_side(const par__heat_map *m, const double *values, int row, bool two, char *line,
                    size_t nbytes) {
    static const char *const shades[SHADES] = {"░", "▒", "▓", "█"};
    size_t n = 0;
    bool wide = m->cells <= WIDE_CELLS;
    for (int column = 0; column < m->cells; column++) {
        double level = par_matrix_shade(m->smallest, m->largest, values[row * m->cells + column]);
        int i = (int)(level * SHADES);
        const char *s = level < 0 ? "·" : shades[i < SHADES ? i : SHADES - 1];
        if (has_line(m, column, two)) n += (size_t)snprintf(line + n, nbytes - n, "│");
        n += (size_t)snprintf(line + n, nbytes - n, "%s%s", s,
                              !wide            ? ""
                              : s[0] == '\xc2' ? " "
                                               : s);
    }
    return (int)n;
}

static void print_map(const par__heat_map *m, const par__printer *out) {
    bool two = m->compared && memcmp(m->value, m->predicted, sizeof m->value) != 0;
    const char *compared = two           ? "; left counted, right predicted"
                           : m->compared ? ", as predicted"
                                         : "";
    char large[32], small[32], total[32], line[2 * (2 * MAX_CELLS + 16) * 3 + 16];
    par__quantity_text(m->quantity, m->largest, large);
    par__quantity_text(m->quantity, m->smallest, small);
    par__quantity_text(m->quantity, m->total, total);
    par__printf(out, "%s: %s, from row to column%s; %s, cells of %s to %s",
                m->axis ? m->axis : "all axes", par__quantity_name(m->quantity), compared, total,
                small, large);
    for (int row = 0; row < m->cells; row++) {
        bool border = has_line(m, row, two);
        int n = snprintf(line, sizeof line, "     ");
        for (int column = 0; border && column < m->cells; column++)
            n += snprintf(line + n, sizeof line - (size_t)n, "%s%s",
                          has_line(m, column, false) ? "┼" : "",
                          m->cells <= WIDE_CELLS ? "──" : "─");
        if (border) out->print(out->user, line);
        n = snprintf(line, sizeof line, two ? "%3d" : "%4d ", row * m->group);
        n += put_side(m, m->value, row, two, line + n, sizeof line - (size_t)n);
        if (two) {
            n += snprintf(line + n, sizeof line - (size_t)n, " ");
            put_side(m, m->predicted, row, two, line + n, sizeof line - (size_t)n);
        }
        out->print(out->user, line);
    }
}

/* A sender's row of a line from cell `begin` on: its end, the sums, and the first receiver for
 * which it differs, or -1. */
static int64_t next_sender(const par_matrix_line *line, int64_t begin, int64_t sums[2],
                           int *first) {
    int64_t i = begin;
    sums[0] = sums[1] = 0;
    *first = -1;
    for (; i < line->n && line->cells[i].from == line->cells[begin].from; i++) {
        const par_matrix_cell *c = &line->cells[i];
        sums[0] = par__add_counts(sums[0], c->nbytes);
        sums[1] = par__add_counts(sums[1], c->predicted_nbytes);
        if (*first < 0 && c->nbytes != c->predicted_nbytes) *first = c->to;
    }
    return i;
}

/* Counts differences; prints the first ones if there is a printer. */
static int walk_differences(const par_matrix *m, const par__printer *out) {
    int n = 0;
    if (!m->known[PAR_MATRIX_NBYTES] || !m->known[PAR_MATRIX_PREDICTED]) return 0;
    for (int i = 0; i < m->n; i++)
        for (int64_t k = 0, end; k < m->lines[i].n && par_matrix_is_predicted(&m->lines[i]);
             k = end) {
            int64_t sums[2];
            int to;
            end = next_sender(&m->lines[i], k, sums, &to);
            if (to < 0) continue;
            if (out && n < MAX_DIFFERENCES)
                par__printf(out,
                            "difference: %s, %s, rank %d: counted %" PRId64
                            " bytes, predicted %" PRId64 "; first to rank %d",
                            m->lines[i].axis, m->lines[i].purpose, (int)m->lines[i].cells[k].from,
                            sums[0], sums[1], to);
            n++;
        }
    return n;
}

int par_matrix_differences(const par_matrix *m) {
    return walk_differences(m, NULL);
}

void par_matrix_print(const par_matrix *matrix, par_matrix_quantity quantity,
                      void (*print)(void *user, const char *line), void *user) {
    const par__printer out = {print, user};
    static _Thread_local par__heat_map map;
    par__heat_map_begin(&map, matrix, quantity);
    do print_map(&map, &out);
    while (par__heat_map_next(&map));
    par__table_lines(matrix, &out);
    par__table_hosts(matrix, &out);
    par__table_ops(matrix, &out);
    par__table_layers(matrix, &out);
    int n = walk_differences(matrix, &out);
    if (!matrix->known[PAR_MATRIX_NBYTES] || !matrix->known[PAR_MATRIX_PREDICTED])
        par__printf(&out, "note: nothing was predicted");
    else if (n == 0)
        par__printf(&out, "counted traffic equals the prediction%s",
                    matrix->overflow ? ", where both are known" : "");
    else
        par__printf(&out, "%d differences between counted traffic and the prediction", n);
    if (matrix->overflow)
        par__printf(&out,
                    "note: there was more to count than the tables hold; some of it is missing");
}
