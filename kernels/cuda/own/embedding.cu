/*
 * Rows of a table and the sum of their gradients, par_embedding in par/kernels.h.
 *
 * Backward adds the rows of dy in a fixed order without atomics: the tokens are sorted by their
 * table row (embedding_sort.cuh), and then each table row is one block's, which adds its first
 * PIECE tokens one after the other. Frequent tokens have more: their further pieces are summed by
 * other blocks, and these sums are added to the row in order. A row's pieces depend on its own
 * tokens alone. Positions need no sort: the tokens of a position are T apart, and not cut.
 */
#include "kernels/cuda/own/embedding_sort.cuh"

enum { BATCH = 4, PIECE = 64 };

/* Grid: columns, tokens. */
template <typename T, int W>
__global__ void __launch_bounds__(256) embedding_rows(par_embedding a) {
    const int64_t j = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * W;
    const int64_t step = gridDim.y * (int64_t)blockDim.y;
    if (j >= a.n) return;
    for (int64_t i = blockIdx.y * (int64_t)blockDim.y + threadIdx.y; i < a.m; i += step) {
        const unsigned row = table_row(a, i);
        T *y = (T *)a.y + i * a.n + j;
        if (row == a.rows && a.accumulate) continue;
        par__pack<W> v = {}, onto = {};
        if (row < a.rows) v = par__get<W>((const T *)a.table + row * a.n + j);
        if (a.accumulate) onto = par__get<W>(y);
#pragma unroll
        for (int e = 0; a.accumulate && e < W; e++) v.x[e] += onto.x[e];
        par__put<W>(y, v);
    }
}

template <typename T, int W>
static par_status forward_width(par_stream *stream, const par_embedding *a) {
    unsigned threads = par__threads(par__blocks(a->n, W), 256), rows = 256 / threads;
    dim3 grid((unsigned)par__blocks(a->n, (int64_t)threads * W),
              par__grid(par__blocks(a->m, rows)));
    PAR_LAUNCH((embedding_rows<T, W>), grid, dim3(threads, rows), 0, stream, *a);
    return par__cuda_launched("embedding");
}

template <typename T> static par_status forward(par_stream *stream, const par_embedding *a) {
    if (a->m == 0 || a->n == 0) return PAR_OK;
    bool packed = par__packable<T>(a->y, a->n) && par__packable<T>(a->table, a->n);
    return PAR_DISPATCH_WIDTH(T, packed, forward_width, stream, a);
}

/* ---- the sums ---- */

/* Of a table row: sorted pairs from `first` on, no more than a piece, or tokens T apart from
 * `first` on. */
struct tokens {
    unsigned first, count;
};

__device__ static inline int64_t token(const par_embedding &a, const uint2 *sorted, tokens of,
                                       unsigned k) {
    return sorted ? (int64_t)sorted[of.first + k].y : of.first + (int64_t)k * a.T;
}

__device__ static inline tokens tokens_of(const par_embedding &a, const uint2 *sorted,
                                          const unsigned *start, int64_t row) {
    if (sorted) {
        unsigned count = start[row + 1] - start[row];
        return {start[row], count < PIECE ? count : PIECE};
    }
    if (a.m == 0 || row + a.begin >= a.T) return {0, 0};
    int64_t first = (row + a.begin - a.first_row % a.T + a.T) % a.T;
    return {(unsigned)first, first < a.m ? (unsigned)((a.m - first + a.T - 1) / a.T) : 0};
}

/* sum += row of(k) of x from column j on, for k < count. BATCH reads are under way together; they
 * are added in order. */
template <typename T, int W, typename F>
__device__ static inline void add_rows(par__pack<W> &sum, const T *x, int64_t n, int64_t j,
                                       unsigned count, F of) {
    for (unsigned k = 0; k < count; k += BATCH) {
        par__pack<W> v[BATCH] = {};
#pragma unroll
        for (int b = 0; b < BATCH; b++)
            if (k + b < count) v[b] = par__get<W>(x + of(k + b) * n + j);
#pragma unroll
        for (int b = 0; b < BATCH; b++)
#pragma unroll
            for (int e = 0; e < W; e++) sum.x[e] += v[b].x[e];
    }
}

/* Piece k > 0 of a table row whose pairs begin at `begin` has slot begin / PIECE + k of the partial
 * sums: no other has it, since it begins in the PIECE pairs from slot · PIECE on, and the first of
 * these pairs is its row's. */
struct piece {
    int64_t row, k, first, count; /* count: of the row's pairs from this piece's first on */
};

