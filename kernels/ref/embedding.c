/* Rows of a table, or of a rank's range of it, and the sum of their gradients: par_embedding in
 * par/kernels.h. */
#include "kernels/ref/ref.h"

static int64_t table_row(const par_embedding *a, int64_t i) {
    return (a->ids ? (int64_t)a->ids[i] : (a->first_row + i) % a->T) - a->begin;
}

par_status par__ref_embedding(par_stream *stream, const par_embedding *a, void *workspace) {
    for (int64_t i = 0; i < a->m; i++) {
        int64_t row = table_row(a, i);
        for (int64_t j = 0; j < a->n; j++) {
            double x = 0 <= row && row < a->rows ? ref_load(a->table, a->dtype, row * a->n + j) : 0;
            double old = a->accumulate ? ref_load(a->y, a->dtype, i * a->n + j) : 0;
            ref_store(a->y, a->dtype, i * a->n + j, old + x);
        }
    }
    return PAR_OK;
}

par_status par__ref_embedding_backward_prepare(const void *args, size_t *workspace_nbytes) {
    const par_embedding *a = args;
    *workspace_nbytes = (size_t)a->n * sizeof(double);
    return PAR_OK;
}

par_status par__ref_embedding_backward(par_stream *stream, const par_embedding *a,
                                       void *workspace) {
    double *sum = workspace;
    PAR_REQUIRE(workspace || a->n == 0);
    for (int64_t row = 0; row < a->rows; row++) {
        float *dtable = a->dtable + row * a->n;
        for (int64_t j = 0; j < a->n; j++) sum[j] = ref_scaled(a->beta, dtable[j]);
        for (int64_t i = 0; i < a->m; i++)
            if (table_row(a, i) == row)
                for (int64_t j = 0; j < a->n; j++)
                    sum[j] += ref_load(a->dy, a->dtype, i * a->n + j);
        for (int64_t j = 0; j < a->n; j++) dtable[j] = (float)sum[j];
        par__progress(stream);
    }
    return PAR_OK;
}
