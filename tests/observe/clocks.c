/*
 * Clocks of ranks that are not rank 0's: an offset and a drift of each are planted, and found
 * within the error that is stated, also where an answer takes longer one way than the other; what
 * ranks did one after another is in that order on rank 0's clock.
 */
#include <stdlib.h>
#include <string.h>

#include "../harness.h"
#include "libpar/base/clock.h"
#include "libpar/observe/timeline.h"
#include "par/timeline.h"

enum { RANKS = 4, ROUNDS = 50 };
static const par_tag tag = {"test", -1, -1, -1};

/* This rank's clock: ahead by `offset` at `epoch`, faster by `drift`; asked, it takes `before`
 * until it looks and `behind` after that. Nanoseconds. */
static struct {
    int64_t epoch, offset, before, behind;
    double drift;
} planted;

static int64_t at(int64_t ns) {
    return ns + planted.offset + (int64_t)(planted.drift * (double)(ns - planted.epoch));
}

static void pass(int64_t ns) {
    for (int64_t end = par__nanoseconds() + ns; ns > 0 && par__nanoseconds() < end;) continue;
}

static int64_t clock_of_rank(void) {
    pass(planted.before);
    int64_t now = at(par__nanoseconds());
    pass(planted.behind);
    return now;
}

/* Every rank knows what is planted on the others: all run on one system's clock. */
static void plant(int rank, int64_t epoch, double drift) {
    static const int64_t offsets[RANKS] = {0, 7000000000, -3000000123, 250000000};
    planted.epoch = epoch;
    planted.offset = offsets[rank];
    planted.drift = rank % 2 ? drift : -drift / 2;
    if (rank == 0) planted.drift = 0;
    planted.before = planted.behind = 0;
}

static void open_world(par_transport *t, par_comm **world, int64_t *epoch) {
    *epoch = par__nanoseconds();
    CHECK_OK(par_comm_create(t, &(par_comm_params){.axis = "world"}, NULL, world));
    if (*world) CHECK_OK(par_comm_broadcast(*world, epoch, 1, PAR_I64, 0, tag, NULL, NULL));
}

/* How far a sample is from what is planted on its rank. */
static int64_t wrong_by(int rank, int64_t epoch, double drift, const par__clock_reading *s) {
    plant(rank, epoch, drift);
    int64_t elapsed = s->at_ns - planted.offset - epoch; /* of this rank's clock */
    int64_t offset =
        planted.offset + (int64_t)((double)elapsed * planted.drift / (1 + planted.drift));
    return s->offset_ns - offset;
}

/* No delay, one before the clock is looked at, one behind. */
static void offsets(par_transport *t) {
    static const int64_t delays[3][2] = {{0, 0}, {400000, 0}, {0, 400000}};
    const double drift = 1e-4;
    par_comm *world = NULL;
    int64_t epoch;
    int rank = par_transport_rank(t);
    open_world(t, &world, &epoch);
    for (int k = 0; world && k < 3; k++) {
        par__clock_reading found[RANKS] = {{0}};
        plant(rank, epoch, drift);
        planted.before = rank ? delays[k][0] : 0;
        planted.behind = rank ? delays[k][1] : 0;
        CHECK_OK(par__clocks_compare(world, clock_of_rank, found));
        for (int r = 1; rank == 0 && r < RANKS; r++) {
            int64_t delay = delays[k][0] + delays[k][1];
            int64_t wrong = wrong_by(r, epoch, drift, &found[r]);
            CHECK(llabs(wrong) <= found[r].error_ns, "rank %d: wrong by %lld ns, %lld are stated",
                  r, (long long)wrong, (long long)found[r].error_ns);
            CHECK(found[r].error_ns >= delay / 2, "rank %d: %lld ns are stated, %lld of a trip", r,
                  (long long)found[r].error_ns, (long long)delay);
        }
        plant(0, epoch, 0);
    }
    par_comm_destroy(&world);
}

/* A turn of each rank after the other, as spans on their own clocks. */
static par_status take_turns(par_comm *world, par_timeline *timeline) {
    int rank = par_comm_rank(world), size = par_comm_size(world);
    int32_t token = 0;
    for (int i = 0; i < ROUNDS; i++) {
        if (rank > 0 || i > 0)
            PAR_TRY(par_comm_recv(world, &token, 1, PAR_I32, (rank + size - 1) % size, tag, NULL,
                                  NULL));
        int64_t begin = clock_of_rank();
        pass(20000);
        const par__event turn = {.begin_ns = begin,
                                 .end_ns = clock_of_rank(),
                                 .name = "turn",
                                 .number = i * size + rank,
                                 .kind = PAR__EVENT_USER,
                                 .peer = -1,
                                 .layer = -1,
                                 .chunk = -1,
                                 .micro = -1};
        par__timeline_put(timeline, &turn);
        if (rank < size - 1 || i < ROUNDS - 1)
            PAR_TRY(par_comm_send(world, &token, 1, PAR_I32, (rank + 1) % size, tag, NULL, NULL));
    }
    return PAR_OK;
}

static par_status compare(par_comm *world, par_timeline *timeline, par__clock_reading *out) {
    timeline->n_aligned++;
    return par__clocks_compare(world, clock_of_rank, out);
}

