/*
 * Matrix product of bf16 operands (par_gemm in par/kernels.h) on CPUs that multiply them: oneDNN's
 * matmul, which reads and writes 16 bits and accumulates in fp32. Such CPUs (AVX512-BF16) take
 * subnormal operands and results for zero. Other CPUs widen: gemm_half.c.
 *
 * Each piece of a block of rows is a product of its own, with the scratchpad of its thread's slot.
 *
 * Descriptions and primitives are made anew for each call: about 4 us, as oneDNN keeps the code it
 * generated.
 */
#include "config.h"
#include "kernels/cpu/gemm.h"

#if HAVE_ONEDNN && defined __AVX512BF16__
#include <stdatomic.h>

#include "kernels/cpu/onednn.h"
#if DNNL_VERSION_MAJOR == 2
#define BF16_PRODUCTS
#endif
#endif

#ifdef BF16_PRODUCTS

/* Made when a table is filled for the first time, and never destroyed. */
static dnnl_engine_t engine;
static dnnl_stream_t order;
static par_kernel other; /* for every product that is not taken here */

/* The operands of a block of rows of c. */
enum { A, B, C, BIAS, SCRATCHPAD, N_ARGUMENTS };
static const int arguments[N_ARGUMENTS] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST,
                                           DNNL_ARG_BIAS, DNNL_ARG_SCRATCHPAD};
typedef struct {
    dnnl_memory_desc_t operands[N_ARGUMENTS];
    dnnl_primitive_desc_t product;
} plan;

static dnnl_memory_desc_t matrix(int64_t rows, int64_t columns, int64_t ld, bool transposed,
                                 par_dtype dtype) {
    dnnl_memory_desc_t d = {0};
    dnnl_dims_t sizes = {rows, columns}, strides = {transposed ? 1 : ld, transposed ? ld : 1};
    dnnl_memory_desc_init_by_strides(&d, 2, sizes, dtype == PAR_F32 ? dnnl_f32 : dnnl_bf16,
                                     strides);
    return d;
}

static dnnl_status_t add_to_c(dnnl_primitive_attr_t attributes) {
    dnnl_post_ops_t sum;
    dnnl_status_t st = dnnl_post_ops_create(&sum);
    if (st != dnnl_success) return st;
    st = dnnl_post_ops_append_sum(sum, 1.0f);
    if (st == dnnl_success) st = dnnl_primitive_attr_set_post_ops(attributes, sum);
    dnnl_post_ops_destroy(sum);
    return st;
}

static par_status failed(const par_gemm *g, int64_t m, dnnl_status_t st) {
    return par_error_set(
        st == dnnl_out_of_memory ? PAR_ERR_MEMORY : PAR_ERR_INTERNAL,
        "gemm: oneDNN's matmul of bf16 returned status %d%s for m %lld, n %lld, k %lld", (int)st,
        st == dnnl_out_of_memory ? " (no memory)" : "", (long long)m, (long long)g->n,
        (long long)g->k);
}

/* [m, n] of c; destroy p->product. */
static dnnl_status_t plan_make(const par_gemm *g, int64_t m, int64_t n, plan *p) {
    dnnl_memory_desc_t *d = p->operands;
    dnnl_matmul_desc_t product;
    dnnl_primitive_attr_t attributes;
    d[A] = matrix(m, g->k, g->lda, g->ta, PAR_BF16);
    d[B] = matrix(g->k, n, g->ldb, g->tb, PAR_BF16);
    d[C] = matrix(m, n, g->ldc, false, g->dtype_c);
    d[BIAS] = matrix(1, n, n, false, PAR_BF16);
    dnnl_status_t st =
        dnnl_matmul_desc_init(&product, &d[A], &d[B], g->bias ? &d[BIAS] : NULL, &d[C]);
    if (st == dnnl_success) st = dnnl_primitive_attr_create(&attributes);
    if (st != dnnl_success) return st;
    st = dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
    if (st == dnnl_success && g->beta != 0) st = add_to_c(attributes);
    if (st == dnnl_success)
        st = dnnl_primitive_desc_create(&p->product, &product, attributes, engine, NULL);
    dnnl_primitive_attr_destroy(attributes);
    if (st == dnnl_success)
        d[SCRATCHPAD] = *dnnl_primitive_desc_query_md(p->product, dnnl_query_scratchpad_md, 0);
    return st;
}

