/* Attention of one token over a cache against ref, and against the last row of attention. */
#include <math.h>
#include <stdlib.h>

#include "attention.h"

static const par_dtype dtypes[] = {PAR_F32, PAR_BF16, PAR_F16};

/* T of the shape is the number of valid tokens; the cache has room for `spare` more, which hold
 * NaN. */
typedef struct {
    attention_shape s;
    int64_t spare;
} decode_shape;

static par_attention_decode decode_args(const decode_shape *v) {
    const attention_shape *s = &v->s;
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

/* A cache as a matrix with a row per sequence: what lies behind the valid tokens is a gap of NaN
 * (behind the last sequence's, a guard zone). */
static void *cache(bench *b, const attention_shape *s, const par_attention_decode *a) {
    int64_t token = a->K * a->D;
    return bench_in(b, s->dtype, a->B, a->n * token, a->capacity * token, s->a);
}

static void build_decode(bench *b, const void *variant) {
    const decode_shape *v = variant;
    const attention_shape *s = &v->s;
    par_attention_decode a = decode_args(v);
    a.q = bench_in(b, s->dtype, a.B, a.H * a.D, a.ldq, s->a);
    a.k = cache(b, s, &a);
    a.v = cache(b, s, &a);
    /* the bound of attention's o, whose sum over T tokens is this one's over n */
    a.o = bench_out(b, "o", s->dtype, a.B, a.H * a.D, a.ldo,
                    attention_bounds_of(s, (double)a.scale).o);
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
static void compare_with_attention(const attention_shape *s, const par_attention *whole,
                                   int64_t t) {
    const decode_shape v = {*s, 0};
    par_attention_decode a = decode_args(&v);
    int64_t width = s->H * s->D;
    size_t size = par_dtype_nbytes(s->dtype);
    bench subject = {.backend = bench_subject};
    char *o = malloc((size_t)(s->B * a.ldo) * size);
    double bound = attention_bounds_of(s, (double)a.scale).o;
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
        const attention_shape s = {dtypes[type], 2, 33, 6, 2, 10, 0, 0, 1};
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

const harness_case attention_decode_cases[] = {
    {.name = "attention_decode", .run = test_attention_decode},
    {.name = "decode_is_last_row", .run = test_decode_is_last_row},
};
const int n_attention_decode_cases = HARNESS_COUNT(attention_decode_cases);
