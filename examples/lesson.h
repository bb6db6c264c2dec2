/* What every lesson after the first begins and ends with: see 01_hello_mesh.c, which has it written
 * out. */
#ifndef LESSON_H
#define LESSON_H

#include "par/par.h"

/* main of a lesson: MPI, the transport of all ranks, `run` with the words behind the program's
 * name, and the message of what went wrong. Returns the exit code. */
int lesson_main(int argc, char **argv,
                par_status (*run)(par_transport *world, int argc, char **argv));

#endif
