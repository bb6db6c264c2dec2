/*
 * Training in bf16 and fp16: one decision on all ranks when a step overflows, named and counted;
 * the same bits twice and with either ZeRO level; weights that are the rounded master; gradients
 * that do not depend on the loss scale.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness.h"
#include "check.h"

static const check_data data = {.vocab = 131, .T = 16};
static const uint16_t fp16_inf = 0x7c00;

static par_model *tiny(void) {
    par_transformer_config config;
    par_model *model = NULL;
    check_config(true, &config);
    CHECK_OK(par_transformer_create(&config, &model));
    return model;
}

static par_trainer_params params_of(const par_model *model, par_dtype dtype, int tp, int pp,
                                    int dp) {
    par_transformer_config config;
    par_trainer_params params = check_params(model, tp, pp, dp, 2, 8);
    check_config(true, &config);
    CHECK_OK(check_fit(&config, &params));
    params.dtype = dtype;
    params.bucket_n = 5000;
    return params;
}

/* Every figure of the vote is the same on all ranks. */
static void same_vote(MPI_Comm comm, const par_vote *vote) {
    par_vote first = *vote;
    MPI_Bcast(&first, (int)sizeof first, MPI_BYTE, 0, comm);
    CHECK(first.loss_scale == vote->loss_scale && first.n_nonfinite == vote->n_nonfinite &&
              first.n_skipped == vote->n_skipped && first.skipped == vote->skipped &&
              first.status == vote->status && strcmp(first.where, vote->where) == 0,
          "ranks disagree: scale %g and %g, %lld and %lld non-finite, \"%s\" and \"%s\"",
          first.loss_scale, vote->loss_scale, (long long)first.n_nonfinite,
          (long long)vote->n_nonfinite, first.where, vote->where);
}

/* The rank that the vote names counts again; dp is 1, so the whole gradient is its own. */
static void recount(const par_trainer *trainer, const par_vote *vote, int rank) {
    char name[128];
    int named = -1, n = -1, found = 0;
    CHECK(sscanf(vote->where, "%127s on rank %d (%d elements)", name, &named, &n) == 3 && n > 0,
          "the vote says \"%s\"", vote->where);
    if (named != rank) return;
    for (int i = 0; i < par_trainer_n_params(trainer); i++) {
        const par_param *p = par_trainer_param(trainer, i);
        int bad = 0;
        if (strcmp(p->name, name) != 0) continue;
        for (int64_t k = 0; k < p->local[0] * p->local[1]; k++) bad += !isfinite(p->grad[k]);
        CHECK(bad == n, "%s has %d non-finite elements, the vote says %d", name, bad, n);
        found++;
    }
    CHECK(found == 1, "rank %d has %d parameters %s", rank, found, name);
}

/* One weight of one rank is inf for a step: all ranks skip that step, and train on from unchanged
 * weights. */
static void run_overflow(par_transport *transport) {
    par_model *model = tiny();
    par_source source = check_source(&data);
    MPI_Comm comm = check_comm(transport);
    par_trainer_params params = params_of(model, PAR_F16, 2, 2, 1);
    par_trainer *trainer = NULL;
    par_vote vote = {0};
    double before, after;
    int rank = par_transport_rank(transport);
    params.scaler.hysteresis = 1;
    CHECK_OK(par_trainer_create(transport, &params, &trainer));
    CHECK_OK(par_trainer_evaluate(trainer, &source, 0, 4, &before));
    uint16_t *weight = par_trainer_param(trainer, par_trainer_n_params(trainer) - 1)->weight,
             kept = weight[0];
    if (rank == 3) weight[0] = fp16_inf;
    CHECK_OK(par_trainer_step(trainer, &source, 1e-2f, false, &vote));
    weight[0] = kept;
    CHECK(vote.skipped && vote.n_skipped == 1 && vote.loss_scale == 65536,
          "skipped %d, %lld so far, scale %g", vote.skipped, (long long)vote.n_skipped,
          vote.loss_scale);
    same_vote(comm, &vote);
    if (!strstr(vote.where, "the loss")) recount(trainer, &vote, rank);
    CHECK_OK(par_trainer_evaluate(trainer, &source, 0, 4, &after));
    CHECK(before == after, "a skipped step changed the weights: loss %.9g and %.9g", before, after);
    CHECK(par_trainer_consumed(trainer) == 8, "the skipped step consumed %lld samples, not 8",
          (long long)par_trainer_consumed(trainer));
    CHECK_OK(par_trainer_step(trainer, &source, 1e-2f, false, &vote));
    CHECK(!vote.skipped && vote.loss_scale == 32768 && vote.n_skipped == 1,
          "the next step: skipped %d, scale %g", vote.skipped, vote.loss_scale);
    par_trainer_destroy(&trainer);
    par_transformer_destroy(&model);
    MPI_Comm_free(&comm);
}

