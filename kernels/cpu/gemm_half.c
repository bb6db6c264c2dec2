/*
 * Matrix product of bf16 or fp16 operands (par_gemm in par/kernels.h): blocks of them are widened
 * into the workspace and multiplied in fp32, and each element of c is rounded once, after its last
 * block.
 *
 * A block product of m · n · k multiply-adds pays for m k + k n + m n conversions: with the sizes
 * below about one in 300. The blocks are small enough to stay in the last-level cache, and the
 * workspace is at most 37 MiB. They are about equally large: a last one of a few rows would pay
 * most. c of fp32 is its own block. A few rows have a kernel of their own: gemm_few.c.
 */
#include <string.h>

#include "kernels/cpu/gemm.h"

enum { BLOCK_M = 1024, BLOCK_N = 1024, BLOCK_K = 4096, GRAIN = 64, PAD = 16 };

/* Parts of the workspace: a block of a, of b and of c, and the bias. */
typedef struct {
    int64_t m, n, k; /* sizes of the largest block */
    float *a, *b, *c, *bias;
} blocks;

/* n in the fewest parts of at most `largest`, a multiple of GRAIN, as equal as multiples of GRAIN
 * are */
static int64_t share(int64_t n, int64_t largest) {
    if (n <= largest) return n;
    int64_t even = cpu_pieces(n, cpu_pieces(n, largest));
    return cpu_pieces(even, GRAIN) * GRAIN;
}

/* How far rows of so many columns are from each other: not a multiple of 256 bytes, since rows that
 * meet in few sets of the first cache make products half as fast. */
static int64_t apart(int64_t columns) {
    return columns % 64 ? columns : columns + PAD;
}

/* Elements of a block [m, n] or [n, m]. */
static int64_t room(int64_t m, int64_t n) {
    return (m + PAD) * (n + PAD);
}

static blocks blocks_of(const par_gemm *g, float *workspace) {
    blocks s = {.m = share(g->m, BLOCK_M), .n = share(g->n, BLOCK_N), .k = share(g->k, BLOCK_K)};
    if (!workspace) return s;
    s.a = workspace;
    s.b = s.a + room(s.m, s.k);
    s.bias = s.b + room(s.k, s.n);
    s.c = s.bias + s.n;
    return s;
}

par_status par__cpu_gemm_half_prepare(const void *args, size_t *workspace_nbytes) {
    const par_gemm *g = args;
    blocks s = blocks_of(g, NULL);
    if (g->epilogue != PAR_EPILOGUE_NONE)
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "gemm: the cpu backend has no epilogues; run the operation after it");
    int64_t c = g->dtype_c == PAR_F32 ? 0 : s.m * s.n;
    bool none = g->dtype == PAR_F32 || cpu_gemm_is_few(g);
    *workspace_nbytes =
        none ? 0 : (size_t)(room(s.m, s.k) + room(s.k, s.n) + s.n + c) * sizeof(float);
    return PAR_OK;
}

/* Rows of an operand: elements [at + i · ld, at + i · ld + columns) of x. */
typedef struct {
    const void *x;
    par_dtype dtype;
    int64_t at, ld, columns;
    float *to; /* rows apart(columns) from each other */
} source;

static void widen_rows(const void *user, int slot, int64_t begin, int64_t end) {
    const source *s = user;
    for (int64_t i = begin; i < end; i++)
        par__cpu_widen(s->x, s->dtype, s->at + i * s->ld, s->columns,
                       s->to + i * apart(s->columns));
}

/* to[rows, columns] = x[row .., column ..] in fp32, with rows apart(columns) from each other */
static void widen_block(const void *x, par_dtype dtype, int64_t ld, int64_t row, int64_t column,
                        int64_t rows, int64_t columns, float *to) {
    const source s = {x, dtype, row * ld + column, ld, columns, to};
    cpu_loop(rows, rows * columns, widen_rows, &s);
}

/* One block of c: rows [i, i + m), columns [j, j + n), fp32 at `at`, rows ld apart. */
typedef struct {
    const par_gemm *g;
    int64_t i, j, m, n;
    float *at;
    int64_t ld;
    const float *bias; /* its columns in fp32; NULL: none */
} target;

