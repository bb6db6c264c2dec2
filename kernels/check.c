/*
 * Arguments of kernels against their specification in par/kernels.h. A message names the operation,
 * the field, its value and what is legal. `data` false checks the shape alone, as at create, when
 * there are no pointers yet. Products of a shape stay below 2^60, so that kernels may multiply
 * freely.
 */
#include <math.h>
#include <stdio.h>

#include "kernels/backends.h"
#include "libpar/base/checked.h"

/* The operation that is checked and whether its pointers count. */
typedef struct {
    const char *op;
    bool data;
} check;

static par_status at_least(check c, const char *field, int64_t value, int64_t least) {
    if (value < least)
        PAR_FAIL(PAR_ERR_ARG, "%s: %s is %lld, must be at least %lld", c.op, field,
                 (long long)value, (long long)least);
    return PAR_OK;
}

static par_status at_most(check c, const char *field, int64_t value, int64_t most) {
    if (value > most)
        PAR_FAIL(PAR_ERR_ARG, "%s: %s is %lld, must be at most %lld", c.op, field, (long long)value,
                 (long long)most);
    return PAR_OK;
}

static par_status float_type(check c, const char *field, par_dtype value) {
    if (value != PAR_F32 && value != PAR_BF16 && value != PAR_F16)
        PAR_FAIL(PAR_ERR_ARG, "%s: %s is %s, must be fp32, bf16 or fp16", c.op, field,
                 par_dtype_name(value));
    return PAR_OK;
}

static par_status zero_or_one(check c, float beta) {
    if (beta != 0 && beta != 1)
        PAR_FAIL(PAR_ERR_ARG, "%s: beta is %g, must be 0 or 1", c.op, (double)beta);
    return PAR_OK;
}

/* low <= value < high; a NaN is refused */
static par_status within(check c, const char *field, double value, double low, double high) {
    if (!(value >= low && value < high))
        PAR_FAIL(PAR_ERR_ARG, "%s: %s is %g, must be at least %g and below %g", c.op, field, value,
                 low, high);
    return PAR_OK;
}

static par_status finite(check c, const char *field, float value) {
    if (!isfinite(value))
        PAR_FAIL(PAR_ERR_ARG, "%s: %s is %g, must be finite", c.op, field, (double)value);
    return PAR_OK;
}

static par_status pointer(check c, const char *field, const void *value, int64_t n) {
    if (c.data && n > 0 && !value)
        PAR_FAIL(PAR_ERR_ARG, "%s: %s is NULL for %lld elements", c.op, field, (long long)n);
    return PAR_OK;
}

/* An array [rows, width]: both at least 0, rows · width in bounds. */
static par_status array(check c, const char *rows_name, int64_t rows, const char *width_name,
                        int64_t width) {
    int64_t n = 0;
    PAR_TRY(at_least(c, rows_name, rows, 0));
    PAR_TRY(at_least(c, width_name, width, 0));
    if (!par__mul64(rows, width, &n) || n > INT64_C(1) << 60)
        PAR_FAIL(PAR_ERR_ARG, "%s: %s = %lld times %s = %lld is above 2^60 elements", c.op,
                 rows_name, (long long)rows, width_name, (long long)width);
    return PAR_OK;
}

/* A matrix whose rows of `width` start `ld` apart. */
static par_status matrix(check c, const char *name, int64_t rows, int64_t width,
                         const char *ld_name, int64_t ld, const void *data) {
    PAR_TRY(at_least(c, ld_name, ld, width));
    PAR_TRY(array(c, "rows", rows, ld_name, ld));
    return pointer(c, name, data, rows > 0 && width > 0 ? rows * width : 0);
}

static par_status dropout(check c, const par_dropout *d) {
    PAR_TRY(within(c, "dropout.p", d->p, 0, 1));
    if (d->p == 0) return PAR_OK;
    PAR_TRY(at_least(c, "dropout.first_sample", d->first_sample, 0));
    PAR_TRY(at_most(c, "dropout.first_sample", d->first_sample, (INT64_C(1) << 48) - 1));
    return at_most(c, "dropout.site", d->site, 65535);
}

