/*
 * A backend whose memory the host cannot touch, for tests: the cpu backend's kernels on pages that
 * are closed but while an item of a stream runs, so that a host access ends the process. Streams
 * are queues: "lazy" runs an item when something waits for it and not before, the latest time that
 * a device's rules allow, so that a missing wait or event, or an argument struct that was not
 * copied, shows; "eager" runs it at once. Both, and the cpu backend itself, must give the same
 * bits.
 */
#ifndef PAR_TESTS_FAR_H
#define PAR_TESTS_FAR_H

#include "par/kernels.h"

/* By its clock a kernel takes this long, and nothing else takes time: sums are exact. Streams have
 * clocks of their own, which know nothing of each other. */
#define FAR_KERNEL_S (1.0 / 1024)

/* The same address in every call; what is under way is not changed by `eager`. */
const par_backend *far_backend(bool eager);

/* What happened since the last call of far_counts_reset. */
typedef struct {
    int64_t syncs;       /* waits of the host for a stream */
    int64_t queries;     /* of events that were not done yet */
    int64_t kernels;     /* enqueued */
    int64_t copies;      /* enqueued */
    int64_t unpinned;    /* of them, with host memory that is not this backend's host_memory */
    int64_t most_queued; /* items of one stream at a time */
    uint64_t trace; /* of every kernel, copy and zero enqueued, with all of its arguments; 0 if the
                       compiler cannot tell padding from data */
} far_counts;
void far_counts_reset(void);
far_counts far_counts_get(void);

/* What it is said to have timed: "far;" and anything. */
par_status far_choose(const char *text);

/* Blocks and streams and events that live: 0 after everything has been destroyed. */
int far_alive(void);

#endif
