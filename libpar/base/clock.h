/* The clock that everything is timed by: monotonic, of this rank alone. And the date. */
#ifndef PAR__CLOCK_H
#define PAR__CLOCK_H

#include <stdint.h>

/* Seconds since an arbitrary moment; resolution below a microsecond. */
double par__seconds(void);
/* The same clock in nanoseconds. */
int64_t par__nanoseconds(void);
/* The date: nanoseconds since 1970, as this host has it. It may jump. */
int64_t par__date_nanoseconds(void);
/* What the process has used of the cores, in all its threads. */
int64_t par__cpu_nanoseconds(void);

#endif
