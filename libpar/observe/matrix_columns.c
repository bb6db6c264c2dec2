/* Quantities of cells: their names, and where they are. */
#include "matrix_columns.h"

#include <stddef.h>
#include <string.h>

const par__matrix_column par__matrix_columns[PAR_MATRIX_QUANTITIES] = {
    [PAR_MATRIX_NBYTES] = {"nbytes", offsetof(par_matrix_cell, nbytes), false},
    [PAR_MATRIX_MESSAGES] = {"n_messages", offsetof(par_matrix_cell, n_messages), false},
    [PAR_MATRIX_LOGICAL] = {"logical_nbytes", offsetof(par_matrix_cell, logical_nbytes), false},
    [PAR_MATRIX_PREDICTED] = {"predicted_nbytes", offsetof(par_matrix_cell, predicted_nbytes),
                              false},
    [PAR_MATRIX_WAIT] = {"wait_s", offsetof(par_matrix_cell, wait_s), true},
};

int64_t par__matrix_whole(const par_matrix_cell *cell, par_matrix_quantity quantity) {
    int64_t value;
    memcpy(&value, (const char *)cell + par__matrix_columns[quantity].offset, sizeof value);
    return value;
}

double par_matrix_value(const par_matrix_cell *cell, par_matrix_quantity quantity) {
    double value;
    if (!par__matrix_columns[quantity].real) return (double)par__matrix_whole(cell, quantity);
    memcpy(&value, (const char *)cell + par__matrix_columns[quantity].offset, sizeof value);
    return value;
}
