/*
 * Validation is a function of the samples: each of them counts once, in every layout, also when
 * their number is not a multiple of what a layout works on at a time; and nothing behind the last
 * one is read.
 */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <string.h>
#include <time.h>

#include "../harness.h"
#include "check.h"

enum { FIRST = 5, MAX_N = 13 };

typedef struct {
    const check_data *data;
    int64_t end;
    int n_ignored; /* targets at the front of each sample that do not count */
} bounded;

static par_status read_bounded(void *user, int64_t first, int64_t n, void *x, void *targets) {
    const bounded *b = user;
    int64_t T = b->data->T;
    par_source source = check_source(b->data);
    if (first < FIRST || first + n > b->end)
        PAR_FAIL(PAR_ERR_IO, "samples %lld + %lld asked for; there are %d to %lld",
                 (long long)first, (long long)n, FIRST, (long long)b->end - 1);
    PAR_TRY(source.read(source.user, first, n, x, targets));
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < b->n_ignored; j++) ((int32_t *)targets)[i * T + j] = -1;
    return PAR_OK;
}

/* Mean loss of n samples in this layout. */
static double evaluate(par_transport *transport, const par_trainer_params *params, int64_t n,
                       int n_ignored) {
    const check_data data = {.vocab = 131, .T = 16};
    bounded b = {&data, FIRST + n, n_ignored};
    const par_source source = {read_bounded, &b};
    par_trainer *trainer = NULL;
    double loss = -1;
    CHECK_OK(par_trainer_create(transport, params, &trainer));
    if (trainer) CHECK_OK(par_trainer_evaluate(trainer, &source, FIRST, n, &loss));
    par_trainer_destroy(&trainer);
    return loss;
}

/* The mean over samples one at a time: no layout, no padding. */
static double reference(const par_model *model, int64_t n, int n_ignored) {
    const par_trainer_params params = check_params((par_model *)model, 1, 1, 1, 1, 1);
    const par_transport_params none = {0};
    par_transport *self = NULL;
    double sum = 0;
    CHECK_OK(par_transport_create_self(&none, &self));
    const check_data data = {.vocab = 131, .T = 16};
    bounded b = {&data, FIRST + n, n_ignored};
    const par_source source = {read_bounded, &b};
    par_trainer *trainer = NULL;
    CHECK_OK(par_trainer_create(self, &params, &trainer));
    for (int64_t i = 0; trainer && i < n; i++) {
        double loss = 0;
        CHECK_OK(par_trainer_evaluate(trainer, &source, FIRST + i, 1, &loss));
        sum += loss;
    }
    par_trainer_destroy(&trainer);
    par_transport_destroy(&self);
    return sum / (double)n;
}

static void run_layouts(par_transport *transport) {
    static const struct {
        int tp, pp, dp, micro, batch;
    } layouts[] = {{1, 1, 4, 1, 8},  {1, 1, 4, 3, 12}, {2, 1, 2, 2, 8},
                   {1, 2, 2, 2, 16}, {2, 2, 1, 4, 8},  {1, 4, 1, 2, 8}};
    static const int64_t counts[] = {1, 3, 8, MAX_N};
    par_transformer_config config;
    par_model *model = NULL;
    check_config(true, &config);
    CHECK_OK(par_transformer_create(&config, &model));
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        int n_ignored = counts[c] == 8 ? 5 : 0;
        double want = reference(model, counts[c], n_ignored);
        for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
            const par_trainer_params params =
                check_params(model, layouts[i].tp, layouts[i].pp, layouts[i].dp, layouts[i].micro,
                             layouts[i].batch);
            double loss = evaluate(transport, &params, counts[c], n_ignored);
            CHECK(fabs(loss - want) <= 1e-5 * fabs(want),
                  "%lld samples on tp %d pp %d dp %d, micro-batch %d: %.9g, one by one %.9g",
                  (long long)counts[c], layouts[i].tp, layouts[i].pp, layouts[i].dp,
                  layouts[i].micro, loss, want);
        }
    }
    par_transformer_destroy(&model);
}

