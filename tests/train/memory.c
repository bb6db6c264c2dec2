/*
 * Plan equals run: the ledgers that par_trainer_plan and par_generator_plan compute for a rank
 * are those that trainer and generator have; and after create, libpar allocates nothing, in
 * steps, evaluation, forward and generation. MPI's and oneDNN's own allocations are counted
 * apart and bounded.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness.h"
#include "allocations.h"
#include "check.h"
#include "par/mpi.h"

typedef struct {
    bool llama;
    int tp, pp, dp, chunks, zero;
    par_recompute recompute;
    int64_t micro_batch;
    par_dtype dtype;
} memory_setting;

static const memory_setting settings[] = {
    {false, 2, 2, 2, 1, 0, PAR_RECOMPUTE_NONE, 2, PAR_F32},
    {true, 2, 2, 2, 2, 1, PAR_RECOMPUTE_SELECTIVE, 1, PAR_F32},
    {true, 8, 1, 1, 1, 0, PAR_RECOMPUTE_FULL, 4, PAR_F32},
    {false, 1, 8, 1, 1, 0, PAR_RECOMPUTE_NONE, 1, PAR_F32},
    {false, 1, 1, 8, 1, 1, PAR_RECOMPUTE_SELECTIVE, 1, PAR_F32},
    {true, 4, 2, 1, 1, 0, PAR_RECOMPUTE_FULL, 2, PAR_F32},
    {false, 2, 2, 2, 1, 1, PAR_RECOMPUTE_NONE, 1, PAR_BF16},
    {true, 2, 2, 2, 1, 0, PAR_RECOMPUTE_SELECTIVE, 2, PAR_F16},
};
enum { SETTINGS = sizeof settings / sizeof *settings };

static par_trainer_params params_of(const memory_setting *s, const par_model *model) {
    par_trainer_params params = check_params(model, s->tp, s->pp, s->dp, s->micro_batch, 8);
    params.chunks = s->chunks;
    if (s->chunks > 1) params.schedule = PAR_SCHEDULE_INTERLEAVED;
    params.zero = s->zero;
    params.recompute = s->recompute;
    params.dtype = s->dtype;
    return params;
}

static void compare_ledgers(const char *what, const par_memory *plan, const par_memory *run) {
    const par_ledger_line *a, *b;
    int n = par_memory_ledger(plan, &a), m = par_memory_ledger(run, &b);
    CHECK(n == m && n > 0, "%s: %d lines planned, %d taken", what, n, m);
    for (int i = 0; i < n && i < m; i++) {
        CHECK(a[i].kind == b[i].kind && strcmp(a[i].what, b[i].what) == 0,
              "%s: line %d is \"%s\" planned, \"%s\" taken", what, i, a[i].what, b[i].what);
        CHECK(a[i].nbytes == b[i].nbytes, "%s: %s: %zu bytes planned, %zu taken", what, a[i].what,
              a[i].nbytes, b[i].nbytes);
    }
}

/* What was told of the ledger: details never exceed their line, those of parameters are the
 * parameters, and what nobody told of is padding, or a line that nobody tells of. */
static void check_parts(const char *what, const par_trainer *trainer, par_dtype dtype) {
    const par_ledger_line *lines;
    const par_ledger_detail *details;
    const par_memory *memory = par_trainer_memory(trainer);
    int n = par_memory_ledger(memory, &lines), n_details = par_memory_details(memory, &details);
    int told_lines = 0;
    size_t params = 0;
    for (int i = 0; i < par_trainer_n_params(trainer); i++) {
        const par_param *p = par_trainer_param(trainer, i);
        params += (size_t)(p->local[0] * p->local[1]);
    }
    for (int i = 0; i < n; i++) {
        size_t told = 0, pieces = 0;
        for (int k = 0; k < n_details; k++)
            if (details[k].kind == lines[i].kind && strcmp(details[k].what, lines[i].what) == 0)
                told += details[k].nbytes, pieces++;
        CHECK(lines[i].planned == lines[i].nbytes, "%s: %s: %zu bytes planned, %zu taken", what,
              lines[i].what, lines[i].planned, lines[i].nbytes);
        CHECK(told <= lines[i].nbytes, "%s: %s: %zu bytes told of %zu", what, lines[i].what, told,
              lines[i].nbytes);
        if (pieces == 0) continue;
        told_lines++;
        if (strcmp(lines[i].what, "weights") == 0)
            CHECK(told == params * par_dtype_nbytes(dtype), "%s: weights of %zu bytes", what, told);
        if (strcmp(lines[i].what, "gradients") == 0)
            CHECK(told == params * sizeof(float), "%s: gradients of %zu bytes", what, told);
        /* slots: every take is rounded up to 256, and details of a stash to 256 within it */
        size_t slack = strcmp(lines[i].what, "slots") == 0 ? 16 * pieces * 256 : lines[i].nbytes;
        CHECK(lines[i].nbytes - told <= slack, "%s: %s: %zu of %zu bytes are of nobody", what,
              lines[i].what, lines[i].nbytes - told, lines[i].nbytes);
    }
    CHECK(told_lines >= 5, "%s: %d lines have parts", what, told_lines);
}

