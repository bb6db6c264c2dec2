/*
 * A save in which the Nth system call fails, for every N: this program's own open, pread, write,
 * fsync, rename and the others stand before libc's, for libpar and for libhdf5. Whatever happens:
 * no signal, an error with a cause, what was there before loads with its own contents, also a
 * checkpoint of the same step, and nothing unfinished has a final name. The same when the process
 * is killed before the Nth call, where the new checkpoint may be there whole. Saves in the
 * background are held to the same; the calls of their thread are counted with the others'.
 */
#undef _FILE_OFFSET_BITS /* both forms of each call are defined here, under their own names */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../harness.h"
#include "fixture.h"
#include "libpar/checkpoint/save.h"

static struct {
    bool armed, for_good, short_write, die;
    bool no_folder_sync; /* as file systems that cannot sync a folder */
    bool looks;          /* calls that ask what is there are counted, and no others */
    long until;          /* calls to come before the one that fails */
    int error;
    long seen;
    const char *call;
    int n_folder_syncs; /* refused */
} fault;

/* True if this call is the one, or one after it when it fails for good. */
static bool hit_any(const char *call) {
    if (!fault.armed) return false;
    fault.seen++;
    long at = fault.until--;
    if (at > 0 || (at < 0 && !fault.for_good)) return false;
    if (at == 0) fault.call = call;
    if (fault.die) raise(SIGKILL);
    errno = fault.error;
    return true;
}

static bool hit(const char *call) {
    return !fault.looks && hit_any(call);
}

static bool hit_look(const char *call) {
    return fault.looks && hit_any(call);
}

