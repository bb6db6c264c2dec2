/*
 * Initial weights: a function of seed, name and global index, and 0 in padding, whatever number of
 * threads draws them and wherever a rank's share begins. The bits of par_random_normal itself are
 * known answers of tests/kernels/random.c.
 */
#include <string.h>

#include "../harness.h"
#include "check.h"
#include "par/generate.h"
#include "par/random.h"
#include "par/threads.h"

static float expected(uint64_t seed, const par_param *p, int64_t i, int64_t j) {
    if (i >= p->extent[0] || j >= p->extent[1]) return 0;
    if (p->init == PAR_INIT_CONSTANT) return (float)p->init_value;
    int64_t index = (p->offset[0] + i) * p->global[1] + p->offset[1] + j;
    return (float)(p->init_value *
                   par_random_normal(seed, par_hash_name(p->name), (uint64_t)index));
}

static int64_t compare(uint64_t seed, const par_param *p) {
    const float *weight = p->weight;
    int64_t n_padding = 0;
    for (int64_t i = 0; i < p->local[0]; i++)
        for (int64_t j = 0; j < p->local[1]; j++) {
            float w = weight[i * p->local[1] + j], e = expected(seed, p, i, j);
            CHECK(w == e, "%s[%lld, %lld] is %a, not %a, with %d threads", p->name, (long long)i,
                  (long long)j, (double)w, (double)e, par_threads());
            n_padding += i >= p->extent[0] || j >= p->extent[1];
        }
    return n_padding;
}

static void run_threads(par_transport *transport) {
    static const int threads[] = {1, 2, 3, 7};
    int rank = par_transport_rank(transport);
    par_transformer_config config;
    par_model *model = NULL;
    check_config(true, &config);
    config.init_std = 0.15;
    CHECK_OK(par_transformer_create(&config, &model));
    par_trainer_params params = check_params(model, par_transport_size(transport), 1, 1, 1, 1);
    params.seed = 77;
    CHECK_OK(check_fit(&config, &params));
    for (int i = 0; i < HARNESS_COUNT(threads); i++) {
        par_trainer *trainer = NULL;
        int64_t n_padding = 0;
        CHECK_OK(par_threads_set(threads[i]));
        CHECK_OK(par_trainer_create(transport, &params, &trainer));
        for (int k = 0; trainer && k < par_trainer_n_params(trainer); k++)
            n_padding += compare(params.seed, par_trainer_param(trainer, k));
        if (par_transport_size(transport) > 1 && rank == par_transport_size(transport) - 1)
            CHECK(n_padding > 0, "there is no padding to compare");
        par_trainer_destroy(&trainer);
    }
    CHECK_OK(par_threads_set(0));
    par_transformer_destroy(&model);
}

static par_status fail(void *user, const par_param *p, float *dst) {
    return par_error_set(PAR_ERR_FORMAT, "no %s", p->name);
}

static par_status noise(void *user, const par_param *p, float *dst) {
    for (int64_t i = 0; i < p->local[0]; i++)
        for (int64_t j = 0; j < p->local[1]; j++)
            dst[i * p->local[1] + j] =
                i < p->extent[0] && j < p->extent[1]
                    ? 0.2f * harness_noise(par_hash_name(p->name),
                                           (uint64_t)((p->offset[0] + i) * 999 + p->offset[1] + j))
                    : 0;
    return PAR_OK;
}

static par_status see(void *user, const par_param *p, int64_t first, int64_t n, const float *x) {
    return PAR_OK;
}

static par_status look(void *user, const par_module *last, const void *stash) {
    return PAR_OK;
}

/* What reads weights, or with `inference` also what it has no memory for, is refused with
 * `text`. */
static void check_refused(par_trainer *t, const par_transformer_config *config, const char *text) {
    const check_data data = {.vocab = config->vocab, .T = config->tokens};
    const par_source source = check_source(&data);
    static int32_t x[256];
    double loss;
    par_vote vote;
    CHECK_FAILS(par_trainer_step(t, &source, 0.1f, false, &vote), PAR_ERR_ARG, text);
    CHECK_FAILS(par_trainer_evaluate(t, &source, 0, 4, &loss), PAR_ERR_ARG, text);
    CHECK_FAILS(par_trainer_forward(t, x, x, look, NULL), PAR_ERR_ARG, text);
    CHECK_FAILS(par_trainer_visit(t, PAR_STATE_M, see, NULL), PAR_ERR_ARG, text);
}

