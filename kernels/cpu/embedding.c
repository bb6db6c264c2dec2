/*
 * Rows of a table and the sum of their gradients: par_embedding in par/kernels.h. The backward is cut by
 * columns: each element of the table is added to by one thread, in the order of the tokens.
 */
#include <string.h>

#include "kernels/cpu/cpu.h"

enum { COLUMNS = 128 };

/* -1 if the row is not in this range of the table */
static int64_t table_row(const par_embedding *a, int64_t i) {
    int64_t row = (a->ids ? (int64_t)a->ids[i] : (a->first_row + i) % a->T) - a->begin;
    return 0 <= row && row < a->rows ? row : -1;
}

static void add(float *y, const float *x, int64_t n) {
#pragma omp simd
    for (int64_t j = 0; j < n; j++) y[j] += x[j];
}

/* y[i,:] += table[row,:] */
static void add_row(const par_embedding *a, int64_t i, int64_t row) {
    for (int64_t j = 0; j < a->n; j += CPU_BLOCK) {
        int64_t n = cpu_min(CPU_BLOCK, a->n - j), at = i * a->n + j;
        cpu_buffer table, out;
        float *y = cpu_place(a->y, a->dtype, at, out);
        if (a->dtype != PAR_F32) par__cpu_widen(a->y, a->dtype, at, n, y);
        add(y, cpu_read(a->table, a->dtype, row * a->n + j, n, table), n);
        cpu_write(y, a->y, a->dtype, at, n);
    }
}

static par_status embedding(par_stream *stream, const void *args, void *workspace) {
    const par_embedding *a = args;
    size_t nbytes = (size_t)a->n * par_dtype_nbytes(a->dtype);
#pragma omp parallel for schedule(static) if (a->m * a->n > CPU_PARALLEL)
    for (int64_t i = 0; i < a->m; i++) {
        int64_t row = table_row(a, i);
        char *y = (char *)a->y + (size_t)i * nbytes;
        if (row >= 0 && a->accumulate)
            add_row(a, i, row);
        else if (row >= 0)
            memcpy(y, (const char *)a->table + (size_t)row * nbytes, nbytes);
        else if (!a->accumulate)
            memset(y, 0, nbytes); /* zero in each type */
    }
    return PAR_OK;
}

static void clear(const par_embedding *a) {
    size_t nbytes = (size_t)a->n * sizeof(float);
#pragma omp parallel for schedule(static) if (a->rows * a->n > CPU_PARALLEL)
    for (int64_t row = 0; row < a->rows; row++) memset(a->dtable + row * a->n, 0, nbytes);
}

static par_status embedding_backward(par_stream *stream, const void *args, void *workspace) {
    const par_embedding *a = args;
    if (a->beta == 0) clear(a);
    par__progress(stream);
#pragma omp parallel for schedule(static) if (a->m * a->n > CPU_PARALLEL)
    for (int64_t j = 0; j < a->n; j += COLUMNS)
        for (int64_t i = 0; i < a->m; i++) {
            int64_t row = table_row(a, i), n = cpu_min(COLUMNS, a->n - j);
            cpu_buffer dy;
            if (row >= 0) add(a->dtable + row * a->n + j, cpu_read(a->dy, a->dtype, i * a->n + j, n, dy), n);
        }
    return PAR_OK;
}

void par__cpu_embedding(par_backend *backend) {
    par_kernel *k = backend->kernels;
    k[PAR_OP_EMBEDDING] = (par_kernel){CPU_NAME("embedding"), par__ref_no_workspace, embedding};
    k[PAR_OP_EMBEDDING_BACKWARD] =
        (par_kernel){CPU_NAME("embedding_backward"), par__ref_no_workspace, embedding_backward};
}
