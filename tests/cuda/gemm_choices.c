#define _POSIX_C_SOURCE 200809L
/*
 * The choice among candidates for a product: timed once, told as text, and taken again from it with
 * the same bits. On the stand-in, whose two candidates add in opposite orders. And whether the
 * gradient of a bias is made with the product or apart.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/harness.h"
#include "par/kernels.h"

enum { M = 5, N = 8, K = 257 };

static const par_backend *cuda;

static bool ready(void) {
    if (!cuda) harness_skip("this build has no stand-in of the cuda module");
    return cuda;
}

/* One product of the same noise. */
static void multiply(float *out) {
    static float a[M * K], b[K * N];
    void *da = NULL, *db = NULL, *dc = NULL, *workspace = NULL;
    size_t nbytes = 0;
    for (int i = 0; i < M * K; i++) a[i] = harness_noise(1, (uint64_t)i);
    for (int i = 0; i < K * N; i++) b[i] = harness_noise(2, (uint64_t)i);
    CHECK_OK(cuda->memory.alloc(sizeof a, &da));
    CHECK_OK(cuda->memory.alloc(sizeof b, &db));
    CHECK_OK(cuda->memory.alloc(M * N * sizeof(float), &dc));
    CHECK_OK(cuda->copy(NULL, da, a, sizeof a));
    CHECK_OK(cuda->copy(NULL, db, b, sizeof b));
    par_gemm g = {.m = M, .n = N, .k = K, .a = da, .lda = K, .b = db, .ldb = N, .c = dc, .ldc = N};
    CHECK_OK(par_gemm_prepare(cuda, &g, &nbytes));
    CHECK_OK(cuda->memory.alloc(nbytes, &workspace));
    CHECK_OK(par_gemm_run(cuda, NULL, &g, workspace));
    CHECK_OK(cuda->copy(NULL, out, dc, M * N * sizeof(float)));
    CHECK_OK(cuda->sync(NULL));
    void *const blocks[] = {da, db, dc, workspace};
    for (int i = 0; i < 4; i++) cuda->memory.release(blocks[i], 0);
}

/* Every "=0" becomes "=1" and the other way round. */
static void swap_candidates(char *text) {
    for (char *at = strchr(text, '='); at; at = strchr(at + 1, '='))
        at[1] = at[1] == '0' ? '1' : '0';
}

static void test_choices_decide(void) {
    float chosen[M * N], swapped[M * N], again[M * N];
    char text[PAR_CHOICES_NBYTES], other[PAR_CHOICES_NBYTES];
    if (!ready()) return;
    multiply(chosen);
    snprintf(text, sizeof text, "%s", cuda->choices());
    CHECK(strchr(text, '='), "nothing was timed: %s", text);
    memcpy(other, text, sizeof other);
    swap_candidates(other);
    CHECK_OK(cuda->choose(other));
    multiply(swapped);
    CHECK(memcmp(chosen, swapped, sizeof chosen) != 0, "another candidate gave the same bits");
    CHECK_OK(cuda->choose(text));
    multiply(again);
    CHECK(memcmp(chosen, again, sizeof chosen) == 0, "the same choice gave other bits");
    CHECK(strcmp(text, cuda->choices()) == 0, "choices were %s, are %s", text, cuda->choices());
}

static void *on_device(const void *data, size_t nbytes) {
    void *out = NULL;
    CHECK_OK(cuda->memory.alloc(nbytes, &out));
    CHECK_OK(cuda->copy(NULL, out, data, nbytes));
    CHECK_OK(cuda->sync(NULL));
    return out;
}

/* An operation with its workspace, and what it leaves at `device`. */
static void run_into(float *out, void *device, const par_gemm *g, const par_column_sum *sum) {
    size_t nbytes = 0;
    void *workspace = NULL;
    CHECK_OK(g ? par_gemm_prepare(cuda, g, &nbytes) : par_column_sum_prepare(cuda, sum, &nbytes));
    CHECK_OK(cuda->memory.alloc(nbytes ? nbytes : 1, &workspace));
    CHECK_OK(g ? par_gemm_run(cuda, NULL, g, workspace)
               : par_column_sum_run(cuda, NULL, sum, workspace));
    CHECK_OK(cuda->copy(NULL, out, device, M * sizeof(float)));
    CHECK_OK(cuda->sync(NULL));
    cuda->memory.release(workspace, 0);
}

