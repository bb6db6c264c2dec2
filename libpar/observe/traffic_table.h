/* The lines of a traffic table, for counting, prediction and gathering. */
#ifndef PAR__OBSERVE_TRAFFIC_TABLE_H
#define PAR__OBSERVE_TRAFFIC_TABLE_H

#include "par/matrix.h"

void par__traffic_clear(par_traffic *traffic);
/* Cells to each rank [size] of an axis and purpose, made on first use; NULL and `overflow` if it
 * does not fit. What is agreed on goes to axis "control". */
par_recorder_cell *par__traffic_line(par_traffic *traffic, const char *axis, const char *purpose);

/* Where a table of ops or layers holds the same names, looked for from `hint` on: tables of ranks
 * have most of them in the same order. -1: nowhere. */
int par__traffic_find_op(const par_traffic_op *ops, int n, const par_traffic_op *like, int hint);
int par__traffic_find_layer(const par_traffic_layer *layers, int n, const par_traffic_layer *like,
                            int hint);

#endif
