/*
 * LayerNorm (Ba et al. 2016) and RMSNorm (Zhang and Sennrich 2019): par_norm in par/kernels.h; the formulas
 * of the backward stand in kernels/ref/norm.c.
 *
 * dx, dw and db are made in one pass. Rows are cut into at most MAX_PIECES pieces by their number alone; each
 * piece has its partial dw and db in the workspace, added in order. 16-bit operands add rows of fp32 to the
 * workspace: w and b, and for each thread what one row of the matrices needs.
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

/* w and b in fp32: the operands themselves or the first rows of the workspace */
typedef struct {
    const float *w, *b;
    float *buffers; /* ROWS rows a thread; NULL for fp32 */
} parameters;

enum { ROWS = 4, PARAMETERS = 2 };

static int64_t buffer_rows(const par_norm *a) {
    return a->dtype == PAR_F32 ? 0 : PARAMETERS + ROWS * (int64_t)cpu_slots(a->m);
}

static parameters read_parameters(const par_norm *a, float *workspace) {
    if (a->dtype == PAR_F32) return (parameters){.w = a->w, .b = a->b};
    parameters p = {.w = workspace, .b = workspace + a->n, .buffers = workspace + PARAMETERS * a->n};
    par__cpu_widen(a->w, a->dtype, 0, a->n, workspace);
    if (a->b) par__cpu_widen(a->b, a->dtype, 0, a->n, workspace + a->n);
    return p;
}

/* This thread's buffer number k, of one row. */
static float *buffer(const par_norm *a, const parameters *p, int k) {
    return p->buffers ? p->buffers + (ROWS * (int64_t)cpu_slot() + k) * a->n : NULL;
}

static void forward_row(const par_norm *a, const parameters *p, int64_t i, bool layernorm) {
    int64_t at = i * a->n;
    const float *x = cpu_read(a->x, a->dtype, at, a->n, buffer(a, p, 0)), *w = p->w, *b = p->b;
    float *y = cpu_place(a->y, a->dtype, at, buffer(a, p, 1));
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
    cpu_write(y, a->y, a->dtype, at, a->n);
    a->rstd[i] = rstd;
}

