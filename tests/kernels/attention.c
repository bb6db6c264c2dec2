/*
 * Attention and cross-entropy against ref.
 *
 * Attention's bounds, with q, k, v, dO uniform in (-a, a) and e(D) the difference of two fp32 sums
 * of D products: scores   |s| <= scale D a²/2 in practice, difference e_s = scale e(D) + 4 u |s|;
 *   weights  p differs by the factor 1 + r with r = 2 e_s + 8 u + 4 u sqrt(T) (its own exp, lse); a
 * 16-bit version may round p, and ds, to its type before their products: r gets one unit more; o a
 * convex combination of v: r a; dv       sum_i p_ij <= 1 + log T of a KV head's H / K query heads:
 * r a that; ds       p (dp - delta): dp differs by e(D), delta by unit · a² D / 2 through the
 * stored o; |dp - delta| <= D a²; dq, dk   scale · a · (that), dk also times (1 + log T) H / K; and
 * everything that dropout touches times 1 / (1 - p).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

static const par_dtype dtypes[] = {PAR_F32, PAR_BF16, PAR_F16};

typedef struct {
    par_dtype dtype;
    int64_t B, T, H, K, D, pad;
    float p;
    double a;
} shape;

typedef struct {
    double o, lse, dq, dk, dv;
} bounds;

static bounds attention_bounds(const shape *v, double scale) {
    double unit = v->dtype == PAR_F32 ? 2 * BENCH_U : bench_unit(v->dtype), D = (double)v->D,
           a2 = v->a * v->a;
    double s = scale * D * a2 / 2, e_D = bench_sum(v->D, a2 / 4) + 4 * BENCH_U * a2,
           keep = 1 / (1 - (double)v->p);
    double e_s = scale * e_D + 4 * BENCH_U * s;
    double r =
        2 * e_s + 8 * BENCH_U + 4 * BENCH_U * sqrt((double)v->T) + (v->dtype == PAR_F32 ? 0 : unit);
    double columns = (1 + log((double)v->T)) * (double)(v->H / v->K);
    double ds = keep * (e_D + unit * a2 * D / 2 + r * D * a2);
    return (bounds){r * v->a * keep, e_s + r, scale * v->a * ds, scale * v->a * ds * columns,
                    r * v->a * keep * columns};
}

static void build_attention(bench *b, const void *variant) {
    const shape *v = variant;
    par_attention a = {
        .dtype = v->dtype, .B = v->B, .T = v->T, .H = v->H, .K = v->K, .D = v->D, .first_head = 3};
    int64_t rows = v->B * v->T, nq = v->H * v->D, nk = v->K * v->D;
    a.scale = (float)(1 / sqrt((double)v->D));
    a.dropout = (par_dropout){v->p, UINT64_C(0x123456789abcdef), NULL, INT64_C(0x100000007), 17};
    bounds bound = attention_bounds(v, (double)a.scale);
    a.ldq = nq + v->pad;
    a.ldk = nk + 2 * v->pad;
    a.ldv = nk + 3 * v->pad;
    a.ldo = nq + v->pad;
    a.ldd_o = nq + 4 * v->pad;
    a.lddq = nq + 2 * v->pad;
    a.lddk = nk + v->pad;
    a.lddv = nk + 5 * v->pad;
    a.q = bench_in(b, v->dtype, rows, nq, a.ldq, v->a);
    a.k = bench_in(b, v->dtype, rows, nk, a.ldk, v->a);
    a.v = bench_in(b, v->dtype, rows, nk, a.ldv, v->a);
    a.o = bench_out(b, "o", v->dtype, rows, nq, a.ldo, bound.o);
    a.lse = bench_out(b, "lse", PAR_F32, v->B * v->H, v->T, v->T, bound.lse);
    bench_attention(b, &a);
    a.d_o = bench_in(b, v->dtype, rows, nq, a.ldd_o, v->a);
    a.dq = bench_out(b, "dq", v->dtype, rows, nq, a.lddq, bound.dq);
    a.dk = bench_out(b, "dk", v->dtype, rows, nk, a.lddk, bound.dk);
    a.dv = bench_out(b, "dv", v->dtype, rows, nk, a.lddv, bound.dv);
    bench_attention_backward(b, &a);
}

static void compare_attention(shape v) {
    bench_compare(build_attention, &v,
                  "attention %s B %lld T %lld H %lld K %lld D %lld pad %lld p %g a %g",
                  par_dtype_name(v.dtype), (long long)v.B, (long long)v.T, (long long)v.H,
                  (long long)v.K, (long long)v.D, (long long)v.pad, (double)v.p, v.a);
}

static void attention_sizes(float p) {
    static const int64_t lengths[] = {1, 7, 8, 9, 65}, sizes[] = {1, 8, 9, 20},
                         heads[][2] = {{1, 1}, {4, 2}, {3, 1}};
    static const double magnitudes[] = {1, 0.1, 4};
    for (int i = 0; i < 5 * 4 * 3; i++) {
        int64_t T = lengths[i % 5];
        compare_attention((shape){dtypes[i % 3], T < 60 ? 2 : 1, T, heads[i / 5 % 3][0],
                                  heads[i / 5 % 3][1], sizes[i / 15], i % 4, p,
                                  magnitudes[i % 7 % 3]});
    }
    compare_attention((shape){PAR_F32, 1, 131, 2, 1, 64, 0, p, 1});
}

static void test_attention(void) {
    if (!bench_ready_for(PAR_OP_ATTENTION) || !bench_ready_for(PAR_OP_ATTENTION_BACKWARD)) return;
    attention_sizes(0);
    /* heads that fused libraries have kernels for, grouped and not, and rows of whole 16 bytes */
    compare_attention((shape){PAR_BF16, 2, 67, 4, 2, 64, 8, 0, 1});
    compare_attention((shape){PAR_F16, 1, 130, 2, 2, 128, 0, 0, 0.25});
    compare_attention((shape){PAR_BF16, 1, 33, 3, 1, 256, 8, 0, 0.25});
    if (!bench_is_ref) compare_attention((shape){PAR_F32, 1, 1031, 2, 1, 9, 0, 0, 1});
}

