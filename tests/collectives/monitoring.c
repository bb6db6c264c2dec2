/* A mix of operations on a (tp, dp, pp) mesh; each rank writes the bytes per peer that the recorder
 * counted, in the form "rank peer bytes". monitoring.test compares them with what Open MPI
 * counted. */
#include <stdio.h>
#include <stdlib.h>

#include "par/mesh.h"
#include "par/mpi.h"

enum { N = 100003 };

static float x[4 * N], y[4 * N];

static par_status traffic(par_comm *comm, par_tag tag) {
    int p = par_comm_size(comm), r = par_comm_rank(comm);
    par_work work;
    for (int64_t n = 3; n < N; n = n * 17 + 5) {
        PAR_TRY(par_comm_all_reduce(comm, x, y, n, PAR_F32, tag, NULL, NULL));
        PAR_TRY(par_comm_reduce_scatter(comm, x, y, n / p, PAR_BF16, tag, NULL, NULL));
        PAR_TRY(par_comm_all_gather(comm, x, y, n / p, PAR_F32, tag, NULL, NULL));
        PAR_TRY(par_comm_reduce_scatter_as(comm, x, y, n / p, PAR_BF16, tag, NULL, NULL));
        PAR_TRY(par_comm_all_gather_as(comm, x, y, n / p, PAR_BF16, tag, NULL, NULL));
        PAR_TRY(par_comm_broadcast(comm, x, n, PAR_U8, p - 1, tag, NULL, NULL));
        PAR_TRY(par_comm_send(comm, x, n, PAR_F32, (r + 1) % p, tag, NULL, &work));
        PAR_TRY(par_comm_recv(comm, y, n, PAR_F32, (r + p - 1) % p, tag, NULL, NULL));
        PAR_TRY(par_work_wait(work, NULL));
    }
    PAR_TRY(par_comm_barrier(comm, tag));
    return par_comm_agree(comm, PAR_OK);
}

static par_status write_counts(par_transport *t, const char *prefix) {
    char path[1024];
    int rank = par_transport_rank(t);
    const int64_t *sent = par_recorder_sent_to(par_transport_recorder(t));
    snprintf(path, sizeof path, "%s.%d", prefix, rank);
    FILE *file = fopen(path, "w");
    if (!file) PAR_FAIL(PAR_ERR_IO, "%s cannot be written", path);
    for (int peer = 0; peer < par_transport_size(t); peer++)
        if (sent[peer] > 0) fprintf(file, "%d %d %lld\n", rank, peer, (long long)sent[peer]);
    return fclose(file) == 0 ? PAR_OK : par_error_set(PAR_ERR_IO, "%s was not written", path);
}

static par_status run(par_transport *t, const char *prefix) {
    const par_tag tag = {"monitoring", -1, -1, -1};
    par_layout layout = {.size = {2, 1, par_transport_size(t) / 2, 1}};
    par_mesh *mesh = NULL;
    PAR_TRY(par_mesh_create(t, &layout, NULL, NULL, &mesh));
    par_status st = traffic(mesh->world, tag);
    if (st == PAR_OK) st = traffic(mesh->axis[PAR_TP], tag);
    if (st == PAR_OK) st = traffic(mesh->axis[PAR_DP], tag);
    if (st == PAR_OK) st = write_counts(t, prefix);
    par_mesh_destroy(&mesh);
    return st;
}

int main(int argc, char **argv) {
    int threads;
    par_transport *t = NULL;
    par_transport_params params = {.piece_nbytes = 10000, .check = true};
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &threads);
    par_status st = argc == 2 ? par_transport_create_mpi(MPI_COMM_WORLD, &params, &t)
                              : par_error_set(PAR_ERR_OPTION, "usage: monitoring PREFIX");
    if (st == PAR_OK) st = run(t, argv[1]);
    if (st != PAR_OK) fprintf(stderr, "monitoring: %s\n", par_error());
    par_transport_destroy(&t);
    MPI_Finalize();
    return st != PAR_OK;
}
