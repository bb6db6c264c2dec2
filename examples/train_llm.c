/*
 * train_llm: train a GPT or a Llama over tp x pp x dp ranks.
 *
 *     mpirun -n 64 ./train_llm --tp 2 --pp 4 --dp 8
 *
 * In order: what depends on the options alone (no communication), what depends on files (one
 * agreement), the trainer, the loop. Every rank leaves with the same exit code; rank 0 alone
 * prints.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "train_llm.h"

#ifndef TRAIN_LLM_VERSION
#define TRAIN_LLM_VERSION "unknown"
#endif

/* A disk that fills up during a training is no bad input. */
static bool began;

static int exit_code(par_status st) {
    if (began && st == PAR_ERR_IO) return EXIT_RUNTIME;
    switch (st) {
    case PAR_OK: return EXIT_OK;
    case PAR_ERR_STOPPED: return EXIT_STOPPED;
    case PAR_ERR_ARG:
    case PAR_ERR_OPTION:
    case PAR_ERR_LAYOUT:
    case PAR_ERR_FORMAT:
    case PAR_ERR_IO:
    case PAR_ERR_UNSUPPORTED: return EXIT_INPUT;
    case PAR_ERR_NUMERIC: return EXIT_NONFINITE;
    default: return EXIT_RUNTIME;
    }
}

static par_status evaluate(const run *r, par_trainer *trainer, const data *d, const world *w,
                           observer *o, int64_t step) {
    par_source source = par_sampler_source(d->validation);
    double loss, begin = world_seconds();
    PAR_TRY(par_trainer_evaluate(trainer, &source, 0, d->n_validation, &loss));
    double seconds = world_seconds() - begin;
    observer_validation(o, r, step, loss, d->n_validation, seconds);
    if (w->rank != 0) return PAR_OK;
    report_progress_clear();
    printf("val loss %.4f | %lld samples | %.1f s\n", loss, (long long)d->n_validation, seconds);
    return PAR_OK;
}

static bool due(int64_t step, int64_t every, int64_t last) {
    return step == last || (every && step % every == 0);
}

/* Rank 0: the step line where it is due, and progress. */
static void report_after(const run *r, const par_trainer *trainer, int64_t step, bool first,
                         double lr, double seconds, const par_vote *vote) {
    bool last = vote->stop || step == r->set.steps;
    report_time(seconds, vote);
    if (last || first || vote->skipped || due(step, r->set.log_every, r->set.steps))
        report_step(r, step, lr, seconds, vote, trainer);
    if (!last) report_progress(r, step);
}

/* The loop's place: steps that have ended, the last one's vote, and what signals have asked for
 * since. */
typedef struct {
    int64_t first, ended;
    par_vote vote;
    int asked;
} place;

static par_status end_step(const run *r, const world *w, par_trainer *trainer, observer *o,
                           place *at) {
    int asked = ASKED_NOTHING;
    double lr = options_lr(&r->set, at->ended + 1);
    PAR_TRY(par_trainer_step_end(trainer, &at->vote));
    double seconds = par_trainer_times(trainer)->total;
    at->ended++;
    observer_step(o, at->ended, lr, seconds, &at->vote, par_trainer_times(trainer));
    if (w->rank == 0)
        report_after(r, trainer, at->ended, at->ended == at->first, lr, seconds, &at->vote);
    if (at->vote.stop) PAR_TRY(checkpoint_agree(w, &asked));
    if (asked > at->asked) at->asked = asked;
    return PAR_OK;
}

/* With no step under way: the checkpoint that is due, and whether a signal ends the run. */
static par_status after_steps(const run *r, const world *w, const data *d, par_trainer *trainer,
                              place *at) {
    const settings *s = &r->set;
    int64_t step = at->ended;
    int asked = at->asked;
    at->asked = ASKED_NOTHING;
    bool last = step == s->steps || asked == ASKED_STOP;
    if (last || asked == ASKED_SAVE || (s->save_every && step % s->save_every == 0))
        PAR_TRY(checkpoint_save(r, w, d, trainer, step, at->vote.loss));
    if (asked != ASKED_STOP) return PAR_OK;
    if (w->rank == 0) printf("stopped by a signal after step %lld\n", (long long)step);
    return par_error_set(PAR_ERR_STOPPED, "by a signal, after step %lld", (long long)step);
}

/* Steps until the last one, an error, or a vote to stop. Where the device works behind the host one
 * step stays begun while the next is, so that the device never waits; what a step leads to comes
 * after all have ended. A run may have been stopped between a checkpoint and the validation that
 * was due after it: then it comes first. */
