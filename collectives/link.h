/*
 * Links: what carries the data of a comm that lies on a device. `staged` (staged.c) moves it
 * through pinned host memory and the host engine; `nccl` (streamed.c) lets NCCL, in the cuda
 * module, move it between GPUs.
 *
 * `number` counts this comm's device operations from 1. An operation is complete for the stream
 * `then` once wait(number, then) has returned.
 */
#ifndef PAR__LINK_H
#define PAR__LINK_H

#include "collectives/internal.h"

typedef struct par__link {
    const char *name;
    /* Room for everything that will ever be under way; on a measuring comm only staging is
     * taken. */
    par_status (*create)(par_comm *comm, const par_comm_params *params, par_memory *memory,
                         void **state);
    void (*destroy)(void *state);
    par_status (*start)(void *state, const par__operation *op, int64_t number);
    par_status (*wait)(void *state, int64_t number, par_stream *then);
    bool (*done)(void *state, int64_t number);
    par_status (*progress)(void *state, bool *moved); /* without waiting */
    /* Wait until collectives that were started have none left to start on the host, where the
     * comm's next one is started then; NULL: they start none there. */
    par_status (*drain)(void *state);
    /* The transport is broken: nothing on the device waits for a peer from here on; NULL: nothing
     * does. */
    void (*abort)(void *state);
} par__link;

extern const par__link par__staged_link, par__streamed_link;

#endif
