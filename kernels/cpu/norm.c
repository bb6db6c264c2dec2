/*
 * LayerNorm (Ba et al. 2016) and RMSNorm (Zhang and Sennrich 2019): par_norm in par/kernels.h; the
 * formulas of the backward stand in kernels/ref/norm.c.
 *
 * Rows are cut into at most MAX_PIECES pieces by their number alone; each piece has its partial dw
 * and db in the workspace, added in order. A row is read twice or thrice, from the first-level
 * cache after the first time; its sums are complete before the first write.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vector.h"

enum { MIN_ROWS = 32, MAX_PIECES = 32 };

static int64_t piece_rows(int64_t m) {
    int64_t rows = cpu_pieces(m, MAX_PIECES);
    return rows < MIN_ROWS ? MIN_ROWS : rows;
}

/* Rows of the matrices, where they lie, and what the formulas need beside them. */
typedef struct {
    int64_t n;
    const void *x, *dy, *add, *w, *b;
    void *out; /* y or dx */
    float mean, rstd, mean_g, mean_gx;
} row;

/* Two sums in 16 bits, where nothing else hides the time of an addition; one in fp32. */
CPU_INLINE void add_pair(par_dtype t, vec sum[2], vec x, vec y) {
    sum[0] += x;
    sum[t != PAR_F32] += y;
}

CPU_INLINE void add_elements(par_dtype t, const row *r, vec *sum, int64_t j, int64_t count) {
    pair x = pair_load(r->x, t, j, count);
    add_pair(t, sum, x.v[0], x.v[1]);
}

CPU_INLINE void add_squares(par_dtype t, const row *r, vec *sum, int64_t j, int64_t count) {
    pair x = pair_load(r->x, t, j, count);
    for (int k = 0; k < 2; k++) x.v[k] -= r->mean;
    if (count < PAIR) x = pair_first(x, t, count, 0);
    add_pair(t, sum, x.v[0] * x.v[0], x.v[1] * x.v[1]);
}

CPU_INLINE void normalize(par_dtype t, const row *r, bool layernorm, int64_t j, int64_t count) {
    pair x = pair_load(r->x, t, j, count), w = pair_load(r->w, t, j, count);
    for (int k = 0; k < 2; k++) x.v[k] = (x.v[k] - r->mean) * r->rstd * w.v[k];
    if (layernorm) {
        pair b = pair_load(r->b, t, j, count);
        for (int k = 0; k < 2; k++) x.v[k] += b.v[k];
    }
    pair_store(r->out, t, j, count, x);
}

/* at: the address of element i of an operand */
CPU_INLINE void *at(par_dtype t, const void *x, int64_t i) {
    return (char *)(uintptr_t)x + (size_t)i * vec_element(t);
}

CPU_INLINE void forward_row(par_dtype t, const par_norm *a, int64_t i, bool layernorm) {
    row r = {
        .n = a->n, .x = at(t, a->x, i * a->n), .w = a->w, .b = a->b, .out = at(t, a->y, i * a->n)};
    vec sum[2] = {{0}}, squares[2] = {{0}};
    if (layernorm) {
        CPU_PAIRS(r.n, add_elements, t, &r, sum);
        a->mean[i] = r.mean = vec_sum(sum[0] + sum[1]) / (float)r.n;
    }
    CPU_PAIRS(r.n, add_squares, t, &r, squares);
    a->rstd[i] = r.rstd = 1 / sqrtf(vec_sum(squares[0] + squares[1]) / (float)r.n + a->eps);
    CPU_PAIRS(r.n, normalize, t, &r, layernorm);
}

CPU_INLINE void forward_rows(par_dtype t, const par_norm *a, int64_t begin, int64_t end,
                             bool layernorm) {
    if (layernorm)
        for (int64_t i = begin; i < end; i++) forward_row(t, a, i, true);
    else
        for (int64_t i = begin; i < end; i++) forward_row(t, a, i, false);
}

/* A loop over rows or pieces of a norm. */
typedef struct {
    const par_norm *a;
    bool layernorm;
    float *partial; /* of the backward: dw [n], db [n] a piece; NULL: not wanted */
} norm_call;

/* With a residual each row of the sum is normalized while it is in the first-level cache. */
static void forward_pieces(const void *user, int slot, int64_t begin, int64_t end) {
    const norm_call *call = user;
    const par_norm *a = call->a;
    int64_t last = cpu_min(end * MIN_ROWS, a->m);
    for (int64_t i = begin * MIN_ROWS; i < last; i += a->residual ? 1 : MIN_ROWS) {
        int64_t rows = a->residual ? 1 : cpu_min(MIN_ROWS, last - i);
        if (a->residual) par__cpu_residual_row(a->residual, i);
        CPU_BY_TYPE(a->dtype, forward_rows, a, i, i + rows, call->layernorm);
    }
}

static par_status forward(const par_norm *a, bool layernorm) {
    const norm_call call = {a, layernorm, NULL};
    cpu_loop(cpu_pieces(a->m, MIN_ROWS), a->m * a->n, forward_pieces, &call);
    return PAR_OK;
}

/* sums of g = dy · w and of g · xhat; with dw, dw += dy · xhat and db += dy */
typedef struct {
    vec g, gx;
    float *dw, *db;
} row_sums;

