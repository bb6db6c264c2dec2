/*
 * The watchdog in a trainer of one's own: a rank that sleeps in a step is named, by all that wait
 * for it and by one of them first; one that computes, or reads data, is left alone. And from pages
 * made up here: who is at the end of the waiting, and when a circle is one. And from processes that
 * are killed: which one was gone first.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../harness.h"
#include "../harness_internal.h"
#include "../train/check.h"
#include "../train/failing_model.h"
#include "libpar/base/directory.h"
#include "libpar/observe/hang.h"

/* Seconds. A module computes for SLOW, which is past twice the timeout, and sleeps for longer: all
 * others must have said so before it wakes. */
static const double TIMEOUT_S = 0.5, SLOW_S = 1.6, ASLEEP_S = 4;

typedef struct {
    int called, first;
    char report[4096];
    char said[64]; /* a file that is made at the call; none: "" */
} heard;

static void stalled(void *user, const char *report, bool first) {
    heard *h = user;
    h->called++;
    h->first += first;
    snprintf(h->report, sizeof h->report, "%s", report);
    FILE *file = h->said[0] ? fopen(h->said, "w") : NULL;
    if (file) fclose(file);
}

static int slow_reads;
static par_status slow_read(void *user, int64_t first, int64_t n, void *x, void *targets) {
    const struct timespec pause = {.tv_sec = 1, .tv_nsec = 600000000};
    if (slow_reads-- > 0) nanosleep(&pause, NULL);
    return check_source(user).read(user, first, n, x, targets);
}

/* Two steps under a watchdog; in the second rank 2 is slow in that way. */
static void watch(par_transport *transport, failing_call call, bool busy, bool reads, heard *h) {
    char directory[] = "/tmp/par-watchdog-XXXXXX";
    int rank = par_transport_rank(transport);
    MPI_Comm comm = check_comm(transport);
    par_transformer_config config;
    par_model *inner = NULL, model;
    par_trainer *t = NULL;
    par_watchdog *w = NULL;
    par_vote vote;
    check_config(false, &config);
    if (rank == 0 && !mkdtemp(directory)) CHECK(false, "no directory");
    MPI_Bcast(directory, (int)sizeof directory, MPI_CHAR, 0, comm);
    const par_watchdog_params watched = {.directory = directory,
                                         .run = 7,
                                         .rank = rank,
                                         .size = 4,
                                         .timeout_s = TIMEOUT_S,
                                         .stalled = stalled,
                                         .user = h};
    CHECK_OK(par_transformer_create(&config, &inner));
    failing_model(inner, &model);
    failing_set(FAIL_NONE, 0, PAR_OK);
    par_trainer_params params = check_params(&model, 1, 4, 1, 1, 8);
    check_data data = {.vocab = config.vocab, .T = config.tokens};
    par_source source = {slow_read, &data};
    CHECK_OK(check_fit(&config, &params));
    CHECK_OK(par_watchdog_create(&watched, &w));
    par_watchdog_watch(w, transport);
    CHECK_OK(par_trainer_create(transport, &params, &t));
    CHECK_OK(par_trainer_step(t, &source, 1e-3f, false, &vote));
    if (rank == 2 && !reads) failing_slow(call, 3, busy ? SLOW_S : ASLEEP_S, busy);
    slow_reads = rank == 0 && reads;
    CHECK_OK(par_trainer_step(t, &source, 1e-3f, false, &vote));
    par_watchdog_destroy(&w);
    par_trainer_destroy(&t);
    par_transformer_destroy(&inner);
    MPI_Barrier(comm);
    if (rank == 0) par__remove_directory(directory);
    MPI_Comm_free(&comm);
}

