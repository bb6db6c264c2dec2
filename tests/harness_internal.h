/* What the serial and the MPI harness share. */
#ifndef PAR_TESTS_HARNESS_INTERNAL_H
#define PAR_TESTS_HARNESS_INTERNAL_H

#include <stdbool.h>

typedef struct {
    bool failed, skipped;
    char text[1024];
} harness_state;

extern harness_state harness_now;

/* Does the name match the patterns on the command line (substrings; none: all)? */
bool harness_selected(const char *name, int argc, char **argv);
void harness_report(const char *suite, const char *name, const harness_state *state,
                    double seconds);
double harness_seconds(void);

#endif
