/*
 * What stands above the tables of kernels: names, refusals with operation, field and value, host
 * memory, copies and the progress call.
 */
#define _POSIX_C_SOURCE 200112L /* setenv */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "par/kernels.h"
#include "par/threads.h"

static const par_backend *ref(void) {
    const par_backend *backend = NULL;
    CHECK_OK(par_backend_get("ref", &backend));
    return backend;
}

static void test_backends(void) {
    const par_backend *backend = NULL;
    CHECK_FAILS(par_backend_get("reff", &backend), PAR_ERR_OPTION,
                "backend \"reff\" is unknown: there are ref");
    CHECK(!backend, "a refusal wrote a backend");
    CHECK_FAILS(par_backend_get(NULL, &backend), PAR_ERR_ARG, "name");
    static const char *const names[] = {"ref", "cpu"};
    for (int i = 0; i < 2; i++) {
        if (par_backend_get(names[i], &backend) != PAR_OK) continue;
        CHECK(strcmp(backend->name, names[i]) == 0, "backend \"%s\" is called \"%s\"", names[i],
              backend->name);
        for (int op = 0; op < PAR_OP_COUNT; op++) {
            const par_kernel *kernel = &backend->kernels[op];
            size_t length = strlen(par_op_name((par_op)op));
            CHECK(kernel->name && kernel->prepare && kernel->run, "%s has no %s", names[i],
                  par_op_name((par_op)op));
            CHECK(kernel->name && strncmp(kernel->name, par_op_name((par_op)op), length) == 0 &&
                      kernel->name[length] == '/',
                  "%s of %s is called \"%s\"", par_op_name((par_op)op), names[i], kernel->name);
        }
    }
}

static void test_names(void) {
    CHECK(strcmp(par_op_name(PAR_OP_GEMM), "gemm") == 0, "gemm is %s", par_op_name(PAR_OP_GEMM));
    CHECK(strcmp(par_op_name(PAR_OP_CAST), "cast") == 0, "cast is %s", par_op_name(PAR_OP_CAST));
    CHECK(!par_op_name(PAR_OP_COUNT) && !par_op_name((par_op)-1),
          "a value that is not an operation has a name");
    for (int i = 0; i < PAR_OP_COUNT; i++)
        for (int j = 0; j < i; j++)
            CHECK(strcmp(par_op_name((par_op)i), par_op_name((par_op)j)) != 0,
                  "two operations are %s", par_op_name((par_op)i));
}

/* prepare_gemm(&gemm), run_gemm(&gemm), ...: on ref, without a workspace */
#define REF_CALLS(OP, name, type)                                                                  \
    __attribute__((unused)) static inline par_status prepare_##name(const type *args) {            \
        size_t nbytes = 0;                                                                         \
        return par_##name##_prepare(ref(), args, &nbytes);                                         \
    }                                                                                              \
    __attribute__((unused)) static inline par_status run_##name(const type *args) {                \
        return par_##name##_run(ref(), NULL, args, NULL);                                          \
    }
PAR_OP_LIST(REF_CALLS)
#undef REF_CALLS