static void check_drawn(const par_trainer *t, uint64_t seed) {
    for (int k = 0; k < par_trainer_n_params(t); k++) compare(seed, par_trainer_param(t, k));
}

static void run_undrawn(par_transport *transport) {
    static const char none[] = "has no weights yet; legal after par_trainer_load";
    par_transformer_config config;
    par_model *model = NULL;
    par_trainer *t = NULL;
    check_config(CHECK_LLAMA, &config);
    CHECK_OK(par_transformer_create(&config, &model));
    par_trainer_params params = check_params(model, par_transport_size(transport), 1, 1, 1, 4);
    params.undrawn = true;
    CHECK_OK(check_fit(&config, &params));
    CHECK_OK(par_trainer_create(transport, &params, &t));
    if (!t) return;
    const float *w = par_trainer_param(t, 0)->weight;
    CHECK(w[0] == 0 && w[1] == 0, "weights that nobody drew are not zeros");
    check_refused(t, &config, none);
    CHECK_OK(par_trainer_draw(t));
    check_drawn(t, params.seed);
    const check_data data = {.vocab = config.vocab, .T = config.tokens};
    const par_source source = check_source(&data);
    par_vote vote;
    CHECK_OK(par_trainer_step(t, &source, 0.1f, false, &vote));
    CHECK_FAILS(par_trainer_load(t, fail, NULL), PAR_ERR_FORMAT, "no ");
    check_refused(t, &config, none);
    CHECK_OK(par_trainer_load(t, noise, NULL));
    CHECK_OK(par_trainer_step(t, &source, 0.1f, false, &vote));
    par_trainer_destroy(&t);
    par_transformer_destroy(&model);
}

enum { N_NEW = 6 };

/* Weights from `noise`, or drawn; a greedy text; the bytes of the weights into `bytes`. */
static size_t infer(par_transport *transport, const par_model *model,
                    const par_transformer_config *config, par_dtype dtype, bool inference,
                    bool load, int32_t ids[N_NEW], char *bytes) {
    static const int32_t prompt[] = {3, 14, 15};
    par_trainer_params params = check_params(model, par_transport_size(transport), 1, 1, 1, 4);
    par_trainer *t = NULL;
    par_generator *g = NULL;
    size_t at = 0;
    params.dtype = dtype;
    params.inference = inference;
    params.undrawn = load;
    CHECK_OK(check_fit(config, &params));
    CHECK_OK(par_trainer_create(transport, &params, &t));
    if (!t) return 0;
    if (load) CHECK_OK(par_trainer_load(t, noise, NULL));
    const par_generator_params size = {.sequences = 1, .capacity = 12, .vocab = config->vocab};
    const par_generation what = {.prompt = prompt, .n_prompt = 3, .n_new = N_NEW};
    CHECK_OK(par_generator_create(t, &size, &g));
    if (g) CHECK_OK(par_generator_run(g, &what, ids));
    for (int k = 0; k < par_trainer_n_params(t); k++) {
        const par_param *p = par_trainer_param(t, k);
        size_t n = (size_t)(p->local[0] * p->local[1]) * par_dtype_nbytes(dtype);
        memcpy(bytes + at, p->weight, n);
        at += n;
    }
    if (inference) {
        const par_memory *memory = par_trainer_memory(t);
        check_refused(t, config, "is for inference: it has weights alone");
        CHECK(par_memory_nbytes(memory, PAR_MEM_GRADIENTS) == 0 &&
                  par_memory_nbytes(memory, PAR_MEM_OPTIMIZER) == 0 &&
                  par_memory_nbytes(memory, PAR_MEM_ACTIVATIONS) == 0,
              "there is memory for a training");
    }
    par_generator_destroy(&g);
    par_trainer_destroy(&t);
    return at;
}

/* The loss of 6 samples with weights from `noise`, by a trainer that can train or one that only
 * evaluates: that one refuses the rest, and has memory for nothing else. */
