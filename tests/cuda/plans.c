/*
 * cuDNN's plans of attention, built for an H200 where no GPU is: the real cuDNN, a described device
 * and a driver's stand-in (driver/driver.c). Every preset's shape on every tp gets the engine that
 * is expected, with the workspace that the formulas of attention/plan.c give; one of each kind is
 * compiled to the end, and its text must name cuDNN's fused kernel. What a GPU would compute is not
 * tested here.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "kernels/cuda/attention/plan.h"
#include "par/transformer.h"
#include "tests/cuda/h200.h"

static par__fused_target target = {.name = "H200, described"};

int cuInit(void); /* the stand-in's; that it is called makes the linker keep the library */

static bool ready(void) {
    CHECK(cuInit() == 34, "the driver's stand-in is not the one that was loaded");
    if (!target.device) CHECK_OK(par__fused_device_create(h200, &target.device));
    return target.device != NULL;
}

/* As the model calls it: q, k and v are columns of one matrix. */
static par__fused_shape packed(par__fused_kind kind, par_dtype dtype, int64_t B, int64_t T,
                               int64_t H, int64_t K, int64_t D) {
    int64_t ld = (H + 2 * K) * D;
    par_attention a = {
        .dtype = dtype, .B = B, .T = T, .H = H, .K = K, .D = D, .ldq = ld, .ldk = ld};
    a.ldv = a.lddq = a.lddk = a.lddv = ld;
    a.ldo = a.ldd_o = H * D;
    return par__fused_shape_of(&a, kind);
}

static const char *name_of(const par__fused_shape *s) {
    static char text[160];
    snprintf(text, sizeof text, "kind %d %s B %lld T %lld H %lld K %lld D %lld", (int)s->kind,
             par_dtype_name((par_dtype)s->dtype), (long long)s->B, (long long)s->T, (long long)s->H,
             (long long)s->K, (long long)s->D);
    return text;
}

/* The engine's bytes on sm_90, without the code under test: some semaphores; dk and dv of every
 * query head in 16 bits; dS in tiles of 64 queries and 128 keys. */
static size_t expected_engine(const par__fused_shape *s) {
    size_t nbytes = 256;
    int64_t n_64 = s->T / 64 + (s->T % 64 > 0), n_128 = s->T / 128 + (s->T % 128 > 0);
    if (s->kind >= PAR__FUSED_BACKWARD && s->H > s->K)
        nbytes += (size_t)(4 * s->B * s->H * s->T * s->D);
    if (s->kind == PAR__FUSED_BACKWARD_DETERMINISTIC)
        nbytes += (size_t)(2 * 64 * 128 * s->B * s->H * n_64 * n_128);
    return nbytes;
}

/* The workspace of the heuristic's first configuration, without compiling it; -1: none. */
static int64_t first_workspace(cudnnBackendDescriptor_t heuristic) {
    cudnnBackendDescriptor_t first = NULL;
    int64_t n = 0, nbytes = -1, count = 0;
    cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &first);
    cudnnStatus_t st = cudnnBackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                                CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &first);
    if (st == CUDNN_STATUS_SUCCESS && n > 0)
        cudnnBackendGetAttribute(first, CUDNN_ATTR_ENGINECFG_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1,
                                 &count, &nbytes);
    cudnnBackendDestroyDescriptor(first);
    return nbytes;
}

static int64_t offered_workspace(const par__fused_shape *s) {
    const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    cudnnBackendDescriptor_t graph = NULL, heuristic = NULL;
    int64_t nbytes = -1;
    CHECK_OK(par__fused_graph_create(&target, s, &graph));
    if (!graph) return -1;
    cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &heuristic);
    cudnnBackendSetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH,
                             CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &graph);
    cudnnBackendSetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    cudnnBackendSetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP,
                             CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &target.device);
    if (cudnnBackendFinalize(heuristic) == CUDNN_STATUS_SUCCESS)
        nbytes = first_workspace(heuristic);
    cudnnBackendDestroyDescriptor(heuristic);
    cudnnBackendDestroyDescriptor(graph);
    return nbytes;
}

static void check_offer(const par__fused_shape *s) {
    int64_t nbytes = offered_workspace(s);
    CHECK(nbytes == (int64_t)expected_engine(s),
          "%s: cuDNN offers %lld bytes of workspace, %zu expected", name_of(s), (long long)nbytes,
          expected_engine(s));
    CHECK(par__fused_engine_nbytes(s) == expected_engine(s),
          "%s: %zu bytes predicted, %zu expected", name_of(s), par__fused_engine_nbytes(s),
          expected_engine(s));
}

/* All kinds and types of one shape. */
static void check_offers(int64_t B, int64_t T, int64_t H, int64_t K, int64_t D) {
    for (int i = 0; i < 2 * PAR__FUSED_KINDS && !harness_failed(); i++) {
        par__fused_shape s =
            packed((par__fused_kind)(i / 2), i % 2 ? PAR_F16 : PAR_BF16, B, T, H, K, D);
        check_offer(&s);
    }
}

