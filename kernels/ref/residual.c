/* Residual connection with bias and dropout: par_residual and par_dropout in par/kernels.h. */
#include "kernels/dropout.h"
#include "kernels/ref/ref.h"

par_status par__ref_residual(par_stream *stream, const par_residual *a, void *workspace) {
    for (int64_t i = 0; i < a->m; i++)
        for (int64_t j = 0; j < a->n; j++) {
            int64_t at = i * a->n + j;
            double bias = a->bias ? ref_load(a->bias, a->dtype, j) : 0;
            double residual = a->residual ? ref_load(a->residual, a->dtype, at) : 0;
            double factor = par__dropout_factor(&a->dropout, a->T, a->first_row + i, j);
            double x = factor == 0 ? 0 : (ref_load(a->x, a->dtype, at) + bias) * factor;
            ref_store(a->y, a->dtype, at, residual + x);
        }
    return PAR_OK;
}
