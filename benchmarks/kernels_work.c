/*
 * What each operation must do at least: floating-point operations by definition (a multiply and an
 * add count 2; attention counts the causal half, its backward 2.5 times the forward), and bytes,
 * every operand read or written once. s is the size of an element of the case's type; fp32 has 4
 * bytes.
 */
#include "kernels.h"

static double size_of(par_dtype t) {
    return (double)par_dtype_nbytes(t);
}

static double least(int64_t a, int64_t b) {
    return (double)(a < b ? a : b);
}

static double gemm_nbytes(const par_op_args *args) {
    const par_gemm *g = &args->gemm;
    double m = (double)g->m, n = (double)g->n, k = (double)g->k, s = size_of(g->dtype);
    double c = m * n * size_of(g->dtype_c) * (g->beta != 0 ? 2 : 1);
    return s * (m * k + k * n) + c + (g->bias ? s * n : 0) +
           (g->epilogue != PAR_EPILOGUE_NONE ? s * m * n : 0);
}

static double gemm_flops(const par_op_args *args) {
    return 2.0 * (double)args->gemm.m * (double)args->gemm.n * (double)args->gemm.k;
}

static double column_sum_nbytes(const par_op_args *args) {
    const par_column_sum *a = &args->column_sum;
    return size_of(a->dtype) * (double)a->m * (double)a->n +
           4.0 * (double)a->n * (a->beta != 0 ? 2 : 1);
}

static double norm_nbytes(const par_op_args *args) {
    const par_norm *a = &args->layernorm;
    double s = size_of(a->dtype), rows = (double)a->m, n = (double)a->n;
    double sum = a->residual ? s * (2 * rows * n + n) : 0; /* its x is written instead of read */
    return 2 * s * rows * n + s * n * (a->b ? 2 : 1) + 4 * rows * (a->mean ? 2 : 1) + sum;
}

static double norm_backward_nbytes(const par_op_args *args) {
    const par_norm *a = &args->layernorm;
    double s = size_of(a->dtype), rows = (double)a->m, n = (double)a->n;
    double parameters = 4 * n * ((a->dw ? 1 : 0) + (a->db ? 1 : 0)) * (a->beta != 0 ? 2 : 1);
    return s * rows * n * (a->add ? 4 : 3) + s * n + 4 * rows * (a->mean ? 2 : 1) + parameters;
}

static double rope_nbytes(const par_op_args *args) {
    const par_rope *a = &args->rope;
    return 2 * size_of(a->dtype) * (double)a->m * (double)(a->heads * a->head_size) +
           4 * least(a->T, a->m) * (double)a->head_size;
}

static double attention_rows(const par_attention *a, int64_t heads) {
    return size_of(a->dtype) * (double)a->B * (double)a->T * (double)(heads * a->D);
}

static double attention_nbytes(const par_op_args *args) {
    const par_attention *a = &args->attention;
    return 2 * attention_rows(a, a->H) + 2 * attention_rows(a, a->K) +
           4.0 * (double)(a->B * a->T * a->H);
}

static double attention_backward_nbytes(const par_op_args *args) {
    const par_attention *a = &args->attention;
    return 4 * attention_rows(a, a->H) + 4 * attention_rows(a, a->K) +
           4.0 * (double)(a->B * a->T * a->H);
}

static double attention_flops(const par_op_args *args) {
    const par_attention *a = &args->attention;
    return 4.0 * (double)(a->B * a->H * a->D) * (double)a->T * (double)(a->T + 1) / 2;
}

static double attention_backward_flops(const par_op_args *args) {
    return 2.5 * attention_flops(args);
}

static double decode_nbytes(const par_op_args *args) {
    const par_attention_decode *a = &args->attention_decode;
    return 2 * size_of(a->dtype) * (double)(a->B * a->D) * (double)(a->H + a->n * a->K);
}

static double int8_nbytes(int64_t rows, int64_t n) {
    return (double)rows * ((double)n + 4 * (double)par_int8_groups(n));
}

