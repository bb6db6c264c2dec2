/*
 * The team of threads: every iteration once, whoever calls, and nothing of the host changed. Loops
 * that sleep show who takes part, since sleepers need no core.
 */
#define _GNU_SOURCE /* sched_getaffinity */
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../harness.h"
#include "libpar/base/clock.h"
#include "libpar/base/cores.h"
#include "libpar/base/threads.h"
#include "par/kernels.h"

enum { MOST = 3001 };

typedef struct {
    _Atomic int *times; /* [n], how often each iteration ran */
    int threads;        /* of the loop */
    _Atomic int *bad;   /* slots that are none, calls of one slot at the same time */
    _Atomic int *inside;
} counted;

static void count(const void *user, int slot, int64_t begin, int64_t end) {
    const counted *c = user;
    if (slot < 0 || slot >= c->threads || atomic_fetch_add(&c->inside[slot], 1) != 0) (*c->bad)++;
    for (int64_t i = begin; i < end; i++) c->times[i]++;
    if (slot >= 0 && slot < c->threads) c->inside[slot]--;
}

/* Loops of many sizes by one host thread. The number of iterations that did not run once, and of
 * slots that were wrong. */
static int run_loops(int threads) {
    static const int64_t sizes[] = {0, 1, 2, 3, 7, 8, 64, 1000, MOST};
    static _Thread_local _Atomic int times[MOST];
    _Atomic int bad = 0, inside[PAR_MAX_THREADS] = {0};
    for (int round = 0; round < 40; round++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            const counted c = {times, threads, &bad, inside};
            memset(times, 0, sizeof times);
            par__threads_run(sizes[s], threads, count, &c);
            for (int64_t i = 0; i < MOST; i++) bad += times[i] != (i < sizes[s]);
        }
    return bad;
}

static void test_every_iteration_once(void) {
    static const int threads[] = {7, 1, 4, 2, 3};
    for (int i = 0; i < 5; i++) {
        CHECK_OK(par_threads_set(threads[i]));
        CHECK(par_threads() == threads[i], "%d threads hold", par_threads());
        int bad = run_loops(threads[i]);
        CHECK(bad == 0, "%d iterations or slots of %d threads were wrong", bad, threads[i]);
    }
    CHECK_OK(par_threads_set(0));
}

static void *run_beside(void *bad) {
    *(int *)bad = run_loops(4);
    return NULL;
}

static void test_two_hosts(void) {
    int bad[4] = {0};
    pthread_t hosts[4];
    CHECK_OK(par_threads_set(4));
    for (int i = 0; i < 4; i++) pthread_create(&hosts[i], NULL, run_beside, &bad[i]);
    for (int i = 0; i < 4; i++) pthread_join(hosts[i], NULL);
    for (int i = 0; i < 4; i++) CHECK(bad[i] == 0, "host %d: %d wrong", i, bad[i]);
    CHECK_OK(par_threads_set(0));
}

static void loop_within(const void *user, int slot, int64_t begin, int64_t end) {
    par__threads_run(end - begin, 4, count, user);
}

static void test_nested(void) {
    static _Atomic int times[MOST], bad, inside[PAR_MAX_THREADS];
    /* inner loops have slot 0 of loops of their own: several at once are right */
    const counted c = {times, 4, &bad, inside};
    CHECK_OK(par_threads_set(4));
    par__threads_run(16, 4, loop_within, &c);
    int sum = 0;
    for (int i = 0; i < MOST; i++) sum += times[i];
    CHECK(sum == 16, "%d iterations of 16 ran", sum);
    CHECK_OK(par_threads_set(0));
}

static void sleep_ms(int ms) {
    nanosleep(&(struct timespec){0, ms * 1000000L}, NULL);
}

static void sleep_each(const void *user, int slot, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) sleep_ms(2);
}

/* Four sleepers need a quarter of one's time; less than its half within some tries. */
static void test_workers_take_part(void) {
    double least = 1e9;
    CHECK_OK(par_threads_set(4));
    for (int i = 0; i < 50 && least > 0.064; i++) {
        double start = par__seconds();
        par__threads_run(64, 4, sleep_each, NULL);
        double took = par__seconds() - start;
        if (took < least) least = took;
    }
    CHECK(least <= 0.064, "64 sleeps of 2 ms take %.0f ms on 4 threads", 1e3 * least);
    CHECK_OK(par_threads_set(0));
}

static _Atomic int n_deaf;   /* iterations whose thread would die of SIGBUS, whatever the handler */
static _Atomic int n_called; /* by workers that take a signal meant for the host */

static void look_at_mask(const void *user, int slot, int64_t begin, int64_t end) {
    sigset_t mask;
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    if (sigismember(&mask, SIGBUS)) n_deaf++;
    if (!pthread_equal(*(const pthread_t *)user, pthread_self()) && !sigismember(&mask, SIGTERM))
        n_called++;
    sleep_each(user, slot, begin, end);
}

