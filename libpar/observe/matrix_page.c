/*
 * The communication matrix as a page: a heat map of all axes and of each one, then the table of
 * axes and purposes. Colours are on one logarithmic scale for all maps, which stands above them.
 * Lines are where axes have their borders, stronger for slower axes; a cell whose counted bytes are
 * not the predicted ones has a red frame.
 */
#include "matrix_page.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "svg.h"

enum {
    TOP = 136, /* of the first map */
    LINE = 19,
    TICKS = 8,       /* labels along a side at most */
    HINT_CELLS = 32, /* a map of more cells a side gets no text for the pointer: too many of them */
    STEPS = 24       /* of the scale */
};

/* How maps stand on the page: small ones three in a row, those of many ranks two. */
typedef struct {
    int columns;
    double side, step_x, step_y;
} grid;

typedef struct {
    const par__canvas *canvas;
    par__heat_map map;
    grid grid;
    double smallest, largest; /* of all maps */
    double x, y, unit;        /* the map's corner; pixels of a cell */
} drawing;

static grid grid_of(const par_matrix *m) {
    return m->size > HINT_CELLS ? (grid){2, 320, 370, 398} : (grid){3, 190, 244, 268};
}

/* Of a value's colour, on the scale of all maps; the smallest is seen, too. */
static double strength(const drawing *d, double value) {
    return 0.14 + 0.86 * fmax(0, par_matrix_shade(d->smallest, d->largest, value));
}

static void draw_cell(drawing *d, int row, int column) {
    const par__heat_map *m = &d->map;
    double value = m->value[row * m->cells + column],
           expected = m->predicted[row * m->cells + column];
    double x = d->x + column * d->unit, y = d->y + row * d->unit, unit = d->unit;
    const par__canvas *c = d->canvas;
    char hint[128], a[32], b[32];
    par__quantity_text(m->quantity, value, a);
    par__quantity_text(m->quantity, expected, b);
    int n = snprintf(hint, sizeof hint, "rank %d to %d: %s", row * m->group, column * m->group, a);
    if (m->compared) snprintf(hint + n, sizeof hint - (size_t)n, " counted, %s predicted", b);
    if (value > 0)
        c->rectangle(c->surface, PAR__INK_CELL, strength(d, value), x, y, unit, unit,
                     m->cells <= HINT_CELLS ? hint : NULL);
    if (m->compared && value != expected)
        c->rectangle(c->surface, PAR__INK_WRONG, 1, x + 1, y + 1, unit > 3 ? unit - 2 : 1,
                     unit > 3 ? unit - 2 : 1, NULL);
}

static void draw_map(drawing *d, int place) {
    const par__canvas *c = d->canvas;
    const par__heat_map *m = &d->map;
    char text[96], total[32], largest[32];
    int every = (m->cells + TICKS - 1) / TICKS;
    double side = d->grid.side;
    d->x = PAR__SVG_LEFT + place % d->grid.columns * d->grid.step_x;
    d->y = TOP + place / d->grid.columns * d->grid.step_y;
    d->unit = side / m->cells;
    par__quantity_text(m->quantity, m->total, total);
    par__quantity_text(m->quantity, m->largest, largest);
    c->text(c->surface, PAR__TEXT_TITLE, PAR__LEFT, d->x, d->y - 22,
            m->axis ? m->axis : "all axes");
    snprintf(text, sizeof text, "%s, largest %s", total, largest);
    c->text(c->surface, PAR__TEXT_SMALL, PAR__LEFT, d->x, d->y - 7, text);
    for (int i = 0; i < m->cells * m->cells; i++) draw_cell(d, i / m->cells, i % m->cells);
    for (int i = 1; i < m->cells; i++) {
        int border = par__heat_map_border(m, i);
        double at = i * d->unit, width = border == 1 ? 0.4 : 0.6 * (border - 1) + 0.4;
        if (border == 0) continue;
        c->line(c->surface, PAR__INK_BORDER, width, d->x + at, d->y, d->x + at, d->y + side);
        c->line(c->surface, PAR__INK_BORDER, width, d->x, d->y + at, d->x + side, d->y + at);
    }
    c->rectangle(c->surface, PAR__INK_FRAME, 1, d->x, d->y, side, side, NULL);
    for (int i = 0; i < m->cells; i += every) {
        double middle = (i + 0.5) * d->unit;
        snprintf(text, sizeof text, "%d", i * m->group);
        c->text(c->surface, PAR__TEXT_SMALL, PAR__RIGHT, d->x - 5, d->y + middle + 4, text);
        c->text(c->surface, PAR__TEXT_SMALL, PAR__MIDDLE, d->x + middle, d->y + side + 14, text);
    }
}

