/*
 * The Nth allocation of a save or of a load fails, once or from then on for good, on one rank and
 * on each of two: those of libpar, and what jansson and xxHash allocate for it. Whatever happens:
 * no rank hangs, all return the same, an error speaks of memory, what was there before loads with
 * its own contents, a load never takes an older checkpoint for it, and nothing is left behind,
 * neither blocks nor a name. What libc allocates is left alone, as it does so for MPI and libhdf5.
 *
 * Some 20 of each kind; PAR_ALLOCATIONS=all is the long form, every one.
 *
 * What else one rank alone may find ends a save on all: another libhdf5 than it was built against,
 * parameters that are wrong. Where the libhdf5 of one host alone is not for threads, saves in the
 * background go on.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../harness.h"
#include "../train/allocations.h"
#include "libpar/base/clock.h"
#include "par/par.h"

enum { A = 37, B = 11, OLD = 1, NEWER = 2, NEW = 3, SHORT = 20 };

static const par_tag tag = {"test", -1, -1, -1};
static const par_checkpoint_pair pairs[] = {{"model", "two arrays", PAR_CHECKPOINT_EQUAL},
                                            {"options", "none", PAR_CHECKPOINT_NOTED}};
static const par_checkpoint_about about = {.pairs = pairs, .n = 2};

/* Each rank holds its part of the vector a, and a blob b. */
typedef struct {
    par_comm *world;
    int rank, size;
    char directory[64];
    float a[A];
    int64_t b[B];
    par_checkpoint_run runs[2];
    par_checkpoint_result result;
} setting;

/* What of a setting is tried. */
typedef struct {
    const char *name;
    par_status (*run)(setting *s);
    bool saves;
} operation;

typedef struct {
    int64_t failed, errors;
    double slowest;
} tally;

static float a_of(const setting *s, int64_t step, int i) {
    return (float)(step * 1000 + 100 * s->rank + i);
}

static void fill(setting *s, int64_t step) {
    for (int i = 0; i < A; i++) s->a[i] = a_of(s, step, i);
    for (int i = 0; i < B; i++) s->b[i] = step * 1000 + 10 * s->rank - i;
}

static bool holds(const setting *s, int64_t step) {
    setting other = {.rank = s->rank};
    fill(&other, step);
    return memcmp(other.a, s->a, sizeof s->a) == 0 && memcmp(other.b, s->b, sizeof s->b) == 0;
}

/* ---- operations, of all ranks ---- */

static par_checkpoint_params params_of(setting *s, int64_t step) {
    fill(s, step);
    return (par_checkpoint_params){.directory = s->directory,
                                   .step = step,
                                   .keep = 3,
                                   .consumed = 8 * step,
                                   .updates = step,
                                   .loss = 2.5,
                                   .about = about};
}

static par_status save(setting *s) {
    const par_checkpoint_params params = params_of(s, NEW);
    return par_checkpoint_save(s->world, &params, s->runs, 2, &s->result);
}

static par_status save_behind(setting *s) {
    const par_checkpoint_params params = params_of(s, NEW);
    par_checkpoint_saving *saving = NULL;
    par_status st = PAR_OK;
    PAR_TRY(par_checkpoint_save_begin(s->world, &params, s->runs, 2, &saving));
    for (bool ended = false; st == PAR_OK && !ended;) {
        st = par_checkpoint_save_poll(saving, &ended);
        if (!ended) nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
    par_status saved = par_checkpoint_save_end(&saving, &s->result);
    return st == PAR_OK ? saved : st;
}

static par_status load(setting *s) {
    memset(s->a, 0xff, sizeof s->a);
    memset(s->b, 0xff, sizeof s->b);
    return par_checkpoint_load(s->world, s->directory, &about, s->runs, 2, &s->result);
}

static const operation operations[] = {
    {"save", save, true}, {"save in the background", save_behind, true}, {"load", load, false}};

/* ---- settings ---- */

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *where) {
    (void)info, (void)type, (void)where;
    return remove(path);
}

/* Rank 0 removes a folder; the others wait. */
static void remove_folder(const setting *s, const char *path) {
    if (s->rank == 0) nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    CHECK_OK(par_comm_barrier(s->world, tag));
}

static void begin(setting *s, par_transport *transport) {
    *s = (setting){.rank = par_transport_rank(transport), .size = par_transport_size(transport)};
    snprintf(s->directory, sizeof s->directory, "%s/par-no-memory-XXXXXX",
             access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : "/tmp");
    CHECK(s->rank != 0 || mkdtemp(s->directory), "%s cannot be made", s->directory);
    CHECK_OK(par_comm_create(transport, &(par_comm_params){.axis = "world"}, NULL, &s->world));
    CHECK_OK(par_comm_broadcast(s->world, s->directory, sizeof s->directory, PAR_U8, 0, tag, NULL,
                                NULL));
    s->runs[0] = (par_checkpoint_run){.kind = "weight",
                                      .name = "a",
                                      .dtype = PAR_F32,
                                      .n = A,
                                      .data = s->a,
                                      .ndim = 1,
                                      .global = {(int64_t)A * s->size, 1},
                                      .offset = {(int64_t)A * s->rank, 0},
                                      .extent = {A, 1},
                                      .local = {A, 1}};
    s->runs[1] =
        (par_checkpoint_run){.kind = "state", .name = "b", .dtype = PAR_I64, .n = B, .data = s->b};
    for (int64_t step = OLD; step <= NEWER; step++) {
        const par_checkpoint_params params = params_of(s, step);
        CHECK_OK(par_checkpoint_save(s->world, &params, s->runs, 2, &s->result));
    }
}

