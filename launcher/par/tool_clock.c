/* The clocks of all commands. */
#define _POSIX_C_SOURCE 200809L
#include <time.h>

#include "par_tool.h"

static double read_clock(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double par_tool_seconds(void) {
    return read_clock(CLOCK_MONOTONIC);
}

double par_tool_date(void) {
    return read_clock(CLOCK_REALTIME);
}
