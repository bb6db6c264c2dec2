/*
 * Rows of a table and the sum of their gradients, par_embedding in par/kernels.h.
 *
 * Backward adds the rows of dy in the order of i without atomics: the tokens are sorted by their
 * table row with a stable radix sort, and then each table row is one block's, which adds its tokens
 * one after the other. Positions need no sort: the tokens of a position are T apart. Sort: a digit
 * of 8 bits per pass; a block has a tile of tokens, each of its warps a stretch of the tile in
 * order; lanes with equal digits find each other by __match_any_sync, so that ranks are those of
 * the order of i.
 */
#include "kernels/cuda/own/device.cuh"

enum { DIGITS = 256, WARPS = 8, TILES = 64, BATCH = 4, FORWARD_ROWS = 4 };

/* Row of the table for token i, or `rows` if it is not in this range of the table. */
__device__ static inline unsigned table_row(const par_embedding &a, int64_t i) {
    int64_t row = (a.ids ? (int64_t)a.ids[i] : (a.first_row + i) % a.T) - a.begin;
    return (unsigned)(0 <= row && row < a.rows ? row : a.rows);
}

/* Grid: columns, tokens; a thread has ROWS tokens at a time, whose reads are under way together. */
template <typename T, int W, int ROWS>
__global__ void __launch_bounds__(256) embedding_rows(par_embedding a) {
    const int64_t j = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * W;
    const int64_t step = gridDim.y * (int64_t)blockDim.y;
    if (j >= a.n) return;
    for (int64_t i = blockIdx.y * (int64_t)blockDim.y + threadIdx.y; i < a.m; i += ROWS * step) {
        par__raw<T, W> from[ROWS] = {}, old[ROWS] = {};
        unsigned row[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            row[r] = i + r * step < a.m ? table_row(a, i + r * step) : (unsigned)a.rows;
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            if (row[r] == a.rows) continue;
            from[r] = par__get_raw<W>((const T *)a.table + row[r] * a.n + j);
            if (a.accumulate) old[r] = par__get_raw<W>((T *)a.y + (i + r * step) * a.n + j);
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            if (i + r * step >= a.m || (a.accumulate && row[r] == a.rows)) continue;
            par__pack<W> v = par__wide(from[r]), onto = par__wide(old[r]);
#pragma unroll
            for (int e = 0; a.accumulate && e < W; e++) v.x[e] += onto.x[e];
            par__put<W>((T *)a.y + (i + r * step) * a.n + j, v);
        }
    }
}

template <typename T, int W>
static par_status forward_width(par_stream *stream, const par_embedding *a) {
    enum { ROWS = W == 1 ? 1 : FORWARD_ROWS };
    unsigned threads = par__threads(par__blocks(a->n, W), 256), rows = 256 / threads;
    dim3 grid((unsigned)par__blocks(a->n, (int64_t)threads * W),
              par__grid(par__blocks(a->m, rows * ROWS)));
    PAR_LAUNCH((embedding_rows<T, W, ROWS>), grid, dim3(threads, rows), 0, stream, *a);
    return par__cuda_launched("embedding");
}

template <typename T> static par_status forward(par_stream *stream, const par_embedding *a) {
    if (a->m == 0 || a->n == 0) return PAR_OK;
    bool packed = par__packable<T>(a->y, a->n) && par__packable<T>(a->table, a->n);
    return PAR_DISPATCH_WIDTH(T, packed, forward_width, stream, a);
}

/* ---- the sort: pairs {table row, token} ---- */

/* Steps of a warp in a tile: short ones keep more multiprocessors busy, but every block of a
 * scatter adds up the digits of all tiles. */
static inline __host__ __device__ int64_t tile_steps(int64_t m) {
    int64_t steps = (m + TILES * WARPS * 32 - 1) / (TILES * WARPS * 32);
    return steps < 1 ? 1 : steps > 8 ? 8 : steps;
}

static inline int64_t n_tiles(int64_t m) {
    return par__blocks(m, tile_steps(m) * WARPS * 32);
}

/* Tokens of a warp's stretch, from `from` or, in the first pass (NULL), from the ids. f(pair,
 * digit, peers) for every step by whole warps; digit is DIGITS behind the end. */
