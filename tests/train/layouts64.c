/* 64 ranks against one: tp 2, pp 4, dp 8, as the first command of the README, and tp 4, pp 4, dp 4
 * interleaved. */
#include "../harness.h"
#include "layouts.h"

static void run_2_4_8(par_transport *transport) {
    const layouts_problem problem = {.optimizer = PAR_SGD, .batch = 32, .steps = 3};
    const layouts_setting s = {.tp = 2,
                               .pp = 4,
                               .dp = 8,
                               .schedule = PAR_SCHEDULE_1F1B,
                               .chunks = 1,
                               .zero = 1,
                               .micro_batch = 1};
    layouts_compare(transport, &problem, &s, false);
}

static void run_4_4_4(par_transport *transport) {
    const layouts_problem problem = {
        .family = CHECK_LLAMA, .optimizer = PAR_SGD, .batch = 32, .steps = 3};
    const layouts_setting s = {.tp = 4,
                               .pp = 4,
                               .dp = 4,
                               .schedule = PAR_SCHEDULE_INTERLEAVED,
                               .chunks = 2,
                               .recompute = PAR_RECOMPUTE_SELECTIVE,
                               .micro_batch = 2};
    layouts_compare(transport, &problem, &s, false);
}

static const harness_case cases[] = {
    {"tp2-pp4-dp8", NULL, 64, run_2_4_8, 300},
    {"tp4-pp4-dp4", NULL, 64, run_4_4_4, 300},
};

int main(int argc, char **argv) {
    return harness_main_mpi("layouts64", cases, HARNESS_COUNT(cases), argc, argv);
}
