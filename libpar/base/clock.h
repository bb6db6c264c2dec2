/* The clock that everything is timed by: monotonic, of this rank alone. */
#ifndef PAR__CLOCK_H
#define PAR__CLOCK_H

#include <stdint.h>

/* Seconds since an arbitrary moment; resolution below a microsecond. */
double par__seconds(void);
/* The same clock in nanoseconds. */
int64_t par__nanoseconds(void);

#endif
