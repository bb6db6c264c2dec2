/* par doctor: the list of findings. See doctor.h. */
#include <stdarg.h>
#include <stdio.h>

#include "doctor.h"

void doctor_say(doctor *d, int level, const char *name, const char *remedy, const char *what, ...) {
    if (d->n == DOCTOR_FINDINGS) return;
    doctor_finding *f = &d->findings[d->n++];
    va_list args;
    va_start(args, what);
    vsnprintf(f->what, sizeof f->what, what, args);
    va_end(args);
    f->level = level;
    snprintf(f->name, sizeof f->name, "%s", name);
    snprintf(f->remedy, sizeof f->remedy, "%s", remedy);
    for (char *c = f->what; *c; c++)
        if (*c == '\n') *c = ' ';
}
