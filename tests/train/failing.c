/*
 * A rank that fails ends the job: a module or a product fails on one rank, in every layout of 4
 * ranks and at every place of a step. That rank returns its own status, all others
 * PAR_ERR_TRANSPORT with its number and message, within seconds and not after a deadline; every
 * later call returns the same at once, and what stood on the transport can be destroyed. Then an
 * allocation of libpar fails on one rank, one after the other: every rank returns an error.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness.h"
#include "allocations.h"
#include "check.h"
#include "failing_model.h"
#include "libpar/base/clock.h"
#include "par/mpi.h"

/* Seconds from the failure until a rank has returned, and which later calls may take: far below a
 * case's deadline, where a rank that nobody wakes would end, and far above a busy machine's. */
enum { WITHIN_S = 20 };

typedef struct {
    failing_call call;
    int n;
    par_status status;
} failure;

typedef struct {
    int ends, runs;
    double slowest;
} tally;

static const par_tag tag = {"test", -1, -1, -1};

static par_status generate(par_trainer *t, int64_t vocab) {
    static const int32_t prompt[] = {3, 5};
    int32_t ids[4];
    const par_generator_params params = {.sequences = 1, .capacity = 8, .vocab = vocab};
    const par_generation run = {.prompt = prompt, .n_prompt = 2, .n_new = 4, .temperature = 1};
    par_generator *g = NULL;
    PAR_TRY(par_generator_create(t, &params, &g));
    par_status st = par_generator_run(g, &run, ids);
    par_generator_destroy(&g);
    return st;
}

/* What is still under way after the steps comes to its end; then the ranks go on together. */
static par_status settle(par_trainer *t, const failure *f, bool fails) {
    if (f->call != FAIL_SYNC) return PAR_OK;
    failing_set(fails ? FAIL_SYNC : FAIL_NONE, f->n, f->status);
    PAR_TRY(par_trainer_settle(t));
    return par_comm_barrier(par_trainer_mesh(t)->world, tag);
}

static par_status train(par_trainer *t, const check_data *data, int64_t unit) {
    par_source source = check_source(data);
    for (int i = 0; i < 2; i++) {
        par_vote vote;
        double loss;
        PAR_TRY(par_trainer_step(t, &source, 1e-3f, false, &vote));
        PAR_TRY(par_trainer_evaluate(t, &source, 0, 2 * unit, &loss));
    }
    return generate(t, data->vocab);
}

/* What every later call says, at once. */
static void check_broken(par_transport *transport, par_trainer *t, const check_data *data) {
    char text[600];
    par_vote vote;
    double loss, begin = par__seconds();
    par_source source = check_source(data);
    snprintf(text, sizeof text, "%s", par_transport_broken(transport));
    CHECK_FAILS(par_comm_barrier(par_trainer_mesh(t)->world, tag), PAR_ERR_TRANSPORT, text);
    CHECK_FAILS(par_comm_agree(par_trainer_mesh(t)->world, PAR_OK), PAR_ERR_TRANSPORT, text);
    CHECK_FAILS(par_trainer_step(t, &source, 1e-3f, false, &vote), PAR_ERR_TRANSPORT, text);
    CHECK_FAILS(par_trainer_evaluate(t, &source, 0, 8, &loss), PAR_ERR_TRANSPORT, text);
    CHECK_FAILS(par_transport_progress(transport), PAR_ERR_TRANSPORT, text);
    CHECK(par_transport_abort(transport, PAR_ERR_IO, "again") == PAR_ERR_IO &&
              strcmp(par_transport_broken(transport), text) == 0,
          "the first message is not kept: %s", par_transport_broken(transport));
    CHECK(par__seconds() - begin < WITHIN_S, "later calls took %.1f s", par__seconds() - begin);
}