/* The scale from its smallest to its largest value, and what lines mean. */
static void draw_legend(const drawing *d) {
    const par__canvas *c = d->canvas;
    const double x = PAR__SVG_LEFT + 90, y = 40, width = 9, first = strength(d, d->smallest);
    char smallest[32], largest[32], text[128], lines[256] = "";
    int every[PAR_AXIS_COUNT];
    par_axis axis[PAR_AXIS_COUNT];
    int n = par__heat_map_borders(d->map.matrix, every, axis);
    par__quantity_text(d->map.quantity, d->smallest, smallest);
    par__quantity_text(d->map.quantity, d->largest, largest);
    for (int i = 0; i < STEPS; i++) {
        double level = (double)i / (STEPS - 1);
        c->rectangle(c->surface, PAR__INK_CELL, first + (1 - first) * level, x + i * width, y,
                     width, 12, NULL);
    }
    c->text(c->surface, PAR__TEXT_SMALL, PAR__RIGHT, x - 6, y + 10, smallest);
    snprintf(text, sizeof text, "%s per cell; the scale is logarithmic", largest);
    c->text(c->surface, PAR__TEXT_SMALL, PAR__LEFT, x + STEPS * width + 6, y + 10, text);
    for (int i = 0; i < n; i++) {
        size_t k = strlen(lines);
        snprintf(lines + k, sizeof lines - k, "%s every %d ranks, where %s goes on",
                 i ? "; stronger" : "lines", every[i], par_axis_name(axis[i]));
    }
    if (n) c->text(c->surface, PAR__TEXT_SMALL, PAR__LEFT, PAR__SVG_LEFT, y + 30, lines);
}

static void draw_row(const par__canvas *c, double y, const char *const words[5]) {
    static const double at[] = {0, 80, 390, 520, 650};
    for (int i = 0; i < 5; i++)
        c->text(c->surface, PAR__TEXT, i < 2 ? PAR__LEFT : PAR__RIGHT, PAR__SVG_LEFT + at[i], y,
                words[i]);
}

static void draw_table(const par__canvas *c, const par_matrix *m, double y) {
    static const par_matrix_quantity columns[] = {PAR_MATRIX_NBYTES, PAR_MATRIX_PREDICTED,
                                                  PAR_MATRIX_LOGICAL};
    draw_row(c, y, (const char *const[]){"axis", "purpose", "counted", "predicted", "logical"});
    for (int i = 0; i < m->n; i++) {
        const par_matrix_line *line = &m->lines[i];
        char text[3][32] = {"-", "-", "-"};
        for (int k = 0; k < 3; k++)
            if (m->known[columns[k]] && !(k == 1 && !par_matrix_is_predicted(line)))
                par__size_text(par__line_total(line, columns[k]), text[k]);
        draw_row(c, y + (i + 1) * LINE,
                 (const char *const[]){line->axis, line->purpose, text[0], text[1], text[2]});
    }
}

static double table_top(const par_matrix *m) {
    grid g = grid_of(m);
    int n = 1; /* maps: of all axes, and of each one */
    for (int i = 0; i < m->n; i++) {
        bool seen = false;
        for (int k = 0; k < i; k++) seen = seen || strcmp(m->lines[k].axis, m->lines[i].axis) == 0;
        n += !seen;
    }
    return TOP + (n + g.columns - 1) / g.columns * g.step_y;
}

int par__page_height(const par_matrix *m) {
    return (int)table_top(m) + (m->n + 1) * LINE;
}

void par__page_title(const par_matrix *m, par_matrix_quantity quantity, char *text, size_t nbytes) {
    int n = par_matrix_differences(m), group = (m->size + PAR__MAP_CELLS - 1) / PAR__MAP_CELLS;
    char squares[48] = "", compared[64] = "";
    if (group > 1) snprintf(squares, sizeof squares, " in squares of %d", group);
    if (quantity == PAR_MATRIX_NBYTES && m->known[PAR_MATRIX_PREDICTED])
        snprintf(compared, sizeof compared, n ? ": %d difference%s" : ": as predicted", n,
                 n == 1 ? "" : "s");
    snprintf(text, nbytes, "%s, from row to column, %d ranks%s%s", par__quantity_name(quantity),
             m->size, squares, compared);
}

par_status par__page_draw(const par_matrix *m, par_matrix_quantity quantity,
                          const par__canvas *canvas) {
    drawing *d = calloc(1, sizeof *d);
    if (!d) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a picture of the communication matrix");
    d->canvas = canvas;
    d->grid = grid_of(m);
    par__heat_map_begin(&d->map, m, quantity);
    do { /* the scale */
        if (d->map.largest > d->largest) d->largest = d->map.largest;
        if (d->map.smallest > 0 && (d->smallest <= 0 || d->map.smallest < d->smallest))
            d->smallest = d->map.smallest;
    } while (par__heat_map_next(&d->map));
    draw_legend(d);
    int place = 0;
    par__heat_map_begin(&d->map, m, quantity);
    do draw_map(d, place++);
    while (par__heat_map_next(&d->map));
    draw_table(canvas, m, table_top(m));
    free(d);
    return PAR_OK;
}