static par_status check_gemm(check c, const par_gemm *a) {
    PAR_TRY(float_type(c, "dtype", a->dtype));
    if (a->dtype_c != a->dtype && a->dtype_c != PAR_F32)
        PAR_FAIL(PAR_ERR_ARG, "%s: dtype_c is %s, must be fp32 or dtype (%s)", c.op,
                 par_dtype_name(a->dtype_c), par_dtype_name(a->dtype));
    PAR_TRY(at_least(c, "m", a->m, 0));
    PAR_TRY(at_least(c, "n", a->n, 0));
    PAR_TRY(at_least(c, "k", a->k, 0));
    PAR_TRY(matrix(c, "a", a->ta ? a->k : a->m, a->ta ? a->m : a->k, "lda", a->lda, a->a));
    PAR_TRY(matrix(c, "b", a->tb ? a->n : a->k, a->tb ? a->k : a->n, "ldb", a->ldb, a->b));
    PAR_TRY(matrix(c, "c", a->m, a->n, "ldc", a->ldc, a->c));
    if (a->epilogue == PAR_EPILOGUE_NONE) return zero_or_one(c, a->beta);
    if (a->epilogue == PAR_EPILOGUE_BIAS_GRADIENT) {
        if (a->dtype_c != PAR_F32 || a->bias)
            PAR_FAIL(PAR_ERR_ARG,
                     "%s: the gradient of a bias with dtype_c %s and %s: dtype_c must be fp32 and "
                     "bias NULL",
                     c.op, par_dtype_name(a->dtype_c), a->bias ? "a bias" : "no bias");
        PAR_TRY(pointer(c, "aux", a->aux, a->m));
        return zero_or_one(c, a->beta);
    }
    if ((a->epilogue != PAR_EPILOGUE_GELU && a->epilogue != PAR_EPILOGUE_GELU_BACKWARD) ||
        a->beta != 0 || a->dtype_c != a->dtype)
        PAR_FAIL(PAR_ERR_ARG,
                 "%s: epilogue %d with beta %g and dtype_c %s: it must be one of par_epilogue, "
                 "with beta 0 and "
                 "dtype_c %s",
                 c.op, (int)a->epilogue, (double)a->beta, par_dtype_name(a->dtype_c),
                 par_dtype_name(a->dtype));
    return matrix(c, "aux", a->m, a->n, "ldc", a->ldc, a->aux);
}

static par_status check_column_sum(check c, const par_column_sum *a) {
    PAR_TRY(float_type(c, "dtype", a->dtype));
    PAR_TRY(at_least(c, "m", a->m, 0));
    PAR_TRY(at_least(c, "n", a->n, 0));
    PAR_TRY(matrix(c, "x", a->m, a->n, "ldx", a->ldx, a->x));
    PAR_TRY(pointer(c, "y", a->y, a->n));
    return zero_or_one(c, a->beta);
}

static par_status check_norm(check c, const par_norm *a) {
    PAR_TRY(float_type(c, "dtype", a->dtype));
    PAR_TRY(array(c, "m", a->m, "n", a->n));
    if (a->m > 0) PAR_TRY(at_least(c, "n", a->n, 1));
    PAR_TRY(pointer(c, "x", a->x, a->m * a->n));
    PAR_TRY(pointer(c, "w", a->w, a->m * a->n));
    return pointer(c, "rstd", a->rstd, a->m);
}

static par_status check_residual(check c, const par_residual *a);

static par_status check_norm_forward(check c, const par_norm *a, bool layernorm) {
    PAR_TRY(check_norm(c, a));
    PAR_TRY(within(c, "eps", a->eps, 0, INFINITY));
    const par_residual *r = a->residual;
    if (r) PAR_TRY(check_residual(c, r));
    if (r && (r->dtype != a->dtype || r->m != a->m || r->n != a->n || r->y != a->x))
        PAR_FAIL(PAR_ERR_ARG,
                 "%s: residual is %s [%lld, %lld] into %p, must be %s [%lld, %lld] into x, %p: its "
                 "y is the norm's x",
                 c.op, par_dtype_name(r->dtype), (long long)r->m, (long long)r->n, r->y,
                 par_dtype_name(a->dtype), (long long)a->m, (long long)a->n, a->x);
    if (layernorm) {
        PAR_TRY(pointer(c, "b", a->b, a->m * a->n));
        PAR_TRY(pointer(c, "mean", a->mean, a->m));
    }
    return pointer(c, "y", a->y, a->m * a->n);
}

