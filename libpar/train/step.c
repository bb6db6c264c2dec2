/* One optimizer step, evaluation, and a forward of given inputs. */
#include <string.h>

#include "libpar/base/fields.h"
#include "libpar/base/hash.h"
#include "trainer.h"

/* The rank's first sample of a step, counted from the step's. */
static int64_t own_offset(const par__context *on) {
    return on->mesh->coordinate[PAR_DP] * (on->params.global_batch / par__dp(on));
}

/* Forward and backward of all micro-batches, gradients reduced, their norms. */
static par_status walk_training(par_trainer *t, par__begun *b, const int *captured) {
    const par__context *on = &t->on;
    const par_step *step = par__vote_step(&t->vote);
    const par__walk walk = {.training = true,
                            .loss_seed = &step->loss_seed,
                            .sample_base = &step->first_sample,
                            .first_sample = own_offset(on),
                            .sample_stride = on->params.micro_batch,
                            .captured = captured};
    par__walk_result result = {0};
    par__buckets_begin_step(&t->buckets);
    PAR_TRY(par__executor_walk(t->stage.executor, par__stage_training(&t->stage), &walk, &result));
    par__begun_fail(b, par__feed_take_failure(&t->feed));
    b->measured.walk = result.walk;
    b->measured.times.data = result.load;
    int64_t begin = par__timeline_now(on->stream->timeline);
    PAR_TRY(par__meter_enter(&t->meter, PAR__SPAN_REDUCE));
    PAR_TRY(par__buckets_finish_reduce(&t->buckets));
    PAR_TRY(par__meter_leave(&t->meter, PAR__SPAN_REDUCE));
    par__timeline_phase(on->stream->timeline, "gradients", begin, -1);
    if (on->backend->on_host) b->measured.times.tail = t->buckets.tail_s;
    begin = par__timeline_now(on->stream->timeline);
    PAR_TRY(par__optimizer_norms(&t->optimizer));
    par__timeline_phase(on->stream->timeline, "norms", begin, -1);
    return PAR_OK;
}

/* What the host tells of this rank's part. */
static void fill_ballot(par_trainer *t, par__begun *b) {
    b->ballot->status = (int32_t)b->status;
    b->ballot->busy = t->meter.busy;
    b->ballot->total = t->meter.walked;
}

/* Bucket by bucket in the order in which the next forward reads them: weights of one travel while
 * the next is updated. In a graph those of the first alone: the next graph begins with the rest. */
static par_status update(par_trainer *t, bool captured) {
    const par_step *step = par__vote_step(&t->vote);
    for (int i = 0; i < t->flat.registry->n_buckets; i++) {
        int b = par__bucket_of_use(&t->buckets, i);
        PAR_TRY(par__optimizer_update(&t->optimizer, step, b));
        if (!captured || i == 0) PAR_TRY(par__bucket_begin_gather(&t->buckets, b));
    }
    return PAR_OK;
}

/* Everything of a step, on the stream; `captured`: the graph that it becomes, NULL: none. */
static par_status enqueue(par_trainer *t, par__begun *b, const int *captured) {
    par__meter_begin(&t->meter, &b->measured, captured);
    PAR_TRY(par__meter_enter(&t->meter, PAR__SPAN_STEP));
    PAR_TRY(par__buckets_begin_owed(&t->buckets, captured));
    PAR_TRY(walk_training(t, b, captured));
    par_tally tally = {.n_norms = t->flat.registry->n_params, .norms = t->optimizer.norms};
    if (par__counts_loss(&t->on))
        tally.losses = par__executor_losses(t->stage.executor, &tally.n_losses);
    if (t->on.backend->on_host) PAR_TRY(par__meter_walk(&t->meter, &b->measured));
    fill_ballot(t, b);
    int64_t begin = par__timeline_now(t->on.stream->timeline);
    par_range_begin(t->on.backend, "vote");
    par_status st = par__vote_hold(&t->vote, b, tally);
    par_range_end(t->on.backend);
    par__timeline_phase(t->on.stream->timeline, "vote", begin, -1);
    PAR_TRY(st);
    PAR_TRY(par__meter_enter(&t->meter, PAR__SPAN_UPDATE));
    begin = par__timeline_now(t->on.stream->timeline);
    par_range_begin(t->on.backend, "update");
    st = update(t, captured);
    par_range_end(t->on.backend);
    par__timeline_phase(t->on.stream->timeline, "update", begin, -1);
    PAR_TRY(st);
    PAR_TRY(par__meter_leave(&t->meter, PAR__SPAN_UPDATE));
    if (captured) PAR_TRY(par__buckets_owe(&t->buckets));
    PAR_TRY(par__meter_leave(&t->meter, PAR__SPAN_STEP));
    par__meter_count(&t->meter, &b->measured);
    return par__vote_fetch(&t->vote, b);
}