static void sleeps(par_transport *transport) {
    heard h = {0};
    watch(transport, FAIL_BACKWARD, false, false, &h);
    MPI_Comm comm = check_comm(transport);
    int firsts = 0, rank = par_transport_rank(transport);
    MPI_Allreduce(&h.first, &firsts, 1, MPI_INT, MPI_SUM, comm);
    MPI_Comm_free(&comm);
    CHECK(firsts == 1, "%d ranks report first", firsts);
    CHECK(h.called == (rank != 2), "rank %d was called %d times", rank, h.called);
    CHECK(rank == 2 || strstr(h.report, ": rank 2 did not arrive\n"), "%s", h.report);
    CHECK(rank == 2 || strstr(h.report, "a step, 2 begun, backward of chunk 0"), "%s", h.report);
    CHECK(rank == 2 || strstr(h.report, "; waits in pp recv of pipeline backward"), "%s", h.report);
}

static void computes(par_transport *transport) {
    heard h = {0};
    watch(transport, FAIL_FORWARD, true, false, &h);
    CHECK(h.called == 0, "a rank that computes is blamed: %s", h.report);
}

/* Nor is one that is stopped for a moment again and again, as debuggers do that look at it. */
static void blinks(par_transport *transport) {
    const struct timespec off = {.tv_nsec = 50000000}, on = {.tv_nsec = 100000000};
    heard h = {0};
    pid_t self = getpid(), child = -1;
    volatile bool *over = mmap(NULL, sizeof *over, PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_ANONYMOUS, -1, 0); /* starts as 0 */
    if (par_transport_rank(transport) == 2) child = fork();
    while (child == 0) {
        kill(self, SIGSTOP);
        nanosleep(&off, NULL);
        kill(self, SIGCONT);
        nanosleep(&on, NULL);
        if (*over || getppid() != self) _exit(0);
    }
    watch(transport, FAIL_FORWARD, true, false, &h);
    *over = true;
    if (child > 0) waitpid(child, NULL, 0);
    munmap((void *)over, sizeof *over);
    CHECK(h.called == 0, "a rank that is stopped for moments is blamed: %s", h.report);
}

static void reads(par_transport *transport) {
    heard h = {0};
    watch(transport, FAIL_NONE, false, true, &h);
    CHECK(h.called == 0, "a rank that reads data is blamed: %s", h.report);
}

static bool said_by(const char *directory, int rank) {
    char path[64];
    snprintf(path, sizeof path, "%s/said.%d", directory, rank);
    return access(path, F_OK) == 0;
}

/* Ranks 0 and 1 start different operations; rank 2, which waits for nobody, ends it when both have
 * said so. */
static void mismatched(par_transport *transport) {
    static const par_tag tag = {"test", -1, -1, -1};
    const struct timespec pause = {.tv_nsec = 20000000};
    static const int pair[] = {0, 1};
    heard h = {0};
    char directory[] = "/tmp/par-watchdog-XXXXXX";
    int rank = par_transport_rank(transport);
    MPI_Comm comm = check_comm(transport);
    par_comm *a = NULL, *b = NULL;
    par_watchdog *w = NULL;
    if (rank == 0 && !mkdtemp(directory)) CHECK(false, "no directory");
    MPI_Bcast(directory, (int)sizeof directory, MPI_CHAR, 0, comm);
    const par_watchdog_params watched = {.directory = directory,
                                         .run = 8,
                                         .rank = rank,
                                         .size = 3,
                                         .timeout_s = TIMEOUT_S,
                                         .stalled = stalled,
                                         .user = &h};
    snprintf(h.said, sizeof h.said, "%s/said.%d", directory, rank);
    CHECK_OK(par_watchdog_create(&watched, &w));
    par_watchdog_watch(w, transport);
    MPI_Barrier(comm);
    if (rank < 2) {
        const par_comm_params first = {.axis = "a", .ranks = pair, .n = 2},
                              second = {.axis = "b", .ranks = pair, .n = 2};
        CHECK_OK(par_comm_create(transport, &first, NULL, &a));
        CHECK_OK(par_comm_create(transport, &second, NULL, &b));
        CHECK_FAILS(par_comm_barrier(rank == 0 ? a : b, tag), PAR_ERR_TRANSPORT, "rank 2: named");
        CHECK(strstr(h.report, "s: ranks 0, 1 wait for each other"), "%s", h.report);
        CHECK(strstr(h.report, "waits in a barrier of test, number 1"), "%s", h.report);
    } else {
        for (int i = 0; i < 1500 && !(said_by(directory, 0) && said_by(directory, 1)); i++)
            nanosleep(&pause, NULL);
        CHECK_FAILS(par_transport_abort(transport, PAR_ERR_IO, "named"), PAR_ERR_IO, "named");
    }
    par_watchdog_destroy(&w);
    par_comm_destroy(&b);
    par_comm_destroy(&a);
    MPI_Barrier(comm);
    if (rank == 0) par__remove_directory(directory);
    MPI_Comm_free(&comm);
}

