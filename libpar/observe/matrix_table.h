/* Tables of a communication matrix as text. */
#ifndef PAR__MATRIX_TABLE_H
#define PAR__MATRIX_TABLE_H

#include "matrix_map.h"

typedef struct {
    void (*print)(void *user, const char *line);
    void *user;
} par__printer;

/* A line of up to 255 bytes. */
__attribute__((format(printf, 2, 3))) void par__printf(const par__printer *out, const char *format,
                                                       ...);

/* Axes and purposes. */
void par__table_lines(const par_matrix *matrix, const par__printer *out);
/* What stays within hosts and what goes between them, by axis. */
void par__table_hosts(const par_matrix *matrix, const par__printer *out);
/* Operations with their bandwidths. */
void par__table_ops(const par_matrix *matrix, const par__printer *out);
/* Phases, and what one layer has in them. */
void par__table_layers(const par_matrix *matrix, const par__printer *out);

/* The quantity of all cells of an axis (NULL: all axes), within hosts or between them. */
double par__hosts_total(const par_matrix *matrix, const char *axis, par_matrix_quantity quantity,
                        bool between);

#endif
