/*
 * The communication matrix as a page: a heat map of all axes and of each one, three in a row, then
 * the table of axes and purposes. A cell's colour is its share of its map's largest cell; one whose
 * counted bytes are not the predicted ones has a red frame.
 */
#include <inttypes.h>
#include <stdio.h>

#include "matrix_map.h"
#include "svg.h"

enum {
    COLUMNS = 3,
    SIDE = 190, /* of a map */
    STEP_X = 244,
    STEP_Y = 268,
    TOP = 86,
    LINE = 19,
    TICKS = 8,      /* labels along a side at most */
    HINT_CELLS = 32 /* a map of more cells a side gets no text for the pointer: too many of them */
};

static const char style[] =
    ".cell{fill:#1f6fb4}.wrong{fill:none;stroke:#d02020;stroke-width:2}.frame{fill:"
    "none}.small{font-size:11px}\n"
    "@media (prefers-color-scheme:dark){.cell{fill:#6fb7f0}.wrong{stroke:#ff6b6b}}\n";

typedef struct {
    par__svg svg;
    par__map_of map;
    double x, y, unit, max; /* the map's corner; pixels of a cell; its largest bytes */
} drawing;

static void draw_hint(drawing *d, int row, int column, double counted, double predicted) {
    char a[32], b[32];
    if (d->map.cells > HINT_CELLS) return;
    par__size_text(counted, a);
    par__size_text(predicted, b);
    par__svg_put(&d->svg, "<title>rank %d to %d: %s counted, %s predicted</title>", row, column, a,
                 b);
}

static void draw_cell(drawing *d, int row, int column) {
    double counted = par__map_cell(&d->map, false, row, column);
    double predicted = par__map_cell(&d->map, true, row, column);
    double x = d->x + column * d->unit, y = d->y + row * d->unit;
    if (counted > 0) {
        par__svg_put(
            &d->svg,
            "<rect class=\"cell\" fill-opacity=\"%.2f\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" "
            "height=\"%.2f\">",
            0.12 + 0.88 * counted / d->max, x, y, d->unit, d->unit);
        draw_hint(d, row, column, counted, predicted);
        par__svg_put(&d->svg, "</rect>\n");
    }
    if (counted != predicted)
        par__svg_put(
            &d->svg,
            "<rect class=\"wrong\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\"/>\n", x + 1,
            y + 1, d->unit > 3 ? d->unit - 2 : 1, d->unit > 3 ? d->unit - 2 : 1);
}

static void draw_ticks(drawing *d) {
    int every = (d->map.cells + TICKS - 1) / TICKS;
    for (int i = 0; i < d->map.cells; i += every) {
        double middle = (i + 0.5) * d->unit;
        par__svg_put(
            &d->svg,
            "<text class=\"text small\" text-anchor=\"end\" x=\"%.1f\" y=\"%.1f\">%d</text>\n",
            d->x - 5, d->y + middle + 4, i * d->map.group);
        par__svg_put(
            &d->svg,
            "<text class=\"text small\" text-anchor=\"middle\" x=\"%.1f\" y=\"%.1f\">%d</text>\n",
            d->x + middle, d->y + SIDE + 14, i * d->map.group);
    }
}

static double map_total(const par__map_of *m) {
    double sum = 0;
    for (int i = 0; i < m->cells * m->cells; i++)
        sum += par__map_cell(m, false, i / m->cells, i % m->cells);
    return sum;
}

static void draw_map(drawing *d, int place) {
    char total[32], largest[32];
    d->x = PAR__SVG_LEFT + place % COLUMNS * STEP_X;
    d->y = TOP + place / COLUMNS * STEP_Y;
    d->unit = (double)SIDE / d->map.cells;
    d->max = par__map_largest(&d->map);
    par__size_text(map_total(&d->map), total);
    par__size_text(d->max, largest);
    par__svg_put(&d->svg, "<text class=\"title\" x=\"%.0f\" y=\"%.0f\">", d->x, d->y - 22);
    par__svg_put_escaped(&d->svg, d->map.axis ? d->map.axis : "all axes");
    par__svg_put(
        &d->svg,
        "</text>\n<text class=\"text small\" x=\"%.0f\" y=\"%.0f\">%s, largest %s</text>\n", d->x,
        d->y - 7, total, largest);
    for (int i = 0; i < d->map.cells * d->map.cells; i++)
        draw_cell(d, i / d->map.cells, i % d->map.cells);
    par__svg_put(&d->svg,
                 "<rect class=\"grid frame\" x=\"%.0f\" y=\"%.0f\" width=\"%d\" height=\"%d\"/>\n",
                 d->x, d->y, SIDE, SIDE);
    draw_ticks(d);
}

static void draw_row(par__svg *svg, int y, const char *axis, const char *purpose,
                     const char *counted, const char *predicted) {
    static const int at[] = {PAR__SVG_LEFT, PAR__SVG_LEFT + 90};
    const char *words[] = {axis, purpose};
    for (int i = 0; i < 2; i++) {
        par__svg_put(svg, "<text class=\"text\" x=\"%d\" y=\"%d\">", at[i], y);
        par__svg_put_escaped(svg, words[i]);
        par__svg_put(svg, "</text>\n");
    }
    par__svg_put(svg, "<text class=\"text\" text-anchor=\"end\" x=\"%d\" y=\"%d\">%s</text>\n",
                 PAR__SVG_LEFT + 430, y, counted);
    par__svg_put(svg, "<text class=\"text\" text-anchor=\"end\" x=\"%d\" y=\"%d\">%s</text>\n",
                 PAR__SVG_LEFT + 560, y, predicted);
}

static void draw_table(par__svg *svg, const par_matrix *m, int y) {
    char counted[32], predicted[32];
    draw_row(svg, y, "axis", "purpose", "counted", "predicted");
    for (int i = 0; i < m->n; i++) {
        const par_matrix_line *line = &m->lines[i];
        par__size_text(par__map_total(m, line->counted), counted);
        par__size_text(par__map_total(m, line->predicted), predicted);
        draw_row(svg, y + (i + 1) * LINE, line->axis, line->purpose, counted, predicted);
    }
}

static void make_title(const par_matrix *m, char *text, size_t nbytes) {
    int n = par_matrix_differences(m), group = par__map_all(m).group;
    char squares[48] = "";
    if (group > 1) snprintf(squares, sizeof squares, " in squares of %d", group);
    int k =
        snprintf(text, nbytes, "bytes sent, from row to column, %d ranks%s: ", m->size, squares);
    if (n == 0)
        snprintf(text + k, nbytes - (size_t)k, "as predicted");
    else
        snprintf(text + k, nbytes - (size_t)k, "%d difference%s", n, n == 1 ? "" : "s");
}

par_status par_matrix_write_svg(const par_matrix *m, const char *path) {
    char title[160];
    PAR_REQUIRE(m && path);
    drawing d = {.map = par__map_all(m)};
    int n_maps = 1;
    for (par__map_of next = d.map; par__map_next(&next);) n_maps++;
    int table = TOP + (n_maps + COLUMNS - 1) / COLUMNS * STEP_Y;
    make_title(m, title, sizeof title);
    PAR_TRY(par__svg_begin(&d.svg, path, table + (m->n + 1) * LINE, title, style));
    int place = 0;
    do draw_map(&d, place++);
    while (par__map_next(&d.map));
    draw_table(&d.svg, m, table);
    return par__svg_end(&d.svg);
}
