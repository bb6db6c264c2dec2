/* One optimizer step, evaluation, and a forward of given inputs. */
#include <stdio.h>

#include "trainer.h"

/* Phases of t->timer. */
enum { STEP, REDUCE, UPDATE };

static int dp_size(const par_trainer *t) {
    return t->params.layout.size[PAR_DP];
}

bool par__counts_loss(const par_trainer *t) {
    return t->mesh->coordinate[PAR_TP] == 0 &&
           t->mesh->coordinate[PAR_PP] == t->params.layout.size[PAR_PP] - 1;
}

static par_schedule *own_schedule(const par_trainer *t) {
    return t->schedules[t->mesh->coordinate[PAR_PP]];
}

par_status par__no_step_begun(const par_trainer *t) {
    if (t->n_begun == t->n_ended) return PAR_OK;
    PAR_FAIL(PAR_ERR_ARG,
             "%d steps were begun and not ended: end them first (par_trainer_step_end)",
             (int)(t->n_begun - t->n_ended));
}

/* This rank's part failed: peers learn of it in the vote, and why at the step's end. */
static void note_failure(par__begun *b, par_status st) {
    if (st == PAR_OK || b->status != PAR_OK) return;
    b->status = st;
    snprintf(b->message, sizeof b->message, "%s", par_error());
}

static par__walk training_walk(par_trainer *t) {
    int64_t per_rank = t->params.global_batch / dp_size(t);
    int64_t offset = t->mesh->coordinate[PAR_DP] * per_rank;
    t->first_sample = t->consumed + (t->n_begun - t->n_ended) * t->params.global_batch + offset;
    return (par__walk){.training = true,
                       .loss_seed = &t->voted->step.loss_seed,
                       .sample_base = &t->voted->step.first_sample,
                       .first_sample = offset,
                       .sample_stride = t->params.micro_batch};
}

/* Forward and backward of all micro-batches, gradients reduced, their norms. */
static par_status walk_training(par_trainer *t, par__begun *b) {
    par__walk_result result = {0};
    par__walk walk = training_walk(t);
    par__bucket_begin_step(t);
    par_status st = par__executor_walk(t->executor, own_schedule(t), &walk, &result);
    if (st == PAR_ERR_TRANSPORT || st == PAR_ERR_INTERNAL) return st;
    note_failure(b, st);
    b->walk = result.walk;
    b->times.data = result.load;
    PAR_TRY(par__timer_begin(t->timer, REDUCE, t->stream));
    PAR_TRY(par__bucket_finish_reduce(t));
    PAR_TRY(par__timer_end(t->timer, REDUCE, t->stream));
    note_failure(b, par__gradient_norms(t));
    return PAR_OK;
}

/* Of a walk that is through. Its busy share is the next ballot's: on the host this step's, else a
 * later one's. */
static par_status measure_walk(par_trainer *t, par__begun *b) {
    par__walk_result r = {0};
    if (b->status != PAR_OK) return PAR_OK; /* it may have ended early */
    PAR_TRY(par__executor_times(t->executor, b->walk, &r));
    b->times.forward = r.forward;
    b->times.backward = r.backward;
    b->times.wait_pipeline = r.wait;
    t->busy = r.forward + r.backward;
    t->walked = r.total;
    return PAR_OK;
}

static par_status measure_step(par_trainer *t, par__begun *b) {
    double seconds[PAR__TIMER_PHASES];
    if (!t->backend->on_host) PAR_TRY(measure_walk(t, b));
    PAR_TRY(par__timer_read(t->timer, b->round, seconds));
    b->times.total = seconds[STEP];
    b->times.wait_dp = seconds[REDUCE];
    b->times.update = seconds[UPDATE];
    b->times.bubble = b->state->outcome.bubble;
    b->times.ideal_bubble = par_schedule_ideal_bubble(
        t->params.schedule, t->params.layout.size[PAR_PP], t->n_micro, t->params.chunks);
    t->times = b->times;
    return PAR_OK;
}

