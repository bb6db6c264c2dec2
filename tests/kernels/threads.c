/*
 * Results do not depend on the number of threads: every operation of the backend that is cut into
 * ranges, at a size that several threads get a part of, in fp32 and bf16. All have the same bits,
 * except products, whose library may choose another order of additions for another piece.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "par/threads.h"

enum { B = 2, T = 150, H = 4, D = 32, C = H * D, M = B * T, N = 40000, V = 300, ROUNDS = 3 };

/* Inputs are noise, outputs zero; room for fp32. */
typedef struct {
    float x[M * 2 * C], y[M * 2 * C], w[C], b[C], mean[M], rstd[M], dy[M * C], dx[M * 2 * C];
    float dw[C], db[C], sum[2 * C], q[M * C], k[M * C], v[M * C], o[M * C], lse[B * H * T];
    float dq[M * C], dk[M * C], dv[M * C], decoded[B * C], table[V * C], rows[M * C], dtable[V * C];
    float logits[M * V], stats[3 * M], residual[M * C], master[N], grad[N], m[N], s[N], cast[N];
    float angles[T * D / 2], scales[2 * C], product8[B * 2 * C];
    int8_t weights8[2 * C * C];
    int32_t ids[M];
    double norm2[2];
} tensors;

static tensors start, first, now;
static float product[2][M * 2 * C];

static void noise(float *x, int64_t n, uint64_t seed, par_dtype dtype) {
    for (int64_t i = 0; i < n; i++)
        bench_store(x, dtype, i, (double)harness_noise(seed, (uint64_t)i));
}

static void fill(par_dtype dtype) {
    tensors *t = &start;
    memset(t, 0, sizeof *t);
    float *typed[] = {t->x, t->w, t->b, t->dy, t->q, t->k, t->v, t->table, t->residual, t->logits};
    const int64_t n[] = {M * 2 * C, C, C, M * C, M * C, M * C, M * C, V * C, M * C, M * V};
    for (int i = 0; i < 10; i++) noise(typed[i], n[i], (uint64_t)i, dtype);
    noise(t->master, N, 20, PAR_F32);
    noise(t->grad, N, 21, PAR_F32);
    noise(t->angles, T * D / 2, 22, PAR_F32);
    for (int i = 0; i < M; i++) t->ids[i] = i * 7 % V;
}

static bench *alone; /* its buffers are those of this file */

static void run_rows(tensors *t, par_dtype dtype) {
    static const int64_t base = 3;
    par_norm norm = {.dtype = dtype, .m = M, .n = C, .eps = 1e-5f, .x = t->x, .w = t->w, .b = t->b};
    norm.y = t->rows, norm.mean = t->mean, norm.rstd = t->rstd;
    norm.dy = t->dy, norm.dx = t->dx, norm.dw = t->dw, norm.db = t->db;
    bench_layernorm(alone, &norm);
    bench_layernorm_backward(alone, &norm);
    bench_rmsnorm(alone, &norm);
    bench_rmsnorm_backward(alone, &norm);
    bench_column_sum(alone, &(par_column_sum){dtype, M, 2 * C, t->x, 2 * C, t->sum, 0});
    par_residual residual = {.dtype = dtype, .m = M, .n = C, .T = T, .x = t->x, .bias = t->b};
    residual.residual = t->dy, residual.y = t->residual;
    residual.dropout = (par_dropout){.p = 0.1f, .seed = 5, .sample_base = &base};
    bench_residual(alone, &residual);
    par_rope rope = {dtype, M, H, D, T, 0, t->residual, C, t->angles, t->angles, false};
    bench_rope(alone, &rope);
    bench_gelu(alone, &(par_gelu){.dtype = dtype, .n = M * C, .x = t->x, .y = t->y});
    par_swiglu gate = {.dtype = dtype, .m = M, .n = C, .x = t->x, .y = t->y, .dy = t->dy};
    gate.dx = t->dx;
    bench_swiglu(alone, &gate);
    bench_swiglu_backward(alone, &gate);
}

static void run_attention(tensors *t, par_dtype dtype) {
    par_attention a = {.dtype = dtype, .B = B, .T = T, .H = H, .K = H, .D = D, .scale = 0.2f};
    a.q = t->q, a.k = t->k, a.v = t->v, a.o = t->o, a.lse = t->lse, a.d_o = t->dy;
    a.dq = t->dq, a.dk = t->dk, a.dv = t->dv;
    a.ldq = a.ldk = a.ldv = a.ldo = a.ldd_o = a.lddq = a.lddk = a.lddv = C;
    bench_attention(alone, &a);
    bench_attention_backward(alone, &a);
    par_attention_decode one = {.dtype = dtype, .B = B, .H = H, .K = H, .D = D, .capacity = T};
    one.n = T, one.scale = 0.2f, one.q = t->q, one.k = t->k, one.v = t->v, one.ldq = C;
    one.o = t->decoded, one.ldo = C;
    bench_attention_decode(alone, &one);
}

