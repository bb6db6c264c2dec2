/*
 * Kernels against an oracle that shares nothing with them: forwards written again in double from
 * the formulas, and backwards as central differences of those.
 *
 * With h = 1e-5 a central difference errs by h² f'''/6 + 2^-53 |f| / h, about 1e-10 for values of
 * order 1. ref rounds a result once (2^-24 of it) and reads statistics that were rounded once: 1e-6
 * of the tensor's norm is ample. Another fp32 version adds up to 100 terms in fp32: 100 u = 6e-6,
 * so 2e-5. A result that is zero by construction (dq of a single key) keeps the rounding noise of
 * terms of order 1, some 1e-7 per element: below a root mean square of 1e-2 the norm counts as
 * that.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "par/random.h"

enum { MAX = 4096 };

static double bound(void) {
    return bench_is_ref ? 1e-6 : 2e-5;
}

static void noise(double *x, float *single, int64_t n, uint64_t seed) {
    for (int64_t i = 0; i < n; i++) x[i] = single[i] = harness_noise(seed, (uint64_t)i);
}

static void check_close(const char *what, const float *x, const double *oracle, int64_t n) {
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        difference += (x[i] - oracle[i]) * (x[i] - oracle[i]);
        norm += oracle[i] * oracle[i];
    }
    double error = sqrt(difference / fmax(norm, 1e-4 * (double)n));
    CHECK(error <= bound(), "%s differs from its oracle by %.3g of its norm, allowed %.3g", what,
          error, bound());
}

/* d loss / d x by central differences */
static void differentiate(double (*loss)(const void *), const void *problem, double *x, int64_t n,
                          double *gradient) {
    const double h = 1e-5;
    for (int64_t i = 0; i < n; i++) {
        double kept = x[i];
        x[i] = kept + h;
        double above = loss(problem);
        x[i] = kept - h;
        double below = loss(problem);
        x[i] = kept;
        gradient[i] = (above - below) / (2 * h);
    }
}

/* ---- norms: loss = sum dy · y ---- */

typedef struct {
    int64_t m, n;
    double eps;
    bool layernorm;
    double x[MAX], w[MAX], b[MAX], dy[MAX], y[MAX];
} norm_problem;

static void norm_forward(const norm_problem *p, double *y) {
    for (int64_t i = 0; i < p->m; i++) {
        const double *x = p->x + i * p->n;
        double mean = 0, square = 0;
        for (int64_t j = 0; j < p->n; j++) mean += x[j];
        mean = p->layernorm ? mean / (double)p->n : 0;
        for (int64_t j = 0; j < p->n; j++) square += x[j] * x[j];
        double denominator = sqrt(square / (double)p->n - mean * mean + p->eps);
        for (int64_t j = 0; j < p->n; j++)
            y[i * p->n + j] = (x[j] - mean) / denominator * p->w[j] + (p->layernorm ? p->b[j] : 0);
    }
}

static double norm_loss(const void *problem) {
    static double y[MAX];
    const norm_problem *p = problem;
    double sum = 0;
    norm_forward(p, y);
    for (int64_t i = 0; i < p->m * p->n; i++) sum += y[i] * p->dy[i];
    return sum;
}

static void norm_case(int64_t m, int64_t n, bool layernorm) {
    static norm_problem p;
    static float x[MAX], w[MAX], b[MAX], dy[MAX], y[MAX], dx[MAX], dw[MAX], db[MAX], mean[MAX],
        rstd[MAX];
    static double g[MAX];
    p.m = m;
    p.n = n;
    p.layernorm = layernorm;
    p.eps = (double)1e-3f;
    noise(p.x, x, m * n, 1);
    noise(p.w, w, n, 2);
    noise(p.b, b, n, 3);
    noise(p.dy, dy, m * n, 4);
    par_norm a = {.m = m,
                  .n = n,
                  .eps = 1e-3f,
                  .x = x,
                  .w = w,
                  .y = y,
                  .rstd = rstd,
                  .dy = dy,
                  .dx = dx,
                  .dw = dw};
    if (layernorm) a.b = b, a.mean = mean, a.db = db;
    layernorm ? bench_layernorm(bench_alone(), &a) : bench_rmsnorm(bench_alone(), &a);
    layernorm ? bench_layernorm_backward(bench_alone(), &a)
              : bench_rmsnorm_backward(bench_alone(), &a);
    norm_forward(&p, p.y);
    check_close("y of a norm", y, p.y, m * n);
    differentiate(norm_loss, &p, p.x, m * n, g);
    check_close("dx of a norm", dx, g, m * n);
    differentiate(norm_loss, &p, p.w, n, g);
    check_close("dw of a norm", dw, g, n);
    differentiate(norm_loss, &p, p.b, n, g);
    if (layernorm) check_close("db of a norm", db, g, n);
}

