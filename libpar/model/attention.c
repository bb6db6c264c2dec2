/*
 * The attention branch: one GEMM for q, k and v, rotary embedding in place, causal attention on
 * this rank's heads, and the output projection. With norms of q and k, each of the three is a
 * product of its own, since the norms want heads without gaps between them. Query heads are split
 * over tp. KV heads are split too while there are enough of them; with more tp ranks than KV heads
 * each rank holds a copy of one, and the copies' gradients are partial.
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
                                           config->channels, config->bias || config->qkv_bias,
                                           config->qk_norm, std));
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

/* Where the tensor behind the first `heads` heads begins in an area [N, (H + 2K) · D]: side by side
 * in each row, or in a block of its own. */
static char *at(const par__attention *a, const par__module_place *place, const void *qkv,
                int64_t heads) {
    int64_t n = heads * a->D * (a->qk_norm ? place->N : 1);
    return (char *)(uintptr_t)qkv + par__module_place_nbytes(place, n);
}

/* Elements between the rows of a tensor of so many heads. */
static int64_t ld_of(const par__attention *a, int64_t heads) {
    return a->qk_norm ? heads * a->D : qkv_width(a);
}

static par_attention attention_args(const par__attention *a, const par__module_place *place,
                                    const par_call *call) {
    int64_t ldq = ld_of(a, a->H), ldk = ld_of(a, a->K), ldo = a->H * a->D;
    return (par_attention){.dtype = place->dtype,
                           .B = place->B,
                           .T = place->T,
                           .H = a->H,
                           .K = a->K,
                           .D = a->D,
                           .first_head = a->first_head,
                           .scale = (float)(1 / sqrt((double)a->D)),
                           .apart = place->apart,
                           .documents = call->documents,
                           .ldq = ldq,
                           .ldk = ldk,
                           .ldv = ldk,
                           .ldo = ldo,
                           .ldd_o = ldo,
                           .lddq = ldq,
                           .lddk = ldk,
                           .lddv = ldk,
                           .dropout = par__dropout_of(place, call, a->dropout, a->site)};
}

static par_rope rope_args(const par__attention *a, const par__module_place *place, int64_t heads,
                          int64_t ld) {
    return (par_rope){.dtype = place->dtype,
                      .m = place->N,
                      .heads = heads,
                      .head_size = a->D,
                      .T = place->T,
                      .ldx = ld,
                      .cos = a->cos,
                      .sin = a->sin};
}

static par_status run_rope(const par__attention *a, const par__module_place *place,
                           const par_call *call, void *qkv, bool inverse) {
    /* q and k heads are neighbours in a row: one call turns both, unless they are two blocks */
    int64_t heads = a->qk_norm ? a->H : a->H + a->K;
    par_rope args = rope_args(a, place, heads, ld_of(a, a->H));
    args.x = qkv;
    args.inverse = inverse;
    if (!a->rope) return PAR_OK;
    PAR_TRY(par__rope_run(place, call, &args));
    if (!a->qk_norm) return PAR_OK;
    args = rope_args(a, place, a->K, ld_of(a, a->K));
    args.x = at(a, place, qkv, a->H);
    args.inverse = inverse;
    return par__rope_run(place, call, &args);
}

/* q and k as the attention reads them. */
static char *queries(const par__attention *a, const par__module_place *place,
                     const par_call *call) {
    char *block = place->selective ? call->scratch : call->stash;
    return a->qk_norm ? block + a->qk : (char *)call->stash + a->qkv;
}

/* From what the products left: normed, turned. Backward does it again where it was not kept. */
static par_status norm_and_turn(const par__attention *a, const par__module_place *place,
                                const par_call *call) {
    char *raw = (char *)call->stash + a->qkv, *to = queries(a, place, call);
    if (a->qk_norm) {
        PAR_TRY(par__head_norm_forward(&a->q_norm, place, call, raw, to));
        PAR_TRY(par__head_norm_forward(&a->k_norm, place, call, at(a, place, raw, a->H),
                                       at(a, place, to, a->H)));
    }
    return run_rope(a, place, call, to, false);
}

static par_status build_head_norms(par__attention *a, par__module_place *place, par_build *build,
                                   const par_transformer_config *config, const char *prefix,
                                   size_t *areas) {
    char name[96];
    size_t nbytes = par__module_place_nbytes(place, place->N * (a->H + a->K) * a->D);
    if (!config->qk_norm) return PAR_OK;
    snprintf(name, sizeof name, "%s.q.norm.weight", prefix);
    PAR_TRY(par__head_norm_build(&a->q_norm, place, build, config, name, a->H));
    snprintf(name, sizeof name, "%s.k.norm.weight", prefix);
    PAR_TRY(par__head_norm_build(&a->k_norm, place, build, config, name, a->K));
    a->qk = place->selective ? par__reserve(areas, nbytes)
                             : par__keep(build, "attention.q and k", nbytes);
    return PAR_OK;
}