/* On rank 0: where each turn lies by rank 0's clock, from one end to the other. */
static void check_turns(const par__traces *traces, int64_t *n_seen) {
    static int64_t begin[RANKS * ROUNDS], end[RANKS * ROUNDS];
    int64_t error[RANKS] = {0};
    for (int r = 0; r < traces->n_ranks; r++) {
        const par__rank_spans *of = &traces->ranks[r];
        error[r] =
            of->before.error_ns > of->after.error_ns ? of->before.error_ns : of->after.error_ns;
        CHECK(r == 0 || error[r] > 0, "rank %d has rank 0's clock", r);
        for (int64_t i = 0; i < of->n; i++, ++*n_seen) {
            begin[of->spans[i].number] = of->spans[i].begin_ns;
            end[of->spans[i].number] = of->spans[i].end_ns;
        }
    }
    for (int i = 1; i < RANKS * ROUNDS; i++) {
        int64_t bound = error[i % RANKS] + error[(i - 1) % RANKS] + 100; /* 100: roundings */
        CHECK(begin[i] >= end[i - 1] - bound, "turn %d begins %lld ns before the one ahead ends", i,
              (long long)(end[i - 1] - begin[i]));
        CHECK(end[i] - begin[i] >= 19000, "turn %d is %lld ns long", i,
              (long long)(end[i] - begin[i]));
    }
}

/* 1 % of drift, which a clock never has: in the second that this takes it is far more than the
 * error. */
static void turns(par_transport *t) {
    const double drift = 1e-2;
    par_comm *world = NULL;
    par_timeline *timeline = NULL;
    par__traces traces = {0};
    int64_t epoch, n_seen = 0;
    int rank = par_transport_rank(t);
    open_world(t, &world, &epoch);
    CHECK_OK(par_timeline_create(ROUNDS, &timeline));
    if (harness_failed()) return;
    plant(rank, epoch, drift);
    timeline->before = calloc(RANKS, sizeof *timeline->before);
    timeline->after = calloc(RANKS, sizeof *timeline->after);
    timeline->n_clocks = RANKS;
    CHECK_OK(compare(world, timeline, timeline->before));
    CHECK_OK(take_turns(world, timeline));
    CHECK_OK(compare(world, timeline, timeline->after));
    plant(0, epoch, 0);
    CHECK_OK(par__traces_gather(timeline, world, NULL, &traces));
    if (rank == 0) check_turns(&traces, &n_seen);
    CHECK(rank != 0 || n_seen == RANKS * ROUNDS, "%lld turns", (long long)n_seen);
    par__traces_free(&traces);
    par_timeline_destroy(&timeline);
    par_comm_destroy(&world);
}

/* One system, one clock: no offset and no error, of a few trips. */
static void same_clock(par_transport *t) {
    par__clock_reading found[RANKS] = {{0}};
    par_comm *world = NULL;
    int64_t epoch;
    open_world(t, &world, &epoch);
    CHECK_OK(par__clocks_compare(world, par__nanoseconds, found));
    for (int r = 1; par_transport_rank(t) == 0 && r < RANKS; r++)
        CHECK(found[r].offset_ns == 0 && found[r].error_ns == 0, "rank %d: %lld ns, error %lld", r,
              (long long)found[r].offset_ns, (long long)found[r].error_ns);
    par_comm_destroy(&world);
}

/* A program's own spans: each stands behind those within it, and the ring keeps the newest. */
static void own_spans(par_transport *t) {
    par_timeline *timeline = NULL;
    CHECK_OK(par_timeline_create(4, &timeline));
    if (harness_failed()) return;
    par_timeline_begin(NULL, "nowhere");
    par_timeline_end(NULL);
    par_timeline_end(timeline); /* none was begun */
    par_timeline_begin(timeline, "outer");
    par_timeline_begin(timeline, "inner");
    par_timeline_end(timeline);
    par_timeline_end(timeline);
    const par__event *e = timeline->events;
    CHECK(par_timeline_kept(timeline) == 2 && par_timeline_dropped(timeline) == 0, "%lld spans",
          (long long)par_timeline_kept(timeline));
    CHECK(!strcmp(e[0].name, "inner") && !strcmp(e[1].name, "outer") &&
              e[1].begin_ns <= e[0].begin_ns && e[0].end_ns <= e[1].end_ns,
          "\"%s\" lies not within \"%s\"", e[0].name, e[1].name);
    for (int i = 0; i < 20; i++) par_timeline_begin(timeline, "deep"); /* 16 are recorded */
    for (int i = 0; i < 20; i++) par_timeline_end(timeline);
    CHECK(par_timeline_kept(timeline) == 4 && par_timeline_dropped(timeline) == 14,
          "%lld spans are kept, %lld dropped", (long long)par_timeline_kept(timeline),
          (long long)par_timeline_dropped(timeline));
    par_timeline_destroy(&timeline);
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {{"offsets", NULL, RANKS, offsets, 0},
                                         {"turns", NULL, RANKS, turns, 0},
                                         {"same-clock", NULL, RANKS, same_clock, 0},
                                         {"own-spans", NULL, 1, own_spans, 0}};
    return harness_main_mpi("clocks", cases, HARNESS_COUNT(cases), argc, argv);
}
