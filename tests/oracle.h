/*
 * Reference results: a directory with a model, its tokens, and what an independent implementation
 * computed in float64; and the comparison of one layout of libpar with them. docs/verification.md
 * says what the files are.
 */
#ifndef PAR_TESTS_ORACLE_H
#define PAR_TESTS_ORACLE_H

#include <jansson.h>
#include <mpi.h>
#include <stdbool.h>

#include "par/par.h"

typedef struct {
    char name[128]; /* last part of the path */
    par_import *import;
    par_transformer_config config; /* with T of the tokens */
    /* NULL: the directory does not have the file, and nothing is compared with it */
    par_safetensors *forward, *gradients, *final, *moments;
    json_t *reference;
    int64_t n_steps, batch, T;
    int32_t *tokens; /* [n_steps, batch, T + 1] */
} oracle_case;

/** Open a directory; results come from `reference` if it is not NULL (a case with the same
 * weights), else from itself. */
par_status oracle_open(const char *directory, const char *reference, oracle_case *out);
void oracle_close(oracle_case *c);
/** Samples of the case by number: sample s is entry s of [n_steps · batch]. */
par_source oracle_source(const oracle_case *c);

typedef struct {
    int tp, pp, dp;
    par_schedule_kind schedule;
    int chunks, zero;
    par_recompute recompute;
    bool no_sequence_parallel, details; /* details: a line for every comparison */
    const char *device;
    par_dtype dtype;        /* 16 bits: the losses of the trajectory alone are compared */
    par_dtype reduce_dtype; /* bf16: these in fp32 too, and the gradients of step 1 */
    int64_t micro_batch;    /* 0: so that the pipeline has two micro-batches per stage, if the batch
                            allows it */
} oracle_options;

/* What is compared; each has one bound (oracle_run.c). */
typedef enum {
    ORACLE_LOGITS,
    ORACLE_LOSS,
    ORACLE_GRADIENT,
    ORACLE_TRAJECTORY_LOSS,
    ORACLE_TRAJECTORY_NORM,
    ORACLE_FINAL,
    ORACLE_MOMENTS,
    ORACLE_GREEDY,
    ORACLE_KINDS
} oracle_kind;

typedef struct {
    int compared[ORACLE_KINDS], failed;
    double largest[ORACLE_KINDS];
    char first_failure[256];
} oracle_result;

const char *oracle_kind_name(oracle_kind kind);
double oracle_bound(oracle_kind kind);

/**
 * Run one layout and compare all there is; comm has the ranks of the transport. Collective on the
 * transport's world; `result` is the same on every rank. An error is libpar's own; a comparison
 * above its bound is in the result.
 */
par_status oracle_run(par_transport *transport, MPI_Comm comm, const oracle_case *c,
                      const oracle_options *options, oracle_result *result);
/** "logits 3e-07, loss 1e-08, ...": the largest difference of each kind. */
void oracle_summary(const oracle_result *result, char *text, size_t nbytes);

#endif
