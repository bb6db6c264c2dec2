/*
 * LayerNorm (Ba et al. 2016) and RMSNorm (Zhang and Sennrich 2019): par_norm in par/kernels.h; the formulas
 * of the backward stand in kernels/ref/norm.c.
 *
 * dx, dw and db are made in one pass. Rows are cut into at most MAX_PIECES pieces by their number alone; each
 * piece has its partial dw and db in the workspace, added in order.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

enum { MIN_ROWS = 32, MAX_PIECES = 32 };

static int64_t piece_rows(int64_t m) {
    int64_t rows = cpu_pieces(m, MAX_PIECES);
    return rows < MIN_ROWS ? MIN_ROWS : rows;
}

static float mean_of(const float *x, int64_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++) sum += x[j];
    return sum / (float)n;
}

static float mean_square(const float *x, float mean, int64_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++) sum += (x[j] - mean) * (x[j] - mean);
    return sum / (float)n;
}

static void forward_row(const par_norm *a, int64_t i, bool layernorm) {
    const float *x = (const float *)a->x + i * a->n, *w = a->w, *b = a->b;
    float *y = (float *)a->y + i * a->n;
    float mean = layernorm ? mean_of(x, a->n) : 0;
    float rstd = 1 / sqrtf(mean_square(x, mean, a->n) + a->eps);
    if (layernorm) {
#pragma omp simd
        for (int64_t j = 0; j < a->n; j++) y[j] = (x[j] - mean) * rstd * w[j] + b[j];
        a->mean[i] = mean;
    } else {
#pragma omp simd
        for (int64_t j = 0; j < a->n; j++) y[j] = x[j] * rstd * w[j];
    }
    a->rstd[i] = rstd;
}

static void forward(const par_norm *a, bool layernorm) {
#pragma omp parallel for schedule(static) if (a->m * a->n > CPU_PARALLEL)
    for (int64_t i = 0; i < a->m; i++) forward_row(a, i, layernorm);
}

/* dw += dy · xhat, db += dy */
static void backward_weights(const float *x, const float *dy, float mean, float rstd, float *dw, float *db,
                             int64_t n) {
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
        dw[j] += dy[j] * ((x[j] - mean) * rstd);
        db[j] += dy[j];
    }
}

/* The sums over the row are complete before the first write, and element j is read before it is written: dx
 * may be dy or add. */
static void backward_input(const par_norm *a, int64_t i, bool layernorm) {
    const float *x = (const float *)a->x + i * a->n, *dy = (const float *)a->dy + i * a->n, *w = a->w;
    const float *add = a->add ? (const float *)a->add + i * a->n : NULL;
    float *dx = (float *)a->dx + i * a->n;
    float mean = layernorm ? a->mean[i] : 0, rstd = a->rstd[i], sum_g = 0, sum_gx = 0;
#pragma omp simd reduction(+ : sum_g, sum_gx)
    for (int64_t j = 0; j < a->n; j++) {
        float g = dy[j] * w[j];
        sum_g += g;
        sum_gx += g * ((x[j] - mean) * rstd);
    }
    float mean_g = layernorm ? sum_g / (float)a->n : 0, mean_gx = sum_gx / (float)a->n;
    if (add) {
#pragma omp simd
        for (int64_t j = 0; j < a->n; j++)
            dx[j] = (dy[j] * w[j] - mean_g - (x[j] - mean) * rstd * mean_gx) * rstd + add[j];
    } else {
#pragma omp simd
        for (int64_t j = 0; j < a->n; j++)
            dx[j] = (dy[j] * w[j] - mean_g - (x[j] - mean) * rstd * mean_gx) * rstd;
    }
}

