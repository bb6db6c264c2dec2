/*
 * The watchdog's thread, and the page that it keeps alive. It looks at its own rank's progress;
 * once that has waited for half the timeout, it samples the pages of all ranks, so that at the
 * timeout it knows who has moved meanwhile, who used cores, and whose watchdog is silent.
 */
#define _GNU_SOURCE
#include "par/watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "hang.h"
#include "libpar/base/clock.h"
#include "libpar/base/directory.h"
#include "libpar/base/record.h"
#include "libpar/base/threads.h"
#include "witness.h"

/* PATIENCE: how much longer a rank may take that may be working. LATER: when another rank reports,
 * if the lowest one has not, in timeouts. */
enum { MAX_RANKS = 4096, REPORT_NBYTES = 1 << 16, PATIENCE = 10 };
static const double SAMPLE = 0.5, LATER = 1.5, BUSY = 0.1;

/* What was seen of a rank since the sampling began. */
typedef struct {
    int64_t beat, progress, cpu; /* cpu: when progress was seen first */
    double beat_at, progress_at;
    int n_runs; /* looks in a row at which it ran */
} sighting;

struct par_watchdog {
    par_watchdog_params params;
    char directory[4096], host[64];
    double tick_s;
    par__page_file *file;
    par__flight *page;      /* in it */
    par_recorder *recorder; /* that writes to the page; NULL: none */
    bool slow_files;        /* a mapping is not seen by other hosts before it is synced */
    pthread_t thread;
    par__witness witness;
    par__page_file **others; /* [size], the witness's */
    int64_t progress;        /* of this rank, and when it was seen first */
    double moved_at, ticked_at;
    bool sampling, called;
    sighting *sightings; /* [size] */
    par__hang hang;
};

static void beat(par_watchdog *w) {
    w->page->beat = par__date_nanoseconds();
    w->page->cpu = par__cpu_nanoseconds();
    if (w->slow_files) msync(w->file, sizeof *w->file, MS_SYNC);
}

/* Read a rank's page, and what has changed on it. */
static void look(par_watchdog *w, int rank, double now) {
    par__seen *r = &w->hang.ranks[rank];
    sighting *s = &w->sightings[rank];
    r->sign = PAR__RANK_UNSEEN;
    if (!par__page_read(w->directory, rank, w->params.run, &r->page)) return;
    bool first = s->beat_at == 0;
    if (first || r->page.beat != s->beat) s->beat = r->page.beat, s->beat_at = now;
    if (first || r->page.progress != s->progress) {
        s->progress = r->page.progress;
        s->progress_at = now;
        s->cpu = r->page.cpu;
    }
    par__page_process(r, w->host);
    s->n_runs = r->runs ? s->n_runs + 1 : 0;
    r->silent_s = 1e-9 * (double)(par__date_nanoseconds() - r->page.beat);
    double silent = now - s->beat_at, least = w->params.timeout_s * SAMPLE;
    if (strcmp(r->page.host, w->host) != 0) {
        if (silent > least && silent > 5 * w->tick_s) r->sign = PAR__RANK_STOPPED;
    } else if (r->sign == PAR__RANK_STOPPED &&
               (silent < 0.8 * least || r->silent_s < w->params.timeout_s)) {
        r->sign = PAR__RANK_ALIVE; /* for a moment, as a debugger does to look at it */
    }
}

/* This one has not arrived, and nothing excuses it. */
static bool is_late(const par_watchdog *w, int rank, double waited, double now) {
    const par__seen *r = &w->hang.ranks[rank];
    const sighting *s = &w->sightings[rank];
    double quiet = now - s->progress_at, used = 1e-9 * (double)(r->page.cpu - s->cpu);
    bool computes = r->page.phase == PAR__PHASE_STEP || r->page.phase == PAR__PHASE_EVALUATE ||
                    r->page.phase == PAR__PHASE_GENERATE;
    /* It uses cores, or would if others left it some; what it does elsewhere takes its time. */
    bool may_work = !computes || s->n_runs > 1 || used > BUSY * quiet;
    if (r->sign == PAR__RANK_UNSEEN) return waited >= PATIENCE * w->params.timeout_s;
    if (r->sign != PAR__RANK_ALIVE || r->page.phase == PAR__PHASE_ENDED) return true;
    if (quiet < 0.8 * SAMPLE * w->params.timeout_s) return false; /* it has moved */
    if (w->hang.circle || !may_work) return true;
    return waited >= PATIENCE * w->params.timeout_s;
}

