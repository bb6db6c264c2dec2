/*
 * The communication matrix: counted traffic equals the closed forms of the layout, an axis, a
 * purpose, a sender and a receiver at a time, in layouts whose vectors have odd lengths, and a
 * planted difference is pointed out where it is.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../harness.h"
#include "../train/check.h"
#include "par/mpi.h"

enum { STEPS = 2, EVALUATED = 8 };

typedef struct {
    const char *name;
    bool llama;
    par_trainer_params params;
} layout;

typedef struct {
    int64_t bytes;
    char text[1 << 16];
} output;

static void keep(void *user, const char *line) {
    output *out = user;
    size_t n = strlen(out->text);
    snprintf(out->text + n, sizeof out->text - n, "%s\n", line);
}

/* Two steps and one evaluation; then the prediction, and the count when all gathers have ended. */
static par_status trained(par_transport *transport, const par_transformer_config *config,
                          const par_trainer_params *params, par_traffic *counted,
                          par_traffic *predicted) {
    const check_data data = {.vocab = config->vocab, .T = config->tokens};
    par_source source = check_source(&data);
    par_trainer *trainer = NULL;
    par_traffic_run run;
    par_vote vote = {0};
    double loss;
    PAR_TRY(par_trainer_create(transport, params, &trainer));
    par_recorder_reset(par_transport_recorder(transport));
    par_status st = PAR_OK;
    for (int i = 0; i < STEPS && st == PAR_OK; i++)
        st = par_trainer_step(trainer, &source, 1e-3f, false, &vote);
    CHECK(vote.n_skipped == (params->dtype == PAR_F16 ? STEPS : 0), "%lld steps were skipped",
          (long long)vote.n_skipped);
    if (st == PAR_OK) st = par_trainer_evaluate(trainer, &source, 0, EVALUATED, &loss);
    par_trainer_traffic(trainer, &run);
    run.T = config->tokens;
    run.C = config->channels;
    run.steps = STEPS;
    run.micros = (int64_t)STEPS * par_trainer_n_micro(trainer);
    if (st == PAR_OK) st = par_traffic_predict(predicted, &run);
    par_trainer_destroy(&trainer);
    par_traffic_count(counted, par_transport_recorder(transport));
    return st;
}

static par_status world_comm(par_transport *transport, par_comm **out) {
    return par_comm_create(transport, &(par_comm_params){.axis = "program"}, NULL, out);
}

/* A transport of its own: the harness's compares every collective, which is traffic too. */
static void compare(par_transport *harness, const layout *l) {
    static output out;
    par_transformer_config config;
    par_transport *transport = NULL;
    par_trainer_params params = l->params;
    par_model *model = NULL;
    par_traffic *counted = NULL, *predicted = NULL;
    par_matrix *matrix = NULL;
    par_comm *world = NULL;
    MPI_Comm comm = check_comm(harness);
    check_config(l->llama, &config);
    CHECK_OK(par_transport_create_mpi(comm, NULL, &transport));
    CHECK_OK(par_transformer_create(&config, &model));
    params.model = model;
    CHECK_OK(check_fit(&config, &params));
    CHECK_OK(par_traffic_create(par_transport_size(transport), &counted));
    CHECK_OK(par_traffic_create(par_transport_size(transport), &predicted));
    CHECK_OK(trained(transport, &config, &params, counted, predicted));
    CHECK_OK(world_comm(transport, &world));
    CHECK_OK(par_matrix_gather(world, counted, predicted, &matrix));
    CHECK((matrix != NULL) == (par_transport_rank(transport) == 0),
          "the matrix is on rank 0 alone");
    if (matrix) {
        out.text[0] = 0;
        par_matrix_print(matrix, PAR_MATRIX_NBYTES, keep, &out);
        const char *differs = strstr(out.text, "difference:");
        CHECK(matrix->n > 3 && par_matrix_differences(matrix) == 0,
              "%s: %d lines, %d differences, %.200s", l->name, matrix->n,
              par_matrix_differences(matrix), differs ? differs : "");
        CHECK(strstr(out.text, "counted traffic equals the prediction"),
              "the text does not say so");
    }
    par_matrix_destroy(&matrix);
    par_comm_destroy(&world);
    par_traffic_destroy(&predicted);
    par_traffic_destroy(&counted);
    par_transformer_destroy(&model);
    par_transport_destroy(&transport);
    MPI_Comm_free(&comm);
}

static layout make(const char *name, bool llama, int tp, int pp, int dp) {
    layout l = {name, llama, check_params(NULL, tp, pp, dp, 2, 8)};
    l.params.logits_nbytes = 3000; /* several blocks of tokens, the last one shorter */
    return l;
}

static void run_gpt(par_transport *t) {
    layout l = make("gpt 2 x 2 x 2", false, 2, 2, 2);
    compare(t, &l);
    l.params.zero = 1;
    l.params.no_sequence_parallel = true;
    compare(t, &l);
    l.params.recompute = PAR_RECOMPUTE_FULL;
    compare(t, &l);
    l.params.no_sequence_parallel = false;
    l.params.recompute = PAR_RECOMPUTE_SELECTIVE;
    compare(t, &l);
    l.params.dtype =
        PAR_F16; /* skips both steps: weights stay, and all learn which gradient it is */
    l.params.scaler.init = 0x1p32;
    compare(t, &l);
}

