/*
 * Lesson 2: the sum of all ranks' vectors, on every rank: the operation that data parallelism is
 * made of.
 *
 *     mpirun -n 4 build/examples/02_all_reduce
 *
 * The same result comes from two halves: reduce-scatter leaves each rank one shard of the sum,
 * all-gather hands the shards round. Both halves add in rank order, so the bits are the same. The
 * recorder says what was sent.
 */
#include <stdio.h>
#include <string.h>

#include "lesson.h"

enum { SHARD = 4096, MAX_RANKS = 64 };

static float x[SHARD * MAX_RANKS], sum[SHARD * MAX_RANKS], halves[SHARD * MAX_RANKS];

static par_status add_up(par_comm *comm) {
    /* why: the recorder's row; and no layer, chunk or micro-batch */
    const par_tag tag = {"lesson", -1, -1, -1};
    int p = par_comm_size(comm), r = par_comm_rank(comm);
    int64_t n = (int64_t)SHARD * p;
    par_work work;
    for (int64_t i = 0; i < n; i++) x[i] = (float)(r + 1) / (float)(i + 1);

    /* Started here, done after par_work_wait: between the two, x and sum belong to the
     * operation. */
    PAR_TRY(par_comm_all_reduce(comm, x, sum, n, PAR_F32, tag, NULL, &work));
    /* ... compute something else here ... */
    PAR_TRY(par_work_wait(work, NULL));

    float *shard = halves + (int64_t)r * SHARD;
    PAR_TRY(par_comm_reduce_scatter(comm, x, shard, SHARD, PAR_F32, tag, NULL, NULL));
    PAR_TRY(par_comm_all_gather(comm, shard, halves, SHARD, PAR_F32, tag, NULL, NULL));
    if (r == 0)
        printf("sum[0] = %g, the halves give the same bits: %s\n", (double)sum[0],
               memcmp(sum, halves, (size_t)n * sizeof *sum) == 0 ? "yes" : "no");
    return PAR_OK;
}

static par_status run(par_transport *world, int argc, char **argv) {
    par_mesh *mesh = NULL;
    par_layout layout = {.size = {[PAR_DP] = par_transport_size(world)}};
    if (par_transport_size(world) > MAX_RANKS)
        PAR_FAIL(PAR_ERR_OPTION, "at most %d ranks, please", MAX_RANKS);
    PAR_TRY(par_mesh_create(world, &layout, NULL, NULL, &mesh));
    par_status st = add_up(mesh->axis[PAR_DP]);
    if (st == PAR_OK && mesh->rank == 0) {
        const par_recorder_row *rows;
        int n = par_recorder_rows(par_transport_recorder(world), &rows);
        for (int i = 0; i < n; i++)
            printf("%-6s %-8s %-15s %9lld bytes sent in %lld messages\n", rows[i].axis,
                   rows[i].purpose, rows[i].op, (long long)rows[i].sent_nbytes,
                   (long long)rows[i].n_messages);
    }
    par_mesh_destroy(&mesh);
    return st;
}

int main(int argc, char **argv) {
    return lesson_main(argc, argv, run);
}
