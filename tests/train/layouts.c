/*
 * Every layout of 8 ranks gives the training of one rank: the same initial bits, gradients, losses,
 * norms and weights.
 *
 * All ten (tp, pp, dp) of powers of two with product 8, each with three settings chosen so that
 * every legal pair of values of (layout, schedule, zero, recompute, sequence parallel, model)
 * occurs; the case "pairs" proves that.
 */
#include <stdio.h>
#include <string.h>

#include "../harness.h"
#include "layouts.h"

enum { LAYOUTS = 10, SETTINGS = 3 };
static const int layouts[LAYOUTS][3] = {{8, 1, 1}, {4, 2, 1}, {4, 1, 2}, {2, 4, 1}, {2, 2, 2},
                                        {2, 1, 4}, {1, 8, 1}, {1, 4, 2}, {1, 2, 4}, {1, 1, 8}};

/* Interleaving needs pp of at least 2, two modules a part (8 modules in all), and micro-batches in
 * multiples of pp. */
static bool can_interleave(int pp, int dp) {
    return pp >= 2 && 2 * pp <= 8 && 8 / dp % pp == 0;
}

static layouts_setting setting(int layout, int k) {
    static const par_schedule_kind kinds[] = {PAR_SCHEDULE_GPIPE, PAR_SCHEDULE_1F1B,
                                              PAR_SCHEDULE_INTERLEAVED};
    const int *l = layouts[layout];
    layouts_setting s = {.tp = l[0], .pp = l[1], .dp = l[2], .chunks = 1, .micro_batch = 1};
    if (s.tp >= 4) s.micro_batch = s.tp / 2; /* fewer, larger collectives */
    s.schedule = kinds[(layout + k) % 3];
    if (s.schedule == PAR_SCHEDULE_INTERLEAVED && can_interleave(s.pp, s.dp))
        s.chunks = 2;
    else if (s.schedule == PAR_SCHEDULE_INTERLEAVED)
        s.schedule = kinds[layout % 2];
    s.zero = (layout / 2 + k) % 2;
    s.recompute = (par_recompute)k;
    s.no_sequence_parallel = s.tp > 1 && (k + (layout + 1) / 2) % 3 == 1;
    return s;
}

static bool is_llama(int layout, int k) {
    return (layout % 4 < 2) == (k < 2);
}

static void run_layout(par_transport *transport, int layout) {
    bool good = true;
    for (int k = 0; k < SETTINGS && good; k++) {
        layouts_setting s = setting(layout, k);
        layouts_problem problem = {.family = is_llama(layout, k) ? CHECK_LLAMA : CHECK_GPT,
                                   .optimizer = PAR_SGD,
                                   .batch = 8,
                                   .steps = 20};
        good = layouts_compare(transport, &problem, &s, k == 0);
        problem.optimizer = PAR_ADAMW;
        if (good) good = layouts_compare(transport, &problem, &s, false);
    }
}

static void run_811(par_transport *t) {
    run_layout(t, 0);
}
static void run_421(par_transport *t) {
    run_layout(t, 1);
}
static void run_412(par_transport *t) {
    run_layout(t, 2);
}
static void run_241(par_transport *t) {
    run_layout(t, 3);
}
static void run_222(par_transport *t) {
    run_layout(t, 4);
}
static void run_214(par_transport *t) {
    run_layout(t, 5);
}
static void run_181(par_transport *t) {
    run_layout(t, 6);
}
static void run_142(par_transport *t) {
    run_layout(t, 7);
}
static void run_124(par_transport *t) {
    run_layout(t, 8);
}
static void run_118(par_transport *t) {
    run_layout(t, 9);
}

/* Dropout bits are a function of sample, token and channel or head: layouts agree with dropout as
 * without. */
static void run_dropout(par_transport *transport) {
    static const int which[] = {0, 4, 7, 9};
    bool good = true;
    for (int i = 0; i < 4 && good; i++) {
        layouts_problem problem = {.family = i % 2 ? CHECK_LLAMA : CHECK_GPT,
                                   .optimizer = PAR_SGD,
                                   .dropout = 0.2f,
                                   .batch = 8,
                                   .steps = 5};
        layouts_setting s = setting(which[i], i % 3);
        good = layouts_compare(transport, &problem, &s, false);
    }
}

/* Biases and norms of q and k: KV heads copied (tp 8 and 4 of 2), sequence parallel and not, every
 * recompute. */
