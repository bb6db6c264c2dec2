/* Time: see clock.h. */
#define _POSIX_C_SOURCE 200809L
#include "libpar/base/clock.h"

#include <time.h>

static int64_t read_clock(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

double par__seconds(void) {
    return 1e-9 * (double)read_clock(CLOCK_MONOTONIC);
}

int64_t par__nanoseconds(void) {
    return read_clock(CLOCK_MONOTONIC);
}

int64_t par__date_nanoseconds(void) {
    return read_clock(CLOCK_REALTIME);
}

int64_t par__cpu_nanoseconds(void) {
    return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}
