/*
 * Times collectives, in the form of nccl-tests: op, bytes, time, algorithm and bus bandwidth. algbw
 * = bytes / time; busbw is algbw times what a rank must send for each byte of the result, with p
 * the ranks of this group: 2 (p-1)/p for all-reduce, (p-1)/p for reduce-scatter and all-gather, 1
 * for broadcast and send. Bytes are those of the whole vector. mpirun --bind-to none -n 4
 * collectives [LARGEST BYTES [REPEATS]]
 */
#include <stdio.h>
#include <stdlib.h>

#include "par/mpi.h"

static const par_tag tag = {"benchmark", -1, -1, -1};

typedef par_status operation(par_comm *comm, char *src, char *dst, int64_t n);

static par_status all_reduce(par_comm *comm, char *src, char *dst, int64_t n) {
    return par_comm_all_reduce(comm, src, dst, n, PAR_F32, tag, NULL, NULL);
}

static par_status reduce_scatter(par_comm *comm, char *src, char *dst, int64_t n) {
    return par_comm_reduce_scatter(comm, src, dst, n / par_comm_size(comm), PAR_F32, tag, NULL,
                                   NULL);
}

static par_status all_gather(par_comm *comm, char *src, char *dst, int64_t n) {
    return par_comm_all_gather(comm, src, dst, n / par_comm_size(comm), PAR_F32, tag, NULL, NULL);
}

static par_status broadcast(par_comm *comm, char *src, char *dst, int64_t n) {
    (void)dst;
    return par_comm_broadcast(comm, src, n, PAR_F32, 0, tag, NULL, NULL);
}

static par_status ring_send(par_comm *comm, char *src, char *dst, int64_t n) {
    int p = par_comm_size(comm), r = par_comm_rank(comm);
    par_work work;
    PAR_TRY(par_comm_send(comm, src, n, PAR_F32, (r + 1) % p, tag, NULL, &work));
    PAR_TRY(par_comm_recv(comm, dst, n, PAR_F32, (r + p - 1) % p, tag, NULL, NULL));
    return par_work_wait(work, NULL);
}

static const struct {
    const char *name;
    operation *run;
    double whole, part; /* bus factor: whole + part (p - 1) / p */
} operations[] = {
    {"all_reduce", all_reduce, 0, 2}, {"reduce_scatter", reduce_scatter, 0, 1},
    {"all_gather", all_gather, 0, 1}, {"broadcast", broadcast, 1, 0},
    {"send", ring_send, 1, 0},
};

static par_status measure(par_comm *comm, int which, char *src, char *dst, int64_t nbytes,
                          int repeats) {
    int p = par_comm_size(comm);
    int64_t n = nbytes / 4 / p * p;
    PAR_TRY(operations[which].run(comm, src, dst, n)); /* connections and page faults */
    PAR_TRY(par_comm_barrier(comm, tag));
    double begin = MPI_Wtime();
    for (int i = 0; i < repeats; i++) PAR_TRY(operations[which].run(comm, src, dst, n));
    PAR_TRY(par_comm_barrier(comm, tag));
    double seconds = (MPI_Wtime() - begin) / repeats, rate = (double)(4 * n) / seconds / 1e9;
    double bus = rate * (operations[which].whole + operations[which].part * (p - 1) / p);
    if (par_comm_rank(comm) == 0)
        printf("%-15s %12lld %12.1f %10.3f %10.3f\n", operations[which].name, (long long)(4 * n),
               1e6 * seconds, rate, bus);
    return PAR_OK;
}

static par_status run(par_transport *t, int64_t largest, int repeats) {
    int p = par_transport_size(t);
    char *src = calloc((size_t)largest + 64, 1), *dst = calloc((size_t)largest + 64, 1);
    par_comm *comm = NULL;
    par_status st = par_comm_create(t, &(par_comm_params){.axis = "world"}, NULL, &comm);
    if (st == PAR_OK)
        st = par_comm_agree(
            comm,
            src && dst ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "no host memory for the vectors"));
    if (st == PAR_OK && par_comm_rank(comm) == 0)
        printf("# %d ranks, fp32\n%-15s %12s %12s %10s %10s\n", p, "# op", "bytes", "time us",
               "algbw GB/s", "busbw GB/s");
    for (int which = 0; which < 5; which++)
        for (int64_t nbytes = 4 * p; st == PAR_OK && nbytes <= largest; nbytes *= 8)
            st = measure(comm, which, src, dst, nbytes,
                         nbytes > 1 << 20 ? (repeats + 9) / 10 : repeats);
    par_comm_destroy(&comm);
    free(src);
    free(dst);
    return st;
}

int main(int argc, char **argv) {
    int threads;
    int64_t largest = argc > 1 ? atoll(argv[1]) : 16 << 20;
    int repeats = argc > 2 ? atoi(argv[2]) : 100;
    par_transport *t = NULL;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &threads);
    par_status st = largest > 0 && repeats > 0
                        ? par_transport_create_mpi(MPI_COMM_WORLD, NULL, &t)
                        : par_error_set(PAR_ERR_OPTION, "bytes and repeats must be at least 1");
    if (st == PAR_OK) st = run(t, largest, repeats);
    if (st != PAR_OK) fprintf(stderr, "collectives: %s\n", par_error());
    par_transport_destroy(&t);
    MPI_Finalize();
    return st != PAR_OK;
}
