/*
 * Interrupted and resumed is uninterrupted: a run saves at a random step, once at once and once in
 * the background, with the same bytes, and goes on; a new trainer resumes from the second one.
 * Every later loss and norm, and at the end every byte of weights on every rank (copies along tp
 * and dp included) and of all moments, must be the same, over layouts, ZeRO, precisions and
 * dropout. The thread's writes wait until two more steps have changed the state.
 */
#undef _FILE_OFFSET_BITS /* both forms of pwrite are defined here, under their own names */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <ftw.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../harness.h"
#include "../train/check.h"
#include "libpar/base/flight.h"
#include "libpar/base/record.h"

/* HELD: steps for which a thread's first write waits; RUNS: of the cases about slow disks. */
enum { STEPS = 7, HELD = 2, RUNS = 40 };

/* A thread's writes, of libpar too: this program's own pwrite stands before libc's. */
static struct {
    atomic_bool closed;   /* it waits meanwhile */
    atomic_int n, n_held; /* writes; those that had to wait */
    double each_s;        /* takes longer */
    const par__flight *flight;
    int64_t first, last; /* progress on it at the first write and at number RUNS */
} disk;

static void pause_s(double s) {
    nanosleep(&(struct timespec){(time_t)s, (long)(1e9 * (s - (double)(time_t)s))}, NULL);
}

static void write_slowly(void) {
    if (getpid() == gettid()) return;
    if (atomic_load(&disk.closed)) atomic_fetch_add(&disk.n_held, 1);
    while (atomic_load(&disk.closed)) pause_s(1e-4);
    if (disk.flight && atomic_load(&disk.n) == 0) disk.first = disk.flight->progress;
    if (disk.flight && atomic_load(&disk.n) < RUNS) disk.last = disk.flight->progress;
    atomic_fetch_add(&disk.n, 1);
    if (disk.each_s > 0) pause_s(disk.each_s);
}

