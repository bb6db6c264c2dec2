/* One optimizer step, evaluation, and a forward of given inputs. */
#include <math.h>
#include <stdio.h>

#include "libpar/base/clock.h"
#include "trainer.h"

static int dp_size(const par_trainer *t) {
    return t->params.layout.size[PAR_DP];
}

/* The loss counts once: on the last stage, tp rank 0. */
static bool counts_loss(const par_trainer *t) {
    return t->mesh->coordinate[PAR_TP] == 0 &&
           t->mesh->coordinate[PAR_PP] == t->params.layout.size[PAR_PP] - 1;
}

static par_schedule *own_schedule(const par_trainer *t) {
    return t->schedules[t->mesh->coordinate[PAR_PP]];
}

static void fill_ballot(const par_trainer *t, const par__walk_result *r, par__ballot *ballot) {
    ballot->busy = r->forward + r->backward;
    ballot->total = r->total;
    if (!counts_loss(t)) return;
    ballot->loss_sum = r->loss_sum;
    ballot->n_targets = r->n_targets;
    if (!isfinite(r->loss_sum)) ballot->n_nonfinite += 1;
}

/* Forward and backward of all micro-batches, gradients reduced. A failed batch is in ballot->status. */
static par_status walk_training(par_trainer *t, par__ballot *ballot) {
    int64_t per_rank = t->params.global_batch / dp_size(t);
    par__walk_result result = {0};
    double unit = (double)par_tensor_n(&t->params.model->targets) * (double)t->params.micro_batch;
    t->first_sample = t->consumed + t->mesh->coordinate[PAR_DP] * per_rank;
    par__walk walk = {.training = true,
                      .loss_seed = (float)(t->scaler.scale / unit),
                      .first_sample = t->first_sample,
                      .sample_stride = t->params.micro_batch};
    par__bucket_begin_step(t);
    par_status st = par__executor_walk(t->executor, own_schedule(t), &walk, &result);
    if (st == PAR_ERR_TRANSPORT || st == PAR_ERR_INTERNAL) return st;
    ballot->status = st;
    double begin = par__seconds();
    PAR_TRY(par__bucket_finish_reduce(t));
    t->times = (par_step_times){.data = result.load, .wait_dp = par__seconds() - begin};
    st = par__gradient_norm_start(t);
    if (st == PAR_OK) st = t->backend->sync(t->stream); /* the step's one wait for the device */
    if (st == PAR_OK && ballot->status == PAR_OK) st = par__executor_times(t->executor, result.walk, &result);
    if (st != PAR_OK) { /* peers learn of it in the vote */
        ballot->status = st;
        return PAR_OK;
    }
    t->times.forward = result.forward;
    t->times.backward = result.backward;
    t->times.wait_pipeline = result.wait;
    par__executor_losses(t->executor, &result);
    par__gradient_norm_finish(t, ballot);
    fill_ballot(t, &result, ballot);
    return PAR_OK;
}

/* A step with inf or NaN: skipped, and the training ended where the policy says so. */
static par_status skip(par_trainer *t, par_vote *vote) {
    const par_trainer_params *p = &t->params;
    bool dynamic = p->dtype == PAR_F16 && p->scaler.constant == 0;
    par_status st = par_scaler_update(&p->scaler, &t->scaler, true);
    vote->skipped = true;
    vote->n_skipped = t->scaler.skipped;
    if (st == PAR_OK && (dynamic || p->nonfinite == PAR_NONFINITE_SKIP)) return PAR_OK;
    char floor[512];
    snprintf(floor, sizeof floor, "%s", st == PAR_OK ? "" : par_error());
    PAR_FAIL(
        PAR_ERR_NUMERIC,
        "%s%s%lld elements of the gradients are inf or NaN, first in %s (loss %g); weights are unchanged",
        floor, st == PAR_OK ? "" : "; in the last one ", (long long)vote->n_nonfinite, vote->where,
        vote->loss);
}

/* What the vote means for this step; the same on every rank. */
static par_status decide(par_trainer *t, float lr, par_vote *vote) {
    if (vote->status != PAR_OK) {
        vote->skipped = true;
        return vote->status;
    }
    t->consumed += t->params.global_batch;
    if (vote->n_nonfinite > 0) return skip(t, vote);
    PAR_TRY(par_scaler_update(&t->params.scaler, &t->scaler, false));
    double clip = t->params.clip, scale = t->gradient_scale;
    if (clip > 0 && clip / (vote->grad_norm + 1e-6) < 1) scale *= clip / (vote->grad_norm + 1e-6);
    PAR_TRY(par__update(t, lr, scale));
    return par__bucket_begin_gather(t);
}