/* Pieces of rows that do not divide, some below what goes in phases. */
static void run_pieces(par_transport *t) {
    layout l = make("gpt in pieces 2 x 2 x 2", false, 2, 2, 2);
    l.params.tp_pieces = 3;
    compare(t, &l);
    l.params.no_sequence_parallel = true;
    compare(t, &l);
    l = make("llama in pieces 8 x 1 x 1", true, 8, 1, 1);
    l.params.tp_pieces = 3;
    l.params.recompute = PAR_RECOMPUTE_FULL;
    compare(t, &l);
}

/* 2 heads of keys and values on 4 ranks: copies, whose gradients are added over kv. */
static void run_llama(par_transport *t) {
    layout l = make("llama 4 x 2 x 1", true, 4, 2, 1);
    compare(t, &l);
    l = make("llama 8 x 1 x 1", true, 8, 1, 1);
    compare(t, &l);
    l.params.recompute = PAR_RECOMPUTE_FULL;
    compare(t, &l);
}

/* Small buckets: their shards go through the phases of small all-gathers, among 4 ranks. */
static void run_data(par_transport *t) {
    layout l = make("gpt 2 x 1 x 4", false, 2, 1, 4);
    l.params.bucket_n = 1;
    l.params.zero = 1;
    compare(t, &l);
    l.params.zero = 0;
    l.params.no_sequence_parallel = true;
    compare(t, &l);
    l.params.reduce_dtype = PAR_BF16;
    compare(t, &l);
}

static void run_interleaved(par_transport *t) {
    layout l = make("interleaved 1 x 4 x 2", false, 1, 4, 2);
    l.params.schedule = PAR_SCHEDULE_INTERLEAVED;
    l.params.chunks = 2;
    l.params.micro_batch = 1;
    compare(t, &l);
}

/* Four ranks with made-up tables: rank 2 counts 7 bytes to rank 1 that nobody predicted. */
static void made_up(par_traffic *table, int rank, int64_t extra) {
    int n = table->size;
    snprintf(table->axis[0], sizeof table->axis[0], "tp");
    snprintf(table->purpose[0], sizeof table->purpose[0], "planted");
    table->n = 1;
    for (int to = 0; to < n; to++)
        table->cells[to].nbytes = 100 * rank + to + (rank == 2 && to == 1 ? extra : 0);
}

static void run_difference(par_transport *transport) {
    static output out;
    int rank = par_transport_rank(transport);
    par_traffic *tables[2] = {NULL, NULL};
    par_matrix *m = NULL;
    par_comm *world = NULL;
    for (int i = 0; i < 2; i++) {
        CHECK_OK(par_traffic_create(4, &tables[i]));
        made_up(tables[i], rank, i == 0 ? 7 : 0);
    }
    CHECK_OK(world_comm(transport, &world));
    CHECK_OK(par_matrix_gather(world, tables[0], tables[1], &m));
    if (m) {
        out.text[0] = 0;
        par_matrix_print(m, PAR_MATRIX_NBYTES, keep, &out);
        CHECK(par_matrix_differences(m) == 1, "%d differences", par_matrix_differences(m));
        CHECK(strstr(out.text,
                     "tp, planted, rank 2: counted 813 bytes, predicted 806; first to rank 1"),
              "%s", out.text);
        CHECK(m->lines[0].n == 15, "%lld cells, of which rank 0's own is 0",
              (long long)m->lines[0].n);
        for (int i = 0; i < m->lines[0].n; i++) {
            const par_matrix_cell *c = &m->lines[0].cells[i];
            CHECK(c->predicted_nbytes == 100 * c->from + c->to && c->from == (i + 1) / 4 &&
                      c->to == (i + 1) % 4,
                  "cell %d is %lld", i, (long long)c->predicted_nbytes);
        }
    }
    par_matrix_destroy(&m);
    par_comm_destroy(&world);
    for (int i = 0; i < 2; i++) par_traffic_destroy(&tables[i]);
}

/* A table of another world is refused on every rank, also if it is one rank's alone. */
static void run_refused(par_transport *transport) {
    par_traffic *own = NULL;
    par_matrix *m = NULL;
    par_comm *world = NULL;
    CHECK_OK(par_traffic_create(par_transport_rank(transport) == 1 ? 3 : 4, &own));
    CHECK_OK(world_comm(transport, &world));
    CHECK_FAILS(par_matrix_gather(world, own, own, &m), PAR_ERR_ARG, "not of the 4 ranks");
    CHECK(!m, "a matrix was made");
    par_comm_destroy(&world);
    par_traffic_destroy(&own);
}

static const harness_case cases[] = {
    {"gpt-equals-closed-form", NULL, 8, run_gpt, 120},
    {"llama-equals-closed-form", NULL, 8, run_llama, 120},
    {"pieces-equal-closed-form", NULL, 8, run_pieces, 120},
    {"small-buckets-equal-closed-form", NULL, 8, run_data, 120},
    {"interleaved-equals-closed-form", NULL, 8, run_interleaved, 120},
    {"planted-difference", NULL, 4, run_difference, 0},
    {"refused-by-all", NULL, 4, run_refused, 0},
};

int main(int argc, char **argv) {
    return harness_main_mpi("comm-matrix", cases, HARNESS_COUNT(cases), argc, argv);
}
