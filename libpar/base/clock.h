/* The clock that everything is timed by: monotonic, of this rank alone. */
#ifndef PAR__CLOCK_H
#define PAR__CLOCK_H

/* Seconds since an arbitrary moment; resolution below a microsecond. */
double par__seconds(void);

#endif
