/*
 * Matrix product: par_gemm in par/kernels.h. oneDNN's sgemm where the build has it, else own
 * blocked loops. Large products run in blocks of rows, which bound oneDNN's packing buffers, and
 * those in pieces and steps, between which communication makes progress. The bias is added before
 * the product, into c. 16-bit operands: gemm_half.c, gemm_bf16.c; a few rows: gemm_few.c.
 */
#include <string.h>

#include "config.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/gemm.h"

#if HAVE_ONEDNN
#include <stdatomic.h>

#include "kernels/cpu/onednn.h"
#else
#include "kernels/cpu/micro.h"
#endif

/* Multiply-adds of a block: about 10 ms on two cores. At least MIN_ROWS rows, so that b's packing
 * is paid for: see gemm_grid_halved. */
#define BLOCK_WORK ((double)(INT64_C(1) << 30))
#if defined(__AVX512F__)
enum { MIN_ROWS = 256 };
#else
enum { MIN_ROWS = 3072 };
#endif

int64_t par__cpu_gemm_rows(const par_gemm *g) {
    enum { GRAIN = 64 };
    double rows = BLOCK_WORK / ((double)g->n * (double)(g->k ? g->k : 1));
    if (rows >= (double)g->m || g->m <= MIN_ROWS) return g->m;
    int64_t most = rows < MIN_ROWS ? MIN_ROWS : (int64_t)rows / MIN_ROWS * MIN_ROWS;
    return cpu_pieces(cpu_pieces(g->m, cpu_pieces(g->m, most)), GRAIN) * GRAIN;
}

/* A block of rows of c. */
typedef struct {
    const par_gemm *g;
    float *c;
} block;

static void start_rows(const void *user, int slot, int64_t begin, int64_t end) {
    const block *own = user;
    const par_gemm *g = own->g;
    const float *bias = g->bias;
    for (int64_t i = begin; i < end; i++) {
        float *row = own->c + i * g->ldc;
        if (g->beta != 0) {
#pragma omp simd
            for (int64_t j = 0; j < g->n; j++) row[j] += bias[j];
        } else if (bias) {
            memcpy(row, bias, (size_t)g->n * sizeof(float));
        } else {
            memset(row, 0, (size_t)g->n * sizeof(float));
        }
    }
}

#if HAVE_ONEDNN
#define PRODUCT "gemm/cpu/onednn"

static int64_t at_least_one(int64_t ld) {
    return ld > 0 ? ld : 1;
}

typedef struct {
    par_stream *stream;
    const par_gemm *g;
    const float *a;
    float *c;
    bool accumulate;
    gemm_grid grid;
    _Atomic int *status; /* oneDNN's, of a piece that failed */
} product;

static void product_pieces(const void *user, int slot, int64_t begin, int64_t end) {
    const product *x = user;
    const par_gemm *g = x->g;
    int before = onednn_begin();
    for (int64_t piece = begin; piece < end; piece++) {
        gemm_piece p = gemm_grid_piece(&x->grid, piece);
        const float *a = x->a + p.i * (g->ta ? 1 : g->lda),
                    *b = (const float *)g->b + p.j * (g->tb ? g->ldb : 1);
        for (int64_t l = 0; l < g->k; l += x->grid.depth) {
            dnnl_status_t st =
                dnnl_sgemm(g->ta ? 'T' : 'N', g->tb ? 'T' : 'N', p.m, p.n,
                           cpu_min(x->grid.depth, g->k - l), 1.0f, a + l * (g->ta ? g->lda : 1),
                           at_least_one(g->lda), b + l * (g->tb ? 1 : g->ldb), at_least_one(g->ldb),
                           x->accumulate || l > 0 ? 1.0f : 0.0f, x->c + p.i * g->ldc + p.j,
                           at_least_one(g->ldc));
            if (st != dnnl_success) atomic_store(x->status, (int)st);
            cpu_progress(x->stream, slot);
        }
    }
    onednn_end(before);
}

