/*
 * A layout against one rank of the same process and binary. Everything is fp32; the sums over a
 * batch, a vocabulary or channels are only added in another order. A sum of n terms of one size
 * keeps about sqrt(n) · 2^-24 relative, here 1e-6 at most for the longest chains (128 tokens, 131
 * vocabulary entries, 90 channels, 8 layers); 1e-5 leaves a factor of ten for cancellation, and is
 * a hundred times below what one wrong copy, scale or missing micro-batch gives.
 */
#include "layouts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness.h"

static const double bound = 1e-5;

void layouts_describe(const layouts_problem *problem, const layouts_setting *s, char *text,
                      size_t nbytes) {
    static const char *const families[] = {"gpt", "llama", "qwen"};
    static const char *const recompute[] = {"none", "selective", "full"};
    snprintf(text, nbytes, "%s %s tp %d pp %d dp %d %s v %d zero %d recompute %s %s",
             families[problem->family], problem->optimizer == PAR_SGD ? "sgd" : "adamw", s->tp,
             s->pp, s->dp, par_schedule_kind_name(s->schedule), s->chunks, s->zero,
             recompute[s->recompute], s->no_sequence_parallel ? "no-sp" : "sp");
}

static void run_free(layouts_run *run) {
    free(run->initial);
    free(run->gradients);
    free(run->final);
    memset(run, 0, sizeof *run);
}

static par_status run_allocate(const check_table *table, layouts_run *run) {
    size_t nbytes = (size_t)table->total * sizeof(float);
    run->initial = malloc(nbytes);
    run->gradients = malloc(nbytes);
    run->final = malloc(nbytes);
    if (!run->initial || !run->gradients || !run->final)
        PAR_FAIL(PAR_ERR_MEMORY, "no memory for a run's tensors");
    return PAR_OK;
}

static par_status run_steps(const layouts_problem *problem, par_trainer *trainer,
                            check_table *table, layouts_run *run) {
    const check_data data = {.vocab = 131, .T = 16, .ignore = problem->family == CHECK_GPT ? 0 : 5};
    par_source source = check_source(&data);
    /* momentum 0.9 multiplies SGD's rate by ten; both are small enough that 20 steps do not amplify
     * rounding */
    float lr = problem->optimizer == PAR_SGD ? 0.02f : 1e-3f;
    PAR_TRY(check_gather(trainer, table, PAR_STATE_WEIGHT, run->initial));
    for (int i = 0; i < problem->steps; i++) {
        par_vote vote;
        PAR_TRY(par_trainer_step(trainer, &source, lr, false, &vote));
        run->loss[i] = vote.loss;
        run->norm[i] = vote.grad_norm;
        if (i == 0) PAR_TRY(check_gather(trainer, table, PAR_STATE_GRADIENT, run->gradients));
    }
    return check_gather(trainer, table, PAR_STATE_WEIGHT, run->final);
}

static par_trainer_params params_of(const layouts_problem *problem, const layouts_setting *s,
                                    const par_model *model) {
    par_trainer_params params =
        check_params(model, s->tp, s->pp, s->dp, s->micro_batch, problem->batch);
    params.schedule = s->schedule;
    params.chunks = s->chunks;
    params.zero = s->zero;
    params.recompute = s->recompute;
    params.no_sequence_parallel = s->no_sequence_parallel;
    params.optimizer = problem->optimizer;
    params.bucket_n = 5000;      /* several buckets of these small models */
    params.logits_nbytes = 3000; /* 5 to 44 tokens at a time: tp 1 to 8 have different blocks */
    return params;
}

/* One rank, on rank 0 alone, with a table of its own communicator. */
static par_status run_single(const layouts_problem *problem, const par_trainer_params *params,
                             layouts_run *run) {
    par_transport *self = NULL;
    par_trainer *trainer = NULL;
    check_table table = {0};
    par_status st;
    PAR_TRY(par_transport_create_self(NULL, &self));
    PAR_TRY_GOTO(check_table_create(params, MPI_COMM_SELF, &table), out_self);
    PAR_TRY_GOTO(run_allocate(&table, run), out_table);
    PAR_TRY_GOTO(par_trainer_create(self, params, &trainer), out_table);
    st = run_steps(problem, trainer, &table, run);
    par_trainer_destroy(&trainer);
out_table:
    check_table_destroy(&table);
out_self:
    par_transport_destroy(&self);
    return st;
}

static bool same_problem(const layouts_problem *a, const layouts_problem *b) {
    return a->family == b->family && a->optimizer == b->optimizer && a->dropout == b->dropout &&
           a->batch == b->batch && a->steps == b->steps;
}

/* The single-rank run of a problem, made once per process. */
static par_status reference(const layouts_problem *problem, const par_model *model,
                            const layouts_run **out) {
    static struct {
        layouts_problem problem;
        layouts_run run;
    } cache[8];
    static int n;
    for (int i = 0; i < n; i++)
        if (same_problem(&cache[i].problem, problem)) {
            *out = &cache[i].run;
            return PAR_OK;
        }
    if (n == 8) PAR_FAIL(PAR_ERR_INTERNAL, "more problems than the cache of references holds");
    const layouts_setting one = {
        .tp = 1, .pp = 1, .dp = 1, .schedule = PAR_SCHEDULE_1F1B, .chunks = 1, .micro_batch = 4};
    par_trainer_params params = params_of(problem, &one, model);
    cache[n].problem = *problem;
    PAR_TRY(run_single(problem, &params, &cache[n].run));
    *out = &cache[n++].run;
    return PAR_OK;
}

