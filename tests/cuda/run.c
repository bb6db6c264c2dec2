/*
 * run never plans, allocates or waits, on the cuda backend with products that are timed: what the
 * stand-ins count (acts.h) stays as it is while an operation runs. And the pointers that run takes:
 * where all rows are of whole 16 bytes those on 16 bytes, elsewhere any; attention any.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "par/kernels.h"
#include "tests/cuda/acts.h"
#include "tests/harness.h"

enum { BLOCK = 1 << 18 };

static const par_backend *cuda;
static const long *acts;

static bool ready(void) {
    if (!cuda) harness_skip("this build has no stand-in of the cuda module");
    return cuda;
}

/* Device memory of a call: each operand has a block, `shift` bytes behind an aligned address. */
typedef struct {
    void *blocks[16];
    int n;
    size_t shift;
} memory;

static void *take(memory *m) {
    void *block = NULL;
    CHECK_OK(cuda->memory.alloc(BLOCK + 16, &block));
    m->blocks[m->n++] = block;
    return (char *)block + m->shift;
}

static void release(memory *m) {
    CHECK_OK(cuda->sync(NULL));
    for (int i = 0; i < m->n; i++) cuda->memory.release(m->blocks[i], 0);
    m->n = 0;
}

/* Run, which must end so and do nothing that is counted. `text`: of the error. */
static void run_quietly(const char *what, par_op op, const void *args, void *workspace,
                        par_status wanted, const char *text) {
    long before[STANDIN_ACTS];
    memcpy(before, acts, sizeof before);
    par_status st = par_op_run_untyped(cuda, op, NULL, args, par_op_args_nbytes(op), workspace);
    CHECK(st == wanted && (st == PAR_OK || strstr(par_error(), text)), "%s: %s: \"%s\"", what,
          par_status_text(st), st == PAR_OK ? "" : par_error());
    CHECK(memcmp(before, acts, (STANDIN_PLANS + 1) * sizeof *before) == 0,
          "%s: run allocates %ld, waits %ld, plans %ld times", what,
          acts[STANDIN_ALLOCATES] - before[STANDIN_ALLOCATES],
          acts[STANDIN_WAITS] - before[STANDIN_WAITS], acts[STANDIN_PLANS] - before[STANDIN_PLANS]);
}

static void *prepare(memory *m, par_op op, const void *args) {
    size_t nbytes = 0;
    void *workspace = NULL;
    CHECK_OK(par_op_prepare_untyped(cuda, op, args, par_op_args_nbytes(op), &nbytes));
    CHECK_OK(cuda->memory.alloc(nbytes ? nbytes : 1, &workspace));
    m->blocks[m->n++] = workspace;
    return workspace;
}

static par_gemm product(par_dtype dtype, par_dtype dtype_c, int64_t m, int64_t n, int64_t k) {
    return (par_gemm){
        .dtype = dtype, .dtype_c = dtype_c, .m = m, .n = n, .k = k, .lda = k, .ldb = n, .ldc = n};
}

static void point(memory *m, par_gemm *g, bool bias) {
    g->a = take(m);
    g->b = take(m);
    g->c = take(m);
    g->aux = g->epilogue ? take(m) : NULL;
    g->bias = bias ? take(m) : NULL;
}

static const char *name_of(const par_gemm *g) {
    static char text[160];
    snprintf(text, sizeof text, "%s to %s, m %d n %d k %d, epilogue %d, bias %d",
             par_dtype_name(g->dtype), par_dtype_name(g->dtype_c), (int)g->m, (int)g->n, (int)g->k,
             (int)g->epilogue, g->bias != NULL);
    return text;
}

static void run_product(par_gemm g, bool bias, size_t shift) {
    memory m = {.shift = shift};
    void *workspace = prepare(&m, PAR_OP_GEMM, &g);
    point(&m, &g, bias);
    for (int twice = 0; twice < 2; twice++)
        run_quietly(name_of(&g), PAR_OP_GEMM, &g, workspace, PAR_OK, "");
    release(&m);
}

