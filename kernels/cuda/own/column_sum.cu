/*
 * The gradient of a bias (par_column_sum): the sums of columns.cuh, of tall matrices in two passes.
 * Pieces have at least MIN_ROWS rows; their number depends on m alone, so that the bits repeat on
 * every device.
 */
#include "kernels/cuda/own/columns.cuh"

enum { MIN_ROWS = 64, MAX_PIECES = 128 };

static int64_t pieces_of(const par_column_sum *a) {
    int64_t pieces = par__blocks(a->m, MIN_ROWS);
    return pieces < 1 ? 1 : pieces > MAX_PIECES ? (int64_t)MAX_PIECES : pieces;
}

template <typename T>
static par_status column_sum(par_stream *stream, const par_column_sum *a, float *workspace) {
    int64_t pieces = pieces_of(a);
    const T *x = (const T *)a->x;
    if (pieces == 1) return par__columns_launch(stream, x, a->m, a->n, a->ldx, 1, a->y, a->beta);
    PAR_TRY(par__columns_launch(stream, x, a->m, a->n, a->ldx, pieces, workspace, 0));
    return par__columns_launch(stream, (const float *)workspace, pieces, a->n, a->n, 1, a->y,
                               a->beta);
}

static par_status prepare(const void *args, size_t *workspace_nbytes) {
    const par_column_sum *a = (const par_column_sum *)args;
    int64_t pieces = pieces_of(a);
    *workspace_nbytes = pieces > 1 ? (size_t)(pieces * a->n) * sizeof(float) : 0;
    return PAR_OK;
}

static par_status run(par_stream *stream, const void *args, void *workspace) {
    const par_column_sum *a = (const par_column_sum *)args;
    return PAR_DISPATCH(a->dtype, column_sum, stream, a, (float *)workspace);
}

extern "C" void par__cuda_column_sum_init(par_backend *backend) {
    backend->kernels[PAR_OP_COLUMN_SUM] = {"column_sum/cuda/own", prepare, run};
}
