/* What all parts of a trainer do alike: end together, and wait for the device. */
#include "context.h"

#include <sched.h>
#include <string.h>

par_status par__fatal(const par__context *on, par_status st) {
    return st == PAR_OK ? PAR_OK : par_transport_abort(on->transport, st, par_error());
}

static bool by_nccl(const par_comm *comm) {
    return comm && strcmp(par_comm_link(comm), "nccl") == 0;
}

/* Only kernels of NCCL wait for peers on the device. */
static bool device_waits(const par__context *on) {
    bool waits = by_nccl(on->mesh->kv) || by_nccl(on->mesh->tied);
    for (int i = 0; i < PAR_AXIS_COUNT; i++) waits = waits || by_nccl(on->mesh->axis[i]);
    return waits;
}

par_status par__sync(const par__context *on) {
    bool done = !device_waits(on);
    if (!done) PAR_TRY(on->backend->record(on->stream, on->reached));
    while (!done) {
        PAR_TRY(on->backend->query(on->reached, &done));
        PAR_TRY(par_transport_progress(on->transport));
        if (!done) sched_yield();
    }
    return on->backend->sync(on->stream);
}