/* Call by call. */
static par_status run_plainly(par_trainer *t, const par_source *source, par__begun *b) {
    par__feed_begin(&t->feed, source, par__vote_first_sample(&t->vote) + own_offset(&t->on));
    return enqueue(t, b, NULL);
}

/* Capture graph k. What cannot be captured is not an error of the step: it runs call by call, with
 * what the walk left behind undone. */
static par_status capture(par_trainer *t, par__begun *b, int k) {
    PAR_TRY(par__buckets_owe(&t->buckets));
    if (par__graphs_begin(&t->graphs, k) != PAR_OK) return PAR_OK;
    par_status st = enqueue(t, b, &k);
    if (par__graphs_end(&t->graphs, k, st) == PAR_OK || st == PAR_ERR_TRANSPORT) return st;
    par__executor_forget(t->stage.executor);
    PAR_TRY(par__buckets_forget(&t->buckets));
    return par__sync(&t->on); /* buffers of the feed may be another graph's */
}

/* As a graph: batches and ballot are where it copies them from, then it is launched. */
static par_status run_graph(par_trainer *t, const par_source *source, par__begun *b, int k) {
    int64_t first = par__vote_first_sample(&t->vote) + own_offset(&t->on);
    double load = 0;
    PAR_TRY(par__feed_fill(&t->feed, source, first, k, &load));
    par__begun_fail(b, par__feed_take_failure(&t->feed));
    if (!t->graphs.graphs[k]) PAR_TRY(capture(t, b, k));
    if (!par__graphs_on(&t->graphs)) return run_plainly(t, source, b);
    fill_ballot(t, b);
    par__meter_repeat(&t->meter, &b->measured, k, load);
    PAR_TRY(par__graphs_launch(&t->graphs, k));
    return par__buckets_owe(&t->buckets);
}

par_status par_trainer_step_begin(par_trainer *t, const par_source *source, float lr, bool stop) {
    par__begun *b = NULL;
    PAR_REQUIRE(t && source);
    PAR_TRY(par__trainer_ready(t, PAR__TRAINS));
    PAR_TRY(par__vote_next(&t->vote, &b));
    int k = (int)(b - t->vote.begun);
    *b->ballot = (par_ballot){.lr = lr, .stop = stop};
    par__enter(&t->on, PAR__PHASE_STEP);
    b->traced = par__timeline_of(&t->on) ? par__timeline_of(&t->on)->step : 0;
    par__recorder_flight(par_transport_recorder(t->on.transport))->step = t->vote.n_begun + 1;
    par_range_begin(t->on.backend, "step");
    par_status st = par__vote_upload(&t->vote);
    if (st == PAR_OK)
        st = par__graphs_due(&t->graphs) ? run_graph(t, source, b, k) : run_plainly(t, source, b);
    if (st == PAR_OK) st = par__vote_begun(&t->vote, b);
    par_range_end(t->on.backend);
    return par__leave(&t->on, "step", par__fatal(&t->on, st));
}

