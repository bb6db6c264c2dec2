/*
 * What moves while ranks compute. Between two calls of par_transport_progress both ranks do
 * something else, here a barrier of MPI's own, which moves bytes of the library's messages as a
 * network does, but posts none. So the number of calls says how much of a vector was under way, on
 * a machine of any speed; and a short vector overtakes a long one. And what the recorder tells.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "harness.h"
#include "world.h"

/* A rank sends 16 MB, and about 4 MB are under way: 4 calls and a few, for what the barrier left
 * behind. Two messages of 256 KB at a time would take 32. */
enum { SHARD = 4 << 20, MOST_CALLS = 24 };

static const par_tag tag = {"test", -1, -1, -1};

static int calls_until_done(const world *w, par_work work) {
    int calls = 0;
    for (bool done = false; !done && calls < 1000; calls++) {
        CHECK_OK(par_transport_progress(w->transport));
        int32_t mine = par_work_done(work), all = 0;
        MPI_Allreduce(&mine, &all, 1, MPI_INT32_T, MPI_MIN, w->mpi);
        done = all != 0;
    }
    CHECK_OK(par_work_wait(work, NULL));
    return calls;
}

static void few_calls(par_transport *t) {
    world w = {0};
    par_work work, sent;
    float *x = calloc(2 * SHARD, sizeof *x);
    if (!x || !world_open(&w, par_transport_size(t), 0, false)) return;
    float *own = x + w.r * (int64_t)SHARD, *other = x + (1 - w.r) * (int64_t)SHARD;
    for (int64_t i = 0; i < 2 * (int64_t)SHARD; i++) x[i] = (float)(i % 1000 + w.r);
    CHECK_OK(par_comm_reduce_scatter(w.comm, x, own, SHARD, PAR_F32, tag, NULL, &work));
    int calls = calls_until_done(&w, work);
    CHECK(calls <= MOST_CALLS, "the reduce-scatter took %d calls", calls);
    CHECK_OK(par_comm_all_gather(w.comm, own, x, SHARD, PAR_F32, tag, NULL, &work));
    calls = calls_until_done(&w, work);
    CHECK(calls <= MOST_CALLS, "the all-gather took %d calls", calls);
    for (int64_t i = 0; i < 2 * (int64_t)SHARD; i++)
        CHECK(x[i] == (float)(2 * (i % 1000) + 1), "[%lld] is %g", (long long)i, (double)x[i]);
    CHECK_OK(par_comm_send(w.comm, own, SHARD, PAR_F32, 1 - w.r, tag, NULL, &sent));
    CHECK_OK(par_comm_recv(w.comm, other, SHARD, PAR_F32, 1 - w.r, tag, NULL, &work));
    calls = calls_until_done(&w, work);
    CHECK(calls <= MOST_CALLS, "the receive took %d calls", calls);
    CHECK_OK(par_work_wait(sent, NULL));
    free(x);
    world_close(&w);
}

/* A short operation behind a long one ends first: the wire is not the long one's alone. */
static void beside(par_transport *t) {
    static float few[2];
    world w = {0};
    par_work many, short_one;
    float *x = calloc(2 * SHARD, sizeof *x);
    if (!x || !world_open(&w, par_transport_size(t), 0, false)) return;
    CHECK_OK(par_comm_all_gather(w.comm, x, x, SHARD, PAR_F32, tag, NULL, &many));
    CHECK_OK(par_comm_all_gather(w.comm, few + w.r, few, 1, PAR_F32, tag, NULL, &short_one));
    int32_t mine[2] = {0}, all[2] = {0};
    for (int calls = 0; !all[0] && calls < 1000; calls++) {
        CHECK_OK(par_transport_progress(w.transport));
        mine[0] = par_work_done(short_one);
        mine[1] = par_work_done(many);
        MPI_Allreduce(mine, all, 2, MPI_INT32_T, MPI_MIN, w.mpi);
    }
    CHECK(all[0] && !all[1], "the short one ended with the long one");
    CHECK_OK(par_work_wait(many, NULL));
    CHECK_OK(par_work_wait(short_one, NULL));
    free(x);
    world_close(&w);
}