template <typename F>
__device__ static inline void each_step(const par_embedding &a, const uint2 *from, int shift, F f) {
    const int64_t steps = tile_steps(a.m);
    int64_t begin = ((int64_t)blockIdx.x * WARPS + threadIdx.x / 32) * steps * 32;
    for (int step = 0; step < steps && begin + step * 32 < a.m; step++) {
        int64_t i = begin + step * 32 + threadIdx.x % 32;
        uint2 pair = {0, 0};
        if (i < a.m) pair = from ? from[i] : uint2{table_row(a, i), (unsigned)i};
        unsigned digit = i < a.m ? pair.x >> shift & (DIGITS - 1) : (unsigned)DIGITS;
        f(pair, digit, __match_any_sync(0xffffffffu, digit));
        __syncwarp();
    }
}

/* How often each digit stands in the stretch of each warp. */
__device__ static inline void count_digits(const par_embedding &a, const uint2 *from, int shift,
                                           unsigned (*counts)[DIGITS]) {
    unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (int w = 0; w < WARPS; w++) counts[w][threadIdx.x] = 0;
    __syncthreads();
    each_step(a, from, shift, [&](uint2, unsigned digit, unsigned peers) {
        if (digit < DIGITS && (unsigned)__ffs((int)peers) == lane + 1)
            counts[warp][digit] += __popc(peers);
    });
    __syncthreads();
}

/* table [tiles, DIGITS] */
__global__ void __launch_bounds__(DIGITS)
    embedding_count(par_embedding a, const uint2 *from, int shift, unsigned *table) {
    __shared__ unsigned counts[WARPS][DIGITS];
    count_digits(a, from, shift, counts);
    unsigned total = 0;
    for (int w = 0; w < WARPS; w++) total += counts[w][threadIdx.x];
    table[(int64_t)blockIdx.x * DIGITS + threadIdx.x] = total;
}

/* Where this tile's tokens with the digit threadIdx.x begin: behind those of smaller digits, and of
 * earlier tiles. Every block adds the whole table up, which is less than a kernel of its own. */
__device__ static inline unsigned first_place(const unsigned *table) {
    __shared__ unsigned sums[2][DIGITS];
    unsigned before = 0, all = 0;
    int at = 0;
#pragma unroll 16
    for (unsigned tile = 0; tile < gridDim.x; tile++) {
        unsigned count = table[(int64_t)tile * DIGITS + threadIdx.x];
        if (tile < blockIdx.x) before += count;
        all += count;
    }
    sums[0][threadIdx.x] = all;
    __syncthreads();
    for (unsigned step = 1; step < DIGITS; step *= 2, at = 1 - at) {
        unsigned other = threadIdx.x >= step ? sums[at][threadIdx.x - step] : 0;
        sums[1 - at][threadIdx.x] = sums[at][threadIdx.x] + other;
        __syncthreads();
    }
    return sums[at][threadIdx.x] - all + before;
}

__global__ void __launch_bounds__(DIGITS)
    embedding_scatter(par_embedding a, const uint2 *from, int shift, const unsigned *table,
                      uint2 *to) {
    __shared__ unsigned counts[WARPS][DIGITS];
    unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32, place = first_place(table);
    count_digits(a, from, shift, counts);
    for (int w = 0; w < WARPS; w++) {
        unsigned count = counts[w][threadIdx.x];
        counts[w][threadIdx.x] = place;
        place += count;
    }
    __syncthreads();
    each_step(a, from, shift, [&](uint2 pair, unsigned digit, unsigned peers) {
        if (digit < DIGITS) to[counts[warp][digit] + __popc(peers & ((1u << lane) - 1))] = pair;
        __syncwarp();
        if (digit < DIGITS && (unsigned)__ffs((int)peers) == lane + 1)
            counts[warp][digit] += __popc(peers);
    });
}

/* start[row], row <= rows: the first sorted pair of this row or of a later one. */
__global__ void __launch_bounds__(256)
    embedding_bounds(const uint2 *sorted, int64_t m, int64_t rows, unsigned *start) {
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t row = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; row <= rows; row += step) {
        int64_t low = 0, high = m;
        while (low < high) {
            int64_t middle = (low + high) / 2;
            if (sorted[middle].x < row)
                low = middle + 1;
            else
                high = middle;
        }
        start[row] = (unsigned)low;
    }
}

