/*
 * A training of one of many layouts, schedules and ZeRO levels: two steps and an evaluation. Each
 * rank writes the bytes that its recorder counted for every other one, from the transport's create
 * to its end, as lines "rank peer bytes"; monitored.test compares them with what Open MPI counted.
 * What the steps and the evaluation sent must equal par_traffic_predict. Without arguments it lists
 * the layouts: number, ranks, name.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../train/check.h"
#include "par/mpi.h"

enum { STEPS = 2, EVALUATED = 1, MAX_RANKS = 64 };

typedef struct {
    int tp, pp, dp;
    bool llama;
    par_schedule_kind schedule;
    int chunks, zero;
    bool no_sequence_parallel, recompute_full;
    par_dtype reduce;
} layout;

#define GPIPE PAR_SCHEDULE_GPIPE
#define F1B1  PAR_SCHEDULE_1F1B
#define WOVEN PAR_SCHEDULE_INTERLEAVED

/* Up to 64 ranks; the ones that a short run takes come first. */
static const layout layouts[] = {
    {2, 2, 2, false, F1B1, 1, 0, false, false, PAR_F32},
    {2, 2, 2, true, GPIPE, 1, 1, true, false, PAR_F32},
    {1, 2, 4, false, WOVEN, 2, 1, false, true, PAR_BF16},
    {4, 2, 1, true, F1B1, 1, 0, false, true, PAR_F32},
    {1, 1, 2, false, F1B1, 1, 0, false, false, PAR_BF16},
    {2, 1, 1, false, F1B1, 1, 0, true, false, PAR_F32},
    {1, 3, 2, false, PAR_SCHEDULE_EAGER_1F1B, 1, 0, false, false, PAR_F32},
    {1, 2, 1, false, GPIPE, 1, 0, false, false, PAR_F32},
    {8, 1, 1, true, F1B1, 1, 0, false, false, PAR_F32},
    {1, 1, 8, false, F1B1, 1, 1, false, false, PAR_F32},
    {1, 4, 2, false, WOVEN, 2, 0, false, false, PAR_F32},
    {2, 4, 1, false, GPIPE, 1, 0, false, true, PAR_F32},
    {4, 1, 2, false, F1B1, 1, 1, false, false, PAR_F32},
    {1, 3, 1, false, WOVEN, 2, 0, false, false, PAR_F32},
    {1, 1, 5, true, F1B1, 1, 1, false, false, PAR_BF16},
    {2, 2, 3, false, F1B1, 1, 0, false, false, PAR_F32},
    {4, 2, 2, true, WOVEN, 2, 1, false, false, PAR_F32},
    {2, 4, 2, false, F1B1, 1, 1, true, false, PAR_BF16},
    {8, 2, 1, false, GPIPE, 1, 0, false, false, PAR_F32},
    {1, 4, 8, false, F1B1, 1, 1, false, false, PAR_F32},
    {4, 4, 2, false, F1B1, 1, 0, false, true, PAR_F32},
    {2, 2, 8, true, GPIPE, 1, 0, false, false, PAR_F32},
    {2, 4, 8, false, F1B1, 1, 0, false, false, PAR_F32},
    {2, 4, 8, false, F1B1, 1, 1, false, false, PAR_BF16},
    {8, 2, 4, true, F1B1, 1, 1, false, false, PAR_F32},
    {4, 1, 16, false, F1B1, 1, 1, true, false, PAR_F32},
    {1, 8, 8, false, GPIPE, 1, 0, false, true, PAR_F32},
};
enum { N_LAYOUTS = sizeof layouts / sizeof *layouts };

static int ranks_of(const layout *l) {
    return l->tp * l->pp * l->dp;
}

static void name_of(const layout *l, char *text, size_t nbytes) {
    snprintf(text, nbytes, "tp%d_pp%d_dp%d_%s_%s%d_zero%d%s%s%s", l->tp, l->pp, l->dp,
             l->llama ? "llama" : "gpt", par_schedule_kind_name(l->schedule), l->chunks, l->zero,
             l->no_sequence_parallel ? "_rows" : "", l->recompute_full ? "_recompute" : "",
             l->reduce == PAR_BF16 ? "_bf16" : "");
}

/* Two steps and an evaluation; *earlier [ranks]: what was sent before their count began. */
static par_status train(par_transport *transport, const par_transformer_config *config,
                        const par_trainer_params *params, par_traffic *predicted,
                        int64_t *earlier) {
    const check_data data = {.vocab = config->vocab, .T = config->tokens};
    par_source source = check_source(&data);
    par_recorder *recorder = par_transport_recorder(transport);
    par_trainer *trainer = NULL;
    par_traffic_run run;
    par_vote vote;
    double loss;
    int64_t evaluated = EVALUATED * params->micro_batch * params->layout.size[PAR_DP];
    PAR_TRY(par_trainer_create(transport, params, &trainer));
    memcpy(earlier, par_recorder_sent_to(recorder),
           (size_t)par_transport_size(transport) * sizeof *earlier);
    par_recorder_reset(recorder);
    par_status st = PAR_OK;
    for (int i = 0; i < STEPS && st == PAR_OK; i++)
        st = par_trainer_step(trainer, &source, 1e-3f, false, &vote);
    if (st == PAR_OK) st = par_trainer_evaluate(trainer, &source, 0, evaluated, &loss);
    par_trainer_traffic(trainer, &run);
    run.T = config->tokens;
    run.C = config->channels;
    run.steps = STEPS;
    run.micros = (int64_t)STEPS * par_trainer_n_micro(trainer);
    run.evaluations = 1;
    run.eval_micros = EVALUATED;
    if (st == PAR_OK) st = par_traffic_predict(predicted, &run);
    par_trainer_destroy(&trainer);
    return st;
}

