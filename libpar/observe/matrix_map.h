/*
 * What the terminal's heat maps and the page's have in common: which ranks make a cell, what is in
 * it, on which scale, where axes have their borders, and which maps there are (all axes together,
 * then each axis in the order of its first line).
 */
#ifndef PAR__MATRIX_MAP_H
#define PAR__MATRIX_MAP_H

#include "par/matrix.h"

enum { PAR__MAP_CELLS = 64 }; /* of a map's side at most */

typedef struct {
    const par_matrix *matrix;
    par_matrix_quantity quantity;
    const char *axis; /* NULL: all */
    int group, cells; /* ranks in a cell's side; cells in the map's side */
    int line;         /* whose axis it is; -1 with all */
    bool compared;    /* the quantity is bytes, and both counted and predicted */
    double value[PAR__MAP_CELLS * PAR__MAP_CELLS];
    double predicted[PAR__MAP_CELLS * PAR__MAP_CELLS]; /* 0 unless compared */
    double total, smallest, largest; /* of values; smallest that is not 0; 0: there are none */
} par__heat_map;

/* The map of all axes. */
void par__heat_map_begin(par__heat_map *map, const par_matrix *matrix,
                         par_matrix_quantity quantity);
/* The next axis's map; false after the last one. */
bool par__heat_map_next(par__heat_map *map);
/* Between cell - 1 and cell: 0: no border; 1: ranks of the fastest axis's groups end; 2: blocks of
 * the next axis end; ... */
int par__heat_map_border(const par__heat_map *map, int cell);
/* How many kinds of borders there are; of each the ranks from one to the next, and the axis whose
 * place changes there. */
int par__heat_map_borders(const par_matrix *matrix, int every[PAR_AXIS_COUNT],
                          par_axis axis[PAR_AXIS_COUNT]);
/* "1.50 MiB", "12 messages", "3.10 ms" */
void par__quantity_text(par_matrix_quantity quantity, double value, char text[32]);
/* "bytes sent", "logical bytes", ... */
const char *par__quantity_name(par_matrix_quantity quantity);
void par__size_text(double nbytes, char text[32]);
void par__seconds_text(double seconds, char text[32]);
/* What a line has of a quantity, in all. */
double par__line_total(const par_matrix_line *line, par_matrix_quantity quantity);

#endif
