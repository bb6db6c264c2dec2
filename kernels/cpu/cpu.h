/*
 * What the topics of the cpu backend share. Each topic is compiled once per rung (meson.build); its
 * par__cpu_<topic> fills its entries of the table.
 *
 * One text serves fp32, bf16 and fp16: all arithmetic is fp32, in loops over vectors of any type
 * (vector.h) or on blocks that cpu_read and cpu_place give. For fp32 they are the operands
 * themselves; 16-bit operands are widened into a buffer, and cpu_write rounds the result once.
 *
 * Invariant: work is cut into pieces by shape alone, never by the number of threads, and pieces are
 * combined in a fixed order, so results do not depend on threads or timing (oneDNN's products: on
 * the number of threads).
 */
#ifndef PAR__CPU_H
#define PAR__CPU_H

#include "kernels/backends.h"
#include "kernels/ref/ref.h"
#include "libpar/base/threads.h"

void par__cpu_rung(par_backend *backend);
void par__cpu_activation(par_backend *backend);
void par__cpu_attention(par_backend *backend);
void par__cpu_attention_decode(par_backend *backend);
void par__cpu_column_sum(par_backend *backend);
void par__cpu_embedding(par_backend *backend);
void par__cpu_gemm(par_backend *backend);
void par__cpu_gemm_bf16(par_backend *backend); /* after par__cpu_gemm */
void par__cpu_gemm_int8(par_backend *backend);
void par__cpu_norm(par_backend *backend);
void par__cpu_quantize(par_backend *backend);
void par__cpu_residual(par_backend *backend);
void par__cpu_rope(par_backend *backend);
void par__cpu_update(par_backend *backend);
void par__cpu_xent(par_backend *backend);

/* "gelu/cpu/avx2" */
#define CPU_NAME(op) op "/cpu/" PAR__RUNG

/* Below this many elements a loop stays on its thread: handing out work costs about as much. */
#define CPU_PARALLEL (INT64_C(1) << 15)

/* What the ranges of a loop need that has more than arguments. */
typedef struct {
    const void *args;
    void *workspace;
    par_stream *stream;
} cpu_call;

/* Iterations [0, n), which have `elements` together, on all threads. */
static inline void cpu_loop(int64_t n, int64_t elements, par__range *run, const void *user) {
    par__threads_run(n, elements > CPU_PARALLEL ? PAR_MAX_THREADS : 1, run, user);
}

/* The same where each slot has a part of the workspace. */
static inline void cpu_loop_slots(int64_t n, int64_t elements, par__range *run, const void *user) {
    par__threads_run(n, elements > CPU_PARALLEL ? par__threads_prepared() : 1, run, user);
}

/* Progress from inside a loop: MPI may be called by the thread that called the kernel only, which
 * has slot 0. */
static inline void cpu_progress(par_stream *stream, int slot) {
    if (slot == 0) par__progress(stream);
}

static inline int64_t cpu_min(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Pieces of `size` that cover n. */
static inline int64_t cpu_pieces(int64_t n, int64_t size) {
    return (n + size - 1) / size;
}

/* A block of floats that stays in the first-level cache with the others of its loop. 1664 bytes: up
 * to five such buffers in a row then start at least 768 bytes apart in their pages, the place by
 * which a load that waits for a store is found. */
enum { CPU_BLOCK = 416 };
typedef float cpu_buffer[CPU_BLOCK] __attribute__((aligned(64)));

/* y[n] = elements [at, at + n) of x, exactly; and back, rounded to nearest even. fp32 is copied. */
void par__cpu_widen(const void *x, par_dtype dtype, int64_t at, int64_t n, float *y);
void par__cpu_narrow(const float *x, void *y, par_dtype dtype, int64_t at, int64_t n);

/* Elements [at, at + n) of x: where they lie if fp32, else in the buffer. */
static inline const float *cpu_read(const void *x, par_dtype dtype, int64_t at, int64_t n,
                                    float *buffer) {
    if (dtype == PAR_F32) return (const float *)x + at;
    par__cpu_widen(x, dtype, at, n, buffer);
    return buffer;
}

/* Where a block of results for y + at is made; cpu_write then brings it there, if it is not there
 * already. */
static inline float *cpu_place(void *y, par_dtype dtype, int64_t at, float *buffer) {
    return dtype == PAR_F32 ? (float *)y + at : buffer;
}

static inline void cpu_write(const float *block, void *y, par_dtype dtype, int64_t at, int64_t n) {
    if (dtype != PAR_F32) par__cpu_narrow(block, y, dtype, at, n);
}

/* Parts of a workspace for a loop of n iterations: at least 1. In prepare alone. */
static inline int cpu_slots(int64_t n) {
    int64_t slots = cpu_min(n, par__threads_prepare());
    return slots > 1 ? (int)slots : 1;
}

/* Dropout's factors, 0 or 1 / (1 - p), of elements [begin, begin + n) of a row with period T. n <=
 * 256. */
enum { CPU_DROPOUT_MAX = 256 };
void par__cpu_dropout(const par_dropout *d, int64_t T, int64_t row, int64_t begin, int64_t n,
                      float *factors);

/* Row i of the operation. */
void par__cpu_residual_row(const par_residual *a, int64_t i);

#endif
