#define _POSIX_C_SOURCE 200809L
/*
 * The choice among candidates for a product: timed once, told as text, and taken again from it with the same
 * bits. On the stand-in, whose two candidates add in opposite orders.
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
    CHECK_OK(par_kernel_prepare(cuda, PAR_OP_GEMM, &g, &nbytes));
    CHECK_OK(cuda->memory.alloc(nbytes, &workspace));
    CHECK_OK(par_kernel_run(cuda, PAR_OP_GEMM, NULL, &g, workspace));
    CHECK_OK(cuda->copy(NULL, out, dc, M * N * sizeof(float)));
    CHECK_OK(cuda->sync(NULL));
    void *const blocks[] = {da, db, dc, workspace};
    for (int i = 0; i < 4; i++) cuda->memory.release(blocks[i], 0);
}

/* Every "=0" becomes "=1" and the other way round. */
static void swap_candidates(char *text) {
    for (char *at = strchr(text, '='); at; at = strchr(at + 1, '=')) at[1] = at[1] == '0' ? '1' : '0';
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

static void test_choices_of_another_device(void) {
    if (!ready()) return;
    CHECK_FAILS(cuda->choose("cublaslt 1, another GPU;00000000=1;"), PAR_ERR_OPTION, "another GPU");
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {.name = "decide", .run = test_choices_decide},
        {.name = "of_another_device", .run = test_choices_of_another_device},
    };
    const par_device_params params = {.local_size = 1, .device = -1, .tune = true};
    char path[1024];
    const char *slash = strrchr(argv[0], '/');
    snprintf(path, sizeof path, "%.*s/cuda", slash ? (int)(slash - argv[0]) : 1, slash ? argv[0] : ".");
    setenv("PAR_MODULE_PATH", path, 1);
    if (par_device_select(&params) != PAR_OK || par_backend_get("cuda", &cuda) != PAR_OK) cuda = NULL;
    return harness_main("gemm_choices", cases, HARNESS_COUNT(cases), argc, argv);
}