/* A scale far too large overflows for real: it falls, alike everywhere, until a step is made. */
static void run_falls(par_transport *transport) {
    par_model *model = tiny();
    par_source source = check_source(&data);
    MPI_Comm comm = check_comm(transport);
    par_trainer_params params = params_of(model, PAR_F16, 2, 2, 1);
    par_trainer *trainer = NULL;
    par_vote vote = {.skipped = true};
    int steps = 0;
    params.scaler = (par_scaler_params){.init = 0x1p32, .hysteresis = 1};
    CHECK_OK(par_trainer_create(transport, &params, &trainer));
    while (vote.skipped && steps < 32 && !harness_failed()) {
        CHECK_OK(par_trainer_step(trainer, &source, 1e-3f, false, &vote));
        same_vote(comm, &vote);
        CHECK(vote.loss_scale == ldexp(1, 32 - steps), "step %d has scale %g", steps,
              vote.loss_scale);
        if (vote.skipped) recount(trainer, &vote, par_transport_rank(transport));
        steps++;
    }
    CHECK(steps > 2 && steps < 32, "%d steps until the first update", steps);
    par_trainer_destroy(&trainer);
    par_transformer_destroy(&model);
    MPI_Comm_free(&comm);
}

/* At the floor: skips up to the limit, then an error on all ranks. */
static void run_floor(par_transport *transport) {
    par_model *model = tiny();
    par_source source = check_source(&data);
    par_trainer_params params = params_of(model, PAR_F16, 1, 2, 1);
    par_trainer *trainer = NULL;
    par_vote vote;
    params.scaler = (par_scaler_params){.init = 1, .max_skips = 3};
    CHECK_OK(par_trainer_create(transport, &params, &trainer));
    if (par_transport_rank(transport) == 0)
        ((uint16_t *)par_trainer_param(trainer, 1)->weight)[0] = fp16_inf;
    for (int i = 0; i < 2; i++) CHECK_OK(par_trainer_step(trainer, &source, 1e-3f, false, &vote));
    CHECK_FAILS(par_trainer_step(trainer, &source, 1e-3f, false, &vote), PAR_ERR_NUMERIC,
                "3 steps in a row");
    CHECK(vote.skipped && vote.n_skipped == 3, "%lld skipped, not 3", (long long)vote.n_skipped);
    par_trainer_destroy(&trainer);
    par_transformer_destroy(&model);
}

/* The policy for non-finite steps where there is no dynamic scale. */
static void run_policy(par_transport *transport) {
    par_model *model = tiny();
    par_source source = check_source(&data);
    for (int i = 0; i < 4; i++) {
        par_trainer_params params = params_of(model, i < 2 ? PAR_BF16 : PAR_F16, 1, 2, 1);
        par_trainer *trainer = NULL;
        par_vote vote;
        if (i >= 2) params.scaler.constant = 1024;
        params.scaler.max_skips = 2;
        params.nonfinite = i % 2 ? PAR_NONFINITE_SKIP : PAR_NONFINITE_STOP;
        CHECK_OK(par_trainer_create(transport, &params, &trainer));
        ((uint16_t *)par_trainer_param(trainer, 0)->weight)[131] = 0x7fff; /* NaN in both types */
        memset(par_trainer_param(trainer, 0)->weight, 0xff, 64);
        if (params.nonfinite == PAR_NONFINITE_SKIP) {
            CHECK_OK(par_trainer_step(trainer, &source, 1e-3f, false, &vote));
            CHECK_FAILS(par_trainer_step(trainer, &source, 1e-3f, false, &vote), PAR_ERR_NUMERIC,
                        "2 steps in a row");
        } else
            CHECK_FAILS(par_trainer_step(trainer, &source, 1e-3f, false, &vote), PAR_ERR_NUMERIC,
                        "unchanged");
        CHECK(vote.skipped && vote.loss_scale == (i < 2 ? 1 : 1024), "skipped %d, scale %g",
              vote.skipped, vote.loss_scale);
        par_trainer_destroy(&trainer);
    }
    par_transformer_destroy(&model);
}