static void test_gemm(void) {
    const par_gemm good = {.m = 2, .n = 3, .k = 4, .lda = 4, .ldb = 3, .ldc = 3};
    par_gemm g = good;
    CHECK_OK(prepare_gemm(&g));
    CHECK_FAILS(run_gemm(&g), PAR_ERR_ARG, "gemm: a is NULL for 8 elements");
    g.m = -1;
    CHECK_FAILS(prepare_gemm(&g), PAR_ERR_ARG, "gemm: m is -1, must be at least 0");
    g = good, g.lda = 3;
    CHECK_FAILS(prepare_gemm(&g), PAR_ERR_ARG, "gemm: lda is 3, must be at least 4");
    g.ta = true;
    CHECK_OK(prepare_gemm(&g));
    g = good, g.tb = true;
    CHECK_FAILS(prepare_gemm(&g), PAR_ERR_ARG, "gemm: ldb is 3, must be at least 4");
    g = good, g.ldc = 2;
    CHECK_FAILS(prepare_gemm(&g), PAR_ERR_ARG, "gemm: ldc is 2, must be at least 3");
    g = good, g.beta = 0.5f;
    CHECK_FAILS(prepare_gemm(&g), PAR_ERR_ARG, "gemm: beta is 0.5, must be 0 or 1");
    g = good, g.dtype = PAR_I32;
    CHECK_FAILS(prepare_gemm(&g), PAR_ERR_ARG, "gemm: dtype is int32, must be fp32, bf16 or fp16");
    g = good, g.dtype_c = PAR_BF16;
    CHECK_FAILS(prepare_gemm(&g), PAR_ERR_ARG,
                "gemm: dtype_c is bf16, must be fp32 or dtype (fp32)");
    g = good, g.epilogue = PAR_EPILOGUE_BIAS_GRADIENT, g.beta = 1;
    CHECK_OK(prepare_gemm(&g));
    g.beta = 0.5f;
    CHECK_FAILS(prepare_gemm(&g), PAR_ERR_ARG, "gemm: beta is 0.5, must be 0 or 1");
    g.beta = 0, g.bias = &g;
    CHECK_FAILS(prepare_gemm(&g), PAR_ERR_ARG, "a bias: dtype_c must be fp32 and bias NULL");
    g.bias = NULL, g.dtype = g.dtype_c = PAR_BF16;
    CHECK_FAILS(prepare_gemm(&g), PAR_ERR_ARG, "dtype_c bf16");
    g = good, g.m = g.k = INT64_C(1) << 40, g.lda = g.k;
    CHECK_FAILS(prepare_gemm(&g), PAR_ERR_ARG, "above 2^60 elements");
    CHECK_FAILS(par_gemm_run(NULL, NULL, &good, NULL), PAR_ERR_ARG, "backend");
    const par_norm2 norms = {.n_vectors = 2};
    CHECK_FAILS(par_norm2_run(ref(), NULL, &norms, NULL), PAR_ERR_ARG,
                "norm2: vectors is NULL for 2 vectors");
}

