/*
 * Whose a directory is: a second run is refused, a dead one's directory is taken over, what another
 * run made is never touched, whatever the order in which two jobs come to it. PAR_INTERLEAVINGS: so
 * many orders of two jobs, 20 by default; the long form is 1000.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../harness.h"
#include "fixture.h"
#include "libpar/checkpoint/owner.h"

static fixture f;
static void (*at_fsync)(void); /* once */

static void sleep_us(long us) {
    nanosleep(&(struct timespec){us / 1000000, us % 1000000 * 1000}, NULL);
}

static void second_run(void) {
    char pid[64];
    par_owner *owner = NULL;
    if (fixture_cannot()) return;
    fixture_open(&f);
    pid_t child = fixture_start_owner(&f);
    CHECK(child > 0, "the child could not claim");
    if (child <= 0) return;
    snprintf(pid, sizeof pid, "another run is its owner (process %d on host ", (int)child);
    CHECK_FAILS(fixture_claim(&f, NULL, 0, &owner), PAR_ERR_IO, pid);
    CHECK_FAILS(fixture_save(&f, 1, 0), PAR_ERR_IO, "another run is its owner");
    CHECK(owner == NULL && fixture_count(&f, "step_") == 0, "something was saved");
    kill(child, SIGSTOP);
    CHECK_FAILS(fixture_claim(&f, NULL, 0, &owner), PAR_ERR_IO, pid);
    fixture_end(child);
    CHECK_OK(fixture_claim(&f, NULL, 0, &owner)); /* at once */
    CHECK_OK(fixture_keep(&f, owner, 1, 0, 0, 0, 0));
    par_owner_release(&owner);
    CHECK(fixture_count(&f, "owner.") == 0, "an owner's file is left");
    fixture_close(&f);
}

static void write_claim(int number, const char *boot, unsigned long long beat, const char *token) {
    char name[64];
    par__claimant c;
    bool made;
    par__claimant_self(&c);
    c.beat_s = 0.005, c.beat = beat, c.pid = getppid(), c.started = 1;
    if (boot) snprintf(c.boot, sizeof c.boot, "%s", boot);
    snprintf(c.token, sizeof c.token, "%s", token);
    snprintf(name, sizeof name, "owner.%08d", number);
    if (beat)
        CHECK_OK(par__claim_renew(fixture_in(&f, name), &c));
    else
        CHECK_OK(par__claim_create(fixture_in(&f, name), &c, &made));
}

static int n_said;

static void said(void *user, const char *line) {
    (void)user;
    n_said += strstr(line, "waiting up to") != NULL;
}

/* An owner of which only the file can be seen. Its time, long ago or to come, means nothing. */
static void other_host(void) {
    static const time_t times[] = {1, 4000000000};
    if (fixture_cannot()) return;
    for (int i = 0; i < 2; i++) {
        par_owner *owner = NULL;
        fixture_open(&f);
        write_claim(4, "another-boot", 0, "x");
        const struct timespec t[2] = {{times[i], 0}, {times[i], 0}};
        utimensat(AT_FDCWD, fixture_in(&f, "owner.00000004"), t, 0);
        pid_t child = fork();
        if (child == 0) {
            for (unsigned long long beat = 1;; beat++) {
                write_claim(4, "another-boot", beat, "x");
                utimensat(AT_FDCWD, fixture_in(&f, "owner.00000004"), t, 0);
                sleep_us(5000);
            }
        }
        n_said = 0;
        const par_owner_params params = {.directory = f.directory, .beat_s = 0.05, .print = said};
        CHECK_FAILS(par_owner_claim(f.world, &params, &owner), PAR_ERR_IO, "is its owner");
        fixture_end(child);
        CHECK_OK(par_owner_claim(f.world, &params, &owner));
        CHECK(n_said >= 2, "it waits and says so %d times", n_said);
        CHECK(access(fixture_in(&f, "owner.00000005"), F_OK) == 0 &&
                  fixture_count(&f, "owner.") == 1,
              "the dead owner's file stays, or the number is not the next");
        par_owner_release(&owner);
        fixture_close(&f);
    }
}