static par_status train(const run *r, const world *w, const data *d, par_trainer *trainer,
                        int64_t done, observer *o) {
    const settings *s = &r->set;
    bool behind = !par_trainer_backend(trainer)->on_host;
    par_source source = par_sampler_source(d->train);
    place at = {.first = done + 1, .ended = done, .asked = ASKED_NOTHING};
    if (done && d->validation && due(done, s->eval_every, s->steps) && !observer_has_validation(o))
        PAR_TRY(evaluate(r, trainer, d, w, o, done));
    for (int64_t step = done + 1; step <= s->steps; step++) {
        float lr = (float)options_lr(s, step);
        bool validates = d->validation && due(step, s->eval_every, s->steps);
        bool all = !behind || validates || due(step, s->save_every, s->steps);
        PAR_TRY(par_trainer_step_begin(trainer, &source, lr, checkpoint_asked() != ASKED_NOTHING));
        while (at.ended < (all ? step : step - 1)) {
            PAR_TRY(end_step(r, w, trainer, o, &at));
            if (at.asked != ASKED_NOTHING) all = true;
        }
        if (all) PAR_TRY(after_steps(r, w, d, trainer, &at));
        if (validates) PAR_TRY(evaluate(r, trainer, d, w, o, step));
    }
    return PAR_OK;
}

static par_status read_import(void *user, const par_param *param, float *dst) {
    return par_import_read(user, param, dst);
}

/* Rank 0's figures for people; a failure is agreed, as every rank must do the same afterwards. */
static par_status show(const run *r, world *w, const data *d, const par_trainer *trainer) {
    par_status st = PAR_OK;
    double nats = 0;
    if (r->set.show_mesh) {
        PAR_TRY(par_mesh_print(par_trainer_mesh(trainer), report_line, NULL));
        PAR_TRY(world_devices_print(w, &r->set, report_line));
    }
    if (w->rank == 0) {
        report_start(r, w, d, trainer);
        if (r->set.gantt) st = report_gantt(r, trainer);
        if (st == PAR_OK && r->set.bigram) st = data_bigram(d, r->config.vocab, &nats);
        if (st == PAR_OK && r->set.bigram)
            printf("bigram table: %.4f nats a token on the validation part\n", nats);
    }
    return world_agree(w, st);
}

/* Everything up to the last step. *o is there once the steps have begun. */
static par_status train_with_trainer(const run *r, world *w, const data *d, par_import *import,
                                     par_trainer *trainer, sampler *p, observer **o) {
    beginning from = {0};
    double begin = world_seconds();
    if (import) PAR_TRY(par_trainer_load(trainer, read_import, import));
    PAR_TRY(sample_prepare(r, p, trainer));
    PAR_TRY(show(r, w, d, trainer));
    PAR_TRY(checkpoint_check(r, w, trainer));
    PAR_TRY(checkpoint_resume(r, w, d, trainer, &from));
    PAR_TRY(observer_create(r, w, d, &from, o));
    if (w->rank == 0) printf("ready after %.1f s\n", world_seconds() - begin);
    checkpoint_catch_signals();
    began = true;
    par_status st = train(r, w, d, trainer, from.step, *o);
    if (w->rank == 0) report_progress_clear();
    return st;
}

static par_status train_with_data(const run *r, world *w, const data *d, par_import *import,
                                  sampler **p) {
    par_trainer *trainer = NULL;
    observer *o = NULL;
    PAR_TRY(par_trainer_create(w->transport, &r->params, &trainer));
    par_status st = train_with_trainer(r, w, d, import, trainer, *p, &o);
    bool ended = st == PAR_OK || st == PAR_ERR_STOPPED; /* the same on every rank */
    par_status counted = ended ? observer_count(o, r, d, trainer) : PAR_OK;
    if (counted != PAR_OK) st = counted, ended = false;
    if (st == PAR_OK) st = sample_draw(r, w, *p);
    sample_close(p);
    /* A broken transport cannot be taken down together; the process ends instead. */
    if (st != PAR_ERR_TRANSPORT) par_trainer_destroy(&trainer);
    if (ended && st != PAR_ERR_TRANSPORT) {
        par_status matrix = observer_matrix(o, r, w);
        if (st == PAR_OK) st = matrix;
    }
    observer_destroy(&o);
    return st;
}