/* Pairs of axis, purpose and rank whose counted bytes are not the predicted ones. Agreements are
 * not predicted: the evaluation has one on its samples. */
static int unpredicted(const par_traffic *a, const par_traffic *b) {
    int n = 0;
    for (int i = 0; i < a->n; i++)
        for (int r = 0; r < a->size && strcmp(a->purpose[i], "agree") != 0; r++) {
            int64_t expected = 0;
            for (int k = 0; k < b->n; k++)
                if (strcmp(a->axis[i], b->axis[k]) == 0 &&
                    strcmp(a->purpose[i], b->purpose[k]) == 0)
                    expected = b->cells[(int64_t)k * b->size + r].nbytes;
            n += a->cells[(int64_t)i * a->size + r].nbytes != expected;
        }
    return n;
}

/* ours [ranks]: bytes sent to each. */
static par_status run(const layout *l, int64_t *ours, int *differs) {
    par_transformer_config config;
    par_model *model = NULL;
    par_transport *transport = NULL;
    par_traffic *counted = NULL, *predicted = NULL;
    int size = ranks_of(l);
    check_config(l->llama, &config);
    config.layers = l->pp * l->chunks > 6 ? l->pp * l->chunks : 6;
    par_trainer_params params =
        check_params(NULL, l->tp, l->pp, l->dp, 1, (int64_t)l->dp * l->pp * 2);
    params.schedule = l->schedule;
    params.chunks = l->chunks;
    params.zero = l->zero;
    params.no_sequence_parallel = l->no_sequence_parallel;
    params.reduce_dtype = l->reduce;
    if (l->recompute_full) params.recompute = PAR_RECOMPUTE_FULL;
    PAR_TRY(par_transport_create_mpi(MPI_COMM_WORLD, NULL, &transport));
    par_status st = par_transformer_create(&config, &model);
    params.model = model;
    if (st == PAR_OK) st = check_fit(&config, &params);
    if (st == PAR_OK) st = par_traffic_create(size, &counted);
    if (st == PAR_OK) st = par_traffic_create(size, &predicted);
    if (st == PAR_OK) st = train(transport, &config, &params, predicted, ours);
    if (st == PAR_OK) {
        par_traffic_count(counted, par_transport_recorder(transport));
        *differs = unpredicted(counted, predicted) + unpredicted(predicted, counted);
        for (int r = 0; r < size; r++)
            ours[r] += par_recorder_sent_to(par_transport_recorder(transport))[r];
    }
    par_traffic_destroy(&predicted);
    par_traffic_destroy(&counted);
    par_transformer_destroy(&model);
    par_transport_destroy(&transport);
    return st;
}

static par_status write_counts(const char *prefix, int rank, int size, const int64_t *ours) {
    char path[1024];
    snprintf(path, sizeof path, "%s.%d", prefix, rank);
    FILE *file = fopen(path, "w");
    if (!file) PAR_FAIL(PAR_ERR_IO, "%s cannot be written", path);
    for (int peer = 0; peer < size; peer++)
        if (ours[peer] > 0) fprintf(file, "%d %d %lld\n", rank, peer, (long long)ours[peer]);
    return fclose(file) == 0 ? PAR_OK : par_error_set(PAR_ERR_IO, "%s was not written", path);
}

static int list(void) {
    char name[128];
    for (int i = 0; i < N_LAYOUTS; i++) {
        name_of(&layouts[i], name, sizeof name);
        printf("%d %d %s\n", i, ranks_of(&layouts[i]), name);
    }
    return 0;
}

int main(int argc, char **argv) {
    int threads, rank, size, differs = 0;
    int64_t ours[MAX_RANKS] = {0};
    if (argc != 3) return list();
    const layout *l = &layouts[atoi(argv[1]) % N_LAYOUTS];
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &threads);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    par_status st = size == ranks_of(l) ? run(l, ours, &differs)
                                        : par_error_set(PAR_ERR_ARG, "there are %d ranks", size);
    if (st == PAR_OK) st = write_counts(argv[2], rank, size, ours);
    if (st != PAR_OK) fprintf(stderr, "monitored: rank %d: %s\n", rank, par_error());
    if (differs > 0)
        fprintf(stderr, "monitored: rank %d: %d counts differ from the prediction\n", rank,
                differs);
    MPI_Finalize();
    return st != PAR_OK || differs > 0;
}
