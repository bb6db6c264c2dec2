/*
 * A model of which one call fails on one rank: for tests of what the others then return. The rank
 * waits a moment first, so that its peers really wait for it.
 */
#ifndef PAR_TESTS_FAILING_MODEL_H
#define PAR_TESTS_FAILING_MODEL_H

#include "par/par.h"

/* Which calls are counted: forwards and backwards of training, forwards of an evaluation, decodes
 * of a generation, products, waits for the device. */
typedef enum {
    FAIL_NONE,
    FAIL_FORWARD,
    FAIL_BACKWARD,
    FAIL_EVALUATE,
    FAIL_DECODE,
    FAIL_GEMM,
    FAIL_SYNC
} failing_call;

#define FAILING_WHY "this call was made to fail"

/* The inner model, whose modules' calls are counted. */
void failing_model(const par_model *inner, par_model *out);
/* The inner backend, whose products and waits are counted. */
void failing_backend(const par_backend *inner, par_backend *out);
/* The n-th of these calls on this rank, from 1, returns `status`. */
void failing_set(failing_call call, int n, par_status status);
/* It takes so many seconds and goes on, sleeping or, if it is `busy`, computing. */
void failing_slow(failing_call call, int n, double seconds, bool busy);
/* By the clock of par__seconds, when it did; 0: it did not. */
double failing_moment(void);

#endif
