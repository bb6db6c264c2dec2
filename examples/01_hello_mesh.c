/*
 * Lesson 1: ranks and the mesh.
 *
 *     mpirun -n 8 build/examples/01_hello_mesh 2 2          (tp 2, pp 2; dp is what remains)
 *
 * mpirun starts the same program several times. The mesh gives each copy, a rank, coordinates along
 * three axes: tp ranks share each matrix, pp ranks share the layers, dp ranks share the batch.
 */
#include <stdio.h>
#include <stdlib.h>

#include "par/mesh.h"
#include "par/mpi.h"

static void print_line(void *user, const char *line) {
    (void)user;
    printf("%s\n", line);
}

static par_status hello(par_transport *world, int tp, int pp) {
    par_mesh *mesh = NULL;
    int dp = par_transport_size(world) / (tp * pp);
    par_layout layout = {.size = {[PAR_TP] = tp, [PAR_DP] = dp > 0 ? dp : 1, [PAR_PP] = pp}};

    /* NULL: staging for communication comes from malloc. A trainer gives a par_memory instead. */
    PAR_TRY(par_mesh_create(world, &layout, NULL, NULL, &mesh));
    par_status st = par_mesh_print(mesh, print_line, NULL);

    /* An axis is a communicator of the ranks that differ along that axis only. */
    const par_comm *tp_group = mesh->axis[PAR_TP];
    if (mesh->rank == mesh->size - 1)
        printf("rank %d is number %d of the %d ranks of its tp group, which starts at rank %d\n",
               mesh->rank, par_comm_rank(tp_group), par_comm_size(tp_group),
               par_comm_world_rank(tp_group, 0));
    par_mesh_destroy(&mesh);
    return st;
}

int main(int argc, char **argv) {
    int threads, tp = argc > 1 ? atoi(argv[1]) : 1, pp = argc > 2 ? atoi(argv[2]) : 1;
    par_transport *world = NULL;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &threads);
    par_status st = par_transport_create_mpi(MPI_COMM_WORLD, NULL, &world);
    if (st == PAR_OK && (tp < 1 || pp < 1))
        st = par_error_set(PAR_ERR_OPTION, "usage: 01_hello_mesh [TP [PP]], both at least 1");
    if (st == PAR_OK) st = hello(world, tp, pp);
    if (st != PAR_OK && (!world || par_transport_rank(world) == 0))
        fprintf(stderr, "01_hello_mesh: %s\n", par_error());
    par_transport_destroy(&world);
    MPI_Finalize();
    return st != PAR_OK;
}
