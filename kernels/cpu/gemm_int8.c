/*
 * Matrix product of rows of activations with weights of 8 bits: par_gemm_int8 in par/kernels.h. For
 * a token at a time, which is bound by the memory that weights come from: each is read once, from
 * where it lies, widened in registers, and multiplied with the activations as they are. Of more
 * than some rows the widening, which each row repeats, is what takes the time.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vector.h"

/* Columns of c (rows of q) of a task, and of the block whose sums are in registers. */
enum { COLUMNS = 64, BLOCK = 4 };

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

/* Row i of a and rows [j, j + columns) of q, from element `at` on. */
typedef struct {
    const par_gemm_int8 *g;
    int64_t i, j, at;
} place;

CPU_INLINE void group_step(par_dtype dtype, place p, int columns, vec *sums, int64_t l,
                           int64_t count) {
    const par_gemm_int8 *g = p.g;
    vec a = vec_load(g->a, dtype, p.i * g->lda + p.at + l, count);
    for (int c = 0; c < columns; c++)
        sums[c] += a * load_int8(g->q + (p.j + c) * g->k + p.at + l, count);
}

/* columns is a constant where this is inlined, so the sums are registers */
CPU_INLINE void dots(par_dtype dtype, place p, int columns, float *out) {
    const par_gemm_int8 *g = p.g;
    int64_t groups = par_int8_groups(g->k);
    vec totals[BLOCK] = {{0}};
    for (int64_t group = 0; group < groups; group++) {
        vec sums[BLOCK] = {{0}};
        p.at = group * PAR_INT8_GROUP;
        if (p.at + PAR_INT8_GROUP <= g->k)
            CPU_VECTORS(PAR_INT8_GROUP, group_step, dtype, p, columns, sums);
        else
            CPU_VECTORS(g->k - p.at, group_step, dtype, p, columns, sums);
        for (int c = 0; c < columns; c++)
            totals[c] += g->scales[(p.j + c) * groups + group] * sums[c];
    }
    for (int c = 0; c < columns; c++) out[c] += vec_sum(totals[c]);
}

CPU_INLINE void add_products(par_dtype dtype, place p, int64_t n, float *out) {
    int64_t c = 0;
    for (; c + BLOCK <= n; c += BLOCK, p.j += BLOCK) dots(dtype, p, BLOCK, out + c);
    for (; c < n; c++, p.j++) dots(dtype, p, 1, out + c);
}

/* Columns [j, j + n) of row i. */
static void row(const par_gemm_int8 *g, int64_t i, int64_t j, int64_t n) {
    float out[COLUMNS] = {0};
    if (g->bias) par__cpu_widen(g->bias, g->dtype, j, n, out);
    CPU_BY_TYPE(g->dtype, add_products, ((place){g, i, j, 0}), n, out);
    par__cpu_narrow(out, g->c, g->dtype_c, i * g->ldc + j, n);
}

static void columns_of(const void *user, int slot, int64_t begin, int64_t end) {
    const cpu_call *call = user;
    const par_gemm_int8 *g = call->args;
    for (int64_t j = begin * COLUMNS; j < cpu_min(end * COLUMNS, g->n); j += COLUMNS) {
        for (int64_t i = 0; i < g->m; i++) row(g, i, j, cpu_min(COLUMNS, g->n - j));
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