par_status par__attention_build(par__attention *a, par__module_place *place, par_build *build,
                                const par_transformer_config *config, int layer, size_t *areas) {
    char prefix[64];
    *a = (par__attention){.qk_norm = config->qk_norm,
                          .dropout = config->attention_dropout,
                          .site = (uint32_t)place->layer * 4 + 1};
    snprintf(prefix, sizeof prefix, "layers.%d.attention", layer);
    PAR_TRY(build_linear(a, place, build, config, prefix));
    PAR_TRY(par__branch_build(&a->branch, place, build, config, prefix,
                              (uint32_t)place->layer * 4 + 2));
    PAR_TRY(build_rope(a, build, config));
    PAR_TRY(build_head_norms(a, place, build, config, prefix, areas));
    size_t o_nbytes = par__module_place_nbytes(place, place->N * a->H * a->D);
    size_t qkv_nbytes = par__module_place_nbytes(place, place->N * qkv_width(a));
    a->qkv = par__keep(build, "attention.qkv", qkv_nbytes);
    a->o = par__keep(build, "attention.output", o_nbytes);
    a->lse = par__keep(build, "attention.lse", (size_t)(place->N * a->H) * sizeof(float));
    a->d_o = par__reserve(areas, o_nbytes);
    a->dqkv = par__reserve(areas, qkv_nbytes);
    PAR_TRY(par__branch_prepare_pieces(&a->branch, place, build, NULL));
    const par_call evaluation = {0}, training = {.training = !build->forward_only};
    par_attention args = attention_args(a, place, &training),
                  plain = attention_args(a, place, &evaluation);
    par_rope rope = rope_args(a, place, a->qk_norm ? a->H : a->H + a->K, ld_of(a, a->H)),
             k_rope = rope_args(a, place, a->K, ld_of(a, a->K));
    PAR_TRY(par__attention_prepare(place, build, &args));
    PAR_TRY(par__attention_backward_prepare(place, build, &args));
    /* an evaluation drops nothing, which other kernels may compute */
    if (args.dropout.p != 0) PAR_TRY(par__attention_prepare(place, build, &plain));
    if (!a->rope) return PAR_OK;
    PAR_TRY(par__rope_prepare(place, build, &rope));
    return a->qk_norm ? par__rope_prepare(place, build, &k_rope) : PAR_OK;
}

/* The attention kernel's arguments with what the stash holds. */
static par_attention stashed(const par__attention *a, const par__module_place *place,
                             const par_call *call) {
    par_attention args = attention_args(a, place, call);
    const char *qkv = (char *)call->stash + a->qkv, *qk = queries(a, place, call);
    args.q = qk;
    args.k = at(a, place, qk, a->H);
    args.v = at(a, place, qkv, a->H + a->K);
    args.o = (char *)call->stash + a->o;
    args.lse = (float *)((char *)call->stash + a->lse);
    return args;
}

par_status par__attention_forward(const par__attention *a, const par__module_place *place,
                                  const par_call *call, const void *x, void *y, par_residual *sum) {
    void *qkv = (char *)call->stash + a->qkv;
    par_attention args = stashed(a, place, call);
    PAR_TRY(par__branch_input(&a->branch, place, call, NULL, x, qkv, NULL));
    PAR_TRY(norm_and_turn(a, place, call));
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
    args.dk = at(a, place, dqkv, a->H);
    args.dv = at(a, place, dqkv, a->H + a->K);
    if (a->qk_norm && place->selective) PAR_TRY(norm_and_turn(a, place, call));
    PAR_TRY(par__attention_backward_run(place, call, &args));
    PAR_TRY(run_rope(a, place, call, dqkv, true));
    if (a->qk_norm) {
        const char *raw = (char *)call->stash + a->qkv;
        PAR_TRY(par__head_norm_backward(&a->q_norm, place, call, raw, dqkv));
        PAR_TRY(par__head_norm_backward(&a->k_norm, place, call, at(a, place, raw, a->H),
                                        at(a, place, dqkv, a->H)));
    }
    return par__branch_input_backward(&a->branch, place, call, x, dqkv, dy, dx);
}
