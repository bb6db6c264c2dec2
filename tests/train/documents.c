/*
 * Documents apart: a training on samples of several documents is one on samples of one document
 * each, in every layout; and attention across them is another. Rotary embedding, as distances
 * within a document do not change when it stands elsewhere; learned positions would.
 */
#include <string.h>

#include "../harness.h"
#include "check.h"

enum { T = 16, VOCAB = 131, END = 7, FILL = 3, DOCUMENTS = 4, BATCH = 4, STEPS = 3 };

/* In a sample. The last one goes on behind it, and one is its end alone. */
static const int lengths[DOCUMENTS] = {5, 1, 6, 4};

static int begin_of(int document) {
    int begin = 0;
    for (int d = 0; d < document; d++) begin += lengths[d];
    return begin;
}

/* Token t of a sample; of t = T its last target. */
static int32_t token(int64_t sample, int t) {
    for (int d = 1; d < DOCUMENTS; d++)
        if (t == begin_of(d) - 1) return END;
    float u = (harness_noise((uint64_t)sample, (uint64_t)t) + 1) / 2;
    return END + 1 + (int32_t)(u * (VOCAB - END - 2));
}

static par_status read_packed(void *user, int64_t first, int64_t n, void *x, void *targets) {
    for (int64_t i = 0; i < n; i++)
        for (int t = 0; t < T; t++) {
            ((int32_t *)x)[i * T + t] = token(first + i, t);
            ((int32_t *)targets)[i * T + t] = token(first + i, t + 1);
        }
    return PAR_OK;
}

/* Sample number DOCUMENTS · s + d is document d of sample s, and nothing that counts behind it. */
static par_status read_alone(void *user, int64_t first, int64_t n, void *x, void *targets) {
    for (int64_t i = 0; i < n; i++) {
        int d = (int)((first + i) % DOCUMENTS), begin = begin_of(d);
        int64_t sample = (first + i) / DOCUMENTS;
        for (int t = 0; t < T; t++) {
            bool in = t < lengths[d];
            ((int32_t *)x)[i * T + t] = in ? token(sample, begin + t) : FILL;
            ((int32_t *)targets)[i * T + t] = in ? token(sample, begin + t + 1) : -1;
        }
    }
    return PAR_OK;
}

/* Losses of some steps and of a validation behind them. */
static void train(par_transport *transport, par_trainer_params *params, const par_source *source,
                  int64_t n_validated, double losses[STEPS + 1]) {
    par_trainer *trainer = NULL;
    CHECK_OK(par_trainer_create(transport, params, &trainer));
    for (int i = 0; trainer && i < STEPS; i++) {
        par_vote vote = {0};
        CHECK_OK(par_trainer_step(trainer, source, 1e-2f, false, &vote));
        CHECK(vote.n_targets == BATCH * T, "%lld targets", (long long)vote.n_targets);
        losses[i] = vote.loss;
    }
    if (trainer) CHECK_OK(par_trainer_evaluate(trainer, source, 0, n_validated, &losses[STEPS]));
    par_trainer_destroy(&trainer);
}

static void train_alone(const par_model *model, double losses[STEPS + 1]) {
    par_transport *self = NULL;
    const par_source source = {read_alone, NULL};
    par_trainer_params params = check_params(model, 1, 1, 1, 2, BATCH * DOCUMENTS);
    CHECK_OK(par_transport_create_self(NULL, &self));
    train(self, &params, &source, 3 * DOCUMENTS, losses);
    par_transport_destroy(&self);
}

static void run_layouts(par_transport *transport) {
    static const struct {
        int tp, pp, dp, chunks;
        par_recompute recompute;
        const char *backend;
    } layouts[] = {{1, 1, 4, 1, PAR_RECOMPUTE_NONE, "cpu"},
                   {2, 2, 1, 1, PAR_RECOMPUTE_NONE, "cpu"},
                   {2, 1, 2, 1, PAR_RECOMPUTE_SELECTIVE, "ref"},
                   {1, 4, 1, 1, PAR_RECOMPUTE_FULL, "cpu"},
                   {1, 2, 2, 2, PAR_RECOMPUTE_NONE, "cpu"}};
    const par_source source = {read_packed, NULL};
    double alone[STEPS + 1] = {0}, packed[STEPS + 1] = {0};
    par_transformer_config config;
    par_model *model = NULL;
    check_config(CHECK_LLAMA, &config);
    CHECK(config.tokens == T && config.vocab == VOCAB, "the model has other samples");
    CHECK_OK(par_transformer_create(&config, &model));
    train_alone(model, alone);
    for (int i = 0; i < HARNESS_COUNT(layouts); i++) {
        par_trainer_params params =
            check_params(model, layouts[i].tp, layouts[i].pp, layouts[i].dp, 1, BATCH);
        params.documents_apart = true;
        params.document_end = END;
        params.backend = layouts[i].backend;
        params.recompute = layouts[i].recompute;
        params.chunks = layouts[i].chunks;
        if (params.chunks > 1) params.schedule = PAR_SCHEDULE_INTERLEAVED;
        train(transport, &params, &source, 3, packed);
        for (int k = 0; k <= STEPS; k++)
            CHECK(check_relative(packed[k], alone[k]) <= 1e-5,
                  "tp %d pp %d dp %d: loss %d is %.9g, of documents alone %.9g", layouts[i].tp,
                  layouts[i].pp, layouts[i].dp, k, packed[k], alone[k]);
    }
    par_trainer_params across = check_params(model, 2, 2, 1, 1, BATCH);
    train(transport, &across, &source, 3, packed);
    CHECK(check_relative(packed[0], alone[0]) > 1e-4, "attention across documents is no other");
    par_transformer_destroy(&model);
}

static void run_refused(par_transport *transport) {
    par_transformer_config config;
    par_model *model = NULL;
    par_problems problems = {0};
    check_config(CHECK_LLAMA, &config);
    CHECK_OK(par_transformer_create(&config, &model));
    par_model other = *model;
    par_trainer_params params = check_params(model, 1, 1, 1, 1, BATCH);
    params.documents_apart = true;
    params.document_end = VOCAB;
    par_trainer_check(&params, 1, &problems);
    CHECK(strstr(problems.text, "document end 131: legal are 0 to 130"), "%s", problems.text);
    other.n_ids = 0;
    params.model = &other;
    par_trainer_check(&params, 1, &problems);
    CHECK(strstr(problems.text, "this model's input is not ids"), "%s", problems.text);
    par_transformer_destroy(&model);
}

static const harness_case cases[] = {
    {"documents-apart-are-samples", NULL, 4, run_layouts, 0},
    {"what-has-no-documents-is-refused", NULL, 1, run_refused, 0},
};

int main(int argc, char **argv) {
    return harness_main_mpi("documents", cases, HARNESS_COUNT(cases), argc, argv);
}
