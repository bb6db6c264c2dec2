/*
 * Times every operation of a backend at the shapes of GPT-2 124M (batch 4, 256 tokens) and prints the median
 * of the runs with GFLOP/s or GB/s and the spread (slowest quartile over fastest quartile). With --ref, each
 * operation also runs on `ref` at a smaller shape, and the ratio of the times is printed. With --dtype bf16
 * or fp16, runs in that type alternate with runs in fp32, and the ratio of the lower quartiles of their
 * processor times is printed: other processes on the machine disturb it little. Use one thread for that,
 * because threads that wait for each other spin.
 *
 *     kernels [--backend cpu] [--seconds 0.3] [--dtype fp32] [--filter TEXT] [--ref]
 *
 * Threads: OMP_NUM_THREADS. Floating-point work is the operation's definition (2 m n k; attention counts the
 * causal half), bytes are each operand once.
 */
#define _POSIX_C_SOURCE 200809L /* clock_gettime */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "par/kernels.h"

enum { C = 768, HEADS = 12, HEAD = 64, V = 50304, MAX_RUNS = 200 };

/* What one case needs; m tokens of `T` a sample. */
typedef struct {
    par_dtype dtype;
    int64_t m, T, vocabulary;
    void *x, *w, *y, *z, *table, *logits;       /* of dtype */
    float *gradient, *flat, *statistics, *sums; /* gradient: of the table or a weight */
    int32_t *ids;
} buffers;

typedef union {
    par_gemm gemm;
    par_column_sum column_sum;
    par_norm norm;
    par_rope rope;
    par_attention attention;
    par_gelu gelu;
    par_swiglu swiglu;
    par_embedding embedding;
    par_xent xent;
    par_residual residual;
    par_update update;
    par_norm2 norm2;
    par_cast cast;
} any_args;

typedef struct {
    const char *label;
    par_op op;
    any_args args;
    double flops, nbytes; /* flops 0: bound by memory */
} bench_case;