/* The generator's plan is what the generator takes, on each rank of each setting. */
static void check_generator(const char *what, par_transport *transport, par_trainer *trainer,
                            const par_trainer_params *params,
                            const par_transformer_config *config) {
    const par_generator_params wanted = {.sequences = 2,
                                         .capacity = config->tokens,
                                         .prompt = config->tokens - 1,
                                         .vocab = config->vocab,
                                         .int8 = params->dtype == PAR_BF16};
    par_generator *generator = NULL;
    par_memory *plan = NULL;
    CHECK_OK(par_generator_plan(params, NULL, par_transport_size(transport),
                                par_transport_rank(transport), &wanted, &plan));
    CHECK_OK(par_generator_create(trainer, &wanted, &generator));
    if (plan && generator) compare_ledgers(what, plan, par_generator_memory(generator));
    par_generator_destroy(&generator);
    par_memory_destroy(&plan);
}

static void run_ledger(par_transport *transport) {
    for (int i = 0; i < SETTINGS; i++) {
        par_transformer_config config;
        par_model *model = NULL;
        par_trainer *trainer = NULL;
        par_memory *plan = NULL;
        char what[64];
        check_config(settings[i].llama, &config);
        CHECK_OK(par_transformer_create(&config, &model));
        par_trainer_params params = params_of(&settings[i], model);
        params.save_memory = i % 2 ? SIZE_MAX : 1; /* none of them fits into a byte */
        CHECK_OK(check_fit(&config, &params));
        snprintf(what, sizeof what, "setting %d", i);
        CHECK_OK(par_trainer_plan(&params, NULL, par_transport_size(transport),
                                  par_transport_rank(transport), &plan));
        CHECK_OK(par_trainer_create(transport, &params, &trainer));
        if (plan && trainer) compare_ledgers(what, plan, par_trainer_memory(trainer));
        if (trainer) check_parts(what, trainer, params.dtype);
        snprintf(what, sizeof what, "generator of setting %d", i);
        if (trainer) check_generator(what, transport, trainer, &params, &config);
        size_t nbytes;
        if (trainer)
            CHECK(par_trainer_saves_behind(trainer, &nbytes) == (i % 2 == 1) && nbytes > 1,
                  "%s: a copy for checkpoints of %zu bytes", what, nbytes);
        par_trainer_destroy(&trainer);
        par_memory_destroy(&plan);
        par_transformer_destroy(&model);
    }
}

/* Staging follows the transport: with its parameters the plan is the run's, and another one
 * without them. */
static void run_chunks(par_transport *transport) {
    const par_transport_params small = {.piece_nbytes = 8192};
    MPI_Comm comm = check_comm(transport);
    par_transformer_config config;
    par_model *model = NULL;
    par_transport *own = NULL;
    par_trainer *trainer = NULL;
    par_memory *plan = NULL, *other = NULL;
    int size = par_transport_size(transport), rank = par_transport_rank(transport);
    check_config(false, &config);
    CHECK_OK(par_transformer_create(&config, &model));
    par_trainer_params params = params_of(&settings[0], model);
    CHECK_OK(check_fit(&config, &params));
    CHECK_OK(par_transport_create_mpi(comm, &small, &own));
    CHECK_OK(par_trainer_plan(&params, &small, size, rank, &plan));
    CHECK_OK(par_trainer_plan(&params, NULL, size, rank, &other));
    CHECK_OK(par_trainer_create(own, &params, &trainer));
    if (trainer) compare_ledgers("chunks of 8 KiB", plan, par_trainer_memory(trainer));
    CHECK(par_memory_nbytes(plan, PAR_MEM_COMM) < par_memory_nbytes(other, PAR_MEM_COMM),
          "staging does not depend on the transport");
    par_trainer_destroy(&trainer);
    par_transport_destroy(&own);
    par_memory_destroy(&plan);
    par_memory_destroy(&other);
    par_transformer_destroy(&model);
    MPI_Comm_free(&comm);
}

static par_status ignore_logits(void *user, const par_module *last, const void *stash) {
    return PAR_OK;
}