/* What an instruction raises comes to the thread that ran it; what is sent, to the host. */
static void test_signals(void) {
    pthread_t host = pthread_self();
    CHECK_OK(par_threads_set(4));
    par__threads_run(64, 4, look_at_mask, &host);
    CHECK(n_deaf == 0, "%d ranges ran with SIGBUS blocked", n_deaf);
    CHECK(n_called == 0, "%d ranges of workers ran with SIGTERM open", n_called);
    CHECK_OK(par_threads_set(0));
}

static _Atomic int n_by_workers;

/* A worker's iteration stalls, as if it had lost its core. */
static void stall(const void *user, int slot, int64_t begin, int64_t end) {
    if (slot == 0) {
        sleep_ms(1);
        return;
    }
    n_by_workers++;
    sleep_ms(40);
}

/* One stall of 40 ms, more than earlier loops have saved, is paid back by a time without
 * workers. */
static void test_stalls_are_paid_back(void) {
    CHECK_OK(par_threads_set(2));
    n_by_workers = 0;
    for (int i = 0; i < 50 && n_by_workers == 0; i++) par__threads_run(8, 2, stall, NULL);
    CHECK(n_by_workers > 0, "the worker never took part");
    n_by_workers = 0;
    double end = par__seconds() + 0.15;
    while (par__seconds() < end) par__threads_run(8, 2, stall, NULL);
    CHECK(n_by_workers == 0, "after a stall, the worker took %d ranges within 0.15 s",
          n_by_workers);
    CHECK_OK(par_threads_set(0));
}

static int n_tasks(void) {
    int n = 0;
    DIR *folder = opendir("/proc/self/task");
    while (folder && readdir(folder)) n++;
    if (folder) closedir(folder);
    return n;
}

/* Once it has stayed the same for 50 ms: threads that were joined are listed a little longer. */
static int n_tasks_at_rest(void) {
    int n = n_tasks();
    for (int i = 0, same = 0; i < 1000 && same < 10; i++) {
        sleep_ms(5);
        int now = n_tasks();
        same = now == n ? same + 1 : 0;
        n = now;
    }
    return n;
}

extern int omp_get_max_threads(void) __attribute__((weak));
extern void omp_set_num_threads(int n) __attribute__((weak));

static int omp_threads(void) {
    return omp_get_max_threads ? omp_get_max_threads() : -1;
}

static void product(par_dtype dtype) {
    enum { N = 200 };
    static float a[N * N], b[N * N], c[N * N];
    const par_backend *cpu;
    par_gemm g = {.dtype = dtype, .dtype_c = dtype, .m = N, .n = N, .k = N, .a = a, .b = b, .c = c};
    size_t nbytes = 0;
    g.lda = g.ldb = g.ldc = N;
    CHECK_OK(par_backend_get("cpu", &cpu));
    CHECK_OK(par_gemm_prepare(cpu, &g, &nbytes));
    void *workspace = aligned_alloc(256, (nbytes + 256) / 256 * 256);
    CHECK_OK(par_gemm_run(cpu, NULL, &g, workspace));
    free(workspace);
}

static void test_host_keeps_its_own(void) {
    cpu_set_t before, after;
    par_stream *first = NULL, *second = NULL;
    const par_backend *cpu;
    if (omp_set_num_threads) omp_set_num_threads(5);
    sched_getaffinity(0, sizeof before, &before);
    CHECK_OK(par_backend_get("cpu", &cpu));
    CHECK_OK(par_threads_set(1)); /* ends what other cases began */
    int tasks = n_tasks_at_rest();
    CHECK_OK(par_threads_set(3));
    CHECK_OK(cpu->stream_create(&first));
    CHECK_OK(cpu->stream_create(&second));
    CHECK(n_tasks() == tasks + 2, "%d threads were started for a stream of 3", n_tasks() - tasks);
    product(PAR_F32);
    product(PAR_BF16);
    cpu->stream_destroy(first);
    CHECK(n_tasks() == tasks + 2, "the second stream keeps %d threads", n_tasks() - tasks);
    cpu->stream_destroy(second);
    for (int i = 0; i < 2000 && n_tasks() > tasks; i++) sleep_ms(5); /* what was joined, leaves */
    CHECK(n_tasks() == tasks, "%d threads are left behind", n_tasks() - tasks);
    sched_getaffinity(0, sizeof after, &after);
    CHECK(CPU_EQUAL(&before, &after), "the affinity changed");
    CHECK(omp_threads() == (omp_set_num_threads ? 5 : -1), "OpenMP has %d threads", omp_threads());
    CHECK_OK(par_threads_set(0));
}

static void test_numbers(void) {
    CHECK_FAILS(par_threads_set(-1), PAR_ERR_ARG, "-1 threads");
    CHECK_FAILS(par_threads_set(PAR_MAX_THREADS + 1), PAR_ERR_ARG, "257 threads; must be 0");
    CHECK(par_threads() == par__cores(), "%d threads on %d cores", par_threads(), par__cores());
    cpu_set_t before, one;
    sched_getaffinity(0, sizeof before, &before);
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
    CHECK(par__cores() == 1, "%d cores when bound to one", par__cores());
    sched_setaffinity(0, sizeof before, &before);
}