/* Wait for the oldest step, and take over what it left. */
static par_status end_step(par_trainer *t, par__begun **out) {
    PAR_TRY(par__vote_end(&t->vote, out));
    par__begun *b = *out;
    if (!t->on.backend->on_host) PAR_TRY(par__meter_walk(&t->meter, &b->measured));
    if (!t->on.backend->on_host)
        PAR_TRY(par__meter_trace(&t->meter, &b->measured, b->traced, par__timeline_of(&t->on)));
    PAR_TRY(par__meter_end(&t->meter, &b->measured, b->state->outcome.bubble));
    return b->state->halted ? par__vote_drop(&t->vote) : PAR_OK;
}

par_status par_trainer_step_end(par_trainer *t, par_vote *out) {
    par__begun *b = NULL;
    PAR_REQUIRE(t && out);
    PAR_TRY(par__step_begun(&t->vote));
    par__enter(&t->on, PAR__PHASE_STEP);
    par_status st = par__fatal(&t->on, end_step(t, &b));
    if (st == PAR_OK) st = par__vote_report(&t->vote, b, t->flat.registry, out);
    return par__leave(&t->on, "step end", st);
}

par_status par_trainer_step(par_trainer *t, const par_source *source, float lr, bool stop,
                            par_vote *out) {
    PAR_REQUIRE(t && source && out);
    PAR_TRY(par__no_step_begun(&t->vote));
    PAR_TRY(par_trainer_step_begin(t, source, lr, stop));
    return par_trainer_step_end(t, out);
}

/* One forward-only walk of schedule->m micro-batches per dp rank, from sample `first` on; those
 * from `end` on do not count. */
static par_status walk_forward(par_trainer *t, const par_schedule *schedule,
                               const par_source *source, int64_t first, int64_t end,
                               par__walk_result *sum) {
    par__walk_result result = {0};
    int64_t n = t->on.params.micro_batch;
    const par__walk walk = {.first_sample =
                                first + t->on.mesh->coordinate[PAR_DP] * schedule->m * n,
                            .sample_stride = n};
    PAR_TRY(par__fatal(&t->on, par__buckets_begin_owed(&t->buckets, false)));
    par__feed_begin(&t->feed, source, walk.first_sample);
    par__feed_end(&t->feed, end);
    par_status st = par__executor_walk(t->stage.executor, schedule, &walk, &result);
    if (st == PAR_OK) st = par__sync(&t->on);
    PAR_TRY(par__fatal(&t->on, st));
    par__executor_add_losses(t->stage.executor, &result);
    sum->loss_sum += result.loss_sum;
    sum->n_targets += result.n_targets;
    return PAR_OK;
}

/* A source that fails ends it for all. Ranks hear of a batch's behind the next one, as the first
 * stage is done with that when the last one is with this: no rank waits for the end of a batch. */
static par_status evaluate(par_trainer *t, const par_source *source, int64_t first, int64_t n,
                           double *loss) {
    static const par_tag tag = {"agree", -1, -1, -1};
    par__walk_result sum = {0};
    int64_t unit = t->on.params.micro_batch * par__dp(&t->on), left = (n + unit - 1) / unit;
    int now = 0;
    t->failed[!now].sum = 0;
    t->failed[!now].work = (par_work){0};
    for (int64_t at = first; left > 0; now = !now) {
        const par_schedule *schedule = left >= t->on.n_micro ? t->stage.evaluate : t->stage.single;
        PAR_TRY(walk_forward(t, schedule, source, at, first + n, &sum));
        at += unit * schedule->m;
        left -= schedule->m;
        t->eval_micros += schedule->m;
        t->failed[now].here = t->feed.failed != PAR_OK;
        PAR_TRY(par_comm_all_reduce(t->on.mesh->world, &t->failed[now].here, &t->failed[now].sum, 1,
                                    PAR_I32, tag, NULL, &t->failed[now].work));
        PAR_TRY(par_work_wait(t->failed[!now].work, NULL));
        if (t->failed[!now].sum > 0) left = 0;
    }
    PAR_TRY(par_work_wait(t->failed[!now].work, NULL));
    par_status bad = par__feed_take_failure(&t->feed);
    par__poll poll = {.status = (int64_t)bad};
    if (par__counts_loss(&t->on)) {
        poll.loss_sum = sum.loss_sum;
        poll.n_targets = sum.n_targets;
    }
    t->evaluations++;
    PAR_TRY(par__poll_all(&t->vote, &poll));
    *loss = poll.n_targets > 0 ? poll.loss_sum / poll.n_targets : 0;
    return poll.status == PAR_OK ? PAR_OK : par_comm_agree(t->on.mesh->world, bad);
}

