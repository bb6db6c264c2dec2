/*
 * Times of ranks: minimum, median, maximum and their rank are those that were added; a rank is
 * named when it was slow for three rounds in a row, not before, and not after one that was good; a
 * stage with more work is not slow.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../harness.h"
#include "par/health.h"

typedef struct {
    char text[1 << 14];
} output;

static void keep(void *user, const char *line) {
    output *out = user;
    size_t n = strlen(out->text);
    snprintf(out->text + n, sizeof out->text - n, "%s\n", line);
}

enum { STEPS = 5 };

/* A round of STEPS steps in which work takes this rank `work` seconds each. */
static void pass(par_health *h, int64_t round, double work, par_health_round *out) {
    const double seconds[PAR_HEALTH_TIMES] = {1, work / 3, 2 * work / 3, 1 - work, work};
    for (int i = 0; i < STEPS; i++) par_health_add(h, seconds);
    CHECK_OK(par_health_gather(h, round * STEPS, out));
}

static void data_parallel(par_transport *transport) {
    static const par_layout layout = {
        .size = {[PAR_TP] = 1, [PAR_CP] = 1, [PAR_DP] = 4, [PAR_PP] = 1}, .kv_replicas = 1};
    par_comm *world = NULL;
    par_health *h = NULL;
    par_health_round round;
    static output out;
    int rank = par_transport_rank(transport);
    CHECK_OK(par_comm_create(transport, &(par_comm_params){.axis = "world"}, NULL, &world));
    CHECK_OK(par_health_create(world, &layout, 0, 0, &h));
    if (harness_failed()) return;
    /* rank 2 is twice as slow but in round 3; rank 1 a little slower, never slow */
    for (int i = 1; i <= 7; i++) {
        double work = 0.2 + 0.01 * rank;
        if (rank == 1) work = 0.25;
        if (rank == 2 && i != 3) work = 0.5;
        pass(h, i, work, &round);
        if (rank != 0) continue;
        const par_health_spread *s = &round.spread[PAR_HEALTH_WORK];
        CHECK(round.step == i * STEPS && round.n_steps == STEPS, "steps of round %d", i);
        CHECK(fabs(s->min - 0.2) < 1e-12 && s->slowest == (i == 3 ? 1 : 2), "round %d: %g, rank %d",
              i, s->min, s->slowest);
        CHECK(fabs(s->median - (i == 3 ? 0.22 : 0.23)) < 1e-12, "round %d: median %g", i,
              s->median);
        CHECK(fabs(round.spread[PAR_HEALTH_WAIT].max - 0.8) < 1e-12, "the longest wait");
        int n = i >= 6;
        CHECK(round.n_slow == n && round.news == (i == 6), "round %d: %d slow", i, round.n_slow);
        if (n) CHECK(round.slow[0].rank == 2 && round.slow[0].rounds == i - 3, "who is slow");
        if (n) CHECK(fabs(round.slow[0].factor - 0.5 / 0.23) < 1e-9, "%g", round.slow[0].factor);
    }
    CHECK(*par_health_host(h, 3), "no host's name");
    par_health_print(h, keep, &out);
    CHECK(!!strstr(out.text, "slow: rank 2 on ") == (rank == 0), "rank %d: %s", rank, out.text);
    CHECK(rank != 0 || strstr(out.text, "over 35 steps"), "%s", out.text);
    par_health_destroy(&h);
    par_comm_destroy(&world);
}

static void stages(par_transport *transport) {
    static const par_layout layout = {
        .size = {[PAR_TP] = 1, [PAR_CP] = 1, [PAR_DP] = 2, [PAR_PP] = 2}, .kv_replicas = 1};
    par_comm *world = NULL;
    par_health *h = NULL;
    par_health_round round;
    int rank = par_transport_rank(transport), coordinate[PAR_AXIS_COUNT];
    par_layout_coordinates(&layout, rank, coordinate);
    CHECK_OK(par_comm_create(transport, &(par_comm_params){.axis = "world"}, NULL, &world));
    CHECK_OK(par_health_create(world, &layout, 1.2, 2, &h));
    if (harness_failed()) return;
    for (int i = 1; i <= 4; i++) pass(h, i, coordinate[PAR_PP] ? 0.6 : 0.1, &round);
    CHECK(rank != 0 || round.n_slow == 0, "a stage with more work is slow");
    for (int i = 5; i <= 6; i++)
        pass(h, i, coordinate[PAR_PP] ? 0.6 + 0.2 * coordinate[PAR_DP] : 0.1, &round);
    CHECK(rank != 0 || (round.n_slow == 1 && round.slow[0].rank == 3), "%d slow, rank %d",
          round.n_slow, round.slow[0].rank);
    par_health_destroy(&h);
    par_comm_destroy(&world);
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {{"data-parallel", NULL, 4, data_parallel, 0},
                                         {"stages", NULL, 4, stages, 0}};
    return harness_main_mpi("health", cases, HARNESS_COUNT(cases), argc, argv);
}
