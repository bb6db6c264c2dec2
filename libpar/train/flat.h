/*
 * The flat space of a rank: weights, gradients and the optimizer's state, and the walk over a
 * rank's share of them.
 *
 * Every parameter begins at the same element in weights and gradients; master and moments hold
 * the part of every bucket that this rank updates, one behind the other. A segment is a parameter
 * cut to what a walk is about: norms, updates, initial weights, visits and checkpoints all walk
 * segments, so which elements are a rank's own is decided here alone.
 */
#ifndef PAR__FLAT_H
#define PAR__FLAT_H

#include "../model/registry.h"
#include "context.h"

typedef struct {
    par_registry *registry; /* owned */
    par_dtype dtype;        /* of weights */
    bool sharded;     /* ZeRO-1: this rank updates its shard of every bucket, else all of it */
    void *weights;    /* [n_flat] dtype */
    float *gradients; /* [n_flat]; with inference NULL, as all that follow */
    float *master;    /* [n_held]; NULL in fp32, where the weights are it */
    float *m, *v;     /* [n_held]; v NULL with SGD */
    int64_t n_held;   /* elements that this rank updates */
    int64_t *held;    /* [n_buckets] where a bucket's begin in master, m and v */
} par__flat;

/* What a walk is about. A shard is this dp rank's 1/dp of a bucket. */
typedef enum {
    PAR__WHOLE,   /* all elements of the local array */
    PAR__HELD,    /* what this rank updates: its shards with ZeRO-1, else everything */
    PAR__SHARD,   /* its shards: what it stores, so that a dp index's copies are stored once */
    PAR__COUNTED, /* its shards of replica 0: over the world every logical element once */
} par__cut;

/* A parameter within a cut. The arrays are NULL while measuring, and those of the optimizer's
 * state also where they do not hold all of the segment. */
typedef struct {
    const par__flat *flat;
    par__cut cut;
    int i; /* of the parameter, in registration order */
    par_param *param;
    int64_t first, n; /* elements [first, first + n) of the parameter's local array */
    void *weight;
    float *gradient, *m, *v;
    float *master; /* in fp32 the weight itself */
} par__segment;

/* Takes arrays for the parameters of a finished registry, which becomes the flat space's. */
par_status par__flat_take(par__flat *flat, const par__context *on);
void par__flat_free(par__flat *flat);

/* All segments of a cut that are not empty, in registration order:
 * for (par__segment s = par__segments(flat, cut); par__segment_next(&s);) */
par__segment par__segments(const par__flat *flat, par__cut cut);
bool par__segment_next(par__segment *segment);

#endif