static double evaluate(par_transport *transport, const par_model *model,
                       const par_transformer_config *config, int layout, par_dtype dtype,
                       bool only) {
    static int32_t x[256];
    const int p = par_transport_size(transport);
    par_trainer_params params =
        check_params(model, layout == 0 ? p : 1, layout == 1 ? p : 1, layout == 2 ? p : 1, 1, 4);
    const check_data data = {.vocab = config->vocab, .T = config->tokens};
    const par_source source = check_source(&data);
    par_trainer *t = NULL;
    par_vote vote;
    double loss = 0;
    params.dtype = dtype;
    params.zero = layout == 2;
    params.undrawn = true;
    params.inference = params.evaluates = only;
    CHECK_OK(check_fit(config, &params));
    CHECK_OK(par_trainer_create(transport, &params, &t));
    if (!t) return 0;
    CHECK_OK(par_trainer_load(t, noise, NULL));
    CHECK_OK(par_trainer_evaluate(t, &source, 0, 6, &loss));
    if (only) {
        const par_memory *memory = par_trainer_memory(t);
        CHECK_OK(par_trainer_forward(t, x, x, look, NULL));
        CHECK_FAILS(par_trainer_step(t, &source, 0.1f, false, &vote), PAR_ERR_ARG, "for inference");
        CHECK_FAILS(par_trainer_visit(t, PAR_STATE_M, see, NULL), PAR_ERR_ARG, "for inference");
        CHECK(par_memory_nbytes(memory, PAR_MEM_GRADIENTS) == 0 &&
                  par_memory_nbytes(memory, PAR_MEM_OPTIMIZER) == 0,
              "there is memory for a training");
    }
    par_trainer_destroy(&t);
    return loss;
}

/* The same loss, to the bit, over tp, pp or dp. */
static void run_evaluates(par_transport *transport) {
    par_transformer_config config;
    par_model *model = NULL;
    check_config(CHECK_GPT, &config);
    CHECK_OK(par_transformer_create(&config, &model));
    for (int k = 0; k < 9 && !harness_failed(); k++) {
        double loss[2];
        for (int i = 0; i < 2; i++)
            loss[i] = evaluate(transport, model, &config, k / 3, (par_dtype)(k % 3), i == 1);
        CHECK(loss[0] == loss[1] && loss[0] > 0, "layout %d in %s: %.17g, evaluated alone %.17g",
              k / 3, par_dtype_name((par_dtype)(k % 3)), loss[0], loss[1]);
    }
    par_transformer_destroy(&model);
}

/* The same bits of weights and the same text as with a trainer that can train. */
static void run_inference(par_transport *transport) {
    static char bytes[2][1 << 19];
    par_transformer_config config;
    par_model *model = NULL;
    check_config(CHECK_QWEN, &config);
    CHECK_OK(par_transformer_create(&config, &model));
    for (int k = 0; k < 6 && !harness_failed(); k++) {
        int32_t ids[2][N_NEW] = {{0}};
        size_t n[2];
        for (int i = 0; i < 2; i++)
            n[i] = infer(transport, model, &config, (par_dtype)(k / 2), i == 1, k % 2, ids[i],
                         bytes[i]);
        CHECK(n[0] == n[1] && memcmp(bytes[0], bytes[1], n[0]) == 0, "%s: weights differ",
              par_dtype_name((par_dtype)(k / 2)));
        CHECK(memcmp(ids[0], ids[1], sizeof ids[0]) == 0, "%s: texts differ",
              par_dtype_name((par_dtype)(k / 2)));
    }
    par_transformer_destroy(&model);
}

static const harness_case cases[] = {
    {"threads", NULL, 1, run_threads, 0},     {"threads-tp4", NULL, 4, run_threads, 0},
    {"undrawn", NULL, 1, run_undrawn, 0},     {"undrawn-tp2", NULL, 2, run_undrawn, 0},
    {"inference", NULL, 1, run_inference, 0}, {"inference-tp4", NULL, 4, run_inference, 0},
    {"evaluates", NULL, 2, run_evaluates, 0},
};

int main(int argc, char **argv) {
    return harness_main_mpi("weights", cases, HARNESS_COUNT(cases), argc, argv);
}
