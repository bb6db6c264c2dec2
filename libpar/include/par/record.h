/*
 * The recorder: what this rank sent and received, by axis, purpose, operation and peer, and which
 * operations are under way. Collectives write it; logs, tests and the communication matrix read it.
 */
#ifndef PAR_RECORD_H
#define PAR_RECORD_H

#include <stdbool.h>
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
    int64_t n_timed;                      /* of them, those whose time is in `seconds` */
    int n_ranks;                          /* of the group; of the largest, if groups differ */
    int64_t sent_nbytes, received_nbytes; /* payload on the wire */
    int64_t n_messages;                   /* sent */
    int64_t logical_nbytes; /* what the operations were asked for, in groups of two or more: the
                               vector; of reduce-scatter and all-gather all shards together */
    double bus_nbytes;      /* the same times 2(n - 1)/n, (n - 1)/n or 1, n ranks in the group: what
                          NCCL's performance tests call bus bandwidth is this by seconds */
    double seconds;  /* from start to end, or from when it became the oldest of its comm; where
                        NCCL carries the data, on the device. Not of receives, nor of what NCCL
                        carries in a graph of the device, but where its profiler tells */
    double wait_s;   /* in par_work_wait and blocking calls */
    double hidden_s; /* in which its messages were under way and nobody waited for one of its comm;
                        of operations at once the oldest collective's, else the last send's */
} par_recorder_row;

/* What passed between this rank and another one, of one row. */
typedef struct {
    int64_t nbytes, n_messages; /* sent to it */
    int64_t logical_nbytes; /* what it needs of this rank for what was asked for, whatever algorithm
                               carries it: of an all-reduce the vector, of a reduce-scatter its
                               shard, of an all-gather this rank's, of the root's broadcast the
                               vector, of a send the message */
    double wait_s; /* of the row's wait_s, up to the end of a message to or from it, since the wait
                      began or the message before ended */
} par_recorder_cell;

/* A row's part of one layer and phase. */
typedef struct {
    int row, layer;                    /* layer: of the operation's tag; -1: none */
    const char *phase;                 /* as par_recorder_phase named it; "": nothing was named */
    int64_t n_ops, nbytes, n_messages; /* sent */
    double wait_s;
} par_recorder_entry;

/* The operation that was started last on one comm: what a report of a hang shows. Operations that
 * run as part of a graph of the device are seen once, when it is captured. */
typedef struct {
    const char *axis, *purpose, *op;
    int16_t layer, chunk, micro;
    int64_t number, n_started, n_done; /* counts on that comm */
} par_recorder_started;

/** Rows so far, in the order of first use; valid until the next operation. Not collective. */
PAR_API int par_recorder_rows(const par_recorder *, const par_recorder_row **rows);
/** Bytes sent to each world rank, [world size]. Not collective. */
PAR_API const int64_t *par_recorder_sent_to(const par_recorder *);
/** One row (its index in par_recorder_rows) by world ranks, [world size]; NULL past the 64th row,
 * of which only totals are kept. Not collective. */
PAR_API const par_recorder_cell *par_recorder_row_cells(const par_recorder *, int row);
/** Rows by layer and phase, in the order of first use; valid until the next operation. *complete:
 * whether all are there; past 4095, rows alone go on. Not collective. */
PAR_API int par_recorder_entries(const par_recorder *, const par_recorder_entry **entries,
                                 bool *complete);
/** Operations that start from now on belong to this phase, a string literal: "forward", "update",
 * ... A trainer of libpar names its own. Not collective. */
PAR_API void par_recorder_phase(par_recorder *, const char *phase);
/** Last operations, one per comm, at most `max`; returns how many. Not collective. */
PAR_API int par_recorder_last(const par_recorder *, par_recorder_started *out, int max);
/** Set all counts to 0; numbers go on. Not collective. */
PAR_API void par_recorder_reset(par_recorder *);

#ifdef __cplusplus
}
#endif
#endif
