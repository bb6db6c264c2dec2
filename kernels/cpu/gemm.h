/* What the matrix products of fp32 and of 16-bit operands share. */
#ifndef PAR__CPU_GEMM_H
#define PAR__CPU_GEMM_H

#include "kernels/cpu/cpu.h"

/* c[m, g->n] (+)= op(a) · op(g->b), all fp32, with g's k, transposes and distances of rows. k >
 * 0. */
par_status par__cpu_gemm_product(par_stream *stream, const par_gemm *g, const float *a, float *c,
                                 int64_t m, bool accumulate);

/* Rows of c that one block of work has; blocks are about equal. */
int64_t par__cpu_gemm_rows(const par_gemm *g);

/* A product [m, n] of inner size k in pieces of at most `rows` x `columns`, as many for each
 * thread, rows first; each in steps of at most `depth`. */
typedef struct {
    int64_t m, n, rows, columns, depth;
} gemm_grid;

/*
 * Communication makes progress between two steps of the calling thread: so large ones are halved,
 * down to about 2 ms of a core, but not so far that packing would show. With AVX2 oneDNN 2.6 packs
 * no operand where 1/rows + 1/columns is 0.0038 and more. Rows that lie a multiple of 1 KiB apart
 * make it half as fast then. So the inner size is halved first there: 1152 x 768 in steps of 128
 * are as fast as in one, 576 x 768 in steps of 256 lose a fifth.
 */
static inline gemm_grid gemm_grid_halved(gemm_grid g) {
#if defined(__AVX512F__)
    enum { GRAIN = 16, MIN_SIDE = 256, WORK = 1 << 27 };
    const int64_t min_depth = g.depth;
#else
    enum { GRAIN = 16, MIN_SIDE = 512, WORK = 3 << 26 };
    const int64_t min_depth = 128;
#endif
    while (g.rows * g.columns > WORK / (g.depth > 0 ? g.depth : 1)) {
        int64_t *side = g.rows > g.columns ? &g.rows : &g.columns, least = MIN_SIDE;
        if (*side < 2 * MIN_SIDE || g.depth >= 2 * min_depth) side = &g.depth, least = min_depth;
        if (*side < 2 * least) break;
        *side = cpu_pieces(cpu_pieces(*side, 2), GRAIN) * GRAIN;
    }
    return g;
}

/* c[m, n], of inner size k, for so many threads. The pieces are as square as can be, as each packs
 * its part of both operands, and whole vectors wide; a small product is one piece. */
static inline gemm_grid gemm_grid_of(int64_t m, int64_t n, int64_t k, int threads) {
    enum { GRAIN = 16 };
    gemm_grid best = {m, n, m, n, k};
    if (m * n * k <= 8 * CPU_PARALLEL) return best;
    for (int down = 1; down <= threads; down++) {
        if (threads % down != 0) continue;
        int64_t rows = cpu_pieces(cpu_pieces(m, down), GRAIN) * GRAIN,
                columns = cpu_pieces(cpu_pieces(n, threads / down), GRAIN) * GRAIN;
        gemm_grid grid = {m, n, cpu_min(rows, m), cpu_min(columns, n), k};
        if (down == 1 || grid.rows + grid.columns < best.rows + best.columns) best = grid;
    }
    return gemm_grid_halved(best);
}

static inline int64_t gemm_grid_pieces(const gemm_grid *g) {
    return cpu_pieces(g->m, g->rows) * cpu_pieces(g->n, g->columns);
}

/* Rows [i, i + m) and columns [j, j + n). */
typedef struct {
    int64_t i, j, m, n;
} gemm_piece;

static inline gemm_piece gemm_grid_piece(const gemm_grid *g, int64_t number) {
    int64_t across = cpu_pieces(g->n, g->columns);
    gemm_piece p = {.i = number / across * g->rows, .j = number % across * g->columns};
    p.m = cpu_min(g->rows, g->m - p.i);
    p.n = cpu_min(g->columns, g->n - p.j);
    return p;
}

/* Products that par__cpu_gemm_few makes: up to 4 rows times rows. No workspace. */
enum { CPU_GEMM_FEW = 4 };
static inline bool cpu_gemm_is_few(const par_gemm *g) {
    return g->m <= CPU_GEMM_FEW && !g->ta && g->tb;
}
void par__cpu_gemm_few(par_stream *stream, const par_gemm *g);

/* 16-bit operands; prepare asks for nothing where they are fp32. */
par_status par__cpu_gemm_half_prepare(const void *args, size_t *workspace_nbytes);
par_status par__cpu_gemm_half(par_stream *stream, const void *args, void *workspace);

#endif
