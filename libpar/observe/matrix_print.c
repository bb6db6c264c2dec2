/*
 * The communication matrix on a terminal: heat maps of counted and predicted bytes side by side, 2 · 64 cells
 * and a label in 132 columns; a table of axes and purposes; every difference.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "traffic.h"

enum { MAX_CELLS = 64, MAX_DIFFERENCES = 20 };

typedef struct {
    const par_matrix *matrix;
    const char *axis; /* NULL: all */
    int group, cells; /* ranks in a cell's side; cells in the map's side */
    void (*print)(void *user, const char *line);
    void *user;
} map;

static bool belongs(const map *m, const par_matrix_line *line) {
    return !m->axis || strcmp(m->axis, line->axis) == 0;
}

/* Bytes of a cell: all ranks of its square, all lines of the map's axis. */
static double cell(const map *m, bool predicted, int row, int column) {
    int size = m->matrix->size;
    double sum = 0;
    for (int i = 0; i < m->matrix->n; i++) {
        const par_matrix_line *line = &m->matrix->lines[i];
        const int64_t *bytes = predicted ? line->predicted : line->counted;
        if (!belongs(m, line)) continue;
        for (int a = row * m->group; a < (row + 1) * m->group && a < size; a++)
            for (int b = column * m->group; b < (column + 1) * m->group && b < size; b++)
                sum += (double)bytes[(int64_t)a * size + b];
    }
    return sum;
}

static double largest(const map *m) {
    double max = 0;
    for (int i = 0; i < 2 * m->cells * m->cells; i++) {
        double value = cell(m, i % 2 != 0, i / 2 / m->cells, i / 2 % m->cells);
        if (value > max) max = value;
    }
    return max;
}

/* Nothing is a dot, the rest a quarter of the largest a shade. */
static const char *shade(double value, double max) {
    static const char *const shades[] = {"░", "▒", "▓", "█"};
    if (value <= 0) return "·";
    for (int i = 0; i < 3; i++)
        if (value <= max * (i + 1) / 4) return shades[i];
    return shades[3];
}

static void size_text(double nbytes, char text[32]) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int u = 0;
    while (nbytes >= 1024 && u < 4) {
        nbytes /= 1024;
        u++;
    }
    snprintf(text, 32, u ? "%.2f %s" : "%.0f %s", nbytes, units[u]);
}

static void print_row(const map *m, int row, double max) {
    char line[MAX_CELLS * 2 * 2 * 4 + 16];
    int width = m->cells <= MAX_CELLS / 2 ? 2 : 1;
    int n = snprintf(line, sizeof line, "%3d", row * m->group);
    for (int side = 0; side < 2; side++) {
        if (side) line[n++] = ' ';
        for (int column = 0; column < m->cells; column++) {
            const char *s = shade(cell(m, side != 0, row, column), max);
            for (int i = 0; i < width; i++)
                n += snprintf(line + n, sizeof line - (size_t)n, "%s", i && s[0] == '\xc2' ? " " : s);
        }
    }
    m->print(m->user, line);
}

static void print_map(const map *m) {
    char text[192], max_text[32];
    double max = largest(m);
    size_text(max, max_text);
    snprintf(text, sizeof text,
             "%s: sent by a row's rank%s to a column's; left counted, right predicted; darkest %s",
             m->axis ? m->axis : "all axes", m->group > 1 ? "s" : "", max_text);
    m->print(m->user, text);
    for (int row = 0; row < m->cells; row++) print_row(m, row, max);
}

static double total(const par_matrix *m, const int64_t *bytes) {
    double sum = 0;
    for (int64_t i = 0; i < (int64_t)m->size * m->size; i++) sum += (double)bytes[i];
    return sum;
}

static void print_table(const map *m) {
    char text[192], counted[32], predicted[32];
    snprintf(text, sizeof text, "%-8s %-22s %14s %14s", "axis", "purpose", "counted", "predicted");
    m->print(m->user, text);
    for (int i = 0; i < m->matrix->n; i++) {
        const par_matrix_line *line = &m->matrix->lines[i];
        size_text(total(m->matrix, line->counted), counted);
        size_text(total(m->matrix, line->predicted), predicted);
        snprintf(text, sizeof text, "%-8s %-22s %14s %14s", line->axis, line->purpose, counted, predicted);
        m->print(m->user, text);
    }
}

/* Does a sender's row of a line differ, where first, and what are its sums? */
static int differs(const par_matrix *m, const par_matrix_line *line, int from, int64_t sums[2]) {
    int first = -1;
    sums[0] = sums[1] = 0;
    for (int to = 0; to < m->size; to++) {
        int64_t i = (int64_t)from * m->size + to;
        sums[0] += line->counted[i];
        sums[1] += line->predicted[i];
        if (first < 0 && line->counted[i] != line->predicted[i]) first = to;
    }
    return first;
}

static void print_difference(const map *m, const par_matrix_line *line, int from, int to,
                             const int64_t *sums) {
    char text[256];
    snprintf(text, sizeof text,
             "difference: %s, %s, rank %d: counted %" PRId64 " bytes, predicted %" PRId64
             "; first to rank %d",
             line->axis, line->purpose, from, sums[0], sums[1], to);
    m->print(m->user, text);
}

/* Counts differences; prints the first ones if there is a map. */
static int walk_differences(const par_matrix *matrix, const map *m) {
    int n = 0;
    for (int i = 0; i < matrix->n; i++)
        for (int from = 0; from < matrix->size; from++) {
            int64_t sums[2];
            int to = differs(matrix, &matrix->lines[i], from, sums);
            if (to < 0) continue;
            if (m && n < MAX_DIFFERENCES) print_difference(m, &matrix->lines[i], from, to, sums);
            n++;
        }
    return n;
}

int par_matrix_differences(const par_matrix *m) {
    return walk_differences(m, NULL);
}

static void print_differences(const map *m) {
    char text[96];
    int n = walk_differences(m->matrix, m);
    if (n == 0)
        snprintf(text, sizeof text, "counted traffic equals the prediction%s",
                 m->matrix->overflow ? ", where both are known" : "");
    else
        snprintf(text, sizeof text, "%d differences between counted traffic and the prediction", n);
    m->print(m->user, text);
    if (m->matrix->overflow)
        m->print(m->user, "note: there were more axes and purposes than the table holds; some are missing");
}

/* One map an axis, in the order of their first lines. */
static void print_axes(map *m) {
    for (int i = 0; i < m->matrix->n; i++) {
        bool seen = false;
        for (int k = 0; k < i; k++)
            seen = seen || strcmp(m->matrix->lines[k].axis, m->matrix->lines[i].axis) == 0;
        if (seen) continue;
        m->axis = m->matrix->lines[i].axis;
        print_map(m);
    }
    m->axis = NULL;
}

void par_matrix_print(const par_matrix *matrix, void (*print)(void *user, const char *line), void *user) {
    int group = (matrix->size + MAX_CELLS - 1) / MAX_CELLS;
    map m = {.matrix = matrix,
             .group = group,
             .cells = (matrix->size + group - 1) / group,
             .print = print,
             .user = user};
    print_map(&m);
    print_axes(&m);
    print_table(&m);
    print_differences(&m);
}
