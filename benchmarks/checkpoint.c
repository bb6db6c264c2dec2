/*
 * Times checkpoints beside plain files of the same bytes, in turn, in the same run: each rank has
 * MIB MiB. write, read: one file per rank, sequential pieces of 4 MiB; write ends with fsync. As a
 * save does, it makes a new file while the last one is there: it meets other blocks of the disk.
 * The save also removes the older checkpoint, which the plain file's replacement, not timed, does.
 * They take turns in going first: in a guest, whoever comes later may meet memory and blocks that
 * the host has to find, at a third of the rate.
 * Before each read the files leave the page cache, as far as the kernel does as it is told
 * (posix_fadvise). verify: one rank's file of the last checkpoint, in the page cache, on one core.
 * Last, a save in the background: what keeps the caller from its work, in its beginning (the copy,
 * begin) and later (polls every 20 ms, end), beside the copy alone; polls of ranks that share cores
 * also wait until each has one. GB/s are of all ranks' bytes, but for verify.
 *
 *     mpirun --bind-to none -n 8 checkpoint DIR [MIB [ROUNDS]]
 *
 * DIR must be there, and what is made in it is removed.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "par/checkpoint.h"
#include "par/mpi.h"

static const par_tag tag = {"benchmark", -1, -1, -1};

enum { PIECE = 4 << 20, RUNS = 8 };

typedef struct {
    par_comm *world;
    int rank, ranks;
    char directory[900];           /* of checkpoints */
    char plain[1000], fresh[1010]; /* this rank's plain file; while it is being written */
    char *data, *copy;
    size_t nbytes;
    par_checkpoint_run runs[RUNS];
    char names[RUNS][16];
    par_checkpoint_result result;
} bench;

typedef par_status work(bench *b);

static par_status failed(const char *what) {
    perror(what);
    return par_error_set(PAR_ERR_IO, "%s failed", what);
}

static par_status plain_write(bench *b) {
    int fd = open(b->fresh, O_RDWR | O_CREAT | O_EXCL, 0644);
    if (fd < 0) return failed(b->fresh);
    for (size_t at = 0; at < b->nbytes; at += PIECE)
        if (write(fd, b->data + at, PIECE) != PIECE) return failed("write");
    if (fsync(fd) != 0 || close(fd) != 0) return failed("fsync");
    return PAR_OK;
}

static par_status plain_read(bench *b) {
    int fd = open(b->plain, O_RDONLY);
    if (fd < 0) return failed(b->plain);
    for (size_t at = 0; at < b->nbytes; at += PIECE)
        if (read(fd, b->copy + at, PIECE) != PIECE) return failed("read");
    close(fd);
    return PAR_OK;
}

static par_status plain_copy(bench *b) {
    memcpy(b->copy, b->data, b->nbytes);
    return PAR_OK;
}

static void point_at(bench *b, char *data) {
    for (int i = 0; i < RUNS; i++) b->runs[i].data = data + (size_t)i * b->nbytes / RUNS;
}

static par_checkpoint_params params_of(const bench *b) {
    return (par_checkpoint_params){.directory = b->directory, .keep = 1, .step = 1, .loss = 1};
}

static par_status save(bench *b) {
    const par_checkpoint_params params = params_of(b);
    point_at(b, b->data);
    return par_checkpoint_save(b->world, &params, b->runs, RUNS, &b->result);
}

static par_status load(bench *b) {
    const par_checkpoint_about about = {.overwrite = true}; /* as a new trainer does */
    point_at(b, b->copy);
    return par_checkpoint_load(b->world, b->directory, &about, b->runs, RUNS, &b->result);
}

