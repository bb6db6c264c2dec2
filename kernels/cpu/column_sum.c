/*
 * Column sums: par_column_sum in par/kernels.h. Rows are cut into at most MAX_PIECES pieces by their number
 * alone; each piece has its partial sums in the workspace, added in order.
 */
#include <string.h>

#include "kernels/cpu/cpu.h"

enum { MIN_ROWS = 32, MAX_PIECES = 32 };

static int64_t piece_rows(int64_t m) {
    int64_t rows = cpu_pieces(m, MAX_PIECES);
    return rows < MIN_ROWS ? MIN_ROWS : rows;
}

static void add(float *sum, const float *x, int64_t n) {
#pragma omp simd
    for (int64_t j = 0; j < n; j++) sum[j] += x[j];
}

static void add_row(const par_column_sum *a, int64_t i, float *sum) {
    for (int64_t j = 0; j < a->n; j += CPU_BLOCK) {
        int64_t n = cpu_min(CPU_BLOCK, a->n - j);
        cpu_buffer buffer;
        add(sum + j, cpu_read(a->x, a->dtype, i * a->ldx + j, n, buffer), n);
    }
}

static par_status prepare(const void *args, size_t *workspace_nbytes) {
    const par_column_sum *a = args;
    *workspace_nbytes = (size_t)(cpu_pieces(a->m, piece_rows(a->m)) * a->n) * sizeof(float);
    return PAR_OK;
}

static par_status column_sum(par_stream *stream, const void *args, void *workspace) {
    const par_column_sum *a = args;
    int64_t rows = piece_rows(a->m), pieces = cpu_pieces(a->m, rows);
    float *partial = workspace;
    PAR_REQUIRE(workspace || a->m * a->n == 0);
#pragma omp parallel for schedule(static) if (a->m * a->n > CPU_PARALLEL)
    for (int64_t piece = 0; piece < pieces; piece++) {
        float *sum = partial + piece * a->n;
        memset(sum, 0, (size_t)a->n * sizeof(float));
        for (int64_t i = piece * rows; i < cpu_min(a->m, (piece + 1) * rows); i++) add_row(a, i, sum);
    }
    if (a->beta == 0 && a->n > 0) memset(a->y, 0, (size_t)a->n * sizeof(float));
    for (int64_t piece = 0; piece < pieces; piece++) add(a->y, partial + piece * a->n, a->n);
    return PAR_OK;
}

void par__cpu_column_sum(par_backend *backend) {
    backend->kernels[PAR_OP_COLUMN_SUM] = (par_kernel){CPU_NAME("column_sum"), prepare, column_sum};
}
