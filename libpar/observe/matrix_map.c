/* Cells of heat maps, see matrix_map.h. Sums are in double: exact up to 2^53 bytes. */
#include "matrix_map.h"

#include <stdio.h>
#include <string.h>

par__map_of par__map_all(const par_matrix *matrix) {
    int group = (matrix->size + PAR__MAP_CELLS - 1) / PAR__MAP_CELLS;
    if (group < 1) group = 1;
    return (par__map_of){
        .matrix = matrix, .group = group, .cells = (matrix->size + group - 1) / group, .line = -1};
}

bool par__map_next(par__map_of *m) {
    const par_matrix_line *lines = m->matrix->lines;
    while (++m->line < m->matrix->n) {
        bool seen = false;
        for (int k = 0; k < m->line; k++)
            seen = seen || strcmp(lines[k].axis, lines[m->line].axis) == 0;
        m->axis = lines[m->line].axis;
        if (!seen) return true;
    }
    return false;
}

double par__map_cell(const par__map_of *m, bool predicted, int row, int column) {
    int size = m->matrix->size;
    double sum = 0;
    for (int i = 0; i < m->matrix->n; i++) {
        const par_matrix_line *line = &m->matrix->lines[i];
        const int64_t *bytes = predicted ? line->predicted : line->counted;
        if (m->axis && strcmp(m->axis, line->axis) != 0) continue;
        for (int a = row * m->group; a < (row + 1) * m->group && a < size; a++)
            for (int b = column * m->group; b < (column + 1) * m->group && b < size; b++)
                sum += (double)bytes[(int64_t)a * size + b];
    }
    return sum;
}

double par__map_largest(const par__map_of *m) {
    double max = 0;
    for (int i = 0; i < 2 * m->cells * m->cells; i++) {
        double value = par__map_cell(m, i % 2 != 0, i / 2 / m->cells, i / 2 % m->cells);
        if (value > max) max = value;
    }
    return max;
}

double par__map_total(const par_matrix *m, const int64_t *bytes) {
    double sum = 0;
    for (int64_t i = 0; i < (int64_t)m->size * m->size; i++) sum += (double)bytes[i];
    return sum;
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
