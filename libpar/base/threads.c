/*
 * The team of threads: see threads.h.
 *
 * A loop is posted in `state`: a number, a bit OPEN, and how many workers are inside. A worker that
 * sees an open loop of a number that it has not served enters by adding itself; the caller closes
 * the loop when no range is left, after which nobody enters, and waits until nobody is inside.
 *
 * Each thread has a span of the iterations, by the loop's size and number of threads alone, so that
 * loops over the same rows find them in the same core's cache. It takes its span in pieces, and
 * then pieces of the others' spans.
 *
 * Waits spin for a bounded time and then sleep. On a machine whose cores are busy a worker that has
 * taken a piece may lose its core for milliseconds, and so may a woken one. So an account is kept:
 * of each loop the time that workers saved, less what they cost in waking and waiting. A stall here
 * and there is covered by what was saved before, up to MOST_CREDIT_S. A debt is paid back by a time
 * without workers that is PAYBACK times as long (MOST_ALONE_S at most), so that all in all about
 * one part in PAYBACK is lost.
 */
#define _POSIX_C_SOURCE 200809L
#include "threads.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "clock.h"
#include "cores.h"

enum { PIECES = 8, PAYBACK = 32, POLLS = 64 };

/* How long a worker looks for the next loop, and the caller for the end of this one, before it
 * sleeps: some times what waking costs. */
#define WORKER_SPIN_S 300e-6
#define CALLER_SPIN_S 50e-6
#define MOST_CREDIT_S 10e-3
#define MOST_ALONE_S  0.25

#define OPEN   (UINT64_C(1) << 31)
#define INSIDE (OPEN - 1)
#define NUMBER 32 /* bits below it */

/* A line of the cache for each: they are written by all. */
typedef struct {
    _Alignas(64) _Atomic int64_t next;
    int64_t end;
    double took_s; /* by this span's own thread, for all that it did in the loop */
} span;

static struct {
    pthread_mutex_t busy; /* held by the caller of the running loop; guards what no worker reads */
    int holds, n_workers;
    pthread_t workers[PAR_MAX_THREADS];
    double credit_s, alone_until;

    pthread_mutex_t lock; /* of the sleepers */
    pthread_cond_t work, done;
    _Atomic int sleepers;
    _Atomic bool caller_sleeps, stop;

    _Atomic uint64_t state;
    par__range *run; /* of the loop; written while it is closed and nobody is inside */
    const void *user;
    int threads;
    int64_t piece;
    span spans[PAR_MAX_THREADS];
} team = {.busy = PTHREAD_MUTEX_INITIALIZER,
          .lock = PTHREAD_MUTEX_INITIALIZER,
          .work = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};

static _Atomic int asked, share, prepared;
static _Thread_local int planned;

static void relax(void) {
#if defined __x86_64__ || defined __i386__
    __builtin_ia32_pause();
#endif
}

/* This thread's iterations of the loop: its own span, then the others'. Their number. */
static int64_t take_ranges(int slot) {
    int64_t done = 0;
    for (int i = 0; i < team.threads; i++) {
        span *s = &team.spans[(slot + i) % team.threads];
        for (;;) {
            int64_t begin = atomic_fetch_add_explicit(&s->next, team.piece, memory_order_relaxed);
            if (begin >= s->end) break;
            int64_t end = begin + team.piece < s->end ? begin + team.piece : s->end;
            team.run(team.user, slot, begin, end);
            done += end - begin;
        }
    }
    return done;
}

/* Into an open loop that is not number *served. */
static bool enter(uint64_t *served) {
    uint64_t state = atomic_load(&team.state);
    while (state & OPEN && state >> NUMBER != *served)
        if (atomic_compare_exchange_weak(&team.state, &state, state + 1)) {
            *served = state >> NUMBER;
            return true;
        }
    return false;
}

