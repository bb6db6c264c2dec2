/*
 * The attention branch for one token per sequence. Keys and values of earlier tokens are read from
 * the cache; the new token's are written there by the projections themselves, which see the cache
 * as a matrix with a row per sequence. Heads are split over tp as in training; where KV heads are
 * copied, each copy has its cache.
 */
#include <math.h>

#include "layers.h"

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
                                  .scale = (float)(1 / sqrt((double)a->D)),
                                  .ldq = a->H * a->D,
                                  .ldo = a->H * a->D};
}

/* All rows are one token each, at the same position: a table of that position alone. */
static par_rope decode_rope(const par__attention_decode *d, const par__module_place *place,
                            int64_t heads, int64_t ld) {
    return (par_rope){.dtype = place->dtype,
                      .m = place->N,
                      .heads = heads,
                      .head_size = d->attention.D,
                      .T = 1,
                      .ldx = ld};
}

/* Distance of two sequences in the cache. */
static int64_t cache_ld(const par__attention_decode *d) {
    return d->capacity * d->attention.K * d->attention.D;
}

static par_status prepare_decode(const par__attention_decode *d, par__module_place *place,
                                 par_build *build) {
    const par__attention *a = &d->attention;
    int64_t width = a->H * a->D;
    par_attention_decode args = decode_args(d, place);
    par_rope q = decode_rope(d, place, a->H, width), k = decode_rope(d, place, a->K, cache_ld(d));
    PAR_TRY(par__attention_decode_prepare(place, build, &args));
    PAR_TRY(par__linear_prepare_part(&a->branch.in, place, build, 0, place->N, width));
    PAR_TRY(par__linear_prepare_part(&a->branch.in, place, build, 1, place->N, cache_ld(d)));
    if (a->qk_norm)
        PAR_TRY(par__linear_prepare_part(&a->branch.in, place, build, 1, place->N, a->K * a->D));
    if (!a->rope) return PAR_OK;
    PAR_TRY(par__rope_prepare(place, build, &q));
    return par__rope_prepare(place, build, &k);
}

par_status par__attention_build_decode(par__attention_decode *d, const par__attention *trained,
                                       par__module_place *place, par_build *build,
                                       int64_t capacity) {
    *d = (par__attention_decode){.attention = *trained, .capacity = capacity};
    size_t cache_nbytes = par__module_place_nbytes(place, place->B * cache_ld(d));
    size_t width_nbytes = par__module_place_nbytes(place, place->N * trained->H * trained->D);
    PAR_TRY(par__branch_build_decode(&d->attention.branch, place, build));
    d->keys = par__keep(build, "keys", cache_nbytes);
    d->values = par__keep(build, "values", cache_nbytes);
    d->q = par__reserve(&place->scratch_nbytes, width_nbytes);
    d->o = par__reserve(&place->scratch_nbytes, width_nbytes);
    if (trained->qk_norm) {
        d->raw = par__reserve(&place->scratch_nbytes, width_nbytes);
        PAR_TRY(par__head_norm_build_decode(&d->attention.q_norm, place, build));
        PAR_TRY(par__head_norm_build_decode(&d->attention.k_norm, place, build));
    }
    return prepare_decode(d, place, build);
}

static par_status turn(const par__attention_decode *d, const par__module_place *place,
                       const par_call *call, int64_t position, int64_t heads, void *x, int64_t ld) {
    const par__attention *a = &d->attention;
    par_rope args = decode_rope(d, place, heads, ld);
    args.x = x;
    args.cos = a->cos + position * (a->D / 2);
    args.sin = a->sin + position * (a->D / 2);
    return par__rope_run(place, call, &args);
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
    for (int64_t b = 0; b < place->N; b++)
        PAR_TRY(par__head_norm_sequence(norm, place, call,
                                        raw + par__module_place_nbytes(place, b * width),
                                        (char *)y + par__module_place_nbytes(place, b * ldy)));
    return PAR_OK;
}

/* q into scratch, k and v right into their place in the cache: its sequences are rows of the
 * product. */
static par_status project(const par__attention_decode *d, const par__module_place *place,
                          const par_call *call, int64_t position, const void *h) {
    const par__attention *a = &d->attention;
    size_t at = par__module_place_nbytes(place, position * a->K * a->D);
    void *q = (char *)call->scratch + d->q, *k = (char *)call->stash + d->keys + at,
         *v = (char *)call->stash + d->values + at;
    int64_t width = a->H * a->D, ld = cache_ld(d);
    PAR_TRY(project_heads(d, place, call, 0, &a->q_norm, h, q, width));
    PAR_TRY(project_heads(d, place, call, 1, &a->k_norm, h, k, ld));
    PAR_TRY(par__linear_forward_part(&a->branch.in, place, call, 2, place->N, h, v, ld));
    if (!a->rope) return PAR_OK;
    PAR_TRY(turn(d, place, call, position, a->H, q, width));
    return turn(d, place, call, position, a->K, k, ld);
}

par_status par__attention_run_decode(const par__attention_decode *d, const par__module_place *place,
                                     const par_call *call, int64_t position, const void *x, void *y,
                                     par_residual *sum) {
    par_attention_decode args = decode_args(d, place);
    const void *h = NULL;
    PAR_TRY(par__norm_forward(&d->attention.branch.norm, place, call, NULL, x, 0, &h));
    PAR_TRY(project(d, place, call, position, h));
    args.n = position + 1;
    args.q = (char *)call->scratch + d->q;
    args.o = (char *)call->scratch + d->o;
    args.k = (char *)call->stash + d->keys;
    args.v = (char *)call->stash + d->values;
    PAR_TRY(par__attention_decode_run(place, call, &args));
    return par__branch_output(&d->attention.branch, place, call, args.o, x, y, sum);
}
