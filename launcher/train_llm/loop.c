/*
 * A training: steps, validations, checkpoints, until the last step, an error, or a vote to stop.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "observe.h"

/* A source that ends a validation when its rank, of those that read, is asked to stop. */
typedef struct {
    const par_source *data;
    const llm_run *r;
    const llm_world *w;
} stoppable;

static par_status read_or_stop(void *user, int64_t first, int64_t n, void *x, void *targets) {
    const stoppable *s = user;
    if (llm_signals_asked(s->r, s->w) >= LLM_ASKED_STOP)
        return par_error_set(PAR_ERR_STOPPED, "asked to stop");
    return s->data->read(s->data->user, first, n, x, targets);
}

/* *out: its loss, the same on every rank. In a training there is an observer, and *asked rises to
 * what was asked for meanwhile; if that was to stop: PAR_ERR_STOPPED. */
static par_status evaluate(const llm_run *r, par_trainer *trainer, const llm_data *d,
                           const llm_world *w, llm_observer *o, int64_t step, double *out,
                           int *asked) {
    stoppable data = {&d->validation, r, w};
    par_source source = o ? (par_source){read_or_stop, &data} : d->validation;
    double loss, begin = llm_world_seconds();
    par_status st;
    do {
        st = par_trainer_evaluate(trainer, &source, 0, d->n_validation, &loss);
        if (st == PAR_ERR_STOPPED) PAR_TRY(llm_signals_agree(r, w, asked));
        if (st == PAR_ERR_STOPPED) llm_observer_signal(o, step);
    } while (st == PAR_ERR_STOPPED && *asked < LLM_ASKED_STOP); /* its stop file has gone again */
    PAR_TRY(st);
    double seconds = llm_world_seconds() - begin;
    if (o) llm_observer_validation(o, r, step, loss, d->n_validation, seconds);
    *out = loss;
    if (w->rank != 0) return PAR_OK;
    llm_report_progress_clear();
    printf("val loss %.4f | %lld samples | %.1f s\n", loss, (long long)d->n_validation, seconds);
    return PAR_OK;
}

static bool due(int64_t step, int64_t every, int64_t last) {
    return step == last || (every && step % every == 0);
}

/* A validation comes after this step. */
static bool is_validated(const llm_settings *s, const llm_data *d, int64_t step) {
    return d->n_validation && (due(step, s->eval_every, s->steps) ||
                               (s->keep_best && due(step, s->save_every, s->steps)));
}

/* Where the loop stands: the steps that have ended, the last one's vote, the loss of the last
 * validation, and what signals have asked for since. */
typedef struct {
    int64_t first, ended, saved; /* saved: the step of the last checkpoint, below 0: none */
    par_vote vote;
    double loss;       /* of step `ended` */
    double validation; /* the loss after step `ended`; 0: not known */
    int asked;
    bool graphs; /* as the last line about them said */
    bool low;    /* the loss of --stop-at-loss is reached */
} position;

/* Data that could not be read: the vote has left the state as it was after the step before, which
 * is saved. Returns `st` with its message. */
static par_status save_before_end(llm_run *r, const llm_world *w, const llm_data *d,
                                  par_trainer *trainer, const position *at, par_status st) {
    static char why[PAR_ERROR_NBYTES];
    if ((st != PAR_ERR_IO && st != PAR_ERR_FORMAT) || at->ended == at->saved) return st;
    memcpy(why, par_error(), sizeof why);
    const llm_moment moment = {.step = at->ended, .loss = at->loss};
    par_status saved = llm_checkpoint_save(r, w, d, trainer, &moment);
    return saved == PAR_ERR_TRANSPORT ? saved : par_error_set(st, "%s", why);
}