static void test_shapes(void) {
    par_attention a = {
        .B = 1, .T = 2, .H = 4, .K = 3, .D = 2, .ldq = 8, .ldk = 6, .ldv = 6, .ldo = 8};
    CHECK_FAILS(prepare_attention(&a), PAR_ERR_ARG,
                "attention: H is 4, must be a multiple of K = 3");
    a.K = 2;
    CHECK_OK(prepare_attention(&a));
    CHECK_FAILS(prepare_attention_backward(&a), PAR_ERR_ARG,
                "attention_backward: ldd_o is 0, must be at least 8");
    a.dropout.p = 1;
    CHECK_FAILS(prepare_attention(&a), PAR_ERR_ARG,
                "attention: dropout.p is 1, must be at least 0 and below 1");
    a.dropout = (par_dropout){.p = 0.5f, .site = 65536};
    CHECK_FAILS(prepare_attention(&a), PAR_ERR_ARG,
                "attention: dropout.site is 65536, must be at most 65535");
    a.dropout.p = NAN;
    CHECK_FAILS(prepare_attention(&a), PAR_ERR_ARG, "attention: dropout.p is ");
    a.dropout.p = 0, a.apart = true;
    CHECK_OK(prepare_attention(&a));
    CHECK_FAILS(run_attention(&a), PAR_ERR_ARG, "attention: documents (apart) is NULL");
    par_attention_decode d = {.B = 1, .H = 4, .K = 3, .D = 2, .capacity = 8, .ldq = 8, .ldo = 8};
    CHECK_FAILS(prepare_attention_decode(&d), PAR_ERR_ARG,
                "attention_decode: H is 4, must be a multiple of K = 3");
    d.K = 2, d.n = 9;
    CHECK_FAILS(prepare_attention_decode(&d), PAR_ERR_ARG,
                "attention_decode: n (capacity) is 9, must be at most 8");
    d.n = 8;
    CHECK_OK(prepare_attention_decode(&d));
    CHECK_FAILS(run_attention_decode(&d), PAR_ERR_ARG, "attention_decode: q is NULL");
    d.ldo = 7;
    CHECK_FAILS(prepare_attention_decode(&d), PAR_ERR_ARG,
                "attention_decode: ldo is 7, must be at least 8");
    par_quantize weights = {.m = 2, .n = 5, .ldx = 4};
    CHECK_FAILS(prepare_quantize(&weights), PAR_ERR_ARG, "quantize: ldx is 4, must be at least 5");
    weights.ldx = 5;
    CHECK_OK(prepare_quantize(&weights));
    CHECK_FAILS(run_quantize(&weights), PAR_ERR_ARG, "quantize: x is NULL");
    par_gemm_int8 g = {.dtype_c = PAR_BF16, .m = 1, .n = 2, .k = 3, .lda = 3, .ldc = 2};
    CHECK_FAILS(prepare_gemm_int8(&g), PAR_ERR_ARG, "gemm_int8: dtype_c is bf16");
    g.dtype_c = PAR_F32, g.ldc = 1;
    CHECK_FAILS(prepare_gemm_int8(&g), PAR_ERR_ARG, "gemm_int8: ldc is 1, must be at least 2");
    par_rope r = {.m = 1, .heads = 1, .head_size = 3, .T = 1, .ldx = 3};
    CHECK_FAILS(prepare_rope(&r), PAR_ERR_ARG, "rope: head_size is 3, must be even");
    r.head_size = 2, r.T = 0;
    CHECK_FAILS(prepare_rope(&r), PAR_ERR_ARG, "rope: T is 0, must be at least 1");
    par_xent x = {.m = 1, .n = 3, .valid = 4, .ldx = 3};
    CHECK_FAILS(prepare_xent_stats(&x), PAR_ERR_ARG, "xent_stats: n is 3, must be at least 4");
    CHECK_FAILS(prepare_xent_loss(&x), PAR_ERR_ARG, "xent_loss: p is 0, must be at least 1");
    par_norm n = {.m = 1, .n = 0};
    CHECK_FAILS(prepare_rmsnorm(&n), PAR_ERR_ARG, "rmsnorm: n is 0, must be at least 1");
    par_embedding e = {.m = 1, .n = 1, .rows = 1};
    CHECK_FAILS(run_embedding(&e), PAR_ERR_ARG,
                "embedding: T (ids is NULL) is 0, must be at least 1");
    float w = 0;
    par_update u = {.n = 1, .master = &w, .grad = &w, .m = &w, .v = &w};
    CHECK_FAILS(run_adamw(&u), PAR_ERR_ARG, "adamw: step is NULL");
    const par_step step = {.t = 1};
    u.step = &step, u.b2 = 1;
    CHECK_FAILS(run_adamw(&u), PAR_ERR_ARG, "adamw: b2 is 1, must be at least 0 and below 1");
    const int32_t target = 0;
    x = (par_xent){.m = 1, .n = 1, .valid = 1, .ldx = 1, .logits = &w, .targets = &target};
    CHECK_FAILS(run_xent_backward(&x), PAR_ERR_ARG, "xent_backward: seed is NULL");
    par_tally y = {.n_norms = -1};
    CHECK_FAILS(prepare_ballot(&y), PAR_ERR_ARG, "ballot: n_norms is -1, must be at least 0");
    y.n_norms = 0, y.n_losses = 1;
    CHECK_FAILS(run_ballot(&y), PAR_ERR_ARG, "ballot: losses is NULL");
    par_vote_call vote = {.n = 0};
    CHECK_FAILS(prepare_vote(&vote), PAR_ERR_ARG, "vote: n is 0, must be at least 1");
    vote.n = 1;
    CHECK_FAILS(run_vote(&vote), PAR_ERR_ARG, "vote: ballots is NULL");
    par_cast c = {.dtype_y = PAR_F16, .n = 1, .x = &w, .y = &w};
    CHECK_FAILS(run_cast(&c), PAR_ERR_ARG, "cast: y is x, but dtype_x is fp32 and dtype_y fp16");
}