static void compare_numbers(const char *what, const layouts_problem *problem,
                            const layouts_run *run, const layouts_run *one) {
    for (int i = 0; i < problem->steps; i++) {
        double loss = check_relative(run->loss[i], one->loss[i]),
               norm = check_relative(run->norm[i], one->norm[i]);
        CHECK(loss <= bound, "%s: loss of step %d is %.9g, of one rank %.9g: %.1e", what, i + 1,
              run->loss[i], one->loss[i], loss);
        /* AdamW's norms inherit the wandering of its parameters: only its losses have the bound */
        CHECK(problem->optimizer == PAR_ADAMW || norm <= bound,
              "%s: norm of step %d is %.9g, of one rank %.9g: %.1e", what, i + 1, run->norm[i],
              one->norm[i], norm);
    }
}

static void compare_tensors(const char *what, const layouts_problem *problem,
                            const check_table *table, const layouts_run *run,
                            const layouts_run *one) {
    const char *where = "";
    size_t nbytes = (size_t)table->total * sizeof(float);
    double d = check_largest(table, run->initial, one->initial, &where);
    CHECK(memcmp(run->initial, one->initial, nbytes) == 0,
          "%s: initial weights are other bits, most in %s: %.1e", what, where, d);
    d = check_largest(table, run->gradients, one->gradients, &where);
    CHECK(d <= bound, "%s: gradient of %s is off by %.1e", what, where, d);
    d = check_largest(table, run->final, one->final, &where);
    CHECK(problem->optimizer == PAR_ADAMW || d <= bound, "%s: final %s is off by %.1e", what, where,
          d);
}

static void compare_bits(const char *what, const layouts_problem *problem, const check_table *table,
                         const layouts_run *a, const layouts_run *b) {
    size_t nbytes = (size_t)table->total * sizeof(float),
           n = (size_t)problem->steps * sizeof(double);
    CHECK(memcmp(a->loss, b->loss, n) == 0 && memcmp(a->norm, b->norm, n) == 0,
          "%s: a second run has other losses", what);
    if (table->rank == 0)
        CHECK(memcmp(a->gradients, b->gradients, nbytes) == 0 &&
                  memcmp(a->final, b->final, nbytes) == 0,
              "%s: a second run has other bits", what);
}

static par_status run_setting(par_transport *transport, const layouts_problem *problem,
                              const par_trainer_params *params, check_table *table,
                              layouts_run *run) {
    par_trainer *trainer = NULL;
    PAR_TRY(par_trainer_create(transport, params, &trainer));
    par_status st = run_steps(problem, trainer, table, run);
    par_trainer_destroy(&trainer);
    return st;
}

static par_status compare(par_transport *transport, MPI_Comm comm, const layouts_problem *problem,
                          const layouts_setting *setting, const par_transformer_config *config,
                          const par_model *model, bool repeat) {
    par_trainer_params params = params_of(problem, setting, model);
    const layouts_run *one = NULL;
    layouts_run first = {0}, second = {0};
    check_table table = {0};
    char what[160];
    layouts_describe(problem, setting, what, sizeof what);
    PAR_TRY(check_fit(config, &params));
    PAR_TRY(check_table_create(&params, comm, &table));
    par_status st = table.rank == 0 ? reference(problem, model, &one) : PAR_OK;
    if (st == PAR_OK) st = run_allocate(&table, &first);
    if (st == PAR_OK) st = run_allocate(&table, &second);
    CHECK(st == PAR_OK, "%s: the single rank: %s", what, par_error());
    st = run_setting(transport, problem, &params, &table, &first);
    if (st == PAR_OK && repeat) st = run_setting(transport, problem, &params, &table, &second);
    if (st == PAR_OK && one) {
        compare_tensors(what, problem, &table, &first, one);
        compare_numbers(what, problem, &first, one);
    }
    if (st == PAR_OK && repeat) compare_bits(what, problem, &table, &first, &second);
    run_free(&first);
    run_free(&second);
    check_table_destroy(&table);
    return st;
}

bool layouts_compare(par_transport *transport, const layouts_problem *problem,
                     const layouts_setting *setting, bool repeat) {
    par_transformer_config config;
    par_model *model = NULL;
    char what[160];
    check_config(problem->family, &config);
    config.dropout = config.attention_dropout = problem->dropout;
    layouts_describe(problem, setting, what, sizeof what);
    MPI_Comm comm = check_comm(transport);
    par_status st = par_transformer_create(&config, &model);
    if (st == PAR_OK) st = compare(transport, comm, problem, setting, &config, model, repeat);
    CHECK(st == PAR_OK, "%s: %s: %s", what, par_status_text(st), par_error());
    par_transformer_destroy(&model);
    int failed = harness_failed();
    MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_MAX, comm);
    MPI_Comm_free(&comm);
    return !failed;
}