static dnnl_status_t execute(plan *p, void *const data[N_ARGUMENTS]) {
    dnnl_primitive_t product;
    dnnl_exec_arg_t list[N_ARGUMENTS];
    int n = 0;
    dnnl_status_t st = dnnl_primitive_create(&product, p->product);
    if (st != dnnl_success) return st;
    for (int i = 0; i < N_ARGUMENTS && st == dnnl_success; i++) {
        if (!data[i]) continue;
        list[n].arg = arguments[i];
        st = dnnl_memory_create(&list[n].memory, &p->operands[i], engine, data[i]);
        n += st == dnnl_success;
    }
    if (st == dnnl_success) st = dnnl_primitive_execute(product, order, n, list);
    if (st == dnnl_success) st = dnnl_stream_wait(order);
    while (n > 0) dnnl_memory_destroy(list[--n].memory);
    dnnl_primitive_destroy(product);
    return st;
}

/* A block of rows of c, from row `first` on. */
typedef struct {
    par_stream *stream;
    const par_gemm *g;
    int64_t first;
    gemm_grid grid;
    char *scratch; /* a part for each slot */
    size_t part_nbytes;
    _Atomic int *status; /* oneDNN's, of a piece that failed */
} block;

static void *element(const void *x, par_dtype dtype, int64_t i) {
    return (char *)(uintptr_t)x + (size_t)i * par_dtype_nbytes(dtype);
}

static dnnl_status_t run_piece(const block *x, gemm_piece c, void *scratch) {
    const par_gemm *g = x->g;
    plan p;
    dnnl_status_t st = plan_make(g, c.m, c.n, &p);
    if (st != dnnl_success) return st;
    int64_t i = x->first + c.i;
    void *const data[N_ARGUMENTS] = {element(g->a, g->dtype, i * (g->ta ? 1 : g->lda)),
                                     element(g->b, g->dtype, c.j * (g->tb ? g->ldb : 1)),
                                     element(g->c, g->dtype_c, i * g->ldc + c.j),
                                     g->bias ? element(g->bias, g->dtype, c.j) : NULL, scratch};
    st = execute(&p, data);
    dnnl_primitive_desc_destroy(p.product);
    return st;
}

static void run_pieces(const void *user, int slot, int64_t begin, int64_t end) {
    const block *x = user;
    int before = onednn_begin();
    for (int64_t piece = begin; piece < end; piece++) {
        dnnl_status_t st = run_piece(x, gemm_grid_piece(&x->grid, piece),
                                     x->scratch + (size_t)slot * x->part_nbytes);
        if (st != dnnl_success) atomic_store(x->status, (int)st);
        cpu_progress(x->stream, slot);
    }
    onednn_end(before);
}

/* The largest scratchpad of the pieces, a multiple of 64 bytes, is *nbytes then if it was less. */
static par_status scratchpad(const par_gemm *g, const gemm_grid *grid, size_t *nbytes) {
    dnnl_status_t st = dnnl_success;
    int before = onednn_begin();
    int64_t across = cpu_pieces(grid->n, grid->columns), n = gemm_grid_pieces(grid);
    /* pieces of a shape of their own: the first, and those at the ends of a row and a column */
    const int64_t shapes[] = {0, across - 1, n - across, n - 1};
    for (int i = 0; i < 4 && st == dnnl_success; i++) {
        if (i > 0 && shapes[i] == shapes[i - 1]) continue;
        gemm_piece c = gemm_grid_piece(grid, shapes[i]);
        plan p;
        st = plan_make(g, c.m, c.n, &p);
        if (st != dnnl_success) break;
        size_t own = (dnnl_memory_desc_get_size(&p.operands[SCRATCHPAD]) + 63) / 64 * 64;
        if (own > *nbytes) *nbytes = own;
        dnnl_primitive_desc_destroy(p.product);
    }
    onednn_end(before);
    return st == dnnl_success ? PAR_OK : failed(g, grid->m, st);
}

