/* Numbers as text. */
#ifndef PAR__NUMBER_H
#define PAR__NUMBER_H

#include <stddef.h>
#include <stdint.h>

enum { PAR__NUMBER_NBYTES = 40 };

/* At least 9 digits, and as many as it takes to read the same double back; "nan" and "inf" as
 * printf has them. Returns text. */
const char *par__exact(char text[PAR__NUMBER_NBYTES], double value);
/* The same of a float, from 6 digits on. */
const char *par__exact_float(char text[PAR__NUMBER_NBYTES], float value);

/* What divides n, rising: "1, 2, 4". Behind the last one that fits or that is found soon stands
 * "...". nbytes: 32 at least. */
void par__divisors(int64_t n, char *text, size_t nbytes);

#endif
