/* What the suites of generation share: a small transformer after some steps, with its generator. */
#ifndef PAR_TESTS_TRAIN_GENERATE_FIXTURE_H
#define PAR_TESTS_TRAIN_GENERATE_FIXTURE_H

#include "check.h"

enum { T = 16, B = 2, N_PROMPT = 3, N_NEW = 12 };

typedef struct {
    int family; /* CHECK_GPT ... */
    par_dtype dtype;
    int tp, pp, dp, chunks, zero;
    par_recompute recompute;
    int64_t prompt; /* tokens of a prompt at once */
} setting;

typedef struct {
    par_transformer_config config;
    par_model *model;
    par_trainer *trainer;
    par_generator *generator;
} fixture;

extern const int32_t prompts[B * N_PROMPT];

par_status fixture_create(par_transport *transport, const setting *s, fixture *f);
void fixture_destroy(fixture *f);
/* N_NEW tokens behind `prompts`: the likeliest, and drawn ones. */
par_status greedy(fixture *f, int32_t *ids);
par_status sampled(fixture *f, uint64_t seed, int32_t *ids);

#endif
