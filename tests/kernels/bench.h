/*
 * One operation, two backends: buffers with guard zones, made of the same noise for each, and their
 * comparison.
 *
 * A case is a function that declares its buffers and calls operations; it runs once on "ref" and
 * once on the backend under test. Outputs start as NaN, gaps between rows are NaN in all matrices,
 * so that reading an old value, a gap or too few elements shows; guard zones, gaps and inputs must
 * keep their bits.
 *
 * Bounds. An output passes if |subject - ref| <= absolute + unit(dtype) · |ref|. `absolute` bounds
 * the difference before the store; each store then rounds by at most half a unit of the type,
 * together one: 2^-22 of the value for fp32 (two units, the last operation may round once more),
 * 2^-7 for bf16 and 2^-10 for fp16, subnormals 2^-24.
 */
#ifndef PAR_TESTS_BENCH_H
#define PAR_TESTS_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "harness.h"
#include "par/kernels.h"

enum { BENCH_BUFFERS = 24 };
#define BENCH_U     0x1p-24 /* half a unit of fp32 */
#define BENCH_EXACT -1.0

typedef struct {
    const char *name;
    par_dtype dtype;
    int64_t rows, width, ld;
    size_t nbytes;
    unsigned char *block,
        *before; /* guard, data, guard; before: the input's bits or what the gaps hold */
    double absolute;
    bool output;
    int skew;
} bench_buffer;

typedef struct {
    const par_backend *backend;
    int n;
    int skew; /* elements that new buffers begin behind a multiple of 16 bytes; set by a case, 0 at
                 first */
    bench_buffer buffers[BENCH_BUFFERS];
} bench;

/* The backend under test, NULL when this build does not have it. Set by bench_main. */
extern const par_backend *bench_subject;
extern bool bench_is_ref;
/* All cases of this folder for one backend. */
int bench_main(const char *backend, int argc, char **argv);
/* False after a visible skip: no such backend, or it has no kernel for the operation. */
bool bench_ready(void);
bool bench_ready_for(par_op op);

void *bench_in(bench *b, par_dtype dtype, int64_t rows, int64_t width, int64_t ld,
               double magnitude);
void *bench_out(bench *b, const char *name, par_dtype dtype, int64_t rows, int64_t width,
                int64_t ld, double absolute);
/* Read and written: starts as noise. magnitude NaN: starts as NaN. */
void *bench_inout(bench *b, const char *name, par_dtype dtype, int64_t rows, int64_t width,
                  int64_t ld, double magnitude, double absolute);
/* An integer input in [low, high). */
int32_t *bench_ids(bench *b, int64_t n, int64_t low, int64_t high);
/* Add a constant to a buffer that was just made. */
void bench_offset(bench *b, const void *data, double offset);
/* bench_gemm(b, &gemm), and so for every operation: prepare, a guarded and poisoned workspace of
 * just that size, run, in which libpar allocates nothing. */
void bench_run_untyped(bench *b, par_op op, const void *args);
#define BENCH_RUN(OP, name, type)                                                                  \
    static inline void bench_##name(bench *b, const type *args) {                                  \
        bench_run_untyped(b, PAR_OP_##OP, args);                                                   \
    }
PAR_OP_LIST(BENCH_RUN)
#undef BENCH_RUN
/* A bench of the subject without buffers, for operands that a case has itself. */
bench *bench_alone(void);
/* Frees the buffers of a bench that is used alone; bench_compare frees its own. */
void bench_destroy(bench *b);
/* Run `build` on ref and on the subject and compare every output. */
void bench_compare(void (*build)(bench *, const void *), const void *variant, const char *format,
                   ...) __attribute__((format(printf, 3, 4)));

/* What a vote leaves for update t: corrections are 1 - b^t by pow. */
par_step bench_step(float lr, float grad_scale, int64_t t, double b1, double b2);

/* PAR_U8: bytes as signed integers, which start as they are in guard zones. */
double bench_load(const void *data, par_dtype dtype, int64_t i);
void bench_store(void *data, par_dtype dtype, int64_t i, double value);
/* One unit in the last place of 1. */
double bench_unit(par_dtype dtype);
/*
 * Difference of two sums of n terms of mean magnitude `term`, added in fp32 in any order: rounding
 * errors add like a random walk (Higham and Mary 2019, SIAM J. Sci. Comput. 41), 4 standard
 * deviations: 4 sqrt(n) u · n · term.
 */
double bench_sum(int64_t n, double term);

/* The files with cases: by topic as in kernels/ref, and what is asked of several topics. Each has
 * NAME_cases and their number. */
#define BENCH_TOPICS(X)                                                                            \
    X(gemm)                                                                                        \
    X(norm)                                                                                        \
    X(rope)                                                                                        \
    X(embedding)                                                                                   \
    X(activation)                                                                                  \
    X(residual)                                                                                    \
    X(update)                                                                                      \
    X(attention)                                                                                   \
    X(attention_decode)                                                                            \
    X(int8)                                                                                        \
    X(xent)                                                                                        \
    X(ballot)                                                                                      \
    X(vote)                                                                                        \
    X(norm_residual)                                                                               \
    X(rounding)                                                                                    \
    X(repeat)                                                                                      \
    X(step)                                                                                        \
    X(threads)
#define BENCH_CASES(name)                                                                          \
    extern const harness_case name##_cases[];                                                      \
    extern const int n_##name##_cases;
BENCH_TOPICS(BENCH_CASES)
#undef BENCH_CASES

#endif