/* --sample: weights and a text, no data. */
static par_status only_sample(const run *r, world *w, par_import *import, sampler **p) {
    static const data none;
    par_trainer *trainer = NULL;
    beginning from = {0};
    PAR_TRY(par_trainer_create(w->transport, &r->params, &trainer));
    par_status st = import ? par_trainer_load(trainer, read_import, import) : PAR_OK;
    if (st == PAR_OK) st = sample_prepare(r, *p, trainer);
    if (st == PAR_OK) st = checkpoint_resume(r, w, &none, trainer, &from);
    if (st == PAR_OK) st = sample_draw(r, w, *p);
    sample_close(p);
    if (st != PAR_ERR_TRANSPORT) par_trainer_destroy(&trainer);
    return st;
}

/* The checks of what options and configuration say; the same answer on every rank. */
static par_status resolve(run *r, int world_size, par_problems *problems) {
    options_resolve(r, world_size, problems);
    return par_problems_status(problems, PAR_ERR_OPTION);
}

static par_status open_import(run *r, world *w, par_import **import) {
    par_problems problems = {0};
    PAR_TRY(world_agree(w, par_import_open(r->set.import, import)));
    r->config = *par_import_config(*import);
    return resolve(r, w->size, &problems);
}

static par_status run_connected(run *r, world *w) {
    par_import *import = NULL;
    sampler *p = NULL;
    data d = {0};
    const settings *s = &r->set;
    par_status st = world_device(w, s);
    if (st == PAR_OK) st = world_threads(w, s->threads);
    if (st == PAR_OK && s->import) st = open_import(r, w, &import);
    if (st == PAR_OK && w->rank == 0) report_notes(r, w);
    if (st == PAR_OK && !s->sample) st = world_agree(w, data_open(r, w, &d));
    if (st == PAR_OK) st = sample_open(r, w, &p);
    if (st == PAR_OK)
        st = s->sample            ? only_sample(r, w, import, &p)
             : s->verify_parallel ? verify_parallel(r, w, &d)
                                  : train_with_data(r, w, &d, import, &p);
    sample_close(&p);
    data_close(&d);
    par_import_close(&import);
    return st;
}

/* The plan needs no peers: a world as large as the layout says, also without mpirun. */
static par_status dry_run(run *r, int world_size, int rank, par_problems *problems) {
    const settings *s = &r->set;
    int64_t product = 1;
    const int64_t sizes[] = {s->tp, s->cp, s->pp, s->dp};
    for (int i = 0; i < 4; i++) product *= sizes[i] && product < 1000000 ? sizes[i] : 1;
    if (world_size == 1) world_size = (int)product;
    if (r->set.import) {
        par_import *import = NULL;
        PAR_TRY(par_import_open(r->set.import, &import));
        r->config = *par_import_config(import);
        par_import_close(&import);
    }
    PAR_TRY(resolve(r, world_size, problems));
    PAR_TRY(world_device_alone(s)); /* the plan has its kernels' workspaces */
    return rank == 0 ? report_plan(r, world_size) : PAR_OK;
}

static _Noreturn void end(par_status st, int rank) {
    if (st != PAR_OK && st != PAR_ERR_STOPPED && (rank == 0 || st == PAR_ERR_TRANSPORT))
        report_problems(par_status_text(st), par_error());
    world_end(exit_code(st), st == PAR_ERR_TRANSPORT);
}

static void show_and_end(const settings *s, int rank) {
    char text[16384];
    if (!s->help && !s->version) return;
    options_help(text, sizeof text);
    if (rank == 0) printf("%s\n", s->help ? text : "train_llm (libpar) " TRAIN_LLM_VERSION);
    world_end(EXIT_OK, false);
}

int main(int argc, char **argv) {
    static run r;
    world w = {0};
    par_problems problems = {0};
    int size, rank;
    setvbuf(stdout, NULL, _IOLBF, 1 << 16);
    signal(SIGXFSZ,
           SIG_IGN); /* a file at the limit of its size is an error of write, with a message */
    if (world_begin(&size, &rank) != EXIT_OK) return EXIT_RUNTIME;
    options_parse(&r.set, argc, argv, &problems);
    show_and_end(&r.set, rank);
    options_model(&r.set, &r.config, &problems);
    if (r.set.dry_run) end(dry_run(&r, size, rank, &problems), rank);
    world_check_singletons(size, &problems);
    if (!r.set.import || problems.n) {
        par_status st = resolve(&r, size, &problems);
        if (st != PAR_OK) end(st, rank);
    }
    par_status st = world_connect(&w, &r.set);
    if (st == PAR_OK) st = run_connected(&r, &w);
    if (st != PAR_ERR_TRANSPORT) {
        run_destroy(&r);
        world_disconnect(&w);
    }
    end(st, rank);
}
