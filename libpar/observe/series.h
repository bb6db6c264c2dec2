/* A series' two forms: how a point becomes bytes, and bytes a point. */
#ifndef PAR__SERIES_H
#define PAR__SERIES_H

#include <stddef.h>

#include "par/series.h"

enum { PAR__SERIES_NBYTES = 512 }; /* the longest record, the file's head included */

typedef enum {
    PAR__SERIES_POINT,
    PAR__SERIES_RESTART,
    PAR__SERIES_NONE,
    PAR__SERIES_CUT,
    PAR__SERIES_BROKEN
} par__series_found;

typedef struct {
    /* What the file begins with; the number of bytes. */
    size_t (*head)(unsigned char *out);
    /* A point as bytes; their number. */
    size_t (*write)(const par_series_point *, unsigned char *out);
    /* Takes the points of this step and later ones back, for a file that others read while it grows
     * and that is not cut for that reason; NULL: it is cut. */
    size_t (*restart)(int64_t step, unsigned char *out);
    /* The record at text, [n] bytes from there: a point (step, loss, validation), a restart (step),
     * something else, one that lacks its end, or a broken one. *length: its bytes. */
    par__series_found (*read)(const unsigned char *text, size_t n, par_series_point *out,
                              size_t *length);
    bool floats; /* losses are rounded to floats */
} par__series_form;

extern const par__series_form par__series_csv, par__series_events;

#endif
