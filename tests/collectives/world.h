/* A transport of a test's own, over world ranks 0 to ranks - 1, with one comm of all of them on
 * axis "dp". */
#ifndef PAR_TESTS_WORLD_H
#define PAR_TESTS_WORLD_H

#include "par/mpi.h"

typedef struct {
    MPI_Comm mpi;
    par_transport *transport;
    par_comm *comm;
    int p, r;
} world;

bool world_open(world *w, int ranks, int64_t piece_nbytes, bool check);
void world_close(world *w);

#endif