/* Everything of a step, on the stream. */
static par_status enqueue(par_trainer *t, par__begun *b, float lr, bool stop) {
    *b->ballot = (par_ballot){.lr = lr, .stop = stop};
    b->status = PAR_OK;
    b->times = (par_step_times){0};
    b->round = par__timer_round(t->timer);
    PAR_TRY(par__timer_begin(t->timer, STEP, t->stream));
    PAR_TRY(par__vote_upload(t));
    PAR_TRY(walk_training(t, b));
    if (t->backend->on_host) PAR_TRY(measure_walk(t, b));
    b->ballot->busy = t->busy;
    b->ballot->total = t->walked;
    b->ballot->status = (int32_t)b->status;
    par_range_begin(t->backend, "vote");
    par_status st = par__vote_start(t, b);
    par_range_end(t->backend);
    PAR_TRY(st);
    PAR_TRY(par__timer_begin(t->timer, UPDATE, t->stream));
    par_range_begin(t->backend, "update");
    st = par__update(t);
    par_range_end(t->backend);
    PAR_TRY(st);
    PAR_TRY(par__timer_end(t->timer, UPDATE, t->stream));
    PAR_TRY(par__bucket_begin_gather(t));
    PAR_TRY(par__timer_end(t->timer, STEP, t->stream));
    return par__vote_fetch(t, b);
}

par_status par_trainer_step_begin(par_trainer *t, const par_source *source, float lr, bool stop) {
    PAR_REQUIRE(t && source);
    if (t->n_begun - t->n_ended == PAR_STEPS_BEGUN)
        PAR_FAIL(PAR_ERR_ARG, "%d steps are begun: end the oldest first (par_trainer_step_end)",
                 PAR_STEPS_BEGUN);
    par__begun *b = &t->begun[t->n_begun % PAR_STEPS_BEGUN];
    t->source = source;
    par_range_begin(t->backend, "step");
    par_status st = enqueue(t, b, lr, stop);
    par_range_end(t->backend);
    PAR_TRY(st);
    t->n_begun++;
    return PAR_OK;
}

/* A step with inf or NaN was skipped, and the training ends where the policy says so. */
static par_status skipped(const par_vote_state *s, const par_vote *vote) {
    char floor[512] = "";
    if (!s->halted) return PAR_OK;
    if (s->outcome.floor) {
        (void)par__scaler_at_floor(&s->scaler);
        snprintf(floor, sizeof floor, "%s; in the last one ", par_error());
    }
    PAR_FAIL(PAR_ERR_NUMERIC,
             "%s%lld elements of the gradients are inf or NaN, first in %s (loss %g); weights are "
             "unchanged",
             floor, (long long)vote->n_nonfinite, vote->where, vote->loss);
}

static par_vote vote_of(const par_vote_state *s) {
    const par_outcome *o = &s->outcome;
    return (par_vote){.loss = o->loss,
                      .n_targets = (int64_t)o->n_targets,
                      .grad_norm = o->grad_norm,
                      .n_nonfinite = (int64_t)o->n_nonfinite,
                      .loss_scale = o->loss_scale,
                      .n_skipped = s->scaler.skipped,
                      .skipped = o->skipped != 0,
                      .stop = o->stop != 0,
                      .status = (par_status)o->status};
}

/* The trainer as the step left it, on the host. */
static void take_over(par_trainer *t, const par__begun *b) {
    const par_vote_state *s = b->state;
    t->scaler = s->scaler;
    t->updates = s->updates;
    t->consumed = s->step.first_sample;
    t->gradient_scale = s->outcome.gradient_scale;
}

/* What the vote means, the same on every rank. The message of a rank that failed reaches all in the
 * agreement, which is taken only then. */