/* False: the team ends. */
static bool await_loop(uint64_t *served) {
    bool entered = false;
    for (double end = par__seconds() + WORKER_SPIN_S; par__seconds() < end;)
        for (int poll = 0; poll < POLLS; poll++) {
            if (enter(served)) return true;
            if (atomic_load(&team.stop)) return false;
            relax();
        }
    pthread_mutex_lock(&team.lock);
    atomic_fetch_add(&team.sleepers, 1);
    while (!atomic_load(&team.stop) && !(entered = enter(served)))
        pthread_cond_wait(&team.work, &team.lock);
    atomic_fetch_sub(&team.sleepers, 1);
    pthread_mutex_unlock(&team.lock);
    return entered;
}

static void *work(void *number) {
    int slot = (int)(intptr_t)number;
    uint64_t served = 0;
    while (await_loop(&served)) {
        if (slot < team.threads) {
            double start = par__seconds();
            take_ranges(slot);
            team.spans[slot].took_s = par__seconds() - start;
        }
        /* The last one out of a closed loop wakes the caller. */
        uint64_t before = atomic_fetch_sub(&team.state, 1);
        if ((before & (OPEN | INSIDE)) == 1 && atomic_load(&team.caller_sleeps)) {
            pthread_mutex_lock(&team.lock);
            pthread_cond_signal(&team.done);
            pthread_mutex_unlock(&team.lock);
        }
    }
    return NULL;
}

/* The caller, after its ranges: nobody enters from here on. */
static void await_workers(void) {
    if (!(atomic_fetch_and(&team.state, ~OPEN) & INSIDE)) return;
    for (double end = par__seconds() + CALLER_SPIN_S; par__seconds() < end;)
        for (int poll = 0; poll < POLLS; poll++) {
            if (!(atomic_load(&team.state) & INSIDE)) return;
            relax();
        }
    pthread_mutex_lock(&team.lock);
    atomic_store(&team.caller_sleeps, true);
    while (atomic_load(&team.state) & INSIDE) pthread_cond_wait(&team.done, &team.lock);
    atomic_store(&team.caller_sleeps, false);
    pthread_mutex_unlock(&team.lock);
}

int par__thread_start(pthread_t *out, void *(*run)(void *user), void *user) {
    static const int own[] = {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGABRT};
    sigset_t all, before;
    sigfillset(&all);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) sigdelset(&all, own[i]);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int error = pthread_create(out, NULL, run, user);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

/* A thread that cannot be started is done without. */
static void start_workers(int n) {
    while (team.n_workers < n && par__thread_start(&team.workers[team.n_workers], work,
                                                   (void *)(intptr_t)(team.n_workers + 1)) == 0)
        team.n_workers++;
}

static void end_workers(void) {
    pthread_mutex_lock(&team.lock);
    atomic_store(&team.stop, true);
    pthread_cond_broadcast(&team.work);
    pthread_mutex_unlock(&team.lock);
    while (team.n_workers > 0) pthread_join(team.workers[--team.n_workers], NULL);
    atomic_store(&team.stop, false);
}

static void post(int64_t n, int threads, par__range *run, const void *user) {
    team.run = run;
    team.user = user;
    team.threads = threads;
    team.piece = (n + (int64_t)threads * PIECES - 1) / ((int64_t)threads * PIECES);
    for (int i = 0; i < threads; i++) {
        team.spans[i].took_s = 0;
        team.spans[i].next = n / threads * i + n % threads * i / threads;
        team.spans[i].end = n / threads * (i + 1) + n % threads * (i + 1) / threads;
    }
    uint64_t number = (atomic_load(&team.state) >> NUMBER) + 1;
    atomic_store(&team.state, (number & UINT32_MAX) << NUMBER | OPEN);
    if (atomic_load(&team.sleepers) > 0) {
        pthread_mutex_lock(&team.lock);
        pthread_cond_broadcast(&team.work);
        pthread_mutex_unlock(&team.lock);
    }
}

/* A loop of n iterations of which the caller did `own` in `mine` seconds, and waited `waits`. What
 * the others did is worth its time at the faster one of both rates: the slower one may have lost
 * its core meanwhile. */
