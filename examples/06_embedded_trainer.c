/*
 * Lesson 6: the trainer inside a program of your own: your samples, your loop, stopped and resumed.
 *
 *     mpirun -n 4 build/examples/06_embedded_trainer [FOLDER]
 *
 * A GPT learns to count: the source makes the samples, so there is no file of tokens. After half of
 * the steps a checkpoint goes to FOLDER. A second trainer, as in a process that was started again,
 * resumes from it; both then make the same steps, and their losses have the same bits, since all
 * that a step depends on is in the checkpoint, or is a function of the sample's number.
 */
#include <stdio.h>

#include "lesson.h"

enum { STEPS = 60, HALF = STEPS / 2 };

/* Sample n counts on from a number in steps of 1 to 4. x [n, T], targets [n, T]: x, one further. */
static par_status count(void *user, int64_t first, int64_t n, void *x, void *targets) {
    const par_transformer_config *c = user;
    int32_t *in = x, *out = targets;
    for (int64_t i = 0; i < n; i++) {
        uint64_t key = (uint64_t)(first + i);
        int64_t begin = (int64_t)(par_random_u64(1, 0, key) % 256);
        int64_t step = 1 + (int64_t)(par_random_u64(1, 1, key) % 4);
        for (int64_t t = 0; t < c->tokens; t++) {
            in[i * c->tokens + t] = (int32_t)((begin + step * t) % c->vocab);
            out[i * c->tokens + t] = (int32_t)((begin + step * (t + 1)) % c->vocab);
        }
    }
    return PAR_OK;
}

/* Steps first to last; the vote is what all ranks know of the last one. */
static par_status train(par_trainer *trainer, const par_source *source, int first, int last,
                        par_vote *vote) {
    bool prints = par_trainer_mesh(trainer)->rank == 0;
    for (int step = first; step <= last; step++) {
        float lr = (float)par_lr_cosine(step, 3e-3, 3e-4, 10, STEPS);
        PAR_TRY(par_trainer_step(trainer, source, lr, false, vote));
        if (prints && (step == first || step % 10 == 0))
            printf("step %2d/%d | loss %.4f\n", step, STEPS, vote->loss);
    }
    return PAR_OK;
}

static par_status save(par_trainer *trainer, const char *folder, const par_vote *vote) {
    static par_checkpoint_result saved;
    const par_checkpoint_params params = {
        .directory = folder, .keep = 1, .step = HALF, .loss = vote->loss};
    PAR_TRY(par_trainer_save(trainer, &params, &saved));
    if (par_trainer_mesh(trainer)->rank == 0) printf("saved %s\n", saved.path);
    return PAR_OK;
}

/* A trainer as in a new process; it goes on from the newest checkpoint in the folder. */
static par_status resume(par_transport *world, const par_trainer_params *params,
                         const par_source *source, const char *folder, par_vote *vote) {
    static par_checkpoint_result loaded;
    const par_checkpoint_about about = {0};
    par_trainer *trainer = NULL;
    PAR_TRY(par_trainer_create(world, params, &trainer));
    par_status st = par_trainer_resume(trainer, folder, &about, &loaded);
    if (st == PAR_OK && par_transport_rank(world) == 0) printf("resumed %s\n", loaded.path);
    if (st == PAR_OK) st = train(trainer, source, (int)loaded.step + 1, STEPS, vote);
    par_trainer_destroy(&trainer);
    return st;
}

/* tp 2 where the ranks allow it, the rest dp. */
static par_status run(par_transport *world, int argc, char **argv) {
    int n = par_transport_size(world), tp = n % 2 ? 1 : 2;
    const char *folder = argc > 0 ? argv[0] : "runs/lesson6", *missing = par_checkpoint_missing();
    par_transformer_config config;
    par_vote through = {0}, again = {0};
    par_trainer_params params = {.layout.size = {tp, 1, n / tp, 1},
                                 .seed = 1,
                                 .micro_batch = 4,
                                 .global_batch = 8 * n,
                                 .schedule = PAR_SCHEDULE_1F1B,
                                 .chunks = 1,
                                 .optimizer = PAR_ADAMW,
                                 .beta1 = 0.9,
                                 .beta2 = 0.95,
                                 .eps = 1e-8f,
                                 .clip = 1,
                                 .dtype = PAR_F32};
    par_model *model = NULL;
    par_trainer *trainer = NULL;
    PAR_TRY(par_transformer_preset("gpt2-nano", &config));
    PAR_TRY(par_transformer_create(&config, &model));
    const par_source source = {.read = count, .user = &config};
    params.model = model;
    par_status st = par_trainer_create(world, &params, &trainer);
    if (st == PAR_OK) st = train(trainer, &source, 1, HALF, &through);
    if (st == PAR_OK && !missing) st = save(trainer, folder, &through);
    if (st == PAR_OK) st = train(trainer, &source, HALF + 1, STEPS, &through);
    par_trainer_destroy(&trainer);
    if (st == PAR_OK && !missing) st = resume(world, &params, &source, folder, &again);
    if (st == PAR_OK && par_transport_rank(world) == 0)
        printf("%s\n", missing                      ? missing
                       : through.loss == again.loss ? "the losses have the same bits"
                                                    : "the losses differ");
    par_transformer_destroy(&model);
    return st;
}

int main(int argc, char **argv) {
    return lesson_main(argc, argv, run);
}