typedef struct {
    double loss[4], norm[4];
    float *weights, *gradients;
} outcome;

static par_status train(par_transport *transport, const par_trainer_params *params,
                        check_table *table, outcome *out) {
    par_source source = check_source(&data);
    par_trainer *trainer = NULL;
    par_status st = par_trainer_create(transport, params, &trainer);
    for (int i = 0; i < 4 && st == PAR_OK; i++) {
        par_vote vote;
        st = par_trainer_step(trainer, &source, 1e-2f, false, &vote);
        out->loss[i] = vote.loss;
        out->norm[i] = vote.grad_norm;
        if (st == PAR_OK && i == 0)
            st = check_gather(trainer, table, PAR_STATE_GRADIENT, out->gradients);
    }
    if (st == PAR_OK) st = check_gather(trainer, table, PAR_STATE_WEIGHT, out->weights);
    par_trainer_destroy(&trainer);
    return st;
}

static void outcome_take(outcome *o, const check_table *table) {
    o->weights = calloc((size_t)table->total + 1, sizeof(float));
    o->gradients = calloc((size_t)table->total + 1, sizeof(float));
    CHECK(o->weights && o->gradients, "no memory for %lld elements", (long long)table->total);
}

static void outcome_free(outcome *o) {
    free(o->weights);
    free(o->gradients);
}

static void same_bits(const char *what, const check_table *table, const outcome *a,
                      const outcome *b) {
    CHECK(memcmp(a->loss, b->loss, sizeof a->loss) == 0 &&
              memcmp(a->norm, b->norm, sizeof a->norm) == 0,
          "%s: loss %.17g and %.17g, norm %.17g and %.17g", what, a->loss[3], b->loss[3],
          a->norm[3], b->norm[3]);
    if (table->rank == 0)
        CHECK(memcmp(a->weights, b->weights, (size_t)table->total * sizeof(float)) == 0,
              "%s: weights differ", what);
}

/* Run a layout in a precision twice, then with ZeRO-1, whose owned shards add up to the same
 * arithmetic. */
static void repeat(par_transport *transport, par_dtype dtype, int tp, int pp, int dp) {
    par_model *model = tiny();
    MPI_Comm comm = check_comm(transport);
    par_trainer_params params = params_of(model, dtype, tp, pp, dp);
    check_table table;
    outcome a, b;
    CHECK_OK(check_table_create(&params, comm, &table));
    outcome_take(&a, &table);
    outcome_take(&b, &table);
    CHECK_OK(train(transport, &params, &table, &a));
    CHECK(isfinite(a.loss[3]) && a.loss[3] != a.loss[0], "losses are %g and %g", a.loss[0],
          a.loss[3]);
    CHECK_OK(train(transport, &params, &table, &b));
    same_bits("the same twice", &table, &a, &b);
    params.zero = 1;
    CHECK_OK(train(transport, &params, &table, &b));
    same_bits("zero 0 and 1", &table, &a, &b);
    outcome_free(&a);
    outcome_free(&b);
    check_table_destroy(&table);
    MPI_Comm_free(&comm);
    par_transformer_destroy(&model);
}

static void run_repeat(par_transport *transport) {
    repeat(transport, PAR_BF16, 1, 2, 2);
    repeat(transport, PAR_F16, 2, 1, 2);
}

/*
 * Gradients of the first step in 16 bits against fp32. An activation or gradient is rounded by 2^-9
 * (bf16) or 2^-12 (fp16) at each of about 40 places between input and a weight's gradient; the
 * errors are independent, so a tensor is off by about sqrt(40) of that, 1.2e-2 and 1.6e-3; four
 * times those are the bounds. A scale that is not taken out again, or a lost micro-batch, gives 0.1
 * and more. Scales are powers of two, so in fp16 they change only what underflows.
 */