static par_status forward(const par_norm *a, bool layernorm, float *workspace) {
    PAR_REQUIRE(workspace || a->dtype == PAR_F32 || a->m * a->n == 0);
    if (a->m == 0) return PAR_OK;
    parameters p = read_parameters(a, workspace);
#pragma omp parallel for schedule(static) if (a->m * a->n > CPU_PARALLEL) num_threads(cpu_slots(a->m))
    for (int64_t i = 0; i < a->m; i++) forward_row(a, &p, i, layernorm);
    return PAR_OK;
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
 * may be dy or add. add may be NULL. */
static void backward_input(const float *x, const float *dy, const float *w, const float *add, float mean,
                           float rstd, bool layernorm, float *dx, int64_t n) {
    float sum_g = 0, sum_gx = 0;
#pragma omp simd reduction(+ : sum_g, sum_gx)
    for (int64_t j = 0; j < n; j++) {
        float g = dy[j] * w[j];
        sum_g += g;
        sum_gx += g * ((x[j] - mean) * rstd);
    }
    float mean_g = layernorm ? sum_g / (float)n : 0, mean_gx = sum_gx / (float)n;
    if (add) {
#pragma omp simd
        for (int64_t j = 0; j < n; j++)
            dx[j] = (dy[j] * w[j] - mean_g - (x[j] - mean) * rstd * mean_gx) * rstd + add[j];
    } else {
#pragma omp simd
        for (int64_t j = 0; j < n; j++)
            dx[j] = (dy[j] * w[j] - mean_g - (x[j] - mean) * rstd * mean_gx) * rstd;
    }
}

/* partial: dw [n], db [n] of this piece; NULL: not wanted */
static void backward_row(const par_norm *a, const parameters *p, int64_t i, bool layernorm, float *partial) {
    int64_t at = i * a->n;
    float mean = layernorm ? a->mean[i] : 0, rstd = a->rstd[i];
    const float *x = cpu_read(a->x, a->dtype, at, a->n, buffer(a, p, 0));
    const float *dy = cpu_read(a->dy, a->dtype, at, a->n, buffer(a, p, 1));
    const float *add = a->add ? cpu_read(a->add, a->dtype, at, a->n, buffer(a, p, 2)) : NULL;
    float *dx = cpu_place(a->dx, a->dtype, at, buffer(a, p, 3));
    if (partial) backward_weights(x, dy, mean, rstd, partial, partial + a->n, a->n);
    backward_input(x, dy, p->w, add, mean, rstd, layernorm, dx, a->n);
    cpu_write(dx, a->dx, a->dtype, at, a->n);
}

static void backward_piece(const par_norm *a, const parameters *p, int64_t begin, int64_t end, bool layernorm,
                           float *partial) {
    if (partial) memset(partial, 0, 2 * (size_t)a->n * sizeof(float));
    for (int64_t i = begin; i < end; i++) backward_row(a, p, i, layernorm, partial);
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
    bool wants = a->dw != NULL;
    PAR_REQUIRE(partial || (!wants && a->dtype == PAR_F32) || a->m * a->n == 0);
    parameters p = {0};
    if (a->m > 0) p = read_parameters(a, partial ? partial + pieces * 2 * a->n : NULL);
#pragma omp parallel for schedule(static) if (a->m * a->n > CPU_PARALLEL) num_threads(cpu_slots(a->m))
    for (int64_t piece = 0; piece < pieces; piece++)
        backward_piece(a, &p, piece * rows, cpu_min(a->m, (piece + 1) * rows), layernorm,
                       wants ? partial + piece * 2 * a->n : NULL);
    if (!wants || a->n == 0) return PAR_OK;
    combine(a->dw, a->beta, partial, pieces, 2 * a->n, a->n);
    if (layernorm) combine(a->db, a->beta, partial + a->n, pieces, 2 * a->n, a->n);
    return PAR_OK;
}

static par_status forward_prepare(const void *args, size_t *workspace_nbytes) {
    const par_norm *a = args;
    *workspace_nbytes = (size_t)(buffer_rows(a) * a->n) * sizeof(float);
    return PAR_OK;
}

/* dw may be NULL in prepare, where pointers mean nothing: room for it in any case */
static par_status backward_prepare(const void *args, size_t *workspace_nbytes) {
    const par_norm *a = args;
    int64_t partials = 2 * cpu_pieces(a->m, piece_rows(a->m));
    *workspace_nbytes = (size_t)((partials + buffer_rows(a)) * a->n) * sizeof(float);
    return PAR_OK;
}

static par_status layernorm(par_stream *stream, const void *args, void *workspace) {
    return forward(args, true, workspace);
}

static par_status layernorm_backward(par_stream *stream, const void *args, void *workspace) {
    return backward(args, true, workspace);
}

static par_status rmsnorm(par_stream *stream, const void *args, void *workspace) {
    return forward(args, false, workspace);
}

static par_status rmsnorm_backward(par_stream *stream, const void *args, void *workspace) {
    return backward(args, false, workspace);
}

void par__cpu_norm(par_backend *backend) {
    par_kernel *k = backend->kernels;
    k[PAR_OP_LAYERNORM] = (par_kernel){CPU_NAME("layernorm"), forward_prepare, layernorm};
    k[PAR_OP_LAYERNORM_BACKWARD] =
        (par_kernel){CPU_NAME("layernorm_backward"), backward_prepare, layernorm_backward};
    k[PAR_OP_RMSNORM] = (par_kernel){CPU_NAME("rmsnorm"), forward_prepare, rmsnorm};
    k[PAR_OP_RMSNORM_BACKWARD] =
        (par_kernel){CPU_NAME("rmsnorm_backward"), backward_prepare, rmsnorm_backward};
}
