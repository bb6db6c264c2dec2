/*
 * Attention against ref, and against a softmax in double and its differences (oracle.h).
 *
 * Bounds, with q, k, v, dO uniform in (-a, a) and e(D) the difference of two fp32 sums of D
 * products:
 *   scores   |s| <= scale D a²/2 in practice; difference e_s = scale e(D) + 4 u |s|
 *   weights  p differs by the factor 1 + r with r = 2 e_s + 8 u + 4 u sqrt(T) (its own exp, lse);
 *            a 16-bit version may round p, and ds, before their products: r gets one unit more
 *   o        a convex combination of v: r a
 *   dv       sum_i p_ij <= 1 + log T for each of a KV head's H / K query heads: r a that
 *   ds       p (dp - delta): dp differs by e(D), delta by unit · a² D / 2 through the stored o;
 *            |dp - delta| <= D a²
 *   dq, dk   scale · a · (that), dk also times (1 + log T) H / K
 * and everything that dropout touches times 1 / (1 - p).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attention.h"
#include "oracle.h"

static const par_dtype dtypes[] = {PAR_F32, PAR_BF16, PAR_F16};

attention_bounds attention_bounds_of(const attention_shape *v, double scale) {
    double unit = v->dtype == PAR_F32 ? 2 * BENCH_U : bench_unit(v->dtype), D = (double)v->D,
           a2 = v->a * v->a;
    double s = scale * D * a2 / 2, e_D = bench_sum(v->D, a2 / 4) + 4 * BENCH_U * a2,
           keep = 1 / (1 - (double)v->p);
    double e_s = scale * e_D + 4 * BENCH_U * s;
    double r =
        2 * e_s + 8 * BENCH_U + 4 * BENCH_U * sqrt((double)v->T) + (v->dtype == PAR_F32 ? 0 : unit);
    double columns = (1 + log((double)v->T)) * (double)(v->H / v->K);
    double ds = keep * (e_D + unit * a2 * D / 2 + r * D * a2);
    return (attention_bounds){r * v->a * keep, e_s + r, scale * v->a * ds,
                              scale * v->a * ds * columns, r * v->a * keep * columns};
}

/* documents NULL: they are not apart. */
static void build_documents(bench *b, const attention_shape *v, const int32_t *documents) {
    par_attention a = {
        .dtype = v->dtype, .B = v->B, .T = v->T, .H = v->H, .K = v->K, .D = v->D, .first_head = 3};
    a.apart = documents != NULL;
    a.documents = documents;
    int64_t rows = v->B * v->T, nq = v->H * v->D, nk = v->K * v->D;
    a.scale = (float)(1 / sqrt((double)v->D));
    a.dropout = (par_dropout){v->p, UINT64_C(0x123456789abcdef), NULL, INT64_C(0x100000007), 17};
    attention_bounds bound = attention_bounds_of(v, (double)a.scale);
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

static void build_attention(bench *b, const void *variant) {
    build_documents(b, variant, NULL);
}

static void compare_attention(attention_shape v) {
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
        compare_attention((attention_shape){dtypes[i % 3], T < 60 ? 2 : 1, T, heads[i / 5 % 3][0],
                                            heads[i / 5 % 3][1], sizes[i / 15], i % 4, p,
                                            magnitudes[i % 7 % 3]});
    }
    compare_attention((attention_shape){PAR_F32, 1, 131, 2, 1, 64, 0, p, 1});
}

static void test_attention(void) {
    if (!bench_ready_for(PAR_OP_ATTENTION) || !bench_ready_for(PAR_OP_ATTENTION_BACKWARD)) return;
    attention_sizes(0);
    /* heads that fused libraries have kernels for, grouped and not, and rows of whole 16 bytes */
    compare_attention((attention_shape){PAR_BF16, 2, 67, 4, 2, 64, 8, 0, 1});
    compare_attention((attention_shape){PAR_F16, 1, 130, 2, 2, 128, 0, 0, 0.25});
    compare_attention((attention_shape){PAR_BF16, 1, 33, 3, 1, 256, 8, 0, 0.25});
    if (!bench_is_ref) compare_attention((attention_shape){PAR_F32, 1, 1031, 2, 1, 9, 0, 0, 1});
}

