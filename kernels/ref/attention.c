/*
 * Causal softmax attention with grouped queries, one query at a time: par_attention in
 * par/kernels.h.
 *
 * With s_ij = scale · q_i · k_j for keys j <= i of i's document (of all where they are not apart),
 * lse_i = log sum_j exp(s_ij), p_ij = exp(s_ij - lse_i), and z_ij the dropout's factor (0 or
 * 1 / (1 - p)):
 *   o_i   = sum_j p_ij z_ij v_j
 *   dv_j  = sum_i p_ij z_ij dO_i
 *   ds_ij = p_ij (z_ij dO_i · v_j - delta_i),  delta_i = dO_i · o_i = sum_j p_ij z_ij dO_i · v_j
 *   dq_i  = scale · sum_j ds_ij k_j,  dk_j = scale · sum_i ds_ij q_i
 * dk and dv of a KV head sum over the H / K query heads that read it (Dao et al. 2022, arXiv
 * 2205.14135, appendix B).
 */
#include <math.h>

#include "kernels/dropout.h"
#include "kernels/ref/ref.h"

/* One query or key of one head: batch entry, head and token. */
typedef struct {
    int64_t b, h, t;
} head_token;

static int64_t at_token(const par_attention *a, head_token x, int64_t ld) {
    return (x.b * a->T + x.t) * ld + x.h * a->D;
}

/* The key of query head x.h at token t. */
static head_token key_of(const par_attention *a, head_token x, int64_t t) {
    return (head_token){x.b, x.h / (a->H / a->K), t};
}

/* The first key that a query sees. */
static int64_t first_key(const par_attention *a, head_token query) {
    return a->apart ? a->documents[query.b * a->T + query.t] : 0;
}

static double dot(const par_attention *a, const void *x, int64_t at_x, const void *y,
                  int64_t at_y) {
    double sum = 0;
    for (int64_t d = 0; d < a->D; d++)
        sum += ref_load(x, a->dtype, at_x + d) * ref_load(y, a->dtype, at_y + d);
    return sum;
}

static double score(const par_attention *a, head_token query, head_token key) {
    return a->scale * dot(a, a->q, at_token(a, query, a->ldq), a->k, at_token(a, key, a->ldk));
}

static double dropped(const par_attention *a, head_token query, int64_t key) {
    return par__dropout_factor(&a->dropout, a->T, query.b * a->T + query.t,
                               (a->first_head + query.h) * a->T + key);
}

static float *lse_of(const par_attention *a, head_token query) {
    return &a->lse[(query.b * a->H + query.h) * a->T + query.t];
}

static void forward_query(const par_attention *a, head_token query, double *scores) {
    double max = -INFINITY, sum = 0;
    int64_t first = first_key(a, query);
    for (int64_t j = first; j <= query.t; j++) {
        scores[j] = score(a, query, key_of(a, query, j));
        if (scores[j] > max) max = scores[j];
    }
    for (int64_t j = first; j <= query.t; j++) sum += exp(scores[j] - max);
    double lse = max + log(sum);
    *lse_of(a, query) = (float)lse;
    for (int64_t j = first; j <= query.t; j++)
        scores[j] = exp(scores[j] - lse) * dropped(a, query, j);
    for (int64_t d = 0; d < a->D; d++) {
        double o = 0;
        for (int64_t j = first; j <= query.t; j++)
            o += scores[j] * ref_load(a->v, a->dtype, at_token(a, key_of(a, query, j), a->ldv) + d);
        ref_store(a->o, a->dtype, at_token(a, query, a->ldo) + d, o);
    }
}

par_status par__ref_attention_prepare(const void *args, size_t *workspace_nbytes) {
    const par_attention *a = args;
    *workspace_nbytes = (size_t)a->T * sizeof(double);
    return PAR_OK;
}

par_status par__ref_attention(par_stream *stream, const par_attention *a, void *workspace) {
    PAR_REQUIRE(workspace || a->T == 0);
    for (int64_t b = 0; b < a->B; b++)
        for (int64_t h = 0; h < a->H; h++) {
            for (int64_t t = 0; t < a->T; t++) forward_query(a, (head_token){b, h, t}, workspace);
            par__progress(stream);
        }
    return PAR_OK;
}

/* p_ij z_ij and ds_ij of one pair. */
static void pair(const par_attention *a, head_token query, head_token key, double *pz, double *ds) {
    int64_t d_o = at_token(a, query, a->ldd_o);
    double p = exp(score(a, query, key) - *lse_of(a, query)), z = dropped(a, query, key.t);
    double dp = z * dot(a, a->d_o, d_o, a->v, at_token(a, key, a->ldv));
    double delta = dot(a, a->d_o, d_o, a->o, at_token(a, query, a->ldo));
    *pz = p * z;
    *ds = p * (dp - delta);
}

static void backward_query(const par_attention *a, head_token query, double *dq) {
    for (int64_t d = 0; d < a->D; d++) dq[d] = 0;
    for (int64_t j = first_key(a, query); j <= query.t; j++) {
        head_token key = key_of(a, query, j);
        double pz, ds;
        pair(a, query, key, &pz, &ds);
        for (int64_t d = 0; d < a->D; d++)
            dq[d] += a->scale * ds * ref_load(a->k, a->dtype, at_token(a, key, a->ldk) + d);
    }
    for (int64_t d = 0; d < a->D; d++)
        ref_store(a->dq, a->dtype, at_token(a, query, a->lddq) + d, dq[d]);
}

static void backward_key(const par_attention *a, head_token key, double *dk, double *dv) {
    int64_t group = a->H / a->K;
    for (int64_t d = 0; d < a->D; d++) dk[d] = dv[d] = 0;
    for (int64_t h = key.h * group; h < (key.h + 1) * group; h++)
        for (int64_t t = key.t; t < a->T; t++) {
            head_token query = {key.b, h, t};
            double pz, ds;
            if (first_key(a, query) > key.t) break;
            pair(a, query, key, &pz, &ds);
            for (int64_t d = 0; d < a->D; d++) {
                dk[d] += a->scale * ds * ref_load(a->q, a->dtype, at_token(a, query, a->ldq) + d);
                dv[d] += pz * ref_load(a->d_o, a->dtype, at_token(a, query, a->ldd_o) + d);
            }
        }
    for (int64_t d = 0; d < a->D; d++) {
        ref_store(a->dk, a->dtype, at_token(a, key, a->lddk) + d, dk[d]);
        ref_store(a->dv, a->dtype, at_token(a, key, a->lddv) + d, dv[d]);
    }
}

par_status par__ref_attention_backward_prepare(const void *args, size_t *workspace_nbytes) {
    const par_attention *a = args;
    *workspace_nbytes = 2 * (size_t)a->D * sizeof(double);
    return PAR_OK;
}

par_status par__ref_attention_backward(par_stream *stream, const par_attention *a,
                                       void *workspace) {
    double *sums = workspace;
    PAR_REQUIRE(workspace || a->D == 0);
    for (int64_t b = 0; b < a->B; b++)
        for (int64_t h = 0; h < a->H; h++) {
            for (int64_t t = 0; t < a->T; t++) backward_query(a, (head_token){b, h, t}, sums);
            par__progress(stream);
        }
    for (int64_t b = 0; b < a->B; b++)
        for (int64_t h = 0; h < a->K; h++) {
            for (int64_t t = 0; t < a->T; t++)
                backward_key(a, (head_token){b, h, t}, sums, sums + a->D);
            par__progress(stream);
        }
    return PAR_OK;
}
