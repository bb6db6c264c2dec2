/*
 * Rows that travel over tp in pieces, under forward's products, beside rows that travel whole, in
 * losses, norms, gradients and weights, for tp 2 and 4, with and without sequence parallel, in
 * every precision and recompute mode; as many operations more as there are pieces, and no byte
 * more. The ref backend adds an element's products in one order, so there bits are equal, for any
 * number of rows. oneDNN's order may depend on how many rows a product has: with AVX2 it does, with
 * AVX-512 below 16. So on the cpu and on a device the two are close.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness.h"
#include "check.h"
#include "far.h"
#include "par/mpi.h"

/* 13 samples of 16 tokens: with tp 4 and 3 pieces a piece has 17 rows of a rank, or 18. */
enum { STEPS = 1, SAMPLES = 13, BATCH = 2 * SAMPLES };

typedef struct {
    int family, tp, pieces;
    par_dtype dtype;
    par_recompute recompute;
    bool no_sequence_parallel;
    int64_t micro_batch, batch; /* batch 0: BATCH */
    const char *backend;
    bool far; /* the run in pieces is on a device */
} setting;

typedef struct {
    double loss[STEPS], norm[STEPS], evaluated;
    float *gradients, *weights;    /* in global shape, on rank 0 */
    int64_t sums, gathers, nbytes; /* of activations forward, in steps */
} outcome;

static void describe(const setting *s, char *text, size_t nbytes) {
    static const char *const families[] = {"gpt", "llama", "qwen"};
    static const char *const recompute[] = {"none", "selective", "full"};
    snprintf(text, nbytes, "%s tp %d %s recompute %s %s, %d pieces%s", families[s->family], s->tp,
             par_dtype_name(s->dtype), recompute[s->recompute],
             s->no_sequence_parallel ? "no-sp" : "sp", s->pieces, s->far ? " on a device" : "");
}

static void count(par_transport *transport, outcome *o) {
    const par_recorder_row *rows;
    int n = par_recorder_rows(par_transport_recorder(transport), &rows);
    for (int i = 0; i < n; i++) {
        if (strcmp(rows[i].axis, "tp") != 0 || strcmp(rows[i].purpose, "activations forward") != 0)
            continue;
        *(strcmp(rows[i].op, "all_gather") == 0 ? &o->gathers : &o->sums) += rows[i].n_ops;
        o->nbytes += rows[i].sent_nbytes;
    }
}

static par_status train(par_transport *transport, const par_trainer_params *params,
                        const check_data *data, check_table *table, outcome *o) {
    par_source source = check_source(data);
    par_trainer *t = NULL;
    PAR_TRY(par_trainer_create(transport, params, &t));
    par_recorder_reset(par_transport_recorder(transport));
    par_status st = PAR_OK;
    for (int i = 0; i < STEPS && st == PAR_OK; i++) {
        par_vote vote;
        st = par_trainer_step(t, &source, 1e-2f, false, &vote);
        o->loss[i] = vote.loss;
        o->norm[i] = vote.grad_norm;
    }
    count(transport, o);
    if (st == PAR_OK) st = check_gather(t, table, PAR_STATE_GRADIENT, o->gradients);
    if (st == PAR_OK) st = check_gather(t, table, PAR_STATE_WEIGHT, o->weights);
    if (st == PAR_OK) st = par_trainer_evaluate(t, &source, 3, BATCH, &o->evaluated);
    par_trainer_destroy(&t);
    return st;
}

/* A transport of its own, as the harness's compares every collective by another one. */
static void run(MPI_Comm comm, const setting *s, const par_transformer_config *config,
                const par_model *model, check_table *table, int pieces, outcome *o) {
    const check_data data = {.vocab = config->vocab, .T = config->tokens, .ignore = 7};
    par_trainer_params params =
        check_params(model, s->tp, 1, 4 / s->tp, s->micro_batch, s->batch ? s->batch : BATCH);
    par_transport *transport = NULL;
    params.backend = s->backend;
    params.dtype = s->dtype;
    params.recompute = s->recompute;
    params.no_sequence_parallel = s->no_sequence_parallel;
    params.tp_pieces = pieces;
    if (s->far && pieces > 1) params.device = far_backend(false);
    CHECK_OK(check_fit(config, &params));
    if (!table->bits) CHECK_OK(check_table_create(&params, comm, table));
    *o = (outcome){.gradients = malloc((size_t)table->total * sizeof(float)),
                   .weights = malloc((size_t)table->total * sizeof(float))};
    CHECK_OK(par_transport_create_mpi(comm, NULL, &transport));
    if (o->gradients && o->weights) CHECK_OK(train(transport, &params, &data, table, o));
    par_transport_destroy(&transport);
}