/* What a slot's part of the workspace has when a product is cut for so many threads. */
static par_status part(const par_gemm *g, int threads, size_t *nbytes) {
    int64_t rows = par__cpu_gemm_rows(g), rest = g->m % rows;
    gemm_grid whole = gemm_grid_of(rows, g->n, g->k, threads),
              last = gemm_grid_of(rest, g->n, g->k, threads);
    *nbytes = 0;
    PAR_TRY(scratchpad(g, &whole, nbytes));
    return rest > 0 ? scratchpad(g, &last, nbytes) : PAR_OK;
}

static bool taken(const par_gemm *g) {
    return g->dtype == PAR_BF16 && g->m > 0 && g->n > 0 && g->k > 0 &&
           g->epilogue == PAR_EPILOGUE_NONE && !cpu_gemm_is_few(g);
}

/* For any number of threads up to the one that holds now, and for both values of beta, which is no
 * part of a shape. */
static par_status prepare(const void *args, size_t *workspace_nbytes) {
    const par_gemm *g = args;
    if (!taken(g)) return other.prepare(args, workspace_nbytes);
    int most = par__threads_prepare();
    *workspace_nbytes = 0;
    for (int i = 0; i < 2 * most; i++) {
        par_gemm shape = *g;
        size_t nbytes, threads = (size_t)i / 2 + 1;
        shape.beta = i % 2 ? 1.0f : 0.0f;
        PAR_TRY(part(&shape, (int)threads, &nbytes));
        if (threads * nbytes > *workspace_nbytes) *workspace_nbytes = threads * nbytes;
    }
    return PAR_OK;
}

static par_status gemm(par_stream *stream, const void *args, void *workspace) {
    const par_gemm *g = args;
    if (!taken(g)) return other.run(stream, args, workspace);
    int64_t rows = par__cpu_gemm_rows(g);
    int threads = (int)cpu_min(par_threads(), par__threads_prepared());
    _Atomic int status = dnnl_success;
    block x = {.stream = stream, .g = g, .scratch = workspace, .status = &status};
    if (threads > 1) PAR_TRY(part(g, threads, &x.part_nbytes));
    for (x.first = 0; x.first < g->m; x.first += rows) {
        int64_t m = cpu_min(rows, g->m - x.first);
        x.grid = gemm_grid_of(m, g->n, g->k, threads);
        par__threads_run(gemm_grid_pieces(&x.grid), threads, run_pieces, &x);
        if (status != dnnl_success) return failed(g, m, (dnnl_status_t)status);
    }
    return PAR_OK;
}

static bool start(void) {
    /* ONEDNN_MAX_CPU_ISA may keep oneDNN from instructions that the CPU has. */
    unsigned isa = (unsigned)dnnl_get_effective_cpu_isa(),
             wanted = (unsigned)dnnl_cpu_isa_avx512_core_bf16;
    if (order) return true;
    if ((isa & wanted) != wanted || dnnl_engine_create(&engine, dnnl_cpu, 0) != dnnl_success)
        return false;
    if (dnnl_stream_create(&order, engine, dnnl_stream_default_flags) == dnnl_success) return true;
    dnnl_engine_destroy(engine);
    return false;
}
#endif

void par__cpu_gemm_bf16(par_backend *backend) {
#ifdef BF16_PRODUCTS
    par_kernel *gemms = &backend->kernels[PAR_OP_GEMM];
    if (!start()) return;
    other = *gemms;
    *gemms = (par_kernel){"gemm/cpu/onednn-bf16", prepare, gemm};
#endif
}
