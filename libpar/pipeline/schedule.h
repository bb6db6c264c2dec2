/*
 * Inside of the schedules: the order of computation of one stage, from which the generator derives
 * messages, slots and collectives. The checker uses none of it.
 */
#ifndef PAR__PIPELINE_SCHEDULE_H
#define PAR__PIPELINE_SCHEDULE_H

#include "par/schedule.h"

enum { PAR__SCHEDULE_MAX_MICRO = 32767, PAR__SCHEDULE_MAX_STAGES = 32767 };

/* One forward or backward. */
typedef struct {
    bool backward;
    int16_t chunk, micro;
} par__compute;

/* Number of computations of a stage: m · v, twice that with backward. */
int par__schedule_n_computes(const par_schedule_params *);

/* Fill order [par__schedule_n_computes] for params->stage. */
void par__schedule_order(const par_schedule_params *, par__compute *order);

typedef par_schedule_time par__interval;

/* Actions of all stages together. */
size_t par__schedule_n_actions(par_schedule *const *schedules, int p);

/* Times of every action of a checked schedule, stage after stage: times
 * [par__schedule_n_actions]. */
par_status par__schedule_times(par_schedule *const *schedules, int p, const par_schedule_cost *,
                               par__interval *times);

#endif
