/*
 * A norm with an addition before it, against the two operations one after the other on the same
 * backend: the sum, the result and the statistics have the same bits, aligned or not, for rows that
 * a block of the cuda kernel keeps and for longer ones, and with the norm's y where the addition's
 * x was.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

enum { MAX_N = 8200, MAX_ELEMENTS = 40000, SKEW = 3 };

typedef struct {
    par_dtype dtype;
    bool layernorm, bias, residual, over_x;
    float p;
    int64_t m, n;
    int skew; /* elements that matrices begin behind a multiple of 16 bytes */
} variant;

/* Room for fp32, used by the 16-bit types too; 16-byte aligned. */
typedef struct {
    _Alignas(16) float x[MAX_ELEMENTS], residual[MAX_ELEMENTS], sum[MAX_ELEMENTS], y[MAX_ELEMENTS];
    _Alignas(16) float bias[MAX_N + SKEW], w[MAX_N + SKEW], b[MAX_N + SKEW], mean[64], rstd[64];
} tensors;

static tensors apart, together;

static void *at(const variant *v, float *block) {
    return (char *)block + (size_t)v->skew * par_dtype_nbytes(v->dtype);
}

static void noise(const variant *v, float *block, int64_t n, uint64_t seed) {
    for (int64_t i = 0; i < n; i++)
        bench_store(at(v, block), v->dtype, i, (double)harness_noise(seed, (uint64_t)i));
}

static void fill(const variant *v, tensors *t) {
    memset(t, 0xff, sizeof *t); /* NaN in every type */
    noise(v, t->x, v->m * v->n, 1);
    noise(v, t->residual, v->m * v->n, 2);
    noise(v, t->bias, v->n, 3);
    noise(v, t->w, v->n, 4);
    noise(v, t->b, v->n, 5);
}

static void run(const variant *v, tensors *t, bool fused) {
    static const int64_t base = 11;
    bench subject = {.backend = bench_subject};
    par_residual r = {
        .dtype = v->dtype, .m = v->m, .n = v->n, .T = 3, .first_row = 2, .x = at(v, t->x)};
    par_norm a = {.dtype = v->dtype,
                  .m = v->m,
                  .n = v->n,
                  .eps = 1e-5f,
                  .x = at(v, t->sum),
                  .w = at(v, t->w)};
    if (v->bias) r.bias = at(v, t->bias);
    if (v->residual) r.residual = at(v, t->residual);
    r.y = at(v, t->sum);
    r.dropout =
        (par_dropout){.p = v->p, .seed = 9, .sample_base = &base, .first_sample = 4, .site = 5};
    a.y = at(v, v->over_x ? t->x : t->y);
    a.rstd = t->rstd;
    if (v->layernorm) a.b = at(v, t->b), a.mean = t->mean;
    if (fused)
        a.residual = &r;
    else
        bench_residual(&subject, &r);
    v->layernorm ? bench_layernorm(&subject, &a) : bench_rmsnorm(&subject, &a);
}

static void compare(const variant *v) {
    fill(v, &apart);
    fill(v, &together);
    run(v, &apart, false);
    run(v, &together, true);
    CHECK(memcmp(&apart, &together, sizeof apart) == 0,
          "%s %s [%lld, %lld], bias %d, residual %d, dropout %g, %d elements off: not the bits of "
          "the two "
          "apart",
          par_dtype_name(v->dtype), v->layernorm ? "layernorm" : "rmsnorm", (long long)v->m,
          (long long)v->n, v->bias, v->residual, (double)v->p, v->skew);
    double norm = 0;
    for (int64_t i = 0; i < v->n; i++) {
        double y = bench_load(at(v, v->over_x ? together.x : together.y), v->dtype, i);
        norm += isfinite(y) ? fabs(y) : 0;
    }
    CHECK(norm > 0, "[%lld, %lld]: nothing was written", (long long)v->m, (long long)v->n);
}

/* Every combination of type, size, norm, bias, place of y and dropout; no residual and the skew
 * come and go. */
static void test_norm_residual(void) {
    static const par_dtype types[] = {PAR_F32, PAR_BF16, PAR_F16};
    static const int64_t sizes[][2] = {{1, 3}, {37, 7}, {5, 64}, {3, 768}, {4, MAX_N}, {40, 200}};
    if (!bench_ready()) return;
    for (int i = 0; i < 3 * 6 * 16 && !harness_failed(); i++) {
        variant v = {.dtype = types[i % 3], .m = sizes[i / 3 % 6][0], .n = sizes[i / 3 % 6][1]};
        v.layernorm = i / 18 & 1;
        v.bias = i / 36 & 1;
        v.over_x = i / 72 & 1;
        v.residual = i % 5 != 0;
        v.p = i / 144 & 1 ? 0.25f : 0;
        v.skew = i % 7 == 3 ? SKEW : 0;
        compare(&v);
    }
}

/* What is refused, by name. */
static void test_mismatch(void) {
    float x[4] = {0}, y[4], w[4] = {0}, rstd[2];
    par_residual r = {.m = 2, .n = 2, .x = x, .y = y};
    par_norm a = {.m = 2, .n = 2, .x = x, .w = w, .y = y, .rstd = rstd, .residual = &r};
    if (!bench_ready()) return;
    CHECK_FAILS(par_rmsnorm_run(bench_subject, NULL, &a, NULL), PAR_ERR_ARG,
                "its y is the norm's x");
    a.x = y, a.y = x, r.m = 1;
    CHECK_FAILS(par_rmsnorm_run(bench_subject, NULL, &a, NULL), PAR_ERR_ARG, "must be fp32 [2, 2]");
}

const harness_case norm_residual_cases[] = {
    {"norm_residual", test_norm_residual, 0, NULL, 0},
    {"norm_residual_mismatch", test_mismatch, 0, NULL, 0},
};
const int n_norm_residual_cases = HARNESS_COUNT(norm_residual_cases);
