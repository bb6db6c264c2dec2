/* The ranks of a command of par that may be started by mpirun: one process alone needs no MPI. */
#ifndef PAR_WORLD_H
#define PAR_WORLD_H

#include <stdbool.h>

#include "par/par.h"

typedef struct {
    par_transport *transport;
    int rank, size;
    int cores;     /* that this process may use, by its affinity mask and its cgroup's CPU quota */
    bool launched; /* by mpirun or srun */
} par_world;

/* Find the peers if a launcher started this process, else be alone. Collective on all ranks. */
par_status par_world_begin(par_world *w);
/* Collective on all ranks. Returns `code`, the exit code. */
int par_world_end(par_world *w, int code);

/* How many ranks the launcher says that it started; NULL: this process was started by hand. */
const char *par_world_launched(void);

/* "tp=2,pp=4,dp=8" as a layout; each problem is a line. */
void par_world_layout(const char *text, par_layout *out, par_problems *problems);
/* Ranks of a layout. */
int64_t par_world_ranks(const par_layout *layout);

#endif
