/*
 * The kernels' benchmark: what its files share. A case is one operation at a shape that follows
 * from a model, micro-batch and type; it takes its own memory from the backend, so that one case's
 * buffers are gone before the next one's. Failures end the program with a message: bench_check.
 */
#ifndef BENCHMARKS_KERNELS_H
#define BENCHMARKS_KERNELS_H

#include "par/kernels.h"
#include "par/transformer.h"

/* Where a case runs: B samples of T tokens, m = B · T rows. */
typedef struct {
    const par_backend *backend;
    const par_transformer_config *config;
    par_dtype dtype;
    int64_t B, T, m;
    int64_t
        max_update; /* elements of the optimizer's operations: the model's, but no more than this */
} bench_setup;

enum { BENCH_MAX_BLOCKS = 16 };

/* One copy of a case's arguments and the device memory they point to. */
typedef struct {
    const bench_setup *place;
    par_op_args args;
    par_residual sum; /* of a norm's args */
    par_norm2_vector vector;
    size_t nbytes; /* of all blocks */
    int n_blocks;
    struct {
        void *data;
        size_t nbytes;
    } blocks[BENCH_MAX_BLOCKS];
} bench_set;

typedef struct bench_case bench_case;
struct bench_case {
    const char *label;
    par_op op;
    void (*build)(const bench_case *, bench_set *);
    int what, how; /* of build */
};

extern const bench_case bench_cases[]; /* ends with a label NULL */

void bench_build(const bench_setup *, const bench_case *, bench_set *);
void bench_free(bench_set *);

/* The floating-point work of an operation by definition, 0 for those bound by memory, and the bytes
 * that it must read and write at least. */
double bench_flops(par_op op, const par_op_args *);
double bench_nbytes(par_op op, const par_op_args *);
const char *bench_formula(par_op op);

/* --json FILE: begun before the first case, ended behind the last; without it cases go nowhere.
 * Figures end with a name NULL. copy_bandwidth in bytes per second; 0: not measured. Ends the
 * program with a message if the file cannot be written. */
typedef struct {
    const char *name;
    double value;
} bench_figure;
void bench_json_begin(const char *path, const bench_setup *);
void bench_json_case(const char *operation, const char *kernel, const bench_figure *);
void bench_json_end(double copy_bandwidth);

/* Ends the program with par_error() after `what` unless st is PAR_OK. */
void bench_check(par_status st, const char *what);
void *bench_host_memory(size_t nbytes);
double bench_now_s(void);

typedef struct {
    double seconds;     /* of a case */
    double peak_tflops; /* 0: shares of a peak are not printed */
    size_t cache, copy; /* bytes: working set at least; of the copy that measures bandwidth */
    const char *filter;
    bool formulas;
} bench_device_params;

/* The cases on a device, beside its copy bandwidth in bytes per second, which is returned. */
double bench_device(const bench_setup *, const bench_device_params *);

#endif
