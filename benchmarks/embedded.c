/*
 * A program that embeds libpar and sets nothing about threads: a small Llama, its ranks all data
 * parallel, 20 steps. Prints the median step of rank 0 in ms. threads.sh compares the default with
 * a given number of threads.
 *
 *     mpirun -n 4 embedded [THREADS]     0 or none: the library's default
 */
#define _POSIX_C_SOURCE 200809L /* clock_gettime */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "par/mpi.h"
#include "par/par.h"

enum { STEPS = 20 };

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static par_status read_samples(void *user, int64_t first, int64_t n, void *x, void *targets) {
    const par_transformer_config *c = user;
    for (int64_t i = 0; i < n * c->tokens; i++) {
        ((int32_t *)x)[i] = (int32_t)(i * 7 % c->vocab);
        ((int32_t *)targets)[i] = (int32_t)((i + 1) * 7 % c->vocab);
    }
    return PAR_OK;
}

static par_status run(par_transport *transport) {
    par_transformer_config config;
    par_model *model = NULL;
    par_trainer *trainer = NULL;
    double ms[STEPS];
    int ranks = par_transport_size(transport);
    PAR_TRY(par_transformer_preset("llama-nano", &config));
    config.channels = 128;
    config.mlp = 352;
    config.head_size = 32;
    config.tokens = config.positions = 128;
    PAR_TRY(par_transformer_create(&config, &model));
    par_trainer_params params = {.model = model, .micro_batch = 8, .global_batch = 8 * ranks};
    params.schedule = PAR_SCHEDULE_1F1B, params.clip = 1;
    params.layout.size[PAR_TP] = params.layout.size[PAR_CP] = params.layout.size[PAR_PP] = 1;
    params.layout.size[PAR_DP] = ranks;
    params.beta1 = 0.9, params.beta2 = 0.95, params.eps = 1e-8f;
    PAR_TRY(par_trainer_create(transport, &params, &trainer));
    const par_source source = {read_samples, &config};
    for (int i = 0; i < STEPS; i++) {
        par_vote vote;
        double start = now_ms();
        PAR_TRY(par_trainer_step(trainer, &source, 1e-4f, false, &vote));
        ms[i] = now_ms() - start;
    }
    qsort(ms, STEPS, sizeof *ms, by_value);
    if (par_transport_rank(transport) == 0) printf("%.2f\n", ms[STEPS / 2]);
    par_trainer_destroy(&trainer);
    par_transformer_destroy(&model);
    return PAR_OK;
}

int main(int argc, char **argv) {
    int provided;
    par_transport *transport = NULL;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    par_status st = argc > 1 ? par_threads_set(atoi(argv[1])) : PAR_OK;
    if (st == PAR_OK) st = par_transport_create_mpi(MPI_COMM_WORLD, NULL, &transport);
    if (st == PAR_OK) st = run(transport);
    if (st != PAR_OK) {
        fprintf(stderr, "%s\n", par_error());
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    par_transport_destroy(&transport);
    MPI_Finalize();
    return 0;
}
