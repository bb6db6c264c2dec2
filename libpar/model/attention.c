/*
 * The attention branch: one GEMM for q, k and v, rotary embedding in place, causal attention on
 * this rank's heads, and the output projection. Query heads are split over tp. KV heads are split
 * too while there are enough of them; with more tp ranks than KV heads each rank holds a copy of
 * one, and the copies' gradients are partial.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "layers.h"
#include "registry.h"

/* k or v: K heads over p ranks. */
static par__share kv_share(const par__module_place *place, const par_build *build,
                           const par_transformer_config *config, const char *name) {
    int64_t D = config->head_size;
    int copies = place->p > config->kv_heads ? (int)(place->p / config->kv_heads) : 1;
    par__share share = par__split(name, config->kv_heads * D, place->p / copies, place->r / copies);
    if (copies == 1) return share;
    share.replica = (int16_t)(place->r % copies);
    share.n_replicas = (int16_t)copies;
    share.sum = build->mesh->kv;
    return share;
}

static par_status build_linear(par__attention *a, par__module_place *place, par_build *build,
                               const par_transformer_config *config, const char *prefix) {
    double std = par__init_std(config);
    int64_t width = config->heads * config->head_size;
    par__share shares[3] = {par__split("q", width, place->p, place->r),
                            kv_share(place, build, config, "k"),
                            kv_share(place, build, config, "v")};
    par__share out = par__split("out", width, place->p, place->r);
    a->D = config->head_size;
    a->H = shares[0].local / a->D;
    a->K = shares[1].local / a->D;
    a->first_head = place->r * a->H;
    PAR_TRY(par__linear_build_output_split(&a->branch.in, place, build, prefix, shares, 3,
                                           config->channels, config->bias, std));
    return par__linear_build_input_split(&a->branch.out, place, build, prefix, &out,
                                         config->channels, config->bias,
                                         std / sqrt(2.0 * (double)config->layers));
}

/* [T, D/2] each; made on the host, lying on the device. The first block makes them for all of its
 * rank. */
static par_status build_rope(par__attention *a, par_build *build,
                             const par_transformer_config *config) {
    size_t n = (size_t)config->tokens * (size_t)(config->head_size / 2);
    void *cos_table = NULL, *sin_table = NULL;
    par_registry *registry = build->registry;
    a->rope = config->rope;
    if (!config->rope) return PAR_OK;
    if (registry->rope_config == config) {
        a->cos = registry->cos;
        a->sin = registry->sin;
        return PAR_OK;
    }
    PAR_TRY(par_memory_take(build->memory, PAR_MEM_WEIGHTS, "rotary tables", n * sizeof(float),
                            &cos_table));
    PAR_TRY(par_memory_take(build->memory, PAR_MEM_WEIGHTS, "rotary tables", n * sizeof(float),
                            &sin_table));
    a->cos = registry->cos = cos_table;
    a->sin = registry->sin = sin_table;
    registry->rope_config = config;
    if (par_memory_measuring(build->memory)) return PAR_OK;
    float *host = malloc(2 * n * sizeof *host);
    if (!host) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for rotary tables of %zu elements", n);
    par__rope_tables(config, host, host + n);
    par_status st = build->backend->copy(NULL, cos_table, host, n * sizeof *host);
    if (st == PAR_OK) st = build->backend->copy(NULL, sin_table, host + n, n * sizeof *host);
    if (st == PAR_OK) st = build->backend->sync(NULL);
    free(host);
    return st;
}

static int64_t qkv_width(const par__attention *a) {
    return (a->H + 2 * a->K) * a->D;
}

static const char *at(const par__attention *a, const par__module_place *place, const void *qkv,
                      int64_t heads) {
    return (const char *)qkv + par__module_place_nbytes(place, heads * a->D);
}

static par_attention attention_args(const par__attention *a, const par__module_place *place,
                                    const par_call *call) {
    int64_t ld = qkv_width(a), ldo = a->H * a->D;
    return (par_attention){.dtype = place->dtype,
                           .B = place->B,
                           .T = place->T,
                           .H = a->H,
                           .K = a->K,
                           .D = a->D,
                           .first_head = a->first_head,
                           .scale = (float)(1 / sqrt((double)a->D)),
                           .ldq = ld,
                           .ldk = ld,
                           .ldv = ld,
                           .ldo = ldo,
                           .ldd_o = ldo,
                           .lddq = ld,
                           .lddk = ld,
                           .lddv = ld,
                           .dropout = par__dropout_of(place, call, a->dropout, a->site)};
}