static void run_gradients(par_transport *transport) {
    static const struct {
        par_dtype dtype;
        double scale, bound;
    } tries[] = {{PAR_BF16, 0, 5e-2}, {PAR_F16, 0, 7e-3}, {PAR_F16, 4096, 7e-3}};
    par_model *model = tiny();
    MPI_Comm comm = check_comm(transport);
    par_trainer_params params = params_of(model, PAR_F32, 2, 1, 2);
    check_table table;
    outcome exact, rounded;
    const char *where = "";
    CHECK_OK(check_table_create(&params, comm, &table));
    outcome_take(&exact, &table);
    outcome_take(&rounded, &table);
    CHECK_OK(train(transport, &params, &table, &exact));
    for (int i = 0; i < 3; i++) {
        params.dtype = tries[i].dtype;
        params.scaler.constant = tries[i].scale;
        CHECK_OK(train(transport, &params, &table, &rounded));
        CHECK(check_relative(rounded.norm[0], exact.norm[0]) < tries[i].bound,
              "%s: gradient norm %g, in fp32 %g", par_dtype_name(params.dtype), rounded.norm[0],
              exact.norm[0]);
        if (table.rank != 0) continue;
        double largest = check_largest(&table, rounded.gradients, exact.gradients, &where);
        CHECK(largest < tries[i].bound, "%s scale %g: the gradient of %s is off by %.2e",
              par_dtype_name(params.dtype), tries[i].scale, where, largest);
        CHECK(largest > 1e-6, "%s: gradients are those of fp32", par_dtype_name(params.dtype));
    }
    outcome_free(&exact);
    outcome_free(&rounded);
    check_table_destroy(&table);
    MPI_Comm_free(&comm);
    par_transformer_destroy(&model);
}

/* bf16 is the upper half of fp32, rounded to nearest even. */
static uint16_t bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/*
 * Gradients that two ranks send as bf16, in fp32 otherwise. Of g = g0 + g1 the parts are rounded by
 * 2^-9 each, and without ZeRO their sum too: a tensor is off by at most 2^-9 (|g0| + |g1| + |g|).
 * Halves of one batch cancel to a third at most, so that is 7 / 512. ZeRO-1 keeps the sum as it is,
 * whose rounding is what the other has, bit by bit.
 */
static void run_reduce_dtype(par_transport *transport) {
    par_model *model = tiny();
    MPI_Comm comm = check_comm(transport);
    par_trainer_params params = params_of(model, PAR_F32, 1, 2, 2);
    check_table table;
    outcome exact, a, b;
    const char *where = "";
    CHECK_OK(check_table_create(&params, comm, &table));
    outcome_take(&exact, &table);
    outcome_take(&a, &table);
    outcome_take(&b, &table);
    CHECK_OK(train(transport, &params, &table, &exact));
    params.reduce_dtype = PAR_BF16;
    CHECK_OK(train(transport, &params, &table, &a));
    CHECK_OK(train(transport, &params, &table, &b));
    same_bits("the same twice", &table, &a, &b);
    if (table.rank == 0) {
        double largest = check_largest(&table, a.gradients, exact.gradients, &where);
        CHECK(largest < 7.0 / 512, "the gradient of %s is off by %.2e", where, largest);
        CHECK(largest > 1e-5, "gradients are those of fp32");
    }
    params.zero = 1;
    CHECK_OK(train(transport, &params, &table, &b));
    for (int64_t i = 0; table.rank == 0 && i < table.total; i++) {
        uint32_t bits = (uint32_t)bf16(b.gradients[i]) << 16;
        CHECK(memcmp(&bits, &a.gradients[i], sizeof bits) == 0,
              "element %lld of the gradient: %.9g with ZeRO-1, %.9g without", (long long)i,
              (double)b.gradients[i], (double)a.gradients[i]);
    }
    outcome_free(&exact);
    outcome_free(&a);
    outcome_free(&b);
    check_table_destroy(&table);
    MPI_Comm_free(&comm);
    par_transformer_destroy(&model);
}

static par_status compare_weight(void *user, const par_param *p, int64_t first, int64_t n,
                                 const float *values) {
    int64_t *compared = user;
    const uint16_t *weight = p->weight;
    for (int64_t i = 0; i < n; i++)
        CHECK(weight[first + i] == bf16(values[i]), "%s element %lld: %#x, the master is %g",
              p->name, (long long)(first + i), weight[first + i], (double)values[i]);
    *compared += n;
    return PAR_OK;
}

static par_status read_thirds(void *user, const par_param *p, float *dst) {
    memset(dst, 0, (size_t)(p->local[0] * p->local[1]) * sizeof *dst);
    for (int64_t i = 0; i < p->extent[0]; i++)
        for (int64_t j = 0; j < p->extent[1]; j++) dst[i * p->local[1] + j] = 1.0f / 3;
    return PAR_OK;
}