static void *next(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

#define INTERPOSE(type, name, parameters, arguments)                                               \
    type name parameters;                                                                          \
    type name parameters {                                                                         \
        type(*original) parameters;                                                                \
        void *found = next(#name);                                                                 \
        memcpy(&original, &found, sizeof original);                                                \
        return hit(#name) ? (type)-1 : original arguments;                                         \
    }

INTERPOSE(int, ftruncate, (int fd, off_t n), (fd, n))
INTERPOSE(int, ftruncate64, (int fd, off64_t n), (fd, n))
INTERPOSE(int, rename, (const char *from, const char *to), (from, to))
INTERPOSE(int, renameat2, (int a, const char *from, int b, const char *to, unsigned flags),
          (a, from, b, to, flags))
INTERPOSE(int, mkdir, (const char *path, mode_t mode), (path, mode))
INTERPOSE(int, statvfs, (const char *path, struct statvfs *out), (path, out))
INTERPOSE(int, statvfs64, (const char *path, struct statvfs64 *out), (path, out))

int fsync(int fd) {
    int (*original)(int);
    void *found = next("fsync");
    memcpy(&original, &found, sizeof original);
    struct stat info;
    if (fault.no_folder_sync && fstat(fd, &info) == 0 && S_ISDIR(info.st_mode)) {
        fault.n_folder_syncs++;
        errno = EINVAL;
        return -1;
    }
    return hit("fsync") ? -1 : original(fd);
}

INTERPOSE(ssize_t, write, (int fd, const void *data, size_t n), (fd, data, n))
INTERPOSE(ssize_t, pread, (int fd, void *data, size_t n, off_t at), (fd, data, n, at))
INTERPOSE(ssize_t, pread64, (int fd, void *data, size_t n, off64_t at), (fd, data, n, at))

#define INTERPOSE_WRITE(name, offset_type)                                                         \
    ssize_t name(int fd, const void *data, size_t n, offset_type at);                              \
    ssize_t name(int fd, const void *data, size_t n, offset_type at) {                             \
        ssize_t (*original)(int, const void *, size_t, offset_type);                               \
        void *found = next(#name);                                                                 \
        memcpy(&original, &found, sizeof original);                                                \
        if (!hit(#name)) return original(fd, data, n, at);                                         \
        return fault.short_write && n > 1 ? original(fd, data, n / 2, at) : -1;                    \
    }

INTERPOSE_WRITE(pwrite, off_t)
INTERPOSE_WRITE(pwrite64, off64_t)

/* These return the error. */
#define INTERPOSE_FALLOCATE(name, offset_type)                                                     \
    int name(int fd, offset_type at, offset_type n);                                               \
    int name(int fd, offset_type at, offset_type n) {                                              \
        int (*original)(int, offset_type, offset_type);                                            \
        void *found = next(#name);                                                                 \
        memcpy(&original, &found, sizeof original);                                                \
        return hit(#name) ? fault.error : original(fd, at, n);                                     \
    }

INTERPOSE_FALLOCATE(posix_fallocate, off_t)
INTERPOSE_FALLOCATE(posix_fallocate64, off64_t)

#define INTERPOSE_OPEN(name)                                                                       \
    int name(const char *path, int flags, ...);                                                    \
    int name(const char *path, int flags, ...) {                                                   \
        int (*original)(const char *, int, ...);                                                   \
        void *found = next(#name);                                                                 \
        memcpy(&original, &found, sizeof original);                                                \
        va_list list;                                                                              \
        va_start(list, flags);                                                                     \
        unsigned mode = flags & O_CREAT ? va_arg(list, unsigned) : 0;                              \
        va_end(list);                                                                              \
        return hit(#name) ? -1 : original(path, flags, mode);                                      \
    }

INTERPOSE_OPEN(open)
INTERPOSE_OPEN(open64)

#define INTERPOSE_LOOK(type, name, parameters, arguments, failed)                                  \
    type name parameters;                                                                          \
    type name parameters {                                                                         \
        type(*original) parameters;                                                                \
        void *found = next(#name);                                                                 \
        memcpy(&original, &found, sizeof original);                                                \
        return hit_look(#name) ? failed : original arguments;                                      \
    }

INTERPOSE_LOOK(int, stat, (const char *path, struct stat *out), (path, out), -1)
INTERPOSE_LOOK(int, stat64, (const char *path, struct stat64 *out), (path, out), -1)
INTERPOSE_LOOK(int, lstat, (const char *path, struct stat *out), (path, out), -1)
INTERPOSE_LOOK(int, lstat64, (const char *path, struct stat64 *out), (path, out), -1)
INTERPOSE_LOOK(int, access, (const char *path, int how), (path, how), -1)
INTERPOSE_LOOK(DIR *, opendir, (const char *path), (path), NULL)
INTERPOSE_LOOK(struct dirent *, readdir, (DIR * d), (d), NULL)
INTERPOSE_LOOK(struct dirent64 *, readdir64, (DIR * d), (d), NULL)

static fixture f;

static void arm(long until, int error, bool for_good) {
    fault.until = until;
    fault.error = error;
    fault.for_good = for_good;
    fault.seen = 0;
    fault.call = "none";
    fault.armed = true;
}

static bool behind; /* the save under test goes on in the background */

enum { OLD = 1, NEW = 2 }; /* versions: the save before, and the one under test */

/* What a case saves before the save of step 2 under test: step 1, and with `again` step 2 too. */
static void save_old(bool again) {
    fixture_open(&f);
    f.version = OLD;
    CHECK_OK(fixture_save(&f, 1, 0));
    if (again) CHECK_OK(fixture_save(&f, 2, 0));
    f.version = NEW;
    f.behind = behind;
}

/* What loads is the new step 2 if it was saved, else what was there before; but where everything
 * fails for good, names cannot be given back, and the error says so. */
static void check_after(bool again, long n, par_status saved) {
    char why[1024];
    snprintf(why, sizeof why, "%.1000s", par_error());
    CHECK(saved == PAR_OK || (saved == PAR_ERR_IO || saved == PAR_ERR_FORMAT),
          "call %ld, %s: %s: %s", n, fault.call, par_status_text(saved), why);
    CHECK(saved == PAR_OK || fault.looks || strstr(why, f.directory),
          "call %ld, %s: no path in \"%s\"", n, fault.call, why);
    CHECK(saved == PAR_OK || !fault.for_good || strstr(why, strerror(fault.error)) ||
              strstr(why, "is the disk full?"),
          "call %ld, %s: no cause in \"%s\"", n, fault.call, why);
    bool stays = fault.for_good && strstr(why, "could not be withdrawn");
    par_status st = fixture_load(&f);
    CHECK(st == PAR_OK, "call %ld, %s: nothing loads: %s", n, fault.call, par_error());
    int64_t step = saved == PAR_OK || again || stays ? 2 : 1;
    CHECK(f.result.step == step, "call %ld, %s: step %lld loads", n, fault.call,
          (long long)f.result.step);
    CHECK(fixture_holds(&f, step, saved == PAR_OK || stays ? NEW : OLD),
          "call %ld, %s: %s, and other numbers come back", n, fault.call, par_status_text(saved));
    CHECK(f.result.notes.n == 0, "call %ld, %s: something unfinished has a final name: %s", n,
          fault.call, f.result.notes.text);
}

/* One save with the Nth call failing; false when there were fewer calls than that. */
static bool save_failing(long n, int error, bool for_good, bool again) {
    save_old(again);
    arm(n, error, for_good);
    par_status saved = fixture_save(&f, 2, 1);
    fault.armed = false;
    bool reached = fault.seen > n;
    check_after(again, n, saved);
    fixture_close(&f);
    return reached;
}

static void every_call(int error, bool for_good, bool again) {
    if (fixture_cannot()) return;
    long n = 0;
    while (!harness_failed() && save_failing(n, error, for_good, again)) n++;
    CHECK(n >= 20, "only %ld calls were seen: the program's own do not stand before libc's", n);
}

static void enospc(void) {
    every_call(ENOSPC, false, false);
}
static void enospc_for_good(void) {
    every_call(ENOSPC, true, false);
}
static void eio(void) {
    every_call(EIO, false, true);
}
static void edquot_for_good(void) {
    every_call(EDQUOT, true, true);
}
static void short_writes(void) {
    fault.short_write = true;
    every_call(EIO, false, false);
    fault.short_write = false;
}

/* EINTR, once, in a write is not a failure of the save. */
static void eintr(void) {
    if (fixture_cannot()) return;
    bool reached = true;
    for (long n = 0; reached && !harness_failed(); n++)
        reached = save_failing(n, EINTR, false, false);
}

/* The same with saves in the background. */
static void enospc_behind(void) {
    behind = true;
    every_call(ENOSPC, false, false);
    behind = false;
}
static void edquot_for_good_behind(void) {
    behind = true;
    every_call(EDQUOT, true, true);
    behind = false;
}

/*
 * A look that fails says nothing of what is there: it is an error, and never "there is none". Each
 * case: before, what is done with the Nth look failing, and what must hold after it.
 */
static par_owner *looking;

static void before_load(void) {
    save_old(true);
}
static par_status load_looking(void) {
    return fixture_load(&f);
}
static void after_load(long n, par_status st) {
    if (st == PAR_OK) /* a hint or a note of a link may have been what was not found */
        CHECK(f.result.step == 2 && f.result.notes.n == 0, "look %ld, %s: step %lld loads: %s", n,
              fault.call, (long long)f.result.step, f.result.notes.text);
    else
        CHECK(st == PAR_ERR_IO, "look %ld, %s: %s: %s", n, fault.call, par_status_text(st),
              par_error());
}

static void before_save(void) {
    save_old(true);
}
static par_status save_looking(void) {
    return fixture_save(&f, 2, 1);
}
static void after_save(long n, par_status st) {
    fault.armed = false;
    check_after(true, n, st);
}

/* Another process of this machine is the owner. */
static pid_t other;
static void before_claim(void) {
    fixture_open(&f);
    other = fixture_start_owner(&f);
    CHECK(other > 0, "the child could not claim");
}
static par_status claim_looking(void) {
    return fixture_claim(&f, NULL, 0, &looking);
}
static void after_claim(long n, par_status st) {
    fault.armed = false;
    CHECK(st == PAR_ERR_IO, "look %ld, %s: a living owner is succeeded", n, fault.call);
    CHECK(fixture_count(&f, "owner.") == 1, "look %ld, %s: %d owner's files", n, fault.call,
          fixture_count(&f, "owner."));
    par_owner_release(&looking);
    fixture_end(other);
}

/* The owner goes on from step 1: step 2 is set aside, or the run does not begin. */
static void before_resume(void) {
    save_old(true);
    CHECK_OK(fixture_claim(&f, f.directory, 0, &looking));
}
static par_status resume_looking(void) {
    bool own;
    par_problems notes = {0};
    return par_owner_resumed(f.world, looking, fixture_path(&f, 1, ""), "", true, &own, &notes);
}
static void after_resume(long n, par_status st) {
    fault.armed = false;
    CHECK(st == PAR_ERR_IO || (st == PAR_OK && !fixture_has(&f, 2)),
          "look %ld, %s: %s, and step 2 is %s", n, fault.call, par_status_text(st),
          fixture_has(&f, 2) ? "there" : "set aside");
    par_owner_release(&looking);
}

/* The owner's own file, and a save of its own. */
static void before_keep(void) {
    fixture_open(&f);
    CHECK_OK(fixture_claim(&f, NULL, 0, &looking));
}
static par_status keep_looking(void) {
    return fixture_keep(&f, looking, 1, 0, 0, 0, 0);
}
static void after_keep(long n, par_status st) {
    fault.armed = false;
    CHECK(st == PAR_OK || !strstr(par_error(), "another run is its owner"),
          "look %ld, %s: it takes itself for another: %s", n, fault.call, par_error());
    CHECK(fixture_count(&f, "owner.") == 1, "look %ld, %s: its file is gone", n, fault.call);
    par_owner_release(&looking);
}

static void every_look(void) {
    static const struct {
        void (*before)(void);
        par_status (*call)(void);
        void (*after)(long n, par_status st);
    } rows[] = {{before_load, load_looking, after_load},
                {before_save, save_looking, after_save},
                {before_claim, claim_looking, after_claim},
                {before_resume, resume_looking, after_resume},
                {before_keep, keep_looking, after_keep}};
    if (fixture_cannot()) return;
    fault.looks = true;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool reached = true;
        long n = 0;
        for (; reached && !harness_failed(); n++) {
            rows[i].before();
            arm(n, ESTALE, false);
            par_status st = rows[i].call();
            fault.armed = false;
            reached = fault.seen > n;
            rows[i].after(n, st);
            fixture_close(&f);
        }
        CHECK(n >= 4, "row %zu: only %ld looks were seen", i, n);
    }
    fault.looks = false;
}

/* False when the save ended before it came to call n. */
static bool save_killed(long n, bool again) {
    int how = 0;
    save_old(again);
    pid_t child = fork();
    if (child == 0) {
        fault.die = true;
        arm(n, EIO, false);
        _exit(fixture_save(&f, 2, 1) == PAR_OK ? 0 : 1);
    }
    CHECK(child > 0 && waitpid(child, &how, 0) == child, "no child");
    bool killed = WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL;
    CHECK(killed || (WIFEXITED(how) && WEXITSTATUS(how) == 0), "call %ld: the child ended with %d",
          n, how);
    CHECK_OK(fixture_load(&f));
    CHECK(f.result.step == 2 || (killed && f.result.step == 1), "call %ld: step %lld loads", n,
          (long long)f.result.step);
    bool old = killed && fixture_holds(&f, again ? 2 : 1, OLD);
    CHECK(old || fixture_holds(&f, 2, NEW), "call %ld: neither the old nor the new loads", n);
    CHECK(f.result.notes.n == 0, "call %ld: not whole: %s", n, f.result.notes.text);
    /* the next save cleans up */
    CHECK_OK(fixture_save(&f, 3, 1));
    CHECK(fixture_count(&f, "") == 2, "call %ld: %d entries stay", n, fixture_count(&f, ""));
    fixture_close(&f);
    return killed;
}

static void killed_at_every_call(void) {
    if (fixture_cannot()) return;
    for (int again = behind; again < 2; again++) {
        long n = 0;
        while (!harness_failed() && save_killed(n, again)) n++;
        CHECK(n >= 20, "only %ld calls were seen", n);
    }
}

static void killed_at_every_call_behind(void) {
    behind = true;
    killed_at_every_call();
    behind = false;
}

enum { SAVES = 6 };

/* Steps from 2 on are saved, the odd ones in the background, until the process is killed. */
static void save_until_killed(void) {
    f.version = NEW;
    for (int64_t step = 2; step < 2 + SAVES; step++) {
        f.behind = step % 2;
        if (fixture_save(&f, step, 1) != PAR_OK) _exit(1);
    }
    _exit(0);
}

/* True if a save was under way. What loads is whole, and of the newest step that has its name. */
static bool killed_after(int64_t ns) {
    int how = 0;
    fixture_open(&f);
    f.version = NEW;
    CHECK_OK(fixture_save(&f, 1, 1));
    pid_t child = fork();
    if (child == 0) save_until_killed();
    const struct timespec pause = {.tv_nsec = ns};
    nanosleep(&pause, NULL);
    kill(child, SIGKILL);
    CHECK(child > 0 && waitpid(child, &how, 0) == child, "no child");
    CHECK(WIFSIGNALED(how) || WEXITSTATUS(how) == 0, "a save failed: %d", how);
    CHECK_OK(fixture_load(&f));
    CHECK(f.result.step >= 1 && f.result.notes.n == 0, "step %lld loads: %s",
          (long long)f.result.step, f.result.notes.text);
    CHECK(fixture_holds(&f, f.result.step, NEW), "step %lld: other numbers come back",
          (long long)f.result.step);
    bool under_way = fixture_count(&f, ".tmp-") > 0;
    CHECK_OK(fixture_save(&f, 90, 1));
    CHECK(fixture_count(&f, "") == 2, "%d entries stay", fixture_count(&f, ""));
    fixture_close(&f);
    return under_way;
}

/* What all saves take without a kill: kills come within it. */
static int64_t saves_take_ns(void) {
    struct timespec begin, end;
    int how = 0;
    fixture_open(&f);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    pid_t child = fork();
    if (child == 0) save_until_killed();
    CHECK(child > 0 && waitpid(child, &how, 0) == child && how == 0, "no saves: %d", how);
    clock_gettime(CLOCK_MONOTONIC, &end);
    fixture_close(&f);
    return (end.tv_sec - begin.tv_sec) * 1000000000 + end.tv_nsec - begin.tv_nsec;
}

/* 50 times, or PAR_KILLS (the long form is 1000); PAR_SEED repeats them. */
static void killed_at_random(void) {
    if (fixture_cannot()) return;
    const char *count = getenv("PAR_KILLS"), *seed = getenv("PAR_SEED");
    uint64_t from = seed ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
    int n = count ? atoi(count) : 50, under_way = 0;
    uint64_t most_ns = (uint64_t)saves_take_ns() + 1;
    printf("# killed-at-random: PAR_SEED=%llu, within %.1f ms\n", (unsigned long long)from,
           1e-6 * (double)most_ns);
    for (int i = 0; i < n && !harness_failed(); i++)
        under_way += killed_after((int64_t)(par_random_u64(from, (uint64_t)i, 0) % most_ns));
    printf("# killed-at-random: %d kills, %d in a save\n", n, under_way);
    CHECK(n < 50 || under_way > 0, "none of %d kills came in a save", n);
}

/* What fails in the thread is the error of the synchronous save, with its words; a state that is
 * not finite leaves nothing. */
static void not_finite_behind(void) {
    if (fixture_cannot()) return;
    fixture_open(&f);
    CHECK_OK(fixture_save(&f, 1, 1));
    par_checkpoint_saving *saving = NULL;
    const par_checkpoint_params params = {.directory = f.directory, .step = 2, .loss = 1};
    char why[1024];
    f.a[7] = NAN;
    CHECK_FAILS(par_checkpoint_save(f.world, &params, f.runs, FIXTURE_RUNS, &f.result),
                PAR_ERR_NUMERIC, "weight/a: element 7");
    snprintf(why, sizeof why, "%.1000s", par_error());
    CHECK_OK(par_checkpoint_save_begin(f.world, &params, f.runs, FIXTURE_RUNS, &saving));
    par_status st = par_checkpoint_save_end(&saving, &f.result);
    CHECK(st == PAR_ERR_NUMERIC && strcmp(why, par_error()) == 0 && !saving, "%s, not %s",
          par_error(), why);
    CHECK(fixture_count(&f, "step_") == 1 && fixture_has(&f, 1), "something is left");
    f.a[7] = 0;
    const par_checkpoint_staging staging = {0};
    f.runs[0].staging = &staging;
    CHECK_FAILS(par_checkpoint_save_begin(f.world, &params, f.runs, FIXTURE_RUNS, &saving),
                PAR_ERR_ARG, "weight/a: is not host memory");
    fixture_close(&f);
}

/* The transport breaks while the thread is at a job: what loads afterwards is the old checkpoint,
 * or the new one from when it has been read back, since then the old one goes. */
static void broken_in_stage(int stage, int saved, int last) {
    par_checkpoint_saving *saving = NULL;
    bool ended, renamed = stage >= saved && stage < last; /* the old one, and not removed */
    fixture_open(&f);
    CHECK_OK(fixture_save(&f, 1, 1));
    const par_checkpoint_params params = {
        .directory = f.directory, .keep = 1, .step = 2, .loss = 1};
    fixture_fill(&f, 2);
    CHECK_OK(par_checkpoint_save_begin(f.world, &params, f.runs, FIXTURE_RUNS, &saving));
    while (saving->stage < stage) CHECK_OK(par_checkpoint_save_poll(saving, &ended));
    while (!atomic_load(&saving->ended)) nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    par_transport_abort(f.transport, PAR_ERR_INTERNAL, "a test");
    CHECK_FAILS(par_checkpoint_save_end(&saving, &f.result), PAR_ERR_TRANSPORT,
                stage >= saved ? "of step 2 is saved" : "was not saved; older ones are");
    fixture_reconnect(&f);
    CHECK_OK(fixture_load_any(&f));
    CHECK(fixture_holds(&f, stage >= saved ? 2 : 1, 0) && f.result.notes.n == 0,
          "stage %d: step %lld loads, %s", stage, (long long)f.result.step, f.result.notes.text);
    CHECK(fixture_count(&f, "step_") == 1 + renamed, "stage %d: %d checkpoints", stage,
          fixture_count(&f, "step_"));
    CHECK_OK(fixture_save(&f, 3, 1));
    CHECK(fixture_count(&f, ".tmp-") == 0, "stage %d: what it left stays", stage);
    fixture_close(&f);
}

static void broken_behind(void) {
    if (fixture_cannot()) return;
    for (int stage = 0; stage <= 5 && !harness_failed(); stage++) broken_in_stage(stage, 3, 5);
}

/* A limit on the size of files, as a quota: writes beyond it fail with EFBIG. */
static void file_size_limit(void) {
    if (fixture_cannot()) return;
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    for (rlim_t limit = 0; limit <= 4096 && !harness_failed(); limit += 256) {
        save_old(false);
        fault.for_good = false;
        small = (struct rlimit){limit, old.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small);
        par_status saved = fixture_save(&f, 2, 1);
        setrlimit(RLIMIT_FSIZE, &old);
        CHECK(limit > 1024 || saved == PAR_ERR_IO, "%ld bytes: %s", (long)limit,
              par_status_text(saved));
        check_after(false, (long)limit, saved);
        fixture_close(&f);
    }
    signal(SIGXFSZ, handler);
}

/* The data is on the disk and has its name: a folder that cannot be synced is not an error. */
static void no_folder_sync(void) {
    if (fixture_cannot()) return;
    fixture_open(&f);
    fault.no_folder_sync = true;
    fault.n_folder_syncs = 0;
    CHECK_OK(fixture_save(&f, 1, 0));
    fault.no_folder_sync = false;
    CHECK(fault.n_folder_syncs >= 3, "only %d folders were to be synced", fault.n_folder_syncs);
    CHECK_OK(fixture_load(&f));
    CHECK(fixture_holds(&f, 1, 0) && f.result.notes.n == 0, "notes: %s", f.result.notes.text);
    fixture_close(&f);
}

/* `latest` is a hint: a save that cannot write it is a save, with a note. */
static void no_latest(void) {
    if (fixture_cannot()) return;
    char path[600];
    fixture_open(&f);
    snprintf(path, sizeof path, "%s/latest", f.directory);
    CHECK(mkdir(path, 0777) == 0, "cannot make %s", path);
    CHECK_OK(fixture_save(&f, 1, 0));
    CHECK(strstr(f.result.notes.text, "latest: is a directory"), "notes: %s", f.result.notes.text);
    fixture_close(&f);
}

enum { LARGE = 1 << 18 };

static par_status save_large(const char *directory, float *data, int64_t step) {
    const par_checkpoint_run run = {
        .kind = "weight", .name = "large", .dtype = PAR_F32, .n = LARGE, .data = data};
    const par_checkpoint_params params = {
        .directory = directory, .keep = 1, .step = step, .loss = 1};
    return par_checkpoint_save(f.world, &params, &run, 1, &f.result);
}

/* 1.6 MiB hold one checkpoint of 1 MiB and not a second beside it. */
static void small_disk(void) {
    if (fixture_cannot()) return;
    fixture_open(&f);
    if (mount("tmpfs", f.directory, "tmpfs", 0, "size=1600k") != 0) {
        harness_skip("no tmpfs can be mounted here: %s", strerror(errno));
        fixture_close(&f);
        return;
    }
    float *data = calloc(LARGE, sizeof *data);
    CHECK_OK(save_large(f.directory, data, 1));
    CHECK_FAILS(save_large(f.directory, data, 2), PAR_ERR_IO, "are free; nothing was written");
    CHECK(fixture_count(&f, "step_") == 1 && fixture_has(&f, 1), "the old checkpoint is gone");
    free(data);
    umount(f.directory);
    fixture_close(&f);
}

static const harness_case cases[] = {
    {"enospc-once", enospc, 0, NULL, 0},
    {"enospc-for-good", enospc_for_good, 0, NULL, 0},
    {"eio-replacing", eio, 0, NULL, 0},
    {"edquot-for-good-replacing", edquot_for_good, 0, NULL, 0},
    {"short-writes", short_writes, 0, NULL, 0},
    {"eintr", eintr, 0, NULL, 0},
    {"every-look", every_look, 0, NULL, 0},
    {"killed-at-every-call", killed_at_every_call, 0, NULL, 0},
    {"enospc-once-behind", enospc_behind, 0, NULL, 0},
    {"edquot-for-good-behind", edquot_for_good_behind, 0, NULL, 0},
    {"killed-at-every-call-behind", killed_at_every_call_behind, 0, NULL, 0},
    {"killed-at-random", killed_at_random, 0, NULL, 0},
    {"not-finite-behind", not_finite_behind, 0, NULL, 0},
    {"broken-behind", broken_behind, 0, NULL, 0},
    {"file-size-limit", file_size_limit, 0, NULL, 0},
    {"no-folder-sync", no_folder_sync, 0, NULL, 0},
    {"no-latest", no_latest, 0, NULL, 0},
    {"small-disk", small_disk, 0, NULL, 0},
};

int main(int argc, char **argv) {
    return harness_main("checkpoint-faults", cases, HARNESS_COUNT(cases), argc, argv);
}
