/*
 * What a trainer refuses, with no communication: every problem at once, each with the legal values;
 * what one rank has other than the others; and what only shows in a step, which every rank then
 * returns.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../harness.h"
#include "check.h"

static par_model *tiny(void) {
    par_transformer_config config;
    par_model *model = NULL;
    check_config(false, &config);
    CHECK_OK(par_transformer_create(&config, &model));
    return model;
}

/* The problems of the parameters must contain every one of the words. */
static void refused(const char *what, const par_trainer_params *params, int world,
                    const char *const *words) {
    par_problems problems = {0};
    par_trainer_check(params, world, &problems);
    CHECK(problems.n > 0, "%s is not refused", what);
    for (int i = 0; words[i]; i++)
        CHECK(strstr(problems.text, words[i]), "%s: \"%s\" lacks \"%s\"", what, problems.text,
              words[i]);
}

static void run_micro_batch(par_transport *transport) {
    par_model *model = tiny();
    par_trainer_params params = check_params(model, 1, 1, 2, 5, 24);
    const char *const words[] = {"micro-batch 5 does not divide the 12 samples of a dp rank",
                                 "legal: 1, 2, 3, 4, 6, 12", NULL};
    refused("a micro-batch that does not divide", &params, 2, words);
    params.micro_batch = 4;
    params.global_batch = 23;
    const char *const batch[] = {
        "batch 23 is not a multiple of dp 2; the nearest legal ones are 22 and 24", NULL};
    refused("a batch that dp does not divide", &params, 2, batch);
    par_transformer_destroy(&model);
}

static void run_layout(par_transport *transport) {
    par_model *model = tiny();
    par_trainer_params params = check_params(model, 2, 2, 2, 1, 8);
    const char *const product[] = {"the layout tp 2", "needs 8 ranks, but there are 6", NULL};
    refused("a layout of 8 on 6 ranks", &params, 6, product);
    params = check_params(model, 1, 16, 1, 1, 16);
    const char *const parts[] = {"makes 16 pipeline parts, the model has 8 modules", NULL};
    refused("more stages than modules", &params, 16, parts);
    par_transformer_destroy(&model);
}

static void run_interleaved(par_transport *transport) {
    par_model *model = tiny();
    par_trainer_params params = check_params(model, 1, 4, 1, 1, 6);
    params.schedule = PAR_SCHEDULE_INTERLEAVED;
    params.chunks = 2;
    const char *const multiple[] = {
        "micro-batches in multiples of pp 4, a step has 6: use a batch of 8", NULL};
    refused("6 micro-batches on 4 interleaved stages", &params, 4, multiple);
    params.schedule = PAR_SCHEDULE_1F1B;
    const char *const chunks[] = {"chunks 2 needs the interleaved schedule; 1f1b has 1", NULL};
    refused("chunks without interleaving", &params, 4, chunks);
    par_transformer_destroy(&model);
}

/* One line per problem, all of them. */
static void run_all_at_once(par_transport *transport) {
    par_model *model = tiny();
    par_trainer_params params = check_params(model, 1, 1, 1, 3, 8);
    params.zero = 2;
    params.clip = -1;
    params.eps = -1;
    params.backend = "gpu";
    const char *const words[] = {"micro-batch 3", "zero 2", "clip -1", "eps -1", "gpu", NULL};
    par_problems problems = {0};
    refused("five mistakes", &params, 1, words);
    par_trainer_check(&params, 1, &problems);
    CHECK(problems.n == 5, "%d problems, not 5: %s", problems.n, problems.text);
    par_transformer_destroy(&model);
}

/* What must not be NULL is looked at before it is used. */
static void run_null(par_transport *transport) {
    par_source source = {.read = NULL};
    par_vote vote;
    double loss;
    CHECK_FAILS(par_trainer_evaluate(NULL, &source, 0, 8, &loss), PAR_ERR_ARG, "requires");
    CHECK_FAILS(par_trainer_step(NULL, &source, 1, false, &vote), PAR_ERR_ARG, "requires");
    CHECK_FAILS(par_trainer_step_begin(NULL, &source, 1, false), PAR_ERR_ARG, "requires");
    CHECK_FAILS(par_trainer_step_end(NULL, &vote), PAR_ERR_ARG, "requires");
    CHECK_FAILS(par_trainer_settle(NULL), PAR_ERR_ARG, "requires");
    CHECK_FAILS(par_trainer_copy(NULL, &loss, &loss, 1), PAR_ERR_ARG, "requires");
    CHECK_FAILS(par_trainer_create(transport, NULL, NULL), PAR_ERR_ARG, "requires");
}

