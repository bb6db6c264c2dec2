/*
 * Inside of the checker: the state in which all stages' lists are run together. schedule_check.c
 * runs and judges the whole, schedule_rules.c holds what one action needs and does. Nothing here is
 * shared with the generator.
 */
#ifndef PAR__PIPELINE_SCHEDULE_CHECK_H
#define PAR__PIPELINE_SCHEDULE_CHECK_H

#include "par/schedule.h"

/* What has happened to a (chunk, micro-batch) on its stage. */
enum {
    PAR__POSTED = 1,
    PAR__ARRIVED = 2,
    PAR__RAN = 4, /* its FORWARD or BACKWARD */
    PAR__SENT = 8
};

/* One direction, forward or backward, of one (chunk, micro-batch). */
typedef struct {
    uint8_t flags;
    int16_t slot; /* from RECV or FORWARD on; of a gradient: its buffer */
} par__half;

typedef struct {
    const par_schedule *list;
    int at;             /* next action */
    bool queued;        /* on the list of stages that may go on */
    par__half *half[2]; /* [v * m] activations, gradients */
    int16_t
        *holds[2]; /* [v * m] micro-batch in slot (buffer) k of chunk c, at c * m + k; -1: free */
    uint8_t *buckets;                     /* [all buckets] flag 1: gathered, 2: reduced */
    int n_ran[2][PAR_MAX_CHUNKS];         /* FORWARDs, whole backwards of a chunk */
    int n_buckets[2][PAR_MAX_CHUNKS + 1]; /* gathered, reduced of a chunk; [v]: last buckets */
    const par_action *open; /* the last part of what is cut and not through yet; NULL: none */
    int *recvs[2]; /* [n] actions: RECVs posted to the next stage, to the one before (p = 2: all
                      next) */
    int n_recvs[2], n_matched[2];
    const par__half *outgoing[2]; /* the gradients made by the last two BACKWARDs that make one */
} par__checked_stage;

typedef struct {
    int p, m, v;
    bool training;
    par__checked_stage *stages;
    int *queue, n_queue; /* stages that may go on */
} par__checker;

/* Put a stage back on the queue. */
static inline void par__checker_wake(par__checker *c, int stage) {
    if (c->stages[stage].queued) return;
    c->stages[stage].queued = true;
    c->queue[c->n_queue++] = stage;
}

/* The stage's next action; *done false if it must wait. Errors: PAR_ERR_INTERNAL. */
par_status par__checker_step(par__checker *, int stage, bool *done);

/* "BACKWARD of chunk 0, micro-batch 3" into text [nbytes]. */
void par__action_describe(const par_action *, char *text, size_t nbytes);

/* Fail with stage, action and cause. */
par_status par__checker_complain(const par__checker *, int stage, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
