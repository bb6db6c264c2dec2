/*
 * Which attention a shape and a pointer get, and the limits on its workspace: the emulated module,
 * whose cuDNN computes graphs on the host (standin_cudnn.cpp). A process has one device and one set
 * of limits, so each case is a child with its own.
 */
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "kernels/half.h"
#include "par/kernels.h"

enum { B = 2, LONGEST = 128, H = 4, K = 2, D = 64, WIDTH = (H + 2 * K) * D, ROWS = B * LONGEST };
enum { MIB = 1 << 20 };

static int64_t T = 70;     /* at most LONGEST */
static char problem[1024]; /* what a child found, for its parent */

#define MUST(cond, ...)                                                                            \
    do {                                                                                           \
        if (!(cond) && !*problem) snprintf(problem, sizeof problem, __VA_ARGS__);                  \
    } while (0)
#define MUST_OK(call) MUST((call) == PAR_OK, "%s: %s", #call, par_error())
#define MUST_FAIL(call, status, text)                                                              \
    MUST((call) == (status) && strstr(par_error(), (text)), "%s: \"%s\" lacks \"%s\"", #call,      \
         par_error(), text)

/* One call's memory on the device: q, k and v as columns of one matrix, and their gradients. */
typedef struct {
    void *qkv, *o, *lse, *d_o, *dqkv;
    uint16_t out[ROWS * H * D], grad[ROWS * WIDTH];
} memory;

static par_attention shape_of(int64_t batch, int64_t tokens) {
    return (par_attention){.dtype = PAR_BF16,
                           .B = batch,
                           .T = tokens,
                           .H = H,
                           .K = K,
                           .D = D,
                           .scale = 0.125f,
                           .ldq = WIDTH,
                           .ldk = WIDTH,
                           .ldv = WIDTH,
                           .ldo = H * D,
                           .ldd_o = H * D,
                           .lddq = WIDTH,
                           .lddk = WIDTH,
                           .lddv = WIDTH};
}

/* Noise on the device, `shift` bytes behind an aligned address. */
static void *noise(const par_backend *cuda, uint64_t seed, int64_t n, size_t shift) {
    void *block = NULL;
    uint16_t *host = malloc((size_t)n * 2);
    for (int64_t i = 0; i < n; i++) host[i] = par__f32_to_bf16(harness_noise(seed, (uint64_t)i));
    MUST_OK(cuda->memory.alloc((size_t)n * 2 + 64, &block));
    MUST_OK(cuda->copy(NULL, (char *)block + shift, host, (size_t)n * 2));
    MUST_OK(cuda->sync(NULL));
    free(host);
    return (char *)block + shift;
}

static void point(par_attention *a, const memory *m) {
    char *qkv = m->qkv, *dqkv = m->dqkv;
    a->q = qkv;
    a->k = qkv + H * D * 2;
    a->v = qkv + (H + K) * D * 2;
    a->o = m->o;
    a->lse = m->lse;
    a->d_o = m->d_o;
    a->dq = dqkv;
    a->dk = dqkv + H * D * 2;
    a->dv = dqkv + (H + K) * D * 2;
}

static void call(const par_backend *cuda, bool backward, const par_attention *a) {
    void *workspace = NULL;
    size_t nbytes = 0;
    MUST_OK(backward ? par_attention_backward_prepare(cuda, a, &nbytes)
                     : par_attention_prepare(cuda, a, &nbytes));
    MUST_OK(cuda->memory.alloc(nbytes, &workspace));
    void *garbage = malloc(nbytes + 1);
    memset(garbage, 0xff, nbytes); /* NaN: nobody clears a workspace */
    MUST_OK(cuda->copy(NULL, workspace, garbage, nbytes));
    MUST_OK(cuda->sync(NULL));
    free(garbage);
    MUST_OK(backward ? par_attention_backward_run(cuda, NULL, a, workspace)
                     : par_attention_run(cuda, NULL, a, workspace));
    MUST_OK(cuda->sync(NULL));
    cuda->memory.release(workspace, nbytes);
}

/* Forward and backward, all pointers `shift` bytes behind aligned ones. */
static void both(const par_backend *cuda, size_t shift, memory *m) {
    par_attention a = shape_of(B, T);
    m->qkv = noise(cuda, 1, ROWS * WIDTH, shift);
    m->d_o = noise(cuda, 2, ROWS * H * D, shift);
    m->o = noise(cuda, 3, ROWS * H * D, shift);
    m->dqkv = noise(cuda, 4, ROWS * WIDTH, shift);
    m->lse = noise(cuda, 5, ROWS * H * 2, 0);
    point(&a, m);
    call(cuda, false, &a);
    call(cuda, true, &a);
    MUST_OK(cuda->copy(NULL, m->out, m->o, sizeof m->out));
    MUST_OK(cuda->copy(NULL, m->grad, m->dqkv, sizeof m->grad));
    MUST_OK(cuda->sync(NULL));
}