static const par_recorder_row *row_of(const world *w, const char *op) {
    const par_recorder_row *rows;
    int n = par_recorder_rows(par_transport_recorder(w->transport), &rows);
    for (int i = 0; i < n; i++)
        if (strcmp(rows[i].op, op) == 0) return &rows[i];
    CHECK(false, "no row of %s", op);
    return rows;
}

static double hidden_of_all(const world *w) {
    const par_recorder_row *rows;
    double sum = 0;
    int n = par_recorder_rows(par_transport_recorder(w->transport), &rows);
    for (int i = 0; i < n; i++) sum += rows[i].hidden_s;
    return sum;
}

static bool on_both(const world *w, bool good) {
    int32_t mine = good, all = 0;
    MPI_Allreduce(&mine, &all, 1, MPI_INT32_T, MPI_MIN, w->mpi);
    return all != 0;
}

/* A call that waits at once waits longer than it hides, in one of some tries: it may lose its core
 * between the two. */
static void waits_longer(const world *w, float *x, int64_t n) {
    bool longer = false;
    double wait_s = 0, hidden_s = 0;
    for (int i = 0; i < 20 && !on_both(w, longer); i++) {
        par_recorder_reset(par_transport_recorder(w->transport));
        double begin = MPI_Wtime();
        CHECK_OK(par_comm_all_gather(w->comm, x, x, n, PAR_F32, tag, NULL, NULL));
        double took = MPI_Wtime() - begin;
        const par_recorder_row *row = row_of(w, "all_gather");
        wait_s = row->wait_s;
        hidden_s = row->hidden_s;
        longer = wait_s > hidden_s;
        CHECK(hidden_s + wait_s <= took, "%g s hidden, %g s waited of %g", hidden_s, wait_s, took);
    }
    CHECK(longer, "%g s hidden, %g s waited", hidden_s, wait_s);
}

/* Seconds in which a vector moved and nobody waited for it, and in which somebody did: together
 * never more than the operation took. A receive is not counted: its peer may not have begun. */
static void told(par_transport *t) {
    enum { N = 1 << 18 };
    static float x[2 * N];
    const struct timespec nap = {.tv_nsec = 300000000};
    world w = {0};
    par_work work, sent;
    if (!world_open(&w, par_transport_size(t), 0, false)) return;
    double begin = MPI_Wtime();
    CHECK_OK(par_comm_reduce_scatter(w.comm, x, x, N, PAR_F32, tag, NULL, &work));
    nanosleep(&nap, NULL);
    CHECK_OK(par_work_wait(work, NULL));
    const par_recorder_row *row = row_of(&w, "reduce_scatter");
    double took = MPI_Wtime() - begin;
    CHECK(row->hidden_s >= 0.3 && row->hidden_s + row->wait_s <= took,
          "%g s hidden, %g s waited of %g", row->hidden_s, row->wait_s, took);
    waits_longer(&w, x, N);
    double before = hidden_of_all(&w);
    CHECK_OK(par_comm_recv(w.comm, x, N, PAR_F32, 1 - w.r, tag, NULL, &work));
    nanosleep(&nap, NULL);
    CHECK_OK(par_comm_send(w.comm, x + N, N, PAR_F32, 1 - w.r, tag, NULL, &sent));
    CHECK_OK(par_work_wait(work, NULL));
    CHECK_OK(par_work_wait(sent, NULL));
    CHECK(hidden_of_all(&w) - before < 0.15, "a receive that waits for its peer is hidden");
    world_close(&w);
}

static const harness_case cases[] = {{"few_calls", .ranks = 2, .run_mpi = few_calls},
                                     {"beside", .ranks = 2, .run_mpi = beside},
                                     {"told", .ranks = 2, .run_mpi = told}};

int main(int argc, char **argv) {
    return harness_main_mpi("progress", cases, HARNESS_COUNT(cases), argc, argv);
}