/* ---- the sums ---- */

/* Token k of a table row: from the sorted pairs, or every T-th from `first` on. */
struct tokens {
    const uint2 *sorted;
    int64_t first, T, count;
    __device__ int64_t operator[](int64_t k) const {
        return sorted ? (int64_t)sorted[k].y : first + k * T;
    }
};

__device__ static inline tokens tokens_of(const par_embedding &a, const uint2 *sorted,
                                          const unsigned *start, int64_t row) {
    if (sorted) return {sorted + start[row], 0, 0, (int64_t)start[row + 1] - start[row]};
    if (a.m == 0 || row + a.begin >= a.T) return {NULL, 0, 0, 0};
    int64_t first = (row + a.begin - a.first_row % a.T + a.T) % a.T;
    return {NULL, first, a.T, first < a.m ? (a.m - first + a.T - 1) / a.T : 0};
}

/* Grid: table rows, columns. Reads of BATCH tokens are under way together; they are added in order.
 * Most rows have a token or two, so what counts is that their places are known early: bounds are
 * read two rows ahead, the first token one. */
template <typename T, int W>
__global__ void __launch_bounds__(256, 5)
    embedding_sums(par_embedding a, const uint2 *sorted, const unsigned *start) {
    const int64_t j = ((int64_t)blockIdx.y * blockDim.x + threadIdx.x) * W, step = gridDim.x;
    if (j >= a.n) return;
    tokens none = {}, next = tokens_of(a, sorted, start, blockIdx.x);
    tokens after =
        blockIdx.x + step < a.rows ? tokens_of(a, sorted, start, blockIdx.x + step) : none;
    int64_t next_head = next.count > 0 ? next[0] : 0;
    for (int64_t row = blockIdx.x; row < a.rows; row += step) {
        const tokens of = next;
        const int64_t head = next_head;
        next = after;
        next_head = next.count > 0 ? next[0] : 0;
        if (row + 2 * step < a.rows) after = tokens_of(a, sorted, start, row + 2 * step);
        if (of.count == 0 && a.beta != 0) continue;
        par__pack<W> sum = {};
        if (a.beta != 0) sum = par__get<W>(a.dtable + row * a.n + j);
        for (int64_t k = 0; k < of.count; k += BATCH) {
            par__pack<W> v[BATCH] = {};
#pragma unroll
            for (int b = 0; b < BATCH; b++) {
                if (k + b >= of.count) continue;
                int64_t i = k + b == 0 ? head : of[k + b];
                v[b] = par__get<W>((const T *)a.dy + i * a.n + j);
            }
#pragma unroll
            for (int b = 0; b < BATCH; b++)
#pragma unroll
                for (int e = 0; e < W; e++) sum.x[e] += v[b].x[e];
        }
        par__put<W>(a.dtable + row * a.n + j, sum);
    }
}

template <typename T, int W>
static par_status sums_width(par_stream *stream, const par_embedding *a, const uint2 *sorted,
                             const unsigned *start) {
    unsigned threads = par__threads(par__blocks(a->n, W), 256);
    dim3 grid(par__grid(a->rows), (unsigned)par__blocks(a->n, (int64_t)threads * W));
    PAR_LAUNCH((embedding_sums<T, W>), grid, dim3(threads), 0, stream, *a, sorted, start);
    return par__cuda_launched("embedding_sums");
}

/* The workspace: two arrays of pairs, the table of digits, where each table row starts. */
typedef struct {
    uint2 *pairs[2];
    unsigned *table, *start;
    size_t nbytes;
} layout;

static layout layout_of(const par_embedding *a, void *workspace) {
    size_t pairs = ((size_t)a->m * sizeof(uint2) + 15) / 16 * 16;
    size_t table = (size_t)(DIGITS * n_tiles(a->m)) * sizeof(unsigned);
    char *p = (char *)workspace;
    return {{(uint2 *)p, (uint2 *)(p + pairs)},
            (unsigned *)(p + 2 * pairs),
            (unsigned *)(p + 2 * pairs + table),
            2 * pairs + table + (size_t)(a->rows + 1) * sizeof(unsigned)};
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
    return packed ? sums_width<T, 4>(stream, a, sorted, w.start)
                  : sums_width<T, 1>(stream, a, sorted, w.start);
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