/* partial: dw [n], db [n] of this piece; NULL: not wanted */
static void backward_piece(const par_norm *a, int64_t begin, int64_t end, bool layernorm, float *partial) {
    if (partial) memset(partial, 0, 2 * (size_t)a->n * sizeof(float));
    for (int64_t i = begin; i < end; i++) {
        if (partial)
            backward_weights((const float *)a->x + i * a->n, (const float *)a->dy + i * a->n,
                             layernorm ? a->mean[i] : 0, a->rstd[i], partial, partial + a->n, a->n);
        backward_input(a, i, layernorm);
    }
}

/* y (+)= sum of the pieces' partials in order */
static void combine(float *y, float beta, const float *partial, int64_t pieces, int64_t stride, int64_t n) {
    if (beta == 0) memset(y, 0, (size_t)n * sizeof(float));
    for (int64_t piece = 0; piece < pieces; piece++) {
        const float *x = partial + piece * stride;
#pragma omp simd
        for (int64_t j = 0; j < n; j++) y[j] += x[j];
    }
}

static par_status backward(const par_norm *a, bool layernorm, float *partial) {
    int64_t rows = piece_rows(a->m), pieces = cpu_pieces(a->m, rows);
    PAR_REQUIRE(partial || !a->dw || a->m * a->n == 0);
#pragma omp parallel for schedule(static) if (a->m * a->n > CPU_PARALLEL)
    for (int64_t piece = 0; piece < pieces; piece++)
        backward_piece(a, piece * rows, cpu_min(a->m, (piece + 1) * rows), layernorm,
                       a->dw ? partial + piece * 2 * a->n : NULL);
    if (!a->dw || a->n == 0) return PAR_OK;
    combine(a->dw, a->beta, partial, pieces, 2 * a->n, a->n);
    if (layernorm) combine(a->db, a->beta, partial + a->n, pieces, 2 * a->n, a->n);
    return PAR_OK;
}

/* dw may be NULL in prepare, where pointers mean nothing: room for it in any case */
static par_status backward_prepare(const void *args, size_t *workspace_nbytes) {
    const par_norm *a = args;
    *workspace_nbytes =
        a->dtype == PAR_F32 ? (size_t)(cpu_pieces(a->m, piece_rows(a->m)) * 2 * a->n) * sizeof(float) : 0;
    return PAR_OK;
}

static par_status layernorm(par_stream *stream, const void *args, void *workspace) {
    const par_norm *a = args;
    if (a->dtype != PAR_F32) return par__ref_layernorm(stream, args, workspace);
    forward(a, true);
    return PAR_OK;
}

static par_status layernorm_backward(par_stream *stream, const void *args, void *workspace) {
    const par_norm *a = args;
    return a->dtype == PAR_F32 ? backward(a, true, workspace)
                               : par__ref_layernorm_backward(stream, args, workspace);
}

static par_status rmsnorm(par_stream *stream, const void *args, void *workspace) {
    const par_norm *a = args;
    if (a->dtype != PAR_F32) return par__ref_rmsnorm(stream, args, workspace);
    forward(a, false);
    return PAR_OK;
}

static par_status rmsnorm_backward(par_stream *stream, const void *args, void *workspace) {
    const par_norm *a = args;
    return a->dtype == PAR_F32 ? backward(a, false, workspace)
                               : par__ref_rmsnorm_backward(stream, args, workspace);
}

void par__cpu_norm(par_backend *backend) {
    par_kernel *k = backend->kernels;
    k[PAR_OP_LAYERNORM] = (par_kernel){CPU_NAME("layernorm"), par__ref_no_workspace, layernorm};
    k[PAR_OP_LAYERNORM_BACKWARD] =
        (par_kernel){CPU_NAME("layernorm_backward"), backward_prepare, layernorm_backward};
    k[PAR_OP_RMSNORM] = (par_kernel){CPU_NAME("rmsnorm"), par__ref_no_workspace, rmsnorm};
    k[PAR_OP_RMSNORM_BACKWARD] =
        (par_kernel){CPU_NAME("rmsnorm_backward"), backward_prepare, rmsnorm_backward};
}