static void start_rows(const void *user, int slot, int64_t begin, int64_t end) {
    const target *c = user;
    const par_gemm *g = c->g;
    const float *bias = c->bias;
    for (int64_t row = begin; row < end; row++) {
        float *x = c->at + row * c->ld;
        if (g->beta != 0 && g->dtype_c != PAR_F32)
            par__cpu_widen(g->c, g->dtype_c, (c->i + row) * g->ldc + c->j, c->n, x);
        if (g->beta != 0 && bias) {
#pragma omp simd
            for (int64_t j = 0; j < c->n; j++) x[j] += bias[j];
        } else if (g->beta == 0 && bias) {
            memcpy(x, bias, (size_t)c->n * sizeof(float));
        } else if (g->beta == 0) {
            memset(x, 0, (size_t)c->n * sizeof(float));
        }
    }
}

/* The block of c at (i, j), with bias + beta · c in fp32; true if the product must be added to
 * it. */
static bool start(const par_gemm *g, const blocks *s, int64_t i, int64_t j, target *c) {
    bool own = g->dtype_c != PAR_F32;
    *c = (target){
        .g = g, .i = i, .j = j, .m = cpu_min(s->m, g->m - i), .n = cpu_min(s->n, g->n - j)};
    c->at = own ? s->c : (float *)g->c + i * g->ldc + j;
    c->ld = own ? c->n : g->ldc;
    c->bias = g->bias ? s->bias : NULL;
    if (!g->bias && g->beta == 0 && g->k > 0) return false;
    if (!g->bias && g->beta != 0 && !own) return true;
    if (g->bias) par__cpu_widen(g->bias, g->dtype, j, c->n, s->bias);
    cpu_loop(c->m, c->m * c->n, start_rows, c);
    return true;
}

/* c (+)= columns [l, l + k) of op(a) times rows [l, l + k) of op(b). Where one block covers all of
 * k, that of a is widened at the first column of c only, and that of b, if it covers all columns
 * too, at the first row. */
static par_status multiply(par_stream *stream, const par_gemm *g, const blocks *s, const target *c,
                           int64_t l, bool accumulate) {
    int64_t k = cpu_min(s->k, g->k - l);
    par_gemm block = {
        .ta = g->ta, .tb = g->tb, .m = c->m, .n = c->n, .k = k, .b = s->b, .ldc = c->ld};
    block.lda = apart(g->ta ? c->m : k);
    block.ldb = apart(g->tb ? k : c->n);
    bool whole_k = s->k == g->k, whole_b = whole_k && s->n == g->n;
    if (c->j == 0 || !whole_k)
        widen_block(g->a, g->dtype, g->lda, g->ta ? l : c->i, g->ta ? c->i : l, g->ta ? k : c->m,
                    g->ta ? c->m : k, s->a);
    if (c->i == 0 || !whole_b)
        widen_block(g->b, g->dtype, g->ldb, g->tb ? c->j : l, g->tb ? l : c->j, g->tb ? c->n : k,
                    g->tb ? k : c->n, s->b);
    return par__cpu_gemm_product(stream, &block, s->a, c->at, c->m, accumulate);
}

static void narrow_rows(const void *user, int slot, int64_t begin, int64_t end) {
    const target *c = user;
    const par_gemm *g = c->g;
    for (int64_t row = begin; row < end; row++)
        par__cpu_narrow(c->at + row * c->ld, g->c, g->dtype_c, (c->i + row) * g->ldc + c->j, c->n);
}

par_status par__cpu_gemm_half(par_stream *stream, const void *args, void *workspace) {
    const par_gemm *g = args;
    const blocks s = blocks_of(g, workspace);
    PAR_REQUIRE(workspace || g->m * g->n == 0);
    for (int64_t i = 0; i < g->m; i += s.m)
        for (int64_t j = 0; j < g->n; j += s.n) {
            target c;
            bool accumulate = start(g, &s, i, j, &c);
            for (int64_t l = 0; l < g->k; l += s.k) {
                PAR_TRY(multiply(stream, g, &s, &c, l, accumulate || l > 0));
                par__progress(stream);
            }
            if (g->dtype_c != PAR_F32) cpu_loop(c.m, c.m * c.n, narrow_rows, &c);
        }
    return PAR_OK;
}
