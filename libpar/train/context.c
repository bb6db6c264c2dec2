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

par_timeline *par__timeline_of(const par__context *on) {
    return par__recorder_timeline(par_transport_recorder(on->transport));
}

/* Of a step everything is recorded, of other calls one span. What a device runs ends later than its
 * calls: its own events tell when. Data is read within other phases. */
void par__enter(const par__context *on, par__phase phase) {
    par_recorder *recorder = par_transport_recorder(on->transport);
    par_timeline *timeline = par__recorder_traced(recorder);
    bool calls = flight(on)->phase == PAR__PHASE_OUTSIDE && phase != PAR__PHASE_OUTSIDE;
    if (calls && timeline) {
        timeline->called_ns = par__nanoseconds();
        timeline->quiet = phase != PAR__PHASE_STEP;
        on->stream->timeline = on->backend->on_host ? par__timeline_of(on) : NULL;
    }
    if (phase != PAR__PHASE_DATA && flight(on)->phase != PAR__PHASE_DATA)
        par_recorder_phase(recorder, phase_names[phase]);
    flight(on)->phase = phase;
    flight(on)->progress++;
}

par_status par__leave(const par__context *on, const char *call, par_status st) {
    par_timeline *timeline = par__recorder_traced(par_transport_recorder(on->transport));
    on->stream->timeline = NULL; /* it may be gone before the next call */
    if (timeline) {
        timeline->quiet = false;
        par__timeline_add(timeline, (par__event){.begin_ns = timeline->called_ns,
                                                 .name = call,
                                                 .number = timeline->step,
                                                 .kind = PAR__EVENT_CALL,
                                                 .peer = -1,
                                                 .layer = -1,
                                                 .chunk = -1,
                                                 .micro = -1});
        if (strcmp(call, "step") == 0) timeline->step++;
    }
    par__enter(on, PAR__PHASE_OUTSIDE);
    flight(on)->act = 0;
    return st;
}

static bool by_nccl(const par_comm *comm) {
    return comm && strcmp(par_comm_link(comm), "nccl") == 0;
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

/* Only kernels of NCCL wait for peers on the device. */
par_status par__sync(const par__context *on) {
    bool waits = by_nccl(on->mesh->kv) || by_nccl(on->mesh->tied);
    for (int i = 0; i < PAR_AXIS_COUNT; i++) waits = waits || by_nccl(on->mesh->axis[i]);
    if (waits) PAR_TRY(on->backend->event_record(on->stream, on->reached));
    if (waits) PAR_TRY(par__await(on, on->reached));
    return on->backend->sync(on->stream);
}
