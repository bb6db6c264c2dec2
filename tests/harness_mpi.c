/* The MPI harness: cases on split communicators, failures agreed over the world, deadlines that
 * show last operations. */
#define _POSIX_C_SOURCE 200809L
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "harness_internal.h"
#include "par/mpi.h"

static par_transport *now;
static const char *running;
static int world_rank;

/* A hung suite has nothing to lose: formatting in a signal handler is what shows where it hangs.
 * A rank whose check failed may be why the others wait. */
static void deadline(int signal) {
    (void)signal;
    par_recorder_started last[16];
    int n = now ? par_recorder_last(par_transport_recorder(now), last, 16) : 0;
    if (world_rank == 0) printf("FAIL %s: passed its deadline\n", running);
    if (harness_now.failed) printf("  rank %d failed: %.1000s\n", world_rank, harness_now.text);
    for (int i = 0; i < n; i++)
        printf("  rank %d: %s %s \"%s\" layer %d chunk %d micro %d number %lld, %lld started, %lld "
               "done%s\n",
               world_rank, last[i].axis, last[i].op, last[i].purpose, last[i].layer, last[i].chunk,
               last[i].micro, (long long)last[i].number, (long long)last[i].n_started,
               (long long)last[i].n_done, last[i].n_started > last[i].n_done ? ": waits" : "");
    if (n == 0) printf("  rank %d: no comm, waits for the others or computes\n", world_rank);
    fflush(stdout);
    sleep(1); /* every rank's lines before the job ends */
    MPI_Abort(MPI_COMM_WORLD, 2);
}

static void run_case(const harness_case *c, int rank) {
    MPI_Comm split;
    bool in = rank < c->ranks;
    MPI_Comm_split(MPI_COMM_WORLD, in ? 0 : MPI_UNDEFINED, rank, &split);
    if (!in) return;
    par_transport_params params = {.check = true};
    par_status st = par_transport_create_mpi(split, &params, &now);
    if (st != PAR_OK)
        harness_fail(__FILE__, __LINE__, "transport: %s", par_error());
    else
        c->run_mpi(now);
    par_transport_destroy(&now);
    MPI_Comm_free(&split);
}

/* The first failing rank's text, else the first skipping rank's, reaches rank 0. */
static void agree(int rank, int size) {
    int flags[2] = {harness_now.failed ? rank : size, harness_now.skipped ? rank : size};
    MPI_Allreduce(MPI_IN_PLACE, flags, 2, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    int source = flags[0] < size ? flags[0] : flags[1];
    if (source == size) return;
    MPI_Bcast(harness_now.text, sizeof harness_now.text, MPI_CHAR, source, MPI_COMM_WORLD);
    harness_now.failed = flags[0] < size;
    harness_now.skipped = !harness_now.failed;
    if (harness_now.failed && source > 0) {
        char text[sizeof harness_now.text];
        snprintf(text, sizeof text, "rank %d: %.1000s", source, harness_now.text);
        memcpy(harness_now.text, text, sizeof text);
    }
}

int harness_main_mpi(const char *suite, const harness_case *cases, int n, int argc, char **argv) {
    const struct timespec pause = {.tv_nsec = 2000000};
    int rank, size, provided, bad = 0, counts[3] = {0, 0, 0};
    MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    world_rank = rank;
    signal(SIGALRM, deadline);
    for (int i = 0; i < n; i++) {
        char name[256];
        snprintf(name, sizeof name, "%s/%s", suite, cases[i].name);
        if (!harness_selected(name, argc, argv)) continue;
        memset(&harness_now, 0, sizeof harness_now);
        running = name;
        double begin = harness_seconds();
        alarm((unsigned)(cases[i].deadline_s ? cases[i].deadline_s : HARNESS_DEADLINE_S));
        if (cases[i].ranks > size)
            harness_skip("needs %d ranks, has %d", cases[i].ranks, size);
        else
            run_case(&cases[i], rank);
        /* ranks that a case has no work for sleep until the others come, instead of taking their
         * cores */
        MPI_Request all;
        int done = 0;
        MPI_Ibarrier(MPI_COMM_WORLD, &all);
        while (MPI_Test(&all, &done, MPI_STATUS_IGNORE), !done) nanosleep(&pause, NULL);
        agree(rank, size);
        alarm(0);
        bad |= harness_now.failed;
        counts[harness_now.failed ? 1 : harness_now.skipped ? 2 : 0]++;
        if (rank == 0)
            harness_report(suite, cases[i].name, &harness_now, harness_seconds() - begin);
    }
    if (rank == 0)
        printf("# %s: %d passed, %d failed, %d skipped\n", suite, counts[0], counts[1], counts[2]);
    MPI_Finalize();
    return bad;
}
