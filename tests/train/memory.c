/*
 * Plan equals run: the ledger that par_trainer_plan computes for a rank is the one that the trainer has; and
 * after create, libpar allocates nothing, in steps, evaluation and forward. MPI's and oneDNN's own
 * allocations are counted apart and bounded.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness.h"
#include "allocations.h"
#include "check.h"

typedef struct {
    bool llama;
    int tp, pp, dp, chunks, zero;
    par_recompute recompute;
    int64_t micro_batch;
} memory_setting;

static const memory_setting settings[] = {
    {false, 2, 2, 2, 1, 0, PAR_RECOMPUTE_NONE, 2},      {true, 2, 2, 2, 2, 1, PAR_RECOMPUTE_SELECTIVE, 1},
    {true, 8, 1, 1, 1, 0, PAR_RECOMPUTE_FULL, 4},       {false, 1, 8, 1, 1, 0, PAR_RECOMPUTE_NONE, 1},
    {false, 1, 1, 8, 1, 1, PAR_RECOMPUTE_SELECTIVE, 1}, {true, 4, 2, 1, 1, 0, PAR_RECOMPUTE_FULL, 2},
};
enum { SETTINGS = sizeof settings / sizeof *settings };

static par_trainer_params params_of(const memory_setting *s, const par_model *model) {
    par_trainer_params params = check_params(model, s->tp, s->pp, s->dp, s->micro_batch, 8);
    params.chunks = s->chunks;
    if (s->chunks > 1) params.schedule = PAR_SCHEDULE_INTERLEAVED;
    params.zero = s->zero;
    params.recompute = s->recompute;
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
        CHECK_OK(check_fit(&config, &params));
        snprintf(what, sizeof what, "setting %d", i);
        CHECK_OK(
            par_trainer_plan(&params, par_transport_size(transport), par_transport_rank(transport), &plan));
        CHECK_OK(par_trainer_create(transport, &params, &trainer));
        if (plan && trainer) compare_ledgers(what, plan, par_trainer_memory(trainer));
        par_trainer_destroy(&trainer);
        par_memory_destroy(&plan);
        par_transformer_destroy(&model);
    }
}

static par_status ignore_logits(void *user, const par_module *last, const void *stash) {
    (void)user;
    (void)last;
    (void)stash;
    return PAR_OK;
}

/* What a training program does between create and destroy. */
static par_status use(par_trainer *trainer, const par_source *source, const int32_t *x, int steps) {
    double loss;
    for (int i = 0; i < steps; i++) {
        par_vote vote;
        PAR_TRY(par_trainer_step(trainer, source, 1e-3f, false, &vote));
    }
    PAR_TRY(par_trainer_evaluate(trainer, source, 0, 16, &loss));
    return par_trainer_forward(trainer, x, x, ignore_logits, NULL);
}

/*
 * Bounds for the libraries, in bytes a step and rank over 8 steps after a first one: Open MPI grows its
 * request and fragment lists by pieces of 64 requests, oneDNN's sgemm takes packing buffers a call. Both are
 * freed or kept for the next step; a leak of every message would pass 16 MiB here.
 */
static void check_counts(const char *what, const allocations_count *c) {
    const int64_t bound = 16 << 20;
    Dl_info info = {0};
    if (c->first_libpar) dladdr(c->first_libpar, &info);
    CHECK(c->n[BY_LIBPAR] == 0, "%s: libpar allocated %lld times (%lld bytes) after create, first near %s",
          what, (long long)c->n[BY_LIBPAR], (long long)c->nbytes[BY_LIBPAR],
          info.dli_sname ? info.dli_sname : "a static function");
    CHECK(c->n[BY_LIBC] == 0, "%s: libc allocated %lld times (%lld bytes) for a caller", what,
          (long long)c->n[BY_LIBC], (long long)c->nbytes[BY_LIBC]);
    CHECK(c->nbytes[BY_MPI] <= bound, "%s: MPI allocated %lld bytes", what, (long long)c->nbytes[BY_MPI]);
}

static void count_setting(par_transport *transport, const memory_setting *s, const char *what) {
    par_transformer_config config;
    par_model *model = NULL;
    par_trainer *trainer = NULL;
    allocations_count count;
    check_config(s->llama, &config);
    const check_data data = {.vocab = config.vocab, .T = config.tokens};
    par_source source = check_source(&data);
    int32_t *x = calloc((size_t)(s->micro_batch * config.tokens), sizeof *x);
    CHECK_OK(par_transformer_create(&config, &model));
    par_trainer_params params = params_of(s, model);
    CHECK_OK(check_fit(&config, &params));
    CHECK_OK(par_trainer_create(transport, &params, &trainer));
    allocations_begin();
    par_status st = trainer ? use(trainer, &source, x, 8) : PAR_OK;
    allocations_end(&count);
    CHECK_OK(st);
    check_counts(what, &count);
    if (par_transport_rank(transport) == 0)
        for (int i = 0; i < ALLOCATIONS_OWNERS; i++)
            printf("# memory: %s, 8 steps: %s allocated %lld times, %lld bytes\n", what,
                   allocations_owner_name((allocations_owner)i), (long long)count.n[i],
                   (long long)count.nbytes[i]);
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

static const harness_case cases[] = {
    {"plan-equals-run", NULL, 8, run_ledger, 120},
    {"nothing-allocated-after-create", NULL, 8, run_allocations, 240},
};

int main(int argc, char **argv) {
    return harness_main_mpi("memory", cases, HARNESS_COUNT(cases), argc, argv);
}