static double quantize_nbytes(const par_op_args *args) {
    const par_quantize *a = &args->quantize;
    return size_of(a->dtype) * (double)a->m * (double)a->n + int8_nbytes(a->m, a->n);
}

static double gemm_int8_nbytes(const par_op_args *args) {
    const par_gemm_int8 *g = &args->gemm_int8;
    return size_of(g->dtype) * (double)(g->m * g->k) + int8_nbytes(g->n, g->k) +
           size_of(g->dtype_c) * (double)(g->m * g->n);
}

static double gemm_int8_flops(const par_op_args *args) {
    const par_gemm_int8 *g = &args->gemm_int8;
    return 2.0 * (double)g->m * (double)g->n * (double)g->k;
}

static double gelu_nbytes(const par_op_args *args) {
    return 2 * size_of(args->gelu.dtype) * (double)args->gelu.n;
}

static double gelu_backward_nbytes(const par_op_args *args) {
    return 1.5 * gelu_nbytes(args);
}

static double swiglu_nbytes(const par_op_args *args) {
    return 3 * size_of(args->swiglu.dtype) * (double)args->swiglu.m * (double)args->swiglu.n;
}

static double swiglu_backward_nbytes(const par_op_args *args) {
    return swiglu_nbytes(args) / 3 * 5;
}

static double embedding_nbytes(const par_op_args *args) {
    const par_embedding *a = &args->embedding;
    double rows = least(a->m, a->rows) + (double)a->m * (a->accumulate ? 2 : 1);
    return size_of(a->dtype) * rows * (double)a->n + (a->ids ? 4.0 * (double)a->m : 0);
}

static double embedding_backward_nbytes(const par_op_args *args) {
    const par_embedding *a = &args->embedding;
    double table = 4 * (double)a->n * (a->beta != 0 ? 2 * least(a->m, a->rows) : (double)a->rows);
    return size_of(a->dtype) * (double)a->m * (double)a->n + table +
           (a->ids ? 4.0 * (double)a->m : 0);
}

static double xent_stats_nbytes(const par_op_args *args) {
    const par_xent *a = &args->xent_stats;
    return (double)a->m * (size_of(a->dtype) * (double)a->valid + 16);
}

static double xent_loss_nbytes(const par_op_args *args) {
    const par_xent *a = &args->xent_stats;
    return (double)a->m * (12.0 * a->p + 8) + 8;
}

static double xent_backward_nbytes(const par_op_args *args) {
    const par_xent *a = &args->xent_stats;
    return (double)a->m * (size_of(a->dtype) * (double)(a->valid + a->n) + 8);
}

static double residual_nbytes(const par_op_args *args) {
    const par_residual *a = &args->residual;
    double s = size_of(a->dtype), n = (double)a->n;
    return s * (double)a->m * n * (a->residual ? 3 : 2) + (a->bias ? s * n : 0);
}

static double adamw_nbytes(const par_op_args *args) {
    const par_update *a = &args->adamw;
    return (double)a->n * (28 + (a->weights ? size_of(a->dtype) : 0));
}

static double sgd_nbytes(const par_op_args *args) {
    const par_update *a = &args->adamw;
    return (double)a->n * (20 + (a->weights ? size_of(a->dtype) : 0));
}

static double norm2_nbytes(const par_op_args *args) {
    return 4.0 * (double)args->norm2.vectors[0].n + 32;
}

static double cast_nbytes(const par_op_args *args) {
    const par_cast *a = &args->cast;
    return (double)a->n * (size_of(a->dtype_x) + size_of(a->dtype_y));
}

static double ballot_nbytes(const par_op_args *args) {
    return 16.0 * (double)args->ballot.n_norms + 8.0 * (double)args->ballot.n_losses +
           2.0 * sizeof(par_ballot);
}

static double vote_nbytes(const par_op_args *args) {
    return (double)args->vote.n * sizeof(par_ballot) + 2.0 * sizeof(par_vote_state);
}