static par_status end_step(llm_run *r, const llm_world *w, const llm_data *d, par_trainer *trainer,
                           llm_observer *o, position *at) {
    double lr = llm_settle_lr(&r->set, at->ended + 1);
    const par_vote *vote = &at->vote;
    par_status st = par_trainer_step_end(trainer, &at->vote);
    if (st != PAR_OK) return save_before_end(r, w, d, trainer, at, st);
    at->loss = vote->loss;
    const par_step_times *times = par_trainer_times(trainer);
    int64_t step = ++at->ended;
    llm_observer_step(o, r, w, step, lr, times->total, vote, times);
    llm_memory_step(step);
    PAR_TRY(llm_health_step(r, w, o, step, times));
    if (w->rank == 0) {
        bool last = vote->stop || step == r->set.steps;
        llm_report_time(times, vote);
        if (last || step == at->first || vote->skipped || due(step, r->set.log_every, r->set.steps))
            llm_report_step(r, w, step, lr, times->total, vote, trainer);
        if (at->graphs && par_trainer_no_graph(trainer)) {
            at->graphs = false;
            llm_report_graphs(trainer);
        }
        if (!last) llm_report_progress(r, step);
        llm_signals_check_stdout(r);
    }
    return vote->stop ? llm_signals_agree(r, w, &at->asked) : PAR_OK;
}

/* Marks that the loss of --stop-at-loss, after a validation, or a step where there is no validation
 * part, is reached. */
static void judge_loss(const llm_run *r, const llm_world *w, double loss, position *at) {
    const llm_settings *s = &r->set;
    at->low = s->stop_at_loss > 0 && loss <= s->stop_at_loss;
    if (at->low && w->rank == 0)
        printf("stopped at step %lld: the loss is at most %g (--stop-at-loss)\n",
               (long long)at->ended, s->stop_at_loss);
}

/* With no step under way: a validation, the checkpoint that is due, and whether the run was asked
 * to end; then the validation waits until it goes on. */
static par_status after_steps(llm_run *r, const llm_world *w, const llm_data *d,
                              par_trainer *trainer, llm_observer *o, bool validates, position *at) {
    const llm_settings *s = &r->set;
    int64_t step = at->ended;
    int asked = at->asked;
    if (llm_health_checks(r, step)) PAR_TRY(llm_health_replicas(step));
    at->asked = LLM_ASKED_NOTHING;
    at->validation = 0;
    bool stops = asked >= LLM_ASKED_STOP;
    if (validates && !stops) {
        par_status st = evaluate(r, trainer, d, w, o, step, &at->validation, &asked);
        stops = st == PAR_ERR_STOPPED;
        if (st != PAR_OK && !stops) return save_before_end(r, w, d, trainer, at, st);
    }
    if (!d->n_validation || (validates && !stops))
        judge_loss(r, w, d->n_validation ? at->validation : at->vote.loss, at);
    if (stops || at->low || asked == LLM_ASKED_SAVE || due(step, s->save_every, s->steps)) {
        const llm_moment moment = {.step = step,
                                   .loss = at->vote.loss,
                                   .validation = at->validation,
                                   .goes_on = !stops && !at->low && step < s->steps};
        at->saved = step;
        PAR_TRY(llm_checkpoint_save(r, w, d, trainer, &moment));
    }
    return stops ? llm_signals_stop(r, w, asked, step) : PAR_OK;
}

/* What comes behind the checkpoint that the run goes on from, and before the first step: the
 * validation, where a stop had left it out. The checkpoint is saved once more with it where it
 * decides something; and one of another directory, of which the loss may be that of other data, is
 * saved in this one if no step follows. */
static par_status catch_up(llm_run *r, const llm_world *w, const llm_data *d, par_trainer *trainer,
                           const llm_beginning *from, llm_observer *o, position *at) {
    const llm_settings *s = &r->set;
    par_status st = PAR_OK;
    bool makes_up = is_validated(s, d, from->step) && !llm_observer_has_validation(o);
    llm_moment moment = {.step = from->step, .loss = from->loss, .validation = from->validation};
    if (makes_up) st = evaluate(r, trainer, d, w, o, from->step, &moment.validation, &at->asked);
    bool stops = st == PAR_ERR_STOPPED;
    if (stops) moment.validation = from->validation;
    if (st != PAR_OK && !stops) return save_before_end(r, w, d, trainer, at, st);
    double loss = d->n_validation ? moment.validation : moment.loss;
    if (!stops && loss > 0 && (makes_up || from->own)) judge_loss(r, w, loss, at);
    bool ends = stops || at->low || from->step >= s->steps;
    bool decides = from->own && (s->keep_best || s->stop_at_loss > 0);
    moment.goes_on = !ends;
    if ((ends && !from->own) || (decides && from->validation != moment.validation)) {
        at->saved = from->step;
        PAR_TRY(llm_checkpoint_save(r, w, d, trainer, &moment));
    }
    return stops ? llm_signals_stop(r, w, at->asked, from->step) : PAR_OK;
}

