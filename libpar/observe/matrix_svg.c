/* The communication matrix as a page of SVG. */
#include <stdio.h>

#include "matrix_page.h"
#include "svg.h"

static const char style[] =
    ".cell{fill:#1f6fb4}.wrong{fill:none;stroke:#d02020;stroke-width:2}.frame{fill:"
    "none}.border{stroke:#777}.small{font-size:11px}\n"
    "@media (prefers-color-scheme:dark){.cell{fill:#6fb7f0}.wrong{stroke:#ff6b6b}.border{stroke:"
    "#8a9097}}\n";

static const char *const classes[PAR__INKS] = {[PAR__INK_CELL] = "cell",
                                               [PAR__INK_WRONG] = "wrong",
                                               [PAR__INK_FRAME] = "grid frame",
                                               [PAR__INK_BORDER] = "border"};

static void rectangle(void *surface, par__ink ink, double share, double x, double y, double width,
                      double height, const char *hint) {
    par__svg *svg = surface;
    char opacity[32] = "";
    if (ink == PAR__INK_CELL) snprintf(opacity, sizeof opacity, " fill-opacity=\"%.2f\"", share);
    par__svg_put(svg, "<rect class=\"%s\"%s x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\"",
                 classes[ink], opacity, x, y, width, height);
    if (!hint) {
        par__svg_put(svg, "/>\n");
        return;
    }
    par__svg_put(svg, "><title>");
    par__svg_put_escaped(svg, hint);
    par__svg_put(svg, "</title></rect>\n");
}

static void line(void *surface, par__ink ink, double width, double x1, double y1, double x2,
                 double y2) {
    par__svg_put(surface, "<path class=\"%s\" stroke-width=\"%.1f\" d=\"M%.2f %.2fL%.2f %.2f\"/>\n",
                 classes[ink], width, x1, y1, x2, y2);
}

static void text(void *surface, par__text_kind kind, par__anchor anchor, double x, double y,
                 const char *words) {
    static const char *const kinds[] = {
        [PAR__TEXT_TITLE] = "title", [PAR__TEXT] = "text", [PAR__TEXT_SMALL] = "text small"};
    static const char *const anchors[] = {[PAR__LEFT] = "",
                                          [PAR__MIDDLE] = " text-anchor=\"middle\"",
                                          [PAR__RIGHT] = " text-anchor=\"end\""};
    par__svg_put(surface, "<text class=\"%s\"%s x=\"%.1f\" y=\"%.1f\">", kinds[kind],
                 anchors[anchor], x, y);
    par__svg_put_escaped(surface, words);
    par__svg_put(surface, "</text>\n");
}

par_status par_matrix_write_svg(const par_matrix *m, par_matrix_quantity quantity,
                                const char *path) {
    char title[160];
    par__svg svg;
    const par__canvas canvas = {rectangle, line, text, &svg};
    PAR_REQUIRE(m && path && quantity >= 0 && quantity < PAR_MATRIX_QUANTITIES);
    par__page_title(m, quantity, title, sizeof title);
    PAR_TRY(par__svg_begin(&svg, path, par__page_height(m), title, style));
    par_status st = par__page_draw(m, quantity, &canvas);
    if (svg.status == PAR_OK) svg.status = st;
    return par__svg_end(&svg);
}