/* One that was killed between making its file and writing it. */
static void half_written(void) {
    par_owner *owner = NULL;
    if (fixture_cannot()) return;
    fixture_open(&f);
    fixture_write(fixture_in(&f, "owner.00000001"), "libpar ow", 9);
    CHECK_OK(fixture_claim(&f, NULL, 0.01, &owner));
    CHECK(fixture_count(&f, "owner.") == 1, "the file of the dead one stays");
    par_owner_release(&owner);
    fixture_close(&f);
}

static void old_directory(void) {
    par_owner *owner = NULL;
    if (fixture_cannot()) return;
    fixture_open(&f);
    CHECK_OK(fixture_save(&f, 40, 0));
    CHECK_FAILS(fixture_claim(&f, NULL, 0, &owner), PAR_ERR_OPTION,
                "holds 1 checkpoint of another run, up to "
                "step_00000040; nothing was changed");
    CHECK_FAILS(fixture_claim(&f, "/tmp", 0, &owner), PAR_ERR_OPTION,
                "legal: to resume from there");
    CHECK(fixture_count(&f, "owner.") == 0, "a refused run leaves an owner's file");
    CHECK_OK(fixture_claim(&f, f.directory, 0, &owner));
    par_owner_release(&owner);
    CHECK_OK(fixture_claim(&f, fixture_path(&f, 40, ""), 0, &owner));
    par_owner_release(&owner);
    /* of these it is not known which checkpoints are later: links and copies beside the steps */
    static const char *const names[] = {"best", "step_00000041", "good", "aside.00000001"};
    for (int i = 0; i < 4; i++) {
        const char *path = fixture_in(&f, names[i]);
        CHECK((i < 2 ? symlink("step_00000040", path) : mkdir(path, 0777)) == 0, "%s", path);
        CHECK_FAILS(fixture_claim(&f, path, 0, &owner), PAR_ERR_OPTION,
                    "from a step by its own name");
    }
    CHECK(fixture_count(&f, "owner.") == 0, "a refused run leaves an owner's file");
    fixture_close(&f);
}

/* An owner that was stopped until another took over saves nothing, and takes nothing away. */
static void lost_claim(void) {
    par_owner *owner = NULL;
    if (fixture_cannot()) return;
    fixture_open(&f);
    CHECK_OK(fixture_claim(&f, NULL, 0, &owner));
    CHECK_OK(fixture_keep(&f, owner, 1, 0, 0, 0, 0));
    CHECK(unlink(fixture_in(&f, "owner.00000001")) == 0, "no owner's file");
    CHECK_OK(fixture_keep(&f, owner, 2, 0, 0, 0, 0));
    CHECK(access(fixture_in(&f, "owner.00000001"), F_OK) == 0, "a removed file is not made again");
    write_claim(2, "another-boot", 0, "y");
    CHECK_FAILS(fixture_keep(&f, owner, 3, 1, 0, 0, 0), PAR_ERR_IO, "another run is its owner");
    FIXTURE_CHECK_STEPS(&f, "1 2");
    par_owner_release(&owner);
    CHECK(access(fixture_in(&f, "owner.00000002"), F_OK) == 0, "the other's file is gone");
    fixture_close(&f);
}

/* The same where that other has ended, and has left no file: not renewed for so long, a claim is
 * not made again. */
