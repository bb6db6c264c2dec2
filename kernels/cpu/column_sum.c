/*
 * Column sums: par_column_sum in par/kernels.h. Rows are cut into at most MAX_PIECES pieces by
 * their number alone; each piece has its partial sums in the workspace, added in order.
 */
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vector.h"

enum { MIN_ROWS = 32, MAX_PIECES = 32 };

static int64_t piece_rows(int64_t m) {
    int64_t rows = cpu_pieces(m, MAX_PIECES);
    return rows < MIN_ROWS ? MIN_ROWS : rows;
}

CPU_INLINE void add_step(par_dtype t, const void *x, int64_t at, float *sum, int64_t j,
                         int64_t count) {
    pair p = pair_load(x, t, at + j, count), old = pair_load(sum, PAR_F32, j, count);
    if (t == PAR_BF16) p = pair_join(p);
    for (int k = 0; k < 2; k++) old.v[k] += p.v[k];
    pair_store(sum, PAR_F32, j, count, old);
}

/* sum[n] += elements [at, at + n) of x */
CPU_INLINE void add(par_dtype t, const void *x, int64_t at, float *sum, int64_t n) {
    CPU_PAIRS(n, add_step, t, x, at, sum);
}

static par_status prepare(const void *args, size_t *workspace_nbytes) {
    const par_column_sum *a = args;
    *workspace_nbytes = (size_t)(cpu_pieces(a->m, piece_rows(a->m)) * a->n) * sizeof(float);
    return PAR_OK;
}

static void sum_pieces(const void *user, int slot, int64_t begin, int64_t end) {
    const cpu_call *call = user;
    const par_column_sum *a = call->args;
    int64_t rows = piece_rows(a->m);
    for (int64_t piece = begin; piece < end; piece++) {
        float *sum = (float *)call->workspace + piece * a->n;
        memset(sum, 0, (size_t)a->n * sizeof(float));
        for (int64_t i = piece * rows; i < cpu_min(a->m, (piece + 1) * rows); i++)
            CPU_BY_TYPE(a->dtype, add, a->x, i * a->ldx, sum, a->n);
    }
}

static par_status column_sum(par_stream *stream, const void *args, void *workspace) {
    const par_column_sum *a = args;
    const cpu_call call = {.args = a, .workspace = workspace};
    int64_t pieces = cpu_pieces(a->m, piece_rows(a->m));
    const float *partial = workspace;
    PAR_REQUIRE(workspace || a->m * a->n == 0);
    cpu_loop(pieces, a->m * a->n, sum_pieces, &call);
    if (a->beta == 0 && a->n > 0) memset(a->y, 0, (size_t)a->n * sizeof(float));
    for (int64_t piece = 0; piece < pieces; piece++)
        add(PAR_F32, partial, piece * a->n, a->y, a->n);
    return PAR_OK;
}

void par__cpu_column_sum(par_backend *backend) {
    backend->kernels[PAR_OP_COLUMN_SUM] = (par_kernel){CPU_NAME("column_sum"), prepare, column_sum};
}
