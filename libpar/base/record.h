/* What collectives write into the recorder. Rows, and entries by layer and phase, are found once
 * per operation; one number names both. */
#ifndef PAR__RECORD_H
#define PAR__RECORD_H

#include <stdbool.h>

#include "libpar/base/flight.h"
#include "libpar/base/timeline.h"
#include "par/record.h"

par_status par__recorder_create(int world_size, par_recorder **out);
void par__recorder_destroy(par_recorder **recorder);

/* What an operation is counted as. `row` below is what this returns: (axis, purpose, op) with the
 * layer and the phase of now, made on first use. Past 1024 of the former all go to the last one,
 * which is called "other". */
int par__recorder_row(par_recorder *recorder, const char *axis, const char *purpose, const char *op,
                      int layer);
void par__recorder_op(par_recorder *recorder, int row);
/* The operation's size in a group of n ranks, as par_recorder_row has it. */
void par__recorder_asked(par_recorder *recorder, int row, int n_ranks, int64_t nbytes,
                         double bus_nbytes);
/* Part of it for world rank `peer`, as par_recorder_cell has it. */
void par__recorder_asked_for(par_recorder *recorder, int row, int peer, int64_t nbytes);
void par__recorder_sent(par_recorder *recorder, int row, int peer, int64_t nbytes);
/* A message to or from the peer has ended; nbytes: received. */
void par__recorder_ended(par_recorder *recorder, int row, int peer, int64_t nbytes);
void par__recorder_ran(par_recorder *recorder, int row, double seconds);
/* The row's index in par_recorder_rows; n of its operations, which were in a graph. */
int par__recorder_index(int row);
void par__recorder_ran_in_graph(par_recorder *recorder, int index, int64_t n, double seconds);
/* While a graph of the device is captured nothing is timed, and events are not asked. */
void par__recorder_capture(par_recorder *recorder, bool captured);
bool par__recorder_captured(const par_recorder *recorder);
void par__recorder_hidden(par_recorder *recorder, int row, double seconds);
/* Around a wait for one of the row's operations. */
void par__recorder_wait_begin(par_recorder *recorder, int row);
void par__recorder_wait_end(par_recorder *recorder);

/* Counts of the same ranks, all 0; rows are added as those of a recorder are. */
par_status par__recorder_like(const par_recorder *recorder, par_recorder **out);
/* Add the counts of another, `times` times; its rows and entries are the first ones of `to`, or the
 * other way round. Last operations stay. */
void par__recorder_add(par_recorder *to, const par_recorder *from, int times);

/* The rows of this axis are what they were in `before`, a copy; nothing of it may be under way. */
void par__recorder_restore(par_recorder *recorder, const par_recorder *before, const char *axis);

/* An index for a comm's last operation; -1 when there is no memory. Released ones are used
 * again. */
int par__recorder_last_take(par_recorder *recorder);
par_recorder_started *par__recorder_last_at(par_recorder *recorder, int index);
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