/* Made-up pages: 4 ranks in one tp group, all in a step. */
static void group_of_four(par__seen ranks[4], par__hang *h) {
    memset(ranks, 0, 4 * sizeof *ranks);
    *h = (par__hang){.size = 4, .ranks = ranks};
    for (int r = 0; r < 4; r++) {
        par__flight *p = &ranks[r].page;
        p->phase = PAR__PHASE_STEP;
        p->wait = PAR__WAIT_GROUP;
        p->wait_number = 5;
        p->axes[0] = (par__flight_axis){"tp", 4, 0, 5, 4, 5, {{0}}};
    }
}

static void expect(par__hang *h, const char *head) {
    char text[4096];
    par__hang_find(h, -1);
    par__hang_print(h, 0, text, sizeof text);
    CHECK(strncmp(text, head, strlen(head)) == 0, "\"%s\" does not begin with \"%s\"", text, head);
}

static void pages(par_transport *transport) {
    par__seen ranks[4];
    par__hang h;
    group_of_four(ranks, &h);
    expect(&h, "ranks 0, 1, 2, 3 wait for each other: they started different operations");
    for (int r = 0; r < 4; r++)
        snprintf(ranks[r].page.host, sizeof ranks[r].page.host, "n%d", r / 2);
    expect(&h, "ranks 0, 1, 2, 3 wait for each other: nothing comes through between hosts n0 and "
               "n1, or they started different operations");
    par__hang_find(&h, 2); /* as rank 2 sees it: who waits with it is in it, too */
    CHECK(h.n_culprits == 4 && h.circle, "%d ranks wait for each other", h.n_culprits);
    strcpy(ranks[3].page.host, "n7");
    expect(&h, "ranks 0, 1, 2, 3 wait for each other: nothing comes through between some of 3 "
               "hosts, or they");
    group_of_four(ranks, &h);
    ranks[3].page.wait = PAR__WAIT_NONE; /* computes, having started it */
    expect(&h, "rank 3 did not arrive");
    ranks[1].sign = PAR__RANK_GONE; /* for good; rank 3 works */
    expect(&h, "rank 1 did not arrive");
    group_of_four(ranks, &h);
    ranks[1].sign = PAR__RANK_STOPPED;
    expect(&h, "rank 1 did not arrive");
    ranks[1].page.axes[0].axis[0] = 0; /* before it made the group */
    expect(&h, "rank 1 did not arrive");
    group_of_four(ranks, &h);
    for (int r = 0; r < 4; r++) ranks[r].page.axes[0].n = 2;
    for (int r = 2; r < 4; r++) ranks[r].page.axes[0].axis[0] = ranks[r].page.wait = 0;
    expect(&h, "ranks 0, 1 wait for each other"); /* a group without the others */
    group_of_four(ranks, &h);
    ranks[2].page.axes[0].n_collectives = 4; /* waits for rank 3, elsewhere, which is gone */
    ranks[2].page.wait = PAR__WAIT_PEER;
    ranks[2].page.wait_peer = 3;
    ranks[3].sign = PAR__RANK_GONE;
    ranks[3].page.axes[0].axis[0] = 0;
    expect(&h, "rank 3 did not arrive");
    group_of_four(ranks, &h);
    for (int r = 0; r < 4; r++) ranks[r].page.wait = PAR__WAIT_DEVICE;
    ranks[1].page.axes[0].n_collectives = 3;
    ranks[1].page.wait = PAR__WAIT_NONE;
    expect(&h, "rank 1 did not arrive");
    group_of_four(ranks, &h);
    for (int r = 0; r < 4; r++) ranks[r].page.wait = PAR__WAIT_ALL;
    ranks[2].sign = PAR__RANK_UNSEEN;
    expect(&h, "rank 2 did not arrive\n  rank 2: no page");
    group_of_four(ranks, &h);
    ranks[2].sign = PAR__RANK_GONE; /* and nobody waits yet */
    for (int r = 0; r < 4; r++) ranks[r].page.wait = PAR__WAIT_NONE;
    expect(&h, "rank 2 did not arrive\n  rank 2, host , pid 0: GONE");
}

