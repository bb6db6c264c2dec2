/* What all parts of a trainer do alike: end together, and wait for the device. */
#include "context.h"

#include <sched.h>
#include <string.h>

par_status par__fatal(const par__context *on, par_status st) {
    return st == PAR_OK ? PAR_OK : par_transport_abort(on->transport, st, par_error());
}

static par__flight *flight(const par__context *on) {
    return par__recorder_flight(par_transport_recorder(on->transport));
}

/* For the recorder; of a step what the executor does not name. */
static const char *const phase_names[PAR__PHASES] = {
    [PAR__PHASE_STEP] = "update",         [PAR__PHASE_EVALUATE] = "validation",
    [PAR__PHASE_GENERATE] = "generation", [PAR__PHASE_LOAD] = "checkpoint",
    [PAR__PHASE_SAVE] = "checkpoint",
};

/* Data is read within other phases. */
void par__enter(const par__context *on, par__phase phase) {
    if (phase != PAR__PHASE_DATA && flight(on)->phase != PAR__PHASE_DATA)
        par_recorder_phase(par_transport_recorder(on->transport), phase_names[phase]);
    flight(on)->phase = phase;
    flight(on)->progress++;
}

par_status par__leave(const par__context *on, par_status st) {
    par__enter(on, PAR__PHASE_OUTSIDE);
    flight(on)->act = 0;
    return st;
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

par_status par__await(const par__context *on, par_event *event) {
    par_status st = PAR_OK;
    par__flight_wait(flight(on), PAR__WAIT_DEVICE, -1, -1, 0);
    for (bool done = false; st == PAR_OK && !done;) {
        st = on->backend->event_query(event, &done);
        if (st != PAR_OK || done) break;
        st = par_transport_progress(on->transport);
        sched_yield();
    }
    par__flight_go_on(flight(on));
    return st;
}

par_status par__sync(const par__context *on) {
    bool done = !device_waits(on);
    if (!done) PAR_TRY(on->backend->event_record(on->stream, on->reached));
    if (!done) PAR_TRY(par__await(on, on->reached));
    return on->backend->sync(on->stream);
}
