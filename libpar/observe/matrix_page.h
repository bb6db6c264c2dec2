/*
 * The communication matrix as a page, drawn on whatever can draw rectangles, lines and text:
 * matrix_svg.c and matrix_png.c. Positions are pixels of a page PAR__SVG_WIDTH wide.
 */
#ifndef PAR__MATRIX_PAGE_H
#define PAR__MATRIX_PAGE_H

#include "matrix_map.h"

typedef enum { PAR__INK_CELL, PAR__INK_WRONG, PAR__INK_FRAME, PAR__INK_BORDER, PAR__INKS } par__ink;
typedef enum { PAR__TEXT_TITLE, PAR__TEXT, PAR__TEXT_SMALL } par__text_kind;
typedef enum { PAR__LEFT, PAR__MIDDLE, PAR__RIGHT } par__anchor;

typedef struct {
    /* `share` of the cell's colour, 0 to 1; hint: NULL or a text for the pointer. Other inks frame
     * the rectangle. */
    void (*rectangle)(void *surface, par__ink ink, double share, double x, double y, double width,
                      double height, const char *hint);
    void (*line)(void *surface, par__ink ink, double width, double x1, double y1, double x2,
                 double y2);
    void (*text)(void *surface, par__text_kind kind, par__anchor anchor, double x, double y,
                 const char *text);
    void *surface;
} par__canvas;

/* The page's height and title. */
int par__page_height(const par_matrix *matrix);
void par__page_title(const par_matrix *matrix, par_matrix_quantity quantity, char *text,
                     size_t nbytes);
/* All but ground and title. */
par_status par__page_draw(const par_matrix *matrix, par_matrix_quantity quantity,
                          const par__canvas *canvas);

#endif