static void test_attention_dropout(void) {
    if (!bench_ready_for(PAR_OP_ATTENTION) || !bench_ready_for(PAR_OP_ATTENTION_BACKWARD)) return;
    attention_sizes(0.25f);
    attention_sizes(0.9f);
}

/* T of the shape is the number of valid tokens; the cache has room for `spare` more, which hold
 * NaN. */
typedef struct {
    shape s;
    int64_t spare;
} decode_shape;

static par_attention_decode decode_args(const decode_shape *v) {
    const shape *s = &v->s;
    return (par_attention_decode){.dtype = s->dtype,
                                  .B = s->B,
                                  .H = s->H,
                                  .K = s->K,
                                  .D = s->D,
                                  .capacity = s->T + v->spare,
                                  .n = s->T,
                                  .scale = (float)(1 / sqrt((double)s->D)),
                                  .ldq = s->H * s->D + s->pad,
                                  .ldo = s->H * s->D + 2 * s->pad};
}

/* A cache as a matrix with a row a sequence: what lies behind the valid tokens is a gap of NaN
 * (behind the last sequence's, a guard zone). */
static void *cache(bench *b, const shape *s, const par_attention_decode *a) {
    int64_t token = a->K * a->D;
    return bench_in(b, s->dtype, a->B, a->n * token, a->capacity * token, s->a);
}

static void build_decode(bench *b, const void *variant) {
    const decode_shape *v = variant;
    const shape *s = &v->s;
    par_attention_decode a = decode_args(v);
    a.q = bench_in(b, s->dtype, a.B, a.H * a.D, a.ldq, s->a);
    a.k = cache(b, s, &a);
    a.v = cache(b, s, &a);
    /* the bound of attention's o, whose sum over T tokens is this one's over n */
    a.o =
        bench_out(b, "o", s->dtype, a.B, a.H * a.D, a.ldo, attention_bounds(s, (double)a.scale).o);
    bench_attention_decode(b, &a);
}

static void compare_decode(decode_shape v) {
    bench_compare(
        build_decode, &v, "decode %s B %lld n %lld H %lld K %lld D %lld pad %lld spare %lld a %g",
        par_dtype_name(v.s.dtype), (long long)v.s.B, (long long)v.s.T, (long long)v.s.H,
        (long long)v.s.K, (long long)v.s.D, (long long)v.s.pad, (long long)v.spare, v.s.a);
}