static double clock_s(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double now_s(void) {
    return clock_s(CLOCK_MONOTONIC);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void fail(const char *what) {
    fprintf(stderr, "kernels: %s: %s\n", what, par_error());
    exit(1);
}

static void *take_bytes(size_t nbytes) {
    void *x = malloc(nbytes);
    if (x) return x;
    fprintf(stderr, "kernels: no memory for %zu bytes\n", nbytes);
    exit(1);
}

static void *take(par_dtype dtype, int64_t n, float magnitude) {
    float *x = take_bytes((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) x[i] = magnitude * ((float)(i * 2654435761u % 65536) / 32768.0f - 1.0f);
    if (dtype == PAR_F32) return x;
    const par_backend *ref = NULL;
    void *rounded = take_bytes((size_t)n * par_dtype_nbytes(dtype));
    const par_cast cast = {.dtype_x = PAR_F32, .dtype_y = dtype, .n = n, .scale = 1, .x = x, .y = rounded};
    if (par_backend_get("ref", &ref) != PAR_OK ||
        par_kernel_run(ref, PAR_OP_CAST, NULL, &cast, NULL) != PAR_OK) {
        fprintf(stderr, "kernels: %s\n", par_error());
        exit(1);
    }
    free(x);
    return rounded;
}

/* Element n of an array of the buffers' type. */
static void *at(const buffers *b, void *x, int64_t n) {
    return (char *)x + (size_t)n * par_dtype_nbytes(b->dtype);
}

static buffers make_buffers(par_dtype dtype, int64_t m, int64_t T, int64_t vocabulary) {
    buffers b = {.dtype = dtype, .m = m, .T = T, .vocabulary = vocabulary};
    int64_t table = vocabulary > 4 * C ? vocabulary * C : 4 * C * C;
    b.x = take(dtype, m * 4 * C, 1);
    b.w = take(dtype, 4 * C * C, 0.02f);
    b.y = take(dtype, m * 4 * C, 1);
    b.z = take(dtype, m * 4 * C, 1);
    b.table = take(dtype, vocabulary * C, 0.02f);
    b.logits = take(dtype, m * vocabulary, 1);
    b.gradient = take(PAR_F32, table, 0.02f);
    b.flat = take(PAR_F32, m * vocabulary, 1);
    for (int64_t i = 0; i < m * vocabulary; i++)
        b.flat[i] = b.flat[i] * b.flat[i]; /* v must not be negative */
    b.statistics = take(PAR_F32, 4 * m * HEADS, 1);
    b.sums = take(PAR_F32, 8 * C, 1);
    b.ids = take_bytes((size_t)m * sizeof(int32_t));
    for (int64_t i = 0; i < m; i++) b.ids[i] = (int32_t)(i * 7919 % vocabulary);
    return b;
}

static void free_buffers(buffers *b) {
    free(b->x), free(b->w), free(b->y), free(b->z), free(b->table), free(b->logits), free(b->flat);
    free(b->gradient), free(b->statistics), free(b->sums), free(b->ids);
}

/* c[m,n] = a · b with b given as [n,k] (tb) or [k,n], or a transposed */
static bench_case gemm_case(const char *label, par_dtype dtype, bool ta, bool tb, int64_t m, int64_t n,
                            int64_t k, const void *a, const void *b, void *c, const void *bias) {
    par_gemm g = {
        dtype, dtype, ta, tb, m, n, k, a, ta ? m : k, b, tb ? k : n, c, n, bias, 0, PAR_EPILOGUE_NONE, NULL};
    return (bench_case){label, PAR_OP_GEMM, {.gemm = g}, 2.0 * (double)m * (double)n * (double)k, 0};
}

static int gemm_cases(const buffers *b, bench_case *out) {
    int64_t m = b->m, vocabulary = b->vocabulary;
    par_dtype t = b->dtype;
    out[0] = gemm_case("gemm qkv + bias", t, false, true, m, 3 * C, C, b->x, b->w, b->y, b->w);
    out[1] = gemm_case("gemm mlp up + bias", t, false, true, m, 4 * C, C, b->x, b->w, b->y, b->w);
    out[2] = gemm_case("gemm mlp down", t, false, true, m, C, 4 * C, b->x, b->w, b->y, NULL);
    out[3] = gemm_case("gemm dx of mlp up", t, false, false, m, C, 4 * C, b->x, b->w, b->y, NULL);
    out[4] = gemm_case("gemm dw of mlp up", t, true, false, 4 * C, C, m, b->x, b->z, b->gradient, NULL);
    out[4].args.gemm.dtype_c = PAR_F32; /* gradients of parameters are fp32, and accumulate */
    out[4].args.gemm.beta = 1;
    out[5] = gemm_case("gemm logits", t, false, true, m, vocabulary, C, b->x, b->table, b->logits, NULL);
    out[6] =
        gemm_case("gemm dx of logits", t, false, false, m, C, vocabulary, b->logits, b->table, b->y, NULL);
    return 7;
}

static int attention_cases(const buffers *b, bench_case *out) {
    int64_t B = b->m / b->T, C3 = 3 * C;
    double T = (double)b->T, flops = 4.0 * (double)B * HEADS * HEAD * T * (T + 1) / 2;
    par_attention a = {
        .dtype = b->dtype, .B = B, .T = b->T, .H = HEADS, .K = HEADS, .D = HEAD, .scale = 0.125f};
    a.q = b->x, a.k = at(b, b->x, C), a.v = at(b, b->x, 2 * C), a.o = b->z, a.lse = b->statistics,
    a.d_o = b->z;
    a.dq = b->y, a.dk = at(b, b->y, C), a.dv = at(b, b->y, 2 * C);
    a.ldq = a.ldk = a.ldv = a.lddq = a.lddk = a.lddv = C3, a.ldo = a.ldd_o = C;
    out[0] = (bench_case){"attention", PAR_OP_ATTENTION, {.attention = a}, flops, 0};
    out[1] = (bench_case){"attention backward", PAR_OP_ATTENTION_BACKWARD, {.attention = a}, 2.5 * flops, 0};
    a.dropout = (par_dropout){.p = 0.1f, .seed = 1, .site = 1};
    out[2] = (bench_case){"attention, dropout", PAR_OP_ATTENTION, {.attention = a}, flops, 0};
    out[3] = (bench_case){
        "attention backward, dropout", PAR_OP_ATTENTION_BACKWARD, {.attention = a}, 2.5 * flops, 0};
    return 4;
}

static int row_cases(const buffers *b, bench_case *out) {
    double size = (double)par_dtype_nbytes(b->dtype), n = size * (double)b->m * C;
    int64_t m = b->m;
    par_column_sum s = {b->dtype, m, 4 * C, b->x, 4 * C, b->sums, 1};
    par_norm f = {.dtype = b->dtype,
                  .m = m,
                  .n = C,
                  .eps = 1e-5f,
                  .x = b->x,
                  .w = b->w,
                  .b = b->w,
                  .y = b->y,
                  .mean = b->statistics,
                  .rstd = b->statistics + m};
    par_norm d = f;
    d.dy = b->z, d.dx = b->y, d.dw = b->sums, d.db = b->sums + C, d.beta = 1;
    par_rope r = {b->dtype, m, HEADS, HEAD, b->T, 0, b->y, C, b->flat, b->flat, false};
    par_residual e = {
        .dtype = b->dtype, .m = m, .n = C, .T = b->T, .x = b->x, .bias = b->w, .residual = b->z, .y = b->y};
    par_residual p = e;
    p.dropout = (par_dropout){.p = 0.1f, .seed = 1};
    out[0] = (bench_case){"column_sum [m, 4C]", PAR_OP_COLUMN_SUM, {.column_sum = s}, 0, 4 * n};
    out[1] = (bench_case){"layernorm", PAR_OP_LAYERNORM, {.norm = f}, 0, 2 * n};
    out[2] = (bench_case){"layernorm backward", PAR_OP_LAYERNORM_BACKWARD, {.norm = d}, 0, 3 * n};
    out[3] = (bench_case){"rmsnorm", PAR_OP_RMSNORM, {.norm = f}, 0, 2 * n};
    out[4] = (bench_case){"rmsnorm backward", PAR_OP_RMSNORM_BACKWARD, {.norm = d}, 0, 3 * n};
    out[5] = (bench_case){"rope", PAR_OP_ROPE, {.rope = r}, 0, 2 * n};
    out[6] = (bench_case){"residual", PAR_OP_RESIDUAL, {.residual = e}, 0, 3 * n};
    out[7] = (bench_case){"residual, dropout", PAR_OP_RESIDUAL, {.residual = p}, 0, 3 * n};
    return 8;
}

static int pointwise_cases(const buffers *b, bench_case *out) {
    int64_t n = b->m * 4 * C;
    double nbytes = (double)par_dtype_nbytes(b->dtype) * (double)n;
    par_gelu g = {b->dtype, n, false, b->x, b->y, b->z, b->y}, e = g;
    par_swiglu s = {b->dtype, b->m, 2 * C, b->x, b->y, b->z, b->y};
    e.erf = true;
    out[0] = (bench_case){"gelu tanh", PAR_OP_GELU, {.gelu = g}, 0, 2 * nbytes};
    out[1] = (bench_case){"gelu tanh backward", PAR_OP_GELU_BACKWARD, {.gelu = g}, 0, 3 * nbytes};
    out[2] = (bench_case){"gelu erf", PAR_OP_GELU, {.gelu = e}, 0, 2 * nbytes};
    out[3] = (bench_case){"gelu erf backward", PAR_OP_GELU_BACKWARD, {.gelu = e}, 0, 3 * nbytes};
    out[4] = (bench_case){"swiglu", PAR_OP_SWIGLU, {.swiglu = s}, 0, 1.5 * nbytes};
    out[5] = (bench_case){"swiglu backward", PAR_OP_SWIGLU_BACKWARD, {.swiglu = s}, 0, 2.5 * nbytes};
    return 6;
}

static int vocabulary_cases(const buffers *b, bench_case *out) {
    double size = (double)par_dtype_nbytes(b->dtype), n = size * (double)b->m * C,
           logits = size * (double)b->m * (double)b->vocabulary;
    par_embedding e = {.dtype = b->dtype,
                       .m = b->m,
                       .n = C,
                       .rows = b->vocabulary,
                       .ids = b->ids,
                       .T = b->T,
                       .table = b->table,
                       .y = b->y,
                       .dy = b->z,
                       .dtable = b->gradient,
                       .beta = 1};
    static const float seed = 1;
    par_xent x = {.dtype = b->dtype,
                  .m = b->m,
                  .n = b->vocabulary,
                  .valid = b->vocabulary - 47,
                  .logits = b->logits,
                  .ldx = b->vocabulary,
                  .targets = b->ids,
                  .p = 1,
                  .stats = b->statistics,
                  .lse = b->statistics + 3 * b->m,
                  .sums = b->sums,
                  .seed = &seed};
    out[0] = (bench_case){"embedding", PAR_OP_EMBEDDING, {.embedding = e}, 0, 2 * n};
    out[1] =
        (bench_case){"embedding backward, beta 1", PAR_OP_EMBEDDING_BACKWARD, {.embedding = e}, 0, 3 * n};
    out[2] = (bench_case){"xent stats", PAR_OP_XENT_STATS, {.xent = x}, 0, logits};
    out[3] = (bench_case){"xent loss", PAR_OP_XENT_LOSS, {.xent = x}, 0, 16.0 * (double)b->m};
    out[4] = (bench_case){"xent backward", PAR_OP_XENT_BACKWARD, {.xent = x}, 0, 2 * logits};
    return 5;
}

/* Four arrays in `flat`, each far larger than the caches. */
static int update_cases(const buffers *b, bench_case *out) {
    int64_t n = b->m * b->vocabulary / 4;
    double nbytes = 4.0 * (double)n;
    float *x = b->flat;
    static const par_step step = {.t = 2, .correction1 = 0.19, .correction2 = 0.0975, .grad_scale = 1};
    par_update u = {.n = n,
                    .dtype = b->dtype,
                    .master = x,
                    .weights = b->dtype == PAR_F32 ? NULL : b->logits,
                    .grad = x + n,
                    .m = x + 2 * n,
                    .v = x + 3 * n,
                    .step = &step,
                    .b1 = 0.9,
                    .b2 = 0.95,
                    .eps = 1e-8f,
                    .decay = 0.1f};
    par_norm2 s = {n, x, (double *)(void *)b->sums};
    par_cast c = {PAR_F32, b->dtype, n, 1, x, b->logits}, d = {b->dtype, PAR_F32, n, 1, b->logits, x};
    out[0] = (bench_case){"adamw", PAR_OP_ADAMW, {.update = u}, 0, 7 * nbytes};
    out[1] = (bench_case){"sgd", PAR_OP_SGD, {.update = u}, 0, 5 * nbytes};
    out[2] = (bench_case){"norm2", PAR_OP_NORM2, {.norm2 = s}, 0, nbytes};
    out[3] = (bench_case){"cast from fp32", PAR_OP_CAST, {.cast = c}, 0, 2 * nbytes};
    out[4] = (bench_case){"cast to fp32", PAR_OP_CAST, {.cast = d}, 0, 2 * nbytes};
    return 5;
}

enum { MAX_CASES = 48 };

static int all_cases(const buffers *b, bench_case *out) {
    int n = gemm_cases(b, out);
    n += attention_cases(b, out + n);
    n += row_cases(b, out + n);
    n += pointwise_cases(b, out + n);
    n += vocabulary_cases(b, out + n);
    return n + update_cases(b, out + n);
}

/* Median seconds of a run; *spread is the upper quartile over the lower one. */
static double time_case(const par_backend *backend, const bench_case *c, double seconds, double *spread) {
    double times[MAX_RUNS], start = now_s();
    size_t nbytes = 0;
    int n = 0;
    if (par_kernel_prepare(backend, c->op, &c->args, &nbytes) != PAR_OK) fail(c->label);
    void *workspace = nbytes ? malloc(nbytes) : NULL;
    if (nbytes && !workspace) exit(1);
    do {
        double t = now_s();
        if (par_kernel_run(backend, c->op, NULL, &c->args, workspace) != PAR_OK) fail(c->label);
        times[n++] = now_s() - t;
    } while (n < MAX_RUNS && (n < 3 || now_s() - start < seconds));
    free(workspace);
    qsort(times + 1, (size_t)n - 1, sizeof *times, by_value); /* the first run warms up */
    *spread = times[1 + (n - 1) * 3 / 4] / times[1 + (n - 1) / 4];
    return times[1 + (n - 1) / 2];
}

static void print_backend(const par_backend *backend, double seconds, const char *filter) {
    bench_case cases[MAX_CASES];
    buffers b = make_buffers(PAR_F32, 1024, 256, V);
    int n = all_cases(&b, cases);
    printf("%-28s %-28s %10s %16s %7s\n", "operation", "kernel", "ms", "rate", "spread");
    for (int i = 0; i < n; i++) {
        if (!strstr(cases[i].label, filter)) continue;
        double spread, s = time_case(backend, &cases[i], seconds, &spread);
        double rate = (cases[i].flops > 0 ? cases[i].flops : cases[i].nbytes) / s * 1e-9;
        printf("%-28s %-28s %10.3f %9.1f %s %7.2f\n", cases[i].label, backend->kernels[cases[i].op].name,
               1e3 * s, rate, cases[i].flops > 0 ? "GFLOP/s" : "GB/s   ", spread);
        fflush(stdout);
    }
    free_buffers(&b);
}

static void print_ratios(const par_backend *backend, const par_backend *ref) {
    bench_case cases[MAX_CASES];
    buffers b = make_buffers(PAR_F32, 32, 16, 512);
    int n = all_cases(&b, cases);
    printf("\n32 tokens, 512 entries of vocabulary\n%-28s %10s %10s %8s\n", "operation", "us", "ref us",
           "ratio");
    for (int i = 0; i < n; i++) {
        double spread, s = time_case(backend, &cases[i], 0.02, &spread);
        double s_ref = time_case(ref, &cases[i], 0.02, &spread);
        printf("%-28s %10.1f %10.1f %8.1f\n", cases[i].label, 1e6 * s, 1e6 * s_ref, s_ref / s);
    }
    free_buffers(&b);
}

static void *workspace_of(const par_backend *backend, const bench_case *c) {
    size_t nbytes = 0;
    if (par_kernel_prepare(backend, c->op, &c->args, &nbytes) != PAR_OK) fail(c->label);
    return nbytes ? take_bytes(nbytes) : NULL;
}

/* Lower quartiles of the processor seconds of two cases, run in turns; the first turn warms up. */
static void time_pair(const par_backend *backend, const bench_case *pair[2], double seconds, double out[2]) {
    double times[2][MAX_RUNS], start = now_s();
    void *workspace[2] = {workspace_of(backend, pair[0]), workspace_of(backend, pair[1])};
    int n = 0;
    do {
        for (int i = 0; i < 2; i++) {
            double t = clock_s(CLOCK_PROCESS_CPUTIME_ID);
            if (par_kernel_run(backend, pair[i]->op, NULL, &pair[i]->args, workspace[i]) != PAR_OK)
                fail(pair[i]->label);
            times[i][n] = clock_s(CLOCK_PROCESS_CPUTIME_ID) - t;
        }
        n++;
    } while (n < MAX_RUNS && (n < 5 || now_s() - start < seconds));
    for (int i = 0; i < 2; i++) {
        qsort(times[i] + 1, (size_t)n - 1, sizeof(double), by_value);
        out[i] = times[i][1 + (n - 1) / 4];
        free(workspace[i]);
    }
}

static void print_types(const par_backend *backend, par_dtype dtype, double seconds, const char *filter) {
    bench_case wide[MAX_CASES], narrow[MAX_CASES];
    buffers b = make_buffers(PAR_F32, 1024, 256, V), h = make_buffers(dtype, 1024, 256, V);
    int n = all_cases(&b, wide);
    all_cases(&h, narrow);
    printf("%-28s %12s %9s ms %10s\n", "operation", "fp32 ms", par_dtype_name(dtype), "over fp32");
    for (int i = 0; i < n; i++) {
        if (!strstr(wide[i].label, filter)) continue;
        double s[2];
        time_pair(backend, (const bench_case *[2]){&wide[i], &narrow[i]}, 2 * seconds, s);
        printf("%-28s %12.3f %12.3f %10.2f\n", wide[i].label, 1e3 * s[0], 1e3 * s[1], s[1] / s[0]);
        fflush(stdout);
    }
    free_buffers(&b);
    free_buffers(&h);
}

static par_dtype dtype_of(const char *name) {
    for (par_dtype t = PAR_F32; t <= PAR_F16; t++)
        if (strcmp(par_dtype_name(t), name) == 0) return t;
    fprintf(stderr, "kernels: --dtype is \"%s\", must be fp32, bf16 or fp16\n", name);
    exit(2);
}

int main(int argc, char **argv) {
    const par_backend *backend, *ref;
    const char *name = "cpu", *filter = "";
    double seconds = 0.3;
    par_dtype dtype = PAR_F32;
    bool with_ref = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--backend") == 0 && i + 1 < argc)
            name = argv[++i];
        else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc)
            seconds = atof(argv[++i]);
        else if (strcmp(argv[i], "--dtype") == 0 && i + 1 < argc)
            dtype = dtype_of(argv[++i]);
        else if (strcmp(argv[i], "--filter") == 0 && i + 1 < argc)
            filter = argv[++i];
        else if (strcmp(argv[i], "--ref") == 0)
            with_ref = true;
        else {
            fprintf(stderr,
                    "usage: kernels [--backend NAME] [--seconds S] [--dtype fp32|bf16|fp16] [--filter TEXT] "
                    "[--ref]; unknown: %s\n",
                    argv[i]);
            return 2;
        }
    }
    if (par_backend_get(name, &backend) != PAR_OK || par_backend_get("ref", &ref) != PAR_OK)
        fail("--backend");
    if (dtype == PAR_F32)
        print_backend(backend, seconds, filter);
    else
        print_types(backend, dtype, seconds, filter);
    if (with_ref) print_ratios(backend, ref);
    return 0;
}