static par_status check_norm_backward(check c, const par_norm *a, bool layernorm) {
    PAR_TRY(check_norm(c, a));
    PAR_TRY(pointer(c, "dy", a->dy, a->m * a->n));
    PAR_TRY(pointer(c, "dx", a->dx, a->m * a->n));
    if (layernorm) {
        PAR_TRY(pointer(c, "mean", a->mean, a->m));
        if (a->dw) PAR_TRY(pointer(c, "db", a->db, a->n));
    }
    return zero_or_one(c, a->beta);
}

static par_status check_layernorm(check c, const par_norm *a) {
    return check_norm_forward(c, a, true);
}

static par_status check_layernorm_backward(check c, const par_norm *a) {
    return check_norm_backward(c, a, true);
}

static par_status check_rmsnorm(check c, const par_norm *a) {
    return check_norm_forward(c, a, false);
}

static par_status check_rmsnorm_backward(check c, const par_norm *a) {
    return check_norm_backward(c, a, false);
}

static par_status check_rope(check c, const par_rope *a) {
    PAR_TRY(float_type(c, "dtype", a->dtype));
    PAR_TRY(array(c, "heads", a->heads, "head_size", a->head_size));
    if (a->head_size % 2 != 0)
        PAR_FAIL(PAR_ERR_ARG, "%s: head_size is %lld, must be even", c.op, (long long)a->head_size);
    PAR_TRY(at_least(c, "m", a->m, 0));
    PAR_TRY(at_least(c, "T", a->T, a->m > 0));
    PAR_TRY(at_least(c, "first_row", a->first_row, 0));
    PAR_TRY(matrix(c, "x", a->m, a->heads * a->head_size, "ldx", a->ldx, a->x));
    PAR_TRY(pointer(c, "cos", a->cos, a->m * a->heads * a->head_size));
    return pointer(c, "sin", a->sin, a->m * a->heads * a->head_size);
}

static par_status check_attention(check c, const par_attention *a) {
    PAR_TRY(float_type(c, "dtype", a->dtype));
    PAR_TRY(array(c, "B", a->B, "T", a->T));
    PAR_TRY(array(c, "H", a->H, "D", a->D));
    PAR_TRY(at_least(c, "K", a->K, a->H > 0));
    PAR_TRY(at_least(c, "first_head", a->first_head, 0));
    if (a->K > 0 && a->H % a->K != 0)
        PAR_FAIL(PAR_ERR_ARG, "%s: H is %lld, must be a multiple of K = %lld", c.op,
                 (long long)a->H, (long long)a->K);
    PAR_TRY(array(c, "K", a->K, "D", a->D));
    PAR_TRY(array(c, "B * T", a->B * a->T, "H", a->H));
    PAR_TRY(finite(c, "scale", a->scale));
    PAR_TRY(pointer(c, "documents (apart)", a->documents, a->apart ? a->B * a->T : 0));
    PAR_TRY(dropout(c, &a->dropout));
    /* the dropout's element number has 32 bits, in blocks of 4 */
    if (a->dropout.p > 0)
        PAR_TRY(at_most(c, "first_head + H", a->first_head + a->H,
                        a->T > 0 ? (INT64_C(1) << 34) / a->T : INT64_MAX));
    int64_t rows = a->B * a->T, nq = a->H * a->D, nk = a->K * a->D;
    PAR_TRY(matrix(c, "q", rows, nq, "ldq", a->ldq, a->q));
    PAR_TRY(matrix(c, "k", rows, nk, "ldk", a->ldk, a->k));
    PAR_TRY(matrix(c, "v", rows, nk, "ldv", a->ldv, a->v));
    PAR_TRY(matrix(c, "o", rows, nq, "ldo", a->ldo, a->o));
    return pointer(c, "lse", a->lse, rows * a->H);
}

