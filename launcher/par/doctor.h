/*
 * par doctor: what of this machine, its MPI and its libraries would disturb a training. Each rank
 * makes the same list of findings; rank 0 prints every one once, with the ranks that it is of.
 * doctor_say.c makes the list, doctor_system.c looks at the machine and its limits,
 * doctor_library.c at MPI, HDF5, --save and the GPU; doctor.c has options and printing.
 */
#ifndef PAR_DOCTOR_H
#define PAR_DOCTOR_H

#include "world.h"

enum { DOCTOR_OK, DOCTOR_WARN, DOCTOR_FAIL };
enum { DOCTOR_FINDINGS = 40 };

/* A line. Plain data, as it goes from rank to rank. */
typedef struct {
    int level;
    char name[24], what[400], remedy[400]; /* remedy "": there is nothing to do */
} doctor_finding;

typedef struct {
    const par_world *world;
    par_comm *comm;
    const char *save; /* NULL: not asked for */
    int n;
    doctor_finding findings[DOCTOR_FINDINGS];
} doctor;

/* Add a finding; what and remedy are printed with the same arguments' results. */
void doctor_say(doctor *d, int level, const char *name, const char *remedy, const char *what, ...)
    __attribute__((format(printf, 5, 6)));

/* Not collective. */
void doctor_system(doctor *d);
/* Collective on all ranks: --save and the clocks. */
void doctor_library(doctor *d);

#endif
