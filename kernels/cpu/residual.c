/* Residual connection with bias and dropout: par_residual in par/kernels.h. y may be x or residual:
 * element j is read before it is written. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vector.h"

enum { PIECE = CPU_DROPOUT_MAX };

/* Elements [j, j + count) of a piece that begins at x + at and bias + column. factors NULL: no
 * dropout. A dropped element is 0 even if x is not finite. */
CPU_INLINE void combine(par_dtype t, const par_residual *a, const float *factors, int64_t at,
                        int64_t column, int64_t j, int64_t count) {
    pair y = pair_load(a->x, t, at + j, count), p;
    if (a->bias) {
        p = pair_load(a->bias, t, column + j, count);
        for (int k = 0; k < 2; k++) y.v[k] += p.v[k];
    }
    if (factors) {
        p = pair_load_f32(factors, t, j, count);
        for (int k = 0; k < 2; k++)
            y.v[k] = vec_select((vec_int)(p.v[k] == 0), (vec){0}, y.v[k] * p.v[k]);
    }
    if (a->residual) {
        p = pair_load(a->residual, t, at + j, count);
        for (int k = 0; k < 2; k++) y.v[k] += p.v[k];
    }
    pair_store(a->y, t, at + j, count, y);
}

/* columns [j, j + n) of row i; n <= PIECE with dropout */
CPU_INLINE void piece(par_dtype t, const par_residual *args, int64_t i, int64_t j, int64_t n) {
    const par_residual a = *args; /* its own: no store changes it */
    int64_t at = i * a.n + j;
    cpu_buffer factors;
    if (a.dropout.p > 0) {
        par__cpu_dropout(&a.dropout, a.T, a.first_row + i, j, n, factors);
        CPU_PAIRS(n, combine, t, &a, factors, at, j);
    } else {
        CPU_PAIRS(n, combine, t, &a, NULL, at, j);
    }
}

void par__cpu_residual_row(const par_residual *a, int64_t i) {
    int64_t width = a->dropout.p > 0 ? PIECE : a->n;
    for (int64_t j = 0; j < a->n; j += width)
        CPU_BY_TYPE(a->dtype, piece, a, i, j, cpu_min(width, a->n - j));
}

static void rows(const void *user, int slot, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) par__cpu_residual_row(user, i);
}

static par_status residual(par_stream *stream, const void *args, void *workspace) {
    const par_residual *a = args;
    cpu_loop(a->m, a->m * a->n, rows, a);
    return PAR_OK;
}

void par__cpu_residual(par_backend *backend) {
    backend->kernels[PAR_OP_RESIDUAL] =
        (par_kernel){CPU_NAME("residual"), par__ref_no_workspace, residual};
}
