/*
 * What the topics of the cpu backend share. Each topic is compiled once a rung (meson.build); its one
 * exported function fills its entries of the table. Versions here are for fp32; other types go to the
 * reference.
 *
 * Invariant: work is cut into pieces by shape alone, never by the number of threads, and pieces are combined
 * in a fixed order, so results do not depend on threads or timing (oneDNN's GEMM: on the number of threads).
 */
#ifndef PAR__CPU_H
#define PAR__CPU_H

#include "kernels/backends.h"
#include "kernels/ref/ref.h"

#ifdef _OPENMP
#include <omp.h>
#endif

void par__cpu_rung(par_backend *backend);
void par__cpu_activation(par_backend *backend);
void par__cpu_attention(par_backend *backend);
void par__cpu_column_sum(par_backend *backend);
void par__cpu_embedding(par_backend *backend);
void par__cpu_gemm(par_backend *backend);
void par__cpu_norm(par_backend *backend);
void par__cpu_residual(par_backend *backend);
void par__cpu_rope(par_backend *backend);
void par__cpu_update(par_backend *backend);
void par__cpu_xent(par_backend *backend);

/* "gelu/cpu/avx2" */
#define CPU_NAME(op) op "/cpu/" PAR__RUNG

/* Below this many elements a loop stays on its thread: starting a team costs a few microseconds. */
#define CPU_PARALLEL (INT64_C(1) << 15)

/* Progress from inside a parallel loop: MPI may be called by the thread that called the kernel only, which is
 * number 0 of its team. */
static inline void cpu_progress(par_stream *stream) {
#ifdef _OPENMP
    if (omp_get_thread_num() != 0) return;
#endif
    par__progress(stream);
}

static inline int64_t cpu_min(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Pieces of `size` that cover n. */
static inline int64_t cpu_pieces(int64_t n, int64_t size) {
    return (n + size - 1) / size;
}

/* Dropout's factors, 0 or 1 / (1 - p), of elements [begin, begin + n) of a row with period T. n <= 256. */
enum { CPU_DROPOUT_MAX = 256 };
void par__cpu_dropout(const par_dropout *d, int64_t T, int64_t row, int64_t begin, int64_t n, float *factors);

#endif