static void check_end(MPI_Comm comm, const char *what, const failure *f, int culprit, par_status st,
                      double returned, tally *sum) {
    char text[128], why[256];
    int rank, mine = 0, ends = 0;
    double moment = failing_moment();
    MPI_Comm_rank(comm, &rank);
    snprintf(why, sizeof why, "%s", par_error());
    MPI_Bcast(&moment, 1, MPI_DOUBLE, culprit, comm);
    snprintf(text, sizeof text, "rank %d: %s", culprit, FAILING_WHY);
    const char *expected = rank == culprit ? FAILING_WHY : text;
    CHECK(moment > 0, "%s: rank %d never failed", what, culprit);
    mine = st == (rank == culprit ? f->status : PAR_ERR_TRANSPORT) && !strcmp(why, expected) &&
           returned - moment < WITHIN_S;
    CHECK(mine, "%s, rank %d fails: %s: \"%s\" after %.1f s", what, culprit, par_status_text(st),
          why, returned - moment);
    if (returned - moment > sum->slowest) sum->slowest = returned - moment;
    MPI_Allreduce(&mine, &ends, 1, MPI_INT, MPI_MIN, comm);
    sum->runs++;
    sum->ends += ends;
}

/* One training, in which the rank fails. */
static void fail_once(MPI_Comm comm, const char *what, const par_trainer_params *given,
                      const check_data *data, const failure *f, int culprit, tally *sum) {
    par_transport *transport = NULL;
    par_trainer *t = NULL;
    par_trainer_params params = *given;
    par_backend backend;
    const par_backend *cpu = NULL;
    int rank;
    MPI_Comm_rank(comm, &rank);
    CHECK_OK(par_backend_get("cpu", &cpu));
    failing_backend(cpu, &backend);
    params.device = &backend;
    CHECK_OK(par_transport_create_mpi(comm, NULL, &transport));
    CHECK_OK(par_trainer_create(transport, &params, &t));
    if (harness_failed()) return;
    bool later = f->call == FAIL_SYNC;
    failing_set(rank == culprit && !later ? f->call : FAIL_NONE, f->n, f->status);
    par_status st = train(t, data, params.micro_batch * params.layout.size[PAR_DP]);
    if (st == PAR_OK) st = settle(t, f, rank == culprit);
    check_end(comm, what, f, culprit, st, par__seconds(), sum);
    if (!harness_failed()) check_broken(transport, t, data);
    par_trainer_destroy(&t);
    par_transport_destroy(&transport);
}

/* dp ranks above 0 take no part in a generation but for its tokens. */
static bool takes_part(const failure *f, const par_layout *layout, int rank) {
    int at[PAR_AXIS_COUNT];
    par_layout_coordinates(layout, rank, at);
    return f->call != FAIL_DECODE || at[PAR_DP] == 0;
}

static void fail_everywhere(par_transport *harness, int tp, int pp, int dp) {
    static const failure failures[] = {
        {FAIL_FORWARD, 3, PAR_ERR_INTERNAL}, {FAIL_BACKWARD, 3, PAR_ERR_IO},
        {FAIL_EVALUATE, 3, PAR_ERR_ARG},     {FAIL_DECODE, 3, PAR_ERR_UNSUPPORTED},
        {FAIL_GEMM, 1, PAR_ERR_MEMORY},      {FAIL_GEMM, 9, PAR_ERR_MEMORY},
        {FAIL_SYNC, 1, PAR_ERR_DEVICE}};
    static const char *const names[] = {"third forward", "third backward", "evaluation",
                                        "generation",    "first product",  "ninth product",
                                        "last wait"};
    par_transformer_config config;
    par_model *inner = NULL, model;
    tally sum = {0};
    MPI_Comm comm = check_comm(harness);
    check_config(false, &config);
    CHECK_OK(par_transformer_create(&config, &inner));
    failing_model(inner, &model);
    par_trainer_params params = check_params(&model, tp, pp, dp, 1, 4 * dp);
    const check_data data = {.vocab = config.vocab, .T = config.tokens};
    CHECK_OK(check_fit(&config, &params));
    for (size_t i = 0; i < sizeof failures / sizeof *failures; i++)
        for (int culprit = 0; culprit < 4 && !harness_failed(); culprit++)
            if (takes_part(&failures[i], &params.layout, culprit))
                fail_once(comm, names[i], &params, &data, &failures[i], culprit, &sum);
    if (par_transport_rank(harness) == 0)
        printf("# failing: tp %d pp %d dp %d: %d of %d failures ended with the right name on all "
               "ranks, the slowest after %.2f s\n",
               tp, pp, dp, sum.ends, sum.runs, sum.slowest);
    par_transformer_destroy(&inner);
    MPI_Comm_free(&comm);
}

