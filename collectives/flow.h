/*
 * A flow: a vector on its way to or from one peer, a number of pieces, `depth` of them under way at
 * most, in order. It knows neither operations nor what carries it: whoever posts a piece says so,
 * and whoever sees one end says so, and each time the recorder is told.
 */
#ifndef PAR__FLOW_H
#define PAR__FLOW_H

#include <stdbool.h>

#include "par/record.h"

typedef struct par__flow {
    char *data;
    int64_t nbytes, piece; /* bytes, all and of a piece; the last piece may be shorter */
    int64_t ring;     /* 0: piece i lies at data + i · piece; else at data + (i % depth) · ring */
    int64_t n_pieces; /* all */
    int64_t n_posted, n_done;       /* pieces [0, n_done) have ended; n_posted - n_done <= depth */
    int64_t credit;                 /* pieces that may be posted so far */
    const struct par__flow *before; /* must be posted whole before this one starts; NULL: none */
    int peer, tag, row;             /* peer: world rank; row: of the recorder */
    int depth;                      /* 1 to PAR__FLOW_DEPTH */
    bool sending;
    uint64_t ended; /* bit k: piece n_done + k has ended, which bit 0 never says */
} par__flow;

enum { PAR__FLOW_DEPTH = 64 };

/* A flow of nbytes in pieces, that may be posted whole; peer, tag and row are the caller's. */
static inline par__flow par__flow_make(void *data, int64_t nbytes, int64_t piece, bool sending) {
    int64_t n = nbytes / piece + (nbytes % piece != 0);
    return (par__flow){.data = data,
                       .nbytes = nbytes,
                       .piece = piece,
                       .n_pieces = n,
                       .credit = n,
                       .depth = PAR__FLOW_DEPTH,
                       .sending = sending};
}

/* Where piece i lies, and its bytes. */
static inline char *par__flow_piece(const par__flow *f, int64_t i, int64_t *nbytes) {
    int64_t begin = i * f->piece;
    *nbytes = f->nbytes - begin < f->piece ? f->nbytes - begin : f->piece;
    return f->ring ? f->data + i % f->depth * f->ring : f->data + begin;
}

/* The next piece may be posted now. */
static inline bool par__flow_ready(const par__flow *f) {
    if (f->before && f->before->n_posted < f->before->n_pieces) return false;
    return f->n_posted < f->credit && f->n_posted < f->n_pieces &&
           f->n_posted - f->n_done < f->depth;
}

static inline bool par__flow_done(const par__flow *f) {
    return f->n_done == f->n_pieces;
}

/* Piece n_posted has been posted; piece i has ended. */
void par__flow_posted(par_recorder *recorder, par__flow *flow);
void par__flow_ended(par_recorder *recorder, par__flow *flow, int64_t i);

/* What the recorder is told of a flow that is carried to its end, without carrying anything. */
void par__flow_count(par_recorder *recorder, par__flow *flow);

#endif