/* Every width that kernels on tensor cores have, lengths around their tiles, both 16-bit types. */
static void test_attention_wide(void) {
    static const int64_t sizes[] = {64, 72, 96, 128, 256};
#ifdef __SANITIZE_ADDRESS__ /* the emulator would take half a minute; 67 keys are two tiles, too */
    static const int64_t lengths[] = {67, 1, 33};
#else
    static const int64_t lengths[] = {129, 1, 67};
#endif
    if (!bench_ready_for(PAR_OP_ATTENTION) || !bench_ready_for(PAR_OP_ATTENTION_BACKWARD)) return;
    if (bench_is_ref) {
        harness_skip("ref has no tiles");
        return;
    }
    for (int i = 0; i < 10; i++)
        compare_attention((attention_shape){dtypes[1 + i % 2], 1, lengths[i % 3], 4,
                                            i / 2 % 2 ? 1 : 4, sizes[i / 2], i % 3 * 8,
                                            i % 4 > 1 ? 0.25f : 0, 0.5});
    /* where 4 divides T the random words are those of whole groups of keys */
    compare_attention((attention_shape){PAR_BF16, 2, 132, 4, 1, 64, 8, 0.25f, 0.5});
    /* many tiles, for a device that runs beside itself; the emulator would take minutes */
    const char *gpu = getenv("PAR_TEST_GPU");
    for (int i = 0; i < 4 && gpu && strcmp(gpu, "1") == 0; i++)
        compare_attention((attention_shape){dtypes[1 + i % 2], 1, 1031, 2, i % 2 ? 2 : 1,
                                            i / 2 ? 128 : 64, 8, i == 2 ? 0.25f : 0, 0.5});
}

static void test_attention_dropout(void) {
    if (!bench_ready_for(PAR_OP_ATTENTION) || !bench_ready_for(PAR_OP_ATTENTION_BACKWARD)) return;
    attention_sizes(0.25f);
    attention_sizes(0.9f);
}

/* In turn documents of 2 · length tokens and of one; where the first ends is another place in each
 * sequence. */
typedef struct {
    attention_shape shape;
    int64_t length;
} apart_shape;

static const int32_t *documents_of(const attention_shape *v, int64_t length) {
    static int32_t documents[2048];
    if (v->B * v->T > HARNESS_COUNT(documents)) abort();
    for (int64_t b = 0; b < v->B; b++) {
        int64_t first = 0, left = length / 2 + 3 * b + 1;
        for (int64_t t = 0; t < v->T; t++, left--) {
            if (left == 0) left = t - first == 1 ? 2 * length : 1, first = t;
            documents[b * v->T + t] = (int32_t)first;
        }
    }
    return documents;
}

static void build_apart(bench *b, const void *variant) {
    const apart_shape *v = variant;
    build_documents(b, &v->shape, documents_of(&v->shape, v->length));
}

static void compare_apart(attention_shape v, int64_t length) {
    const apart_shape variant = {v, length};
    bench_compare(
        build_apart, &variant,
        "attention %s B %lld T %lld H %lld K %lld D %lld pad %lld p %g, documents of %lld",
        par_dtype_name(v.dtype), (long long)v.B, (long long)v.T, (long long)v.H, (long long)v.K,
        (long long)v.D, (long long)v.pad, (double)v.p, (long long)length);
}

/* Documents shorter and longer than the tiles of all versions, which begin within them and with
 * them; then every width that kernels on tensor cores have. */
static void test_attention_apart(void) {
    static const int64_t lengths[] = {1, 3, 16, 32, 64, 100}, wide[] = {64, 72, 128, 256};
    if (!bench_ready_for(PAR_OP_ATTENTION) || !bench_ready_for(PAR_OP_ATTENTION_BACKWARD)) return;
    for (int i = 0; i < 6; i++)
        compare_apart((attention_shape){dtypes[i % 3], 2, i < 3 ? 70 : 150, 2, 1 + i % 2, 8,
                                        i % 2 * 3, i % 2 ? 0.25f : 0, 1},
                      lengths[i]);
    for (int i = 0; i < 8; i++)
        compare_apart((attention_shape){dtypes[1 + i % 2], 1, i < 4 ? 140 : 70, 2, 1 + i / 4,
                                        wide[i % 4], 8, i % 3 == 2 ? 0.25f : 0, 0.5},
                      lengths[1 + i / 2]);
    if (!bench_is_ref) compare_apart((attention_shape){PAR_F32, 1, 1031, 2, 1, 9, 0, 0, 1}, 150);
}

/* For the differences: loss = sum dO · o, scores never kept, softmax without its maximum. */
typedef struct {
    int64_t B, T, H, K, D;
    double scale;
    par_dropout dropout;
    const int32_t *documents; /* NULL: not apart */
    double q[ORACLE_MAX], k[ORACLE_MAX], v[ORACLE_MAX], d_o[ORACLE_MAX], o[ORACLE_MAX],
        lse[ORACLE_MAX];
} attention_problem;