static void test_norm(void) {
    if (!bench_ready()) return;
    for (int layernorm = 0; layernorm < 2; layernorm++) {
        norm_case(5, 8, layernorm);
        norm_case(3, 17, layernorm);
        norm_case(1, 33, layernorm);
    }
}

/* ---- attention: loss = sum dO · o, scores never kept, softmax without its maximum ---- */

typedef struct {
    int64_t B, T, H, K, D;
    double scale;
    par_dropout dropout;
    double q[MAX], k[MAX], v[MAX], d_o[MAX], o[MAX], lse[MAX];
} attention_problem;

/* From the comment of par_dropout, with literal indices. */
static double mask(const par_dropout *d, int64_t T, int64_t row, int64_t e) {
    if (d->p == 0) return 1;
    uint64_t n = (uint64_t)(*d->sample_base + d->first_sample + row / T);
    uint32_t out[4], key[2] = {(uint32_t)(d->seed & 0xffffffffu), (uint32_t)(d->seed >> 32)};
    uint32_t counter[4] = {(uint32_t)(e / 4), (uint32_t)(row % T), (uint32_t)(n & 0xffffffffu),
                           (uint32_t)((n >> 32 & 0xffff) | (uint64_t)d->site << 16)};
    par_philox(counter, key, out);
    return (double)out[e % 4] / 4294967296.0 >= (double)d->p ? 1 / (1 - (double)d->p) : 0;
}