static void tp4(par_transport *t) {
    fail_everywhere(t, 4, 1, 1);
}
static void pp4(par_transport *t) {
    fail_everywhere(t, 1, 4, 1);
}
static void dp4(par_transport *t) {
    fail_everywhere(t, 1, 1, 4);
}
static void tp2_pp2(par_transport *t) {
    fail_everywhere(t, 2, 2, 1);
}

static par_status create_and_train(MPI_Comm comm, const par_trainer_params *params,
                                   const check_data *data) {
    par_transport *transport = NULL;
    par_trainer *t = NULL;
    PAR_TRY(par_transport_create_mpi(comm, NULL, &transport));
    par_status st = par_trainer_create(transport, params, &t);
    if (st == PAR_OK) st = train(t, data, params->micro_batch);
    par_trainer_destroy(&t);
    par_transport_destroy(&transport);
    return st;
}

/* From the transport on to a text, the n-th allocation of rank 1 fails, for every n. */
static void allocations(par_transport *harness) {
    par_transformer_config config;
    par_model *model = NULL;
    allocations_count unused;
    int64_t runs = 0;
    MPI_Comm comm = check_comm(harness);
    int rank = par_transport_rank(harness), more = 1;
    if (!allocations_can_count()) harness_skip("a sanitizer has its own malloc");
    check_config(false, &config);
    CHECK_OK(par_transformer_create(&config, &model));
    par_trainer_params params = check_params(model, 2, 2, 1, 1, 4);
    const check_data data = {.vocab = config.vocab, .T = config.tokens};
    CHECK_OK(check_fit(&config, &params));
    for (int64_t n = 1; more && allocations_can_count() && !harness_failed(); n++) {
        allocations_begin();
        allocations_fail(rank == 1 ? n : 0);
        par_status st = create_and_train(comm, &params, &data);
        more = allocations_fail(0);
        allocations_end(&unused);
        MPI_Bcast(&more, 1, MPI_INT, 1, comm);
        CHECK(!more || st != PAR_OK, "allocation %lld failed on rank 1, and rank %d went on",
              (long long)n, rank);
        CHECK(!more || strstr(par_error(), "memory") || strstr(par_error(), "allocated"),
              "allocation %lld: %s: %s", (long long)n, par_status_text(st), par_error());
        runs += more;
    }
    CHECK(runs > 100 || harness_failed() || !allocations_can_count(), "%lld failed",
          (long long)runs);
    if (rank == 0) printf("# failing: %lld failed allocations ended all ranks\n", (long long)runs);
    par_transformer_destroy(&model);
    MPI_Comm_free(&comm);
}

/* By whoever wants to, on one rank too. */
static void abort_alone(par_transport *harness) {
    par_transport *self = NULL;
    par_comm *comm = NULL;
    float x = 1;
    CHECK_OK(par_transport_create_self(NULL, &self));
    CHECK_OK(par_comm_create(self, &(par_comm_params){.axis = "world"}, NULL, &comm));
    CHECK(!par_transport_broken(self), "broken from the start");
    CHECK_FAILS(par_transport_abort(self, PAR_OK, "no"), PAR_ERR_ARG, "requires");
    CHECK_FAILS(par_transport_abort(self, PAR_ERR_DEVICE, "the cause"), PAR_ERR_DEVICE,
                "the cause");
    CHECK_FAILS(par_comm_all_reduce(comm, &x, &x, 1, PAR_F32, tag, NULL, NULL), PAR_ERR_TRANSPORT,
                "rank 0: the cause");
    par_comm_destroy(&comm);
    CHECK_FAILS(par_comm_create(self, &(par_comm_params){.axis = "world"}, NULL, &comm),
                PAR_ERR_TRANSPORT, "rank 0: the cause");
    par_transport_destroy(&self);
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {.name = "alone", .ranks = 1, .run_mpi = abort_alone},
        {.name = "tp4", .ranks = 4, .run_mpi = tp4},
        {.name = "pp4", .ranks = 4, .run_mpi = pp4},
        {.name = "dp4", .ranks = 4, .run_mpi = dp4},
        {.name = "tp2-pp2", .ranks = 4, .run_mpi = tp2_pp2},
        {.name = "allocations", .ranks = 4, .run_mpi = allocations},
    };
    return harness_main_mpi("failing", cases, HARNESS_COUNT(cases), argc, argv);
}