static void end(setting *s) {
    remove_folder(s, s->directory);
    par_comm_destroy(&s->world);
}

/* ---- one failure ---- */

static int sum_of(setting *s, int mine) {
    int32_t sum = mine;
    CHECK_OK(par_comm_all_reduce(s->world, &sum, &sum, 1, PAR_I32, tag, NULL, NULL));
    return sum;
}

/* No fault any more: what loads is what the save left, or what was there before. */
static void check_after(setting *s, const operation *o, int64_t n, bool good) {
    int64_t step = o->saves && good ? NEW : NEWER;
    char path[128];
    CHECK_OK(load(s));
    CHECK(s->result.step == step && holds(s, step) && s->result.notes.n == 0,
          "%s, allocation %lld: step %lld loads, not %lld; %s", o->name, (long long)n,
          (long long)s->result.step, (long long)step, s->result.notes.text);
    snprintf(path, sizeof path, "%s/step_%08d", s->directory, NEW);
    if (o->saves) remove_folder(s, path);
}

/* False: the operation came to its end before the n-th. */
static bool fails(setting *s, const operation *o, int culprit, int64_t n, tally *sum) {
    allocations_count taken;
    double begun = par__seconds();
    allocations_begin();
    allocations_fail(s->rank == culprit ? n : 0);
    par_status st = o->run(s);
    bool failed = allocations_fail(0);
    allocations_end(&taken);
    double seconds = par__seconds() - begun;
    int good = sum_of(s, st == PAR_OK);
    if (sum_of(s, failed) == 0) {
        CHECK(st == PAR_OK, "%s: %s: %s", o->name, par_status_text(st), par_error());
        check_after(s, o, n, true);
        return false;
    }
    sum->failed++;
    sum->errors += good == 0;
    if (seconds > sum->slowest) sum->slowest = seconds;
    CHECK(good == 0 || good == s->size, "%s, allocation %lld: %d of %d ranks return an error",
          o->name, (long long)n, s->size - good, s->size);
    CHECK(st == PAR_OK || st == PAR_ERR_MEMORY || st == PAR_ERR_IO, "%s, allocation %lld: %s: %s",
          o->name, (long long)n, par_status_text(st), par_error());
    CHECK(st == PAR_OK || strstr(par_error(), "memory"), "%s, allocation %lld: \"%s\"", o->name,
          (long long)n, par_error());
    CHECK(st != PAR_OK || o->saves || (s->result.step == NEWER && holds(s, NEWER)),
          "allocation %lld: step %lld is taken", (long long)n, (long long)s->result.step);
    CHECK(taken.live == 0, "%s, allocation %lld: %lld blocks are left", o->name, (long long)n,
          (long long)taken.live);
    check_after(s, o, n, st == PAR_OK);
    return true;
}

/* What the operation allocates on this rank, without a fault. */
static int64_t count(setting *s, const operation *o, unsigned owners) {
    allocations_count taken;
    int64_t n = 0;
    allocations_begin();
    par_status st = o->run(s);
    allocations_end(&taken);
    CHECK(st == PAR_OK, "%s: %s: %s", o->name, par_status_text(st), par_error());
    for (int i = 0; i < ALLOCATIONS_OWNERS; i++)
        if (owners >> i & 1) n += taken.n[i];
    check_after(s, o, 0, true);
    return n;
}

static void every_allocation(setting *s, const operation *o, int culprit, bool for_good) {
    const unsigned owners = 1u << BY_LIBPAR | 1u << BY_JANSSON;
    const char *form = getenv("PAR_ALLOCATIONS");
    tally sum = {0};
    allocations_choose(owners, for_good);
    int64_t n = count(s, o, owners);
    if (s->rank != culprit) n = 0;
    CHECK_OK(par_comm_all_reduce(s->world, &n, &n, 1, PAR_I64, tag, NULL, NULL));
    int64_t every = form && strcmp(form, "all") == 0 ? 1 : n / SHORT + 1;
    CHECK(n >= 20, "%s: only %lld allocations are seen", o->name, (long long)n);
    for (int64_t k = 1; sum_of(s, harness_failed()) == 0 && fails(s, o, culprit, k, &sum);)
        k += every;
    if (s->rank == 0)
        printf("# no-memory: %s on %d rank%s, rank %d, %s: %lld allocations, %lld failed, %lld "
               "errors, the slowest after %.2f s\n",
               o->name, s->size, s->size == 1 ? "" : "s", culprit, for_good ? "for good" : "once",
               (long long)n, (long long)sum.failed, (long long)sum.errors, sum.slowest);
}

