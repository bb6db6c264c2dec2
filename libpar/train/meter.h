/* What steps took: the executor's walk and the spans around it, read when a step ends. */
#ifndef PAR__METER_H
#define PAR__METER_H

#include "../pipeline/executor.h"
#include "../pipeline/timer.h"
#include "context.h"

/* Spans of a step outside of its walk; a step has one of each. */
enum { PAR__SPAN_STEP, PAR__SPAN_REDUCE, PAR__SPAN_UPDATE, PAR__SPANS };

/* Of one step. */
typedef struct {
    par_step_times times; /* as far as they are known */
    int64_t walk, round;  /* numbers: the executor's, the timer's */
} par__measured;

typedef struct {
    const par__context *on;
    par__executor *executor;
    par__timer *timer;    /* NULL while measuring memory */
    double busy, walked;  /* s of the last walk that was measured: what a ballot says */
    par_step_times times; /* of the last step that ended */
    double exposed[PAR_AXIS_COUNT], hidden[PAR_AXIS_COUNT]; /* so far, when a step began */
} par__meter;

par_status par__meter_create(par__meter *meter, const par__context *on, par__executor *executor);
void par__meter_free(par__meter *meter);

/* A step begins: `captured` is the graph, 0 or 1, that it is captured in, NULL: none. */
void par__meter_begin(par__meter *meter, par__measured *step, const int *captured);
/* A step that was captured is launched; reading its batches took `load` seconds. */
void par__meter_repeat(par__meter *meter, par__measured *step, int captured, double load);
/* On the host, at the end of a step's work: what its communication took. */
void par__meter_count(par__meter *meter, par__measured *step);
par_status par__meter_enter(par__meter *meter, int span);
par_status par__meter_leave(par__meter *meter, int span);
/* A walk that is through: what it took, and the next ballot's busy share. */
par_status par__meter_walk(par__meter *meter, par__measured *step);
/* On a device, of a step whose end the host has just seen: its phases to the timeline, by the
 * device's clock; NULL: nothing. */
par_status par__meter_trace(const par__meter *meter, const par__measured *step, int64_t number,
                            par_timeline *timeline);
/* A step that has ended, with the bubble that its vote found. */
par_status par__meter_end(par__meter *meter, par__measured *step, double bubble);

#endif
