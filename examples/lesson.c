#include "lesson.h"

#include <stdio.h>

#include "par/mpi.h"

int lesson_main(int argc, char **argv,
                par_status (*run)(par_transport *world, int argc, char **argv)) {
    int threads;
    par_transport *world = NULL;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &threads);
    par_status st = par_transport_create_mpi(MPI_COMM_WORLD, NULL, &world);
    if (st == PAR_OK) st = run(world, argc - 1, argv + 1);
    if (st != PAR_OK) fprintf(stderr, "%s: %s: %s\n", argv[0], par_status_text(st), par_error());
    par_transport_destroy(&world);
    MPI_Finalize();
    return st != PAR_OK;
}
