/* Flows: which piece is next, where it lies, and what the recorder is told. */
#include "flow.h"

#include "libpar/base/record.h"

enum { DEPTH = 2 };

par__flow par__flow_make(void *data, int64_t nbytes, int64_t piece, bool sending) {
    int64_t n = nbytes / piece + (nbytes % piece != 0);
    return (par__flow){.data = data,
                       .nbytes = nbytes,
                       .piece = piece,
                       .n_pieces = n,
                       .credit = n,
                       .sending = sending};
}

char *par__flow_piece(const par__flow *f, int64_t i, int64_t *nbytes) {
    int64_t begin = i * f->piece;
    *nbytes = f->nbytes - begin < f->piece ? f->nbytes - begin : f->piece;
    return f->ring ? f->data + i % DEPTH * f->ring : f->data + begin;
}

bool par__flow_ready(const par__flow *f) {
    if (f->before && f->before->n_posted < f->before->n_pieces) return false;
    return f->n_posted < f->credit && f->n_posted < f->n_pieces && f->n_posted - f->n_done < DEPTH;
}

bool par__flow_done(const par__flow *f) {
    return f->n_done == f->n_pieces;
}

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