par_status par_trainer_evaluate(par_trainer *t, const par_source *source, int64_t first, int64_t n,
                                double *loss) {
    PAR_REQUIRE(t && source && loss);
    par__lines given = {.used = 0};
    int64_t unit = t->on.params.micro_batch * par__dp(&t->on);
    par__lines_add(&given, "first", "%lld", (long long)first);
    par__lines_add(&given, "n", "%lld", (long long)n);
    PAR_TRY(par_comm_same(t->on.mesh->world, PAR_OK, "the evaluation's ", given.text));
    PAR_REQUIRE(first >= 0 && n > 0 && n < INT64_MAX / 2 - first);
    if (n % unit != 0 && t->on.params.model->n_ids == 0)
        PAR_FAIL(PAR_ERR_ARG,
                 "%lld samples to evaluate are not a multiple of micro-batch x dp = %lld, and this "
                 "model's targets are not ids, of which some can be left out",
                 (long long)n, (long long)unit);
    PAR_TRY(par__no_step_begun(&t->vote));
    PAR_TRY(par__trainer_ready(t, PAR__WALKS));
    par__enter(&t->on, PAR__PHASE_EVALUATE);
    return par__leave(&t->on, "validation", evaluate(t, source, first, n, loss));
}

/* A micro-batch that the caller has, as a source. */
typedef struct {
    const void *x, *targets;
    size_t x_nbytes, targets_nbytes;
} given;

static par_status read_given(void *user, int64_t first, int64_t n, void *x, void *targets) {
    const given *g = user;
    memcpy(x, g->x, g->x_nbytes);
    memcpy(targets, g->targets, g->targets_nbytes);
    return PAR_OK;
}

static void add_hash(par__lines *lines, const char *name, const void *data, size_t n) {
    par__lines_add(lines, name, "%016llx", (unsigned long long)par__fnv64(PAR__FNV64, data, n));
}

par_status par_trainer_forward(par_trainer *t, const void *x, const void *targets,
                               par_status (*visit)(void *user, const par_module *last,
                                                   const void *stash),
                               void *user) {
    PAR_REQUIRE(t && x && targets && visit);
    PAR_TRY(par__no_step_begun(&t->vote));
    PAR_TRY(par__trainer_ready(t, PAR__WALKS));
    given g = {x, targets, t->feed.x_nbytes, t->feed.targets_nbytes};
    const par_source source = {read_given, &g};
    par__lines same = {.used = 0};
    add_hash(&same, "x, hash", x, g.x_nbytes);
    add_hash(&same, "targets, hash", targets, g.targets_nbytes);
    PAR_TRY(par_comm_same(t->on.mesh->world, PAR_OK, "the forward's ", same.text));
    par__walk_result result = {0};
    PAR_TRY(walk_forward(t, t->stage.single, &source, 0, INT64_MAX, &result));
    par_status st = PAR_OK;
    const par__chunk *chunk = &t->stage.chunks[t->stage.n_chunks - 1];
    if (par__is_last_stage(&t->on))
        st = visit(user, chunk->modules[chunk->n_modules - 1],
                   par__executor_last_stash(t->stage.executor));
    return par_comm_agree(t->on.mesh->world, st);
}