/* AdamW without averages would train, wrongly: no betas are the usual ones, and one alone may be
 * 0, that of the gradients. */
static void run_defaults(par_transport *transport) {
    par_model *model = tiny();
    par_trainer_params params = {.model = model, .micro_batch = 1, .global_batch = 1};
    par_problems problems = {0};
    par_trainer_check(&params, 1, &problems);
    CHECK(problems.n == 0, "zero is a default, or a value: %s", problems.text);
    par_trainer_defaults(&params);
    CHECK(params.beta1 == 0.9 && params.beta2 == 0.95 && params.eps == 1e-8f,
          "betas %g and %g, eps %g", params.beta1, params.beta2, (double)params.eps);
    CHECK(params.layout.size[PAR_PP] == 1 && params.layout.kv_replicas == 1 && params.chunks == 1 &&
              params.bucket_n == 1 << 20 && !strcmp(params.backend, "cpu"),
          "layout, chunks %d, bucket_n %lld, backend %s", params.chunks, (long long)params.bucket_n,
          params.backend);
    params.beta1 = 0, params.beta2 = 0.99, params.eps = 1e-6f;
    par_trainer_defaults(&params);
    CHECK(params.beta1 == 0 && params.beta2 == 0.99 && params.eps == 1e-6f,
          "what is given has become %g, %g, %g", params.beta1, params.beta2, (double)params.eps);
    params.beta1 = 0.9, params.beta2 = 0;
    const char *const words[] = {"beta2 0 must be in (0, 1)", NULL};
    refused("squares without an average", &params, 1, words);
    par_transformer_destroy(&model);
}

static par_status three_steps(par_transport *transport, const par_trainer_params *params,
                              double *loss) {
    const check_data data = {.vocab = 131, .T = 16};
    par_source source = check_source(&data);
    par_trainer *trainer = NULL;
    par_vote vote = {0};
    PAR_TRY(par_trainer_create(transport, params, &trainer));
    par_status st = PAR_OK;
    for (int i = 0; i < 3 && st == PAR_OK; i++)
        st = par_trainer_step(trainer, &source, 1e-2f, false, &vote);
    *loss = vote.loss;
    par_trainer_destroy(&trainer);
    return st;
}

/* A trainer fills them in by itself. */
static void run_defaults_train(par_transport *transport) {
    par_model *model = tiny();
    par_trainer_params params = {.model = model, .micro_batch = 2, .global_batch = 4};
    double by_default, given, without;
    CHECK_OK(three_steps(transport, &params, &by_default));
    par_trainer_defaults(&params);
    CHECK_OK(three_steps(transport, &params, &given));
    params.beta1 = 0;
    CHECK_OK(three_steps(transport, &params, &without));
    CHECK(by_default == given && without != given, "losses %.17g, %.17g, and without beta1 %.17g",
          by_default, given, without);
    par_transformer_destroy(&model);
}

static void run_heads(par_transport *transport) {
    par_transformer_config config;
    par_problems problems = {0};
    par_layout layout = {.size = {3, 1, 1, 1}};
    check_config(false, &config);
    par_transformer_check(&config, &layout, 1, false, &problems, NULL);
    CHECK(problems.n > 0 &&
              strstr(problems.text, "tp 3 does not divide 8 heads; legal: 1, 2, 4, 8"),
          "8 heads on tp 3: \"%s\"", problems.text);
    memset(&problems, 0, sizeof problems);
    layout.size[PAR_TP] = 1;
    config.tokens = config.positions + 1;
    par_transformer_check(&config, &layout, 1, false, &problems, NULL);
    CHECK(problems.n == 1 && strstr(problems.text, "25 tokens are more than the model's 24 "
                                                   "positions; legal: 1 to 24"),
          "T above P: %d problems \"%s\"", problems.n, problems.text);
}

