/* Generation: what cannot be is refused on every rank, and what differs between ranks by name. */
#include <math.h>
#include <string.h>

#include "../../examples/residual_mlp.h"
#include "../harness.h"
#include "generate_fixture.h"
#include "par/replicas.h"

static par_status spoil(void *user, const par_param *param, float *dst) {
    for (int64_t i = 0; i < param->local[0] * param->local[1]; i++) dst[i] = NAN;
    return PAR_OK;
}

static void refuse_runs(fixture *f) {
    par_generation g = {.prompt = prompts, .n_prompt = N_PROMPT, .n_new = T};
    CHECK_FAILS(par_generator_run(f->generator, &g, NULL), PAR_ERR_ARG, "capacity of 16");
    g.n_new = 1, g.n_prompt = 0;
    CHECK_FAILS(par_generator_run(f->generator, &g, NULL), PAR_ERR_ARG, "a prompt of 0 tokens");
    g.n_prompt = 2, g.temperature = -1;
    CHECK_FAILS(par_generator_run(f->generator, &g, NULL), PAR_ERR_ARG, "temperature -1");
    g.temperature = 1, g.top_k = -1;
    CHECK_FAILS(par_generator_run(f->generator, &g, NULL), PAR_ERR_ARG, "top-k -1");
    g.top_k = 0, g.top_p = 1.5;
    CHECK_FAILS(par_generator_run(f->generator, &g, NULL), PAR_ERR_ARG, "top-p 1.5");
    g.top_p = 0;
    const int32_t foreign[] = {1, 2, 3, 131};
    g.top_k = 0, g.prompt = foreign;
    CHECK_FAILS(par_generator_run(f->generator, &g, NULL), PAR_ERR_ARG,
                "token 3 of the prompts is 131");
    CHECK_OK(par_trainer_load(f->trainer, spoil, NULL));
    CHECK_FAILS(sampled(f, 1, NULL), PAR_ERR_NUMERIC, "hold NaN or infinity");
}

/* On rank 2 one thing is another: refused on all ranks, which go on together. */
static void refuse_unequal(fixture *f) {
    static const char *const made[] = {"sequences", "capacity", "prompt", "vocab", "int8"};
    static const char *const run[] = {"n_prompt", "n_new",       "prompt, hash", "top_k",
                                      "top_p",    "temperature", "seed"};
    const bool other = par_trainer_mesh(f->trainer)->rank == 2;
    const int32_t changed[B * N_PROMPT] = {1};
    const par_generator_params two = {.sequences = B, .capacity = T, .vocab = 131};
    par_generator_destroy(&f->generator);
    CHECK_OK(par_generator_create(f->trainer, &two, &f->generator));
    for (int i = 0; i < HARNESS_COUNT(run); i++) {
        par_generation g = {.prompt = prompts, .n_prompt = N_PROMPT, .n_new = 2};
        if (other && i == 0) g.n_prompt--;
        if (other && i == 1) g.n_new = -1; /* not even legal */
        if (other && i == 2) g.prompt = changed;
        if (other && i == 3) g.top_k = 2;
        if (other && i == 4) g.top_p = 0.5;
        if (other && i == 5) g.temperature = 0.5;
        if (other && i == 6) g.seed++;
        par_status st = par_generator_run(f->generator, &g, NULL);
        CHECK(st == PAR_ERR_OPTION && strstr(par_error(), "rank 2: the generation's ") &&
                  strstr(par_error(), run[i]),
              "%s: %d, \"%s\"", run[i], (int)st, par_error());
    }
    par_generator_destroy(&f->generator);
    for (int i = 0; i < HARNESS_COUNT(made); i++) {
        par_generator_params p = {.sequences = 2, .capacity = T, .prompt = 4, .vocab = 131};
        if (other && i == 0) p.sequences = 0;
        if (other && i == 1) p.capacity--;
        if (other && i == 2) p.prompt = 0;
        if (other && i == 3) p.vocab--;
        if (other && i == 4) p.int8 = true;
        par_status st = par_generator_create(f->trainer, &p, &f->generator);
        CHECK(st == PAR_ERR_OPTION && strstr(par_error(), "rank 2: the generator's ") &&
                  strstr(par_error(), made[i]),
              "%s: %d, \"%s\"", made[i], (int)st, par_error());
    }
    CHECK(!f->generator, "a refusal left a generator");
}