static void test_presets(void) {
    int shapes = 0;
    if (!ready()) return;
    for (int i = 0; par_transformer_preset_name(i); i++) {
        par_transformer_config c;
        CHECK_OK(par_transformer_preset(par_transformer_preset_name(i), &c));
        for (int64_t tp = 1; tp <= 8; tp *= 2) {
            if (c.head_size < 64 || c.heads % tp != 0)
                continue; /* the nano models have own kernels */
            int64_t K = c.kv_heads ? c.kv_heads : c.heads;
            check_offers(1, c.tokens, c.heads / tp, K > tp ? K / tp : 1, c.head_size);
            shapes++;
        }
    }
    CHECK(shapes >= 20, "%d shapes", shapes);
}

/* Head sizes, one key head, lengths that no tile divides. */
static void test_sizes(void) {
    static const int64_t lengths[] = {2, 65, 192, 1000, 1031};
    if (!ready()) return;
    for (int64_t D = 64; D <= 128; D += 8)
        check_offers(2, lengths[D / 8 % 5], 4, D % 16 ? 4 : 2, D);
    check_offers(2, 256, 8, 1, 256);
    check_offers(1, 256, 8, 8, 256);
}

/* The text between "key":" and the next quote. */
static void json_string(const char *text, const char *key, char *out, size_t size) {
    char wanted[64];
    snprintf(wanted, sizeof wanted, "\"%s\":\"", key);
    const char *at = strstr(text, wanted);
    out[0] = '\0';
    if (!at) return;
    at += strlen(wanted);
    snprintf(out, size, "%.*s", (int)strcspn(at, "\""), at);
}

static void check_text(const par__fused_shape *s, const par__fused_plan *plan) {
    bool forward = s->kind < PAR__FUSED_BACKWARD;
    char mode[64], *text = NULL;
    size_t nbytes = 0;
    CHECK_OK(par__fused_plan_text(plan, &text, &nbytes));
    if (!text) return;
    json_string(text, "finalizeMode", mode, sizeof mode);
    CHECK(strcmp(mode, forward ? "SDPA_FWD" : "SDPA_BWD") == 0, "%s: the plan's mode is \"%s\"",
          name_of(s), mode);
    CHECK(strstr(text, forward ? "sm90_flash_fprop_wgmma" : "sm90_flash_bprop"),
          "%s: the plan has no fused kernel of sm_90", name_of(s));
    free(text);
}

static void check_plan(const par__fused_shape *s) {
    par__fused_plan plan = {0};
    CHECK_OK(par__fused_plan_create(&target, s, &plan));
    CHECK(plan.descriptor, "%s: no plan", name_of(s));
    if (!plan.descriptor) return;
    CHECK(plan.workspace_nbytes == expected_engine(s), "%s: a workspace of %zu bytes, %zu expected",
          name_of(s), plan.workspace_nbytes, expected_engine(s));
    check_text(s, &plan);
    par__fused_plan_destroy(&plan);
}

/* Compiled to the end: each kind for the attention of GPT-2 and of both sizes of Llama. */
static void test_compiled(void) {
    static const int64_t shapes[][4] = {
        {1024, 12, 12, 64}, {8192, 32, 8, 128}, {8192, 32, 8, 64}, {500, 4, 2, 256}};
    if (!ready()) return;
    for (int i = 0; i < 4; i++)
        for (int kind = 0; kind < PAR__FUSED_KINDS && !harness_failed(); kind++) {
            par_dtype dtype = (i + kind) % 2 ? PAR_F16 : PAR_BF16;
            par__fused_shape s = packed((par__fused_kind)kind, dtype, 1, shapes[i][0], shapes[i][1],
                                        shapes[i][2], shapes[i][3]);
            check_plan(&s);
        }
}

/* What has no plan is no error; what is no graph is one that names the call. */
static void test_unsupported(void) {
    par__fused_plan plan = {0};
    cudnnBackendDescriptor_t device = NULL;
    if (!ready()) return;
    par__fused_shape s = packed(PAR__FUSED_FORWARD, PAR_BF16, 1, 128, 4, 4, 100);
    CHECK_OK(par__fused_plan_create(&target, &s, &plan));
    CHECK(!plan.descriptor, "a plan for heads of 100 channels");
    s = packed(PAR__FUSED_FORWARD, PAR_BF16, 1, 128, 5, 2, 64);
    CHECK_FAILS(par__fused_plan_create(&target, &s, &plan), PAR_ERR_UNSUPPORTED,
                "cudnnBackendFinalize");
    CHECK_FAILS(par__fused_device_create("{\"deviceVer\":900}", &device), PAR_ERR_UNSUPPORTED,
                "cuDNN");
}