static void attend(const attention_problem *p, int64_t b, int64_t h, int64_t i, double *o,
                   double *lse) {
    double sum = 0;
    for (int64_t d = 0; d < p->D; d++) o[d] = 0;
    for (int64_t j = p->documents ? p->documents[b * p->T + i] : 0; j <= i; j++) {
        const double *q = p->q + ((b * p->T + i) * p->H + h) * p->D;
        int64_t at = ((b * p->T + j) * p->K + h * p->K / p->H) * p->D;
        double s = 0;
        for (int64_t d = 0; d < p->D; d++) s += q[d] * p->k[at + d];
        double weight = exp(p->scale * s),
               z = oracle_mask(&p->dropout, p->T, b * p->T + i, (2 + h) * p->T + j);
        sum += weight;
        for (int64_t d = 0; d < p->D; d++) o[d] += weight * z * p->v[at + d];
    }
    for (int64_t d = 0; d < p->D; d++) o[d] /= sum;
    *lse = log(sum);
}

static double attention_loss(const void *problem) {
    attention_problem *p = (attention_problem *)(uintptr_t)problem;
    double sum = 0;
    for (int64_t b = 0; b < p->B; b++)
        for (int64_t h = 0; h < p->H; h++)
            for (int64_t i = 0; i < p->T; i++) {
                int64_t at = ((b * p->T + i) * p->H + h) * p->D;
                attend(p, b, h, i, p->o + at, &p->lse[(b * p->H + h) * p->T + i]);
                for (int64_t d = 0; d < p->D; d++) sum += p->d_o[at + d] * p->o[at + d];
            }
    return sum;
}

static void oracle_case(int64_t B, int64_t T, int64_t H, int64_t K, int64_t D, float drop,
                        const int32_t *documents) {
    static attention_problem p;
    static float q[ORACLE_MAX], k[ORACLE_MAX], v[ORACLE_MAX], d_o[ORACLE_MAX], o[ORACLE_MAX],
        lse[ORACLE_MAX], dq[ORACLE_MAX], dk[ORACLE_MAX], dv[ORACLE_MAX];
    static double g[ORACLE_MAX];
    static const int64_t base = INT64_C(0x2fffffff0);
    int64_t nq = B * T * H * D, nk = B * T * K * D;
    p.B = B, p.T = T, p.H = H, p.K = K, p.D = D;
    p.scale = 0.75;
    p.documents = documents;
    p.dropout = (par_dropout){drop, UINT64_C(0xfedcba9876543210), &base, 14, 40000};
    oracle_noise(p.q, q, nq, 1);
    oracle_noise(p.k, k, nk, 2);
    oracle_noise(p.v, v, nk, 3);
    oracle_noise(p.d_o, d_o, nq, 4);
    par_attention a = {.B = B,
                       .T = T,
                       .H = H,
                       .K = K,
                       .D = D,
                       .first_head = 2,
                       .scale = 0.75f,
                       .apart = documents != NULL,
                       .documents = documents,
                       .dropout = p.dropout};
    a.ldq = a.ldo = a.ldd_o = a.lddq = H * D;
    a.ldk = a.ldv = a.lddk = a.lddv = K * D;
    a.q = q, a.k = k, a.v = v, a.o = o, a.lse = lse, a.d_o = d_o, a.dq = dq, a.dk = dk, a.dv = dv;
    bench_attention(bench_alone(), &a);
    bench_attention_backward(bench_alone(), &a);
    attention_loss(&p);
    oracle_check("o of attention", o, p.o, nq);
    oracle_check("lse of attention", lse, p.lse, B * H * T);
    oracle_differentiate(attention_loss, &p, p.q, nq, g);
    oracle_check("dq of attention", dq, g, nq);
    oracle_differentiate(attention_loss, &p, p.k, nk, g);
    oracle_check("dk of attention", dk, g, nk);
    oracle_differentiate(attention_loss, &p, p.v, nk, g);
    oracle_check("dv of attention", dv, g, nk);
}

static void test_oracle(void) {
    if (!bench_ready_for(PAR_OP_ATTENTION) || !bench_ready_for(PAR_OP_ATTENTION_BACKWARD)) return;
    static const int32_t documents[] = {0, 0, 2, 2, 2, 0, 1, 1, 1, 4};
    oracle_case(2, 5, 4, 2, 3, 0, NULL);
    oracle_case(1, 9, 6, 1, 2, 0.3f, NULL);
    oracle_case(3, 6, 3, 3, 5, 0.5f, NULL);
    oracle_case(1, 1, 2, 1, 8, 0, NULL);
    oracle_case(2, 5, 4, 2, 3, 0.3f, documents);
}

const harness_case attention_cases[] = {
    {.name = "attention", .run = test_attention},
    {.name = "attention_wide", .run = test_attention_wide},
    {.name = "attention_apart", .run = test_attention_apart},
    {.name = "attention_dropout", .run = test_attention_dropout},
    {.name = "oracle_attention", .run = test_oracle},
};
const int n_attention_cases = HARNESS_COUNT(attention_cases);
