/*
 * One SVG page without external resources. It draws its own background, and a style sheet in the
 * file takes dark colours where the reader prefers them, so it is readable on any page. Classes of
 * the style: text, title, grid; others are the caller's.
 */
#ifndef PAR__OBSERVE_SVG_H
#define PAR__OBSERVE_SVG_H

#include <stdbool.h>

#include "libpar/base/file.h"

enum { PAR__SVG_WIDTH = 800, PAR__SVG_LEFT = 70 };

typedef struct {
    par__writer writer;
    par_status status; /* the first failure; nothing is written after it */
} par__svg;

/* A page of PAR__SVG_WIDTH x height under a temporary name, its title at the top, the caller's
 * style added. */
par_status par__svg_begin(par__svg *svg, const char *path, int height, const char *title,
                          const char *style);
/* Text of up to 1 KiB as it is, and with what XML reserves escaped. */
__attribute__((format(printf, 2, 3))) void par__svg_put(par__svg *svg, const char *format, ...);
void par__svg_put_escaped(par__svg *svg, const char *text);
/* Of a text of more than n bytes what fits into them, cut between characters, and an ellipsis. n:
 * up to 250. True: it was cut. */
bool par__svg_put_cut(par__svg *svg, const char *text, int n);
/* The file under its name, or nothing and the first failure. */
par_status par__svg_end(par__svg *svg);

#endif