__device__ static inline piece piece_of(const par_embedding &a, const uint2 *sorted,
                                        const unsigned *start, int64_t slot) {
    const int64_t row = sorted[slot * PIECE].x;
    if (row >= a.rows) return {row, 0, 0, 0};
    const int64_t begin = start[row], k = slot - begin / PIECE, first = begin + k * PIECE;
    return {row, k, first, (int64_t)start[row + 1] - first};
}

/* Grid: slots, columns. partial [slots, n] */
template <typename T, int W>
__global__ void __launch_bounds__(256)
    embedding_pieces(par_embedding a, const uint2 *sorted, const unsigned *start, float *partial) {
    const int64_t j = ((int64_t)blockIdx.y * blockDim.x + threadIdx.x) * W, slot = blockIdx.x;
    const piece p = piece_of(a, sorted, start, slot);
    if (j >= a.n || p.k == 0 || p.count <= 0) return;
    par__pack<W> sum = {};
    add_rows<T, W>(sum, (const T *)a.dy, a.n, j, (unsigned)(p.count < PIECE ? p.count : PIECE),
                   [&](unsigned i) { return (int64_t)sorted[p.first + i].y; });
    par__put<W>(partial + slot * a.n + j, sum);
}

/* The partial sums of a row, on top of its first piece: by the block of its piece 1. Grid: slots,
 * columns. */
template <int W>
__global__ void __launch_bounds__(256) embedding_add(par_embedding a, const uint2 *sorted,
                                                     const unsigned *start, const float *partial) {
    const int64_t j = ((int64_t)blockIdx.y * blockDim.x + threadIdx.x) * W, slot = blockIdx.x;
    const piece p = piece_of(a, sorted, start, slot);
    if (j >= a.n || p.k != 1 || p.count <= 0) return;
    par__pack<W> sum = par__get<W>(a.dtable + p.row * a.n + j);
    add_rows<float, W>(sum, partial, a.n, j, (unsigned)((p.count + PIECE - 1) / PIECE),
                       [&](unsigned k) { return slot + k; });
    par__put<W>(a.dtable + p.row * a.n + j, sum);
}

/* Grid: table rows, columns. Most rows have a token or two, so what counts is that their places are
 * known early: bounds are read two rows ahead, the first token one. */
template <typename T, int W>
__global__ void __launch_bounds__(256, 5)
    embedding_sums(par_embedding a, const uint2 *sorted, const unsigned *start) {
    const int64_t j = ((int64_t)blockIdx.y * blockDim.x + threadIdx.x) * W, step = gridDim.x;
    if (j >= a.n) return;
    tokens none = {}, next = tokens_of(a, sorted, start, blockIdx.x);
    tokens after =
        blockIdx.x + step < a.rows ? tokens_of(a, sorted, start, blockIdx.x + step) : none;
    int64_t next_head = next.count > 0 ? token(a, sorted, next, 0) : 0;
    for (int64_t row = blockIdx.x; row < a.rows; row += step) {
        const tokens of = next;
        const int64_t head = next_head;
        next = after;
        next_head = next.count > 0 ? token(a, sorted, next, 0) : 0;
        if (row + 2 * step < a.rows) after = tokens_of(a, sorted, start, row + 2 * step);
        if (of.count == 0 && a.beta != 0) continue;
        par__pack<W> sum = {};
        if (a.beta != 0) sum = par__get<W>(a.dtable + row * a.n + j);
        add_rows<T, W>(sum, (const T *)a.dy, a.n, j, of.count,
                       [&](unsigned k) { return k == 0 ? head : token(a, sorted, of, k); });
        par__put<W>(a.dtable + row * a.n + j, sum);
    }
}

template <typename T, int W>
static par_status sums_width(par_stream *stream, const par_embedding *a, const uint2 *sorted,
                             const unsigned *start, float *partial) {
    unsigned threads = par__threads(par__blocks(a->n, W), 256);
    unsigned columns = (unsigned)par__blocks(a->n, (int64_t)threads * W);
    PAR_LAUNCH((embedding_sums<T, W>), dim3(par__grid(a->rows), columns), dim3(threads), 0, stream,
               *a, sorted, start);
    PAR_TRY(par__cuda_launched("embedding_sums"));
    if (!sorted) return PAR_OK;
    dim3 slots((unsigned)par__blocks(a->m, PIECE), columns);
    PAR_LAUNCH((embedding_pieces<T, W>), slots, dim3(threads), 0, stream, *a, sorted, start,
               partial);
    PAR_LAUNCH((embedding_add<W>), slots, dim3(threads), 0, stream, *a, sorted, start,
               (const float *)partial);
    return par__cuda_launched("embedding_pieces");
}