/* Look at all ranks; true: somebody is late, and marked. */
static bool find_late(par_watchdog *w, double waited, double now) {
    par__hang *h = &w->hang;
    for (int r = 0; r < h->size; r++) look(w, r, now);
    if (waited < w->params.timeout_s) return false;
    par__hang_find(h, w->params.rank);
    int accused = h->n_culprits;
    h->n_culprits = 0;
    for (int r = 0; r < h->size; r++) {
        h->ranks[r].culprit = h->ranks[r].culprit && is_late(w, r, waited, now);
        h->n_culprits += h->ranks[r].culprit;
    }
    /* one of the circle moves, so all may go on; but not for ever */
    if (h->circle && h->n_culprits < accused && waited < PATIENCE * w->params.timeout_s)
        return false;
    return h->n_culprits > 0;
}

/* The lowest rank that lives and waits reports; where it does not, whoever comes later. */
static void report(par_watchdog *w, double waited) {
    static char text[REPORT_NBYTES];
    bool lower = false, reported = false;
    for (int r = 0; r < w->hang.size; r++) {
        const par__seen *s = &w->hang.ranks[r];
        bool seen = s->sign != PAR__RANK_UNSEEN;
        reported = reported || (seen && r != w->params.rank && s->page.reported);
        lower = lower || (s->sign == PAR__RANK_ALIVE && r < w->params.rank &&
                          s->page.wait != PAR__WAIT_NONE);
    }
    if (!reported && lower && waited < LATER * w->params.timeout_s) return;
    w->called = true;
    if (!reported) w->page->reported = 1;
    par__hang_print(&w->hang, waited, text, sizeof text);
    if (w->params.stalled) w->params.stalled(w->params.user, text, !reported);
}

static void tick(par_watchdog *w) {
    double now = par__seconds();
    int64_t progress = __atomic_load_n(&w->page->progress, __ATOMIC_RELAXED);
    beat(w);
    /* this process was stopped itself: what it saw before is no time that others took */
    bool slept = now - w->ticked_at > SAMPLE * w->params.timeout_s;
    w->ticked_at = now;
    if (slept || progress != w->progress || w->page->wait == PAR__WAIT_NONE) {
        w->progress = progress;
        w->moved_at = now;
        w->sampling = false;
        return;
    }
    double waited = now - w->moved_at;
    if (w->called || waited < SAMPLE * w->params.timeout_s) return;
    if (!w->sampling) memset(w->sightings, 0, (size_t)w->hang.size * sizeof *w->sightings);
    w->sampling = true;
    if (find_late(w, waited, now)) report(w, waited);
}

static void *run(void *user) {
    par_watchdog *w = user;
    par__witness_begin(&w->witness, w->directory, w->file, w->others);
    do tick(w);
    while (par__witness_wait(&w->witness, w->tick_s));
    par__witness_end(&w->witness);
    return NULL;
}

