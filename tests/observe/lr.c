/* Learning rates against closed forms: values at the joints, straight lines by differences, bounds
 * between. */
#include <math.h>
#include <string.h>

#include "../harness.h"
#include "par/train.h"

enum { WARMUP = 10, TOTAL = 110, DECAY = 40 };
static const double top = 3e-4, low = 3e-5;

/* A handful of operations on numbers of this size: 1e-12 of lr is above 100 roundings. */
static void equal(const char *what, int64_t step, double ours, double closed) {
    CHECK(fabs(ours - closed) <= 1e-12 * top, "%s at step %lld: %.17g instead of %.17g", what,
          (long long)step, ours, closed);
}

typedef double (*rate)(int64_t step);
static double cosine(int64_t step) {
    return par_lr_cosine(step, top, low, WARMUP, TOTAL);
}
static double linear(int64_t step) {
    return par_lr_linear(step, top, low, WARMUP, TOTAL);
}
static double wsd(int64_t step) {
    return par_lr_wsd(step, top, low, WARMUP, TOTAL, DECAY);
}
static double constant(int64_t step) {
    return par_lr_constant(step, top, WARMUP);
}

static const struct {
    const char *name;
    rate of;
    double middle, last, after; /* at step 60, 110, 500 */
} table[] = {
    {"cosine", cosine, 0.5 * (3e-4 + 3e-5), 3e-5, 3e-5}, /* cos(pi / 2) = 0 */
    {"linear", linear, 0.5 * (3e-4 + 3e-5), 3e-5, 3e-5},
    {"wsd", wsd, 3e-4, 3e-5, 3e-5},
    {"constant", constant, 3e-4, 3e-4, 3e-4},
};

static void run_joints(void) {
    for (int i = 0; i < 4; i++) {
        for (int64_t step = 1; step <= WARMUP; step++)
            equal(table[i].name, step, table[i].of(step), top * (double)step / WARMUP);
        equal(table[i].name, 60, table[i].of(60), table[i].middle);
        equal(table[i].name, TOTAL, table[i].of(TOTAL), table[i].last);
        equal(table[i].name, 500, table[i].of(500), table[i].after);
    }
}

/* Never above lr, below min_lr or rising, once warm. */
static void run_monotone(void) {
    for (int i = 0; i < 4; i++)
        for (int64_t step = WARMUP; step < TOTAL; step++) {
            double here = table[i].of(step), next = table[i].of(step + 1);
            CHECK(next <= here && here <= top && next >= low, "%s at step %lld: %g, then %g",
                  table[i].name, (long long)step, here, next);
        }
}

static void run_lines(void) {
    for (int64_t step = WARMUP; step < TOTAL; step++)
        equal("linear's difference", step, linear(step) - linear(step + 1),
              (top - low) / (TOTAL - WARMUP));
    for (int64_t step = WARMUP; step <= TOTAL - DECAY; step++)
        equal("wsd, stable", step, wsd(step), top);
    for (int64_t step = TOTAL - DECAY; step < TOTAL; step++)
        equal("wsd's difference", step, wsd(step) - wsd(step + 1), (top - low) / DECAY);
}

static void run_edges(void) {
    equal("no warm-up", 1, par_lr_constant(1, top, 0), top);
    equal("no decay", TOTAL, par_lr_wsd(TOTAL, top, low, WARMUP, TOTAL, 0), top);
    equal("no decay, after", 500, par_lr_wsd(500, top, low, WARMUP, TOTAL, 0), top);
    equal("all decay", 60, par_lr_wsd(60, top, low, WARMUP, TOTAL, TOTAL - WARMUP), linear(60));
    equal("all warm-up", 20, par_lr_linear(20, top, low, 20, 20), top);
    equal("after all warm-up", 21, par_lr_linear(21, top, low, 20, 20), low);
}

static const harness_case cases[] = {
    {"joints", run_joints, 0, NULL, 0},
    {"monotone", run_monotone, 0, NULL, 0},
    {"lines", run_lines, 0, NULL, 0},
    {"edges", run_edges, 0, NULL, 0},
};

int main(int argc, char **argv) {
    return harness_main("lr", cases, HARNESS_COUNT(cases), argc, argv);
}