/* What a training program does between create and destroy. */
static par_status use(par_trainer *trainer, par_generator *generator, const par_source *source,
                      const int32_t *x, int steps) {
    const par_generation text = {
        .prompt = x, .n_prompt = 2, .n_new = 4, .temperature = 1, .top_k = 20};
    double loss;
    for (int i = 0; i < steps; i++) {
        par_vote vote;
        PAR_TRY(par_trainer_step(trainer, source, 1e-3f, false, &vote));
    }
    PAR_TRY(par_trainer_evaluate(trainer, source, 0, 16, &loss));
    PAR_TRY(par_trainer_forward(trainer, x, x, ignore_logits, NULL));
    return par_generator_run(generator, &text, NULL);
}

/*
 * oneDNN sets itself up in the first product, through libc too; so the first step is held to
 * libpar's zero alone, the others to all. Open MPI grows its lists of requests and fragments by
 * pieces, 160 KiB was seen; a leak of every message would pass 4 MiB here. oneDNN's sgemm takes
 * packing buffers per call, for which there is no bound but that they are returned: after the steps
 * no more of the heap is in use than before, up to MPI's lists.
 */
static void check_counts(const char *what, const allocations_count *c, bool first) {
    const int64_t bound = 4 << 20;
    Dl_info info = {0};
    if (c->first_libpar) dladdr(c->first_libpar, &info);
    CHECK(c->n[BY_LIBPAR] == 0,
          "%s: libpar allocated %lld times (%lld bytes) after create, first near %s", what,
          (long long)c->n[BY_LIBPAR], (long long)c->nbytes[BY_LIBPAR],
          info.dli_sname ? info.dli_sname : "a static function");
    if (first) return;
    CHECK(c->n[BY_LIBC] == 0, "%s: libc allocated %lld times (%lld bytes) for a caller", what,
          (long long)c->n[BY_LIBC], (long long)c->nbytes[BY_LIBC]);
    CHECK(c->nbytes[BY_MPI] <= bound, "%s: MPI allocated %lld bytes", what,
          (long long)c->nbytes[BY_MPI]);
    CHECK(c->kept <= bound, "%s: the heap has %lld bytes more in use", what, (long long)c->kept);
}

static void count_use(const char *what, par_trainer *trainer, const par_source *source,
                      const int32_t *x, int rank) {
    const par_generator_params params = {.sequences = 2, .capacity = 8, .vocab = 131};
    allocations_count count;
    par_generator *generator = NULL;
    CHECK_OK(par_generator_create(trainer, &params, &generator));
    for (int steps = 1; steps <= 8; steps += 7) {
        allocations_begin();
        par_status st = use(trainer, generator, source, x, steps);
        allocations_end(&count);
        CHECK_OK(st);
        check_counts(what, &count, steps == 1);
    }
    par_generator_destroy(&generator);
    if (rank != 0) return;
    printf("# memory: %s, 8 steps:", what);
    for (int i = 0; i < ALLOCATIONS_OWNERS; i++)
        printf(" %s %lld times %lld bytes%s", allocations_owner_name((allocations_owner)i),
               (long long)count.n[i], (long long)count.nbytes[i],
               i < ALLOCATIONS_OWNERS - 1 ? "," : "");
    printf("; kept %lld bytes\n", (long long)count.kept);
}

static void count_setting(par_transport *transport, const memory_setting *s, const char *what) {
    par_transformer_config config;
    par_model *model = NULL;
    par_trainer *trainer = NULL;
    check_config(s->llama, &config);
    const check_data data = {.vocab = config.vocab, .T = config.tokens};
    par_source source = check_source(&data);
    int32_t *x = calloc((size_t)(s->micro_batch * config.tokens), sizeof *x);
    CHECK_OK(par_transformer_create(&config, &model));
    par_trainer_params params = params_of(s, model);
    CHECK_OK(check_fit(&config, &params));
    CHECK_OK(par_trainer_create(transport, &params, &trainer));
    if (trainer) count_use(what, trainer, &source, x, par_transport_rank(transport));
    par_trainer_destroy(&trainer);
    par_transformer_destroy(&model);
    free(x);
}

static void run_allocations(par_transport *transport) {
    if (!allocations_can_count()) {
        harness_skip("a sanitizer has replaced malloc");
        return;
    }
    for (int i = 0; i < SETTINGS; i++) {
        char what[64];
        snprintf(what, sizeof what, "setting %d", i);
        count_setting(transport, &settings[i], what);
    }
}

