/*
 * The rules of the vote and of the loss scaler, in plain arithmetic that is the same on the host and on a
 * device: additions in rank order, products, one square root and quotients, all in double.
 */
#ifndef PAR__VOTE_H
#define PAR__VOTE_H

#include <math.h>
#include <stdbool.h>

#include "par/kernels.h"
#include "par/vote.h"

#ifdef __CUDACC__
#define PAR__BOTH __host__ __device__
#else
#define PAR__BOTH
#endif

/* a · b rounded: a device's compiler would else join it with a sum behind it. */
#ifdef __CUDA_ARCH__
#define PAR__PRODUCT(a, b) __dmul_rn(a, b)
#else
#define PAR__PRODUCT(a, b) ((a) * (b))
#endif

PAR__BOTH static inline bool par__vote_finite(double x) {
    return x - x == 0;
}

/* The scaler after a step that overflowed, or did not. True: max_skips steps in a row at the smallest scale.
 */
PAR__BOTH static inline bool par__scaler_step(const par_scaler_params *p, par_scaler *s, bool overflow) {
    if (overflow) s->skipped++;
    if (p->constant > 0) return false;
    if (!overflow) {
        s->hysteresis = p->hysteresis;
        s->floor_skips = 0;
        if (++s->clean < p->interval) return false;
        s->clean = 0;
        double grown = s->scale * p->growth;
        s->scale = grown < p->max ? grown : p->max;
        return false;
    }
    s->clean = 0;
    s->floor_skips = s->scale <= p->min ? s->floor_skips + 1 : 0;
    if (s->hysteresis > 0) s->hysteresis--;
    double less = s->scale * p->backoff;
    if (s->hysteresis == 0) s->scale = less > p->min ? less : p->min;
    return s->floor_skips >= p->max_skips;
}

/* This rank's sums into its ballot. */
PAR__BOTH static inline void par__ballot_fill(const par_tally *a) {
    par_ballot *b = a->ballot;
    b->norm2 = b->loss_sum = b->n_targets = b->n_nonfinite = 0;
    b->first_bad = -1;
    b->n_first_bad = 0;
    for (int64_t i = 0; i < a->n_norms; i++) {
        double bad = a->norms[2 * i + 1];
        b->norm2 += a->norms[2 * i];
        b->n_nonfinite += bad;
        if (bad == 0 || b->first_bad >= 0) continue;
        b->first_bad = (int32_t)i;
        b->n_first_bad = bad < 2147483647.0 ? (int32_t)bad : 2147483647;
    }
    for (int64_t i = 0; i < a->n_losses; i++) {
        b->loss_sum += a->losses[2 * i];
        b->n_targets += a->losses[2 * i + 1];
    }
    if (!par__vote_finite(b->loss_sum)) b->n_nonfinite += 1;
}

PAR__BOTH static inline par_ballot par__ballots_sum(const par_ballot *ballots, int64_t n, par_outcome *out) {
    par_ballot sum = {0};
    out->bad_rank = out->first_bad = -1;
    for (int64_t r = 0; r < n; r++) {
        const par_ballot *b = &ballots[r];
        sum.norm2 += b->norm2;
        sum.loss_sum += b->loss_sum;
        sum.n_targets += b->n_targets;
        sum.n_nonfinite += b->n_nonfinite;
        if (b->status > sum.status) sum.status = b->status;
        if (b->stop) sum.stop = 1;
        double idle = b->busy > 0 ? (b->total - b->busy) / b->busy : 0;
        if (idle > out->bubble) out->bubble = idle;
        if (b->n_nonfinite == 0 || out->bad_rank >= 0) continue;
        out->bad_rank = (int32_t)r;
        out->first_bad = b->first_bad;
        out->n_first_bad = b->n_first_bad;
    }
    return sum;
}

/* The update that a clean step makes. */
PAR__BOTH static inline void par__vote_update(const par_vote_rules *r, par_vote_state *s) {
    double scale = s->outcome.gradient_scale, norm = s->outcome.grad_norm;
    if (r->clip > 0 && r->clip / (norm + 1e-6) < 1) scale *= r->clip / (norm + 1e-6);
    s->updates++;
    s->power1 = PAR__PRODUCT(s->power1, r->beta1);
    s->power2 = PAR__PRODUCT(s->power2, r->beta2);
    s->step.t = s->updates;
    s->step.correction1 = 1 - s->power1;
    s->step.correction2 = 1 - s->power2;
    s->step.grad_scale = (float)scale;
    s->step.skip = 0;
}

/* What the ballots mean for this step and for the next. */
PAR__BOTH static inline void par__vote_decide(const par_vote_call *a) {
    const par_vote_rules *r = &a->rules;
    par_vote_state *s = a->state;
    s->step.skip = 1;
    if (s->halted) return;
    par_outcome out = {0};
    par_ballot sum = par__ballots_sum(a->ballots, a->n, &out);
    out.loss = sum.n_targets > 0 ? sum.loss_sum / sum.n_targets : 0;
    out.n_targets = sum.n_targets;
    out.n_nonfinite = sum.n_nonfinite;
    out.loss_scale = s->scaler.scale;
    out.gradient_scale = sum.n_targets > 0 ? r->unit / sum.n_targets / s->scaler.scale : 0;
    out.grad_norm = sqrt(sum.norm2) * out.gradient_scale;
    out.status = sum.status;
    out.stop = sum.stop;
    out.skipped = sum.status != 0 || sum.n_nonfinite > 0;
    s->step.lr = (float)a->ballots[0].lr;
    s->halted = sum.status != 0;
    if (sum.status == 0) {
        bool stops = r->nonfinite == PAR_NONFINITE_STOP && r->scaler.constant > 0;
        s->step.first_sample += r->batch;
        out.floor = par__scaler_step(&r->scaler, &s->scaler, out.skipped != 0);
        s->halted = out.skipped && (stops || out.floor);
        s->step.loss_seed = (float)(s->scaler.scale / r->unit);
    }
    s->outcome = out;
    if (!out.skipped) par__vote_update(r, s);
}

#endif