static void test_attention_decode(void) {
    static const int64_t lengths[] = {1, 7, 64, 65, 300}, sizes[] = {1, 8, 9, 20},
                         heads[][2] = {{1, 1}, {4, 2}, {6, 2}};
    static const double magnitudes[] = {1, 0.1, 4};
    if (!bench_ready()) return;
    for (int i = 0; i < 5 * 4 * 3; i++) {
        compare_decode(
            (decode_shape){{dtypes[i % 3], 1 + i % 2, lengths[i % 5], heads[i / 5 % 3][0],
                            heads[i / 5 % 3][1], sizes[i / 15], i % 4, 0, magnitudes[i % 7 % 3]},
                           i % 3});
    }
    compare_decode((decode_shape){{PAR_BF16, 1, 1031, 4, 1, 128, 0, 0, 0.25}, 100});
    compare_decode((decode_shape){{PAR_F32, 2, 520, 2, 2, 255, 1, 0, 0.25}, 7});
}

/* Row t of `ref`'s attention over T tokens against a decoding with n = t + 1 tokens of the same
 * cache. */
static void compare_with_attention(const shape *s, const par_attention *whole, int64_t t) {
    const decode_shape v = {*s, 0};
    par_attention_decode a = decode_args(&v);
    int64_t width = s->H * s->D;
    size_t size = par_dtype_nbytes(s->dtype);
    bench subject = {.backend = bench_subject};
    char *o = malloc((size_t)(s->B * a.ldo) * size);
    double bound = attention_bounds(s, (double)a.scale).o;
    double unit = s->dtype == PAR_F32 ? 2 * bench_unit(PAR_F32) : bench_unit(s->dtype);
    a.n = t + 1;
    a.q = (const char *)whole->q + (size_t)(t * width) * size;
    a.ldq = s->T * width;
    a.k = whole->k;
    a.v = whole->v;
    a.o = o;
    bench_attention_decode(&subject, &a);
    for (int64_t b = 0; b < s->B && !harness_failed(); b++)
        for (int64_t i = 0; i < width; i++) {
            double x = bench_load(o, s->dtype, b * a.ldo + i),
                   y = bench_load(whole->o, s->dtype, (b * s->T + t) * width + i);
            /* on ref both are the same operations in double */
            CHECK(fabs(x - y) <= (bench_is_ref ? 0 : bound + unit * fabs(y)),
                  "%s: sequence %lld, token %lld, channel %lld is %.9g, attention's row has %.9g",
                  par_dtype_name(s->dtype), (long long)b, (long long)t, (long long)i, x, y);
        }
    free(o);
}

/* Decoding is the last row of attention: `ref`'s attention is independent of the operation under
 * test. */
static void test_decode_is_last_row(void) {
    if (!bench_ready()) return;
    for (int type = 0; type < 3 && !harness_failed(); type++) {
        const shape s = {dtypes[type], 2, 33, 6, 2, 10, 0, 0, 1};
        int64_t rows = s.B * s.T, nq = s.H * s.D, nk = s.K * s.D;
        bench b = {0};
        CHECK_OK(par_backend_get("ref", &b.backend));
        par_attention a = {.dtype = s.dtype, .B = s.B, .T = s.T, .H = s.H, .K = s.K, .D = s.D};
        a.scale = (float)(1 / sqrt((double)s.D));
        a.ldq = a.ldo = nq;
        a.ldk = a.ldv = nk;
        a.q = bench_in(&b, s.dtype, rows, nq, nq, s.a);
        a.k = bench_in(&b, s.dtype, rows, nk, nk, s.a);
        a.v = bench_in(&b, s.dtype, rows, nk, nk, s.a);
        a.o = bench_out(&b, "o", s.dtype, rows, nq, nq, 0);
        a.lse = bench_out(&b, "lse", PAR_F32, s.B * s.H, s.T, s.T, 0);
        bench_attention(&b, &a);
        for (int64_t t = 0; t < s.T && !harness_failed(); t += 8) compare_with_attention(&s, &a, t);
        bench_destroy(&b);
    }
}

typedef struct {
    par_dtype dtype;
    int64_t m, n, valid, begin, pad;
    double a;
    bool masked;
} xent_variant;