static par_status make_page(par_watchdog *w) {
    /* File systems of this host alone, where a mapping is what everybody reads. */
    static const long local[] = {0xEF53, 0x01021994, 0x58465342, 0x9123683E, 0x794c7630};
    struct statfs fs;
    char path[4200];
    PAR_TRY(par__make_directories(w->directory));
    par__page_path(path, sizeof path, w->directory, w->params.rank);
    unlink(path); /* of an older run, whose ranks may still have it */
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) PAR_FAIL(PAR_ERR_IO, "%s: cannot be made: %s", path, strerror(errno));
    int error = posix_fallocate(fd, 0, sizeof *w->file);
    void *file =
        error ? MAP_FAILED : mmap(NULL, sizeof *w->file, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (!error && file == MAP_FAILED) error = errno;
    close(fd);
    if (error) PAR_FAIL(PAR_ERR_IO, "%s: cannot be mapped: %s", path, strerror(error));
    w->file = file;
    w->page = &w->file->flight;
    par__witness_lock(w->file);
    w->slow_files = true;
    bool known = statfs(path, &fs) == 0;
    for (size_t i = 0; known && i < sizeof local / sizeof *local; i++)
        if ((long)fs.f_type == local[i]) w->slow_files = false;
    *w->page = (par__flight){.run = w->params.run,
                             .rank = w->params.rank,
                             .size = w->params.size,
                             .pid = getpid(),
                             .phase = PAR__PHASE_START};
    memcpy(w->page->host, w->host, sizeof w->page->host);
    beat(w);
    memcpy(w->page->magic, PAR__FLIGHT_MAGIC, sizeof w->page->magic);
    return PAR_OK;
}

static void release(par_watchdog *w) {
    if (w->file) munmap(w->file, sizeof *w->file);
    free(w->others);
    free(w->sightings);
    free(w->hang.ranks);
    free(w);
}

par_status par_watchdog_create(const par_watchdog_params *params, par_watchdog **out) {
    PAR_REQUIRE(params && out && params->directory && params->timeout_s >= 0);
    PAR_REQUIRE(params->rank >= 0 && params->rank < params->size && params->size <= MAX_RANKS);
    PAR_REQUIRE(strlen(params->directory) < sizeof((par_watchdog *)0)->directory);
    par_watchdog *w = calloc(1, sizeof *w);
    if (!w) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for a watchdog");
    w->params = *params;
    if (w->params.timeout_s == 0) w->params.timeout_s = 30;
    w->tick_s = w->params.timeout_s / 20;
    if (w->tick_s > 1) w->tick_s = 1;
    snprintf(w->directory, sizeof w->directory, "%s", params->directory);
    if (gethostname(w->host, sizeof w->host - 1) != 0) snprintf(w->host, sizeof w->host, "unknown");
    w->moved_at = w->ticked_at = par__seconds();
    size_t n = (size_t)w->params.size;
    par_status st = PAR_OK;
    w->sightings = calloc(n, sizeof *w->sightings);
    w->others = calloc(n, sizeof *w->others);
    w->hang = (par__hang){.size = w->params.size, .ranks = calloc(n, sizeof *w->hang.ranks)};
    if (!w->sightings || !w->others || !w->hang.ranks)
        st = par_error_set(PAR_ERR_MEMORY, "no host memory for a watchdog of %zu ranks", n);
    if (st == PAR_OK) st = make_page(w);
    int error = st == PAR_OK ? par__thread_start(&w->thread, run, w) : 0;
    if (error) st = par_error_set(PAR_ERR_MEMORY, "no thread for a watchdog: %s", strerror(error));
    if (st != PAR_OK) {
        release(w);
        return st;
    }
    *out = w;
    return PAR_OK;
}

void par_watchdog_watch(par_watchdog *w, par_transport *transport) {
    w->recorder = par_transport_recorder(transport);
    par__recorder_fly(w->recorder, w->page);
}

void par_watchdog_waits(par_watchdog *w, bool waits) {
    if (waits)
        par__flight_wait(w->page, PAR__WAIT_ALL, -1, -1, 0);
    else
        par__flight_go_on(w->page);
    w->page->phase = waits ? PAR__PHASE_START : PAR__PHASE_OUTSIDE;
}

void par_watchdog_told(par_watchdog *w) {
    w->page->told = par__date_nanoseconds();
}

void par_watchdog_destroy(par_watchdog **handle) {
    par_watchdog *w = handle ? *handle : NULL;
    if (!w) return;
    par__witness_stop(&w->witness);
    pthread_join(w->thread, NULL);
    if (w->recorder) par__recorder_fly(w->recorder, NULL);
    w->page->phase = PAR__PHASE_ENDED;
    w->page->wait = PAR__WAIT_NONE;
    beat(w);
    release(w);
    *handle = NULL;
}