/* Nothing to do is not an error, without any pointer. */
static void test_empty(void) {
    par_op_args zero;
    float sums[2] = {NAN, NAN};
    double out[2] = {0, 0};
    memset(&zero, 0, sizeof zero);
    for (int op = 0; op < PAR_OP_COUNT; op++) {
        size_t nbytes = 1, args_nbytes = par_op_args_nbytes((par_op)op);
        const void *args = &zero;
        par_xent loss = {.p = 1, .sums = sums};
        par_step step = {.t = 1};
        par_update update = {.step = &step};
        float seed = 1;
        par_xent backward = {.seed = &seed};
        par_ballot ballot = {0};
        par_tally tally = {.ballot = &ballot};
        par_vote_state state = {.halted = 1};
        par_vote_call vote = {.n = 1, .ballots = &ballot, .state = &state};
        par_norm2_vector nothing = {.out = out};
        par_norm2 norm2 = {1, &nothing};
        if (op == PAR_OP_XENT_LOSS) args = &loss;
        if (op == PAR_OP_ADAMW || op == PAR_OP_SGD) args = &update;
        if (op == PAR_OP_NORM2) args = &norm2;
        if (op == PAR_OP_XENT_BACKWARD) args = &backward;
        if (op == PAR_OP_BALLOT) args = &tally;
        if (op == PAR_OP_VOTE) args = &vote;
        CHECK_OK(par_op_prepare_untyped(ref(), (par_op)op, args, args_nbytes, &nbytes));
        CHECK_OK(par_op_run_untyped(ref(), (par_op)op, NULL, args, args_nbytes, NULL));
    }
    CHECK(sums[0] == 0 && sums[1] == 0, "no rows have the loss %g of %g targets", (double)sums[0],
          (double)sums[1]);
}

/* What no compiler checks: the operation, and that the arguments are its own. */
static void test_untyped(void) {
    const par_gemm g = {.m = 2, .n = 3, .k = 4, .lda = 4, .ldb = 3, .ldc = 3};
    const par_op_args any = {.gemm = g};
    size_t nbytes = 0;
    for (int op = 0; op < PAR_OP_COUNT; op++)
        CHECK(par_op_args_nbytes((par_op)op) > 0, "%s has no arguments", par_op_name((par_op)op));
    CHECK(par_op_args_nbytes(PAR_OP_GEMM) == sizeof g, "a gemm's have %zu bytes",
          par_op_args_nbytes(PAR_OP_GEMM));
    CHECK(par_op_args_nbytes(PAR_OP_COUNT) == 0 && par_op_args_nbytes((par_op)-1) == 0,
          "a value that is not an operation has arguments");
    CHECK_OK(par_op_prepare_untyped(ref(), PAR_OP_GEMM, &g, sizeof g, &nbytes));
    CHECK_OK(par_op_prepare_untyped(ref(), PAR_OP_GEMM, &any, sizeof any, &nbytes));
    CHECK_FAILS(par_op_prepare_untyped(ref(), PAR_OP_COLUMN_SUM, &g, sizeof g, &nbytes),
                PAR_ERR_ARG, "column_sum: the arguments have");
    CHECK_FAILS(par_op_run_untyped(ref(), PAR_OP_COLUMN_SUM, NULL, &g, sizeof g, NULL), PAR_ERR_ARG,
                "must be its struct of");
    CHECK_FAILS(par_op_run_untyped(ref(), PAR_OP_COUNT, NULL, &g, sizeof g, NULL), PAR_ERR_ARG,
                "is unknown");
    CHECK_FAILS(par_op_prepare_untyped(ref(), (par_op)-1, &g, sizeof g, &nbytes), PAR_ERR_ARG,
                "operation -1 is unknown");
}

static void count(void *user) {
    ++*(int *)user;
}

static void test_progress(void) {
    float a[6] = {0}, c[9];
    int calls = 0;
    par_stream stream = {.progress = count, .user = &calls};
    par_gemm g = {.m = 3, .n = 3, .k = 2, .a = a, .lda = 2, .b = a, .ldb = 3, .c = c, .ldc = 3};
    CHECK_OK(par_gemm_run(ref(), &stream, &g, NULL));
    CHECK(calls > 0, "a gemm made no progress");
}

