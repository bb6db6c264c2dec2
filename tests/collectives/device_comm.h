/* A comm whose data lies on the cuda module's stand-in, beside one of the same ranks for host data;
 * and the cases that both links must pass. */
#ifndef PAR_TESTS_DEVICE_COMM_H
#define PAR_TESTS_DEVICE_COMM_H

#include "par/comm.h"
#include "tests/harness.h"

typedef struct {
    par_transport *transport; /* the harness's, or one with pieces of its own */
    par_memory *memory;
    par_comm *device, *host;
    par_stream *stream;
    int p, r;
} device_world;

/* Loads the module from beside the program, and says by which link the cases go; all ranks have one
 * GPU, which is legal if it is `shared`. */
void device_choose(const char *program, par_link link, bool shared);
const par_backend *device_backend(void); /* NULL: this build has no stand-in */

/* False: skipped or failed. */
bool device_open(par_transport *t, device_world *w);
void device_close(device_world *w);
void *device_bytes(int64_t nbytes);

void device_collectives(par_transport *t);
void device_many_under_way(par_transport *t);
void device_pairs(par_transport *t);
void device_recorder(par_transport *t);

#define DEVICE_CASES                                                                               \
    {.name = "collectives-1", .ranks = 1, .run_mpi = device_collectives},                          \
        {.name = "collectives-2", .ranks = 2, .run_mpi = device_collectives},                      \
        {.name = "collectives-3", .ranks = 3, .run_mpi = device_collectives},                      \
        {.name = "collectives-4", .ranks = 4, .run_mpi = device_collectives},                      \
        {.name = "collectives-7", .ranks = 7, .run_mpi = device_collectives},                      \
        {.name = "many-under-way", .ranks = 4, .run_mpi = device_many_under_way},                  \
        {.name = "pairs-2", .ranks = 2, .run_mpi = device_pairs},                                  \
        {.name = "pairs-3", .ranks = 3, .run_mpi = device_pairs},                                  \
        {.name = "pairs-4", .ranks = 4, .run_mpi = device_pairs},                                  \
        {.name = "pairs-7", .ranks = 7, .run_mpi = device_pairs},                                  \
        {.name = "recorder-3", .ranks = 3, .run_mpi = device_recorder}, {                          \
        .name = "recorder-4", .ranks = 4, .run_mpi = device_recorder                               \
    }

#endif
