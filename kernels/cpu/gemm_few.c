/*
 * Matrix product of a few rows of a with the rows of b (tb): a token at a time is multiplied with
 * weights, which is bound by the memory that they come from. So each element of b is read once,
 * from where it lies, in the order of memory, and used for all rows; sums are fp32, rounded once.
 * Other shapes: gemm.c, gemm_half.c, gemm_bf16.c.
 */
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/vector.h"

/* Columns of c (rows of b) of a task, and of the largest block whose sums are in registers. */
enum { COLUMNS = 64, BLOCK = 4 };

/* sums[c] += row i of a times row j + c of b, elements [l, l + count) */
CPU_INLINE void dot_step(par_dtype t, const par_gemm *g, int64_t i, int64_t j, int columns,
                         pair *sums, int64_t l, int64_t count) {
    pair a = pair_load(g->a, t, i * g->lda + l, count);
    for (int c = 0; c < columns; c++) {
        int64_t at = (j + c) * g->ldb + l;
        pair b = pair_load(g->b, t, at, count);
        if (t != PAR_F32) fetch_ahead((const uint16_t *)g->b + at, PAIR * sizeof(uint16_t));
        for (int k = 0; k < 2; k++) sums[c].v[k] += a.v[k] * b.v[k];
    }
}

/* columns is a constant where this is inlined, so the sums are registers */
CPU_INLINE void dots(par_dtype t, const par_gemm *g, int64_t i, int64_t j, int columns,
                     float *out) {
    pair sums[BLOCK] = {{{{0}, {0}}}};
    CPU_PAIRS(g->k, dot_step, t, g, i, j, columns, sums);
    for (int c = 0; c < columns; c++) out[c] += vec_sum(sums[c].v[0] + sums[c].v[1]);
}

/* Rows of b are used for all rows of a while they are in the first-level cache: several of fp32,
 * each of which the processor foresees, but of 16 bits one after the other. */
CPU_INLINE void add_products(par_dtype t, const par_gemm *g, int64_t j, int64_t n,
                             float (*out)[COLUMNS]) {
    const int block = t == PAR_F32 ? BLOCK : 1;
    int64_t c = 0;
    for (; c + block <= n; c += block)
        for (int64_t i = 0; i < g->m; i++) dots(t, g, i, j + c, block, out[i] + c);
    for (; c < n; c++)
        for (int64_t i = 0; i < g->m; i++) dots(t, g, i, j + c, 1, out[i] + c);
}

static void few_columns(const void *user, int slot, int64_t begin, int64_t end) {
    const cpu_call *call = user;
    const par_gemm *g = call->args;
    for (int64_t j = begin * COLUMNS; j < cpu_min(end * COLUMNS, g->n); j += COLUMNS) {
        int64_t n = cpu_min(COLUMNS, g->n - j);
        float out[CPU_GEMM_FEW][COLUMNS] = {{0}}, old[COLUMNS];
        for (int64_t i = 0; i < g->m; i++) { /* bias + beta · c */
            if (g->bias) par__cpu_widen(g->bias, g->dtype, j, n, out[i]);
            if (g->beta == 0) continue;
            par__cpu_widen(g->c, g->dtype_c, i * g->ldc + j, n, old);
            for (int64_t c = 0; c < n; c++) out[i][c] += old[c];
        }
        CPU_BY_TYPE(g->dtype, add_products, g, j, n, out);
        for (int64_t i = 0; i < g->m; i++)
            par__cpu_narrow(out[i], g->c, g->dtype_c, i * g->ldc + j, n);
        cpu_progress(call->stream, slot);
    }
}

void par__cpu_gemm_few(par_stream *stream, const par_gemm *g) {
    const cpu_call call = {.args = g, .stream = stream};
    cpu_loop(cpu_pieces(g->n, COLUMNS), g->n * g->k / 8, few_columns, &call);
}