/* Out of the page cache. */
static void forget(const char *path) {
    int fd = open(path, O_RDONLY);
    if (fd < 0) return;
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

/* The file system is done with what was before: it may tell the disk of blocks that are free again,
 * which takes the disk a while. */
static par_status settle(bench *b) {
    PAR_TRY(par_comm_barrier(b->world, tag));
    sync();
    nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
    return PAR_OK;
}

/* Until the last rank is done; in s. */
static par_status timed(bench *b, work *run, double *out) {
    PAR_TRY(par_comm_barrier(b->world, tag));
    double begin = MPI_Wtime();
    PAR_TRY(par_comm_agree(b->world, run(b)));
    *out = MPI_Wtime() - begin;
    return PAR_OK;
}

/* In s: this rank could not do its own work at the beginning, and later; until it is saved. */
static par_status behind(bench *b, double *begun, double *later, double *whole) {
    const par_checkpoint_params params = params_of(b);
    par_checkpoint_saving *saving = NULL;
    bool ended = false;
    PAR_TRY(settle(b));
    double begin = MPI_Wtime();
    PAR_TRY(plain_copy(b));
    point_at(b, b->copy);
    PAR_TRY(par_checkpoint_save_begin(b->world, &params, b->runs, RUNS, &saving));
    *begun = MPI_Wtime() - begin;
    *later = 0;
    while (!ended) {
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        double at = MPI_Wtime();
        PAR_TRY(par_checkpoint_save_poll(saving, &ended));
        *later += MPI_Wtime() - at;
    }
    double at = MPI_Wtime();
    PAR_TRY(par_checkpoint_save_end(&saving, &b->result));
    *later += MPI_Wtime() - at;
    *whole = MPI_Wtime() - begin;
    return PAR_OK;
}

/* On rank 0 alone. */
static par_status verify(bench *b, double *out) {
    par_checkpoint *c = NULL;
    *out = 0;
    if (b->rank != 0) return PAR_OK;
    PAR_TRY(par_checkpoint_open(b->directory, NULL, &c));
    par_status st = par_checkpoint_verify(c, 0); /* into the page cache */
    double begin = MPI_Wtime();
    if (st == PAR_OK) st = par_checkpoint_verify(c, 0);
    *out = MPI_Wtime() - begin;
    par_checkpoint_close(&c);
    return st;
}

static par_status round_of(bench *b, int number) {
    double wrote, saved, read_s, loaded, copied, begun, later, whole, verified;
    char path[1100];
    for (int i = 0; i < 2; i++) {
        bool plain = (number + i) % 2 == 1;
        PAR_TRY(settle(b));
        PAR_TRY(timed(b, plain ? plain_write : save, plain ? &wrote : &saved));
        if (plain && rename(b->fresh, b->plain) != 0) return failed("rename");
    }
    snprintf(path, sizeof path, "%s/step_00000001/rank_%05d.h5", b->directory, b->rank);
    for (int i = 0; i < 2; i++) {
        bool plain = (number + i) % 2 == 0; /* what was written last is read first */
        PAR_TRY(settle(b));
        forget(b->plain);
        forget(path);
        PAR_TRY(timed(b, plain ? plain_read : load, plain ? &read_s : &loaded));
    }
    PAR_TRY(timed(b, plain_copy, &copied));
    PAR_TRY(behind(b, &begun, &later, &whole));
    PAR_TRY(par_comm_agree(b->world, verify(b, &verified)));
    double all = (double)b->nbytes * b->ranks / 1e9;
    if (b->rank == 0)
        printf("%5d %7.2f %7.2f %7.3f %7.2f %7.2f %7.3f %8.2f %9.4f %9.4f %9.4f %8.2f\n", number,
               all / wrote, all / saved, wrote / saved, all / read_s, all / loaded, read_s / loaded,
               (double)b->nbytes / 1e9 / verified, copied, begun, later, whole);
    return PAR_OK;
}

static par_status prepare(bench *b, const char *directory, size_t nbytes) {
    b->rank = par_comm_rank(b->world);
    b->ranks = par_comm_size(b->world);
    b->nbytes = nbytes;
    b->data = malloc(nbytes);
    b->copy = malloc(nbytes);
    if (!b->data || !b->copy) return par_error_set(PAR_ERR_MEMORY, "no host memory for the state");
    float *x = (float *)(void *)b->data;
    for (size_t i = 0; i < nbytes / 4; i++) x[i] = (float)(i * 2654435761u % 1000003) + 0.5f;
    memset(b->copy, 0, nbytes);
    snprintf(b->directory, sizeof b->directory, "%.800s/checkpoint-benchmark", directory);
    snprintf(b->plain, sizeof b->plain, "%.800s/checkpoint-benchmark-plain.%d", directory, b->rank);
    snprintf(b->fresh, sizeof b->fresh, "%s.new", b->plain);
    int64_t n = (int64_t)(nbytes / 4 / RUNS);
    for (int i = 0; i < RUNS; i++) {
        snprintf(b->names[i], sizeof b->names[i], "tensor %d", i);
        b->runs[i] = (par_checkpoint_run){.kind = "weight",
                                          .name = b->names[i],
                                          .dtype = PAR_F32,
                                          .n = n,
                                          .ndim = 2,
                                          .global = {b->ranks, n},
                                          .offset = {b->rank, 0},
                                          .extent = {1, n},
                                          .local = {1, n}};
    }
    return PAR_OK;
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *where) {
    (void)info, (void)type, (void)where;
    return remove(path);
}

static par_status run(par_transport *t, const char *directory, size_t nbytes, int rounds) {
    static bench b;
    PAR_TRY(par_comm_create(t, &(par_comm_params){.axis = "world"}, NULL, &b.world));
    par_status st = par_comm_agree(b.world, prepare(&b, directory, nbytes));
    if (st == PAR_OK && b.rank == 0)
        printf(
            "# %d ranks, %zu MiB each; rates in GB/s, times from copy on in s\n"
            "# round  write    save   of it    read    load   of it   verify      copy     begun "
            "    later    saved\n",
            b.ranks, nbytes >> 20);
    for (int i = 0; st == PAR_OK && i < rounds; i++) st = round_of(&b, i + 1);
    unlink(b.plain);
    unlink(b.fresh);
    if (b.rank == 0) nftw(b.directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    par_comm_destroy(&b.world);
    free(b.data);
    free(b.copy);
    return st;
}

int main(int argc, char **argv) {
    int threads;
    long mib = argc > 2 ? atol(argv[2]) : 64, rounds = argc > 3 ? atol(argv[3]) : 3;
    par_transport *t = NULL;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &threads);
    par_status st = argc > 1 && mib > 0 && mib % 32 == 0 && rounds > 0
                        ? par_transport_create_mpi(MPI_COMM_WORLD, NULL, &t)
                        : par_error_set(PAR_ERR_OPTION, "checkpoint DIR [MIB [ROUNDS]]; legal: MIB "
                                                        "a multiple of 32");
    if (st == PAR_OK) st = run(t, argv[1], (size_t)mib << 20, (int)rounds);
    if (st != PAR_OK) fprintf(stderr, "checkpoint: %s\n", par_error());
    par_transport_destroy(&t);
    MPI_Finalize();
    return st != PAR_OK;
}
