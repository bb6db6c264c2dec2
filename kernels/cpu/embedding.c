/*
 * Rows of a table and the sum of their gradients: par_embedding in par/kernels.h. The backward is
 * cut by columns: each element of the table is added to by one thread, in the order of the tokens.
 */
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vector.h"

enum { COLUMNS = 128 };

/* -1 if the row is not in this range of the table */
static int64_t table_row(const par_embedding *a, int64_t i) {
    int64_t row = (a->ids ? (int64_t)a->ids[i] : (a->first_row + i) % a->T) - a->begin;
    return 0 <= row && row < a->rows ? row : -1;
}

/* Elements [i, i + count) of y + at_y += those of x + at_x */
CPU_INLINE void add_step(par_dtype t, void *y, int64_t at_y, const void *x, int64_t at_x, int64_t i,
                         int64_t count) {
    pair sum = pair_load(y, t, at_y + i, count), p = pair_load(x, t, at_x + i, count);
    for (int k = 0; k < 2; k++) sum.v[k] += p.v[k];
    pair_store(y, t, at_y + i, count, sum);
}

/* y[i,:] += table[row,:] */
CPU_INLINE void add_row(par_dtype t, const par_embedding *a, int64_t i, int64_t row) {
    CPU_PAIRS(a->n, add_step, t, a->y, i * a->n, a->table, row * a->n);
}

static void give_rows(const void *user, int slot, int64_t begin, int64_t end) {
    const par_embedding *a = user;
    size_t nbytes = (size_t)a->n * par_dtype_nbytes(a->dtype);
    for (int64_t i = begin; i < end; i++) {
        int64_t row = table_row(a, i);
        char *y = (char *)a->y + (size_t)i * nbytes;
        if (row >= 0 && a->accumulate)
            CPU_BY_TYPE(a->dtype, add_row, a, i, row);
        else if (row >= 0)
            memcpy(y, (const char *)a->table + (size_t)row * nbytes, nbytes);
        else if (!a->accumulate)
            memset(y, 0, nbytes); /* zero in each type */
    }
}

static par_status embedding(par_stream *stream, const void *args, void *workspace) {
    const par_embedding *a = args;
    cpu_loop(a->m, a->m * a->n, give_rows, a);
    return PAR_OK;
}

static void clear_rows(const void *user, int slot, int64_t begin, int64_t end) {
    const par_embedding *a = user;
    memset(a->dtable + begin * a->n, 0, (size_t)((end - begin) * a->n) * sizeof(float));
}

CPU_INLINE void add_gradient(par_dtype t, float *dtable, const void *dy, int64_t at, int64_t j,
                             int64_t count) {
    vec sum = vec_load(dtable, PAR_F32, j, count) + vec_load(dy, t, at + j, count);
    vec_store(dtable, PAR_F32, j, count, sum);
}

/* columns [j, j + n) of all rows */
CPU_INLINE void add_columns(par_dtype t, const par_embedding *a, int64_t j, int64_t n) {
    for (int64_t i = 0; i < a->m; i++) {
        int64_t row = table_row(a, i);
        if (row >= 0)
            CPU_VECTORS(n, add_gradient, t, a->dtable + row * a->n + j, a->dy, i * a->n + j);
    }
}

static void add_blocks(const void *user, int slot, int64_t begin, int64_t end) {
    const par_embedding *a = user;
    for (int64_t j = begin * COLUMNS; j < cpu_min(end * COLUMNS, a->n); j += COLUMNS)
        CPU_BY_TYPE(a->dtype, add_columns, a, j, cpu_min(COLUMNS, a->n - j));
}

static par_status embedding_backward(par_stream *stream, const void *args, void *workspace) {
    const par_embedding *a = args;
    if (a->beta == 0) cpu_loop(a->rows, a->rows * a->n, clear_rows, a);
    par__progress(stream);
    cpu_loop(cpu_pieces(a->n, COLUMNS), a->m * a->n, add_blocks, a);
    return PAR_OK;
}

void par__cpu_embedding(par_backend *backend) {
    par_kernel *k = backend->kernels;
    k[PAR_OP_EMBEDDING] = (par_kernel){CPU_NAME("embedding"), par__ref_no_workspace, embedding};
    k[PAR_OP_EMBEDDING_BACKWARD] =
        (par_kernel){CPU_NAME("embedding_backward"), par__ref_no_workspace, embedding_backward};
}
