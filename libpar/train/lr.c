/*
 * Learning rates as pure functions of the step, which counts from 1. All begin with a linear
 * warm-up; what is left of a run after it is cut by the closed forms in par/train.h, so that a
 * resumed run needs no state.
 */
#include <math.h>

#include "par/train.h"

static bool warming(int64_t step, int64_t warmup) {
    return warmup > 0 && step <= warmup;
}

static double warm(int64_t step, double lr, int64_t warmup) {
    return lr * (double)step / (double)warmup;
}

double par_lr_cosine(int64_t step, double lr, double min_lr, int64_t warmup, int64_t total) {
    const double pi = 3.14159265358979323846;
    if (warming(step, warmup)) return warm(step, lr, warmup);
    if (step >= total || total <= warmup) return min_lr;
    double done = (double)(step - warmup) / (double)(total - warmup);
    return min_lr + 0.5 * (lr - min_lr) * (1 + cos(pi * done));
}

double par_lr_linear(int64_t step, double lr, double min_lr, int64_t warmup, int64_t total) {
    if (warming(step, warmup)) return warm(step, lr, warmup);
    if (step >= total || total <= warmup) return min_lr;
    return min_lr + (lr - min_lr) * (double)(total - step) / (double)(total - warmup);
}

double par_lr_wsd(int64_t step, double lr, double min_lr, int64_t warmup, int64_t total,
                  int64_t decay) {
    if (warming(step, warmup)) return warm(step, lr, warmup);
    if (step >= total) return decay > 0 ? min_lr : lr;
    if (step <= total - decay) return lr;
    return min_lr + (lr - min_lr) * (double)(total - step) / (double)decay;
}

double par_lr_constant(int64_t step, double lr, int64_t warmup) {
    return warming(step, warmup) ? warm(step, lr, warmup) : lr;
}