/* Every epilogue, bias and pair of types; rows of whole 16 bytes, and of others. */
static void test_products(void) {
    static const par_dtype types[][2] = {
        {PAR_F32, PAR_F32}, {PAR_BF16, PAR_BF16}, {PAR_BF16, PAR_F32}, {PAR_F16, PAR_F32}};
    static const int64_t sizes[][3] = {{16, 24, 32}, {5, 8, 7}, {3, 5, 9}};
    if (!ready()) return;
    for (int i = 0; i < 4 * 3; i++) {
        const int64_t *size = sizes[i % 3];
        par_gemm g = product(types[i / 3][0], types[i / 3][1], size[0], size[1], size[2]);
        run_product(g, false, 0);
        run_product(g, true, 0);
        par_gemm gradient = g;
        gradient.ta = true;
        gradient.lda = g.m;
        gradient.dtype_c = PAR_F32;
        gradient.epilogue = PAR_EPILOGUE_BIAS_GRADIENT;
        run_product(gradient, false, 0);
        gradient.beta = 1;
        run_product(gradient, false, 0);
        if (g.ldc % 8 || g.dtype != g.dtype_c) continue;
        g.epilogue = PAR_EPILOGUE_GELU;
        run_product(g, false, 0);
        run_product(g, true, 0);
        g.epilogue = PAR_EPILOGUE_GELU_BACKWARD;
        run_product(g, false, 0);
    }
}

/* One operand beside 16 bytes: `at` is its field. */
static void move_operand(par_gemm g, const char *name, size_t at, bool refused) {
    char wanted[64];
    memory m = {.shift = 0};
    void *workspace = prepare(&m, PAR_OP_GEMM, &g);
    snprintf(wanted, sizeof wanted, "%s is at 0x", name);
    point(&m, &g, g.epilogue != PAR_EPILOGUE_BIAS_GRADIENT);
    par_gemm moved = g;
    *(char **)(void *)((char *)&moved + at) += 8;
    run_quietly(name, PAR_OP_GEMM, &moved, workspace, refused ? PAR_ERR_ARG : PAR_OK, wanted);
    run_quietly(name, PAR_OP_GEMM, &g, workspace, PAR_OK, "");
    release(&m);
}

static void test_pointers(void) {
    memory m = {.shift = 2};
    if (!ready()) return;
    par_gemm g = product(PAR_BF16, PAR_BF16, 16, 24, 32);
    g.epilogue = PAR_EPILOGUE_GELU;
    move_operand(g, "a", offsetof(par_gemm, a), true);
    move_operand(g, "b", offsetof(par_gemm, b), true);
    move_operand(g, "c", offsetof(par_gemm, c), true);
    move_operand(g, "bias", offsetof(par_gemm, bias), true);
    move_operand(g, "aux", offsetof(par_gemm, aux), true);
    g = product(PAR_F32, PAR_F32, 16, 24, 32); /* the sums of the gradient may lie anywhere */
    g.ta = true;
    g.lda = g.m;
    g.epilogue = PAR_EPILOGUE_BIAS_GRADIENT;
    move_operand(g, "aux", offsetof(par_gemm, aux), false);
    g = product(PAR_BF16, PAR_BF16, 3, 5, 9);
    void *workspace = prepare(&m, PAR_OP_GEMM, &g);
    point(&m, &g, true);
    run_quietly("rows of 10 bytes", PAR_OP_GEMM, &g, workspace, PAR_OK, "");
    release(&m);
}

static void test_not_prepared(void) {
    memory m = {.shift = 0};
    if (!ready()) return;
    par_gemm g = product(PAR_F32, PAR_F32, 48, 56, 64);
    point(&m, &g, false);
    void *workspace = take(&m);
    run_quietly("product", PAR_OP_GEMM, &g, workspace, PAR_ERR_ARG, "was not prepared");
    g.ta = true;
    g.lda = g.m;
    g.epilogue = PAR_EPILOGUE_BIAS_GRADIENT;
    g.aux = take(&m);
    run_quietly("gradient", PAR_OP_GEMM, &g, workspace, PAR_ERR_ARG, "was not prepared");
    release(&m);
}