/*
 * exp(x - max) with |x - max| <= 2 a: relative 8 u + 4 u a; a sum of up to n terms of at most 1.
 * The backward's probability is at most 1 and carries the difference of x - lse.
 */
static void build_xent(bench *b, const void *variant) {
    static const float seed = 0.125f;
    const xent_variant *v = variant;
    par_xent a = {.dtype = v->dtype,
                  .m = v->m,
                  .n = v->n,
                  .valid = v->valid,
                  .begin = v->begin,
                  .p = 1,
                  .seed = &seed};
    double relative = (8 + 4 * v->a) * BENCH_U, n = (double)v->valid;
    a.ldx = v->n + v->pad;
    a.logits = bench_inout(b, "dlogits", v->dtype, v->m, v->n, a.ldx, v->a,
                           (double)seed * (2 * relative + bench_sum(v->valid, 1) / fmax(n, 1)));
    a.targets = bench_ids(b, v->m, -2, v->begin + v->valid + 2);
    /* columns from `valid` on are never read */
    for (int64_t i = 0; i < v->m; i++)
        for (int64_t j = v->valid; j < v->n; j++)
            bench_store(a.logits, v->dtype, i * a.ldx + j, (double)NAN);
    for (int64_t j = 0; v->masked && j < v->valid - (v->valid + 7) / 8; j++)
        bench_store(a.logits, v->dtype, j, (double)-INFINITY);
    a.stats = bench_out(b, "stats", PAR_F32, v->m, 3, 3, n * relative + bench_sum(v->valid, 1));
    a.lse = bench_out(b, "lse", PAR_F32, 1, v->m, v->m,
                      2 * relative + bench_sum(v->valid, 1) / fmax(n, 1));
    a.sums = bench_out(b, "sums", PAR_F32, 1, 2, 2,
                       (double)v->m * (2 * relative + bench_sum(v->valid, 1) / fmax(n, 1)) +
                           bench_sum(v->m, v->a));
    bench_xent_stats(b, &a);
    if (v->valid == 0) {
        for (int64_t i = 0; i < v->m; i++)
            CHECK(isinf(a.stats[3 * i]) && a.stats[3 * i] < 0 && a.stats[3 * i + 1] == 0 &&
                      a.stats[3 * i + 2] == 0,
                  "stats of no column are {%g, %g, %g}, not {-inf, 0, 0}", (double)a.stats[3 * i],
                  (double)a.stats[3 * i + 1], (double)a.stats[3 * i + 2]);
    }
    bench_xent_loss(b, &a);
    /* with no column at all the lse is -inf, and its loss +inf or nothing: only a split vocabulary
     * has such a rank */
    if (v->valid == 0)
        for (int64_t i = 0; i < v->m; i++) a.lse[i] = 1;
    if (v->valid == 0) a.sums[0] = a.sums[1] = 0;
    bench_xent_backward(b, &a);
}

static void test_xent(void) {
    static const int64_t rows[] = {1, 7, 9}, columns[] = {1, 7, 8, 9, 1031};
    static const double magnitudes[] = {1, 1e-2, 30};
    if (!bench_ready()) return;
    for (int i = 0; i < 3 * 5 * 3; i++) {
        xent_variant v = {.dtype = dtypes[i % 3], .m = rows[i / 15], .n = columns[i / 3 % 5]};
        v.begin = i % 4 * 100;
        v.pad = i % 5;
        v.a = magnitudes[i % 7 % 3];
        v.valid = i % 6 == 5 ? 0 : i % 2 ? v.n : v.n - v.n / 3;
        v.masked = i % 4 == 3; /* the first logits of the first row are -inf */
        bench_compare(build_xent, &v, "xent %s m %lld n %lld valid %lld begin %lld a %g",
                      par_dtype_name(v.dtype), (long long)v.m, (long long)v.n, (long long)v.valid,
                      (long long)v.begin, v.a);
    }
}

const harness_case attention_cases[] = {
    {.name = "attention", .run = test_attention},
    {.name = "attention_dropout", .run = test_attention_dropout},
    {.name = "attention_decode", .run = test_attention_decode},
    {.name = "decode_is_last_row", .run = test_decode_is_last_row},
    {.name = "xent", .run = test_xent},
};
const int n_attention_cases = HARNESS_COUNT(attention_cases);