static double relative(const uint16_t *x, const uint16_t *y, int n) {
    double difference = 0, norm = 0;
    for (int i = 0; i < n; i++) {
        double a = par__bf16_to_f32(x[i]), b = par__bf16_to_f32(y[i]);
        difference += (a - b) * (a - b);
        norm += b * b;
    }
    return sqrt(difference / norm);
}

/*
 * Aligned pointers go to cuDNN, others to own kernels in fp32. cuDNN's graph rounds p and ds to
 * bf16, these do not: a rounding is at most 2^-9 of the value, and at most four stand between q and
 * dq, so results are within 2^-7 of each other and not the same.
 */
static void compare_forms(const par_backend *cuda) {
    static memory fused, own;
    both(cuda, 0, &fused);
    both(cuda, 2, &own);
    double o = relative(fused.out, own.out, (int)(B * T * H * D)),
           d = relative(fused.grad, own.grad, (int)(B * T * WIDTH));
    MUST(o > 0 && o < 0x1p-7, "o of the two forms differs by %g", o);
    MUST(d > 0 && d < 0x1p-7, "gradients of the two forms differ by %g", d);
}

static void check_deterministic(const par_backend *cuda) {
    par_attention small = shape_of(B, T), large = shape_of(1, 1024), unseen = shape_of(1, 99);
    static memory m;
    char data[16];
    size_t nbytes = 0;
    m.qkv = m.o = m.lse = m.d_o = m.dqkv = data;
    compare_forms(cuda);
    /* 2 B H 128² bytes of dS for dS and, in the stand-in, for p; the scratch is delta and ends on
     * 256 bytes */
    MUST_OK(par_attention_backward_prepare(cuda, &small, &nbytes));
    MUST(nbytes >= (size_t)(2 * 2 * B * H * 128 * 128 + 4 * B * T * H) && nbytes <= 2 * MIB,
         "a workspace of %zu", nbytes);
    MUST_OK(par_attention_prepare(cuda, &large, &nbytes));
    MUST_FAIL(par_attention_backward_prepare(cuda, &large, &nbytes), PAR_ERR_UNSUPPORTED,
              "9.0 MiB of workspace at B 1, T 1024");
    MUST_FAIL(par_attention_backward_prepare(cuda, &large, &nbytes), PAR_ERR_UNSUPPORTED,
              "allow nondeterministic attention");
    point(&unseen, &m);
    MUST_FAIL(par_attention_run(cuda, NULL, &unseen, NULL), PAR_ERR_ARG, "was not prepared");
}

static void check_any_order(const par_backend *cuda) {
    par_attention large = shape_of(1, 1024);
    size_t nbytes = 0;
    compare_forms(cuda);
    /* delta and dq's sums in fp32 beside the engine's */
    MUST_OK(par_attention_backward_prepare(cuda, &large, &nbytes));
    MUST(nbytes >= 4 * 1024 * H * (D + 1), "a workspace of %zu bytes", nbytes);
}

/* Run one check on a device with these params in a child. `failure`: what loading must say
 * instead. */
static void in_child(par_device_params params, void (*check)(const par_backend *),
                     const char *failure) {
    int ends[2];
    if (pipe(ends) != 0) return harness_fail(__FILE__, __LINE__, "no pipe");
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        const par_backend *cuda = NULL;
        params.local_size = 1;
        params.device = -1;
        MUST_OK(par_device_select(&params));
        if (failure)
            MUST_FAIL(par_backend_get("cuda", &cuda), PAR_ERR_OPTION, failure);
        else
            MUST_OK(par_backend_get("cuda", &cuda));
        if (cuda && check) check(cuda);
        ssize_t n = write(ends[1], problem, strlen(problem) + 1);
        _exit(n < 0);
    }
    int status = 0;
    char text[sizeof problem] = "";
    close(ends[1]);
    if (read(ends[0], text, sizeof text - 1) <= 0)
        snprintf(text, sizeof text, "the child ended early");
    close(ends[0]);
    waitpid(child, &status, 0);
    CHECK(status == 0 && !*text, "%s", *text ? text : "the child failed");
}

static bool ready(void) {
    char path[1200];
    snprintf(path, sizeof path, "%s/libpar_cuda.so", getenv("PAR_MODULE_PATH"));
    if (access(path, R_OK) == 0) return true;
    harness_skip("this build has no stand-in of the cuda module");
    return false;
}

static void test_deterministic(void) {
    if (ready())
        in_child((par_device_params){.attention_workspace_nbytes = 2 * MIB}, check_deterministic,
                 NULL);
}

