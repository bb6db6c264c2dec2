/* A model that is not a transformer, through the public contract alone: three dimensions train as
 * one rank does. */
#include <stdio.h>
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

/*
 * Modules that say wrongly what a rank holds: the norm would count elements twice or not at all,
 * without another sign. After build, `spoil` changes what the module has said.
 */
typedef struct {
    const char *text; /* in the refusal, which names the parameter */
    const char *name;
    int module;
    void (*spoil)(par_param *param, int tp_rank);
} mistake;

static const mistake *wrong;
static const par_module_ops *sound;

static void forget_replica(par_param *param, int tp_rank) {
    param->replica = 0;
    param->n_replicas = 1;
}

static void never_first(par_param *param, int tp_rank) {
    param->replica = 1;
}

static void forget_offset(par_param *param, int tp_rank) {
    param->offset[0] = 0;
}

static void leave_a_row_out(par_param *param, int tp_rank) {
    param->extent[0]--;
}

static void another_shape(par_param *param, int tp_rank) {
    param->global[0] += tp_rank;
}

static void first_module_of_model(par_param *param, int tp_rank) {
    strcpy(param->name, "0.b");
}

static par_status wrong_build(par_module *module, par_build *build) {
    par_param_spec spec = {.ndim = 1, .global = {config.channels, 1}};
    par_param *param = NULL;
    PAR_TRY(sound->build(module, build));
    if (module->layer != wrong->module) return PAR_OK;
    snprintf(spec.name, sizeof spec.name, "%d.%s", wrong->module, wrong->name);
    PAR_TRY(par_build_param(build, &spec, false, &param)); /* the one that is there */
    wrong->spoil(param, par_comm_rank(build->mesh->axis[PAR_TP]));
    return PAR_OK;
}

static par_status create_wrong(const void *c, int index, par_module **out) {
    static par_module_ops ops;
    par_model right;
    residual_mlp_model(&config, &right);
    PAR_TRY(right.create(c, index, out));
    sound = (*out)->ops;
    ops = *sound;
    ops.build = wrong_build;
    (*out)->ops = &ops;
    return PAR_OK;
}

static void run_wrong(par_transport *transport) {
    static const mistake mistakes[] = {
        {"parameter 2.b: ranks 0 and 1 both", "b", 2, forget_replica},
        {"parameter 2.b: 8 of its 8 elements are replica 0 of no rank", "b", 2, never_first},
        {"parameter 2.w1: ranks 0 and 1 both", "w1", 2, forget_offset},
        {"parameter 2.w1: 16 of its 320 elements", "w1", 2, leave_a_row_out},
        {"parameter 2.b is [8, 1] on rank 0 and [9, 1] on rank 1", "b", 2, another_shape},
        {"parameter 0.b: ranks 0 and 4 both", "b", 5, first_module_of_model}, /* pp 1 */
    };
    par_model model;
    par_trainer *trainer = NULL;
    residual_mlp_model(&config, &model);
    model.create = create_wrong;
    par_trainer_params params = sgd(&model, 2, 2, 2, 4);
    for (int i = 0; i < HARNESS_COUNT(mistakes); i++) {
        wrong = &mistakes[i];
        CHECK_FAILS(par_trainer_create(transport, &params, &trainer), PAR_ERR_ARG, wrong->text);
        CHECK(!trainer, "a refusal left a trainer");
    }
    /* without tp there is one copy, and nothing to say of it */
    wrong = &mistakes[0];
    params = sgd(&model, 1, 2, 4, 4);
    CHECK_OK(par_trainer_create(transport, &params, &trainer));
    par_trainer_destroy(&trainer);
}

static par_status build_for_sublayer_1(par_module *module, par_build *build) {
    build->sublayer = 1;
    return sound->build(module, build);
}

static par_status create_for_sublayer_1(const void *c, int index, par_module **out) {
    static par_module_ops ops;
    PAR_TRY(create_wrong(c, index, out));
    ops = *sound;
    ops.build = build_for_sublayer_1;
    (*out)->ops = &ops;
    return PAR_OK;
}

/* Its gradient would be reduced before it is there. */
static void run_wrong_sublayer(par_transport *transport) {
    par_model model;
    par_trainer *trainer = NULL;
    residual_mlp_model(&config, &model);
    model.create = create_for_sublayer_1;
    const par_trainer_params params = sgd(&model, 2, 2, 2, 4);
    CHECK_FAILS(par_trainer_create(transport, &params, &trainer), PAR_ERR_ARG,
                "for sublayer 1; legal: 0 to 0");
    CHECK(!trainer, "a refusal left a trainer");
}

static const harness_case cases[] = {
    {"tp2-pp2-dp2", NULL, 8, run_222, 0},
    {"tp2-pp2-dp2-interleaved-zero-recompute", NULL, 8, run_222_full, 0},
    {"every-element-counts-once", NULL, 8, run_wrong, 0},
    {"wrong-sublayer", NULL, 8, run_wrong_sublayer, 0},
};

int main(int argc, char **argv) {
    return harness_main_mpi("own_model", cases, HARNESS_COUNT(cases), argc, argv);
}
