/* Residual connection with bias and dropout: par_residual in par/kernels.h. y may be x or residual: element j
 * is read before it is written. */
#include "kernels/cpu/cpu.h"

enum { PIECE = CPU_DROPOUT_MAX };

/* factors NULL: no dropout. A dropped element is 0 even if x is not finite. */
static void combine(const float *x, const float *bias, const float *residual, const float *factors, float *y,
                    int64_t n) {
    float sum[PIECE];
#pragma omp simd
    for (int64_t i = 0; i < n; i++) sum[i] = x[i];
    if (bias) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) sum[i] += bias[i];
    }
    if (factors) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) sum[i] = factors[i] == 0 ? 0 : sum[i] * factors[i];
    }
    if (residual) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) sum[i] += residual[i];
    }
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = sum[i];
}

/* columns [j, j + n) of row i, n <= PIECE */
static void piece(const par_residual *a, int64_t i, int64_t j, int64_t n) {
    cpu_buffer in[3], out, factors;
    int64_t at = i * a->n + j;
    const float *x = cpu_read(a->x, a->dtype, at, n, in[0]);
    const float *bias = a->bias ? cpu_read(a->bias, a->dtype, j, n, in[1]) : NULL;
    const float *residual = a->residual ? cpu_read(a->residual, a->dtype, at, n, in[2]) : NULL;
    float *y = cpu_place(a->y, a->dtype, at, out);
    bool drop = a->dropout.p > 0;
    if (drop) par__cpu_dropout(&a->dropout, a->T, a->first_row + i, j, n, factors);
    combine(x, bias, residual, drop ? factors : NULL, y, n);
    cpu_write(y, a->y, a->dtype, at, n);
}

void par__cpu_residual_row(const par_residual *a, int64_t i) {
    for (int64_t j = 0; j < a->n; j += PIECE) piece(a, i, j, cpu_min(PIECE, a->n - j));
}

static par_status residual(par_stream *stream, const void *args, void *workspace) {
    const par_residual *a = args;
#pragma omp parallel for schedule(static) if (a->m * a->n > CPU_PARALLEL)
    for (int64_t i = 0; i < a->m; i++) par__cpu_residual_row(a, i);
    return PAR_OK;
}

void par__cpu_residual(par_backend *backend) {
    backend->kernels[PAR_OP_RESIDUAL] = (par_kernel){CPU_NAME("residual"), par__ref_no_workspace, residual};
}
