/* Drawing a token from the logits of one position: a pure function. */
#ifndef PAR__DRAW_H
#define PAR__DRAW_H

#include <stdint.h>

/*
 * A token of [0, n), u in [0, 1): the first one at which the running sum of exp((x - max) /
 * temperature), in the order of ids and in double, is above u times the whole; among the top_k (0:
 * all), and of these among the fewest largest whose weights together reach top_p (Holtzman et al.
 * 2020; 0 and 1: all). temperature 0: the largest logit. Equal logits rank by id, lowest first.
 * candidates [n] are scratch. -1 if a logit is NaN or the largest is not finite.
 */
typedef struct {
    double temperature;
    int64_t top_k;
    double top_p;
} par__draw_params;
typedef struct {
    double weight;
    uint32_t key; /* in the order of the logits */
    int32_t id;
} par__draw_candidate;
int32_t par__draw(const float *logits, int32_t n, const par__draw_params *params, double u,
                  par__draw_candidate *candidates);

/* The random number of a token: uniform in [0, 1), 53 bits, of (seed, sequence, position). */
double par__draw_uniform(uint64_t seed, int64_t sequence, int64_t position);

#endif