static void refuse_generators(fixture *f) {
    par_generator *second = NULL;
    par_generator_params p = {.sequences = 1, .capacity = T, .vocab = f->config.vocab};
    CHECK_FAILS(par_generator_create(f->trainer, &p, &second), PAR_ERR_ARG, "a generator already");
    par_generator_destroy(&f->generator);
    p.capacity = T + 1;
    CHECK_FAILS(par_generator_create(f->trainer, &p, &second), PAR_ERR_ARG,
                "legal: 1 to the model's 16");
    p.capacity = T, p.vocab = 145; /* padded to 2 x 72 over tp 2 */
    CHECK_FAILS(par_generator_create(f->trainer, &p, &second), PAR_ERR_ARG,
                "legal: 1 to the model's 144");
    p.vocab = 131, p.prompt = T + 1;
    CHECK_FAILS(par_generator_create(f->trainer, &p, &second), PAR_ERR_ARG,
                "17 tokens of a prompt at once");
    p.prompt = 0, p.sequences = 0;
    CHECK_FAILS(par_generator_create(f->trainer, &p, &second), PAR_ERR_ARG, "0 sequences");
    CHECK(!second, "a refusal left a generator");
    p.sequences = 3;
    CHECK_OK(par_generator_create(f->trainer, &p, &f->generator));
}

static void run_refusals(par_transport *transport) {
    const setting s = {CHECK_GPT, PAR_F32, 2, 2, 1, 1, 0, PAR_RECOMPUTE_NONE, 0};
    fixture f;
    CHECK_OK(fixture_create(transport, &s, &f));
    refuse_runs(&f);
    refuse_generators(&f);
    refuse_unequal(&f);
    fixture_destroy(&f);
}

static par_status no_step_source(void *user, int64_t first, int64_t n, void *x, void *targets) {
    return par_error_set(PAR_ERR_INTERNAL, "what is refused reads no samples");
}

static par_status no_values(void *user, const par_param *p, int64_t first, int64_t n,
                            const float *values) {
    return par_error_set(PAR_ERR_INTERNAL, "what is refused visits nothing");
}

static par_status no_run(void *user, const par_checkpoint_run *run) {
    return par_error_set(PAR_ERR_INTERNAL, "what is refused shows nothing");
}

static par_status no_stash(void *user, const par_module *last, const void *stash) {
    return par_error_set(PAR_ERR_INTERNAL, "what is refused runs nothing");
}

