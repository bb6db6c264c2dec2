/* See generate_fixture.h. */
#include "generate_fixture.h"

#include <string.h>

/* Larger initial weights than usual, whose logits differ; some steps, so that weights are under
 * way. SGD, since AdamW turns gradients that are rounding alone into whole steps, and layouts would
 * differ by more than rounding. */
static par_status train(par_trainer *trainer, const par_transformer_config *config) {
    const check_data data = {.vocab = config->vocab, .T = config->tokens};
    par_source source = check_source(&data);
    for (int i = 0; i < 5; i++) {
        par_vote vote;
        PAR_TRY(par_trainer_step(trainer, &source, 0.02f, false, &vote));
    }
    return PAR_OK;
}

par_status fixture_create(par_transport *transport, const setting *s, fixture *f) {
    memset(f, 0, sizeof *f);
    check_config(s->family, &f->config);
    f->config.init_std = 0.15;
    PAR_TRY(par_transformer_create(&f->config, &f->model));
    par_trainer_params params = check_params(f->model, s->tp, s->pp, s->dp, B, 8);
    params.dtype = s->dtype;
    params.optimizer = PAR_SGD;
    params.zero = s->zero;
    params.recompute = s->recompute;
    params.keep_logits = true;
    params.chunks = s->chunks;
    if (s->chunks > 1) params.schedule = PAR_SCHEDULE_INTERLEAVED;
    PAR_TRY(check_fit(&f->config, &params));
    PAR_TRY(par_trainer_create(transport, &params, &f->trainer));
    const par_generator_params wanted = {
        .sequences = B, .capacity = T, .prompt = s->prompt, .vocab = f->config.vocab};
    PAR_TRY(par_generator_create(f->trainer, &wanted, &f->generator));
    return train(f->trainer, &f->config);
}

void fixture_destroy(fixture *f) {
    par_generator_destroy(&f->generator);
    par_trainer_destroy(&f->trainer);
    par_transformer_destroy(&f->model);
}

const int32_t prompts[B * N_PROMPT] = {1, 10, 73, 99, 5, 38};

par_status greedy(fixture *f, int32_t *ids) {
    const par_generation g = {.prompt = prompts, .n_prompt = N_PROMPT, .n_new = N_NEW};
    return par_generator_run(f->generator, &g, ids);
}

par_status sampled(fixture *f, uint64_t seed, int32_t *ids) {
    const par_generation g = {.prompt = prompts,
                              .n_prompt = N_PROMPT,
                              .n_new = N_NEW,
                              .temperature = 1,
                              .top_k = 40,
                              .seed = seed};
    return par_generator_run(f->generator, &g, ids);
}