static void run_qwen(par_transport *transport) {
    static const int which[][2] = {{0, 0}, {1, 1}, {3, 2}, {4, 1}, {7, 0}};
    const layouts_problem problem = {
        .family = CHECK_QWEN, .optimizer = PAR_SGD, .batch = 8, .steps = 5};
    for (int i = 0; i < HARNESS_COUNT(which); i++) {
        layouts_setting s = setting(which[i][0], which[i][1]);
        if (!layouts_compare(transport, &problem, &s, false)) return;
    }
}

/* Two stages with a transfer on each side, and many. */
static void run_eager(par_transport *transport) {
    static const layouts_setting settings[] = {
        {.tp = 2, .pp = 2, .dp = 2, .schedule = PAR_SCHEDULE_EAGER_1F1B, .zero = 1},
        {.tp = 1, .pp = 8, .dp = 1, .schedule = PAR_SCHEDULE_EAGER_1F1B}};
    layouts_problem problem = {.family = CHECK_GPT, .optimizer = PAR_SGD, .batch = 8, .steps = 5};
    for (int i = 0; i < HARNESS_COUNT(settings); i++) {
        layouts_setting s = settings[i];
        s.chunks = s.micro_batch = 1;
        if (!layouts_compare(transport, &problem, &s, true)) return;
    }
}

/* Factors of a setting as numbers: layout, schedule, zero, recompute, sequence parallel, model. */
enum { FACTORS = 6 };
static const int values[FACTORS] = {LAYOUTS, 3, 2, 3, 2, 2};

static void factors(int layout, int k, int f[FACTORS]) {
    layouts_setting s = setting(layout, k);
    int all[FACTORS] = {layout,           (int)s.schedule,        s.zero,
                        (int)s.recompute, s.no_sequence_parallel, is_llama(layout, k)};
    memcpy(f, all, sizeof all);
}

static bool legal_pair(int i, int a, int j, int b) {
    if (i != 0) return true;
    if (j == 1 && b == PAR_SCHEDULE_INTERLEAVED)
        return can_interleave(layouts[a][1], layouts[a][2]);
    if (j == 1) return layouts[a][1] > 1; /* with one stage gpipe and 1f1b are the same list */
    if (j == 4) return layouts[a][0] > 1 || b == 0;
    return true;
}

static bool occurs(int i, int a, int j, int b) {
    for (int layout = 0; layout < LAYOUTS; layout++)
        for (int k = 0; k < SETTINGS; k++) {
            int f[FACTORS];
            factors(layout, k, f);
            if (f[i] == a && f[j] == b) return true;
        }
    return false;
}

static void run_pairs(par_transport *transport) {
    static const char *const names[FACTORS] = {
        "layout", "schedule", "zero", "recompute", "no sequence parallel", "llama"};
    for (int i = 0; i < FACTORS; i++)
        for (int j = i + 1; j < FACTORS; j++)
            for (int a = 0; a < values[i]; a++)
                for (int b = 0; b < values[j]; b++)
                    CHECK(!legal_pair(i, a, j, b) || occurs(i, a, j, b),
                          "no setting has %s %d with %s %d", names[i], a, names[j], b);
}

static const harness_case cases[] = {
    {"pairs", NULL, 1, run_pairs, 0},       {"tp8-pp1-dp1", NULL, 8, run_811, 240},
    {"tp4-pp2-dp1", NULL, 8, run_421, 240}, {"tp4-pp1-dp2", NULL, 8, run_412, 240},
    {"tp2-pp4-dp1", NULL, 8, run_241, 240}, {"tp2-pp2-dp2", NULL, 8, run_222, 240},
    {"tp2-pp1-dp4", NULL, 8, run_214, 240}, {"tp1-pp8-dp1", NULL, 8, run_181, 240},
    {"tp1-pp4-dp2", NULL, 8, run_142, 240}, {"tp1-pp2-dp4", NULL, 8, run_124, 240},
    {"tp1-pp1-dp8", NULL, 8, run_118, 240}, {"dropout", NULL, 8, run_dropout, 240},
    {"qwen", NULL, 8, run_qwen, 240},       {"eager-1f1b", NULL, 8, run_eager, 240},
};

int main(int argc, char **argv) {
    return harness_main_mpi("layouts", cases, HARNESS_COUNT(cases), argc, argv);
}
