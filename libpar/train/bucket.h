/*
 * Gradient buckets: what this rank sends of its flat space over dp, and over the groups whose
 * copies hold partial gradients.
 */
#ifndef PAR__BUCKET_H
#define PAR__BUCKET_H

#include "flat.h"

/* gather: of the sums, with ZeRO-1 of the updated weights. */
typedef struct {
    par_work reduce, gather;
} par__bucket_work;

typedef struct {
    const par__context *on;
    const par__flat *flat;
    par__bucket_work *works; /* [n_buckets of the flat space's registry] */
    bool owed;               /* gathers of updated weights, of all buckets but the first of use */
    int *begun, n_begun;     /* [n_buckets], in the order in which a step's walk reduces them */
    double tail_s;           /* the host's waits of a step that nothing can hide: for the bucket
                                begun last, and with ZeRO-1 for the first weights of its forward */
} par__buckets;

par_status par__buckets_create(par__buckets *buckets, const par__context *on,
                               const par__flat *flat);
void par__buckets_free(par__buckets *buckets);

/* Hooks of the executor, whose user is the buckets. */
par_status par__bucket_reduce(void *buckets, int bucket);
par_status par__bucket_gather(void *buckets, int bucket);

void par__buckets_begin_step(par__buckets *buckets);
par_status par__buckets_finish_reduce(par__buckets *buckets);
/* Number i of all buckets in the order in which a forward reads them: the tied ones, then chunk by
 * chunk those of the first modules first. */
int par__bucket_of_use(const par__buckets *buckets, int i);
/* A bucket is updated. With ZeRO-1 its weights are on their way to all dp ranks. */
par_status par__bucket_begin_gather(par__buckets *buckets, int bucket);
/* Wait for the gathers that are under way. */
par_status par__buckets_wait(par__buckets *buckets);
/* None is under way from here on, and those of all buckets but the first of use are owed: a step
 * that is a graph leaves it so, and comes to it so. To gather again changes nothing. */
par_status par__buckets_owe(par__buckets *buckets);
/* What is owed is on its way. Collective on dp. `captured`: in a graph, each launch of which does
 * it. */
par_status par__buckets_begin_owed(par__buckets *buckets, bool captured);
/* Wait until all weights have arrived, those that are owed too. Collective on dp. */
par_status par__buckets_settle(par__buckets *buckets);
/* A capture was given up: nothing is under way, and what the step before may owe is owed. */
par_status par__buckets_forget(par__buckets *buckets);
/* Every dp rank's shards to all of them: weights always, master and moments where each rank holds
 * them whole. Collective on dp. */
par_status par__buckets_share(par__buckets *buckets);

#endif