static par_status check_attention_backward(check c, const par_attention *a) {
    PAR_TRY(check_attention(c, a));
    int64_t rows = a->B * a->T, nq = a->H * a->D, nk = a->K * a->D;
    PAR_TRY(matrix(c, "d_o", rows, nq, "ldd_o", a->ldd_o, a->d_o));
    PAR_TRY(matrix(c, "dq", rows, nq, "lddq", a->lddq, a->dq));
    PAR_TRY(matrix(c, "dk", rows, nk, "lddk", a->lddk, a->dk));
    return matrix(c, "dv", rows, nk, "lddv", a->lddv, a->dv);
}

static par_status check_attention_decode(check c, const par_attention_decode *a) {
    PAR_TRY(float_type(c, "dtype", a->dtype));
    PAR_TRY(array(c, "B", a->B, "capacity", a->capacity));
    PAR_TRY(array(c, "H", a->H, "D", a->D));
    PAR_TRY(at_least(c, "K", a->K, a->H > 0));
    if (a->K > 0 && a->H % a->K != 0)
        PAR_FAIL(PAR_ERR_ARG, "%s: H is %lld, must be a multiple of K = %lld", c.op,
                 (long long)a->H, (long long)a->K);
    PAR_TRY(at_least(c, "n", a->n, 0));
    PAR_TRY(at_most(c, "n (capacity)", a->n, a->capacity));
    PAR_TRY(array(c, "K", a->K, "D", a->D));
    PAR_TRY(array(c, "B * capacity", a->B * a->capacity, "K * D", a->K * a->D));
    PAR_TRY(array(c, "capacity", a->capacity, "H", a->H));
    PAR_TRY(finite(c, "scale", a->scale));
    int64_t cached = a->n > 0 ? a->B * a->K * a->D : 0;
    PAR_TRY(matrix(c, "q", a->B, a->H * a->D, "ldq", a->ldq, a->q));
    PAR_TRY(matrix(c, "o", a->B, a->H * a->D, "ldo", a->ldo, a->o));
    PAR_TRY(pointer(c, "k", a->k, cached));
    return pointer(c, "v", a->v, cached);
}

static par_status check_quantize(check c, const par_quantize *a) {
    PAR_TRY(float_type(c, "dtype", a->dtype));
    PAR_TRY(array(c, "m", a->m, "n", a->n));
    PAR_TRY(matrix(c, "x", a->m, a->n, "ldx", a->ldx, a->x));
    PAR_TRY(pointer(c, "q", a->q, a->m * a->n));
    return pointer(c, "scales", a->scales, a->m * a->n);
}

static par_status check_gemm_int8(check c, const par_gemm_int8 *a) {
    PAR_TRY(float_type(c, "dtype", a->dtype));
    if (a->dtype_c != a->dtype && a->dtype_c != PAR_F32)
        PAR_FAIL(PAR_ERR_ARG, "%s: dtype_c is %s, must be fp32 or dtype (%s)", c.op,
                 par_dtype_name(a->dtype_c), par_dtype_name(a->dtype));
    PAR_TRY(array(c, "m", a->m, "n", a->n));
    PAR_TRY(array(c, "n", a->n, "k", a->k));
    PAR_TRY(matrix(c, "a", a->m, a->k, "lda", a->lda, a->a));
    PAR_TRY(matrix(c, "c", a->m, a->n, "ldc", a->ldc, a->c));
    PAR_TRY(pointer(c, "q", a->q, a->m > 0 ? a->n * a->k : 0));
    return pointer(c, "scales", a->scales, a->m > 0 ? a->n * a->k : 0);
}

static par_status check_gelu(check c, const par_gelu *a) {
    PAR_TRY(float_type(c, "dtype", a->dtype));
    PAR_TRY(array(c, "n", a->n, "1", 1));
    PAR_TRY(pointer(c, "x", a->x, a->n));
    return pointer(c, "y", a->y, a->n);
}