#define SLOW_WRITE(name, offset_type)                                                              \
    ssize_t name(int fd, const void *data, size_t n, offset_type at);                              \
    ssize_t name(int fd, const void *data, size_t n, offset_type at) {                             \
        ssize_t (*original)(int, const void *, size_t, offset_type);                               \
        void *found = dlsym(RTLD_NEXT, #name);                                                     \
        memcpy(&original, &found, sizeof original);                                                \
        write_slowly();                                                                            \
        return original(fd, data, n, at);                                                          \
    }

SLOW_WRITE(pwrite, off_t)
SLOW_WRITE(pwrite64, off64_t)

/* Ranks' files that this rank removed. */
static int n_removed;

int unlinkat(int folder, const char *name, int flags) {
    int (*original)(int, const char *, int);
    void *found = dlsym(RTLD_NEXT, "unlinkat");
    memcpy(&original, &found, sizeof original);
    int result = original(folder, name, flags);
    n_removed += result == 0 && strncmp(name, "rank_", 5) == 0;
    return result;
}

typedef struct {
    int tp, pp, dp, zero;
    bool llama, sgd;
    int chunks;
    par_dtype dtype;
} setting;

typedef struct {
    double loss[STEPS], norm[STEPS], evaluation;
    par_scaler scaler;
    float *weights; /* this rank's, one after the other */
    float *m, *v;   /* global, on rank 0 */
} outcome;

typedef struct {
    MPI_Comm comm;
    const setting *set;
    par_trainer_params params;
    check_data data;
    check_table table;
    char directory[512], behind[520]; /* saves at once; in the background */
    int save_after;
} experiment;

static int64_t local_n(const par_trainer *t) {
    int64_t n = 0;
    for (int i = 0; i < par_trainer_n_params(t); i++)
        n += par_trainer_param(t, i)->local[0] * par_trainer_param(t, i)->local[1];
    return n;
}

static void copy_weights(const par_trainer *t, float *to) {
    for (int i = 0; i < par_trainer_n_params(t); i++) {
        const par_param *p = par_trainer_param(t, i);
        int64_t n = p->local[0] * p->local[1];
        memcpy(to, p->weight, (size_t)n * par_dtype_nbytes(p->dtype));
        to += n;
    }
}

static par_status keep_outcome(experiment *e, par_trainer *t, outcome *o) {
    par_source source = check_source(&e->data);
    /* an evaluation also waits for gathers of weights that are still under way */
    PAR_TRY(par_trainer_evaluate(t, &source, 0, e->params.global_batch, &o->evaluation));
    o->weights = calloc((size_t)local_n(t), sizeof(float));
    o->m = calloc((size_t)e->table.total, sizeof(float));
    o->v = calloc((size_t)e->table.total, sizeof(float));
    copy_weights(t, o->weights);
    o->scaler = *par_trainer_scaler(t);
    PAR_TRY(check_gather(t, &e->table, PAR_STATE_M, o->m));
    return e->set->sgd ? PAR_OK : check_gather(t, &e->table, PAR_STATE_V, o->v);
}

/* Twice: at once, and in the background while the next steps change the state. */
static par_status save(experiment *e, par_trainer *t, int step, double loss) {
    par_checkpoint_result result;
    size_t nbytes;
    const par_checkpoint_params params = {
        .directory = e->directory, .keep = 1, .step = step, .loss = loss};
    par_checkpoint_params behind = params;
    behind.directory = e->behind;
    PAR_TRY(par_trainer_save(t, &params, &result));
    CHECK(par_trainer_saves_behind(t, &nbytes) && nbytes > 0, "no memory for a copy");
    atomic_store(&disk.n_held, 0);
    atomic_store(&disk.closed, true);
    PAR_TRY(par_trainer_save_begin(t, &behind));
    CHECK_FAILS(par_trainer_save(t, &params, &result), PAR_ERR_ARG, "a save is under way");
    CHECK_FAILS(par_trainer_save_begin(t, &behind), PAR_ERR_ARG, "a save is under way");
    return PAR_OK;
}

static par_status await_save(par_trainer *t, bool saving) {
    par_checkpoint_result result;
    if (saving) {
        CHECK(atomic_load(&disk.n_held) == 1, "no write waited for later steps");
        return par_trainer_save_end(t, &result);
    }
    CHECK_FAILS(par_trainer_save_end(t, &result), PAR_ERR_ARG, "no save is under way");
    return PAR_OK;
}

/* The files of both saves are the same, and nothing else is there. */
static void compare_saves(const experiment *e) {
    char command[1200];
    snprintf(command, sizeof command, "diff -rq '%s' '%s'", e->directory, e->behind);
    CHECK(system(command) == 0, "the save in the background differs");
}

/* Once a write waits: on a busy machine the thread may not have come to it yet. */
static void open_disk(void) {
    for (int i = 0; i < 30000 && atomic_load(&disk.n_held) == 0; i++) pause_s(1e-3);
    atomic_store(&disk.closed, false);
}

static par_status steps(experiment *e, par_trainer *t, int done, bool saving, outcome *o) {
    par_source source = check_source(&e->data);
    bool ended;
    for (int i = done; i < STEPS; i++) {
        par_vote vote;
        PAR_TRY(par_trainer_step(t, &source, 0.01f * (float)(i + 1), false, &vote));
        o->loss[i] = vote.loss;
        o->norm[i] = vote.grad_norm;
        PAR_TRY(par_trainer_save_poll(t, &ended));
        if (saving && i + 1 == e->save_after) PAR_TRY(save(e, t, i + 1, vote.loss));
        if (saving && i + 1 == e->save_after + HELD) open_disk();
    }
    PAR_TRY(await_save(t, saving));
    return keep_outcome(e, t, o);
}

/* The resumed trainer took a step of its own first, so that nothing is right by chance. */
static par_status run(experiment *e, par_transport *transport, bool resuming, outcome *o) {
    par_trainer *t = NULL;
    par_checkpoint_result result = {0};
    const par_checkpoint_about about = {0};
    int done = 0;
    PAR_TRY(par_trainer_create(transport, &e->params, &t));
    par_status st = PAR_OK;
    if (resuming) {
        par_vote vote;
        par_source source = check_source(&e->data);
        st = par_trainer_step(t, &source, 0.5f, false, &vote);
        if (st == PAR_OK) st = par_trainer_resume(t, e->behind, &about, &result);
        done = (int)result.step;
        CHECK(done == e->save_after && par_trainer_consumed(t) == done * e->params.global_batch,
              "resumed at step %d, %lld samples", done, (long long)par_trainer_consumed(t));
    }
    if (st == PAR_OK) st = steps(e, t, done, !resuming, o);
    par_trainer_destroy(&t);
    return st;
}

static void compare(const experiment *e, int64_t n_local, const outcome *a, const outcome *b) {
    for (int i = e->save_after; i < STEPS; i++)
        CHECK(a->loss[i] == b->loss[i] && a->norm[i] == b->norm[i], "step %d: loss %.17g and %.17g",
              i + 1, a->loss[i], b->loss[i]);
    CHECK(memcmp(&a->scaler, &b->scaler, sizeof a->scaler) == 0, "loss scale %g and %g",
          a->scaler.scale, b->scaler.scale);
    CHECK(a->evaluation == b->evaluation, "evaluation %.17g and %.17g", a->evaluation,
          b->evaluation);
    CHECK(memcmp(a->weights, b->weights, (size_t)n_local * sizeof(float)) == 0,
          "weights of a rank differ");
    if (e->table.rank != 0) return;
    size_t nbytes = (size_t)e->table.total * sizeof(float);
    CHECK(memcmp(a->m, b->m, nbytes) == 0, "first moments differ");
    CHECK(memcmp(a->v, b->v, nbytes) == 0, "second moments differ");
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *where) {
    (void)info, (void)type, (void)where;
    return remove(path);
}

static void make_directory(experiment *e, int number) {
    const char *root = getenv("TMPDIR");
    snprintf(e->directory, sizeof e->directory, "%.200s/par-resume-XXXXXX",
             root && *root ? root : "/tmp");
    if (e->table.rank == 0 && !mkdtemp(e->directory))
        harness_fail(__FILE__, __LINE__, "no directory");
    MPI_Bcast(e->directory, sizeof e->directory, MPI_CHAR, 0, e->comm);
    snprintf(e->behind, sizeof e->behind, "%s.behind", e->directory);
    e->save_after = 1 + (int)(par_random_u64(11, (uint64_t)number, 0) % (STEPS - HELD));
}

static int64_t rank_n(const experiment *e, par_transport *transport) {
    par_trainer *t = NULL;
    if (par_trainer_create(transport, &e->params, &t) != PAR_OK) return 0;
    int64_t n = local_n(t);
    par_trainer_destroy(&t);
    return n;
}

static void free_outcome(outcome *o) {
    free(o->weights);
    free(o->m);
    free(o->v);
}

static void one_setting(par_transport *transport, MPI_Comm comm, const setting *set, int number) {
    experiment e = {.comm = comm, .set = set};
    par_transformer_config config;
    par_model *model = NULL;
    outcome straight = {0}, resumed = {0};
    check_config(set->llama, &config);
    config.dropout = config.attention_dropout = 0.1f;
    CHECK_OK(par_transformer_create(&config, &model));
    e.params = check_params(model, set->tp, set->pp, set->dp, 2, 8);
    e.params.zero = set->zero;
    e.params.bucket_n = 3000;
    e.params.save_memory = SIZE_MAX;
    e.params.dtype = set->dtype;
    if (set->dtype == PAR_F16) e.params.scaler.interval = 2; /* the scale moves within the run */
    if (set->sgd) e.params.optimizer = PAR_SGD;
    if (set->chunks) {
        e.params.chunks = set->chunks;
        e.params.schedule = PAR_SCHEDULE_INTERLEAVED;
    }
    e.data = (check_data){.vocab = config.vocab, .T = config.tokens};
    CHECK_OK(check_fit(&config, &e.params));
    CHECK_OK(check_table_create(&e.params, comm, &e.table));
    make_directory(&e, number);
    CHECK_OK(run(&e, transport, false, &straight));
    CHECK_OK(run(&e, transport, true, &resumed));
    if (e.table.rank == 0) compare_saves(&e);
    int64_t n = rank_n(&e, transport);
    if (!harness_failed()) compare(&e, n, &straight, &resumed);
    MPI_Barrier(comm);
    if (e.table.rank == 0) nftw(e.directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    if (e.table.rank == 0) nftw(e.behind, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free_outcome(&straight);
    free_outcome(&resumed);
    check_table_destroy(&e.table);
    par_transformer_destroy(&model);
}

static void all_of(par_transport *transport, const setting *settings, int n) {
    const char *missing = par_checkpoint_missing();
    if (missing) {
        harness_skip("%s", missing);
        return;
    }
    MPI_Comm comm = check_comm(transport);
    for (int i = 0, bad = 0; i < n && !bad; i++) {
        one_setting(transport, comm, &settings[i], i);
        bad = harness_failed(); /* on any rank: all stop, or none */
        MPI_Allreduce(MPI_IN_PLACE, &bad, 1, MPI_INT, MPI_MAX, comm);
    }
    MPI_Comm_free(&comm);
}

static void one_rank(par_transport *transport) {
    const setting settings[] = {{1, 1, 1, 0, false, false, 0, PAR_F32},
                                {1, 1, 1, 1, true, true, 0, PAR_F32},
                                {1, 1, 1, 0, true, false, 0, PAR_F16}};
    all_of(transport, settings, 3);
}

static void two_ranks(par_transport *transport) {
    const setting settings[] = {
        {2, 1, 1, 0, false, false, 0, PAR_F32}, {1, 2, 1, 0, false, false, 0, PAR_F32},
        {1, 1, 2, 0, false, false, 0, PAR_F32}, {1, 1, 2, 1, true, false, 0, PAR_F32},
        {1, 1, 2, 0, true, false, 0, PAR_BF16}, {1, 1, 2, 1, false, false, 0, PAR_F16}};
    all_of(transport, settings, 6);
}

static void four_ranks(par_transport *transport) {
    const setting settings[] = {{2, 1, 2, 1, true, false, 0, PAR_F32},
                                {1, 2, 2, 1, false, false, 0, PAR_F32},
                                {2, 2, 1, 0, true, false, 2, PAR_F32}};
    all_of(transport, settings, 3);
}

static void eight_ranks(par_transport *transport) {
    const setting settings[] = {{2, 2, 2, 0, false, true, 0, PAR_F32},
                                {2, 2, 2, 1, true, false, 0, PAR_F32},
                                {2, 2, 2, 1, true, false, 0, PAR_BF16},
                                {2, 2, 2, 1, false, false, 0, PAR_F16}};
    all_of(transport, settings, 4);
}

/* An older checkpoint's files go with the new one's save, each rank's by itself. */
static void removal(par_transport *transport) {
    if (par_checkpoint_missing()) {
        harness_skip("%s", par_checkpoint_missing());
        return;
    }
    par_comm *world = NULL;
    par_checkpoint_result result;
    char name[8], directory[] = "/tmp/par-resume-XXXXXX", left[64];
    const int rank = par_transport_rank(transport);
    par_checkpoint_params params = {.directory = directory, .keep = 1, .loss = 1};
    snprintf(name, sizeof name, "%d", rank);
    const par_checkpoint_run run = {
        .kind = "blob", .name = name, .dtype = PAR_U8, .n = 8, .data = name};
    if (rank == 0 && !mkdtemp(directory)) harness_fail(__FILE__, __LINE__, "no directory");
    CHECK_OK(par_comm_create(transport, &(par_comm_params){.axis = "world"}, NULL, &world));
    CHECK_OK(par_comm_broadcast(world, directory, sizeof directory, PAR_U8, 0,
                                (par_tag){"test", -1, -1, -1}, NULL, NULL));
    n_removed = 0;
    for (params.step = 1; params.step <= 3; params.step++) {
        CHECK_OK(par_checkpoint_save(world, &params, &run, 1, &result));
        CHECK(n_removed == params.step - 1, "step %d: %d of this rank's files are removed",
              (int)params.step, n_removed);
    }
    /* what a killed save left stays at the check of a stranger, and goes with the next save */
    snprintf(left, sizeof left, "%s/step_00000009.tmp-1-1", directory);
    if (rank == 0) CHECK(mkdir(left, 0777) == 0, "no directory");
    params.check_only = true;
    CHECK_OK(par_checkpoint_save(world, &params, &run, 1, &result));
    if (rank == 0) CHECK(access(left, F_OK) == 0, "a check has removed what is not its own");
    params.check_only = false;
    CHECK_OK(par_checkpoint_save(world, &params, &run, 1, &result));
    if (rank == 0) CHECK(access(left, F_OK) != 0, "what a killed save left is still there");
    if (rank == 0) nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    par_comm_destroy(&world);
}

/* A save into a directory is refused on every rank while another into it is under way, whatever its
 * name and kind; the other is what it would be without it. One into another directory goes on. */
static void second(par_transport *transport) {
    if (par_checkpoint_missing()) {
        harness_skip("%s", par_checkpoint_missing());
        return;
    }
    par_comm *world = NULL;
    par_checkpoint_saving *saving = NULL, *more = NULL;
    par_checkpoint *saved = NULL;
    par_checkpoint_result result;
    char name[8], directory[] = "/tmp/par-resume-XXXXXX", other[64], link[64];
    static const char refused[] = "a save of step 1 is under way there";
    const int rank = par_transport_rank(transport);
    snprintf(name, sizeof name, "%d", rank);
    const par_checkpoint_run run = {
        .kind = "blob", .name = name, .dtype = PAR_U8, .n = 8, .data = name};
    if (rank == 0 && !mkdtemp(directory)) harness_fail(__FILE__, __LINE__, "no directory");
    CHECK_OK(par_comm_create(transport, &(par_comm_params){.axis = "world"}, NULL, &world));
    CHECK_OK(par_comm_broadcast(world, directory, sizeof directory, PAR_U8, 0,
                                (par_tag){"test", -1, -1, -1}, NULL, NULL));
    snprintf(other, sizeof other, "%s/other", directory);
    snprintf(link, sizeof link, "%s/self", directory);
    if (rank == 0) CHECK(symlink(".", link) == 0, "no link");
    par_checkpoint_params params = {.directory = directory, .keep = 1, .step = 1, .loss = 1};
    CHECK_OK(par_checkpoint_save_begin(world, &params, &run, 1, &saving));
    for (params.step = 1; params.step <= 2; params.step++) {
        params.directory = params.step == 1 ? directory : link;
        CHECK_FAILS(par_checkpoint_save_begin(world, &params, &run, 1, &more), PAR_ERR_ARG,
                    refused);
        CHECK_FAILS(par_checkpoint_save(world, &params, &run, 1, &result), PAR_ERR_ARG, refused);
        params.check_only = true;
        CHECK_FAILS(par_checkpoint_save(world, &params, &run, 1, &result), PAR_ERR_ARG, refused);
        params.check_only = false;
    }
    params.directory = other;
    CHECK_OK(par_checkpoint_save_begin(world, &params, &run, 1, &more));
    CHECK_OK(par_checkpoint_save_end(&more, &result));
    CHECK_OK(par_checkpoint_save_end(&saving, &result));
    CHECK(result.notes.n == 0, "notes: %s", result.notes.text);
    CHECK_OK(par_checkpoint_open(result.path, NULL, &saved));
    for (int r = 0; r <= par_comm_size(world); r++) CHECK_OK(par_checkpoint_verify(saved, r));
    par_checkpoint_close(&saved);
    params.directory = directory;
    CHECK_OK(par_checkpoint_save(world, &params, &run, 1, &result));
    if (rank == 0) nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    par_comm_destroy(&world);
}

/* A save of RUNS writes, each of which takes each_s on rank 0, until its end. Rank 1 may abort once
 * the save has begun on both. */
static par_status save_slowly(par_transport *transport, double each_s, bool aborts) {
    par_comm *world = NULL;
    par_checkpoint_saving *saving = NULL;
    par_checkpoint_result result;
    par_checkpoint_run runs[RUNS];
    char names[RUNS][8], directory[] = "/tmp/par-resume-XXXXXX";
    const int rank = par_transport_rank(transport), ranks[] = {0, 1};
    const par_comm_params two = {.axis = "world", .ranks = ranks, .n = 2};
    const par_checkpoint_params params = {.directory = directory, .step = 1, .loss = 1};
    if (rank == 0 && !mkdtemp(directory)) harness_fail(__FILE__, __LINE__, "no directory");
    for (int i = 0; i < RUNS; i++) {
        snprintf(names[i], sizeof names[i], "%d.%d", rank, i);
        runs[i] = (par_checkpoint_run){
            .kind = "blob", .name = names[i], .dtype = PAR_U8, .n = 8, .data = names[i]};
    }
    MPI_Comm comm = check_comm(transport);
    disk.each_s = rank == 0 ? each_s : 0;
    atomic_store(&disk.n, 0);
    disk.flight = par__recorder_flight(par_transport_recorder(transport));
    CHECK_OK(par_comm_create(transport, &two, NULL, &world));
    CHECK_OK(par_comm_broadcast(world, directory, sizeof directory, PAR_U8, 0,
                                (par_tag){"test", -1, -1, -1}, NULL, NULL));
    CHECK_OK(par_checkpoint_save_begin(world, &params, runs, rank == 0 ? RUNS : 1, &saving));
    MPI_Barrier(comm);
    if (aborts && rank == 1) par_transport_abort(transport, PAR_ERR_INTERNAL, "a test");
    par_status st = par_checkpoint_save_end(&saving, &result);
    disk.each_s = 0;
    disk.flight = NULL;
    if (rank == 0) nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    par_comm_destroy(&world);
    MPI_Comm_free(&comm);
    return st;
}

/* Who waits for a slow disk hears that a peer is gone, and does not write to the end, which would
 * be 10 s away. */
static void peer_gone(par_transport *transport) {
    if (par_checkpoint_missing()) {
        harness_skip("%s", par_checkpoint_missing());
        return;
    }
    par_status st = save_slowly(transport, 0.25, true);
    CHECK(st == PAR_ERR_TRANSPORT, "%s: %s", par_status_text(st), par_error());
    if (par_transport_rank(transport) == 0)
        CHECK(atomic_load(&disk.n) < RUNS, "all %d writes were made", atomic_load(&disk.n));
}

/* Waiting for a slow disk that goes on is progress, which watchdogs look at. */
static void slow_disk(par_transport *transport) {
    if (par_checkpoint_missing()) {
        harness_skip("%s", par_checkpoint_missing());
        return;
    }
    CHECK_OK(save_slowly(transport, 0.05, false));
    if (par_transport_rank(transport) == 0)
        CHECK(disk.last - disk.first >= RUNS / 2, "progress went from %lld to %lld in %d writes",
              (long long)disk.first, (long long)disk.last, atomic_load(&disk.n));
}

static const harness_case cases[] = {
    {"peer-gone", NULL, 2, peer_gone, 60},    {"slow-disk", NULL, 2, slow_disk, 60},
    {"removal", NULL, 4, removal, 60},        {"second", NULL, 4, second, 60},
    {"one-rank", NULL, 1, one_rank, 120},     {"two-ranks", NULL, 2, two_ranks, 180},
    {"four-ranks", NULL, 4, four_ranks, 180}, {"eight-ranks", NULL, 8, eight_ranks, 240},
};

int main(int argc, char **argv) {
    return harness_main_mpi("resume", cases, HARNESS_COUNT(cases), argc, argv);
}