/* Where the device works behind the host, one step stays begun while the next is, so that the
 * device never waits; what a step leads to comes after all have ended. */
static par_status walk_steps(llm_run *r, const llm_world *w, const llm_data *d,
                             par_trainer *trainer, const llm_beginning *from, llm_observer *o) {
    const llm_settings *s = &r->set;
    bool behind = !par_trainer_backend(trainer)->on_host;
    par_source source = d->train;
    position at = {.first = from->step + 1,
                   .ended = from->step,
                   .saved = from->own ? from->step : -1,
                   .loss = from->loss,
                   .asked = LLM_ASKED_NOTHING,
                   .graphs = !par_trainer_no_graph(trainer)};
    if (from->step) PAR_TRY(catch_up(r, w, d, trainer, from, o, &at));
    for (int64_t step = from->step + 1; step <= s->steps && !at.low; step++) {
        float lr = (float)llm_settle_lr(s, step);
        bool stop = llm_signals_asked(r, w) != LLM_ASKED_NOTHING;
        bool saves = due(step, s->save_every, s->steps);
        bool validates = is_validated(s, d, step);
        bool each = s->stop_at_loss > 0 && !d->n_validation;
        bool all = !behind || validates || saves || each || llm_health_checks(r, step) ||
                   llm_trace_edge(step);
        PAR_TRY(llm_trace_step(r, w, trainer, step));
        PAR_TRY(par_trainer_step_begin(trainer, &source, lr, stop));
        while (at.ended < (all ? step : step - 1)) {
            PAR_TRY(end_step(r, w, d, trainer, o, &at));
            if (at.asked != LLM_ASKED_NOTHING) all = true;
        }
        PAR_TRY(llm_checkpoint_go_on(r, w, trainer));
        if (all) PAR_TRY(after_steps(r, w, d, trainer, o, validates, &at));
    }
    return PAR_OK;
}

static par_status read_import(void *user, const par_param *param, float *dst) {
    return par_import_read(user, param, dst);
}

/* What a training has besides its data, each from its creation to the end. */
typedef struct {
    par_trainer *trainer;
    llm_observer *observer;
    llm_beginning from;
} training;

/* All that comes before the first step: what can be refused is refused here. */
static par_status prepare(llm_run *r, llm_world *w, const llm_data *d, par_import *import,
                          llm_generation *sample, training *t) {
    par_status st = PAR_OK;
    double nats = 0;
    PAR_TRY(llm_limits_warn(r, w));
    PAR_TRY(llm_health_nodes(r, w));
    PAR_TRY(par_trainer_create(w->transport, &r->params, &t->trainer));
    if (import) PAR_TRY(par_trainer_load(t->trainer, read_import, import));
    PAR_TRY(llm_generate_prepare(r, sample, t->trainer));
    if (w->rank == 0) {
        llm_report_data(r, d, t->trainer);
        if (r->set.bigram) st = llm_data_bigram(d, r->config.vocab, &nats);
        if (st == PAR_OK && r->set.bigram)
            printf("bigram table: %.4f nats per token on the validation part\n", nats);
    }
    PAR_TRY(llm_world_agree(w, st)); /* every rank must do the same afterwards */
    PAR_TRY(llm_checkpoint_check(r, w, d, t->trainer));
    PAR_TRY(llm_checkpoint_resume(r, w, d, t->trainer, &t->from));
    PAR_TRY(llm_methods_report(r, w, t->trainer));
    PAR_TRY(llm_run_take(r, w));
    PAR_TRY(llm_health_begin(r, w, t->trainer));
    PAR_TRY(llm_memory_begin(r, w, t->trainer));
    PAR_TRY(llm_trace_begin(r, w, t->trainer));
    PAR_TRY(llm_observer_create(r, w, d, &t->from, &t->observer));
    if (w->rank == 0) printf("ready after %.1f s\n", llm_world_seconds() - w->start);
    llm_signals_catch(r, w);
    r->began = r->trains = true;
    return PAR_OK;
}