static void lost_claim_for_good(void) {
    enum { BEAT_US = 100000 };
    int pipes[2], how = -1;
    char byte = 0;
    if (fixture_cannot()) return;
    fixture_open(&f);
    CHECK(pipe(pipes) == 0, "no pipe");
    pid_t child = fork();
    if (child == 0) {
        par_owner *owner = NULL;
        byte = fixture_claim(&f, NULL, 1e-6 * BEAT_US, &owner) == PAR_OK;
        if (write(pipes[1], &byte, 1) != 1) _exit(2);
        while (access(fixture_in(&f, "go"), F_OK) != 0) sleep_us(1000);
        if (fixture_keep(&f, owner, 1, 0, 0, 0, 0) == PAR_OK) _exit(1);
        bool told = strstr(par_error(), "another one may have been its owner meanwhile");
        par_owner_release(&owner);
        _exit(told ? 0 : 3);
    }
    close(pipes[1]);
    CHECK(read(pipes[0], &byte, 1) == 1 && byte == 1, "the child could not claim");
    close(pipes[0]);
    kill(child, SIGSTOP);
    /* not while it writes the file anew, which would be there again */
    while (sleep_us(1000), access(fixture_in(&f, "owner.00000001.par-tmp"), F_OK) == 0) {
        kill(child, SIGCONT);
        sleep_us(1000);
        kill(child, SIGSTOP);
    }
    sleep_us(PAR__BEATS * BEAT_US + 100000);
    CHECK(unlink(fixture_in(&f, "owner.00000001")) == 0, "no owner's file");
    fixture_write(fixture_in(&f, "go"), "", 0);
    kill(child, SIGCONT);
    CHECK(waitpid(child, &how, 0) == child && how == 0, "the child ended with %d", how);
    CHECK(fixture_count(&f, "step_") == 0 && fixture_count(&f, "owner.") == 0,
          "it saved, or claimed the directory again");
    fixture_close(&f);
}

/* Of a claim that cannot be read nobody knows whether its owner lives. */
static void unreadable(void) {
    par_owner *owner = NULL;
    if (fixture_cannot()) return;
    fixture_open(&f);
    CHECK(mkdir(fixture_in(&f, "owner.00000001"), 0777) == 0, "no directory");
    CHECK_FAILS(fixture_claim(&f, NULL, 0.001, &owner), PAR_ERR_IO,
                "nobody knows whether that run lives");
    CHECK(access(fixture_in(&f, "owner.00000001"), F_OK) == 0, "it was removed");
    CHECK(rmdir(fixture_in(&f, "owner.00000001")) == 0, "no directory");
    CHECK_OK(fixture_claim(&f, NULL, 0, &owner));
    par_owner_release(&owner);
    fixture_close(&f);
}

/* After a dead claim was judged, and before its successor's file counts: somebody has taken it
 * over, has ended, and another run has begun, which finds no claim and takes the first number. */
static void begin_meanwhile(void) {
    par__claimant c;
    bool made;
    par__claimant_self(&c);
    c.beat_s = 10;
    snprintf(c.token, sizeof c.token, "z");
    CHECK(unlink(fixture_in(&f, "owner.00000003")) == 0, "no dead claim");
    CHECK_OK(par__claim_create(fixture_in(&f, "owner.00000001"), &c, &made));
    CHECK(made, "the first number is taken");
}

static void taken_meanwhile(void) {
    par_owner *owner = NULL;
    if (fixture_cannot()) return;
    fixture_open(&f);
    write_claim(3, NULL, 0, "x"); /* a process that is none any more */
    at_fsync = begin_meanwhile;
    CHECK_FAILS(fixture_claim(&f, NULL, 0, &owner), PAR_ERR_IO, "another run is its owner");
    CHECK(access(fixture_in(&f, "owner.00000001"), F_OK) == 0 && fixture_count(&f, "owner.") == 1,
          "the living owner's file is gone, or another one is there");
    fixture_close(&f);
}