/* A product of 10^9 multiply-adds takes 20 ms of a core; there is progress every few of them. */
static void test_progress_inside(void) {
    enum { M = 512, N = 512, K = 4096 };
    const par_backend *cpu = NULL;
    int calls = 0;
    par_stream stream = {.progress = count, .user = &calls};
    float *a = calloc(M * K, sizeof *a), *b = calloc(N * K, sizeof *b), *c = calloc(M * N, 4);
    par_gemm g = {.m = M, .n = N, .k = K, .a = a, .lda = K, .b = b, .ldb = N, .c = c, .ldc = N};
    CHECK_OK(par_backend_get("cpu", &cpu));
    CHECK_OK(par_threads_set(1));
    if (a && b && c) CHECK_OK(par_gemm_run(cpu, &stream, &g, NULL));
    CHECK(calls >= 4, "a long gemm made progress %d times", calls);
    CHECK_OK(par_threads_set(0));
    free(a);
    free(b);
    free(c);
}

static void test_memory(void) {
    const par_backend *backend = ref();
    static const size_t sizes[] = {0, 1, 255, 256, 257, 1000003};
    void *block = NULL;
    for (int i = 0; backend && i < HARNESS_COUNT(sizes); i++) {
        CHECK_OK(backend->memory.alloc(sizes[i], &block));
        CHECK((uintptr_t)block % 256 == 0, "a block of %zu bytes lies at %p", sizes[i], block);
        for (size_t j = 0; j < sizes[i]; j++)
            CHECK(((char *)block)[j] == 0, "byte %zu of %zu is not 0", j, sizes[i]);
        if (sizes[i]) memset(block, 1, sizes[i]);
        backend->memory.release(block, sizes[i]);
    }
    CHECK_FAILS(backend->memory.alloc(SIZE_MAX - 100, &block), PAR_ERR_MEMORY, "bytes");
    char from[3] = "ab", to[3] = "";
    CHECK_OK(backend->copy(NULL, to, from, 3));
    CHECK(strcmp(to, "ab") == 0, "the copy is \"%s\"", to);
    CHECK_OK(backend->event_record(NULL, NULL));
    CHECK_OK(backend->wait(NULL, NULL));
    CHECK_OK(backend->sync(NULL));
}

/* Read at each request, so that a refusal is not remembered. The caller's own value is put back. */
static void test_rung(void) {
    static const char *const bad[] = {"", "4", "-1", "10", "avx2", " 1"};
    const char *given = getenv("PAR_CPU_RUNG");
    char before[8] = "";
    const par_backend *backend = NULL;
    if (given) snprintf(before, sizeof before, "%s", given);
    for (int i = 0; i < HARNESS_COUNT(bad); i++) {
        setenv("PAR_CPU_RUNG", bad[i], 1);
        CHECK_FAILS(par_backend_get("cpu", &backend), PAR_ERR_OPTION,
                    "must be 0 (baseline), 1 (AVX2), 2");
        CHECK(!backend, "a refusal wrote a backend");
        CHECK_OK(par_backend_get("ref", &backend));
        backend = NULL;
    }
    for (char rung[2] = "0"; rung[0] <= '3'; rung[0]++) {
        setenv("PAR_CPU_RUNG", rung, 1);
        CHECK_OK(par_backend_get("cpu", &backend));
    }
    if (given)
        setenv("PAR_CPU_RUNG", before, 1);
    else
        unsetenv("PAR_CPU_RUNG");
}

static const harness_case cases[] = {
    {.name = "backends", .run = test_backends},
    {.name = "names", .run = test_names},
    {.name = "gemm", .run = test_gemm},
    {.name = "shapes", .run = test_shapes},
    {.name = "empty", .run = test_empty},
    {.name = "untyped", .run = test_untyped},
    {.name = "progress", .run = test_progress},
    {.name = "progress_inside", .run = test_progress_inside},
    {.name = "memory", .run = test_memory},
    {.name = "rung", .run = test_rung},
};

int main(int argc, char **argv) {
    return harness_main("kernel_arguments", cases, HARNESS_COUNT(cases), argc, argv);
}
