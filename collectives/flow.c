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
    par__recorder_ended(recorder, f->row, f->peer, f->sending ? 0 : nbytes);
    for (f->ended |= UINT64_C(1) << (i - f->n_done); f->ended & 1; f->ended >>= 1) f->n_done++;
}

void par__flow_count(par_recorder *recorder, par__flow *f) {
    while (!par__flow_done(f)) {
        par__flow_posted(recorder, f);
        par__flow_ended(recorder, f, f->n_done);
    }
}
