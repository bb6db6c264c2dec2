/* A model that is not a transformer, through the public contract alone: three dimensions train as
 * one rank does. */
#include <stdlib.h>
#include <string.h>

#include "../../examples/residual_mlp.h"
#include "../harness.h"
#include "check.h"

enum { STEPS = 30 };

static const residual_mlp_config config = {.channels = 8, .hidden = 40, .blocks = 7};

typedef struct {
    double loss[STEPS], norm[STEPS];
    float *gradients, *weights;
} mlp_run;

static par_status train(par_trainer *trainer, check_table *table, mlp_run *run) {
    par_source source = residual_mlp_source(&config);
    for (int i = 0; i < STEPS; i++) {
        par_vote vote;
        PAR_TRY(par_trainer_step(trainer, &source, 0.01f, false, &vote));
        run->loss[i] = vote.loss;
        run->norm[i] = vote.grad_norm;
        if (i == 0) PAR_TRY(check_gather(trainer, table, PAR_STATE_GRADIENT, run->gradients));
    }
    return check_gather(trainer, table, PAR_STATE_WEIGHT, run->weights);
}

static par_status create_and_train(par_transport *transport, MPI_Comm comm,
                                   const par_trainer_params *params, check_table *table,
                                   mlp_run *run) {
    par_trainer *trainer = NULL;
    PAR_TRY(check_table_create(params, comm, table));
    run->gradients = calloc((size_t)table->total, sizeof(float));
    run->weights = calloc((size_t)table->total, sizeof(float));
    PAR_TRY(par_trainer_create(transport, params, &trainer));
    par_status st = train(trainer, table, run);
    par_trainer_destroy(&trainer);
    return st;
}

static par_trainer_params sgd(const par_model *model, int tp, int pp, int dp, int64_t micro_batch) {
    par_trainer_params params = check_params(model, tp, pp, dp, micro_batch, 32);
    params.optimizer = PAR_SGD;
    params.bucket_n = 1000;
    return params;
}

/* The longest sum has 40 terms, gradients 32: fp32 in another order stays below 1e-6, as in
 * layouts_run.c. */
static void compare(const check_table *table, const mlp_run *run, const mlp_run *one) {
    const char *where = "";
    double d = check_largest(table, run->gradients, one->gradients, &where);
    CHECK(d <= 1e-5, "gradient of %s is off by %.1e", where, d);
    d = check_largest(table, run->weights, one->weights, &where);
    CHECK(d <= 1e-5, "final %s is off by %.1e", where, d);
    for (int i = 0; i < STEPS; i++) {
        CHECK(check_relative(run->loss[i], one->loss[i]) <= 1e-5, "loss of step %d: %.9g and %.9g",
              i + 1, run->loss[i], one->loss[i]);
        CHECK(check_relative(run->norm[i], one->norm[i]) <= 1e-5, "norm of step %d: %.9g and %.9g",
              i + 1, run->norm[i], one->norm[i]);
    }
    CHECK(one->loss[STEPS - 1] < 0.7 * one->loss[0], "the loss does not fall: %g to %g",
          one->loss[0], one->loss[STEPS - 1]);
}

static void against_one(par_transport *transport, const par_trainer_params *params) {
    MPI_Comm comm = check_comm(transport);
    check_table table = {0}, single = {0};
    mlp_run run = {0}, one = {0};
    CHECK_OK(create_and_train(transport, comm, params, &table, &run));
    if (par_transport_rank(transport) == 0 && !harness_failed()) {
        par_transport *self = NULL;
        par_trainer_params p = sgd(params->model, 1, 1, 1, 8);
        CHECK_OK(par_transport_create_self(NULL, &self));
        CHECK_OK(create_and_train(self, MPI_COMM_SELF, &p, &single, &one));
        if (!harness_failed()) compare(&table, &run, &one);
        par_transport_destroy(&self);
    }
    free(run.gradients);
    free(run.weights);
    free(one.gradients);
    free(one.weights);
    check_table_destroy(&table);
    check_table_destroy(&single);
    MPI_Comm_free(&comm);
}

static void run_222(par_transport *transport) {
    par_model model;
    residual_mlp_model(&config, &model);
    par_trainer_params params = sgd(&model, 2, 2, 2, 4);
    against_one(transport, &params);
}

static void run_222_full(par_transport *transport) {
    par_model model;
    residual_mlp_model(&config, &model);
    par_trainer_params params = sgd(&model, 2, 2, 2, 2);
    params.schedule = PAR_SCHEDULE_INTERLEAVED;
    params.chunks = 2;
    params.zero = 1;
    params.recompute = PAR_RECOMPUTE_FULL;
    against_one(transport, &params);
}

static const harness_case cases[] = {
    {"tp2-pp2-dp2", NULL, 8, run_222, 0},
    {"tp2-pp2-dp2-interleaved-zero-recompute", NULL, 8, run_222_full, 0},
};

int main(int argc, char **argv) {
    return harness_main_mpi("own_model", cases, HARNESS_COUNT(cases), argc, argv);
}