/* Every function that returns a status, but begin, end and what goes on with a save. */
static void refuse_all(fixture *f, par_replicas *replicas) {
    static const char begun[] = "1 steps were begun";
    const par_source source = {.read = no_step_source};
    const par_generator_params made = {.sequences = 1, .capacity = T, .vocab = 131};
    const par_generation text = {.prompt = prompts, .n_prompt = N_PROMPT, .n_new = 1};
    const par_checkpoint_params saved = {.directory = "/nowhere"};
    const par_checkpoint_about about = {0};
    par_checkpoint_result result;
    par_generator *second = NULL;
    par_replicas *more = NULL;
    par_replicas_result found;
    par_trainer *t = f->trainer;
    par_scaler scaler = *par_trainer_scaler(t);
    int32_t x[B * T] = {0}, to = 0, from = 1;
    par_vote vote;
    double loss;
    CHECK_FAILS(par_generator_create(t, &made, &second), PAR_ERR_ARG, begun);
    CHECK_FAILS(par_generator_run(f->generator, &text, NULL), PAR_ERR_ARG, begun);
    CHECK_FAILS(par_trainer_settle(t), PAR_ERR_ARG, begun);
    CHECK_FAILS(par_trainer_copy(t, &to, &from, sizeof to), PAR_ERR_ARG, begun);
    CHECK_FAILS(par_trainer_step(t, &source, 1, false, &vote), PAR_ERR_ARG, begun);
    CHECK_FAILS(par_trainer_evaluate(t, &source, 0, 8, &loss), PAR_ERR_ARG, begun);
    CHECK_FAILS(par_trainer_forward(t, x, x, no_stash, NULL), PAR_ERR_ARG, begun);
    CHECK_FAILS(par_trainer_visit(t, PAR_STATE_WEIGHT, no_values, NULL), PAR_ERR_ARG, begun);
    CHECK_FAILS(par_trainer_load(t, spoil, NULL), PAR_ERR_ARG, begun);
    CHECK_FAILS(par_trainer_draw(t), PAR_ERR_ARG, begun);
    CHECK_FAILS(par_trainer_set_scaler(t, &scaler), PAR_ERR_ARG, begun);
    CHECK_FAILS(par_trainer_state_runs(t, no_run, NULL), PAR_ERR_ARG, begun);
    CHECK_FAILS(par_trainer_save(t, &saved, &result), PAR_ERR_ARG, begun);
    CHECK_FAILS(par_trainer_save_begin(t, &saved), PAR_ERR_ARG, begun);
    CHECK_FAILS(par_trainer_resume(t, "/nowhere", &about, &result), PAR_ERR_ARG, begun);
    CHECK_FAILS(par_replicas_create(t, &more), PAR_ERR_ARG, begun);
    CHECK_FAILS(par_replicas_check(replicas, &found), PAR_ERR_ARG, begun);
    CHECK(!second && !more && to == 0, "a refusal has done something");
}

/* Between begin and end all else is refused, changes nothing, and is legal again afterwards: with
 * ZeRO-1, whose weights are under way meanwhile. */
static void run_begun(par_transport *transport) {
    const setting s = {CHECK_GPT, PAR_F32, 1, 2, 2, 1, 1, PAR_RECOMPUTE_NONE, 0};
    const check_data data = {.vocab = 131, .T = T};
    const par_source source = check_source(&data);
    int32_t one[B * N_NEW], two[B * N_NEW];
    par_vote vote;
    for (int refusing = 0; refusing < 2; refusing++) {
        fixture f;
        par_replicas *replicas = NULL;
        CHECK_OK(fixture_create(transport, &s, &f));
        CHECK_OK(par_replicas_create(f.trainer, &replicas));
        CHECK_OK(par_trainer_step_begin(f.trainer, &source, 0.02f, false));
        if (refusing) refuse_all(&f, replicas);
        par_replicas_destroy(&replicas);
        CHECK_OK(par_trainer_step_end(f.trainer, &vote));
        CHECK_OK(greedy(&f, refusing ? two : one));
        fixture_destroy(&f);
    }
    CHECK(memcmp(one, two, sizeof one) == 0, "what was refused has changed the text");
}

static void run_foreign_model(par_transport *transport) {
    static const residual_mlp_config config = {.channels = 8, .hidden = 40, .blocks = 7};
    const par_generator_params p = {.sequences = 1, .capacity = 1, .vocab = 8};
    par_model model;
    par_trainer *trainer = NULL;
    par_generator *generator = NULL;
    residual_mlp_model(&config, &model);
    par_trainer_params params = check_params(&model, 2, 2, 1, 4, 8);
    CHECK_OK(par_trainer_create(transport, &params, &trainer));
    CHECK_FAILS(par_generator_create(trainer, &p, &generator), PAR_ERR_UNSUPPORTED,
                "cannot generate");
    par_trainer_destroy(&trainer);
}

static const harness_case cases[] = {
    {"refusals", NULL, 4, run_refusals, 0},
    {"between-begin-and-end", NULL, 4, run_begun, 0},
    {"model-without-decode", NULL, 4, run_foreign_model, 0},
};

int main(int argc, char **argv) {
    return harness_main_mpi("generate-refused", cases, HARNESS_COUNT(cases), argc, argv);
}