/* Another model's targets may be anything: then what does not divide is refused. */
static void run_not_ids(par_transport *transport) {
    par_transformer_config config;
    par_model *model = NULL;
    check_config(false, &config);
    CHECK_OK(par_transformer_create(&config, &model));
    par_model other = *model;
    other.n_ids = 0;
    const par_trainer_params params = check_params(&other, 1, 1, 2, 2, 8);
    const check_data data = {.vocab = 131, .T = 16};
    const par_source source = check_source(&data);
    par_trainer *trainer = NULL;
    double loss;
    CHECK_OK(par_trainer_create(transport, &params, &trainer));
    CHECK_FAILS(par_trainer_evaluate(trainer, &source, 0, 6, &loss), PAR_ERR_ARG,
                "not a multiple of micro-batch x dp = 4");
    CHECK_OK(par_trainer_evaluate(trainer, &source, 0, 8, &loss));
    CHECK_FAILS(par_trainer_evaluate(trainer, &source, 0, 0, &loss), PAR_ERR_ARG, "n > 0");
    par_trainer_destroy(&trainer);
    par_transformer_destroy(&model);
}

/* One id of one sample. */
typedef struct {
    const check_data *data;
    int64_t sample;
    int place;
    int32_t x, target; /* -2: as it is */
} spoilt;

static par_status read_spoilt(void *user, int64_t first, int64_t n, void *x, void *targets) {
    const spoilt *s = user;
    par_source source = check_source(s->data);
    PAR_TRY(source.read(source.user, first, n, x, targets));
    if (s->sample < first || s->sample >= first + n) return PAR_OK;
    int64_t at = (s->sample - first) * s->data->T + s->place;
    if (s->x != -2) ((int32_t *)x)[at] = s->x;
    if (s->target != -2) ((int32_t *)targets)[at] = s->target;
    return PAR_OK;
}

/* An id outside of the vocabulary never trains: every rank gets the sample's number in a step, in
 * an evaluation; and weights stay. -1 is outside for a token, and an ignored target. */
static void run_ids(par_transport *transport) {
    const check_data data = {.vocab = 131, .T = 16};
    const struct {
        spoilt s;
        const char *text;
    } cases[] = {
        {{&data, 6, 3, 131, -2}, "sample 6: token 3 is id 131; legal: 0 to 130"},
        {{&data, 1, 0, -1, -2}, "sample 1: token 0 is id -1"},
        {{&data, 7, 15, -2, 1000}, "sample 7: target 15 is id 1000"},
    };
    par_transformer_config config;
    par_model *model = NULL;
    check_config(true, &config);
    CHECK_OK(par_transformer_create(&config, &model));
    const par_trainer_params params = check_params(model, 1, 2, 2, 2, 8);
    par_source good = check_source(&data);
    par_trainer *trainer = NULL;
    par_vote vote;
    double before, after;
    CHECK_OK(par_trainer_create(transport, &params, &trainer));
    CHECK_OK(par_trainer_evaluate(trainer, &good, 0, 4, &before));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        spoilt s = cases[i].s;
        par_source bad = {read_spoilt, &s};
        CHECK_FAILS(par_trainer_step(trainer, &bad, 1e-2f, false, &vote), PAR_ERR_FORMAT,
                    cases[i].text);
        CHECK(vote.status == PAR_ERR_FORMAT, "the vote says %s", par_status_text(vote.status));
        CHECK_FAILS(par_trainer_evaluate(trainer, &bad, 0, 8, &after), PAR_ERR_FORMAT,
                    cases[i].text);
    }
    CHECK_OK(par_trainer_evaluate(trainer, &good, 0, 4, &after));
    CHECK(before == after, "weights changed: %.9g and %.9g", before, after);
    spoilt ignored = {&data, 2, 4, -2, -1};
    par_source fine = {read_spoilt, &ignored};
    CHECK_OK(par_trainer_step(trainer, &fine, 1e-2f, false, &vote));
    CHECK(vote.n_targets == 8 * 16 - 1, "%lld targets", (long long)vote.n_targets);
    par_trainer_destroy(&trainer);
    par_transformer_destroy(&model);
}