par_status par__cpu_gemm_product(par_stream *stream, const par_gemm *g, const float *a, float *c,
                                 int64_t m, bool accumulate) {
    _Atomic int status = dnnl_success;
    const product x = {stream, g, a, c, accumulate, gemm_grid_of(m, g->n, g->k, par_threads()),
                       &status};
    par__threads_run(gemm_grid_pieces(&x.grid), PAR_MAX_THREADS, product_pieces, &x);
    dnnl_status_t st = (dnnl_status_t)atomic_load(&status);
    if (st == dnnl_out_of_memory)
        PAR_FAIL(PAR_ERR_MEMORY, "gemm: oneDNN had no memory for m %lld, n %lld, k %lld",
                 (long long)m, (long long)g->n, (long long)g->k);
    if (st != dnnl_success)
        PAR_FAIL(PAR_ERR_INTERNAL, "gemm: dnnl_sgemm returned status %d", (int)st);
    return PAR_OK;
}
#else
#define PRODUCT CPU_NAME("gemm")

enum { PANEL_K = 256, PANEL_N = 64 };

/* columns [j, j + PANEL_N) of c: b's panel is packed once for all rows */
static void panel(const par_gemm *g, const float *a, float *c, int64_t m, int64_t j,
                  bool accumulate) {
    float packed[PANEL_K * PANEL_N];
    int64_t width = cpu_min(PANEL_N, g->n - j);
    for (int64_t l = 0; l < g->k; l += PANEL_K) {
        int64_t depth = cpu_min(PANEL_K, g->k - l);
        if (g->tb)
            micro_transpose((const float *)g->b + j * g->ldb + l, g->ldb, width, depth, packed,
                            PANEL_N);
        else
            for (int64_t i = 0; i < depth; i++)
                memcpy(packed + i * PANEL_N, (const float *)g->b + (l + i) * g->ldb + j,
                       (size_t)width * sizeof(float));
        micro t = {.a = a + l * (g->ta ? g->lda : 1),
                   .a_row = g->ta ? 1 : g->lda,
                   .a_step = g->ta ? g->lda : 1,
                   .b = packed,
                   .ldb = PANEL_N,
                   .c = c + j,
                   .ldc = g->ldc};
        micro_gemm(t, m, width, depth, accumulate || l > 0);
    }
}

typedef struct {
    par_stream *stream;
    const par_gemm *g;
    const float *a;
    float *c;
    int64_t m;
    bool accumulate;
} product;

static void product_panels(const void *user, int slot, int64_t begin, int64_t end) {
    const product *x = user;
    for (int64_t i = begin; i < end; i++) {
        panel(x->g, x->a, x->c, x->m, i * PANEL_N, x->accumulate);
        cpu_progress(x->stream, slot);
    }
}

par_status par__cpu_gemm_product(par_stream *stream, const par_gemm *g, const float *a, float *c,
                                 int64_t m, bool accumulate) {
    const product x = {stream, g, a, c, m, accumulate};
    cpu_loop(cpu_pieces(g->n, PANEL_N), m * g->n * g->k / 8, product_panels, &x);
    return PAR_OK;
}
#endif

static par_status gemm(par_stream *stream, const void *args, void *workspace) {
    const par_gemm *g = args;
    if (cpu_gemm_is_few(g)) {
        par__cpu_gemm_few(stream, g);
        return PAR_OK;
    }
    if (g->dtype != PAR_F32) return par__cpu_gemm_half(stream, args, workspace);
    int64_t rows = par__cpu_gemm_rows(g);
    if (g->n == 0) return PAR_OK;
    for (int64_t i = 0; i < g->m; i += rows) {
        int64_t m = cpu_min(rows, g->m - i);
        float *c = (float *)g->c + i * g->ldc;
        const block own = {g, c};
        /* c = bias + beta · c, where that differs from c; zeros only if no product overwrites c */
        bool started = g->bias || (g->beta == 0 && g->k == 0);
        if (started) cpu_loop(m, m * g->n, start_rows, &own);
        if (g->k > 0)
            PAR_TRY(par__cpu_gemm_product(stream, g, (const float *)g->a + i * (g->ta ? 1 : g->lda),
                                          c, m, started || g->beta != 0));
    }
    return PAR_OK;
}

void par__cpu_gemm(par_backend *backend) {
    backend->kernels[PAR_OP_GEMM] = (par_kernel){PRODUCT, par__cpu_gemm_half_prepare, gemm};
}