/* It may be stopped after the new checkpoint has its name, too: then old ones stay. */
static void lost_claim_behind(void) {
    par_owner *owner = NULL;
    par_checkpoint_saving *saving = NULL;
    bool ended = false;
    if (fixture_cannot()) return;
    fixture_open(&f);
    CHECK_OK(fixture_claim(&f, NULL, 0, &owner));
    CHECK_OK(fixture_keep(&f, owner, 1, 0, 0, 0, 0));
    const par_checkpoint_params params = {
        .directory = f.directory, .owner = owner, .keep = 1, .step = 2, .loss = 2.5};
    CHECK_OK(par_checkpoint_save_begin(f.world, &params, f.runs, FIXTURE_RUNS, &saving));
    while (!fixture_has(&f, 2)) CHECK_OK(par_checkpoint_save_poll(saving, &ended));
    write_claim(2, "another-boot", 0, "y");
    CHECK_OK(par_checkpoint_save_end(&saving, &f.result));
    CHECK(strstr(f.result.notes.text, "another run is its owner"), "notes: %s",
          f.result.notes.text);
    FIXTURE_CHECK_STEPS(&f, "1 2");
    par_owner_release(&owner);
    fixture_close(&f);
}

/* ---- two jobs ---- */

static unsigned random_state;
static bool slow; /* calls take random times, so that two jobs meet anywhere */

static unsigned draw(unsigned n) {
    random_state = random_state * 1664525 + 1013904223;
    return (random_state >> 8) % n;
}

static void *next(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

static void delay(void) {
    if (slow && draw(3) == 0) sleep_us(draw(1500));
}

/* A file system that gives no name that is taken, or no name at all. */
static volatile bool no_replacing, no_renaming;

static bool refused(const char *to) {
    errno = no_renaming ? EIO : EEXIST;
    return no_renaming || (no_replacing && faccessat(AT_FDCWD, to, F_OK, 0) == 0);
}

static bool at_once(void) {
    void (*call)(void) = at_fsync;
    at_fsync = NULL;
    if (call) call();
    return false;
}

#define SLOW(name, parameters, arguments, refuses)                                                 \
    int name parameters {                                                                          \
        int(*original) parameters;                                                                 \
        void *found = next(#name);                                                                 \
        memcpy(&original, &found, sizeof original);                                                \
        delay();                                                                                   \
        int result = refuses ? -1 : original arguments;                                            \
        int error = errno;                                                                         \
        delay();                                                                                   \
        errno = error;                                                                             \
        return result;                                                                             \
    }

SLOW(rename, (const char *from, const char *to), (from, to), refused(to))
SLOW(unlink, (const char *path), (path), false)
SLOW(mkdir, (const char *path, mode_t mode), (path, mode), false)
SLOW(fsync, (int fd), (fd), at_once())
SLOW(closedir, (DIR * d), (d), false)

static unsigned long long beat_of(const char *name) {
    char text[PAR__CLAIM_TEXT];
    par__claimant c;
    bool there;
    CHECK_OK(par__claim_read(fixture_in(&f, name), &there, text, &c));
    return c.beat;
}

static bool comes_past(unsigned long long beat) {
    for (int i = 0; i < 3000 && beat_of("owner.00000001") <= beat; i++) sleep_us(2000);
    return beat_of("owner.00000001") > beat;
}

/* Where no name that is taken is given again, the claim is renewed and `latest` replaced all the
 * same. */
static void no_replace(void) {
    par_owner *owner = NULL;
    char latest[64] = "";
    if (fixture_cannot()) return;
    fixture_open(&f);
    no_replacing = true;
    n_said = 0;
    const par_owner_params params = {.directory = f.directory, .beat_s = 0.01, .print = said};
    CHECK_OK(par_owner_claim(f.world, &params, &owner));
    CHECK(comes_past(3), "the file stays as it was");
    for (int64_t step = 1; step <= 3; step++) {
        CHECK_OK(fixture_keep(&f, owner, step, 2, 0, 0, 0));
        CHECK(f.result.notes.n == 0, "notes: %s", f.result.notes.text);
    }
    FILE *file = fopen(fixture_in(&f, "latest"), "r");
    CHECK(file && fscanf(file, "%63s", latest) == 1 && strcmp(latest, "step_00000003") == 0,
          "latest says %s", latest);
    if (file) fclose(file);
    FIXTURE_CHECK_STEPS(&f, "2 3");
    par_owner_release(&owner);
    no_replacing = false;
    CHECK(n_said == 0 && fixture_count(&f, "owner.") == 0 && fixture_count(&f, "par-tmp") == 0,
          "%d lines were said, or something is left", n_said);
    fixture_close(&f);
}

static atomic_int n_told;

static void told(void *user, const char *line) {
    (void)user;
    n_told += strstr(line, "owner.00000001: cannot be renewed: Input/output error; it is tried "
                           "again every 0.01 s") != NULL;
}

/* A claim that cannot be renewed is refused at once; later that is said, once, and it goes on when
 * it can. */
static void not_renewed(void) {
    par_owner *owner = NULL;
    if (fixture_cannot()) return;
    fixture_open(&f);
    n_told = 0;
    const par_owner_params params = {.directory = f.directory, .beat_s = 0.01, .print = told};
    no_renaming = true;
    CHECK_FAILS(par_owner_claim(f.world, &params, &owner), PAR_ERR_IO,
                "owner.00000001: cannot be renewed");
    CHECK(fixture_count(&f, "owner.") == 0, "a refused run leaves an owner's file");
    no_renaming = false;
    CHECK_OK(par_owner_claim(f.world, &params, &owner));
    no_renaming = true;
    unsigned long long beat = beat_of("owner.00000001");
    for (int i = 0; i < 3000 && n_told == 0; i++) sleep_us(2000);
    sleep_us(100000);
    CHECK(n_told == 1, "%d lines were said", n_told);
    no_renaming = false;
    CHECK(comes_past(beat + 2), "it is not renewed any more");
    par_owner_release(&owner);
    fixture_close(&f);
}

/* What the jobs tell the test; in memory that they share. */
typedef struct {
    volatile int64_t saved[2]; /* the last step of each */
    volatile int holds, both;  /* how many hold the directory; that two did */
    volatile int refused;
} shared_state;

static shared_state *shared;

/* A run that saves until it is killed, and keeps one checkpoint alone. */
static void save_on(void) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int64_t step = 2; fixture_save(&f, step, 1) == PAR_OK; step++)
        sleep_us(3000); /* a run computes, too */
    _exit(1);
}