/* The ballots of all ranks, then the update or the skip that they mean. */
static par_status vote_and_update(par_trainer *t, const par__ballot *ballot, float lr, par_vote *out) {
    par_range_begin(t->backend, "vote");
    par_status st = par__vote(t, ballot, out);
    par_range_end(t->backend);
    PAR_TRY(st);
    /* The message of a rank that failed reaches all in the agreement below, which is taken only then. */
    if (out->status != PAR_OK) return par_comm_agree(t->mesh->world, (par_status)ballot->status);
    double begin = par__seconds();
    par_range_begin(t->backend, "update");
    st = decide(t, lr, out);
    par_range_end(t->backend);
    t->times.update = par__seconds() - begin;
    return st;
}

static par_status step(par_trainer *t, const par_source *source, float lr, bool stop, par_vote *out) {
    double begin = par__seconds();
    par__ballot ballot = {.first_bad = -1, .stop = stop};
    t->source = source;
    PAR_TRY(walk_training(t, &ballot));
    PAR_TRY(vote_and_update(t, &ballot, lr, out));
    t->times.total = par__seconds() - begin;
    t->times.ideal_bubble = par_schedule_ideal_bubble(t->params.schedule, t->params.layout.size[PAR_PP],
                                                      t->n_micro, t->params.chunks);
    return PAR_OK;
}

par_status par_trainer_step(par_trainer *t, const par_source *source, float lr, bool stop, par_vote *out) {
    PAR_REQUIRE(t && source && out);
    par_range_begin(t->backend, "step");
    par_status st = step(t, source, lr, stop, out);
    par_range_end(t->backend);
    return st;
}

/* One forward-only walk of schedule->m micro-batches a dp rank from sample `first` on. */
static par_status walk_forward(par_trainer *t, const par_schedule *schedule, int64_t first,
                               par__walk_result *sum) {
    par__walk_result result = {0};
    t->first_sample = first + t->mesh->coordinate[PAR_DP] * schedule->m * t->params.micro_batch;
    par__walk walk = {.first_sample = t->first_sample, .sample_stride = t->params.micro_batch};
    par_status st = par__executor_walk(t->executor, schedule, &walk, &result);
    if (st == PAR_ERR_TRANSPORT || st == PAR_ERR_INTERNAL) return st;
    par_status waited = t->backend->sync(t->stream);
    if (waited != PAR_OK) return waited;
    par__executor_losses(t->executor, &result);
    sum->loss_sum += result.loss_sum;
    sum->n_targets += result.n_targets;
    return st;
}

par_status par_trainer_evaluate(par_trainer *t, const par_source *source, int64_t first, int64_t n,
                                double *loss) {
    int64_t unit = t->params.micro_batch * dp_size(t);
    par_status bad = PAR_OK;
    PAR_REQUIRE(t && source && loss && first >= 0);
    if (n <= 0 || n % unit != 0)
        PAR_FAIL(PAR_ERR_ARG, "%lld samples to evaluate are not a multiple of micro-batch x dp = %lld",
                 (long long)n, (long long)unit);
    par__walk_result sum = {0};
    par_vote vote;
    t->source = source;
    for (int64_t done = 0; done < n;) {
        const par_schedule *schedule = n - done >= unit * t->n_micro ? t->evaluate : t->single;
        par_status st = walk_forward(t, schedule, first + done, &sum);
        if (st == PAR_ERR_TRANSPORT || st == PAR_ERR_INTERNAL) return st;
        if (st != PAR_OK && bad == PAR_OK) bad = st;
        done += unit * schedule->m;
    }
    double scale = t->gradient_scale; /* the vote sets it for a training step */
    double bubble = t->times.bubble;
    par__ballot ballot = {.first_bad = -1, .status = bad};
    if (counts_loss(t)) {
        ballot.loss_sum = sum.loss_sum;
        ballot.n_targets = sum.n_targets;
    }
    PAR_TRY(par__vote(t, &ballot, &vote));
    t->gradient_scale = scale;
    t->times.bubble = bubble;
    *loss = vote.loss;
    return vote.status == PAR_OK ? PAR_OK : par_comm_agree(t->mesh->world, bad);
}

par_status par_trainer_forward(par_trainer *t, const void *x, const void *targets,
                               par_status (*visit)(void *user, const par_module *last, const void *stash),
                               void *user) {
    PAR_REQUIRE(t && x && targets && visit);
    par__walk_result result = {0};
    t->given_x = x;
    t->given_targets = targets;
    par_status st = walk_forward(t, t->single, 0, &result);
    t->given_x = t->given_targets = NULL;
    if (st == PAR_ERR_TRANSPORT || st == PAR_ERR_INTERNAL) return st;
    const par__chunk *chunk = &t->chunks[t->n_chunks - 1];
    if (st == PAR_OK && t->mesh->coordinate[PAR_PP] == t->params.layout.size[PAR_PP] - 1)
        st = visit(user, chunk->modules[chunk->n_modules - 1], par__executor_last_stash(t->executor));
    return par_comm_agree(t->mesh->world, st);
}