static par_status check_gelu_backward(check c, const par_gelu *a) {
    PAR_TRY(float_type(c, "dtype", a->dtype));
    PAR_TRY(array(c, "n", a->n, "1", 1));
    PAR_TRY(pointer(c, "x", a->x, a->n));
    PAR_TRY(pointer(c, "dy", a->dy, a->n));
    return pointer(c, "dx", a->dx, a->n);
}

static par_status check_swiglu(check c, const par_swiglu *a) {
    PAR_TRY(float_type(c, "dtype", a->dtype));
    PAR_TRY(array(c, "m", a->m, "n", a->n));
    PAR_TRY(pointer(c, "x", a->x, a->m * a->n));
    return pointer(c, "y", a->y, a->m * a->n);
}

static par_status check_swiglu_backward(check c, const par_swiglu *a) {
    PAR_TRY(float_type(c, "dtype", a->dtype));
    PAR_TRY(array(c, "m", a->m, "n", a->n));
    PAR_TRY(pointer(c, "x", a->x, a->m * a->n));
    PAR_TRY(pointer(c, "dy", a->dy, a->m * a->n));
    return pointer(c, "dx", a->dx, a->m * a->n);
}

static par_status check_embedding_shape(check c, const par_embedding *a) {
    PAR_TRY(float_type(c, "dtype", a->dtype));
    PAR_TRY(array(c, "m", a->m, "n", a->n));
    PAR_TRY(array(c, "rows", a->rows, "n", a->n));
    PAR_TRY(at_least(c, "begin", a->begin, 0));
    PAR_TRY(at_least(c, "first_row", a->first_row, 0));
    if (c.data && !a->ids && a->m > 0) PAR_TRY(at_least(c, "T (ids is NULL)", a->T, 1));
    return PAR_OK;
}

static par_status check_embedding(check c, const par_embedding *a) {
    PAR_TRY(check_embedding_shape(c, a));
    PAR_TRY(pointer(c, "table", a->table, a->rows * a->n));
    return pointer(c, "y", a->y, a->m * a->n);
}

static par_status check_embedding_backward(check c, const par_embedding *a) {
    PAR_TRY(check_embedding_shape(c, a));
    PAR_TRY(pointer(c, "dy", a->dy, a->m * a->n));
    PAR_TRY(pointer(c, "dtable", a->dtable, a->rows * a->n));
    return zero_or_one(c, a->beta);
}

static par_status check_xent_logits(check c, const par_xent *a) {
    PAR_TRY(float_type(c, "dtype", a->dtype));
    PAR_TRY(at_least(c, "m", a->m, 0));
    PAR_TRY(at_least(c, "valid", a->valid, 0));
    PAR_TRY(at_least(c, "n", a->n, a->valid));
    PAR_TRY(at_least(c, "begin", a->begin, 0));
    PAR_TRY(matrix(c, "logits", a->m, a->n, "ldx", a->ldx, a->logits));
    return pointer(c, "targets", a->targets, a->m);
}

static par_status check_xent_stats(check c, const par_xent *a) {
    PAR_TRY(check_xent_logits(c, a));
    return pointer(c, "stats", a->stats, a->m);
}

static par_status check_xent_loss(check c, const par_xent *a) {
    PAR_TRY(at_least(c, "p", a->p, 1));
    PAR_TRY(array(c, "m", a->m, "p", a->p));
    PAR_TRY(pointer(c, "targets", a->targets, a->m));
    PAR_TRY(pointer(c, "stats", a->stats, a->m));
    PAR_TRY(pointer(c, "lse", a->lse, a->m));
    return pointer(c, "sums", a->sums, 2);
}

static par_status check_xent_backward(check c, const par_xent *a) {
    PAR_TRY(check_xent_logits(c, a));
    PAR_TRY(pointer(c, "seed", a->seed, 1));
    return pointer(c, "lse", a->lse, a->m);
}