static void run_tables(tensors *t, par_dtype dtype) {
    static const float seed = 0.5f;
    par_embedding e = {.dtype = dtype, .m = M, .n = C, .rows = V, .ids = t->ids, .table = t->table};
    e.y = t->rows, e.dy = t->dy, e.dtable = t->dtable;
    bench_embedding(alone, &e);
    bench_embedding_backward(alone, &e);
    par_xent x = {.dtype = dtype, .m = M, .n = V, .valid = V - 5, .logits = t->logits, .ldx = V};
    x.targets = t->ids, x.p = 1, x.stats = t->stats, x.lse = t->rstd, x.seed = &seed;
    bench_xent_stats(alone, &x);
    bench_xent_backward(alone, &x);
}

static void run_flat(tensors *t, par_dtype dtype) {
    const par_step step = bench_step(0.01f, 0.5f, 2, 0.9, 0.95);
    par_update u = {.dtype = dtype, .n = N, .master = t->master, .grad = t->grad, .m = t->m};
    u.v = t->s, u.step = &step, u.eps = 1e-8f, u.decay = 0.1f, u.b1 = 0.9, u.b2 = 0.95;
    bench_adamw(alone, &u);
    bench_sgd(alone, &u);
    bench_norm2(alone, &(par_norm2){1, &(par_norm2_vector){N, t->grad, t->norm2}});
    bench_cast(alone, &(par_cast){PAR_F32, dtype, N, 3.0f, t->master, t->cast});
}

static void run_int8(tensors *t, par_dtype dtype) {
    par_quantize w = {.dtype = dtype, .m = 2 * C, .n = C, .x = t->x, .ldx = C};
    w.q = t->weights8, w.scales = t->scales;
    bench_quantize(alone, &w);
    par_gemm_int8 g = {.dtype = dtype, .dtype_c = PAR_F32, .m = B, .n = 2 * C, .k = C, .lda = C};
    g.a = t->dy, g.q = t->weights8, g.scales = t->scales, g.c = t->product8, g.ldc = 2 * C;
    bench_gemm_int8(alone, &g);
}

static void run(par_dtype dtype, tensors *t, float *c) {
    par_gemm g = {.dtype = dtype, .dtype_c = PAR_F32, .m = M, .n = 2 * C, .k = C, .tb = true};
    g.a = start.dy, g.lda = C, g.b = start.x, g.ldb = C, g.c = c, g.ldc = 2 * C, g.bias = start.x;
    *t = start;
    alone = bench_alone();
    if (!alone) return;
    bench_gemm(alone, &g);
    run_rows(t, dtype);
    run_attention(t, dtype);
    if (bench_subject->on_host) run_int8(t, dtype);
    run_tables(t, dtype);
    run_flat(t, dtype);
    bench_destroy(alone);
}

/* In falling order, as workspaces are for the number that holds when they are prepared. */
static void test_threads(void) {
    static const int threads[] = {7, 4, 3, 2, 1};
    if (!bench_ready()) return;
    if (!bench_subject->on_host) {
        harness_skip("a device's threads are its own");
        return;
    }
    if (bench_is_ref) {
        harness_skip("ref has one thread");
        return;
    }
    for (par_dtype dtype = PAR_F32; dtype <= PAR_BF16; dtype++) {
        fill(dtype);
        for (int i = 0; i < 5 * ROUNDS; i++) {
            CHECK_OK(par_threads_set(threads[i / ROUNDS]));
            run(dtype, i ? &now : &first, product[i > 0]);
            if (i == 0) continue;
            CHECK(memcmp(&first, &now, sizeof now) == 0, "%s: %d threads give other bits than 7",
                  par_dtype_name(dtype), threads[i / ROUNDS]);
            /* C terms of mean magnitude 1/4 and a bias */
            for (int j = 0; j < M * 2 * C; j++)
                CHECK(fabsf(product[0][j] - product[1][j]) <= (float)bench_sum(C, 0.25),
                      "%s: element %d of the product is %g and %g", par_dtype_name(dtype), j,
                      (double)product[0][j], (double)product[1][j]);
        }
    }
    CHECK_OK(par_threads_set(0));
}

/* beta and the operands' addresses are no part of a shape: a workspace that was asked for with one
 * beta serves the other. */
static void test_workspace_of_a_shape(void) {
    static const int64_t sizes[] = {1, 7, 128, 256, 352, 1024};
    if (!bench_ready()) return;
    for (int i = 0; i < 6 * 6 * 6 * 8; i++) {
        int64_t m = sizes[i / 8 % 6], n = sizes[i / 48 % 6], k = sizes[i / 288];
        size_t nbytes[2] = {0};
        par_gemm g = {.dtype = PAR_BF16, .m = m, .n = n, .k = k, .ta = i % 2, .tb = i / 2 % 2};
        g.dtype_c = i / 4 % 2 ? PAR_F32 : PAR_BF16;
        g.lda = g.ta ? m : k, g.ldb = g.tb ? k : n, g.ldc = n;
        for (int beta = 0; beta < 2; beta++) {
            g.beta = (float)beta;
            CHECK_OK(par_gemm_prepare(bench_subject, &g, &nbytes[beta]));
        }
        CHECK(nbytes[0] == nbytes[1], "m %d, n %d, k %d, case %d: %zu bytes, with beta %zu", (int)m,
              (int)n, (int)k, i % 8, nbytes[0], nbytes[1]);
    }
}

const harness_case threads_cases[] = {
    {.name = "workspace_of_a_shape", .run = test_workspace_of_a_shape},
    {.name = "threads", .run = test_threads},
};
const int n_threads_cases = HARNESS_COUNT(threads_cases);
