/*
 * The timeline of one rank: what it did when, as spans in a ring that is allocated once. A
 * transport's operations, the waits for them, and a trainer's steps, actions, modules and kernels
 * are recorded while a timeline is started on the transport; a program adds spans of its own. All
 * ranks' spans, on one clock, make a file in Chrome's trace format, which https://ui.perfetto.dev
 * opens, and from which par_timeline_diagnose says where the time went.
 *
 * Where nothing is started, a span costs a branch at its begin and one at its end. While it is
 * started, a span costs two looks at the clock and 72 bytes written, and nothing allocates.
 *
 * Spans are the host's. On a device that is not the host, kernels run later than their calls. There
 * the device's events record a step's phases, on a thread of their own; modules, kernels and what
 * NCCL carries are not recorded. The device's spans are placed by the moment at which the host saw
 * that a step had ended.
 */
#ifndef PAR_TIMELINE_H
#define PAR_TIMELINE_H

#include <stdbool.h>
#include <stdint.h>

#include "par/comm.h"
#include "par/export.h"
#include "par/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The ring of a rank, and what is known of its clock. */
typedef struct par_timeline par_timeline;

/**
 * A ring for n_events spans of 72 bytes, taken and touched here. When it is full the oldest is
 * overwritten, which is counted. Not collective. Errors: PAR_ERR_ARG when n_events < 1;
 * PAR_ERR_MEMORY.
 */
PAR_API par_status par_timeline_create(int64_t n_events, par_timeline **out);
/** It must be stopped. NULL is accepted. Not collective. */
PAR_API void par_timeline_destroy(par_timeline **timeline);

/**
 * From here on what happens on this transport is recorded: its operations, and a trainer's calls.
 * Of a step that is all that belongs to it; a validation, a save, a load or a generation is one
 * span. The next step that a trainer begins has the number `step`. Operations that are under way
 * are not recorded. A transport has one timeline at a time, the last one that was started.
 * Not collective, but files are whole only if all ranks start and stop between the same steps.
 */
PAR_API void par_timeline_start(par_timeline *, par_transport *, int64_t step);
/** Nothing is recorded any more on this transport. Spans stay; it may be started again. Where
 * par_trainer_settle was called before, no operation of the recorded steps is missing.
 * Not collective. */
PAR_API void par_timeline_stop(par_timeline *, par_transport *);

/**
 * A span of the program's own begins; it ends with the par_timeline_end that belongs to it. Spans
 * nest, 16 deep at most: deeper ones are not recorded. `name` is a string literal, or lives as long
 * as the timeline. Recorded whether it is started or not; NULL in place of a timeline: nothing
 * happens. By the thread that makes libpar's calls. Not collective.
 */
PAR_API void par_timeline_begin(par_timeline *, const char *name);
/** The span that was begun last ends. Not collective. */
PAR_API void par_timeline_end(par_timeline *);

/** Spans that are kept. Not collective. */
PAR_API int64_t par_timeline_kept(const par_timeline *);
/** Spans that were overwritten. Not collective. */
PAR_API int64_t par_timeline_dropped(const par_timeline *);

/**
 * Compare the ranks' clocks with rank 0's. Each rank answers messages of rank 0. The round trip
 * that took least gives its offset, with half of that trip as the bound of the error. A rank that
 * runs on rank 0's system, and whose clock is the same within that bound, has offset 0 and no
 * error. par_timeline_write does it too: called before as well, what lies between is corrected by
 * the clocks' drift. Collective: on comm, whose data lies on the host. Errors: PAR_ERR_MEMORY
 * [agreed]; those of an operation.
 */
PAR_API par_status par_timeline_align(par_timeline *, par_comm *comm);

/* What a file is made of. */
typedef struct {
    const char *path;  /* read on rank 0 of the comm */
    const char *label; /* of this rank, at most 63 bytes: its coordinates, say; NULL: none */
    bool shared_cores; /* ranks take turns on cores, so that a bubble is the machine's and not the
                          schedule's; read on rank 0 of the comm */
} par_timeline_file;

/* What was written; the same on every rank but for nbytes. */
typedef struct {
    int64_t n_events, n_dropped; /* of all ranks */
    int64_t n_flows;             /* arrows between ranks */
    int64_t nbytes;              /* of the file; on rank 0, else 0 */
    int n_clocks;                /* ranks whose clock is not rank 0's */
    double offset_s, error_s;    /* the largest, of those */
    double drift;                /* the largest, seconds per second */
} par_timeline_result;

/**
 * Bring the spans of all ranks to rank 0 of comm, in messages of 256 KiB, and write them as one
 * file of Chrome's trace format. Each rank is a process, with threads for what it computes and for
 * each direction of communication. Arrows go from a send to its receive, and from the rank that
 * comes last to a collective to the others. The file is complete or it is not there. Rank 0 takes
 * 64 bytes per span of all ranks; a span takes 90 to 165 bytes of the file. What is sent for this
 * is not counted by the transport's recorder, and what is recorded stays.
 *
 * Collective: on comm, whose data lies on the host, with no step begun. Errors: PAR_ERR_IO,
 * PAR_ERR_MEMORY [agreed]; those of an operation.
 */
PAR_API par_status par_timeline_write(par_timeline *, par_comm *comm, const par_timeline_file *,
                                      par_timeline_result *out);

/**
 * What such a file tells, by step: time, bubble (the text leaves it out where ranks shared cores),
 * communication that was waited for by axis, the rank that the others waited for; what the critical
 * path is made of; the kernels that took most.
 * As a text for people, a line at a time, or with `json` as one JSON object in one line.
 * Not collective. Errors: PAR_ERR_IO; PAR_ERR_FORMAT for another file; PAR_ERR_MEMORY.
 */
PAR_API par_status par_timeline_diagnose(const char *path, bool json,
                                         void (*print)(void *user, const char *line), void *user);

#ifdef __cplusplus
}
#endif
#endif
