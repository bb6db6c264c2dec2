/*
 * The communication matrix on a terminal: heat maps of counted and predicted bytes side by side, 2
 * · 64 cells and a label in 132 columns; a table of axes and purposes; every difference.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "matrix_map.h"

enum { MAX_CELLS = PAR__MAP_CELLS, MAX_DIFFERENCES = 20 };

typedef struct {
    par__map_of of;
    void (*print)(void *user, const char *line);
    void *user;
} map;

/* Nothing is a dot, the rest a quarter of the largest a shade. */
static const char *shade(double value, double max) {
    static const char *const shades[] = {"░", "▒", "▓", "█"};
    if (value <= 0) return "·";
    for (int i = 0; i < 3; i++)
        if (value <= max * (i + 1) / 4) return shades[i];
    return shades[3];
}

static void print_row(const map *m, int row, double max) {
    char line[MAX_CELLS * 2 * 2 * 4 + 16];
    int width = m->of.cells <= MAX_CELLS / 2 ? 2 : 1;
    int n = snprintf(line, sizeof line, "%3d", row * m->of.group);
    for (int side = 0; side < 2; side++) {
        if (side) line[n++] = ' ';
        for (int column = 0; column < m->of.cells; column++) {
            const char *s = shade(par__map_cell(&m->of, side != 0, row, column), max);
            for (int i = 0; i < width; i++)
                n += snprintf(line + n, sizeof line - (size_t)n, "%s",
                              i && s[0] == '\xc2' ? " " : s);
        }
    }
    m->print(m->user, line);
}

static void print_map(const map *m) {
    char text[192], max_text[32];
    double max = par__map_largest(&m->of);
    par__size_text(max, max_text);
    snprintf(text, sizeof text,
             "%s: sent by a row's rank%s to a column's; left counted, right predicted; darkest %s",
             m->of.axis ? m->of.axis : "all axes", m->of.group > 1 ? "s" : "", max_text);
    m->print(m->user, text);
    for (int row = 0; row < m->of.cells; row++) print_row(m, row, max);
}

static void print_table(const map *m) {
    char text[192], counted[32], predicted[32];
    snprintf(text, sizeof text, "%-8s %-22s %14s %14s", "axis", "purpose", "counted", "predicted");
    m->print(m->user, text);
    for (int i = 0; i < m->of.matrix->n; i++) {
        const par_matrix_line *line = &m->of.matrix->lines[i];
        par__size_text(par__map_total(m->of.matrix, line->counted), counted);
        par__size_text(par__map_total(m->of.matrix, line->predicted), predicted);
        snprintf(text, sizeof text, "%-8s %-22s %14s %14s", line->axis, line->purpose, counted,
                 predicted);
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
    int n = walk_differences(m->of.matrix, m);
    if (n == 0)
        snprintf(text, sizeof text, "counted traffic equals the prediction%s",
                 m->of.matrix->overflow ? ", where both are known" : "");
    else
        snprintf(text, sizeof text, "%d differences between counted traffic and the prediction", n);
    m->print(m->user, text);
    if (m->of.matrix->overflow)
        m->print(m->user,
                 "note: there were more axes and purposes than the table holds; some are missing");
}

void par_matrix_print(const par_matrix *matrix, void (*print)(void *user, const char *line),
                      void *user) {
    map m = {.of = par__map_all(matrix), .print = print, .user = user};
    do print_map(&m);
    while (par__map_next(&m.of));
    print_table(&m);
    print_differences(&m);
}