static void settle(int64_t n, int64_t own, double mine, double waits, double end) {
    double theirs = 0;
    for (int i = 1; i < team.threads; i++) theirs += team.spans[i].took_s;
    double rate = own > 0 ? mine / (double)own : theirs;
    if (own < n && theirs / (double)(n - own) < rate) rate = theirs / (double)(n - own);
    team.credit_s += rate * (double)(n - own) - waits;
    if (team.credit_s > MOST_CREDIT_S) team.credit_s = MOST_CREDIT_S;
    if (team.credit_s >= 0) return;
    double alone_s = -PAYBACK * team.credit_s;
    team.alone_until = end + (alone_s < MOST_ALONE_S ? alone_s : MOST_ALONE_S);
    team.credit_s = 0;
}

void par__threads_run(int64_t n, int threads, par__range *run, const void *user) {
    int most = par_threads();
    if (threads > most) threads = most;
    if (threads > n) threads = (int)n;
    if (threads < 2 || pthread_mutex_trylock(&team.busy) != 0) {
        if (n > 0) run(user, 0, 0, n);
        return;
    }
    double start = par__seconds();
    start_workers(most - 1);
    if (threads > team.n_workers + 1) threads = team.n_workers + 1;
    if (threads > 1 && start >= team.alone_until) {
        post(n, threads, run, user);
        double posted = par__seconds();
        int64_t own = take_ranges(0);
        double done = par__seconds();
        await_workers();
        double end = par__seconds();
        settle(n, own, done - posted, posted - start + end - done, end);
    } else {
        run(user, 0, 0, n);
    }
    pthread_mutex_unlock(&team.busy);
}

static int smaller(int a, int b) {
    return a == 0 || b < a ? b : a;
}

int par_threads(void) {
    static _Atomic int cores;
    int n = atomic_load(&asked);
    if (n > 0) return n;
    n = atomic_load(&share);
    if (n > 0) return n;
    if (atomic_load(&cores) == 0) atomic_store(&cores, smaller(PAR_MAX_THREADS, par__cores()));
    return atomic_load(&cores);
}

par_status par_threads_set(int n) {
    if (n < 0 || n > PAR_MAX_THREADS)
        PAR_FAIL(PAR_ERR_ARG, "%d threads; must be 0 (the cores of this rank) to %d", n,
                 PAR_MAX_THREADS);
    pthread_mutex_lock(&team.busy);
    atomic_store(&asked, n);
    if (team.n_workers >= par_threads()) end_workers();
    if (team.holds > 0) start_workers(par_threads() - 1);
    pthread_mutex_unlock(&team.busy);
    return PAR_OK;
}

void par__threads_share(int n) {
    pthread_mutex_lock(&team.busy);
    atomic_store(&share, smaller(atomic_load(&share), smaller(PAR_MAX_THREADS, n)));
    pthread_mutex_unlock(&team.busy);
}

void par__threads_plan(int ranks) {
    bool known = atomic_load(&asked) > 0 || atomic_load(&share) > 0;
    int n = par__cores();
    planned = known || ranks <= 0 ? 0 : ranks < n ? n / ranks : 1;
}

int par__threads_prepare(void) {
    int n = par_threads(), least = atomic_load(&prepared);
    if (planned > 0) return planned;
    while ((least == 0 || n < least) && !atomic_compare_exchange_weak(&prepared, &least, n)) {
    }
    return n;
}

int par__threads_prepared(void) {
    int least = atomic_load(&prepared);
    return least > 0 ? least : 1;
}

void par__threads_hold(void) {
    pthread_mutex_lock(&team.busy);
    team.holds++;
    start_workers(par_threads() - 1);
    pthread_mutex_unlock(&team.busy);
}

void par__threads_release(void) {
    pthread_mutex_lock(&team.busy);
    if (--team.holds == 0) end_workers();
    pthread_mutex_unlock(&team.busy);
}
