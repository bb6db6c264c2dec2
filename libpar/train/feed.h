/*
 * The feed: micro-batches of a source on their way to the device. It is the user of the executor's
 * hook `load`; what a walk reads is set before it.
 */
#ifndef PAR__FEED_H
#define PAR__FEED_H

#include "context.h"

/* A micro-batch on the host. */
typedef struct {
    void *x, *targets;
    void *documents;   /* int32 [B, T]; NULL: they are not apart */
    par_event *copied; /* it may be filled again; NULL while measuring */
} par__batch;

typedef struct {
    const par__context *on;
    size_t x_nbytes, targets_nbytes; /* of a micro-batch */
    size_t documents_nbytes;         /* likewise; 0: they are not apart */
    par__batch *batches;             /* [n_batches] used in turn */
    int n_batches, next;
    const par_source *source; /* of the walk under way */
    int64_t first;            /* its sample in micro-batch 0 of this rank */
    int64_t end;              /* samples from here on are padding: their targets do not count */
    const par__batch *filled; /* [n_micro] read before the walk; NULL: each is read when it loads */
    par_status failed; /* the source's first error that was not taken yet, with its message */
    char why[768];
} par__feed;

/* `graphs`: steps are captured, so that each of those that may be begun has buffers of its own. */
par_status par__feed_take(par__feed *feed, const par__context *on, bool graphs);
void par__feed_free(par__feed *feed);
/* The next walk reads samples of `source`, from `first` on, micro-batch by micro-batch. */
void par__feed_begin(par__feed *feed, const par_source *source, int64_t first);
/* The walk is wider than what is left: samples from `end` on are not read, and do not count. For a
 * model of ids, as only their targets can be left out. */
void par__feed_end(par__feed *feed, int64_t end);
/* Read all micro-batches of the next walk now, into the buffers of graph `captured`, 0 or 1: it
 * copies what it finds there. Waits for nothing but copies that read them. *load: the seconds that
 * it took. */
par_status par__feed_fill(par__feed *feed, const par_source *source, int64_t first, int captured,
                          double *load);
/* Hook of the executor: a micro-batch on its way to x, targets and documents, each may be NULL. */
par_status par__feed_load(void *feed, int micro, void *x, void *targets, void *documents);
/* An error of the source ends no walk, since peers wait for a micro-batch of the right size: they
 * get zeros. It is returned here, once, with its message. */
par_status par__feed_take_failure(par__feed *feed);

#endif