/* By cuDNN on 16 bytes, by own kernels beside them. */
static void run_attention(par_dtype dtype, size_t shift) {
    enum { B = 1, T = 40, H = 2, D = 64 };
    memory m = {.shift = shift};
    par_attention a = {.dtype = dtype, .B = B, .T = T, .H = H, .K = H, .D = D, .scale = 0.125f};
    a.ldq = a.ldk = a.ldv = a.ldo = a.ldd_o = a.lddq = a.lddk = a.lddv = H * D;
    void *forward = prepare(&m, PAR_OP_ATTENTION, &a),
         *backward = prepare(&m, PAR_OP_ATTENTION_BACKWARD, &a);
    a.q = take(&m), a.k = take(&m), a.v = take(&m), a.o = take(&m), a.d_o = take(&m);
    a.dq = take(&m), a.dk = take(&m), a.dv = take(&m);
    m.shift = 0;
    a.lse = take(&m);
    for (int twice = 0; twice < 2; twice++) {
        run_quietly("attention", PAR_OP_ATTENTION, &a, forward, PAR_OK, "");
        run_quietly("attention backward", PAR_OP_ATTENTION_BACKWARD, &a, backward, PAR_OK, "");
    }
    release(&m);
}

static void test_attention(void) {
    if (!ready()) return;
    run_attention(PAR_BF16, 0);
    run_attention(PAR_BF16, 2);
    run_attention(PAR_F32, 0);
}

/* A device that fails is not taken for one that lacks something: a product without its epilogue, or
 * own attention, would only fail later and elsewhere. */
static void test_broken(void) {
    par_gemm g = product(PAR_BF16, PAR_F32, 24, 16, 40);
    par_attention a = {
        .dtype = PAR_BF16, .B = 1, .T = 48, .H = 1, .K = 1, .D = 64, .scale = 0.125f};
    void *block = NULL;
    size_t nbytes = 0;
    if (!ready()) return;
    a.ldq = a.ldk = a.ldv = a.ldo = a.D;
    g.ta = true, g.lda = g.m, g.epilogue = PAR_EPILOGUE_BIAS_GRADIENT;
    setenv("PAR_STANDIN_BROKEN", "1", 1);
    CHECK_FAILS(par_gemm_prepare(cuda, &g, &nbytes), PAR_ERR_DEVICE,
                "cublasLtMatmulAlgoGetHeuristic");
    g.epilogue = PAR_EPILOGUE_NONE;
    CHECK_FAILS(par_gemm_prepare(cuda, &g, &nbytes), PAR_ERR_DEVICE,
                "cublasLtMatmulAlgoGetHeuristic");
    CHECK_FAILS(par_attention_prepare(cuda, &a, &nbytes), PAR_ERR_DEVICE, "illegal address");
    CHECK_FAILS(cuda->memory.alloc(64, &block), PAR_ERR_DEVICE, "cudaMalloc");
    unsetenv("PAR_STANDIN_BROKEN");
    CHECK_OK(par_gemm_prepare(cuda, &g, &nbytes));
    CHECK_OK(par_attention_prepare(cuda, &a, &nbytes));
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {.name = "products", .run = test_products},
        {.name = "pointers", .run = test_pointers},
        {.name = "not_prepared", .run = test_not_prepared},
        {.name = "attention", .run = test_attention},
        {.name = "broken", .run = test_broken},
    };
    const par_device_params params = {.local_size = 1, .device = -1, .tune = true};
    char folder[1024], module[1100];
    const char *slash = strrchr(argv[0], '/');
    snprintf(folder, sizeof folder, "%.*s/cuda", slash ? (int)(slash - argv[0]) : 1,
             slash ? argv[0] : ".");
    setenv("PAR_MODULE_PATH", folder, 1);
    if (par_device_select(&params) != PAR_OK || par_backend_get("cuda", &cuda) != PAR_OK)
        cuda = NULL;
    if (cuda) {
        snprintf(module, sizeof module, "%s/libpar_cuda.so", folder);
        void *file = dlopen(module, RTLD_NOW | RTLD_NOLOAD);
        acts = file ? dlsym(file, "standin_acts") : NULL;
        if (!acts) {
            fprintf(stderr, "%s has no counts\n", module);
            return 1;
        }
    }
    return harness_main("cuda_run", cases, HARNESS_COUNT(cases), argc, argv);
}