typedef struct {
    const check_data *data;
    int64_t from, largest; /* refuses samples from `from` on; the largest one it was asked for */
} stopping;

static par_status read_until(void *user, int64_t first, int64_t n, void *x, void *targets) {
    stopping *s = user;
    par_source source = check_source(s->data);
    if (first + n - 1 > s->largest) s->largest = first + n - 1;
    if (first + n > s->from) return par_error_set(PAR_ERR_STOPPED, "enough at %d", (int)s->from);
    return source.read(source.user, first, n, x, targets);
}

/* A source of one rank ends an evaluation on all, one batch of 4 samples later. */
static void run_stopped(par_transport *transport) {
    const check_data data = {.vocab = 131, .T = 16};
    bool stops = par_transport_rank(transport) == 0;
    stopping s = {&data, stops ? 5 : INT64_MAX, -1};
    par_source good = check_source(&data), source = {read_until, &s};
    par_transformer_config config;
    par_model *model = NULL;
    par_trainer *trainer = NULL;
    double before, after;
    check_config(true, &config);
    CHECK_OK(par_transformer_create(&config, &model));
    const par_trainer_params params = check_params(model, 1, 2, 2, 1, 4);
    CHECK_OK(par_trainer_create(transport, &params, &trainer));
    CHECK_OK(par_trainer_evaluate(trainer, &good, 0, 400, &before));
    CHECK_FAILS(par_trainer_evaluate(trainer, &source, 0, 400, &after), PAR_ERR_STOPPED,
                "enough at 5");
    CHECK(s.largest < 12, "sample %lld was read", (long long)s.largest);
    CHECK_OK(par_trainer_evaluate(trainer, &good, 0, 400, &after));
    CHECK(before == after, "losses changed: %.17g and %.17g", before, after);
    par_trainer_destroy(&trainer);
    par_transformer_destroy(&model);
}

/* What a validation waits for between two steps, 200 ms here, is no time of the second one; nor is
 * what a recorder counted before it was set to 0. */
static void run_times(par_transport *transport) {
    const struct timespec nap = {.tv_nsec = 200000000};
    const check_data data = {.vocab = 131, .T = 16};
    const par_source source = check_source(&data);
    par_transformer_config config;
    par_model *model = NULL;
    par_trainer *trainer = NULL;
    par_vote vote;
    double loss;
    check_config(true, &config);
    CHECK_OK(par_transformer_create(&config, &model));
    const par_trainer_params params = check_params(model, 2, 1, 1, 1, 2);
    CHECK_OK(par_trainer_create(transport, &params, &trainer));
    for (int i = 0; trainer && i < 3; i++) {
        CHECK_OK(par_trainer_step(trainer, &source, 1e-3f, false, &vote));
        const par_step_times *t = par_trainer_times(trainer);
        CHECK(t->exposed[PAR_TP] > 0 && t->hidden[PAR_TP] >= 0 && t->exposed[PAR_TP] <= t->total,
              "step %d: %g s of %g waited for tp, %g hidden", i, t->exposed[PAR_TP], t->total,
              t->hidden[PAR_TP]);
        if (i == 1) par_recorder_reset(par_transport_recorder(transport));
        if (i != 0) continue;
        if (par_transport_rank(transport) == 0) nanosleep(&nap, NULL);
        CHECK_OK(par_trainer_evaluate(trainer, &source, 0, 2, &loss));
    }
    par_trainer_destroy(&trainer);
    par_transformer_destroy(&model);
}

static const harness_case cases[] = {
    {"times", NULL, 2, run_times, 0},     {"layouts", NULL, 4, run_layouts, 0},
    {"not-ids", NULL, 2, run_not_ids, 0}, {"ids", NULL, 4, run_ids, 0},
    {"stopped", NULL, 4, run_stopped, 0},
};

int main(int argc, char **argv) {
    return harness_main_mpi("evaluate", cases, HARNESS_COUNT(cases), argc, argv);
}
