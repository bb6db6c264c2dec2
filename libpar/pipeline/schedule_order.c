/*
 * The order of forwards and backwards of a stage. GPipe (Huang et al. 2019), 1F1B (Narayanan et al.
 * 2019, Fan et al. 2021), eager 1F1B (Zhuang et al. 2022, "On optimizing the communication of model
 * parallelism"), interleaved 1F1B (Narayanan et al. 2021, "Efficient large-scale language model
 * training on GPU clusters"). All are one family: w forwards to warm up, then forward and
 * backward in turn, then the remaining backwards. In all of them a chunk's micro-batches run in
 * rising order, forward and backward, so that gradients are summed in one order whatever the
 * schedule.
 */
#include "schedule.h"

static int min(int a, int b) {
    return a < b ? a : b;
}

int par__schedule_n_computes(const par_schedule_params *s) {
    return s->m * s->v * (s->kind == PAR_SCHEDULE_FORWARD_ONLY ? 1 : 2);
}

/*
 * The k-th forward of a stage: groups of p micro-batches go through chunk 0, then chunk 1, ... The
 * last group is smaller when p does not divide m. Backwards take the chunks from the last to the
 * first.
 */
static par__compute nth(const par_schedule_params *s, int k, bool backward) {
    int group = k / (s->p * s->v), width = min(s->p, s->m - group * s->p),
        rest = k - group * s->p * s->v;
    int chunk = rest / width;
    return (par__compute){.backward = backward,
                          .chunk = (int16_t)(backward ? s->v - 1 - chunk : chunk),
                          .micro = (int16_t)(group * s->p + rest % width)};
}

void par__schedule_order(const par_schedule_params *s, par__compute *order) {
    bool all_first = s->kind == PAR_SCHEDULE_GPIPE || s->kind == PAR_SCHEDULE_FORWARD_ONLY;
    int n = s->m * s->v, after = s->p - 1 - s->stage, at = 0;
    /* forwards before the first backward, less the one that directly precedes it */
    bool eager = s->kind == PAR_SCHEDULE_EAGER_1F1B || s->v > 1;
    int w = all_first ? n : min(n, eager ? 2 * after + (s->v - 1) * s->p : after);
    for (int k = 0; k < w; k++) order[at++] = nth(s, k, false);
    if (s->kind == PAR_SCHEDULE_FORWARD_ONLY) return;
    for (int k = w; k < n; k++) {
        order[at++] = nth(s, k, false);
        order[at++] = nth(s, k - w, true);
    }
    for (int k = n - w; k < n; k++) order[at++] = nth(s, k, true);
}
