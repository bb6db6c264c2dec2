/* Learning rates as pure functions of the step. */
#include <math.h>

#include "par/train.h"

double par_lr_cosine(int64_t step, double lr, double min_lr, int64_t warmup, int64_t total) {
    const double pi = 3.14159265358979323846;
    if (step <= warmup && warmup > 0) return lr * (double)step / (double)warmup;
    if (step >= total || total <= warmup) return min_lr;
    double done = (double)(step - warmup) / (double)(total - warmup);
    return min_lr + 0.5 * (lr - min_lr) * (1 + cos(pi * done));
}
