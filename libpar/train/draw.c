/*
 * Drawing a token: softmax with temperature, restricted to the k largest logits and of these to the
 * fewest that reach top_p, by inversion of the cumulative distribution.
 *
 * What is kept is all down to a cut, which is found digit by digit of a key that is in the order of
 * the logits (a radix selection): a pass adds up what the tokens of each digit weigh, 1 or their
 * probability, and the next one looks only at those of the digit in which the goal is reached. So
 * a draw takes some passes over the vocabulary and makes no order of it, whatever k and top_p are.
 */
#include "draw.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "par/random.h"

double par__draw_uniform(uint64_t seed, int64_t sequence, int64_t position) {
    uint64_t stream = par_hash_name("generation") + (uint64_t)sequence;
    return (double)(par_random_u64(seed, stream, (uint64_t)position) >> 11) * 0x1p-53;
}

/* Integers in the order of the floats; both zeros have the same. */
static int32_t ordered(float x) {
    int32_t bits;
    x += 0.0f;
    memcpy(&bits, &x, sizeof bits);
    return bits ^ (int32_t)((uint32_t)(bits >> 31) >> 1);
}

/* The largest, of equals the first; -1 if one is NaN or it is infinite. The first loop is one that
 * compilers make vectors of: integers alone. */
static int32_t largest(const float *x, int32_t n) {
    int32_t max = INT32_MIN, nan = 0, best = 0;
    for (int32_t i = 0; i < n; i++) {
        int32_t key = ordered(x[i]);
        max = key > max ? key : max;
        nan |= x[i] != x[i];
    }
    if (n == 0 || nan) return -1;
    while (ordered(x[best]) != max) best++;
    return isfinite(x[best]) ? best : -1;
}

/* The last one of those that are kept. */
typedef struct {
    uint32_t key;
    int32_t id;
} cut;

static double weight_of(const par__draw_candidate *c, bool counted) {
    return counted ? 1 : c->weight;
}

/* Adds the weights of the digits from the largest on to *before, up to the one that reaches the
 * goal, which is answered; the smallest that weighs something, if rounding lets none reach it. */
static uint32_t digit_of_goal(const double *bins, uint32_t n, double goal, double *before) {
    uint32_t digit = n;
    double above = *before;
    for (uint32_t b = n; b-- > 0;) {
        if (bins[b] == 0) continue;
        digit = b;
        *before = above;
        above += bins[b];
        if (above >= goal) break;
    }
    return digit;
}

/* The last of the fewest largest candidates that together weigh `goal`; of equals the lowest ids
 * are kept. counted: each weighs 1. */
static cut select(const par__draw_candidate *c, int32_t n, double goal, bool counted) {
    enum { BITS = 11, BINS = 1 << BITS };
    static const int shifts[] = {32 - BITS, 32 - 2 * BITS, 0};
    double before = 0;
    cut end = {0, -1};
    uint32_t known = 0; /* bits of end.key that are */
    for (int i = 0; i < 3; i++) {
        double bins[BINS] = {0};
        uint32_t digits = ~known >> shifts[i];
        for (int32_t j = 0; j < n; j++)
            if ((c[j].key & known) == end.key)
                bins[(c[j].key >> shifts[i]) & digits] += weight_of(&c[j], counted);
        end.key |= digit_of_goal(bins, digits + 1, goal, &before) << shifts[i];
        known |= digits << shifts[i];
    }
    for (int32_t j = 0; j < n && (end.id < 0 || before < goal); j++)
        if (c[j].key == end.key && weight_of(&c[j], counted) > 0) {
            end.id = c[j].id;
            before += weight_of(&c[j], counted);
        }
    return end;
}

/* Candidates behind the cut are left out; the number of the others, which stay in order. */
static int32_t keep(par__draw_candidate *c, int32_t n, cut end) {
    int32_t kept = 0;
    for (int32_t j = 0; j < n; j++)
        if (c[j].key > end.key || (c[j].key == end.key && c[j].id <= end.id)) c[kept++] = c[j];
    return kept;
}

static double sum_of(const par__draw_candidate *c, int32_t n) {
    double sum = 0;
    for (int32_t j = 0; j < n; j++) sum += c[j].weight;
    return sum;
}

int32_t par__draw(const float *x, int32_t n, const par__draw_params *params, double u,
                  par__draw_candidate *c) {
    int32_t best = largest(x, n), last = best, kept = n;
    if (best < 0 || params->temperature == 0) return best;
    /* what top_k and top_p leave, with weights */
    for (int32_t i = 0; i < n; i++)
        c[i] = (par__draw_candidate){.key = (uint32_t)ordered(x[i]) ^ 0x80000000u, .id = i};
    if (params->top_k > 0 && params->top_k < n)
        kept = keep(c, n, select(c, n, (double)params->top_k, true));
    for (int32_t j = 0; j < kept; j++)
        c[j].weight = exp(((double)x[c[j].id] - (double)x[best]) / params->temperature);
    if (params->top_p > 0 && params->top_p < 1)
        kept = keep(c, kept, select(c, kept, params->top_p * sum_of(c, kept), false));
    double sum = sum_of(c, kept), running = 0;
    for (int32_t j = 0; j < kept; j++) {
        running += c[j].weight;
        if (c[j].weight > 0) last = c[j].id;
        if (running > u * sum) return c[j].id;
    }
    return last; /* u · sum was rounded up to sum */
}