/* The sums of a [K, M], whose elements are fp32 or 16 bits of `bits`: with a product and by a
 * column sum. */
static void sum_both_ways(par_dtype dtype, const void *bits, size_t nbytes, float *with,
                          float *apart) {
    static const float zeros[M * N];
    void *a = on_device(bits, nbytes), *c = on_device(zeros, sizeof zeros),
         *y = on_device(zeros, M * sizeof(float));
    void *b = on_device(bits, nbytes);
    par_gemm g = {
        .dtype = dtype, .ta = true, .m = M, .n = M, .k = K, .a = a, .lda = M, .b = b, .ldb = M};
    g.c = c, g.ldc = M, g.epilogue = PAR_EPILOGUE_BIAS_GRADIENT, g.aux = y;
    par_column_sum sum = {.dtype = dtype, .m = K, .n = M, .x = a, .ldx = M, .y = y};
    run_into(with, y, &g, NULL);
    run_into(apart, y, NULL, &sum);
    void *const blocks[] = {a, b, c, y};
    for (int i = 0; i < 4; i++) cuda->memory.release(blocks[i], 0);
}

/*
 * The stand-in rounds a sum in double once, the own column sum rounds K times. In fp32 the bits
 * must be the stand-in's; in fp16, for which it has no algorithm, those of the column sum. The
 * noise is scaled so that the two differ (checked).
 */
static void test_bias_gradient(void) {
    static float a[K * M], exact[M], with[M], apart[M];
    static uint16_t half[K * M];
    if (!ready()) return;
    for (int i = 0; i < K * M; i++) {
        a[i] = harness_noise(3, (uint64_t)i);
        /* 1 + a fraction of 10 random bits, times 2^-15 to 2^14: sums of these do not fit fp32 */
        half[i] = (uint16_t)((1 + i * 7919 % 30) << 10 |
                             (int)(harness_noise(4, (uint64_t)i) * 511 + 512));
    }
    for (int j = 0; j < M; j++) {
        double sum = 0;
        for (int i = 0; i < K; i++) sum += a[i * M + j];
        exact[j] = (float)sum;
    }
    sum_both_ways(PAR_F32, a, sizeof a, with, apart);
    CHECK(memcmp(with, exact, sizeof exact) == 0, "the sums in fp32 are not cuBLASLt's");
    CHECK(memcmp(with, apart, sizeof apart) != 0,
          "the column sum has cuBLASLt's bits: no way to tell them apart");
    sum_both_ways(PAR_F16, half, sizeof half, with, apart);
    CHECK(memcmp(with, apart, sizeof apart) == 0, "the sums in fp16 are not the column sum's");
}

static void test_choices_of_another_device(void) {
    if (!ready()) return;
    CHECK_FAILS(cuda->choose("cublaslt 1, another GPU;00000000=1;"), PAR_ERR_OPTION, "another GPU");
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {.name = "decide", .run = test_choices_decide},
        {.name = "bias_gradient", .run = test_bias_gradient},
        {.name = "of_another_device", .run = test_choices_of_another_device},
    };
    const par_device_params params = {.local_size = 1, .device = -1, .tune = true};
    char path[1024];
    const char *slash = strrchr(argv[0], '/');
    snprintf(path, sizeof path, "%.*s/cuda", slash ? (int)(slash - argv[0]) : 1,
             slash ? argv[0] : ".");
    setenv("PAR_MODULE_PATH", path, 1);
    if (par_device_select(&params) != PAR_OK || par_backend_get("cuda", &cuda) != PAR_OK)
        cuda = NULL;
    return harness_main("gemm_choices", cases, HARNESS_COUNT(cases), argc, argv);
}
