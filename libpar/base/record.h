/* What collectives write into the recorder. Rows are found once per operation and then named by
 * their index. */
#ifndef PAR__RECORD_H
#define PAR__RECORD_H

#include <stdbool.h>

#include "libpar/base/flight.h"
#include "libpar/base/timeline.h"
#include "par/record.h"

par_status par__recorder_create(int world_size, par_recorder **out);
void par__recorder_destroy(par_recorder **recorder);

/* The row of (axis, purpose, op), made on first use; past 1024 rows, the last one, which is called
 * "other". */
int par__recorder_row(par_recorder *recorder, const char *axis, const char *purpose,
                      const char *op);
void par__recorder_op(par_recorder *recorder, int row);
void par__recorder_sent(par_recorder *recorder, int row, int peer, int64_t nbytes);
void par__recorder_received(par_recorder *recorder, int row, int64_t nbytes);
void par__recorder_hidden(par_recorder *recorder, int row, double seconds);
void par__recorder_waited(par_recorder *recorder, int row, double seconds);

/* Counts of the same ranks, all 0; rows are added as those of a recorder are. */
par_status par__recorder_like(const par_recorder *recorder, par_recorder **out);
/* Add the counts of another, `times` times; its rows are the first ones of `to`, or the other way
 * round. Last operations stay. */
void par__recorder_add(par_recorder *to, const par_recorder *from, int times);

/* The rows of this axis are what they were in `before`, a copy; nothing of it may be under way. */
void par__recorder_restore(par_recorder *recorder, const par_recorder *before, const char *axis);

/* An index for a comm's last operation; -1 when there is no memory. Released ones are used
 * again. */
int par__recorder_last_take(par_recorder *recorder);
par_record_last *par__recorder_last_at(par_recorder *recorder, int index);
void par__recorder_last_release(par_recorder *recorder, int index);

/* The page that is written now; never NULL. */
par__flight *par__recorder_flight(par_recorder *recorder);
/* Write to this page from now on, which gets what the one before knows of comms; NULL: to one of
 * the recorder's own, which nobody reads. */
void par__recorder_fly(par_recorder *recorder, par__flight *page);
/* The timeline that was started, and where spans go now: NULL while it is quiet, too. */
par_timeline *par__recorder_traced(const par_recorder *recorder);
par_timeline *par__recorder_timeline(const par_recorder *recorder);
void par__recorder_trace(par_recorder *recorder, par_timeline *timeline);

/* The comm's part of the page; NULL: there are too many. */
par__flight_axis *par__recorder_axis(par_recorder *recorder, int index);

#endif