static par_status is_third(void *user, const par_param *p, int64_t first, int64_t n,
                           const float *values) {
    for (int64_t i = 0; i < n; i++) {
        int64_t row = (first + i) / p->local[1], column = (first + i) % p->local[1];
        float expected = row < p->extent[0] && column < p->extent[1] ? 1.0f / 3 : 0;
        CHECK(values[i] == expected, "%s element %lld is %.9g", p->name, (long long)(first + i),
              (double)values[i]);
    }
    return PAR_OK;
}

/* After create, steps and load; a loaded value keeps all bits of fp32. */
static void run_master(par_transport *transport) {
    par_model *model = tiny();
    par_source source = check_source(&data);
    for (int zero = 0; zero < 2; zero++) {
        par_trainer_params params = params_of(model, PAR_BF16, 2, 1, 2);
        par_trainer *trainer = NULL;
        par_vote vote;
        int64_t compared = 0;
        params.zero = zero;
        CHECK_OK(par_trainer_create(transport, &params, &trainer));
        CHECK_OK(par_trainer_visit(trainer, PAR_STATE_WEIGHT, compare_weight, &compared));
        for (int i = 0; i < 2; i++)
            CHECK_OK(par_trainer_step(trainer, &source, 1e-3f, false, &vote));
        CHECK_OK(par_trainer_visit(trainer, PAR_STATE_WEIGHT, compare_weight, &compared));
        CHECK_OK(par_trainer_load(trainer, read_thirds, NULL));
        CHECK_OK(par_trainer_visit(trainer, PAR_STATE_WEIGHT, is_third, NULL));
        CHECK_OK(par_trainer_visit(trainer, PAR_STATE_WEIGHT, compare_weight, &compared));
        CHECK(compared > 0, "nothing was visited");
        par_trainer_destroy(&trainer);
    }
    par_transformer_destroy(&model);
}

static void run_state(par_transport *transport) {
    par_model *model = tiny();
    par_source source = check_source(&data);
    par_trainer_params params = params_of(model, PAR_F16, 1, 1, 1);
    par_trainer *trainer = NULL;
    par_vote vote;
    par_scaler stored = {.scale = 256, .clean = 999, .hysteresis = 1, .skipped = 7},
               bad = {.scale = -1};
    params.nonfinite = PAR_NONFINITE_SKIP;
    CHECK_OK(par_trainer_create(transport, &params, &trainer));
    CHECK(par_trainer_scaler(trainer)->scale == 65536, "the first scale is %g",
          par_trainer_scaler(trainer)->scale);
    CHECK_FAILS(par_trainer_set_scaler(trainer, &bad), PAR_ERR_ARG, "legal");
    CHECK_OK(par_trainer_set_scaler(trainer, &stored));
    CHECK_OK(par_trainer_step(trainer, &source, 1e-3f, false, &vote));
    const par_scaler *now = par_trainer_scaler(trainer);
    CHECK(vote.loss_scale == 256 && vote.n_skipped == 7, "the step had scale %g, %lld skips",
          vote.loss_scale, (long long)vote.n_skipped);
    CHECK(now->scale == 512 && now->clean == 0 && now->hysteresis == 2,
          "after the window: %g, %lld, %lld", now->scale, (long long)now->clean,
          (long long)now->hysteresis);
    par_trainer_destroy(&trainer);
    par_transformer_destroy(&model);
}

static const harness_case cases[] = {
    {"overflow-on-one-rank", NULL, 4, run_overflow, 60},
    {"scale-falls-until-it-fits", NULL, 4, run_falls, 60},
    {"floor", NULL, 2, run_floor, 60},
    {"policy", NULL, 2, run_policy, 60},
    {"repeatable", NULL, 4, run_repeat, 120},
    {"gradients-near-fp32", NULL, 4, run_gradients, 60},
    {"gradients-sent-as-bf16", NULL, 4, run_reduce_dtype, 60},
    {"weights-are-the-rounded-master", NULL, 4, run_master, 60},
    {"stored-state", NULL, 1, run_state, 0},
};

int main(int argc, char **argv) {
    return harness_main_mpi("precision", cases, HARNESS_COUNT(cases), argc, argv);
}
