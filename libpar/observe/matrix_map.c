/* Cells of heat maps, see matrix_map.h. Sums are in double: exact up to 2^53 bytes. */
#include "matrix_map.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "libpar/mesh/layout.h"

bool par_matrix_is_predicted(const par_matrix_line *line) {
    static const char *const purposes[] = {"agree", "check",    "checkpoint", "health",
                                           "owner", "replicas", "settle",     "signals"};
    for (size_t i = 0; i < sizeof purposes / sizeof *purposes; i++)
        if (strcmp(line->purpose, purposes[i]) == 0) return false;
    return true;
}

static void fill(par__heat_map *m) {
    const par_matrix *matrix = m->matrix;
    memset(m->value, 0, sizeof m->value);
    memset(m->predicted, 0, sizeof m->predicted);
    m->total = m->smallest = m->largest = 0;
    for (int i = 0; i < matrix->n; i++) {
        const par_matrix_line *line = &matrix->lines[i];
        par_matrix_quantity expected =
            par_matrix_is_predicted(line) ? PAR_MATRIX_PREDICTED : PAR_MATRIX_NBYTES;
        if (m->axis && strcmp(m->axis, line->axis) != 0) continue;
        for (int64_t k = 0; k < line->n; k++) {
            const par_matrix_cell *c = &line->cells[k];
            int at = c->from / m->group * m->cells + c->to / m->group;
            m->value[at] += par_matrix_value(c, m->quantity);
            if (m->compared) m->predicted[at] += par_matrix_value(c, expected);
        }
    }
    for (int i = 0; i < m->cells * m->cells; i++) {
        double largest = fmax(m->value[i], m->predicted[i]);
        double smallest = m->value[i] > 0 ? m->value[i] : m->predicted[i];
        m->total += m->value[i];
        if (largest > m->largest) m->largest = largest;
        if (smallest > 0 && (m->smallest <= 0 || smallest < m->smallest)) m->smallest = smallest;
    }
}

void par__heat_map_begin(par__heat_map *m, const par_matrix *matrix, par_matrix_quantity quantity) {
    int group = (matrix->size + PAR__MAP_CELLS - 1) / PAR__MAP_CELLS;
    m->matrix = matrix;
    m->quantity = quantity;
    m->axis = NULL;
    m->group = group < 1 ? 1 : group;
    m->cells = (matrix->size + m->group - 1) / m->group;
    m->line = -1;
    m->compared = quantity == PAR_MATRIX_NBYTES && matrix->known[PAR_MATRIX_NBYTES] &&
                  matrix->known[PAR_MATRIX_PREDICTED];
    fill(m);
}

bool par__heat_map_next(par__heat_map *m) {
    const par_matrix_line *lines = m->matrix->lines;
    while (++m->line < m->matrix->n) {
        bool seen = false;
        for (int k = 0; k < m->line; k++)
            seen = seen || strcmp(lines[k].axis, lines[m->line].axis) == 0;
        m->axis = lines[m->line].axis;
        if (seen) continue;
        fill(m);
        return true;
    }
    return false;
}

double par_matrix_shade(double smallest, double largest, double value) {
    const double least = 10; /* factor from end to end */
    if (!(value > 0 && smallest > 0)) return -1;
    double range = log(fmax(least, largest / smallest));
    return fmin(1, fmax(0, 1 - log(largest / value) / range));
}

int par__heat_map_borders(const par_matrix *matrix, int every[PAR_AXIS_COUNT],
                          par_axis axis[PAR_AXIS_COUNT]) {
    const par_layout l = par__layout_filled(&matrix->layout);
    int stride = 1, n = 0;
    for (int i = 0; matrix->has_layout && i < PAR_AXIS_COUNT; i++) {
        int size = l.size[l.order[i]];
        if (size <= 1) continue;
        if (stride > 1) {
            every[n] = stride;
            axis[n++] = l.order[i];
        }
        stride *= size;
    }
    return n;
}

int par__heat_map_border(const par__heat_map *m, int cell) {
    int every[PAR_AXIS_COUNT], level = 0;
    par_axis axis[PAR_AXIS_COUNT];
    int n = par__heat_map_borders(m->matrix, every, axis);
    if (cell <= 0 || cell >= m->cells) return 0;
    for (int i = 0; i < n; i++)
        if (every[i] > m->group && cell * m->group % every[i] == 0) level = i + 1;
    return level;
}

void par__size_text(double nbytes, char text[32]) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int u = 0;
    while (nbytes >= 1024 && u < 4) {
        nbytes /= 1024;
        u++;
    }
    snprintf(text, 32, u ? "%.2f %s" : "%.0f %s", nbytes, units[u]);
}

void par__seconds_text(double seconds, char text[32]) {
    if (seconds >= 1e5)
        snprintf(text, 32, "%.4g s", seconds);
    else if (seconds >= 1 || seconds <= 0)
        snprintf(text, 32, "%.2f s", seconds);
    else if (seconds >= 1e-3)
        snprintf(text, 32, "%.2f ms", seconds * 1e3);
    else
        snprintf(text, 32, "%.1f us", seconds * 1e6);
}

void par__quantity_text(par_matrix_quantity quantity, double value, char text[32]) {
    if (quantity == PAR_MATRIX_MESSAGES)
        snprintf(text, 32, value < 1e6 ? "%.0f messages" : "%.4g messages", value);
    else if (quantity == PAR_MATRIX_WAIT)
        par__seconds_text(value, text);
    else
        par__size_text(value, text);
}

const char *par__quantity_name(par_matrix_quantity quantity) {
    switch (quantity) {
    case PAR_MATRIX_MESSAGES: return "messages sent";
    case PAR_MATRIX_LOGICAL: return "logical bytes";
    case PAR_MATRIX_PREDICTED: return "predicted bytes";
    case PAR_MATRIX_WAIT: return "time waited for the other";
    default: return "bytes sent";
    }
}

double par__line_total(const par_matrix_line *line, par_matrix_quantity quantity) {
    double sum = 0;
    for (int64_t i = 0; i < line->n; i++) sum += par_matrix_value(&line->cells[i], quantity);
    return sum;
}
