/*
 * The rules of the vote and of the loss scaler, in plain arithmetic that is the same on the host
 * and on a device: additions in rank order, products, one square root and quotients, all in double.
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

/* The scaler after a step that overflowed, or did not. True: max_skips steps in a row were skipped
 * at the smallest scale; a constant one is its own smallest. */
PAR__BOTH static inline bool par__scaler_step(const par_scaler_params *p, par_scaler *s,
                                              bool overflow) {
    bool at_floor = p->constant > 0 || s->scale <= p->min;
    if (overflow) s->skipped++;
    s->floor_skips = overflow && at_floor ? s->floor_skips + 1 : 0;
    if (p->constant > 0) return s->floor_skips >= p->max_skips;
    if (!overflow) {
        s->hysteresis = p->hysteresis;
        if (++s->clean < p->interval) return false;
        s->clean = 0;
        double grown = s->scale * p->growth;
        s->scale = grown < p->max ? grown : p->max;
        return false;
    }
    s->clean = 0;
    if (s->hysteresis > 0) s->hysteresis--;
    double less = s->scale * p->backoff;
    if (s->hysteresis == 0) s->scale = less > p->min ? less : p->min;
    return s->floor_skips >= p->max_skips;
}

/*
 * A rank's ballot: begin, each norm, each loss in order, end. The pieces let a device bring its
 * norms nearer before one thread adds them; `sum` is a copy of the ballot, or the ballot itself.
 */
PAR__BOTH static inline void par__ballot_begin(par_ballot *sum) {
    sum->norm2 = sum->loss_sum = sum->n_targets = sum->n_nonfinite = 0;
    sum->first_bad = -1;
    sum->n_first_bad = 0;
}

PAR__BOTH static inline void par__ballot_norm(par_ballot *sum, int64_t i, double norm2,
                                              double bad) {
    sum->norm2 += norm2;
    sum->n_nonfinite += bad;
    if (bad == 0 || sum->first_bad >= 0) return;
    sum->first_bad = (int32_t)i;
    sum->n_first_bad = bad < 2147483647.0 ? (int32_t)bad : 2147483647;
}

PAR__BOTH static inline void par__ballot_loss(par_ballot *sum, float loss_sum, float n_targets) {
    sum->loss_sum += loss_sum;
    sum->n_targets += n_targets;
}

PAR__BOTH static inline void par__ballot_end(par_ballot *sum) {
    if (!par__vote_finite(sum->loss_sum)) sum->n_nonfinite += 1;
}

static inline void par__ballot_fill(const par_tally *a) {
    par__ballot_begin(a->ballot);
    for (int64_t i = 0; i < a->n_norms; i++)
        par__ballot_norm(a->ballot, i, a->norms[2 * i], a->norms[2 * i + 1]);
    for (int64_t i = 0; i < a->n_losses; i++)
        par__ballot_loss(a->ballot, a->losses[2 * i], a->losses[2 * i + 1]);
    par__ballot_end(a->ballot);
}

/* All ranks' ballots: begin, then each in rank order. */
PAR__BOTH static inline void par__ballots_begin(par_ballot *sum, par_outcome *out) {
    const par_ballot no_ballot = {0};
    const par_outcome no_outcome = {0};
    *sum = no_ballot;
    *out = no_outcome;
    out->bad_rank = out->first_bad = -1;
}

PAR__BOTH static inline void par__ballots_add(par_ballot *sum, par_outcome *out, int64_t rank,
                                              const par_ballot *b) {
    sum->norm2 += b->norm2;
    sum->loss_sum += b->loss_sum;
    sum->n_targets += b->n_targets;
    sum->n_nonfinite += b->n_nonfinite;
    if (b->status > sum->status) sum->status = b->status;
    if (b->stop) sum->stop = 1;
    double idle = b->busy > 0 ? (b->total - b->busy) / b->busy : 0;
    if (idle > out->bubble) out->bubble = idle;
    if (b->n_nonfinite == 0 || out->bad_rank >= 0) return;
    out->bad_rank = (int32_t)rank;
    out->first_bad = b->first_bad;
    out->n_first_bad = b->n_first_bad;
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

/* What the ballots' sum means for this step and for the next; lr is rank 0's. */
PAR__BOTH static inline void par__vote_conclude(const par_vote_rules *r, par_vote_state *s,
                                                const par_ballot *sum, par_outcome *out,
                                                double lr) {
    out->loss = sum->n_targets > 0 ? sum->loss_sum / sum->n_targets : 0;
    out->n_targets = sum->n_targets;
    out->n_nonfinite = sum->n_nonfinite;
    out->loss_scale = s->scaler.scale;
    out->gradient_scale = sum->n_targets > 0 ? r->unit / sum->n_targets / s->scaler.scale : 0;
    out->grad_norm = PAR__PRODUCT(sqrt(sum->norm2), out->gradient_scale);
    out->status = sum->status;
    out->stop = sum->stop;
    out->skipped = sum->status != 0 || sum->n_nonfinite > 0;
    s->step.lr = (float)lr;
    s->halted = sum->status != 0;
    if (sum->status == 0) {
        bool stops = r->nonfinite == PAR_NONFINITE_STOP && r->scaler.constant > 0;
        s->step.first_sample += r->batch;
        out->floor = par__scaler_step(&r->scaler, &s->scaler, out->skipped != 0) && !stops;
        s->halted = out->skipped && (stops || out->floor);
        s->step.loss_seed = (float)(s->scaler.scale / r->unit);
    }
    s->outcome = *out;
    if (!out->skipped) par__vote_update(r, s);
}

static inline void par__vote_decide(const par_vote_call *a) {
    par_ballot sum;
    par_outcome out;
    a->state->step.skip = 1;
    if (a->state->halted) return;
    par__ballots_begin(&sum, &out);
    for (int64_t rank = 0; rank < a->n; rank++)
        par__ballots_add(&sum, &out, rank, &a->ballots[rank]);
    par__vote_conclude(&a->rules, a->state, &sum, &out, a->ballots[0].lr);
}

#endif