CPU_INLINE void add_gradients(par_dtype t, const row *r, row_sums *s, int64_t j, int64_t count) {
    vec dy = vec_load(r->dy, t, j, count), xhat = (vec_load(r->x, t, j, count) - r->mean) * r->rstd;
    vec g = dy * vec_load(r->w, t, j, count);
    s->g += g;
    s->gx += g * xhat;
    if (!s->dw) return;
    vec_store(s->dw, PAR_F32, j, count, vec_load(s->dw, PAR_F32, j, count) + dy * xhat);
    vec_store(s->db, PAR_F32, j, count, vec_load(s->db, PAR_F32, j, count) + dy);
}

/* Element j is read before it is written: dx may be dy or add, which may be NULL. */
CPU_INLINE void input_gradient(par_dtype t, const row *r, int64_t j, int64_t count) {
    pair x = pair_load(r->x, t, j, count), dy = pair_load(r->dy, t, j, count),
         w = pair_load(r->w, t, j, count);
    for (int k = 0; k < 2; k++) {
        vec xhat = (x.v[k] - r->mean) * r->rstd;
        x.v[k] = (dy.v[k] * w.v[k] - r->mean_g - xhat * r->mean_gx) * r->rstd;
    }
    if (r->add) {
        pair add = pair_load(r->add, t, j, count);
        for (int k = 0; k < 2; k++) x.v[k] += add.v[k];
    }
    pair_store(r->out, t, j, count, x);
}

/* partial: dw [n], db [n] of this piece; NULL: not wanted */
CPU_INLINE void backward_row(par_dtype t, const par_norm *a, int64_t i, bool layernorm,
                             float *partial) {
    row r = {.n = a->n, .x = at(t, a->x, i * a->n), .dy = at(t, a->dy, i * a->n), .w = a->w};
    row_sums s = {.g = {0}, .dw = partial, .db = partial ? partial + a->n : NULL};
    r.add = a->add ? at(t, a->add, i * a->n) : NULL;
    r.out = at(t, a->dx, i * a->n);
    r.mean = layernorm ? a->mean[i] : 0;
    r.rstd = a->rstd[i];
    CPU_VECTORS(r.n, add_gradients, t, &r, &s);
    r.mean_g = layernorm ? vec_sum(s.g) / (float)r.n : 0;
    r.mean_gx = vec_sum(s.gx) / (float)r.n;
    CPU_PAIRS(r.n, input_gradient, t, &r);
}

CPU_INLINE void backward_piece(par_dtype t, const par_norm *a, int64_t begin, int64_t end,
                               bool layernorm, float *partial) {
    if (partial) memset(partial, 0, 2 * (size_t)a->n * sizeof(float));
    for (int64_t i = begin; i < end; i++) backward_row(t, a, i, layernorm, partial);
}

/* y (+)= sum of the pieces' partials in order */
static void combine(float *y, float beta, const float *partial, int64_t pieces, int64_t stride,
                    int64_t n) {
    if (beta == 0) memset(y, 0, (size_t)n * sizeof(float));
    for (int64_t piece = 0; piece < pieces; piece++) {
        const float *x = partial + piece * stride;
#pragma omp simd
        for (int64_t j = 0; j < n; j++) y[j] += x[j];
    }
}

static void backward_pieces(const void *user, int slot, int64_t begin, int64_t end) {
    const norm_call *call = user;
    const par_norm *a = call->a;
    int64_t rows = piece_rows(a->m);
    for (int64_t piece = begin; piece < end; piece++)
        CPU_BY_TYPE(a->dtype, backward_piece, a, piece * rows, cpu_min(a->m, (piece + 1) * rows),
                    call->layernorm, call->partial ? call->partial + piece * 2 * a->n : NULL);
}

static par_status backward(const par_norm *a, bool layernorm, float *partial) {
    int64_t pieces = cpu_pieces(a->m, piece_rows(a->m));
    bool wants = a->dw != NULL;
    const norm_call call = {a, layernorm, wants ? partial : NULL};
    PAR_REQUIRE(partial || !wants || a->m * a->n == 0);
    cpu_loop(pieces, a->m * a->n, backward_pieces, &call);
    if (!wants || a->n == 0) return PAR_OK;
    combine(a->dw, a->beta, partial, pieces, 2 * a->n, a->n);
    if (layernorm) combine(a->db, a->beta, partial + a->n, pieces, 2 * a->n, a->n);
    return PAR_OK;
}

/* dw may be NULL in prepare, where pointers mean nothing: room for it in any case */
static par_status backward_prepare(const void *args, size_t *workspace_nbytes) {
    const par_norm *a = args;
    *workspace_nbytes = (size_t)(2 * cpu_pieces(a->m, piece_rows(a->m)) * a->n) * sizeof(float);
    return PAR_OK;
}

static par_status layernorm(par_stream *stream, const void *args, void *workspace) {
    return forward(args, true);
}

static par_status layernorm_backward(par_stream *stream, const void *args, void *workspace) {
    return backward(args, true, workspace);
}

static par_status rmsnorm(par_stream *stream, const void *args, void *workspace) {
    return forward(args, false);
}

static par_status rmsnorm_backward(par_stream *stream, const void *args, void *workspace) {
    return backward(args, false, workspace);
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
