/*
 * Product of a few rows of activations with weights of 8 bits, par_gemm_int8 in par/kernels.h. It
 * is bound by the memory that weights come from: q is read once for up to MOST_ROWS rows, 16 bytes
 * per lane, and again for the next MOST_ROWS. A warp has a column of c, or a few, so that it reads
 * an activation from shared memory once for them. A lane has 16 elements of every 512; its sums
 * over a group's share are scaled and added, then the lanes' are. So the order of additions depends
 * on k alone, and a row has the same bits among others as alone.
 */
#include "kernels/cuda/own/device.cuh"

enum { WARPS = 8, LANE = 16, PASS = 32 * LANE, MOST_ROWS = 8, SHARED_FLOATS = 8192 };
static_assert(PAR_INT8_GROUP % LANE == 0, "a lane's elements have one scale");

/* Columns of a warp: as many as keep reading rows from shared memory no longer than reading q. */
template <int ROWS> struct shape {
    static constexpr int columns = (ROWS + 1) / 2;
    static constexpr int piece = SHARED_FLOATS / (ROWS > 2 ? ROWS : 2); /* of k, at a time */
    static_assert(piece % PASS == 0, "whole passes");
};

template <typename T> __device__ static inline float element(const void *p, int64_t i) {
    return par__load((const T *)p + i);
}

/* Where element e of a piece lies: a warp's 16-byte reads of it lie side by side. */
__device__ static inline int place(int e) {
    return e / PASS * PASS + e % LANE / 4 * 128 + e % PASS / LANE * 4 + e % 4;
}

/* x [ROWS, piece] = elements [begin, begin + n) of rows i .. of a; zeros behind the last row, and
 * behind the last element to the end of a lane's. */
template <int ROWS>
__device__ static inline void stage(const par_gemm_int8 &g, int64_t i, int64_t begin, int n,
                                    float *x) {
    int thread = threadIdx.y * 32 + threadIdx.x, padded = (n + LANE - 1) / LANE * LANE;
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        for (int e = thread; e < padded; e += 32 * WARPS) {
            bool there = i + r < g.m && e < n;
            int64_t at = (i + r) * g.lda + begin + e;
            x[r * shape<ROWS>::piece + place(e)] =
                there ? PAR_DISPATCH(g.dtype, element, g.a, at) : 0.0f;
        }
}

union lane_weights {
    uint4 bits;
    uint32_t word[4];
};

/* A lane's weights: whole and aligned if PACKED, else the first `count` of them and zeros. */
template <bool PACKED> __device__ static inline lane_weights read(const int8_t *p, int64_t count) {
    lane_weights out;
    if constexpr (PACKED) {
        PAR__ALIGNED(p);
        out.bits = *reinterpret_cast<const uint4 *>(p);
    } else {
#pragma unroll
        for (int w = 0; w < 4; w++) {
            out.word[w] = 0;
#pragma unroll
            for (int b = 0; b < 4; b++)
                if (4 * w + b < count) out.word[w] |= (uint32_t)(uint8_t)p[4 * w + b] << (8 * b);
        }
    }
    return out;
}

/* Byte b of a word as fp32, by the bits of 2^23 + q + 128: a conversion takes four times as
 * long. */
__device__ static inline float widen(uint32_t word, int b) {
    return __uint_as_float(0x4b000000u | ((word ^ 0x80808080u) >> (8 * b) & 0xff)) - 8388736.0f;
}

/* totals += the piece's products of the columns j .. ; columns behind the last repeat it. */
template <int ROWS, bool PACKED>
__device__ static inline void add_piece(float (&totals)[ROWS][shape<ROWS>::columns],
                                        const par_gemm_int8 &g, int64_t j, int64_t begin, int n,
                                        const float *x) {
    constexpr int columns = shape<ROWS>::columns;
    int64_t groups = (g.k + PAR_INT8_GROUP - 1) / PAR_INT8_GROUP; /* of a row */
#pragma unroll(ROWS == 1 ? 4 : 1)
    for (int at = threadIdx.x * LANE; at < n; at += PASS) {
        lane_weights q[columns];
        float scale[columns], sums[ROWS][columns] = {};
#pragma unroll
        for (int c = 0; c < columns; c++) {
            int64_t column = j + c < g.n ? j + c : g.n - 1;
            q[c] = read<PACKED>(g.q + column * g.k + begin + at, n - at);
            scale[c] = g.scales[column * groups + (begin + at) / PAR_INT8_GROUP];
        }
#pragma unroll
        for (int w = 0; w < 4; w++)
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                par__pack<4> v = par__get<4>(x + r * shape<ROWS>::piece + place(at + 4 * w));
#pragma unroll
                for (int c = 0; c < columns; c++)
#pragma unroll
                    for (int b = 0; b < 4; b++) sums[r][c] += v.x[b] * widen(q[c].word[w], b);
            }
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
            for (int c = 0; c < columns; c++) totals[r][c] += scale[c] * sums[r][c];
    }
}

