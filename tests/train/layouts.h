/* Runs of a layout and of one rank, and their comparison: what the suites of 8 and of 64 ranks
 * share. */
#ifndef PAR_TESTS_LAYOUTS_H
#define PAR_TESTS_LAYOUTS_H

#include "check.h"

enum { LAYOUTS_MAX_STEPS = 20 };

typedef struct {
    int family; /* CHECK_GPT ... */
    par_optimizer optimizer;
    float dropout;
    int64_t batch;
    int steps;
} layouts_problem;

typedef struct {
    int tp, pp, dp;
    par_schedule_kind schedule;
    int chunks, zero;
    par_recompute recompute;
    bool no_sequence_parallel;
    int64_t micro_batch;
} layouts_setting;

/* What a run leaves: tensors in global shape on rank 0, numbers on every rank. */
typedef struct {
    double loss[LAYOUTS_MAX_STEPS], norm[LAYOUTS_MAX_STEPS];
    float *initial, *gradients, *final; /* [table.total]; NULL before the first run */
} layouts_run;

/* Runs `setting` and compares it with one rank: CHECKs of the harness, with the setting in their
 * text. False on every rank if the case has failed on one, so that all stop together. */
bool layouts_compare(par_transport *transport, const layouts_problem *problem,
                     const layouts_setting *setting, bool repeat);
void layouts_describe(const layouts_problem *problem, const layouts_setting *setting, char *text,
                      size_t nbytes);

#endif
