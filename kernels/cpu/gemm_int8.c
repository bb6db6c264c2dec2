/*
 * Matrix product of rows of activations with weights of 8 bits: par_gemm_int8 in par/kernels.h.
 * Weights are read from where they lie, widened in registers, and multiplied with the activations
 * as they are. One row is a token, which is bound by the memory that weights come from: they are
 * read in its order. More rows are a prompt or several texts: what is widened is used for some.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vector.h"

/* Columns of c (rows of q) of a task, and rows of c at a time; of a tile, whose sums are in
 * registers, columns and rows. */
enum { COLUMNS = 64, ROWS = 32, TILE_COLUMNS = 4, TILE_ROWS = LANES == 16 ? 4 : 2 };

typedef int8_t vec_int8 __attribute__((vector_size(LANES), aligned(1), may_alias));

/* Elements [0, count) of q, zero in the other lanes. */
CPU_INLINE vec load_int8(const int8_t *q, int64_t count) {
    vec_int8 x = {0};
    if (count == LANES)
        x = *(const vec_int8 *)q;
    else
        memcpy(&x, q, (size_t)count);
#if defined __AVX512F__
    return (vec)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32((__m128i)x));
#elif defined __AVX2__
    return (vec)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128((int64_t)x)));
#else
    vec y;
    for (int i = 0; i < LANES; i++) y[i] = x[i];
    return y;
#endif
}

/* A tile begins at row i of a and row j of q; it is at element `at` of both. */
typedef struct {
    const par_gemm_int8 *g;
    int64_t i, j, at;
} position;

typedef vec tile[TILE_ROWS][TILE_COLUMNS];

CPU_INLINE void group_step(par_dtype dtype, position p, int rows, int columns,
                           vec (*sums)[TILE_COLUMNS], int64_t l, int64_t count) {
    const par_gemm_int8 *g = p.g;
    vec w[TILE_COLUMNS];
    for (int c = 0; c < columns; c++) w[c] = load_int8(g->q + (p.j + c) * g->k + p.at + l, count);
    for (int r = 0; r < rows; r++) {
        vec a = vec_load(g->a, dtype, (p.i + r) * g->lda + p.at + l, count);
        for (int c = 0; c < columns; c++) sums[r][c] += a * w[c];
    }
}

/* out[r][c] += the products of a tile, which has constant sizes where this is inlined */
CPU_INLINE void dots(par_dtype dtype, position p, int rows, int columns, float (*out)[COLUMNS],
                     int64_t column) {
    const par_gemm_int8 *g = p.g;
    int64_t groups = par_int8_groups(g->k);
    tile totals = {{{0}}};
    for (int64_t group = 0; group < groups; group++) {
        tile sums = {{{0}}};
        p.at = group * PAR_INT8_GROUP;
        for (int c = 0; c < columns; c++)
            fetch_ahead(g->q + (p.j + c) * g->k + p.at, PAR_INT8_GROUP);
        if (p.at + PAR_INT8_GROUP <= g->k)
            CPU_VECTORS(PAR_INT8_GROUP, group_step, dtype, p, rows, columns, sums);
        else
            CPU_VECTORS(g->k - p.at, group_step, dtype, p, rows, columns, sums);
        for (int c = 0; c < columns; c++) {
            float scale = g->scales[(p.j + c) * groups + group];
            for (int r = 0; r < rows; r++) totals[r][c] += scale * sums[r][c];
        }
    }
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++) out[r][column + c] += vec_sum(totals[r][c]);
}

/* Columns [c, c + columns) of all rows from p.i on. */
CPU_INLINE void add_columns(par_dtype dtype, position p, int64_t rows, int columns,
                            float (*out)[COLUMNS], int64_t c) {
    int64_t r = 0;
    for (; r + TILE_ROWS <= rows; r += TILE_ROWS, p.i += TILE_ROWS)
        dots(dtype, p, TILE_ROWS, columns, out + r, c);
    for (; r < rows; r++, p.i++) dots(dtype, p, 1, columns, out + r, c);
}

/* Rows of q are used for all rows of a while they are in the first-level cache. p.i: the first. */
CPU_INLINE void add_products(par_dtype dtype, position p, int64_t rows, int64_t n,
                             float (*out)[COLUMNS]) {
    int64_t c = 0;
    for (; rows > 1 && c + TILE_COLUMNS <= n; c += TILE_COLUMNS, p.j += TILE_COLUMNS)
        add_columns(dtype, p, rows, TILE_COLUMNS, out, c);
    for (; c < n; c++, p.j++) add_columns(dtype, p, rows, 1, out, c);
}

static void columns_of(const void *user, int slot, int64_t begin, int64_t end) {
    const cpu_call *call = user;
    const par_gemm_int8 *g = call->args;
    for (int64_t j = begin * COLUMNS; j < cpu_min(end * COLUMNS, g->n); j += COLUMNS) {
        int64_t n = cpu_min(COLUMNS, g->n - j);
        for (int64_t i = 0; i < g->m; i += ROWS) {
            int64_t rows = cpu_min(ROWS, g->m - i);
            float out[ROWS][COLUMNS];
            for (int64_t r = 0; r < rows; r++) {
                memset(out[r], 0, sizeof out[r]);
                if (g->bias) par__cpu_widen(g->bias, g->dtype, j, n, out[r]);
            }
            CPU_BY_TYPE(g->dtype, add_products, ((position){g, i, j, 0}), rows, n, out);
            for (int64_t r = 0; r < rows; r++)
                par__cpu_narrow(out[r], g->c, g->dtype_c, (i + r) * g->ldc + j, n);
        }
        cpu_progress(call->stream, slot);
    }
}

static par_status gemm_int8(par_stream *stream, const void *args, void *workspace) {
    const par_gemm_int8 *g = args;
    const cpu_call call = {.args = g, .stream = stream};
    (void)workspace;
    cpu_loop(cpu_pieces(g->n, COLUMNS), g->n * g->k / 8, columns_of, &call);
    return PAR_OK;
}

void par__cpu_gemm_int8(par_backend *backend) {
    backend->kernels[PAR_OP_GEMM_INT8] =
        (par_kernel){CPU_NAME("gemm_int8"), par__ref_no_workspace, gemm_int8};
}