/* While another process saves and keeps one checkpoint alone, what is listed is gone soon. */
static void read_beside(void) {
    enum { LOADS = 100 };
    if (fixture_cannot()) return;
    fixture_open(&f);
    CHECK_OK(fixture_save(&f, 1, 1));
    pid_t other = fork();
    if (other == 0) save_on();
    random_state = 1;
    slow = true;
    int n = 0;
    for (; (n < LOADS || f.result.step < 10) && n < 20 * LOADS && !harness_failed(); n++) {
        CHECK_OK(fixture_load_any(&f));
        CHECK(fixture_holds(&f, f.result.step, f.version),
              "load %d: other numbers than step %lld's", n, (long long)f.result.step);
    }
    slow = false;
    printf("# owner: %d loads beside a run that saved %lld checkpoints\n", n,
           (long long)f.result.step);
    CHECK(waitpid(other, NULL, WNOHANG) == 0 && f.result.step >= 10, "the other one saves no more");
    kill(other, SIGKILL);
    waitpid(other, NULL, 0);
    fixture_close(&f);
}

/* One job: anew, or going on with what is there; three saves. A job that goes on keeps all. */
static void job(int number, bool resumes) {
    par_owner *owner = NULL;
    int64_t step = 0;
    f.version = number + 1;
    sleep_us(draw(3000));
    if (fixture_claim(&f, resumes ? f.directory : NULL, 0.003, &owner) != PAR_OK) {
        shared->refused++;
        _exit(0);
    }
    if (__atomic_add_fetch(&shared->holds, 1, __ATOMIC_SEQ_CST) > 1) shared->both = 1;
    if (resumes) {
        f.result.step = 0;
        if (fixture_resume(&f, f.directory, owner) != PAR_OK) _exit(2);
        step = f.result.step;
    }
    for (int i = 0; i < 3; i++) {
        if (fixture_keep(&f, owner, ++step, resumes ? 0 : 1, 0, 0, 0) != PAR_OK) _exit(3);
        shared->saved[number] = step;
    }
    __atomic_sub_fetch(&shared->holds, 1, __ATOMIC_SEQ_CST);
    par_owner_release(&owner);
    _exit(0);
}

