/*
 * The attention branch with a cache: of one token per sequence, over the keys and values of those
 * before it, or of the first tokens of one sequence, its prompt, over themselves. The projections
 * write the new keys and values into the cache, which they see as a matrix: in decoding with a row
 * per sequence, in a prompt with a row per token. One row alone is one product for q, k and v, and
 * its k and v are copied. Heads are split over tp as in training; where KV heads are copied, each
 * copy has its cache.
 */
#include <math.h>

#include "layers.h"

static int64_t q_width(const par__attention *a) {
    return a->H * a->D;
}

/* Elements that the cache has for a token: of keys, and as many of values. */
static int64_t token_width(const par__attention *a) {
    return a->K * a->D;
}

static bool is_prompt(const par__module_place *place) {
    return place->T > 1;
}

static float scale_of(const par__attention *a) {
    return (float)(1 / sqrt((double)a->D));
}

static par_attention_decode decode_args(const par__attention_decode *d,
                                        const par__module_place *place) {
    const par__attention *a = &d->attention;
    return (par_attention_decode){.dtype = place->dtype,
                                  .B = place->B,
                                  .H = a->H,
                                  .K = a->K,
                                  .D = a->D,
                                  .capacity = d->capacity,
                                  .n = d->capacity,
                                  .scale = scale_of(a),
                                  .ldq = q_width(a),
                                  .ldo = q_width(a)};
}

static par_attention prompt_args(const par__attention_decode *d, const par__module_place *place) {
    const par__attention *a = &d->attention;
    return (par_attention){.dtype = place->dtype,
                           .B = 1,
                           .T = place->T,
                           .H = a->H,
                           .K = a->K,
                           .D = a->D,
                           .first_head = a->first_head,
                           .scale = scale_of(a),
                           .ldq = q_width(a),
                           .ldk = d->ld,
                           .ldv = d->ld,
                           .ldo = q_width(a)};
}

/* Rows are tokens from one position on: a table of those positions alone. */
static par_rope decode_rope(const par__attention_decode *d, const par__module_place *place,
                            int64_t heads, int64_t ld) {
    return (par_rope){.dtype = place->dtype,
                      .m = place->N,
                      .heads = heads,
                      .head_size = d->attention.D,
                      .T = place->T,
                      .ldx = ld};
}

/* Of the product that is all three, or of q. */
static int64_t product_width(const par__attention_decode *d) {
    const par__attention *a = &d->attention;
    return q_width(a) + (d->joined ? 2 * token_width(a) : 0);
}

par_status par__attention_reserve_cache(par__attention_decode *d, const par__attention *trained,
                                        par__module_place *place, par_build *build,
                                        int64_t capacity) {
    *d = (par__attention_decode){.attention = *trained, .capacity = capacity};
    size_t nbytes = par__module_place_nbytes(place, place->B * capacity * token_width(trained));
    d->keys = par__keep(build, "keys", nbytes);
    d->values = par__keep(build, "values", nbytes);
    return par__branch_reserve_int8(&d->attention.branch, place, build);
}

par_status par__attention_build_decode(par__attention_decode *d, par__module_place *place,
                                       par_build *build) {
    par__attention *a = &d->attention;
    size_t *scratch = &place->scratch_nbytes;
    size_t q_nbytes = par__module_place_nbytes(place, place->N * q_width(a));
    d->ld = token_width(a) * (is_prompt(place) ? 1 : d->capacity);
    d->joined = place->N == 1 && !a->qk_norm;
    PAR_TRY(par__branch_build_decode(&a->branch, place, build));
    d->q = par__reserve(scratch, par__module_place_nbytes(place, place->N * product_width(d)));
    d->o = par__reserve(scratch, q_nbytes);
    if (is_prompt(place)) d->lse = par__reserve(scratch, (size_t)(place->N * a->H) * sizeof(float));
    if (a->qk_norm) {
        d->raw = par__reserve(scratch, q_nbytes);
        PAR_TRY(par__head_norm_build_decode(&a->q_norm, place, build));
        PAR_TRY(par__head_norm_build_decode(&a->k_norm, place, build));
    }
    const par__linear *in = &a->branch.in;
    if (d->joined) {
        PAR_TRY(par__linear_prepare_forward(in, place, build, place->N));
    } else {
        PAR_TRY(par__linear_prepare_part(in, place, build, 0, place->N, q_width(a)));
        PAR_TRY(par__linear_prepare_part(in, place, build, 1, place->N, d->ld));
        if (a->qk_norm)
            PAR_TRY(par__linear_prepare_part(in, place, build, 1, place->N, token_width(a)));
    }
    par_rope q = decode_rope(d, place, a->H + (d->joined ? a->K : 0), product_width(d)),
             k = decode_rope(d, place, a->K, d->ld);
    if (a->rope) PAR_TRY(par__rope_prepare(place, build, &q));
    if (a->rope && !d->joined) PAR_TRY(par__rope_prepare(place, build, &k));
    par_attention_decode decode = decode_args(d, place);
    par_attention prompt = prompt_args(d, place);
    return is_prompt(place) ? par__attention_prepare(place, build, &prompt)
                            : par__attention_decode_prepare(place, build, &decode);
}

