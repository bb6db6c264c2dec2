/* What a cell of a matrix has, as files name it. */
#ifndef PAR__OBSERVE_MATRIX_COLUMNS_H
#define PAR__OBSERVE_MATRIX_COLUMNS_H

#include "par/matrix.h"

#define PAR__MATRIX_FORM "libpar matrix 1"

typedef struct {
    const char *name;
    size_t offset; /* in par_matrix_cell */
    bool real;     /* a double; else an int64_t */
} par__matrix_column;

extern const par__matrix_column par__matrix_columns[PAR_MATRIX_QUANTITIES];

/* A cell's quantity that is a whole number. */
int64_t par__matrix_whole(const par_matrix_cell *cell, par_matrix_quantity quantity);

#endif
