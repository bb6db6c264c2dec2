/*
 * Lesson 4: pipeline schedules are data.
 *
 *     build/examples/04_pipeline [stages [micro-batches [chunks]]]
 *
 * Makes the lists of all stages, proves them with the checker, and draws what a step looks like and
 * how large its bubble is. Needs neither MPI nor a model.
 */
#include <stdio.h>
#include <stdlib.h>

#include "par/par.h"

enum { MAX_STAGES = 64 };

static par_status draw(par_schedule *const *schedules, int p, int m, int v,
                       par_schedule_kind kind) {
    static char text[65536];
    const par_schedule_cost cost = {.forward = v, .backward = 2 * v, .transfer = 0};
    double total, bubble;
    PAR_TRY(par_schedule_check(schedules, p));
    PAR_TRY(par_schedule_simulate(schedules, p, &cost, &total, &bubble));
    PAR_TRY(par_schedule_gantt(schedules, p, &cost, 160, text, sizeof text));
    printf("%s: %d stages, %d micro-batches, %d chunks per stage; bubble %.3f, ideal %.3f\n%s\n",
           par_schedule_kind_name(kind), p, m, v, bubble, par_schedule_ideal_bubble(kind, p, m, v),
           text);
    return PAR_OK;
}

static par_status show(par_schedule_kind kind, int p, int m, int v) {
    par_schedule *schedules[MAX_STAGES] = {0};
    par_status st = PAR_OK;
    for (int stage = 0; stage < p && st == PAR_OK; stage++) {
        const par_schedule_params params = {.kind = kind, .p = p, .m = m, .v = v, .stage = stage};
        st = par_schedule_create(&params, &schedules[stage]);
    }
    if (st == PAR_OK) st = draw(schedules, p, m, v, kind);
    for (int stage = 0; stage < p; stage++) par_schedule_destroy(&schedules[stage]);
    return st;
}

static int argument(int argc, char **argv, int i, int otherwise) {
    return argc > i ? atoi(argv[i]) : otherwise;
}

int main(int argc, char **argv) {
    int p = argument(argc, argv, 1, 4), m = argument(argc, argv, 2, 8),
        v = argument(argc, argv, 3, 2);
    if (p < 1 || p > MAX_STAGES || m < 1 || v < 1) {
        fprintf(stderr, "04_pipeline: stages must be 1..%d, micro-batches and chunks at least 1\n",
                MAX_STAGES);
        return 2;
    }
    par_status st = show(PAR_SCHEDULE_GPIPE, p, m, 1);
    if (st == PAR_OK) st = show(PAR_SCHEDULE_1F1B, p, m, 1);
    if (st == PAR_OK && v > 1) st = show(PAR_SCHEDULE_INTERLEAVED, p, m, v);
    if (st != PAR_OK) fprintf(stderr, "04_pipeline: %s: %s\n", par_status_text(st), par_error());
    return st != PAR_OK;
}
