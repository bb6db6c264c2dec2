/*
 * What the terminal's heat maps and the page's have in common: which ranks make a cell, how much it
 * sent, and which maps there are (all axes together, then each axis in the order of its first
 * line).
 */
#ifndef PAR__MATRIX_MAP_H
#define PAR__MATRIX_MAP_H

#include "par/observe.h"

enum { PAR__MAP_CELLS = 64 }; /* of a map's side at most */

typedef struct {
    const par_matrix *matrix;
    const char *axis; /* NULL: all */
    int group, cells; /* ranks in a cell's side; cells in the map's side */
    int line;         /* whose axis it is; -1 with all */
} par__map_of;

par__map_of par__map_all(const par_matrix *matrix);
/* The next axis's map; false after the last one. */
bool par__map_next(par__map_of *map);
/* Bytes of a cell: all ranks of its square, all lines of the map's axis. */
double par__map_cell(const par__map_of *map, bool predicted, int row, int column);
/* Of counted and predicted cells. */
double par__map_largest(const par__map_of *map);
/* Bytes of a line's table [size, size]. */
double par__map_total(const par_matrix *matrix, const int64_t *bytes);
void par__size_text(double nbytes, char text[32]);

#endif
