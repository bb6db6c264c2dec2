/* Test transports with other pieces than the harness's. MPI_Comm_create_group is collective on the
 * group alone, so the ranks that sit a case out need not take part. */
#include "world.h"

#include "harness.h"

bool world_open(world *w, int ranks, int64_t piece_nbytes, bool check) {
    MPI_Group all, group;
    int range[1][3] = {{0, ranks - 1, 1}};
    par_transport_params params = {.piece_nbytes = piece_nbytes, .check = check};
    MPI_Comm_group(MPI_COMM_WORLD, &all);
    MPI_Group_range_incl(all, 1, range, &group);
    MPI_Comm_create_group(MPI_COMM_WORLD, group, 0, &w->mpi);
    MPI_Group_free(&all);
    MPI_Group_free(&group);
    CHECK_OK(par_transport_create_mpi(w->mpi, &params, &w->transport));
    if (harness_failed()) return false;
    w->p = ranks;
    w->r = par_transport_rank(w->transport);
    CHECK_OK(par_comm_create(w->transport, &(par_comm_params){.axis = "dp"}, NULL, &w->comm));
    return !harness_failed();
}

void world_close(world *w) {
    par_comm_destroy(&w->comm);
    par_transport_destroy(&w->transport);
    MPI_Comm_free(&w->mpi);
}