static void compare_bits(const char *what, const check_table *table, const outcome *a,
                         const outcome *b) {
    size_t nbytes = (size_t)table->total * sizeof(float);
    CHECK(memcmp(a->loss, b->loss, sizeof a->loss) == 0 &&
              memcmp(a->norm, b->norm, sizeof a->norm) == 0 && a->evaluated == b->evaluated,
          "%s: loss %.17g, evaluated %.17g; whole %.17g, %.17g", what, a->loss[0], a->evaluated,
          b->loss[0], b->evaluated);
    if (table->rank != 0) return;
    const char *where = "";
    double d = check_largest(table, a->gradients, b->gradients, &where);
    CHECK(memcmp(a->gradients, b->gradients, nbytes) == 0, "%s: other gradients, most in %s: %.1e",
          what, where, d);
    CHECK(memcmp(a->weights, b->weights, nbytes) == 0, "%s: other weights", what);
}

/* Weights are left out: where a gradient is near 0 its sign decides a whole step of AdamW. */
static void compare_close(const char *what, const setting *s, const check_table *table,
                          const outcome *a, const outcome *b) {
    double loss = s->dtype == PAR_F32 ? 1e-6 : 1e-3, far = s->dtype == PAR_F32 ? 1e-5 : 2e-2;
    CHECK(check_relative(a->loss[0], b->loss[0]) <= loss &&
              check_relative(a->norm[0], b->norm[0]) <= far &&
              check_relative(a->evaluated, b->evaluated) <= loss,
          "%s: loss %.9g, norm %.9g, evaluated %.9g; whole %.9g, %.9g, %.9g", what, a->loss[0],
          a->norm[0], a->evaluated, b->loss[0], b->norm[0], b->evaluated);
    if (table->rank != 0) return;
    const char *where = "";
    double d = check_largest(table, a->gradients, b->gradients, &where);
    CHECK(d <= far, "%s: other gradients, most in %s: %.1e", what, where, d);
}

/* m micro-batches of L blocks: two sums and with sequence parallel two gathers each, in pieces, and
 * the embedding's sum. */
static void compare_counts(const char *what, const setting *s, int64_t layers, const outcome *a,
                           const outcome *b) {
    int64_t m = BATCH / (4 / s->tp) / s->micro_batch * STEPS;
    int64_t blocks = (s->recompute == PAR_RECOMPUTE_FULL ? 2 : 1) * m * 2 * layers;
    int64_t embedding = b->sums - blocks;
    CHECK(embedding == m || embedding == 2 * m, "%s: whole, %lld sums of which blocks have %lld",
          what, (long long)b->sums, (long long)blocks);
    CHECK(a->sums == blocks * s->pieces + embedding, "%s: %lld sums, whole %lld", what,
          (long long)a->sums, (long long)b->sums);
    CHECK(b->gathers == (s->no_sequence_parallel ? 0 : blocks) &&
              a->gathers == b->gathers * s->pieces,
          "%s: %lld gathers, whole %lld", what, (long long)a->gathers, (long long)b->gathers);
}

