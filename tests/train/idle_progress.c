/*
 * What it costs to be asked for progress where nothing is under way: the calls of a step, counted,
 * times the time of one, over the time of the step, on one rank and on two. Each is measured on its
 * own, so a busy machine makes the step longer and the call too; below 0.5 %.
 */
#include <stdio.h>

#include "../harness.h"
#include "check.h"
#include "libpar/base/clock.h"
#include "libpar/train/trainer.h"

enum { STEPS = 3, CALLS = 1 << 20 };

static struct {
    void (*progress)(void *user);
    void *user;
    int64_t n;
} asked;

static void count(void *unused) {
    (void)unused;
    asked.n++;
    asked.progress(asked.user);
}

/* Small, but with kernels that are worth a call: 2 blocks of 128 channels, 128 tokens at a time. */
static par_transformer_config config_of(void) {
    return (par_transformer_config){.name = "idle",
                                    .vocab = 256,
                                    .tokens = 64,
                                    .positions = 64,
                                    .layers = 2,
                                    .channels = 128,
                                    .heads = 4,
                                    .kv_heads = 4,
                                    .head_size = 32,
                                    .mlp = 512,
                                    .norm_eps = 1e-5f,
                                    .bias = true,
                                    .tied = true};
}

/* Seconds of the quickest step. */
static double steps(par_trainer *t, const par_source *source) {
    double best = 1e9;
    for (int i = 0; i < STEPS; i++) {
        par_vote vote;
        asked.n = 0;
        double begin = par__seconds();
        CHECK_OK(par_trainer_step(t, source, 1e-3f, false, &vote));
        double took = par__seconds() - begin;
        best = took < best ? took : best;
    }
    return best;
}

/* Seconds of a call, the least of some rounds, as others may have the core. */
static double call(void) {
    double best = 1e9;
    for (int round = 0; round < 8; round++) {
        double begin = par__seconds();
        for (int i = 0; i < CALLS / 8; i++) asked.progress(asked.user);
        double took = (par__seconds() - begin) / (CALLS / 8);
        best = took < best ? took : best;
    }
    return best;
}

static void run(par_transport *harness) {
    par_transformer_config config = config_of();
    const check_data data = {.vocab = config.vocab, .T = config.tokens};
    par_source source = check_source(&data);
    par_model *model = NULL;
    par_trainer *t = NULL;
    CHECK_OK(par_transformer_create(&config, &model));
    par_trainer_params params = check_params(model, 1, 1, par_transport_size(harness), 2, 4);
    CHECK_OK(par_trainer_create(harness, &params, &t));
    if (!t) return;
    par_stream *stream = t->on.stream;
    asked.progress = stream->progress;
    asked.user = stream->user;
    stream->progress = count;
    double step = steps(t, &source), each = call(), share = (double)asked.n * each / step;
    if (par_transport_rank(harness) == 0)
        printf("# %d ranks: %lld calls of %.1f ns in a step of %.1f ms: %.4f %%\n",
               par_transport_size(harness), (long long)asked.n, 1e9 * each, 1e3 * step,
               100 * share);
    CHECK(asked.n > 20, "%lld calls in a step", (long long)asked.n);
    CHECK(share < 0.005, "%lld calls of %.1f ns are %.2f %% of a step of %.1f ms",
          (long long)asked.n, 1e9 * each, 100 * share, 1e3 * step);
    par_trainer_destroy(&t);
    par_transformer_destroy(&model);
}

static const harness_case cases[] = {
    {"one-rank", NULL, 1, run, 0},
    {"two-ranks", NULL, 2, run, 0},
};

int main(int argc, char **argv) {
    return harness_main_mpi("idle-progress", cases, HARNESS_COUNT(cases), argc, argv);
}
