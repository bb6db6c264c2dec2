/*
 * The recorder: what this rank sent and received, by axis, purpose, operation and peer, and which
 * operations are under way. Collectives write it; logs, tests and the communication matrix read it.
 */
#ifndef PAR_RECORD_H
#define PAR_RECORD_H

#include <stdint.h>

#include "par/export.h"
#include "par/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A transport's counts of what its comms did. */
typedef struct par_recorder par_recorder;

/* One row per (axis, purpose, operation). All figures are this rank's own. */
typedef struct {
    const char *axis, *purpose, *op; /* op: "all_reduce", "reduce_scatter", "all_gather",
                                        "broadcast", "send", "recv", "barrier" */
    int64_t n_ops;
    int64_t sent_nbytes, received_nbytes; /* payload on the wire */
    int64_t n_messages;                   /* sent */
    double wait_s;                        /* in par_work_wait and blocking calls */
    double hidden_s; /* in which its messages were under way and nobody waited for one of its comm;
                        of operations at once the oldest collective's, else the last send's */
} par_record_row;

/* The operation that was started last on one comm: what a report of a hang shows. Operations that
 * run as part of a graph of the device are seen once, when it is captured. */
typedef struct {
    const char *axis, *purpose, *op;
    int16_t layer, chunk, micro;
    int64_t number, n_started, n_done; /* counts on that comm */
} par_record_last;

/** Rows so far, in the order of first use; valid until the next operation. Not collective. */
PAR_API int par_recorder_rows(const par_recorder *, const par_record_row **rows);
/** Bytes sent to each world rank, [world size]. Not collective. */
PAR_API const int64_t *par_recorder_sent_to(const par_recorder *);
/** The same of one row (its index in par_recorder_rows); NULL past the 64th row, of which only
 * totals are kept. Not collective. */
PAR_API const int64_t *par_recorder_row_sent_to(const par_recorder *, int row);
/** Last operations, one per comm, at most `max`; returns how many. Not collective. */
PAR_API int par_recorder_last(const par_recorder *, par_record_last *out, int max);
/** Set all counts to 0; numbers go on. Not collective. */
PAR_API void par_recorder_reset(par_recorder *);

#ifdef __cplusplus
}
#endif
#endif