static par_status conclude(par_trainer *t, const par__begun *b, par_vote *out) {
    const par_vote_state *s = b->state;
    *out = vote_of(s);
    if (out->status != PAR_OK)
        return par_comm_agree(t->mesh->world, b->status == PAR_OK
                                                  ? PAR_OK
                                                  : par_error_set(b->status, "%s", b->message));
    if (s->outcome.bad_rank < 0) return PAR_OK;
    PAR_TRY(par__vote_where(t, &s->outcome, out->where, sizeof out->where));
    return skipped(s, out);
}

/* Steps behind one that ended the training have changed nothing. */
static par_status drop_begun(par_trainer *t) {
    for (; t->n_ended < t->n_begun; t->n_ended++)
        PAR_TRY(par__vote_await(t, &t->begun[t->n_ended % PAR_STEPS_BEGUN]));
    t->upload = true; /* without the halt */
    return PAR_OK;
}

par_status par_trainer_step_end(par_trainer *t, par_vote *out) {
    PAR_REQUIRE(t && out);
    if (t->n_begun == t->n_ended)
        PAR_FAIL(PAR_ERR_ARG, "no step was begun (par_trainer_step_begin)");
    par__begun *b = &t->begun[t->n_ended % PAR_STEPS_BEGUN];
    PAR_TRY(par__vote_await(t, b));
    t->n_ended++;
    take_over(t, b);
    PAR_TRY(measure_step(t, b));
    if (b->state->halted) PAR_TRY(drop_begun(t));
    return conclude(t, b, out);
}

par_status par_trainer_step(par_trainer *t, const par_source *source, float lr, bool stop,
                            par_vote *out) {
    PAR_REQUIRE(t && source && out);
    PAR_TRY(par__no_step_begun(t));
    PAR_TRY(par_trainer_step_begin(t, source, lr, stop));
    return par_trainer_step_end(t, out);
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
    par__executor_add_losses(t->executor, &result);
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
        PAR_FAIL(PAR_ERR_ARG,
                 "%lld samples to evaluate are not a multiple of micro-batch x dp = %lld",
                 (long long)n, (long long)unit);
    PAR_TRY(par__no_step_begun(t));
    par__walk_result sum = {0};
    t->source = source;
    for (int64_t done = 0; done < n;) {
        const par_schedule *schedule = n - done >= unit * t->n_micro ? t->evaluate : t->single;
        par_status st = walk_forward(t, schedule, first + done, &sum);
        if (st == PAR_ERR_TRANSPORT || st == PAR_ERR_INTERNAL) return st;
        if (st != PAR_OK && bad == PAR_OK) bad = st;
        done += unit * schedule->m;
    }
    par__poll poll = {.status = (int64_t)bad};
    if (par__counts_loss(t)) {
        poll.loss_sum = sum.loss_sum;
        poll.n_targets = sum.n_targets;
    }
    PAR_TRY(par__poll_all(t, &poll));
    *loss = poll.n_targets > 0 ? poll.loss_sum / poll.n_targets : 0;
    return poll.status == PAR_OK ? PAR_OK : par_comm_agree(t->mesh->world, bad);
}

par_status par_trainer_forward(par_trainer *t, const void *x, const void *targets,
                               par_status (*visit)(void *user, const par_module *last,
                                                   const void *stash),
                               void *user) {
    PAR_REQUIRE(t && x && targets && visit);
    PAR_TRY(par__no_step_begun(t));
    par__walk_result result = {0};
    t->given_x = x;
    t->given_targets = targets;
    par_status st = walk_forward(t, t->single, 0, &result);
    t->given_x = t->given_targets = NULL;
    if (st == PAR_ERR_TRANSPORT || st == PAR_ERR_INTERNAL) return st;
    const par__chunk *chunk = &t->chunks[t->n_chunks - 1];
    if (st == PAR_OK && t->mesh->coordinate[PAR_PP] == t->params.layout.size[PAR_PP] - 1)
        st = visit(user, chunk->modules[chunk->n_modules - 1],
                   par__executor_last_stash(t->executor));
    return par_comm_agree(t->mesh->world, st);
}