static par_status failing_read(void *user, int64_t first, int64_t n, void *x, void *targets) {
    if (first >= 4) PAR_FAIL(PAR_ERR_IO, "tokens.bin: cannot read sample %lld", (long long)first);
    return check_source(user).read(user, first, n, x, targets);
}

/* One dp rank cannot read its samples: all ranks get the same status and its message, weights stay,
 * no hang. */
static void run_source(par_transport *transport) {
    par_model *model = tiny();
    const check_data data = {.vocab = 131, .T = 16};
    par_source good = check_source(&data), bad = {failing_read, (void *)&data};
    par_trainer_params params = check_params(model, 2, 1, 2, 2, 8);
    par_trainer *trainer = NULL;
    par_vote vote;
    double before, after;
    CHECK_OK(par_trainer_create(transport, &params, &trainer));
    CHECK_OK(par_trainer_evaluate(trainer, &good, 0, 4, &before));
    CHECK_FAILS(par_trainer_step(trainer, &bad, 1e-2f, false, &vote), PAR_ERR_IO,
                "tokens.bin: cannot read sample");
    CHECK(vote.status == PAR_ERR_IO, "the vote says %s", par_status_text(vote.status));
    CHECK_OK(par_trainer_evaluate(trainer, &good, 0, 4, &after));
    CHECK(before == after, "weights changed in a failed step: %.9g and %.9g", before, after);
    CHECK_OK(par_trainer_step(trainer, &good, 1e-2f, true, &vote));
    CHECK(vote.stop, "a request to stop does not reach all ranks");
    par_trainer_destroy(&trainer);
    par_transformer_destroy(&model);
}

/* A weight that is NaN on one rank only: every rank refuses the update and names tensor and
 * rank. */
static void run_nonfinite(par_transport *transport) {
    par_model *model = tiny();
    const check_data data = {.vocab = 131, .T = 16};
    par_source source = check_source(&data);
    par_trainer_params params = check_params(model, 2, 2, 1, 2, 8);
    par_trainer *trainer = NULL;
    par_vote vote = {0};
    CHECK_OK(par_trainer_create(transport, &params, &trainer));
    if (par_transport_rank(transport) == 1)
        ((float *)par_trainer_param(trainer, par_trainer_n_params(trainer) - 1)->weight)[0] = NAN;
    CHECK_FAILS(par_trainer_step(trainer, &source, 1e-2f, false, &vote), PAR_ERR_NUMERIC,
                "unchanged");
    CHECK(vote.n_nonfinite > 0 && vote.skipped && strstr(vote.where, "rank"),
          "%lld non-finite, first \"%s\"", (long long)vote.n_nonfinite, vote.where);
    par_trainer_destroy(&trainer);
    par_transformer_destroy(&model);
}

/* One rank of four has another parameter: all refuse it at once, and name it. */
static void run_unequal(par_transport *transport) {
    static const char *const words[] = {"layout.size[PAR_TP]",
                                        "layout.order[0]",
                                        "dtype",
                                        "seed",
                                        "micro_batch",
                                        "global_batch",
                                        "zero",
                                        "clip",
                                        "scaler.growth",
                                        "backend",
                                        "modules_per_part",
                                        "ids",
                                        "modules",
                                        "model"};
    static const int parts[2][2] = {{3, 5}, {4, 4}};
    static const char *const shapes[] = {"dropout", "norm eps", "rope theta", "init_std"};
    const bool other = par_transport_rank(transport) == 2;
    for (int i = 0; i < HARNESS_COUNT(words) + HARNESS_COUNT(shapes) + 1; i++) {
        const char *word = i < HARNESS_COUNT(words) ? words[i] : NULL;
        par_transformer_config config;
        par_model *model = NULL;
        par_trainer *trainer = NULL;
        int shape = i - HARNESS_COUNT(words);
        check_config(true, &config);
        if (shape >= 0 && shape < HARNESS_COUNT(shapes)) word = shapes[shape];
        if (other && shape == 0) config.dropout = 0.5f;
        if (other && shape == 1) config.norm_eps *= 2;
        if (other && shape == 2) config.rope_theta *= 2;
        if (other && shape == 3) config.init_std = 0.5;
        CHECK_OK(par_transformer_create(&config, &model));
        par_model own = *model;
        par_trainer_params p = check_params(&own, 1, 2, 2, 1, 8);
        p.modules_per_part = parts[0];
        switch (other ? i : -1) {
        case 0: p.layout.size[PAR_TP] = 2, p.layout.size[PAR_DP] = 1; break;
        case 1: p.layout.order[0] = PAR_DP, p.layout.order[1] = PAR_TP; break;
        case 2: p.dtype = PAR_BF16; break;
        case 3: p.seed++; break;
        case 4: p.micro_batch = 2; break;
        case 5: p.global_batch = 7; break; /* not even legal */
        case 6: p.zero = 1; break;
        case 7: p.clip = 7; break;
        case 8: p.scaler.growth = 3; break;
        case 9: p.backend = "ref"; break;
        case 10: p.modules_per_part = parts[1]; break;
        case 11: own.n_ids--; break;
        case 12: own.n_modules--; break;
        case 13: p.model = NULL; break;
        default: break;
        }
        par_status st = par_trainer_create(transport, &p, &trainer);
        if (word)
            CHECK(st == PAR_ERR_OPTION && strstr(par_error(), "rank 2: ") &&
                      strstr(par_error(), word) && strstr(par_error(), "legal: equal on all ranks"),
                  "%s: %d, \"%s\"", word, (int)st, par_error());
        else
            CHECK_OK(st);
        par_trainer_destroy(&trainer);
        par_transformer_destroy(&model);
    }
}

