/*
 * Lesson 5: a model of your own in three dimensions.
 *
 *     mpirun -n 8 build/examples/05_own_model
 *
 * residual_mlp.c is the model, about 100 lines; this is all that a program needs to train it.
 */
#include <stdio.h>

#include "lesson.h"
#include "residual_mlp.h"

static par_status train(par_transport *transport, par_trainer *trainer, const par_source *source) {
    for (int step = 1; step <= 200; step++) {
        par_vote vote;
        PAR_TRY(par_trainer_step(trainer, source, (float)par_lr_cosine(step, 3e-3, 3e-4, 10, 200),
                                 false, &vote));
        if (par_transport_rank(transport) == 0 && (step == 1 || step % 20 == 0))
            printf("step %3d/200 | loss %.5f | norm %.4f\n", step, vote.loss, vote.grad_norm);
    }
    return PAR_OK;
}

/* tp 2, pp 2 where the ranks allow it, the rest dp. */
static par_status run(par_transport *transport, int argc, char **argv) {
    const residual_mlp_config config = {.channels = 8, .hidden = 64, .blocks = 6};
    int n = par_transport_size(transport), tp = n % 2 ? 1 : 2, pp = n / tp % 2 ? 1 : 2;
    par_model model;
    par_trainer *trainer = NULL;
    residual_mlp_model(&config, &model);
    par_source source = residual_mlp_source(&config);
    par_trainer_params params = {.model = &model,
                                 .layout.size = {tp, 1, n / tp / pp, pp},
                                 .seed = 1,
                                 .micro_batch = 8,
                                 .global_batch = 16 * n,
                                 .schedule = PAR_SCHEDULE_1F1B,
                                 .chunks = 1,
                                 .optimizer = PAR_ADAMW,
                                 .beta1 = 0.9f,
                                 .beta2 = 0.95f,
                                 .eps = 1e-8f,
                                 .clip = 1,
                                 .dtype = PAR_F32,
                                 .zero = 1};
    PAR_TRY(par_trainer_create(transport, &params, &trainer));
    par_status st = train(transport, trainer, &source);
    par_trainer_destroy(&trainer);
    return st;
}

int main(int argc, char **argv) {
    return lesson_main(argc, argv, run);
}
