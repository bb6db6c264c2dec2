/*
 * Lists of all stages for the pipeline's tests: made by the generator, with buckets so that every
 * action occurs, and copies that tests may spoil.
 */
#ifndef PAR_TESTS_PIPELINE_LISTS_H
#define PAR_TESTS_PIPELINE_LISTS_H

#include "par/schedule.h"

enum { LISTS_MAX_STAGES = 16 };

typedef struct {
    int p;
    par_schedule *stages[LISTS_MAX_STAGES];
} lists;

/* Chunk c owns buckets 2 c and 2 c + 1, complete with its modules 2 and 1: its last backward is
 * three actions. Two last buckets behind them. */
par_status lists_create(lists *, par_schedule_kind kind, int p, int m, int v);
void lists_destroy(lists *);

/* Index of the n-th action of that kind on a stage, from 0; -1: none. */
int lists_find(const lists *, int stage, par_act act, bool grad, int n);

/* Take action `from` of a stage out and put it back in front of what then is action `to`. */
void lists_move(lists *, int stage, int from, int to);
void lists_drop(lists *, int stage, int at);

#endif
