/*
 * Cutting a list of modules into contiguous parts so that the largest part is as small as possible
 * (the linear partition problem). Every part gets at least one module. Whether a bound is feasible
 * is decided by filling parts from the end, which also yields the earliest cuts. A part's sum,
 * added from its end, never falls when the part grows, in floating point too, so the smallest
 * feasible double, found by bisection, is the exact optimum of those sums.
 */
#include "par/model.h"

#include <math.h>

static double work_of(const double *work, int i) {
    return work ? work[i] : 1;
}

/* Fill `first` with the earliest cuts whose parts are at most `bound`; false if there are none. */
static bool cut(const double *work, int n, int parts, double bound, int *first) {
    int begin = n;
    first[parts] = n;
    for (int k = parts - 1; k >= 0; k--) {
        double sum = work_of(work, --begin);
        /* k modules must be left for the k parts before. */
        while (begin > k && sum + work_of(work, begin - 1) <= bound) sum += work_of(work, --begin);
        if (sum > bound) return false;
        first[k] = begin;
    }
    return begin == 0;
}

static double bisect(const double *work, int n, int parts, double low, double high, int *first) {
    if (cut(work, n, parts, low, first)) return low;
    for (;;) {
        double middle = low + (high - low) / 2;
        if (middle <= low || middle >= high) return high;
        if (cut(work, n, parts, middle, first))
            high = middle;
        else
            low = middle;
    }
}

par_status par_partition(const double *work, int n, int parts, int *first) {
    double largest = 0, total = 0;
    PAR_REQUIRE(first && parts > 0 && n >= 0);
    if (parts > n)
        PAR_FAIL(PAR_ERR_LAYOUT, "%d modules cannot be cut into %d parts; legal: 1 to %d parts", n,
                 parts, n);
    for (int i = n - 1; i >= 0; i--) {
        double w = work_of(work, i);
        if (!(w >= 0)) PAR_FAIL(PAR_ERR_ARG, "work of module %d is %g; legal: 0 or more", i, w);
        if (w > largest) largest = w;
        total += w;
    }
    if (!isfinite(total))
        PAR_FAIL(PAR_ERR_ARG, "the work of %d modules adds up to %g; legal: finite", n, total);
    cut(work, n, parts, bisect(work, n, parts, largest, total, first), first);
    return PAR_OK;
}
