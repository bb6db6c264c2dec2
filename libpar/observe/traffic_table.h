/* The lines of a traffic table, for counting, prediction and gathering. */
#ifndef PAR__OBSERVE_TRAFFIC_TABLE_H
#define PAR__OBSERVE_TRAFFIC_TABLE_H

#include "par/observe.h"

void par__traffic_clear(par_traffic *traffic);
/* Bytes to each rank [size] of an axis and purpose, made on first use; NULL and `overflow` if it
 * does not fit. */
int64_t *par__traffic_line(par_traffic *traffic, const char *axis, const char *purpose);

#endif