/*
 * Bytes that one layer keeps of a micro-batch of N = B · T tokens until its backward, fp32 and MLP
 * 4 C (Korthikanti et al. 2022, section 4, with 4 bytes per element; no dropout masks, their bits
 * are computed again; no scores, attention is tiled). Own rows are N / t with sequence parallel,
 * else N. input, norm output, second input, norm output: 4 C own rows of 4 bytes;   selective:
 * without the norm outputs q, k, v, attention output: 4 C N / t;   before and after GELU: 8 C N /
 * t; selective: without the one after log-sum-exp: H N / t;   mean and 1 / deviation of two norms:
 * 4 own rows
 */
static int64_t layer_nbytes(const par_trainer_params *params, const par_transformer_config *c) {
    int64_t t = params->layout.size[PAR_TP], N = params->micro_batch * c->tokens;
    int64_t own = params->no_sequence_parallel ? N : N / t;
    bool selective = params->recompute == PAR_RECOMPUTE_SELECTIVE;
    return 4 * ((selective ? 2 : 4) * c->channels * own +
                (selective ? 8 : 12) * c->channels * N / t + c->heads * N / t + 4 * own);
}

/* Activations in the plan of a rank, with so many layers per stage. */
static int64_t planned(par_trainer_params *params, par_transformer_config *config, int rank,
                       int layers) {
    int p = params->layout.size[PAR_PP], details[8], world = p * params->layout.size[PAR_TP];
    par_model *model = NULL;
    par_memory *plan = NULL;
    config->layers = (int64_t)layers * p;
    for (int i = 0; i < p; i++)
        details[i] = layers + (i == 0) + (i == p - 1); /* embedding and head */
    CHECK_OK(par_transformer_create(config, &model));
    params->model = model;
    params->modules_per_part = details;
    CHECK_OK(par_trainer_plan(params, NULL, world, rank, &plan));
    int64_t nbytes = plan ? (int64_t)par_memory_nbytes(plan, PAR_MEM_ACTIVATIONS) : 0;
    par_memory_destroy(&plan);
    par_transformer_destroy(&model);
    return nbytes;
}

/* What two more layers add to a stage that holds `slots` micro-batches. */
static void compare_layer(int t, int p, int stage, bool sequence_parallel, par_recompute recompute,
                          int slots) {
    par_transformer_config config = {.name = "gpt",
                                     .vocab = 1024,
                                     .tokens = 256,
                                     .positions = 256,
                                     .channels = 256,
                                     .heads = 8,
                                     .kv_heads = 8,
                                     .head_size = 32,
                                     .mlp = 1024,
                                     .norm_eps = 1e-5f,
                                     .bias = true,
                                     .tied = true};
    par_trainer_params params = check_params(NULL, t, p, 1, 4, 4 * 16);
    params.no_sequence_parallel = !sequence_parallel;
    params.recompute = recompute;
    int64_t two = planned(&params, &config, stage * t, 2),
            four = planned(&params, &config, stage * t, 4);
    int64_t closed =
        recompute == PAR_RECOMPUTE_FULL ? 0 : 2 * slots * layer_nbytes(&params, &config);
    if (recompute == PAR_RECOMPUTE_FULL) {
        params.recompute = PAR_RECOMPUTE_NONE; /* one shared area holds what a slot would */
        closed = 2 * layer_nbytes(&params, &config);
    }
    CHECK(four - two == closed,
          "tp %d pp %d stage %d recompute %d: two layers take %lld bytes, the formula has %lld", t,
          p, stage, recompute, (long long)(four - two), (long long)closed);
}

static void run_activations(par_transport *transport) {
    for (int recompute = PAR_RECOMPUTE_NONE; recompute <= PAR_RECOMPUTE_FULL; recompute++) {
        compare_layer(1, 1, 0, false, (par_recompute)recompute, 1);
        compare_layer(4, 1, 0, false, (par_recompute)recompute, 1);
        compare_layer(4, 1, 0, true, (par_recompute)recompute, 1);
        /* 1F1B: stage s holds p - s micro-batches, and receives the next one ahead of time */
        for (int stage = 0; stage < 4; stage++)
            compare_layer(2, 4, stage, true, (par_recompute)recompute, 4 - stage + (stage > 0));
    }
}

static const harness_case cases[] = {
    {"activations-equal-the-formula", NULL, 1, run_activations, 0},
    {"plan-equals-run", NULL, 8, run_ledger, 0},
    {"plan-equals-run-with-other-chunks", NULL, 8, run_chunks, 0},
    {"nothing-allocated-after-create", NULL, 8, run_allocations, 240},
};

int main(int argc, char **argv) {
    return harness_main_mpi("memory", cases, HARNESS_COUNT(cases), argc, argv);
}