static par_status run_rope(const par__attention *a, const par__module_place *place,
                           const par_call *call, void *qkv, bool inverse) {
    /* q and k heads are neighbours in a row: one call turns both */
    par_rope args = {.dtype = place->dtype,
                     .m = place->N,
                     .heads = a->H + a->K,
                     .head_size = a->D,
                     .T = place->T,
                     .x = qkv,
                     .ldx = qkv_width(a),
                     .cos = a->cos,
                     .sin = a->sin,
                     .inverse = inverse};
    return a->rope ? par__rope_run(place, call, &args) : PAR_OK;
}

static par_status prepare(const par__attention *a, par__module_place *place, par_build *build) {
    par_call training = {.training = true};
    par_attention args = attention_args(a, place, &training);
    par_rope rope = {.dtype = place->dtype,
                     .m = place->N,
                     .heads = a->H + a->K,
                     .head_size = a->D,
                     .T = place->T,
                     .ldx = qkv_width(a)};
    PAR_TRY(par__attention_prepare(place, build, &args));
    PAR_TRY(par__attention_backward_prepare(place, build, &args));
    return a->rope ? par__rope_prepare(place, build, &rope) : PAR_OK;
}

par_status par__attention_build(par__attention *a, par__module_place *place, par_build *build,
                                const par_transformer_config *config, int layer, size_t *areas) {
    char prefix[64];
    *a = (par__attention){.dropout = config->attention_dropout,
                          .site = (uint32_t)place->layer * 4 + 1};
    snprintf(prefix, sizeof prefix, "layers.%d.attention", layer);
    PAR_TRY(build_linear(a, place, build, config, prefix));
    PAR_TRY(par__branch_build(&a->branch, place, build, config, prefix,
                              (uint32_t)place->layer * 4 + 2));
    PAR_TRY(build_rope(a, build, config));
    size_t o_nbytes = par__module_place_nbytes(place, place->N * a->H * a->D);
    size_t qkv_nbytes = par__module_place_nbytes(place, place->N * qkv_width(a));
    a->qkv = par__reserve(&build->stash_nbytes, qkv_nbytes);
    a->o = par__reserve(&build->stash_nbytes, o_nbytes);
    a->lse = par__reserve(&build->stash_nbytes, (size_t)(place->N * a->H) * sizeof(float));
    a->d_o = par__reserve(areas, o_nbytes);
    a->dqkv = par__reserve(areas, qkv_nbytes);
    return prepare(a, place, build);
}

/* The attention kernel's arguments with what the stash holds. */
static par_attention stashed(const par__attention *a, const par__module_place *place,
                             const par_call *call) {
    par_attention args = attention_args(a, place, call);
    const char *qkv = (char *)call->stash + a->qkv;
    args.q = qkv;
    args.k = at(a, place, qkv, a->H);
    args.v = at(a, place, qkv, a->H + a->K);
    args.o = (char *)call->stash + a->o;
    args.lse = (float *)((char *)call->stash + a->lse);
    return args;
}

par_status par__attention_forward(const par__attention *a, const par__module_place *place,
                                  const par_call *call, const void *x, void *y, par_residual *sum) {
    void *qkv = (char *)call->stash + a->qkv;
    par_attention args = stashed(a, place, call);
    const void *h = NULL;
    PAR_TRY(par__norm_forward(&a->branch.norm, place, call, NULL, x, 0, false, &h));
    PAR_TRY(par__linear_forward(&a->branch.in, place, call, place->N, h, qkv));
    PAR_TRY(run_rope(a, place, call, qkv, false));
    PAR_TRY(par__attention_run(place, call, &args));
    return par__branch_output(&a->branch, place, call, args.o, x, y, sum);
}

par_status par__attention_backward(const par__attention *a, const par__module_place *place,
                                   const par_call *call, const void *x, const void *dy, void *dx) {
    char *d_o = (char *)call->scratch + a->d_o, *dqkv = (char *)call->scratch + a->dqkv;
    par_attention args = stashed(a, place, call);
    const void *dp = NULL;
    PAR_TRY(par__branch_output_backward(&a->branch, place, call, dy, &dp));
    PAR_TRY(par__linear_backward_weight(&a->branch.out, place, call, place->N, args.o, dp));
    PAR_TRY(par__linear_backward_input(&a->branch.out, place, call, place->N, dp, d_o));
    args.d_o = d_o;
    args.dq = dqkv;
    args.dk = dqkv + par__module_place_nbytes(place, a->H * a->D);
    args.dv = dqkv + par__module_place_nbytes(place, (a->H + a->K) * a->D);
    PAR_TRY(par__attention_backward_run(place, call, &args));
    PAR_TRY(run_rope(a, place, call, dqkv, true));
    return par__branch_input_backward(&a->branch, place, call, x, dqkv, dy, dx);
}
