/*
 * The choice among cuBLASLt's candidates for a plan. The first is taken, so that no choice depends
 * on a clock, unless par_device_params.tune asks to time them once; what was timed is told as text
 * (par_backend's choices: library, device, then a hash of the plan's key and the candidate's
 * number), and a run that is given that text chooses the same, which gives it the same bits.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/gemm/gemm.h"
#include "libpar/base/clock.h"
#include "libpar/base/hash.h"

enum { TIMED_RUNS = 5, ENTRY_NBYTES = 16 };

static bool tunes;
static char choices[PAR_CHOICES_NBYTES];

/* A key's name in the text. */
static uint32_t hash(const par__gemm_key *k) {
    return par__fnv32(PAR__FNV32, k, sizeof *k);
}

/* The bytes make small finite numbers in every type. */
static par_status take(int64_t n, par_dtype dtype, void **out) {
    size_t nbytes = (size_t)n * (size_t)par__lt_nbytes(dtype) + PAR__GEMM_ALIGNED;
    PAR__CUDA_TRY(cudaMalloc(out, nbytes));
    PAR__CUDA_TRY(cudaMemset(*out, 0x3c, nbytes));
    return PAR_OK;
}

/* As large as the plan's. */
static par_status take_operands(const par__gemm_key *k, par__gemm_operands *o) {
    par_dtype type = (par_dtype)k->dtype, type_c = (par_dtype)k->dtype_c;
    PAR_TRY(take((k->ta ? k->k : k->m) * k->lda, type, &o->a));
    PAR_TRY(take((k->tb ? k->n : k->k) * k->ldb, type, &o->b));
    PAR_TRY(take(k->m * k->ldc, type_c, &o->c));
    PAR_TRY(take(k->m * k->ldc, type, &o->aux));
    bool gradient = k->epilogue == PAR_EPILOGUE_BIAS_GRADIENT; /* fp32 [m] in place of a bias */
    PAR_TRY(take(gradient ? k->m : k->n, gradient ? PAR_F32 : type, &o->bias));
    return take(PAR__GEMM_WORKSPACE, PAR_F32, &o->workspace);
}

/* Seconds of one candidate: the fastest of a few runs, after one that is not counted. */
static par_status time_one(const par__gemm_plan *p, const cublasLtMatmulAlgo_t *algorithm,
                           const par__gemm_operands *o, double *best) {
    *best = 1e30;
    for (int i = 0; i <= TIMED_RUNS; i++) {
        double begin = par__seconds();
        PAR_TRY(par__lt_multiply(p, algorithm, o, 0, NULL));
        PAR__CUDA_TRY(cudaStreamSynchronize(NULL));
        double took = par__seconds() - begin;
        if (i > 0 && took < *best) *best = took;
    }
    return PAR_OK;
}

static par_status time_all(const par__gemm_plan *p,
                           const cublasLtMatmulHeuristicResult_t *candidates, int n, int *out) {
    par__gemm_operands o = {0};
    double least = 1e30, took;
    par_status st = take_operands(p->key, &o);
    for (int i = 0; i < n && st == PAR_OK; i++) {
        st = time_one(p, &candidates[i].algo, &o, &took);
        if (st == PAR_OK && took < least) {
            least = took;
            *out = i;
        }
    }
    void *const all[] = {o.a, o.b, o.c, o.bias, o.aux, o.workspace};
    for (int i = 0; i < 6; i++) (void)cudaFree(all[i]);
    return st;
}

par_status par__gemm_choose(const par__gemm_plan *p,
                            const cublasLtMatmulHeuristicResult_t *candidates, int n, int *out) {
    char name[ENTRY_NBYTES];
    snprintf(name, sizeof name, ";%08x=", hash(p->key));
    const char *at = strstr(choices, name);
    int before = at ? atoi(at + strlen(name)) : -1; /* chosen before; -1: none was */
    *out = before >= 0 && before < n ? before : 0;
    if (before >= 0 || !tunes) return PAR_OK;
    PAR_TRY(time_all(p, candidates, n, out));
    size_t used = strlen(choices);
    if (used + ENTRY_NBYTES > sizeof choices)
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "timed choices of products are above %zu bytes: run without timing them",
                 sizeof choices);
    snprintf(choices + used, sizeof choices - used, "%08x=%d;", hash(p->key), *out);
    return PAR_OK;
}

/* Choices hold for one library and one kind of device: the text begins with both. */
static void head(char *text, size_t nbytes) {
    snprintf(text, nbytes, "cublaslt %zu, %s;", cublasLtGetVersion(), par__cuda_device_get()->name);
}

const char *par__gemm_method(void) {
    static char text[256];
    int n = 0;
    for (const char *at = strchr(choices, '='); at; at = strchr(at + 1, '=')) n++;
    if (n > 0)
        snprintf(text, sizeof text, "%s, algorithms of %d product%s as timed", par__lt_name(), n,
                 n == 1 ? "" : "s");
    else
        snprintf(text, sizeof text, "%s, the first algorithm of its heuristic%s", par__lt_name(),
                 tunes ? ", none timed so far" : "");
    return text;
}

const char *par__gemm_choices(void) {
    return choices;
}

par_status par__gemm_choices_take(const char *text) {
    char here[sizeof choices];
    PAR_REQUIRE(text);
    head(here, sizeof here);
    if (strlen(text) >= sizeof choices || strncmp(text, here, strlen(here)) != 0)
        PAR_FAIL(PAR_ERR_OPTION,
                 "products were timed with \"%.80s\", here is \"%s\": time them again", text, here);
    memmove(choices, text, strlen(text) + 1);
    return PAR_OK;
}

void par__gemm_choices_open(bool tune) {
    tunes = tune;
    head(choices, sizeof choices);
}