static void attend(const attention_problem *p, int64_t b, int64_t h, int64_t i, double *o,
                   double *lse) {
    double sum = 0;
    for (int64_t d = 0; d < p->D; d++) o[d] = 0;
    for (int64_t j = 0; j <= i; j++) {
        const double *q = p->q + ((b * p->T + i) * p->H + h) * p->D;
        int64_t at = ((b * p->T + j) * p->K + h * p->K / p->H) * p->D;
        double s = 0;
        for (int64_t d = 0; d < p->D; d++) s += q[d] * p->k[at + d];
        double weight = exp(p->scale * s),
               z = mask(&p->dropout, p->T, b * p->T + i, (2 + h) * p->T + j);
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

static void attention_case(int64_t B, int64_t T, int64_t H, int64_t K, int64_t D, float drop) {
    static attention_problem p;
    static float q[MAX], k[MAX], v[MAX], d_o[MAX], o[MAX], lse[MAX], dq[MAX], dk[MAX], dv[MAX];
    static double g[MAX];
    static const int64_t base = INT64_C(0x2fffffff0);
    int64_t nq = B * T * H * D, nk = B * T * K * D;
    p.B = B, p.T = T, p.H = H, p.K = K, p.D = D;
    p.scale = 0.75;
    p.dropout = (par_dropout){drop, UINT64_C(0xfedcba9876543210), &base, 14, 40000};
    noise(p.q, q, nq, 1);
    noise(p.k, k, nk, 2);
    noise(p.v, v, nk, 3);
    noise(p.d_o, d_o, nq, 4);
    par_attention a = {.B = B,
                       .T = T,
                       .H = H,
                       .K = K,
                       .D = D,
                       .first_head = 2,
                       .scale = 0.75f,
                       .dropout = p.dropout};
    a.ldq = a.ldo = a.ldd_o = a.lddq = H * D;
    a.ldk = a.ldv = a.lddk = a.lddv = K * D;
    a.q = q, a.k = k, a.v = v, a.o = o, a.lse = lse, a.d_o = d_o, a.dq = dq, a.dk = dk, a.dv = dv;
    bench_attention(bench_alone(), &a);
    bench_attention_backward(bench_alone(), &a);
    attention_loss(&p);
    check_close("o of attention", o, p.o, nq);
    check_close("lse of attention", lse, p.lse, B * H * T);
    differentiate(attention_loss, &p, p.q, nq, g);
    check_close("dq of attention", dq, g, nq);
    differentiate(attention_loss, &p, p.k, nk, g);
    check_close("dk of attention", dk, g, nk);
    differentiate(attention_loss, &p, p.v, nk, g);
    check_close("dv of attention", dv, g, nk);
}

static void test_attention(void) {
    if (!bench_ready_for(PAR_OP_ATTENTION) || !bench_ready_for(PAR_OP_ATTENTION_BACKWARD)) return;
    attention_case(2, 5, 4, 2, 3, 0);
    attention_case(1, 9, 6, 1, 2, 0.3f);
    attention_case(3, 6, 3, 3, 5, 0.5f);
    attention_case(1, 1, 2, 1, 8, 0);
}

/* ---- activations, a point at a time ---- */

static double gelu(double x, bool erf_form) {
    /* 1 + erf(x / sqrt 2) = erfc(-x / sqrt 2); 1 + tanh z = 2 / (1 + exp(-2 z)) */
    if (erf_form) return x * erfc(-x / sqrt(2)) / 2;
    return x / (1 + exp(-2 * sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * pow(x, 3))));
}

static double silu(double x) {
    return x * (1 + tanh(x / 2)) / 2;
}

static double slope(double (*f)(double), double x) {
    return (f(x + 1e-5) - f(x - 1e-5)) / 2e-5;
}

static double gelu_tanh(double x) {
    return gelu(x, false);
}

static double gelu_erf(double x) {
    return gelu(x, true);
}

static void test_activation(void) {
    enum { N = 801 };
    static float x[2 * N], y[N], dy[N], dx[2 * N];
    static double oracle[2 * N];
    if (!bench_ready()) return;
    for (int form = 0; form < 2; form++) {
        for (int i = 0; i < N; i++)
            x[i] = (float)(i - 400) / 50, dy[i] = harness_noise(1, (uint64_t)i);
        par_gelu a = {.n = N, .erf = form, .x = x, .y = y, .dy = dy, .dx = dx};
        bench_gelu(bench_alone(), &a);
        bench_gelu_backward(bench_alone(), &a);
        for (int i = 0; i < N; i++) oracle[i] = gelu((double)x[i], form);
        check_close("gelu", y, oracle, N);
        for (int i = 0; i < N; i++)
            oracle[i] = dy[i] * slope(form ? gelu_erf : gelu_tanh, (double)x[i]);
        check_close("dx of gelu", dx, oracle, N);
    }
    for (int i = 0; i < N; i++)
        x[i] = (float)(i - 400) / 25, x[N + i] = harness_noise(2, (uint64_t)i);
    par_swiglu a = {.m = 1, .n = N, .x = x, .y = y, .dy = dy, .dx = dx};
    bench_swiglu(bench_alone(), &a);
    bench_swiglu_backward(bench_alone(), &a);
    for (int i = 0; i < N; i++) oracle[i] = silu((double)x[i]) * x[N + i];
    check_close("swiglu", y, oracle, N);
    for (int i = 0; i < N; i++) {
        oracle[i] = dy[i] * slope(silu, (double)x[i]) * x[N + i];
        oracle[N + i] = dy[i] * silu((double)x[i]);
    }
    check_close("dx of swiglu", dx, oracle, 2 * N);
}

/* A pair (x1, x2) is the complex x1 + i x2 times exp(i angle); inverse is the way back. */
static void test_rope(void) {
    enum { M = 11, T = 4, HEADS = 3, HALF = 4, WIDTH = HEADS * 2 * HALF };
    static float x[M * WIDTH], before[M * WIDTH], cosine[T * HALF], sine[T * HALF];
    static double oracle[M * WIDTH];
    if (!bench_ready()) return;
    for (int i = 0; i < M * WIDTH; i++) x[i] = before[i] = harness_noise(1, (uint64_t)i);
    for (int i = 0; i < T * HALF; i++) {
        double angle = (double)(i / HALF) * pow(10000, -(double)(i % HALF) / HALF);
        cosine[i] = (float)cos(angle);
        sine[i] = (float)sin(angle);
    }
    for (int r = 0; r < M; r++)
        for (int h = 0; h < HEADS; h++)
            for (int i = 0; i < HALF; i++) {
                int at = r * WIDTH + h * 2 * HALF + i;
                double angle = (double)((6 + r) % T) * pow(10000, -(double)i / HALF);
                double radius = hypot((double)x[at], (double)x[at + HALF]);
                double phase = atan2((double)x[at + HALF], (double)x[at]) + angle;
                oracle[at] = radius * cos(phase);
                oracle[at + HALF] = radius * sin(phase);
            }
    par_rope a = {.m = M,
                  .heads = HEADS,
                  .head_size = 2 * HALF,
                  .T = T,
                  .first_row = 6,
                  .x = x,
                  .ldx = WIDTH};
    a.cos = cosine;
    a.sin = sine;
    bench_rope(bench_alone(), &a);
    check_close("rope", x, oracle, M * WIDTH);
    a.inverse = true;
    bench_rope(bench_alone(), &a);
    for (int i = 0; i < M * WIDTH; i++) oracle[i] = before[i];
    check_close("rope and back", x, oracle, M * WIDTH);
}

/* ---- cross-entropy over a vocabulary split over p ranks, with padding, against one softmax
 * ---- */

enum { ROWS = 6, VOCABULARY = 23 };

typedef struct {
    double x[ROWS * VOCABULARY];
    const int32_t *targets;
} xent_problem;

static double xent_loss(const void *problem) {
    const xent_problem *p = problem;
    double loss = 0;
    for (int i = 0; i < ROWS; i++) {
        double sum = 0;
        if (p->targets[i] < 0) continue;
        for (int j = 0; j < VOCABULARY; j++) sum += exp(p->x[i * VOCABULARY + j]);
        loss += log(sum) - p->x[i * VOCABULARY + p->targets[i]];
    }
    return loss;
}

static void xent_split(const xent_problem *problem, int p, int per_rank, const double *gradient) {
    static float logits[4][ROWS * (VOCABULARY + 3)], stats[4 * ROWS * 3], lse[ROWS], sums[2],
        dx[ROWS * VOCABULARY];
    static double scaled[ROWS * VOCABULARY];
    static const float seed = 0.25f;
    int ld = per_rank + 2;
    par_xent a = {.m = ROWS,
                  .n = per_rank,
                  .ldx = ld,
                  .targets = problem->targets,
                  .p = p,
                  .lse = lse,
                  .sums = sums};
    a.seed = &seed;
    for (int pass = 0; pass < 2; pass++) {
        for (int r = 0; r < p; r++) {
            a.begin = (int64_t)r * per_rank;
            a.valid = VOCABULARY - a.begin < per_rank ? VOCABULARY - a.begin : per_rank;
            if (a.valid < 0) a.valid = 0;
            a.logits = logits[r];
            a.stats = stats + (ptrdiff_t)r * ROWS * 3;
            for (int i = 0; pass == 0 && i < ROWS * ld; i++) {
                bool valid = i % ld < a.valid;
                logits[r][i] =
                    valid ? (float)problem->x[i / ld * VOCABULARY + a.begin + i % ld] : NAN;
            }
            pass == 0 ? bench_xent_stats(bench_alone(), &a)
                      : bench_xent_backward(bench_alone(), &a);
            for (int i = 0; pass == 1 && i < ROWS * per_rank; i++) {
                int64_t row = i / per_rank, column = i % per_rank;
                float d = logits[r][row * ld + column];
                if (column < a.valid) dx[row * VOCABULARY + a.begin + column] = d;
                CHECK(column < a.valid || d == 0, "padding column %lld has gradient %g",
                      (long long)column, (double)d);
            }
        }
        a.stats = stats;
        if (pass == 0) bench_xent_loss(bench_alone(), &a);
    }
    double loss = xent_loss(problem);
    CHECK(fabs(sums[0] - loss) <= bound() * loss && sums[1] == 4,
          "p = %d: loss %.9g of %g rows, not %.9g of 4", p, (double)sums[0], (double)sums[1], loss);
    for (int i = 0; i < ROWS * VOCABULARY; i++) scaled[i] = 0.25 * gradient[i];
    check_close("dlogits of a split vocabulary", dx, scaled, ROWS * VOCABULARY);
    for (int i = 0; i < VOCABULARY; i++)
        CHECK(dx[VOCABULARY + i] == 0, "an ignored row has a gradient");
}

static void test_xent(void) {
    static const int32_t targets[ROWS] = {0, -1, 22, 11, -100, 7};
    static xent_problem problem;
    static double gradient[ROWS * VOCABULARY];
    static float x[ROWS * VOCABULARY];
    if (!bench_ready()) return;
    problem.targets = targets;
    noise(problem.x, x, ROWS * VOCABULARY, 5);
    for (int i = 0; i < ROWS * VOCABULARY; i++) problem.x[i] = (double)(x[i] * 4);
    differentiate(xent_loss, &problem, problem.x, ROWS * VOCABULARY, gradient);
    xent_split(&problem, 1, 23, gradient);
    xent_split(&problem, 1, 24, gradient);
    xent_split(&problem, 2, 12, gradient);
    xent_split(&problem, 3, 8, gradient);
    xent_split(&problem, 4, 8, gradient); /* the last rank has no valid column */
}

/* ---- gemm, rows and their gradients by definition ---- */

static void test_gemm(void) {
    enum { M = 5, N = 7, L = 13 };
    static float a[M * L], b[L * N], bias[N], c[M * N];
    static double oracle[M * N];
    if (!bench_ready()) return;
    for (int i = 0; i < M * L; i++) a[i] = (float)(i % 7 - 3);
    for (int i = 0; i < L * N; i++) b[i] = (float)(i % 5 - 2);
    for (int j = 0; j < N; j++) bias[j] = (float)j;
    for (int t = 0; t < 4; t++) {
        bool ta = t & 1, tb = t & 2;
        par_gemm g = {.ta = ta,
                      .tb = tb,
                      .m = M,
                      .n = N,
                      .k = L,
                      .a = a,
                      .b = b,
                      .c = c,
                      .bias = bias,
                      .ldc = N,
                      .beta = 1};
        g.lda = ta ? M : L;
        g.ldb = tb ? L : N;
        for (int i = 0; i < M * N; i++) {
            double sum = 100 + i + i % N;
            for (int l = 0; l < L; l++)
                sum += (double)a[ta ? l * M + i / N : i / N * L + l] *
                       b[tb ? i % N * L + l : l * N + i % N];
            c[i] = (float)(100 + i);
            oracle[i] = sum;
        }
        bench_gemm(bench_alone(), &g);
        for (int i = 0; i < M * N; i++)
            CHECK(c[i] == (float)oracle[i], "gemm of integers, ta %d tb %d: c[%d] is %g, not %g",
                  ta, tb, i, (double)c[i], oracle[i]);
    }
}

/* A table split in three, the parts added: each row once; its backward counts each id. */
static void test_embedding(void) {
    enum { M = 9, N = 3, TABLE = 10 };
    static const int32_t ids[M] = {0, 9, 4, 4, 3, 7, 4, 0, 6};
    static const int64_t begin[] = {0, 4, 7}, rows[] = {4, 3, 3};
    float table[TABLE * N], y[M * N] = {0}, dy[M * N], dtable[TABLE * N];
    if (!bench_ready()) return;
    for (int i = 0; i < TABLE * N; i++) table[i] = (float)(i + 1);
    for (int i = 0; i < M * N; i++) dy[i] = 1;
    for (int r = 0; r < 3; r++) {
        par_embedding a = {
            .m = M, .n = N, .rows = rows[r], .begin = begin[r], .ids = ids, .y = y, .dy = dy};
        a.table = table + begin[r] * N;
        a.dtable = dtable + begin[r] * N;
        a.accumulate = true;
        bench_embedding(bench_alone(), &a);
        bench_embedding_backward(bench_alone(), &a);
    }
    for (int i = 0; i < M * N; i++)
        CHECK(y[i] == (float)(ids[i / N] * N + i % N + 1), "row %d of the split table is %g", i / N,
              (double)y[i]);
    for (int i = 0; i < TABLE; i++) {
        int count = 0;
        for (int j = 0; j < M; j++) count += ids[j] == i;
        CHECK(dtable[i * N] == (float)count, "id %d was counted %g times, not %d", i,
              (double)dtable[i * N], count);
    }
}

static void test_dropout(void) {
    enum { M = 40, N = 37, T = 8 };
    static float x[M * N], y[M * N];
    static const int64_t base = INT64_C(0xfffffffe);
    int kept = 0;
    if (!bench_ready()) return;
    for (int i = 0; i < M * N; i++) x[i] = 1;
    par_residual a = {.m = M, .n = N, .T = T, .first_row = 16, .x = x, .y = y};
    a.dropout = (par_dropout){0.25f, 7, &base, 1, 3};
    bench_residual(bench_alone(), &a);
    for (int i = 0; i < M * N; i++) {
        double z = mask(&a.dropout, T, 16 + i / N, i % N);
        CHECK(y[i] == (float)z, "dropout of element %d gives %g, not %g", i, (double)y[i], z);
        kept += y[i] != 0;
    }
    /* 1480 draws of probability 3/4: 1110, standard deviation 16.7; 4 of them */
    CHECK(abs(kept - 1110) < 67, "%d of 1480 elements were kept at p = 1/4", kept);
}

/* ---- updates: the closed forms of the first step, and the recurrences in double for some more
 * ---- */

static void test_adamw(void) {
    float w = 2, m = 0, v = 0, grad = 0;
    double lr = (double)1e-2f, b1 = (double)0.9f, b2 = (double)0.999f, ow = 2, om = 0, ov = 0;
    par_step step;
    par_update a = {.n = 1,
                    .master = &w,
                    .grad = &grad,
                    .m = &m,
                    .v = &v,
                    .step = &step,
                    .b1 = 0.9f,
                    .b2 = 0.999f};
    if (!bench_ready()) return;
    a.eps = 1e-8f;
    a.decay = 0.5f;
    for (int t = 1; t <= 20; t++) {
        step = bench_step(1e-2f, 0.5f, t, b1, b2);
        grad = harness_noise(1, (uint64_t)t);
        double g = 0.5 * (double)grad;
        om = b1 * om + (1 - b1) * g;
        ov = b2 * ov + (1 - b2) * g * g;
        double mhat = om / (1 - pow(b1, t)), vhat = ov / (1 - pow(b2, t));
        ow = ow * (1 - lr * 0.5) - lr * mhat / (sqrt(vhat) + (double)1e-8f);
        bench_adamw(bench_alone(), &a);
        if (t == 1) /* whatever the gradient: -lr sign(g) after the decay */
            CHECK(fabs(w - (2 * (1 - lr * 0.5) - lr * copysign(1, g))) < 1e-6,
                  "the first step of adamw is %g", (double)w - 2);
        CHECK(fabs(w - ow) <= 1e-7 * (3 + t) * 2, "adamw after %d steps is %.9g, not %.9g", t,
              (double)w, ow);
    }
}

static void test_sgd(void) {
    float w = 1, m = NAN, grad = 1;
    double ow = 1, om = 0;
    par_step step;
    par_update a = {
        .n = 1, .master = &w, .grad = &grad, .m = &m, .step = &step, .b1 = 0.5f, .decay = 0.25f};
    if (!bench_ready()) return;
    for (int t = 1; t <= 5;
         t++) { /* powers of two: exact in fp32 for five steps, but for the last bits */
        step = bench_step(0.125f, 2, t, 0.5, 0);
        om = (t == 1 ? 0 : 0.5 * om) + 2 + 0.25 * ow;
        ow -= 0.125 * om;
        bench_sgd(bench_alone(), &a);
        CHECK(fabs(w - ow) < 1e-6 && fabs(m - om) < 1e-6,
              "sgd after %d steps is %.9g, m %.9g, not %.9g, %.9g", t, (double)w, (double)m, ow,
              om);
    }
}

const harness_case oracle_cases[] = {
    {.name = "oracle_norm", .run = test_norm},
    {.name = "oracle_attention", .run = test_attention},
    {.name = "oracle_activation", .run = test_activation},
    {.name = "oracle_rope", .run = test_rope},
    {.name = "oracle_xent", .run = test_xent},
    {.name = "oracle_gemm", .run = test_gemm},
    {.name = "oracle_embedding", .run = test_embedding},
    {.name = "oracle_dropout", .run = test_dropout},
    {.name = "oracle_adamw", .run = test_adamw},
    {.name = "oracle_sgd", .run = test_sgd},
};
const int n_oracle_cases = HARNESS_COUNT(oracle_cases);
