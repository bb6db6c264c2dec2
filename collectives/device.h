/*
 * Comms whose data lies on a device. The operations of such a comm are handed to a link: `staged`
 * (staged.c) moves the data through pinned host memory and the host engine; `nccl` (streamed.c)
 * lets NCCL, in the cuda module, move it between GPUs.
 *
 * An operation is described by what par/comm.h was given. `number` counts this comm's device
 * operations from 1. It is complete for the stream `then` once wait(number, then) has returned.
 */
#ifndef PAR__DEVICE_COMM_H
#define PAR__DEVICE_COMM_H

#include "collectives/internal.h"

typedef struct {
    par__kind kind;
    const char *src;
    char *dst;
    int64_t n; /* elements: of a shard for reduce-scatter and all-gather */
    par_dtype dtype;
    int peer; /* or root */
    par_tag tag;
    par_stream *after;
} par__device_args;

typedef struct par__device_link {
    const char *name;
    /* Room for everything that will ever be under way; on a measuring comm only staging is
     * taken. */
    par_status (*create)(par_comm *comm, const par_comm_params *params, par_memory *memory,
                         void **state);
    void (*destroy)(void *state);
    par_status (*start)(void *state, const par__device_args *args, int64_t number);
    par_status (*wait)(void *state, int64_t number, par_stream *then);
    bool (*done)(void *state, int64_t number);
    par_status (*progress)(void *state, bool *moved); /* without waiting */
} par__device_link;

extern const par__device_link par__staged_link, par__streamed_link;

/* operations.c: an operation of the host engine on a comm, also on one whose data lies on a
 * device. */
par_status par__host_start(par_comm *comm, par__op args, par_tag tag, par_work *work);
/* operations.c: the operation is the comm's last one in the recorder. */
void par__note(par_comm *comm, par__kind kind, par_tag tag, int64_t number);
/* count.c: record the messages of the host form, which are those of the closed forms. */
void par__count(const par_comm *comm, const par__device_args *args, int row);
/* engine.c: without links of devices. */
bool par__host_done(par_comm *comm, int64_t number);

#endif
