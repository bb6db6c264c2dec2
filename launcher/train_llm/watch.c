/*
 * The watchdog of train_llm: where the pages of its ranks lie, and how a run that stands still
 * ends. The folder's name holds the run's number, so that no run touches another's; it goes with
 * the run unless that stands still or is killed: then `par diagnose hang` reads it.
 */
#define _XOPEN_SOURCE 700
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "observe.h"

static struct {
    par_watchdog *volatile watchdog; /* NULL: none; handlers of signals read it */
    const llm_run *run;
    int rank;
    char directory[4096];
} watch;

/* In the watchdog's thread, while the main thread waits. */
static void stalled(void *user, const char *report, bool first) {
    const struct timespec pause = {.tv_sec = 1};
    (void)user;
    if (first) {
        /* pages change while the job is torn down: what was found is kept as text */
        char path[sizeof watch.directory + 32];
        snprintf(path, sizeof path, "%s/report.txt", watch.directory);
        FILE *file = fopen(path, "w");
        if (file) fputs(report, file);
        if (file) fclose(file);
        dprintf(STDERR_FILENO, "train_llm: the run stands still\n%s", report);
        char advice[sizeof watch.run->newest * 2 + 128];
        llm_run_advise(watch.run, advice, sizeof advice);
        if (*advice) dprintf(STDERR_FILENO, "%s\n", advice);
        dprintf(STDERR_FILENO, "par diagnose hang %s says this again\n", watch.directory);
    } else {
        nanosleep(&pause, NULL); /* behind the rank that reports */
    }
    _exit(EXIT_STALLED);
}

void llm_watch_told(void) {
    if (watch.watchdog) par_watchdog_told(watch.watchdog);
}

static void on_continue(int number) {
    (void)number;
    llm_watch_told();
}

/* While there is nothing to save (llm_signals_catch) the signal does what it does without this. */
static void on_end(int number) {
    llm_watch_told();
    signal(number, SIG_DFL);
    raise(number);
}

/* What is ignored stays so. */
static void listen(void) {
    const struct {
        int number;
        void (*handler)(int);
    } heard[] = {{SIGTERM, on_end}, {SIGCONT, on_continue}};
    struct sigaction action = {.sa_flags = SA_RESTART | SA_ONSTACK}, was;
    for (int i = 0; i < 2; i++) {
        action.sa_handler = heard[i].handler;
        if (sigaction(heard[i].number, NULL, &was) == 0 && was.sa_handler != SIG_IGN)
            sigaction(heard[i].number, &action, NULL);
    }
}

/* Whether files can be made beside `path`, in a folder that is there or can be made. */
static bool is_possible(const char *path) {
    char above[sizeof watch.directory];
    struct stat is = {0};
    snprintf(above, sizeof above, "%s", path);
    do {
        char *slash = strrchr(above, '/');
        if (!slash)
            strcpy(above, ".");
        else
            slash[slash == above] = 0;
    } while (stat(above, &is) != 0 && errno == ENOENT);
    return S_ISDIR(is.st_mode) && access(above, W_OK | X_OK) == 0;
}

void llm_watch_begin(const llm_run *r, const llm_world *w) {
    const llm_settings *s = &r->set;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    int64_t run = (t.tv_sec << 20 | t.tv_nsec >> 10) ^ (int64_t)getpid() << 40;
    if (s->stall_timeout == 0 || w->size == 1) return;
    llm_world_share(&run, sizeof run);
    if (w->rank == 0) {
        /* Beside the log or the checkpoints, so that other hosts see it; else in memory, for this
         * host. What cannot be made is refused where it is opened. */
        const char *memory = access("/dev/shm", W_OK) == 0 ? "/dev/shm/par" : "/tmp/par";
        const char *beside = s->log ? s->log : s->save;
        if (!beside || !is_possible(beside)) beside = memory;
        int n = (int)strlen(beside);
        while (n > 1 && beside[n - 1] == '/') n--;
        snprintf(watch.directory, sizeof watch.directory, "%.*s.ranks-%llx", n, beside,
                 (unsigned long long)run);
    }
    llm_world_share(watch.directory, sizeof watch.directory);
    watch.run = r;
    watch.rank = w->rank;
    const par_watchdog_params params = {.directory = watch.directory,
                                        .run = run,
                                        .rank = w->rank,
                                        .size = w->size,
                                        .timeout_s = s->stall_timeout,
                                        .stalled = stalled};
    par_watchdog *made = NULL;
    if (par_watchdog_create(&params, &made) == PAR_OK) {
        watch.watchdog = made;
        listen();
        return;
    }
    fprintf(stderr, "note: rank %d has no watchdog, so that a hang of it is not named: %s\n",
            w->rank, par_error());
}

void llm_watch_waits(bool waits) {
    if (watch.watchdog) par_watchdog_waits(watch.watchdog, waits);
}

void llm_watch_transport(par_transport *transport) {
    if (watch.watchdog) par_watchdog_watch(watch.watchdog, transport);
}

void llm_watch_end(void) {
    char page[sizeof watch.directory + 32];
    par_watchdog *w = watch.watchdog;
    if (!w) return;
    watch.watchdog = NULL;
    par_watchdog_destroy(&w);
    snprintf(page, sizeof page, "%s/rank_%05d.page", watch.directory, watch.rank);
    unlink(page);
    rmdir(watch.directory); /* the last one on this host succeeds */
}
