/*
 * nccl-program WHAT N RANK: one process of an NCCL program whose traffic nccl_record.test knows. It
 * is linked with NCCL; built as a library, nccl-loader loads it together with its NCCL. Its stream
 * 1 is one of which a graph is captured.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "launcher/nccl_record/abi.h"

enum { THREADS = 4, PER_THREAD = 20000, COSTED = 2000000 };

int cuStreamIsCapturing(cudaStream_t stream, int *status);
int nccl_program(int argc, char **argv);

/* The driver's. */
__attribute__((visibility("default"))) int cuStreamIsCapturing(cudaStream_t stream, int *status) {
    *status = (uintptr_t)stream == 1;
    return 0;
}

static ncclUniqueId id_of(int number) {
    ncclUniqueId id;
    memset(&id, number, sizeof id);
    return id;
}

static void world_calls(ncclComm_t world, int n, int rank) {
    for (int i = 0; i < 3; i++) ncclAllReduce(NULL, NULL, 1000, ncclFloat32, ncclSum, world, NULL);
    ncclAllReduce(NULL, NULL, 50, ncclFloat16, ncclSum, world, (cudaStream_t)(uintptr_t)1);
    ncclBcast(NULL, 10, ncclUint8, 1, world, NULL);
    ncclBroadcast(NULL, NULL, 5, ncclBfloat16, 0, world, NULL);
    ncclReduce(NULL, NULL, 3, ncclInt64, ncclSum, n - 1, world, NULL);
    ncclAllGather(NULL, NULL, 7, ncclFloat16, world, NULL);
    ncclReduceScatter(NULL, NULL, 9, ncclFloat64, ncclSum, world, NULL);
    ncclAlltoAll(NULL, NULL, 4, ncclInt32, world, NULL);
    ncclGather(NULL, NULL, 6, ncclFloat32, 0, world, NULL);
    ncclScatter(NULL, NULL, 8, ncclFloat32, 1, world, NULL);
    ncclPutSignal(NULL, 2, ncclFloat32, (rank + 1) % n, NULL, 0, 0, 0, 0, world, NULL);
    ncclAllReduce(NULL, NULL, 1000, (ncclDataType_t)99, ncclSum, world, NULL); /* is refused */
}

/* To the next, from the one before; groups of 2, 2 and, one in the other, 3 calls. */
static void ring(ncclComm_t world, int n, int rank) {
    for (int i = 0; i < 3; i++) {
        ncclGroupStart();
        ncclSend(NULL, 100, ncclFloat32, (rank + 1) % n, world, NULL);
        if (i == 2) {
            ncclGroupStart();
            ncclSend(NULL, 1, ncclUint8, (rank + 2) % n, world, NULL);
            ncclGroupEnd();
        }
        ncclRecv(NULL, 100, ncclFloat32, (rank + n - 1) % n, world, NULL);
        ncclGroupEnd();
    }
}

static void *reduce_often(void *comm) {
    for (int i = 0; i < PER_THREAD; i++)
        ncclAllReduce(NULL, NULL, 1, ncclFloat32, ncclSum, (ncclComm_t)comm, NULL);
    return NULL;
}

static void threads(ncclComm_t comm) {
    pthread_t thread[THREADS];
    for (int i = 0; i < THREADS; i++) pthread_create(&thread[i], NULL, reduce_often, comm);
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
}

static ncclComm_t named(int number, const char *name, int n, int rank) {
    ncclConfig_t config = {.size = sizeof config, .commName = name};
    ncclComm_t comm;
    ncclCommInitRankConfig(&comm, n, id_of(number), rank, &config);
    return comm;
}

static void known(ncclComm_t world, int n, int rank) {
    ncclComm_t half, none, first, second;
    ncclCommSplit(world, rank % 2, 0, &half, NULL);
    ncclCommSplit(world, -1, 0, &none, NULL);
    world_calls(world, n, rank);
    ring(world, n, rank);
    threads(half);
    first = named(2, "dp \"0\" to 1", n, rank);
    ncclAllGather(NULL, NULL, 11, ncclUint8, first, NULL);
    ncclCommFinalize(first);
    ncclCommDestroy(first);
    second = named(3, "tp", n, rank); /* where the first one was */
    ncclAllGather(NULL, NULL, 13, ncclUint8, second, NULL);
    ncclCommAbort(second);
    if (first != second) printf("the stand-in gave other memory\n");
}

/* Of this thread's work, whatever else runs here. */
static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* What a call costs, of several communicators in turn. */
static void cost(int n, int rank) {
    ncclComm_t comms[4];
    for (int i = 0; i < 4; i++) comms[i] = named(10 + i, "cost", n, rank);
    double begin = seconds();
    for (int i = 0; i < COSTED; i++)
        ncclAllReduce(NULL, NULL, 1, ncclFloat32, ncclSum, comms[i % 4], NULL);
    printf("%.1f\n", (seconds() - begin) / COSTED * 1e9);
}

/* One process with all ranks, a device each. */
static void all_ranks(int n) {
    ncclComm_t comms[8];
    ncclCommInitAll(comms, n, NULL);
    ncclGroupStart();
    for (int i = 0; i < n; i++) ncclAllReduce(NULL, NULL, 21, ncclFloat32, ncclSum, comms[i], NULL);
    for (int i = 0; i < n; i++)
        ncclSend(NULL, 2 + (size_t)i, ncclUint8, (i + 1) % n, comms[i], NULL);
    ncclGroupEnd();
    for (int i = 0; i < n; i++) ncclCommDestroy(comms[i]);
}

__attribute__((visibility("default"))) int nccl_program(int argc, char **argv) {
    if (argc != 4) return 2;
    int n = atoi(argv[2]), rank = atoi(argv[3]);
    ncclComm_t world;
    if (strcmp(argv[1], "all") == 0) {
        all_ranks(n);
        return 0;
    }
    ncclCommInitRank(&world, n, id_of(1), rank);
    if (strcmp(argv[1], "cost") == 0) cost(n, rank);
    if (strcmp(argv[1], "known") == 0) known(world, n, rank);
    if (strcmp(argv[1], "fork") == 0) {
        pid_t child = fork();
        if (child == 0) exit(0); /* has counted nothing */
        waitpid(child, NULL, 0);
        execl("/bin/true", "true", NULL); /* no end of the program: what the child left stays */
    }
    if (strcmp(argv[1], "hang") == 0) {
        ncclAllReduce(NULL, NULL, 77, ncclFloat32, ncclSum, world, NULL);
        printf("called\n");
        fflush(stdout);
        pause();
    }
    ncclCommDestroy(world);
    return 0;
}

#if NCCL_PROGRAM_MAIN
int main(int argc, char **argv) {
    return nccl_program(argc, argv);
}
#endif