static par_status turn(const par__attention_decode *d, const par__module_place *place,
                       const par_call *call, int64_t position, int64_t heads, void *x, int64_t ld) {
    const par__attention *a = &d->attention;
    par_rope args = decode_rope(d, place, heads, ld);
    args.x = x;
    args.cos = a->cos + position * (a->D / 2);
    args.sin = a->sin + position * (a->D / 2);
    return a->rope ? par__rope_run(place, call, &args) : PAR_OK;
}

/* Heads of a projection into rows ldy apart, through the norm where there is one. */
static par_status project_heads(const par__attention_decode *d, const par__module_place *place,
                                const par_call *call, int part, const par__head_norm *norm,
                                const void *h, void *y, int64_t ldy) {
    const par__linear *in = &d->attention.branch.in;
    if (!d->attention.qk_norm)
        return par__linear_forward_part(in, place, call, part, place->N, h, y, ldy);
    char *raw = (char *)call->scratch + d->raw;
    int64_t width = norm->heads * norm->D;
    PAR_TRY(par__linear_forward_part(in, place, call, part, place->N, h, raw, width));
    if (ldy == width) return par__head_norm_forward(norm, place, call, raw, y);
    for (int64_t b = 0; b < place->N; b++)
        PAR_TRY(par__head_norm_sequence(norm, place, call,
                                        raw + par__module_place_nbytes(place, b * width),
                                        (char *)y + par__module_place_nbytes(place, b * ldy)));
    return PAR_OK;
}

/* q, and the keys and values of the rows from their first place in the cache on. */
typedef struct {
    char *q, *k, *v;
} projected;

static projected places(const par__attention_decode *d, const par__module_place *place,
                        const par_call *call, int64_t token) {
    size_t at = par__module_place_nbytes(place, token * token_width(&d->attention));
    return (projected){.q = (char *)call->scratch + d->q,
                       .k = (char *)call->stash + d->keys + at,
                       .v = (char *)call->stash + d->values + at};
}

/* position: of the first row. */
static par_status project(const par__attention_decode *d, const par__module_place *place,
                          const par_call *call, int64_t position, const void *h, projected to) {
    const par__attention *a = &d->attention;
    if (d->joined) {
        size_t q_nbytes = par__module_place_nbytes(place, q_width(a)),
               nbytes = par__module_place_nbytes(place, token_width(a));
        PAR_TRY(par__linear_forward(&a->branch.in, place, call, place->N, h, to.q));
        PAR_TRY(turn(d, place, call, position, a->H + a->K, to.q, product_width(d)));
        PAR_TRY(place->backend->copy(call->stream, to.k, to.q + q_nbytes, nbytes));
        return place->backend->copy(call->stream, to.v, to.q + q_nbytes + nbytes, nbytes);
    }
    PAR_TRY(project_heads(d, place, call, 0, &a->q_norm, h, to.q, q_width(a)));
    PAR_TRY(project_heads(d, place, call, 1, &a->k_norm, h, to.k, d->ld));
    PAR_TRY(par__linear_forward_part(&a->branch.in, place, call, 2, place->N, h, to.v, d->ld));
    PAR_TRY(turn(d, place, call, position, a->H, to.q, q_width(a)));
    return turn(d, place, call, position, a->K, to.k, d->ld);
}

par_status par__attention_run_decode(const par__attention_decode *d, const par__module_place *place,
                                     const par_call *call, int64_t position, const void *x, void *y,
                                     par_residual *sum) {
    par_attention_decode args = decode_args(d, place);
    const projected to = places(d, place, call, position);
    const void *h = NULL;
    PAR_TRY(par__norm_forward(&d->attention.branch.norm, place, call, NULL, x, 0, &h));
    PAR_TRY(project(d, place, call, position, h, to));
    args.n = position + 1;
    args.q = to.q;
    args.o = (char *)call->scratch + d->o;
    args.k = (char *)call->stash + d->keys;
    args.v = (char *)call->stash + d->values;
    PAR_TRY(par__attention_decode_run(place, call, &args));
    return par__branch_output(&d->attention.branch, place, call, args.o, x, y, sum);
}

par_status par__attention_run_prompt(const par__attention_decode *d, const par__module_place *place,
                                     const par_call *call, int64_t sequence, const void *x, void *y,
                                     par_residual *sum) {
    par_attention args = prompt_args(d, place);
    const projected to = places(d, place, call, sequence * d->capacity);
    const void *h = NULL;
    PAR_TRY(par__norm_forward(&d->attention.branch.norm, place, call, NULL, x, 0, &h));
    PAR_TRY(project(d, place, call, 0, h, to));
    args.q = to.q;
    args.k = to.k;
    args.v = to.v;
    args.o = (char *)call->scratch + d->o;
    args.lse = (float *)((char *)call->scratch + d->lse);
    PAR_TRY(par__attention_run(place, call, &args));
    return par__branch_output(&d->attention.branch, place, call, args.o, x, y, sum);
}