static void test_bindings(void) {
    static const int wanted[PAR__FUSED_KINDS] = {6, 7, 14, 13};
    int64_t ids[PAR__FUSED_BOUND];
    for (int kind = 0; kind < PAR__FUSED_KINDS; kind++) {
        par__fused_shape s = packed((par__fused_kind)kind, PAR_BF16, 2, 10, 4, 2, 64);
        int n = par__fused_bindings(&s, ids);
        CHECK(n == wanted[kind], "kind %d has %d tensors of the caller, not %d", kind, n,
              wanted[kind]);
        size_t delta = par__fused_scratch_nbytes(&s, PAR__FUSED_DELTA);
        size_t sums = par__fused_scratch_nbytes(&s, PAR__FUSED_DQ_SUM);
        CHECK(delta == (kind < 2 ? 0 : 4 * 2 * 4 * 10), "delta has %zu bytes", delta);
        CHECK(sums == (kind == 2 ? 4 * 2 * 4 * 10 * 64 : 0), "the sums of dq have %zu bytes", sums);
    }
}

/* The one file in a folder, read whole; *size 0 if there is none. */
static char *only_file(const char *folder, char *path, size_t path_size, size_t *size) {
    char command[256];
    *size = 0;
    snprintf(command, sizeof command, "ls %s", folder);
    FILE *list = popen(command, "r");
    char name[128] = "", more[128] = "";
    if (!list) return NULL;
    if (!fgets(name, sizeof name, list)) name[0] = '\0';
    if (fgets(more, sizeof more, list)) CHECK(false, "%s has a second file, %s", folder, more);
    pclose(list);
    name[strcspn(name, "\n")] = '\0';
    snprintf(path, path_size, "%s/%s", folder, name);
    FILE *file = name[0] ? fopen(path, "rb") : NULL;
    if (!file) return NULL;
    char *bytes = malloc(1 << 22);
    if (bytes) *size = fread(bytes, 1, 1 << 22, file);
    fclose(file);
    return bytes;
}

static void put_file(const char *path, const char *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(bytes, 1, size, file) == size, "cannot write %s", path);
    if (file) fclose(file);
}

/* Obtain the plan and say whether it came from a file. */
static bool from_file(const char *folder, const par__fused_shape *s) {
    par__fused_plan plan = {0};
    CHECK_OK(par__fused_plan_obtain(&target, folder, s, &plan));
    CHECK(plan.descriptor && plan.workspace_nbytes == expected_engine(s), "%s: no right plan",
          name_of(s));
    bool file = plan.from_file;
    if (plan.descriptor) check_text(s, &plan);
    par__fused_plan_destroy(&plan);
    return file;
}

/* A damaged file is ignored, and replaced by a whole one. */
static void check_damage(const char *folder, const char *path, const par__fused_shape *s,
                         const char *bytes, size_t size, const char *what) {
    put_file(path, bytes, size);
    CHECK(!from_file(folder, s), "a file with %s was used", what);
    CHECK(from_file(folder, s), "a file with %s was not replaced", what);
}

static void test_files(void) {
    char folder[] = "/tmp/par-plans-XXXXXX", path[256];
    size_t size = 0;
    if (!ready()) return;
    CHECK(mkdtemp(folder), "cannot make %s", folder);
    par__fused_shape s = packed(PAR__FUSED_BACKWARD_DETERMINISTIC, PAR_BF16, 1, 192, 4, 2, 64);
    CHECK(!from_file(folder, &s), "a plan from a file that was not there");
    char *bytes = only_file(folder, path, sizeof path, &size);
    CHECK(bytes && size > 1000, "no file was written");
    if (!bytes || harness_failed()) return;
    CHECK(from_file(folder, &s), "the file was not used");
    bytes[size / 2] ^= 1;
    check_damage(folder, path, &s, bytes, size, "a changed bit");
    bytes[size / 2] ^= 1;
    check_damage(folder, path, &s, bytes, size - 1, "a byte too few");
    check_damage(folder, path, &s, bytes, 0, "nothing in it");
    char *version = strstr(bytes, "cuDNN ");
    if (version) version[6]++;
    check_damage(folder, path, &s, bytes, size, "another version of cuDNN");
    free(only_file(folder, path, sizeof path, &size));
    free(bytes);
    remove(path);
    par__fused_shape other = s;
    other.T = 128;
    CHECK(!from_file("/nowhere", &other), "a plan from a folder that is not there");
    rmdir(folder);
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {.name = "bindings", .run = test_bindings},
        {.name = "presets", .run = test_presets},
        {.name = "sizes", .run = test_sizes},
        {.name = "compiled", .run = test_compiled},
        {.name = "unsupported", .run = test_unsupported},
        {.name = "files", .run = test_files},
    };
    return harness_main("cuda_plans", cases, HARNESS_COUNT(cases), argc, argv);
}