static par_status no_stash(void *user, const par_module *last, const void *stash) {
    return PAR_OK;
}

/* One rank of four calls with another number or another input: all refuse it, and name it, and the
 * next call runs. */
static void run_unequal_calls(par_transport *transport) {
    static const char *const words[] = {"the evaluation's first", "the evaluation's n",
                                        "the evaluation's n", "the forward's x, hash",
                                        "the forward's targets, hash"};
    const bool other = par_transport_rank(transport) == 2;
    par_model *model = tiny();
    const check_data data = {.vocab = 131, .T = 16};
    const par_source source = check_source(&data);
    par_trainer_params params = check_params(model, 1, 2, 2, 1, 8);
    par_trainer *t = NULL;
    double loss;
    CHECK_OK(par_trainer_create(transport, &params, &t));
    for (int i = 0; t && i < HARNESS_COUNT(words) + 1; i++) {
        int32_t x[16] = {1, 2, 3}, targets[16] = {4, 5, 6};
        int64_t first = other && i == 0 ? 1 : 0, n = 4;
        if (other && i == 1) n = 8;
        if (other && i == 2) n = 0; /* not even legal */
        if (other && i == 3) x[15] = 7;
        if (other && i == 4) targets[15] = 7;
        par_status st = i < 3 ? par_trainer_evaluate(t, &source, first, n, &loss)
                              : par_trainer_forward(t, x, targets, no_stash, NULL);
        if (i < HARNESS_COUNT(words))
            CHECK(st == PAR_ERR_OPTION && strstr(par_error(), "rank 2: ") &&
                      strstr(par_error(), words[i]),
                  "%s: %d, \"%s\"", words[i], (int)st, par_error());
        else
            CHECK_OK(st);
        CHECK_OK(par_trainer_evaluate(t, &source, 0, 4, &loss));
    }
    par_trainer_destroy(&t);
    par_transformer_destroy(&model);
}

static const harness_case cases[] = {
    {"micro-batch", NULL, 1, run_micro_batch, 0},
    {"layout", NULL, 1, run_layout, 0},
    {"interleaved", NULL, 1, run_interleaved, 0},
    {"all-at-once", NULL, 1, run_all_at_once, 0},
    {"null", NULL, 1, run_null, 0},
    {"defaults", NULL, 1, run_defaults, 0},
    {"defaults-train", NULL, 1, run_defaults_train, 0},
    {"heads", NULL, 1, run_heads, 0},
    {"unequal", NULL, 4, run_unequal, 0},
    {"unequal-calls", NULL, 4, run_unequal_calls, 0},
    {"source-fails-on-one-rank", NULL, 4, run_source, 0},
    {"nan-on-one-rank", NULL, 4, run_nonfinite, 0},
};

int main(int argc, char **argv) {
    return harness_main_mpi("bad-input", cases, HARNESS_COUNT(cases), argc, argv);
}
