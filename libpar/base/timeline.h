/*
 * What writes into a timeline: spans with a begin and an end, stored when they end. The rank's main
 * thread writes; nothing allocates. Where no timeline is started the pointer is NULL, and both ends
 * of a span cost a branch each.
 */
#ifndef PAR__TIMELINE_H
#define PAR__TIMELINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libpar/base/clock.h"
#include "par/status.h"

typedef enum {
    PAR__EVENT_CALL,   /* of the library, by the program: a step, a validation, a save */
    PAR__EVENT_PHASE,  /* of a call: data, gradients, vote, update */
    PAR__EVENT_ACTION, /* of a schedule; number: the first module of a forward's part, the last
                             of a backward's, else the bucket */
    PAR__EVENT_MODULE, /* number: its place in the chunk */
    PAR__EVENT_KERNEL,
    PAR__EVENT_PROGRESS,  /* messages are moved beside a computation */
    PAR__EVENT_WAIT,      /* for an operation */
    PAR__EVENT_OPERATION, /* of a comm, from its start to its end; not on the main thread */
    PAR__EVENT_DEVICE,    /* a phase by the device's clock */
    PAR__EVENT_USER,
    PAR__EVENTS
} par__event_kind;

typedef struct {
    int64_t begin_ns, end_ns;
    const char *name;           /* a literal, as the next two */
    const char *axis, *purpose; /* of an operation and a wait; else NULL */
    int64_t number, nbytes;     /* operation, wait: among the collectives of the comm, or the sends
                                    or receives of its pair; 0: not known */
    int32_t first, peer;        /* world ranks: the group's first; the other one of a pair; -1 - s
                                   of a collective in slot s of its comm, behind the last in it */
    int16_t kind, layer, chunk, micro; /* -1: none */
} par__event;

enum { PAR__TIMELINE_DEPTH = 16 };

/* When a rank's clock was compared with rank 0's: rank 0's time = own time - offset_ns. Known on
 * rank 0. */
typedef struct {
    int64_t at_ns, offset_ns, error_ns;
} par__clock_reading;

struct par_timeline {
    par__event *events; /* [max], the next one goes to `at` */
    int64_t max, at, n; /* n: all that ended */
    int64_t step;       /* of the next step that begins */
    int64_t called_ns;  /* when the call began that the rank is in */
    bool quiet;         /* in this call nothing else is recorded */
    int n_open;
    struct {
        const char *name;
        int64_t begin_ns;
    } open[PAR__TIMELINE_DEPTH];
    par__clock_reading *before, *after; /* [n_clocks], by rank of the comm that was aligned on */
    int n_clocks, n_aligned;
};
typedef struct par_timeline par_timeline;

/* Events that are in the ring. */
static inline int64_t par__timeline_kept(const par_timeline *t) {
    return t->n < t->max ? t->n : t->max;
}

static inline int64_t par__timeline_now(const par_timeline *t) {
    return t ? par__nanoseconds() : 0;
}

/* A span that has both ends. */
void par__timeline_put(par_timeline *t, const par__event *event);

/* One that ends now; what it is has its begin. t may be NULL. */
static inline void par__timeline_add(par_timeline *t, par__event event) {
    if (!t) return;
    event.end_ns = par__nanoseconds();
    par__timeline_put(t, &event);
}

/* A phase that ends now. */
static inline void par__timeline_phase(par_timeline *t, const char *name, int64_t begin_ns,
                                       int micro) {
    par__timeline_add(t, (par__event){.begin_ns = begin_ns,
                                      .name = name,
                                      .kind = PAR__EVENT_PHASE,
                                      .peer = -1,
                                      .layer = -1,
                                      .chunk = -1,
                                      .micro = (int16_t)micro});
}

#endif
