/* Flows: what the recorder is told of them. */
#include "flow.h"

#include "libpar/base/record.h"

void par__flow_posted(par_recorder *recorder, par__flow *f) {
    int64_t nbytes;
    par__flow_piece(f, f->n_posted++, &nbytes);
    if (f->sending) par__recorder_sent(recorder, f->row, f->peer, nbytes);
}

void par__flow_ended(par_recorder *recorder, par__flow *f, int64_t i) {
    int64_t nbytes;
    par__flow_piece(f, i, &nbytes);
    if (!f->sending) par__recorder_received(recorder, f->row, nbytes);
    if (i != f->n_done) {
        f->ahead = true;
        return;
    }
    f->n_done += f->ahead ? 2 : 1;
    f->ahead = false;
}

void par__flow_count(par_recorder *recorder, par__flow *f) {
    while (!par__flow_done(f)) {
        par__flow_posted(recorder, f);
        par__flow_ended(recorder, f, f->n_done);
    }
}