/* The pages of four ranks whose processes are gone: who is named. */
static void expect_gone(const char *directory, const par__seen ranks[4], const char *head) {
    char path[96], text[4096];
    for (int r = 0; r < 4; r++) {
        par__page_path(path, sizeof path, directory, r);
        FILE *file = fopen(path, "wb");
        CHECK(file && fwrite(&ranks[r].page, sizeof ranks[r].page, 1, file) == 1, "%s", path);
        if (file) fclose(file);
    }
    CHECK_OK(par_watchdog_diagnose(directory, text, sizeof text));
    CHECK(strncmp(text, head, strlen(head)) == 0, "\"%s\" does not begin with \"%s\"", text, head);
}

/* All wait for each other, as at a start, and went within a second. A launcher has told all to end
 * but the one that was gone; or all; or it killed them at once. */
static void gone(par_transport *transport) {
    enum { SECOND = 1000000000 };
    char directory[] = "/tmp/par-watchdog-XXXXXX";
    par__seen ranks[4];
    par__hang h;
    (void)transport;
    pid_t process = fork();
    if (process == 0) _exit(0);
    CHECK(process > 0 && waitpid(process, NULL, 0) == process, "no process that is gone");
    if (!mkdtemp(directory)) CHECK(false, "no directory");
    group_of_four(ranks, &h);
    for (int r = 0; r < 4; r++) {
        par__flight *p = &ranks[r].page;
        memcpy(p->magic, PAR__FLIGHT_MAGIC, sizeof p->magic);
        gethostname(p->host, sizeof p->host - 1);
        p->rank = r;
        p->size = 4;
        p->pid = process;
        p->beat = (int64_t)100 * SECOND - r;
    }
    expect_gone(directory, ranks, "all ranks are gone, within a second or two, and nothing told");
    ranks[3].page.wait = PAR__WAIT_NONE; /* it worked, which says nothing */
    expect_gone(directory, ranks,
                "all ranks are gone, within a second or two, and nothing told them to end: which "
                "one was first is not known here; the launcher may have said it; rank 3 waited");
    ranks[0].page.witness = 2 + 1; /* what a watchdog saw counts */
    expect_gone(directory, ranks, "rank 2 did not arrive");
    ranks[1].page.witness = 1 + 1; /* of another host, say */
    expect_gone(directory, ranks, "all ranks are gone");
    ranks[1].page.witness = PAR__WITNESS_SEVERAL;
    expect_gone(directory, ranks, "rank 2 did not arrive");
    ranks[0].page.witness = 4 + 1; /* no rank */
    expect_gone(directory, ranks, "all ranks are gone");
    ranks[0].page.witness = 0;
    ranks[3].page.wait = PAR__WAIT_GROUP;
    ranks[1].page.beat -= 2 * (int64_t)SECOND;
    expect_gone(directory, ranks, "rank 1 did not arrive");
    ranks[1].page.beat += 2 * (int64_t)SECOND;
    for (int r = 0; r < 4; r++) ranks[r].page.told = r == 2 ? 0 : ranks[r].page.beat - SECOND;
    expect_gone(directory, ranks, "rank 2 did not arrive");
    for (int r = 0; r < 4; r++) ranks[r].page.wait = PAR__WAIT_NONE; /* all compute */
    expect_gone(directory, ranks, "rank 2 did not arrive");
    ranks[2].page.told = 7 * (int64_t)SECOND; /* long ago */
    expect_gone(directory, ranks, "rank 2 did not arrive");
    ranks[2].page.told = ranks[1].page.told;
    ranks[0].page.witness = 3 + 1; /* some rank ends first when all are told to */
    expect_gone(directory, ranks, "all ranks are gone, told to end by a signal: no rank waits");
    for (int r = 0; r < 4; r++) ranks[r].page.phase = PAR__PHASE_ENDED;
    expect_gone(directory, ranks, "no rank waits");
    par__remove_directory(directory);
}

