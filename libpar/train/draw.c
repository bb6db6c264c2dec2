/*
 * Drawing a token: softmax with temperature, restricted to the k largest logits, by inversion of
 * the cumulative distribution. The k largest are found with a heap of k whose root is the worst of
 * them (O(n log k)); a token is kept if it is not worse than that root, so no list of them is
 * needed afterwards. The fewest that reach top_p are taken from a heap of what top_k leaves, whose
 * root is the best: few are taken, as a rule, so the others need no order. They, too, end with a
 * worst one.
 */
#include "draw.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

#include "par/random.h"

double par__draw_uniform(uint64_t seed, int64_t sequence, int64_t position) {
    uint64_t stream = par_hash_name("generation") + (uint64_t)sequence;
    return (double)(par_random_u64(seed, stream, (uint64_t)position) >> 11) * 0x1p-53;
}

static bool better(const float *x, int32_t a, int32_t b) {
    return x[a] > x[b] || (x[a] == x[b] && a < b);
}

/* The largest, of equals the first; -1 if one is NaN or it is infinite. */
static int32_t largest(const float *x, int32_t n) {
    int32_t best = 0;
    for (int32_t i = 0; i < n; i++) {
        if (isnan(x[i])) return -1;
        if (x[i] > x[best]) best = i;
    }
    return n > 0 && isfinite(x[best]) ? best : -1;
}

/* The root is the worst, or with `best` the best. */
static void sift_down(const float *x, int32_t *heap, int32_t n, int32_t i, bool best) {
    for (int32_t child = 2 * i + 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && better(x, heap[child], heap[child + 1]) != best) child++;
        if (better(x, heap[child], heap[i]) != best) return;
        int32_t held = heap[i];
        heap[i] = heap[child];
        heap[child] = held;
        i = child;
    }
}

/* The worst of the k best. */
static int32_t kth_best(const float *x, int32_t n, int32_t k, int32_t *heap) {
    for (int32_t i = 0; i < k; i++) heap[i] = i;
    for (int32_t i = k / 2; i-- > 0;) sift_down(x, heap, k, i, false);
    for (int32_t i = k; i < n; i++) {
        if (!better(x, i, heap[0])) continue;
        heap[0] = i;
        sift_down(x, heap, k, 0, false);
    }
    return heap[0];
}

/* What token i weighs; worst -1: all are kept. */
static double weight(const float *x, int32_t i, int32_t worst, double max, double temperature) {
    if (worst >= 0 && better(x, worst, i)) return 0;
    return exp(((double)x[i] - max) / temperature);
}

static double sum_of(const float *x, int32_t n, int32_t worst, double max, double temperature) {
    double sum = 0;
    for (int32_t i = 0; i < n; i++) sum += weight(x, i, worst, max, temperature);
    return sum;
}

/* The worst of the fewest best that together weigh `goal`, of those that are not worse than
 * `worst`. */
static int32_t worst_of_fewest(const float *x, int32_t n, int32_t worst, double max,
                               double temperature, double goal, int32_t *heap) {
    int32_t count = 0;
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        if (worst < 0 || !better(x, worst, i)) heap[count++] = i;
    for (int32_t i = count / 2; i-- > 0;) sift_down(x, heap, count, i, true);
    for (;;) {
        int32_t now = heap[0];
        sum += weight(x, now, -1, max, temperature);
        if (sum >= goal || count == 1) return now;
        heap[0] = heap[--count];
        sift_down(x, heap, count, 0, true);
    }
}

int32_t par__draw(const float *x, int32_t n, const par__draw_params *params, double u,
                  int32_t *heap) {
    int32_t best = largest(x, n), last = best;
    int64_t top_k = params->top_k;
    double temperature = params->temperature;
    if (best < 0 || temperature == 0) return best;
    int32_t worst = top_k > 0 && top_k < n ? kth_best(x, n, (int32_t)top_k, heap) : -1;
    double max = x[best], sum = sum_of(x, n, worst, max, temperature), running = 0;
    if (params->top_p > 0 && params->top_p < 1) {
        worst = worst_of_fewest(x, n, worst, max, temperature, params->top_p * sum, heap);
        sum = sum_of(x, n, worst, max, temperature);
    }
    for (int32_t i = 0; i < n; i++) {
        double w = weight(x, i, worst, max, temperature);
        running += w;
        if (w > 0) last = i;
        if (running > u * sum) return i;
    }
    return last; /* u · sum was rounded up to sum */
}
