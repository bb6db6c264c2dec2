/* Residual connection with bias and dropout: par_residual in par/kernels.h. y may be x or residual: element j
 * is read before it is written. */
#include "kernels/cpu/cpu.h"

enum { PIECE = CPU_DROPOUT_MAX };

/* factors NULL: no dropout. A dropped element is 0 even if x is not finite. */
static void piece(const float *x, const float *bias, const float *residual, const float *factors, float *y,
                  int64_t n) {
    for (int64_t j = 0; j < n; j += PIECE) {
        int64_t width = cpu_min(PIECE, n - j);
        float sum[PIECE];
#pragma omp simd
        for (int64_t i = 0; i < width; i++) sum[i] = x[j + i];
        if (bias) {
#pragma omp simd
            for (int64_t i = 0; i < width; i++) sum[i] += bias[j + i];
        }
        if (factors) {
#pragma omp simd
            for (int64_t i = 0; i < width; i++) sum[i] = factors[j + i] == 0 ? 0 : sum[i] * factors[j + i];
        }
        if (residual) {
#pragma omp simd
            for (int64_t i = 0; i < width; i++) sum[i] += residual[j + i];
        }
#pragma omp simd
        for (int64_t i = 0; i < width; i++) y[j + i] = sum[i];
    }
}

static void row(const par_residual *a, int64_t i) {
    const float *x = (const float *)a->x + i * a->n, *bias = a->bias;
    const float *residual = a->residual ? (const float *)a->residual + i * a->n : NULL;
    float *y = (float *)a->y + i * a->n;
    if (a->dropout.p == 0) {
        piece(x, bias, residual, NULL, y, a->n);
        return;
    }
    for (int64_t j = 0; j < a->n; j += PIECE) {
        int64_t width = cpu_min(PIECE, a->n - j);
        float factors[PIECE];
        par__cpu_dropout(&a->dropout, a->T, a->first_row + i, j, width, factors);
        piece(x + j, bias ? bias + j : NULL, residual ? residual + j : NULL, factors, y + j, width);
    }
}

static par_status residual(par_stream *stream, const void *args, void *workspace) {
    const par_residual *a = args;
    if (a->dtype != PAR_F32) return par__ref_residual(stream, args, workspace);
#pragma omp parallel for schedule(static) if (a->m * a->n > CPU_PARALLEL)
    for (int64_t i = 0; i < a->m; i++) row(a, i);
    return PAR_OK;
}

void par__cpu_residual(par_backend *backend) {
    backend->kernels[PAR_OP_RESIDUAL] = (par_kernel){CPU_NAME("residual"), par__ref_no_workspace, residual};
}