static par_status check_residual(check c, const par_residual *a) {
    PAR_TRY(float_type(c, "dtype", a->dtype));
    PAR_TRY(array(c, "m", a->m, "n", a->n));
    PAR_TRY(at_least(c, "first_row", a->first_row, 0));
    PAR_TRY(dropout(c, &a->dropout));
    if (a->dropout.p > 0) {
        PAR_TRY(at_least(c, "T", a->T, a->m > 0));
        PAR_TRY(at_most(c, "n", a->n, INT64_C(1) << 34));
    }
    PAR_TRY(pointer(c, "x", a->x, a->m * a->n));
    return pointer(c, "y", a->y, a->m * a->n);
}

static par_status check_update(check c, const par_update *a) {
    PAR_TRY(float_type(c, "dtype", a->dtype));
    PAR_TRY(array(c, "n", a->n, "1", 1));
    PAR_TRY(pointer(c, "master", a->master, a->n));
    PAR_TRY(pointer(c, "grad", a->grad, a->n));
    PAR_TRY(pointer(c, "m", a->m, a->n));
    PAR_TRY(pointer(c, "step", a->step, 1));
    return within(c, "b1", a->b1, 0, 1);
}

static par_status check_adamw(check c, const par_update *a) {
    PAR_TRY(check_update(c, a));
    PAR_TRY(within(c, "b2", a->b2, 0, 1));
    return pointer(c, "v", a->v, a->n);
}

static par_status check_sgd(check c, const par_update *a) {
    return check_update(c, a);
}

static par_status check_norm2(check c, const par_norm2 *a) {
    PAR_TRY(at_least(c, "n_vectors", a->n_vectors, 0));
    if (a->n_vectors > 0 && !a->vectors)
        PAR_FAIL(PAR_ERR_ARG, "%s: vectors is NULL for %lld vectors", c.op,
                 (long long)a->n_vectors);
    for (int64_t i = 0; i < a->n_vectors; i++) {
        const par_norm2_vector *v = &a->vectors[i];
        PAR_TRY(array(c, "n", v->n, "1", 1));
        PAR_TRY(pointer(c, "x", v->x, v->n));
        PAR_TRY(pointer(c, "out", v->out, 2));
    }
    return PAR_OK;
}

static par_status check_cast(check c, const par_cast *a) {
    PAR_TRY(float_type(c, "dtype_x", a->dtype_x));
    PAR_TRY(float_type(c, "dtype_y", a->dtype_y));
    PAR_TRY(array(c, "n", a->n, "1", 1));
    PAR_TRY(pointer(c, "x", a->x, a->n));
    PAR_TRY(pointer(c, "y", a->y, a->n));
    if (c.data && a->n > 0 && a->x == a->y &&
        par_dtype_nbytes(a->dtype_x) != par_dtype_nbytes(a->dtype_y))
        PAR_FAIL(PAR_ERR_ARG, "%s: y is x, but dtype_x is %s and dtype_y %s, which differ in size",
                 c.op, par_dtype_name(a->dtype_x), par_dtype_name(a->dtype_y));
    return PAR_OK;
}

static par_status check_ballot(check c, const par_tally *a) {
    PAR_TRY(array(c, "n_norms", a->n_norms, "2", 2));
    PAR_TRY(array(c, "n_losses", a->n_losses, "2", 2));
    PAR_TRY(pointer(c, "norms", a->norms, a->n_norms));
    PAR_TRY(pointer(c, "losses", a->losses, a->n_losses));
    return pointer(c, "ballot", a->ballot, 1);
}

static par_status check_vote(check c, const par_vote_call *a) {
    PAR_TRY(at_least(c, "n", a->n, 1));
    PAR_TRY(pointer(c, "ballots", a->ballots, a->n));
    return pointer(c, "state", a->state, 1);
}

par_status par__op_check(par_op op, const void *args, bool data) {
    switch (op) {
#define CHECK(OP, name, type)                                                                      \
    case PAR_OP_##OP: return check_##name((check){#name, data}, args);
        PAR_OP_LIST(CHECK)
#undef CHECK
    case PAR_OP_COUNT: break;
    }
    return PAR_ERR_INTERNAL; /* the caller knows the operation */
}