par_status llm_loop_train(llm_run *r, llm_world *w, const llm_data *d, par_import *import,
                          llm_generation **sample) {
    training t = {0};
    PAR_TRY(llm_signals_check_file(r, w));
    PAR_TRY(llm_checkpoint_claim(r, w));
    par_status st = prepare(r, w, d, import, *sample, &t);
    if (st == PAR_OK) {
        st = walk_steps(r, w, d, t.trainer, &t.from, t.observer);
        st = llm_checkpoint_await(r, w, t.trainer, st);
        llm_signals_quiet();
        if (w->rank == 0) llm_report_progress_clear();
        par_status traced =
            st == PAR_OK || st == PAR_ERR_STOPPED ? llm_trace_end(r, w, t.trainer) : PAR_OK;
        if (st == PAR_OK) st = traced;
        if (w->rank == 0) llm_report_overlap(), llm_health_print();
        if (w->rank == 0 && st == PAR_OK && !r->set.save)
            printf("note: the weights end with this run; --save DIR would keep them\n");
    }
    bool ended = t.observer && (st == PAR_OK || st == PAR_ERR_STOPPED); /* so on every rank */
    par_status counted = ended ? llm_observer_count(t.observer, r, t.trainer) : PAR_OK;
    if (counted != PAR_OK) st = counted, ended = false;
    if (st == PAR_OK && *sample) st = llm_signals_over(r, w);
    if (st == PAR_OK) st = llm_generate_draw(r, w, *sample);
    llm_signals_quiet();
    llm_generate_close(sample);
    llm_trace_close();
    llm_health_end();
    /* Where a rank failed the process ends, without waiting for devices. */
    if (!par_transport_broken(w->transport)) {
        par_trainer_destroy(&t.trainer);
        par_status written = ended ? llm_observer_matrix(t.observer, r, w) : PAR_OK;
        if (ended && written == PAR_OK) written = llm_memory_end(r, w);
        par_status cost = ended ? llm_observer_cost(t.observer, r, w) : PAR_OK;
        if (st == PAR_OK) st = written == PAR_OK ? cost : written;
    }
    llm_memory_close();
    llm_observer_destroy(&t.observer);
    par_owner_release(&r->owner);
    return st;
}

par_status llm_loop_evaluate(llm_run *r, llm_world *w, const llm_data *d, par_import *import) {
    par_trainer *trainer = NULL;
    llm_beginning from = {0};
    double loss = 0;
    PAR_TRY(par_trainer_create(w->transport, &r->params, &trainer));
    par_status st = import ? par_trainer_load(trainer, read_import, import) : PAR_OK;
    if (st == PAR_OK) st = llm_checkpoint_resume(r, w, d, trainer, &from);
    if (st == PAR_OK) st = llm_methods_report(r, w, trainer);
    r->began = st == PAR_OK;
    if (st == PAR_OK) st = evaluate(r, trainer, d, w, NULL, from.step, &loss, NULL);
    if (st == PAR_OK && w->rank == 0) printf("perplexity %.4g\n", exp(loss));
    if (!par_transport_broken(w->transport)) par_trainer_destroy(&trainer);
    return st;
}

par_status llm_loop_generate(llm_run *r, llm_world *w, par_import *import,
                             llm_generation **sample) {
    static const llm_data none;
    par_trainer *trainer = NULL;
    llm_beginning from = {0};
    PAR_TRY(par_trainer_create(w->transport, &r->params, &trainer));
    par_status st = import ? par_trainer_load(trainer, read_import, import) : PAR_OK;
    if (st == PAR_OK) st = llm_generate_prepare(r, *sample, trainer);
    if (st == PAR_OK) st = llm_checkpoint_resume(r, w, &none, trainer, &from);
    if (st == PAR_OK) st = llm_methods_report(r, w, trainer);
    if (st == PAR_OK) st = llm_generate_draw(r, w, *sample);
    llm_generate_close(sample);
    if (!par_transport_broken(w->transport)) par_trainer_destroy(&trainer);
    return st;
}