static const struct {
    const char *formula; /* of nbytes, for people */
    double (*nbytes)(const par_op_args *);
    double (*flops)(const par_op_args *); /* NULL: bound by memory */
} work[PAR_OP_COUNT] = {
    [PAR_OP_GEMM] = {"s(mk + kn) + size_c mn (twice with beta 1) + s(n if bias, mn if epilogue)",
                     gemm_nbytes, gemm_flops},
    [PAR_OP_COLUMN_SUM] = {"s mn + 4n (twice with beta 1)", column_sum_nbytes, NULL},
    [PAR_OP_LAYERNORM] = {"s(2mn + 2n) + 8m, with residual s(2mn + n) more", norm_nbytes, NULL},
    [PAR_OP_LAYERNORM_BACKWARD] = {"s(3mn + n) + 8m + 16n, with residual s mn more",
                                   norm_backward_nbytes, NULL},
    [PAR_OP_RMSNORM] = {"s(2mn + n) + 4m, with residual s(2mn + n) more", norm_nbytes, NULL},
    [PAR_OP_RMSNORM_BACKWARD] = {"s(3mn + n) + 4m + 8n, with residual s mn more",
                                 norm_backward_nbytes, NULL},
    [PAR_OP_ROPE] = {"2s m heads D + 4TD", rope_nbytes, NULL},
    [PAR_OP_ATTENTION] = {"s BTD(2H + 2K) + 4BTH", attention_nbytes, attention_flops},
    [PAR_OP_ATTENTION_BACKWARD] = {"s BTD(4H + 4K) + 4BTH", attention_backward_nbytes,
                                   attention_backward_flops},
    [PAR_OP_GELU] = {"2s n", gelu_nbytes, NULL},
    [PAR_OP_GELU_BACKWARD] = {"3s n", gelu_backward_nbytes, NULL},
    [PAR_OP_SWIGLU] = {"3s mn", swiglu_nbytes, NULL},
    [PAR_OP_SWIGLU_BACKWARD] = {"5s mn", swiglu_backward_nbytes, NULL},
    [PAR_OP_EMBEDDING] = {"s n(m + min(m, V)) + 4m", embedding_nbytes, NULL},
    [PAR_OP_EMBEDDING_BACKWARD] = {"s mn + 8n min(m, V) + 4m with beta 1",
                                   embedding_backward_nbytes, NULL},
    [PAR_OP_XENT_STATS] = {"m(s V + 16)", xent_stats_nbytes, NULL},
    [PAR_OP_XENT_LOSS] = {"m(12p + 8) + 8", xent_loss_nbytes, NULL},
    [PAR_OP_XENT_BACKWARD] = {"m(s(V + V padded) + 8)", xent_backward_nbytes, NULL},
    [PAR_OP_RESIDUAL] = {"s(3mn + n)", residual_nbytes, NULL},
    [PAR_OP_ADAMW] = {"n(28 + s unless fp32)", adamw_nbytes, NULL},
    [PAR_OP_SGD] = {"n(20 + s unless fp32)", sgd_nbytes, NULL},
    [PAR_OP_NORM2] = {"4n + 32", norm2_nbytes, NULL},
    [PAR_OP_CAST] = {"n(size_x + size_y)", cast_nbytes, NULL},
    [PAR_OP_ATTENTION_DECODE] = {"2s BD(H + nK)", decode_nbytes, NULL},
    [PAR_OP_QUANTIZE] = {"mn(s + 1) + 4m n / 128", quantize_nbytes, NULL},
    [PAR_OP_GEMM_INT8] = {"s mk + nk + 4n k / 128 + s_c mn", gemm_int8_nbytes, gemm_int8_flops},
    [PAR_OP_BALLOT] = {"16 norms + 8 losses + 2 ballots", ballot_nbytes, NULL},
    [PAR_OP_VOTE] = {"a ballot per rank + 2 states", vote_nbytes, NULL},
};

double bench_flops(par_op op, const par_op_args *args) {
    return work[op].flops ? work[op].flops(args) : 0;
}

double bench_nbytes(par_op op, const par_op_args *args) {
    return work[op].nbytes(args);
}

const char *bench_formula(par_op op) {
    return work[op].formula;
}