/* Two ranks wait for each other, as pages say. While one of them moves, what the other waits for
 * may be under way; once both stand still, both are named. */
static void circle(par_transport *transport) {
    enum { LONG_S = 2 };
    const struct timespec pause = {.tv_nsec = 20000000};
    const double begin = harness_seconds();
    char directory[] = "/tmp/par-watchdog-XXXXXX", path[96];
    heard h[2] = {{0}};
    par_watchdog *w[2] = {NULL};
    par__flight *page[2];
    if (!mkdtemp(directory)) CHECK(false, "no directory");
    for (int r = 0; r < 2; r++) {
        const par_watchdog_params watched = {.directory = directory,
                                             .run = 9,
                                             .rank = r,
                                             .size = 2,
                                             .timeout_s = LONG_S,
                                             .stalled = stalled,
                                             .user = &h[r]};
        snprintf(h[r].said, sizeof h[r].said, "%s/said.%d", directory, r);
        CHECK_OK(par_watchdog_create(&watched, &w[r]));
        par__page_path(path, sizeof path, directory, r);
        int fd = open(path, O_RDWR);
        page[r] = mmap(NULL, sizeof **page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
        CHECK(page[r] != MAP_FAILED, "%s cannot be mapped", path);
        page[r]->phase = PAR__PHASE_STEP;
        par__flight_wait(page[r], PAR__WAIT_PEER, -1, 1 - r, 0);
    }
    while (harness_seconds() - begin < 1.8 * LONG_S) {
        nanosleep(&pause, NULL);
        __atomic_add_fetch(&page[0]->progress, 1, __ATOMIC_RELAXED);
    }
    CHECK(!said_by(directory, 1), "rank 1 is said to wait in a circle of which rank 0 moves");
    for (int i = 0; i < 500 && !said_by(directory, 0); i++) nanosleep(&pause, NULL);
    for (int r = 0; r < 2; r++) {
        munmap(page[r], sizeof **page);
        par_watchdog_destroy(&w[r]);
    }
    CHECK(strstr(h[0].report, "s: ranks 0, 1 wait for each other"), "%s", h[0].report);
    par__remove_directory(directory);
}

/* ---- who was gone first ---- */

typedef struct {
    char directory[32];
    pid_t process[4];
    int word[4]; /* a byte here ends the process by itself */
} four;

static void begin_four(four *f) {
    int pipes[2];
    strcpy(f->directory, "/tmp/par-watchdog-XXXXXX");
    if (!mkdtemp(f->directory)) CHECK(false, "no directory");
    for (int r = 0; r < 4; r++) {
        const par_watchdog_params watched = {
            .directory = f->directory, .run = 9, .rank = r, .size = 4, .timeout_s = 1};
        par_watchdog *w = NULL;
        char byte;
        CHECK(pipe(pipes) == 0, "no pipe");
        f->word[r] = pipes[1];
        f->process[r] = fork();
        if (f->process[r] == 0) {
            if (par_watchdog_create(&watched, &w) == PAR_OK && read(pipes[0], &byte, 1) == 1)
                par_watchdog_destroy(&w);
            _exit(0);
        }
        close(pipes[0]);
    }
}

/* All of these ranks, one bit each, come to watch all others, and to have that on their page. */
static void wait_four(const four *f, int ranks, int64_t witness) {
    const struct timespec pause = {.tv_nsec = 10000000};
    par__flight page = {0};
    for (int r = 0; r < 4; r++) {
        bool good = !(ranks >> r & 1);
        for (int i = 0; i < 1000 && !good; i++) {
            good = par__page_read(f->directory, r, 9, &page) && page.n_watched == 4 &&
                   page.witness == witness;
            if (!good) nanosleep(&pause, NULL);
        }
        CHECK(good, "rank %d watches %lld, and has seen %lld, not %lld", r,
              (long long)page.n_watched, (long long)page.witness, (long long)witness);
    }
}

static void end_four(four *f, int r, int number) {
    if (number)
        kill(f->process[r], number);
    else
        CHECK(write(f->word[r], "", 1) == 1, "rank %d hears nothing", r);
    waitpid(f->process[r], NULL, 0);
}

/* Four processes; one is killed, and its peers when they have seen it. Then, with one that ended by
 * itself before; and two that are gone at one look. */
static void witness(par_transport *transport) {
    static const int left[3] = {1 | 2 | 8, 1 | 8, 1 | 2}; /* a bit per rank */
    char text[4096];
    (void)transport;
    for (int kind = 0; kind < 3 && !harness_failed(); kind++) {
        four f;
        begin_four(&f);
        wait_four(&f, 15, 0);
        if (kind == 1) end_four(&f, 1, 0), wait_four(&f, 13, 0);
        for (int r = 0; kind == 2 && r < 4; r++) {
            if (r == 2) continue;
            kill(f.process[r], SIGSTOP);
            waitpid(f.process[r], NULL, WUNTRACED);
        }
        if (kind == 2) end_four(&f, 3, SIGKILL);
        end_four(&f, 2, SIGKILL);
        if (kind == 2) kill(f.process[0], SIGCONT), kill(f.process[1], SIGCONT);
        wait_four(&f, left[kind], kind == 2 ? PAR__WITNESS_SEVERAL : 2 + 1);
        for (int r = 0; r < 4; r++) {
            if (left[kind] >> r & 1) end_four(&f, r, SIGKILL);
            close(f.word[r]);
        }
        CHECK_OK(par_watchdog_diagnose(f.directory, text, sizeof text));
        bool named = strncmp(text, "rank 2 did not arrive\n  rank 2, ", 32) == 0;
        CHECK(kind == 2 || named, "kind %d: %s", kind, text);
        par__remove_directory(f.directory);
    }
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {.name = "pages", .ranks = 1, .run_mpi = pages},
        {.name = "gone", .ranks = 1, .run_mpi = gone},
        {.name = "witness", .ranks = 1, .run_mpi = witness},
        {.name = "circle", .ranks = 1, .run_mpi = circle},
        {.name = "sleeps", .ranks = 4, .run_mpi = sleeps},
        {.name = "computes", .ranks = 4, .run_mpi = computes},
        {.name = "blinks", .ranks = 4, .run_mpi = blinks},
        {.name = "reads", .ranks = 4, .run_mpi = reads},
        {.name = "mismatched", .ranks = 3, .run_mpi = mismatched},
    };
    return harness_main_mpi("watchdog", cases, HARNESS_COUNT(cases), argc, argv);
}