static void compare(par_transport *harness, const setting *s) {
    par_transformer_config config;
    par_model *model = NULL;
    check_table table = {0};
    outcome whole, pieces;
    char what[160];
    describe(s, what, sizeof what);
    MPI_Comm comm = check_comm(harness); /* the table's, too */
    check_config(s->family, &config);
    config.dropout = 0.1f;
    CHECK_OK(par_transformer_create(&config, &model));
    run(comm, s, &config, model, &table, 1, &whole);
    run(comm, s, &config, model, &table, s->pieces, &pieces);
    if (!harness_failed() && strcmp(s->backend, "ref") == 0)
        compare_bits(what, &table, &pieces, &whole);
    else if (!harness_failed())
        compare_close(what, s, &table, &pieces, &whole);
    if (!harness_failed() && !s->far && s->micro_batch > 1)
        compare_counts(what, s, config.layers, &pieces, &whole);
    /* an all-reduce of at most 4 KiB sends vectors, not shards */
    if (!harness_failed() && !s->far && !s->no_sequence_parallel)
        CHECK(pieces.nbytes == whole.nbytes, "%s: %lld bytes, whole %lld", what,
              (long long)pieces.nbytes, (long long)whole.nbytes);
    for (int i = 0; i < 2; i++) {
        free(i ? whole.gradients : pieces.gradients);
        free(i ? whole.weights : pieces.weights);
    }
    check_table_destroy(&table);
    MPI_Comm_free(&comm);
    par_transformer_destroy(&model);
}

/* The recompute modes in turn, beginning with that one. */
static void settings(par_transport *t, par_dtype dtype, int n, int recompute, const char *backend,
                     bool far) {
#ifdef __SANITIZE_ADDRESS__ /* two are enough to run all of the code */
    if (n > 2) n = 2;
#endif
    for (int i = 0; i < n && !harness_failed(); i++) {
        const setting s = {.family = i % 3,
                           .tp = i % 2 ? 4 : 2,
                           .pieces = 3,
                           .dtype = dtype,
                           .recompute = (par_recompute)((i / 2 + recompute) % 3),
                           .no_sequence_parallel = i / 2 % 2,
                           .micro_batch = SAMPLES,
                           .backend = backend,
                           .far = far};
        compare(t, &s);
    }
}

static void run_fp32(par_transport *t) {
    settings(t, PAR_F32, 6, 0, "ref", false);
}

static void run_bf16(par_transport *t) {
    settings(t, PAR_BF16, 4, 1, "ref", false);
}

static void run_fp16(par_transport *t) {
    settings(t, PAR_F16, 2, 2, "ref", false);
}

static void run_cpu(par_transport *t) {
    settings(t, PAR_F32, 6, 0, "cpu", false);
    settings(t, PAR_BF16, 2, 1, "cpu", false);
    settings(t, PAR_F16, 2, 2, "cpu", false);
}

static void run_device(par_transport *t) {
    settings(t, PAR_F32, 4, 0, "cpu", true);
}

/* 4 own rows in 16 pieces, of which 12 are empty; 16 rows in 7. */
static void run_few_rows(par_transport *t) {
    for (int i = 0; i < 2 && !harness_failed(); i++) {
        const setting s = {.family = i,
                           .tp = 4,
                           .pieces = i ? 7 : 16,
                           .dtype = PAR_F32,
                           .no_sequence_parallel = i,
                           .micro_batch = 1,
                           .backend = "ref",
                           .batch = 2};
        compare(t, &s);
    }
}

static void run_refused(par_transport *t) {
    par_transformer_config config;
    par_model *model = NULL;
    par_trainer *trainer = NULL;
    check_config(CHECK_GPT, &config);
    CHECK_OK(par_transformer_create(&config, &model));
    par_trainer_params params = check_params(model, 2, 1, 1, 1, BATCH);
    params.tp_pieces = PAR_MAX_TP_PIECES + 1;
    CHECK_FAILS(par_trainer_create(t, &params, &trainer), PAR_ERR_OPTION,
                "tp pieces 17: legal are 1 to 16");
    par_transformer_destroy(&model);
}

static const harness_case cases[] = {
    {"fp32", NULL, 4, run_fp32, 120},     {"bf16", NULL, 4, run_bf16, 120},
    {"fp16", NULL, 4, run_fp16, 120},     {"cpu", NULL, 4, run_cpu, 120},
    {"device", NULL, 4, run_device, 120}, {"few-rows", NULL, 4, run_few_rows, 120},
    {"refused", NULL, 2, run_refused, 0},
};

int main(int argc, char **argv) {
    return harness_main_mpi("pieces", cases, HARNESS_COUNT(cases), argc, argv);
}