static void test_any_order(void) {
    const par_device_params params = {.attention_workspace_nbytes = 2 * MIB,
                                      .nondeterministic_attention = true};
    if (ready()) in_child(params, check_any_order, NULL);
}

static void test_folder(void) {
    if (ready())
        in_child((par_device_params){.plan_cache = "/nowhere"}, NULL, "\"/nowhere\", must exist");
}

/* The method of attention whose text has both words; slower has `reason`, or NULL: nothing is. */
static void check_method(const par_backend *cuda, const char *shape, const char *what,
                         const char *reason) {
    par_method m;
    for (int i = 0; par_backend_method(cuda, i, &m); i++) {
        if (strcmp(m.work, "attention") != 0 || !strstr(m.what, shape)) continue;
        MUST(strstr(m.what, what), "\"%s\" lacks \"%s\"", m.what, what);
        MUST(reason ? m.slower && strstr(m.slower, reason) : !m.slower,
             "\"%s\": slower is \"%s\", not \"%s\"", m.what, m.slower ? m.slower : "",
             reason ? reason : "");
        return;
    }
    MUST(false, "no method of attention has \"%s\"", shape);
}

/* Without cuDNN aligned pointers get own kernels on tensor cores, which round p and ds to bf16;
 * others those in fp32: within compare_forms's bound, and not the same. Each repeats its bits. */
static void check_own_forms(const par_backend *cuda) {
    static memory aligned, again;
    compare_forms(cuda);
    both(cuda, 0, &aligned);
    both(cuda, 0, &again);
    MUST(memcmp(aligned.out, again.out, sizeof aligned.out) == 0 &&
             memcmp(aligned.grad, again.grad, sizeof aligned.grad) == 0,
         "own kernels do not repeat their bits");
}

static void check_own(const par_backend *cuda) {
    check_own_forms(cuda);
    check_method(cuda, "backward in bf16", "own kernels", "older than 9.0");
}

static void test_no_library(void) {
    setenv("PAR_STANDIN_CUDNN", "none", 1);
    if (ready()) in_child((par_device_params){0}, check_own, NULL);
    unsetenv("PAR_STANDIN_CUDNN");
}

/* cuDNN is there and could; the method says that it was left out because that was asked for. */
static void check_asked(const par_backend *cuda) {
    check_own_forms(cuda);
    check_method(cuda, "forward in bf16", "own kernels", "PAR_ATTENTION=own asks for them");
    check_method(cuda, "backward in bf16", "own kernels", "unset PAR_ATTENTION");
}

static void test_asked(void) {
    setenv("PAR_ATTENTION", "own", 1);
    if (ready()) in_child((par_device_params){0}, check_asked, NULL);
    unsetenv("PAR_ATTENTION");
}

/* 9.1: the forward of any T is cuDNN's, the backward of a multiple of 128; there and from 9.15.1 on
 * both forms agree. */
static void check_old(const par_backend *cuda) {
    static memory m;
    both(cuda, 0, &m);
    check_method(cuda, "forward in bf16, B 2 T 70", "cuDNN 9.1.0", NULL);
    check_method(cuda, "backward in bf16, B 2 T 70", "own kernels", "multiple of 128");
    T = 128;
    compare_forms(cuda);
    check_method(cuda, "backward in bf16, B 2 T 128", "cuDNN 9.1.0", NULL);
}

static void check_defective(const par_backend *cuda) {
    check_own_forms(cuda);
    check_method(cuda, "forward in bf16", "own kernels", "known defects");
}

static void check_new(const par_backend *cuda) {
    compare_forms(cuda);
    check_method(cuda, "backward in bf16, B 2 T 70", "cuDNN 9.15.1, deterministic", NULL);
}

static void in_version(const char *version, bool any_order, void (*check)(const par_backend *)) {
    setenv("PAR_STANDIN_CUDNN", version, 1);
    if (ready())
        in_child((par_device_params){.nondeterministic_attention = any_order}, check, NULL);
    unsetenv("PAR_STANDIN_CUDNN");
}

static void test_old_library(void) {
    in_version("90100", false, check_old);
    in_version("90100", true, check_old);
    in_version("91001", false, check_defective);
    in_version("91501", false, check_new);
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {.name = "deterministic", .run = test_deterministic},
        {.name = "any_order", .run = test_any_order},
        {.name = "folder", .run = test_folder},
        {.name = "no_library", .run = test_no_library},
        {.name = "asked", .run = test_asked},
        {.name = "old_library", .run = test_old_library},
    };
    char path[1024];
    const char *slash = strrchr(argv[0], '/');
    snprintf(path, sizeof path, "%.*s/cuda", slash ? (int)(slash - argv[0]) : 1,
             slash ? argv[0] : ".");
    setenv("PAR_MODULE_PATH", path, 1);
    return harness_main("cuda_attention", cases, HARNESS_COUNT(cases), argc, argv);
}