/* The workspace: two arrays of pairs, the sums of pieces, the table of digits, where each table row
 * starts. */
typedef struct {
    uint2 *pairs[2];
    float *partial;
    unsigned *table, *start;
    size_t nbytes;
} layout;

static layout layout_of(const par_embedding *a, void *workspace) {
    size_t pairs = ((size_t)a->m * sizeof(uint2) + 15) / 16 * 16;
    size_t partial = (size_t)(par__blocks(a->m, PIECE) * a->n) * sizeof(float);
    size_t table = (size_t)(DIGITS * n_tiles(a->m)) * sizeof(unsigned);
    char *p = (char *)workspace;
    layout w = {{(uint2 *)p, (uint2 *)(p + pairs)}, (float *)(p + 2 * pairs), NULL, NULL, 0};
    w.table = (unsigned *)(p + 2 * pairs + partial);
    w.start = (unsigned *)(p + 2 * pairs + partial + table);
    w.nbytes = 2 * pairs + partial + table + (size_t)(a->rows + 1) * sizeof(unsigned);
    return w;
}

/* The sorted pairs lie in one of the two arrays. */
static par_status sort(par_stream *stream, const par_embedding *a, const layout &w,
                       const uint2 **sorted) {
    const uint2 *from = NULL;
    dim3 tiles((unsigned)n_tiles(a->m));
    for (int shift = 0; shift < 32 && (shift == 0 || a->rows >> shift > 0); shift += 8) {
        uint2 *to = w.pairs[shift / 8 % 2];
        PAR_LAUNCH((embedding_count), tiles, dim3(DIGITS), 0, stream, *a, from, shift, w.table);
        PAR_LAUNCH((embedding_scatter), tiles, dim3(DIGITS), 0, stream, *a, from, shift,
                   (const unsigned *)w.table, to);
        PAR_TRY(par__cuda_launched("embedding_sort"));
        from = to;
    }
    PAR_LAUNCH((embedding_bounds), dim3(par__grid(par__blocks(a->rows + 1, 256))), dim3(256), 0,
               stream, from, a->m, a->rows, w.start);
    *sorted = from;
    return par__cuda_launched("embedding_bounds");
}

template <typename T>
static par_status backward(par_stream *stream, const par_embedding *a, void *workspace) {
    const uint2 *sorted = NULL;
    layout w = layout_of(a, workspace);
    if (a->rows == 0 || a->n == 0) return PAR_OK;
    if (a->ids && a->m > 0) PAR_TRY(sort(stream, a, w, &sorted));
    bool packed = par__packable<T>(a->dy, a->n) && par__packable<float>(a->dtable, a->n);
    return packed ? sums_width<T, 4>(stream, a, sorted, w.start, w.partial)
                  : sums_width<T, 1>(stream, a, sorted, w.start, w.partial);
}

static par_status forward_prepare(const void *args, size_t *workspace_nbytes) {
    const par_embedding *a = (const par_embedding *)args;
    *workspace_nbytes = 0;
    if (a->m > INT32_MAX || a->rows >= INT32_MAX)
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "embedding: %lld tokens, %lld rows: both must be below 2^31 on cuda",
                 (long long)a->m, (long long)a->rows);
    return PAR_OK;
}

/* ids may be NULL in prepare, where pointers mean nothing: room for the sort in any case */
static par_status backward_prepare(const void *args, size_t *workspace_nbytes) {
    const par_embedding *a = (const par_embedding *)args;
    PAR_TRY(forward_prepare(args, workspace_nbytes));
    *workspace_nbytes = a->m == 0 || a->rows == 0 ? 0 : layout_of(a, NULL).nbytes;
    return PAR_OK;
}

static par_status run_forward(par_stream *stream, const void *args, void *workspace) {
    const par_embedding *a = (const par_embedding *)args;
    (void)workspace;
    return PAR_DISPATCH(a->dtype, forward, stream, a);
}

static par_status run_backward(par_stream *stream, const void *args, void *workspace) {
    const par_embedding *a = (const par_embedding *)args;
    return PAR_DISPATCH(a->dtype, backward, stream, a, workspace);
}

extern "C" void par__cuda_embedding_init(par_backend *backend) {
    par_kernel *k = backend->kernels;
    k[PAR_OP_EMBEDDING] = {"embedding/cuda/own", forward_prepare, run_forward};
    k[PAR_OP_EMBEDDING_BACKWARD] = {"embedding_backward/cuda/own", backward_prepare, run_backward};
}