static bool cannot(void) {
    const char *missing = par_checkpoint_missing();
    if (missing) harness_skip("%s", missing);
    if (!missing && !allocations_can_count()) harness_skip("a sanitizer has its own malloc");
    return missing || !allocations_can_count();
}

static void every_operation(par_transport *transport) {
    static setting s;
    if (cannot()) return;
    begin(&s, transport);
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
        for (int culprit = 0; culprit < s.size; culprit++)
            for (int for_good = 0; for_good < 2 && sum_of(&s, harness_failed()) == 0; for_good++)
                every_allocation(&s, &operations[i], culprit, for_good);
    end(&s);
}

/* libhdf5's, or one that tells another version. */
static bool other_version;
int H5get_libversion(unsigned *major, unsigned *minor, unsigned *release);
int H5get_libversion(unsigned *major, unsigned *minor, unsigned *release) {
    int (*original)(unsigned *, unsigned *, unsigned *);
    void *found = dlsym(RTLD_NEXT, "H5get_libversion");
    if (!found) return -1;
    memcpy(&original, &found, sizeof original);
    int st = original(major, minor, release);
    *minor += other_version;
    return st;
}

/* libhdf5's, or an answer that it was not built for threads. */
static bool not_for_threads, asked_for_threads;
int H5is_library_threadsafe(char *is);
int H5is_library_threadsafe(char *is) {
    int (*original)(char *);
    void *found = dlsym(RTLD_NEXT, "H5is_library_threadsafe");
    if (!found) return -1;
    memcpy(&original, &found, sizeof original);
    int st = original(is);
    asked_for_threads = true;
    if (not_for_threads) *is = 0; /* its low byte */
    return st;
}

static void other_threads(par_transport *transport) {
    static setting s;
    if (par_checkpoint_missing()) harness_skip("%s", par_checkpoint_missing());
    if (par_checkpoint_missing()) return;
    begin(&s, transport);
    for (int rank = 0; rank < s.size && sum_of(&s, harness_failed()) == 0; rank++) {
        not_for_threads = s.rank == rank;
        CHECK_OK(save_behind(&s));
        not_for_threads = false;
        check_after(&s, &operations[1], rank, true);
    }
    if (!asked_for_threads) harness_skip("libpar finds libhdf5's function, not this program's");
    end(&s);
}

/* Rank 1 alone; the other one returns the same. */
static void wrong_parameters(par_transport *transport) {
    static const par_checkpoint_pair latin[] = {{"name", "\xf6", PAR_CHECKPOINT_STATED}};
    static setting s;
    if (par_checkpoint_missing()) harness_skip("%s", par_checkpoint_missing());
    if (par_checkpoint_missing()) return;
    begin(&s, transport);
    const par_checkpoint_params good = params_of(&s, NEW);
    par_checkpoint_params loss = good, pairs_of_one = good, step = good;
    if (s.rank == 1) loss.loss = NAN;
    if (s.rank == 1) pairs_of_one.about = (par_checkpoint_about){.pairs = latin, .n = 1};
    if (s.rank == 1) step.step = -1;
    CHECK_FAILS(par_checkpoint_save(s.world, &loss, s.runs, 2, &s.result), PAR_ERR_NUMERIC,
                "its loss is nan");
    CHECK_FAILS(par_checkpoint_save(s.world, &pairs_of_one, s.runs, 2, &s.result), PAR_ERR_ARG,
                "is not UTF-8");
    CHECK_FAILS(par_checkpoint_save(s.world, &step, s.runs, 2, &s.result), PAR_ERR_ARG, "step");
    CHECK_FAILS(par_checkpoint_save(s.world, &good, s.runs, s.rank == 1 ? -1 : 2, &s.result),
                PAR_ERR_ARG, "n_runs");
    check_after(&s, &operations[2], 0, false);
    CHECK_OK(save(&s));
    end(&s);
}

static void another_hdf5(par_transport *transport) {
    static setting s;
    if (par_checkpoint_missing()) harness_skip("%s", par_checkpoint_missing());
    if (par_checkpoint_missing()) return;
    other_version = true;
    bool replaced = par_checkpoint_missing(); /* not where the linker keeps the function here */
    other_version = false;
    if (!replaced) harness_skip("libpar finds libhdf5's function, not this program's");
    if (!replaced) return;
    begin(&s, transport);
    other_version = s.rank == 1;
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
        if (operations[i].saves)
            CHECK_FAILS(operations[i].run(&s), PAR_ERR_UNSUPPORTED, "libhdf5 that is loaded is");
    other_version = false;
    CHECK_OK(save(&s));
    end(&s);
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {.name = "one-rank", .ranks = 1, .run_mpi = every_operation},
        {.name = "two-ranks", .ranks = 2, .run_mpi = every_operation},
        {.name = "another-hdf5", .ranks = 2, .run_mpi = another_hdf5},
        {.name = "other-threads", .ranks = 2, .run_mpi = other_threads},
        {.name = "wrong-parameters", .ranks = 2, .run_mpi = wrong_parameters},
    };
    return harness_main_mpi("no-memory", cases, HARNESS_COUNT(cases), argc, argv);
}