static void put(const char *folder, const char *name, const char *text) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    CHECK(file != NULL, "cannot write %s", path);
    if (!file) return;
    fputs(text, file);
    fclose(file);
}

/* Limits of memory in the same tree: 3000 bytes outside and 2000 inside; 5000 in version 1. */
static void check_memory(char folder[5][64], const char *list, const char *root) {
    static const struct {
        const char *list;
        size_t left, limit;
    } cases[] = {
        {"0::/a/b\n", 1400, 2000}, /* 2000 - 900 used + 300 that can be dropped */
        {"0::/a\n", 1500, 3000},        {"0::/\n", 0, 0},
        {"7:memory:/v1\n", 4100, 5000}, {"7:memory:/v1\n0::/a\n", 1500, 3000},
        {"7:cpuset:/v1\n", 0, 0},
    };
    char v1[128], group[160];
    snprintf(v1, sizeof v1, "%s/memory", root);
    snprintf(group, sizeof group, "%s/v1", v1);
    mkdir(v1, 0700), mkdir(group, 0700);
    put(v1, "memory.limit_in_bytes", "9223372036854771712\n");
    put(group, "memory.limit_in_bytes", "5000\n");
    put(group, "memory.usage_in_bytes", "1000\n");
    put(group, "memory.stat", "cache 7\ninactive_file 1\ntotal_inactive_file 100\n");
    put(folder[1], "memory.max", "3000\n");
    put(folder[1], "memory.current", "1500\n");
    put(folder[2], "memory.max", "2000\n");
    put(folder[2], "memory.current", "900\n");
    put(folder[2], "memory.stat", "anon 4\ninactive_file 300\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t limit, left;
        put(root, "list", cases[i].list);
        left = par__cgroup_memory(list, root, &limit);
        CHECK(left == cases[i].left && limit == cases[i].limit,
              "%s: %zu bytes of %zu are left, not %zu of %zu", cases[i].list, left, limit,
              cases[i].left, cases[i].limit);
    }
}

/* A tree like /sys/fs/cgroup, with quotas of 3 cores outside and 1.5 inside. */
static void test_quotas(void) {
    static const struct {
        const char *list;
        int cores;
    } cases[] = {
        {"0::/a/b\n", 1},
        {"0::/a\n", 3},
        {"0::/\n", 0},
        {"0::/elsewhere/in/a/container\n", 0},
        {"12:cpuset,memory:/a\n4:cpu,cpuacct:/v1\n", 4},
        {"4:cpuacct,cpu:/v1\n0::/a\n", 3},
        {"nonsense\n::\n", 0},
    };
    static const char *const made[] = {"", "/a", "/a/b", "/cpu", "/cpu/v1"};
    char root[] = "/tmp/par-cgroup-XXXXXX", folder[5][64], list[64];
    CHECK(mkdtemp(root) != NULL, "no folder");
    for (int i = 0; i < 5; i++) {
        snprintf(folder[i], sizeof folder[i], "%s%s", root, made[i]);
        if (i > 0) mkdir(folder[i], 0700);
    }
    put(folder[1], "cpu.max", "300000 100000\n");
    put(folder[2], "cpu.max", "150000 100000\n");
    put(folder[3], "cpu.cfs_quota_us", "-1\n");
    put(folder[3], "cpu.cfs_period_us", "100000\n");
    put(folder[4], "cpu.cfs_quota_us", "400000\n");
    put(folder[4], "cpu.cfs_period_us", "100000\n");
    snprintf(list, sizeof list, "%s/list", root);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put(root, "list", cases[i].list);
        int cores = par__cgroup_cores(list, root);
        CHECK(cores == cases[i].cores, "%s: %d cores, not %d", cases[i].list, cores,
              cases[i].cores);
    }
    CHECK(par__cgroup_cores("/nowhere", root) == 0, "a quota without a list");
    check_memory(folder, list, root);
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", root);
    CHECK(system(command) == 0, "%s is left", root);
}

static const harness_case cases[] = {
    {.name = "numbers", .run = test_numbers},
    {.name = "every_iteration_once", .run = test_every_iteration_once},
    {.name = "two_hosts", .run = test_two_hosts},
    {.name = "nested", .run = test_nested},
    {.name = "workers_take_part", .run = test_workers_take_part},
    {.name = "signals", .run = test_signals},
    {.name = "stalls_are_paid_back", .run = test_stalls_are_paid_back},
    {.name = "host_keeps_its_own", .run = test_host_keeps_its_own},
    {.name = "quotas", .run = test_quotas},
};

int main(int argc, char **argv) {
    return harness_main("threads", cases, HARNESS_COUNT(cases), argc, argv);
}
