/* The ring of a timeline. See timeline.h. */
#include "timeline.h"

void par__timeline_put(par_timeline *t, const par__event *event) {
    t->events[t->at] = *event;
    t->at = t->at + 1 < t->max ? t->at + 1 : 0;
    t->n++;
}
