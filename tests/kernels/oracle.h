/*
 * Kernels against an oracle that shares nothing with them: forwards written again in double from
 * the formulas, and backwards as central differences of those.
 *
 * With h = 1e-5 a central difference errs by h² f'''/6 + 2^-53 |f| / h, about 1e-10 for values of
 * order 1. ref rounds a result once (2^-24 of it) and reads statistics that were rounded once: 1e-6
 * of the tensor's norm is ample. Another fp32 version adds up to 100 terms in fp32: 100 u = 6e-6,
 * so 2e-5. A result that is zero by construction (dq of a single key) keeps the rounding noise of
 * terms of order 1, some 1e-7 per element: below a root mean square of 1e-2 the norm counts as
 * that.
 */
#ifndef PAR_TESTS_ORACLE_H
#define PAR_TESTS_ORACLE_H

#include "bench.h"

enum { ORACLE_MAX = 4096 };

/* Of a tensor's norm: what the subject may differ by. */
double oracle_bound(void);
/* The same noise in both types. */
void oracle_noise(double *x, float *single, int64_t n, uint64_t seed);
void oracle_check(const char *what, const float *x, const double *oracle, int64_t n);
/* d loss / d x by central differences */
void oracle_differentiate(double (*loss)(const void *), const void *problem, double *x, int64_t n,
                          double *gradient);
/* Dropout's factor, from the comment of par_dropout. */
double oracle_mask(const par_dropout *d, int64_t T, int64_t row, int64_t e);

#endif