/* The last checkpoint that the job saved is there, with its own numbers, or set aside. */
static bool is_there(int number) {
    char path[1024];
    const par_checkpoint_about about = {0};
    int64_t step = shared->saved[number];
    for (int i = 0; i < 4; i++) {
        if (i == 0)
            snprintf(path, sizeof path, "%s", fixture_path(&f, step, ""));
        else
            snprintf(path, sizeof path, "%s/aside.%08d/step_%08d", f.directory, i, (int)step);
        fixture_poison(&f);
        if (par_checkpoint_load(f.world, path, &about, f.runs, FIXTURE_RUNS, &f.result) == PAR_OK &&
            fixture_holds(&f, step, number + 1))
            return true;
    }
    return false;
}

static void interleave(int i) {
    pid_t jobs[2];
    int status;
    fixture_open(&f);
    memset(shared, 0, sizeof *shared);
    bool resumes[2] = {i % 2, i % 3 == 0}, killed = i % 4 == 3;
    for (int k = 0; k < 2; k++) {
        random_state = (unsigned)(7919 * i + 104729 * k + 1);
        if ((jobs[k] = fork()) == 0) {
            slow = true;
            job(k, resumes[k]);
        }
    }
    random_state = (unsigned)i;
    if (killed) {
        sleep_us(draw(30000));
        kill(jobs[0], SIGKILL);
        waitpid(jobs[0], &status, 0);
        __atomic_store_n(&shared->holds, 0, __ATOMIC_SEQ_CST);
    }
    for (int k = killed; k < 2; k++) {
        waitpid(jobs[k], &status, 0);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "order %d: job %d ends with %x", i, k,
              (unsigned)status);
    }
    CHECK(killed || !shared->both, "order %d: both held the directory at once", i);
    for (int k = 0; k < 2; k++)
        CHECK(!shared->saved[k] || is_there(k), "order %d: job %d's step %d is lost", i, k,
              (int)shared->saved[k]);
    fixture_close(&f);
}

static void two_jobs(void) {
    const char *asked = getenv("PAR_INTERLEAVINGS");
    int n = asked ? atoi(asked) : 20, refused = 0;
    if (fixture_cannot()) return;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        harness_skip("no shared memory");
        return;
    }
    for (int i = 0; i < n && !harness_failed(); i++) {
        interleave(i);
        refused += shared->refused;
    }
    printf("# owner: %d orders of two jobs, %d times one was refused\n", n, refused);
    munmap(shared, sizeof *shared);
}

static const harness_case cases[] = {
    {"second-run", second_run, 0, NULL, 0},
    {"other-host", other_host, 0, NULL, 0},
    {"half-written", half_written, 0, NULL, 0},
    {"old-directory", old_directory, 0, NULL, 0},
    {"lost-claim", lost_claim, 0, NULL, 0},
    {"lost-claim-for-good", lost_claim_for_good, 0, NULL, 0},
    {"unreadable", unreadable, 0, NULL, 0},
    {"taken-meanwhile", taken_meanwhile, 0, NULL, 0},
    {"lost-claim-behind", lost_claim_behind, 0, NULL, 0},
    {"read-beside", read_beside, 0, NULL, 0},
    {"no-replace", no_replace, 0, NULL, 0},
    {"not-renewed", not_renewed, 0, NULL, 0},
    {"two-jobs", two_jobs, 0, NULL, 0},
};

int main(int argc, char **argv) {
    return harness_main("owner", cases, HARNESS_COUNT(cases), argc, argv);
}
