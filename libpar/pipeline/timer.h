/*
 * How long the phases of a stream's work took. On a device a timed event is recorded before and
 * behind every span of a phase; nothing waits, nothing is allocated, and the events are read when
 * they have happened: what is told is the time from where the stream came to the span until it was
 * through with it, gaps included. On the host, whose calls run before they return, the clock is
 * read at both ends.
 *
 * Rounds (a walk, a step) are numbered from 0, and the last two are kept: one can be read while the
 * next one is enqueued. The spans of a round that is captured in a graph are stored as one of two
 * sets beside these; a launch of the graph is a round with the spans of its set.
 */
#ifndef PAR__TIMER_H
#define PAR__TIMER_H

#include "par/kernels.h"

enum { PAR__TIMER_PHASES = 4 };

typedef struct par__timer par__timer;

/* For at most max_spans spans per round. The backend is borrowed. */
par_status par__timer_create(const par_backend *backend, int max_spans, par__timer **out);
/* Nothing that was recorded may be under way. NULL is nothing. */
void par__timer_destroy(par__timer **timer);

/* Begin a round and return its number. The one before the last is forgotten. */
int64_t par__timer_round(par__timer *timer);

/* Spans from here on are captured, as set 0 or 1, of a backend that has graphs: no round, but the
 * number is returned that a launch right behind has. And a launch of them: a round. */
int64_t par__timer_capture(par__timer *timer, int set);
int64_t par__timer_repeat(par__timer *timer, int set);

/* A span of a phase, 0 to PAR__TIMER_PHASES - 1: both on one stream. Spans of different phases may
 * overlap, those of one phase follow each other. */
par_status par__timer_begin(par__timer *timer, int phase, par_stream *stream);
par_status par__timer_end(par__timer *timer, int phase, par_stream *stream);

/*
 * Seconds of every phase, the sum of its spans, of one of the last two rounds, whose spans must
 * have ended and on a device have happened: after a wait for the stream or for an event behind
 * them. It waits for nothing. Errors: PAR_ERR_INTERNAL for another round or a span that has not
 * ended; the backend's.
 */
par_status par__timer_read(const par__timer *timer, int64_t round,
                           double seconds[PAR__TIMER_PHASES]);

/* Where the spans of such a round lie, on a device: seconds by its clock from `origin`, a timed
 * event of the same stream that happened before. Errors: as par__timer_read. */
par_status par__timer_spans(const par__timer *timer, int64_t round, par_event *origin,
                            void (*visit)(void *user, int phase, double begin_s, double end_s),
                            void *user);
/* The event where the first span of such a round begins; NULL: it has none. */
par_event *par__timer_origin(const par__timer *timer, int64_t round);

#endif