template <typename T>
__device__ static inline void put(const par_gemm_int8 &g, int64_t i, int64_t j, float x) {
    par__store((T *)g.c + i * g.ldc + j, x);
}

/* Lane r · columns + c writes the sum of row i + r and column j + c. */
template <int ROWS>
__device__ static inline void write(const float (&totals)[ROWS][shape<ROWS>::columns],
                                    const par_gemm_int8 &g, int64_t i, int64_t j) {
    constexpr int columns = shape<ROWS>::columns;
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int c = 0; c < columns; c++) {
            float sum = par__warp_sum(totals[r][c]);
            if ((int)threadIdx.x != r * columns + c || i + r >= g.m || j + c >= g.n) continue;
            if (g.bias) sum += PAR_DISPATCH(g.dtype, element, g.bias, j + c);
            PAR_DISPATCH(g.dtype_c, put, g, i + r, j + c, sum);
        }
}

/* Grid: columns, rows. */
template <int ROWS, bool PACKED>
__global__ void __launch_bounds__(32 * WARPS, ROWS == MOST_ROWS ? 1 : 2)
    gemm_int8_rows(par_gemm_int8 g) {
    PAR_SHARED(float, x);
    constexpr int columns = shape<ROWS>::columns, piece = shape<ROWS>::piece;
    for (int64_t i = blockIdx.y * (int64_t)ROWS; i < g.m; i += gridDim.y * (int64_t)ROWS)
        for (int64_t first = blockIdx.x * (int64_t)(WARPS * columns); first < g.n;
             first += gridDim.x * (int64_t)(WARPS * columns)) {
            float totals[ROWS][columns] = {};
            int64_t j = first + threadIdx.y * columns;
            for (int64_t begin = 0; begin < g.k; begin += piece) {
                int n = g.k - begin < piece ? (int)(g.k - begin) : piece;
                __syncthreads();
                stage<ROWS>(g, i, begin, n, x);
                __syncthreads();
                add_piece<ROWS, PACKED>(totals, g, j, begin, n, x);
            }
            write<ROWS>(totals, g, i, j);
        }
}

template <int ROWS, bool PACKED>
static par_status launch(par_stream *stream, const par_gemm_int8 *g) {
    constexpr int piece = shape<ROWS>::piece;
    int64_t longest = g->k < piece ? par__blocks(g->k, PASS) * PASS : piece;
    size_t shared = (size_t)((ROWS - 1) * piece + longest) * sizeof(float);
    PAR_LAUNCH((gemm_int8_rows<ROWS, PACKED>),
               dim3(par__grid(par__blocks(g->n, WARPS * shape<ROWS>::columns)),
                    par__grid(par__blocks(g->m, ROWS))),
               dim3(32, WARPS), shared, stream, *g);
    return par__cuda_launched("gemm_int8");
}

template <int ROWS> static par_status by_alignment(par_stream *stream, const par_gemm_int8 *g) {
    bool packed = (uintptr_t)g->q % LANE == 0 && g->k % LANE == 0;
    return packed ? launch<ROWS, true>(stream, g) : launch<ROWS, false>(stream, g);
}

static par_status prepare(const void *args, size_t *workspace_nbytes) {
    (void)args;
    *workspace_nbytes = 0;
    return PAR_OK;
}

static par_status run(par_stream *stream, const void *args, void *workspace) {
    const par_gemm_int8 *g = (const par_gemm_int8 *)args;
    (void)workspace;
    if (g->m == 0 || g->n == 0) return PAR_OK;
    if (g->m == 1) return by_alignment<1>(stream, g);
    return g->m <= 4 ? by_alignment<4>(stream, g) : by_alignment<MOST_ROWS>(stream, g);
}

extern "C" void par__cuda_gemm_int8_init(par_backend *backend) {
    backend->kernels[PAR_OP_GEMM_INT8] = {"gemm_int8/cuda/own", prepare, run};
}
