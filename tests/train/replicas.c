/*
 * One bit that is flipped in one rank's weights or moments is found at the next check, and the rank
 * and the parameter are named: by the majority of copies where there is one; of two copies both
 * ranks are named. Nothing is found where nothing was flipped, in layouts with every kind of
 * replica.
 */
#include <stdio.h>
#include <string.h>

#include "../harness.h"
#include "check.h"
#include "par/replicas.h"

typedef struct {
    const char *name;
    int tp, pp, dp, zero;
    par_dtype dtype;
    bool llama;
    int culprit;       /* world rank whose bit is flipped */
    const char *param; /* which of its parameters */
    bool majority;
    int n_ranks; /* to be named */
} setting;

/* Ranks: tp fastest, then dp, then pp. */
static const setting settings[] = {
    {"dp 4", 1, 1, 4, 0, PAR_F32, false, 2, "layers.1.mlp.up.weight", true, 1},
    {"dp 4, ZeRO-1, bf16", 1, 1, 4, 1, PAR_BF16, true, 3, "layers.0.attention.q.weight", true, 1},
    {"dp 2", 1, 2, 2, 0, PAR_F32, false, 1, "layers.0.mlp.down.weight", false, 2},
    {"dp 2, bf16", 1, 2, 2, 0, PAR_BF16, false, 3, "final.norm.weight", false, 2},
    {"tp 4", 4, 1, 1, 0, PAR_F32, false, 3, "layers.1.mlp.norm.weight", true, 1},
    {"tp 2, dp 2", 2, 1, 2, 0, PAR_F32, false, 2, "final.norm.weight", true, 1},
};

static par_param *find(par_trainer *trainer, const char *name) {
    for (int i = 0; i < par_trainer_n_params(trainer); i++)
        if (strcmp(par_trainer_param(trainer, i)->name, name) == 0)
            return par_trainer_param(trainer, i);
    return NULL;
}

static void flip(par_trainer *trainer, const char *name) {
    par_param *p = find(trainer, name);
    CHECK(p, "no parameter %s on this rank", name);
    if (p) ((unsigned char *)p->weight)[par_dtype_nbytes(p->dtype) * 5] ^= 1;
}

static void expect_equal(const char *what, par_replicas *replicas) {
    par_replicas_result found;
    CHECK_OK(par_replicas_check(replicas, &found));
    CHECK(found.n_copies > 0 && found.n_differ == 0 && found.n_ranks == 0,
          "%s: %lld of %lld copies differ, of rank %d, %s", what, (long long)found.n_differ,
          (long long)found.n_copies, found.ranks[0], found.param);
}

static void expect_found(const setting *s, par_replicas *replicas) {
    par_replicas_result found;
    bool named = false;
    CHECK_OK(par_replicas_check(replicas, &found));
    for (int i = 0; i < found.n_ranks; i++) named = named || found.ranks[i] == s->culprit;
    CHECK(named && found.n_ranks == s->n_ranks && found.majority == s->majority,
          "%s: %d ranks, the first is %d, majority %d", s->name, found.n_ranks, found.ranks[0],
          found.majority);
    CHECK(strcmp(found.param, s->param) == 0, "%s: parameter %s", s->name, found.param);
    CHECK(found.n_differ == s->n_ranks, "%s: %lld copies differ", s->name,
          (long long)found.n_differ);
}

static void run(par_transport *transport) {
    for (int i = 0; i < HARNESS_COUNT(settings); i++) {
        const setting *s = &settings[i];
        par_transformer_config config;
        par_model *model = NULL;
        par_trainer *trainer = NULL;
        par_replicas *replicas = NULL;
        par_vote vote;
        check_config(s->llama, &config);
        const check_data data = {.vocab = config.vocab, .T = config.tokens};
        par_source source = check_source(&data);
        CHECK_OK(par_transformer_create(&config, &model));
        par_trainer_params params = check_params(model, s->tp, s->pp, s->dp, 1, 8);
        params.zero = s->zero;
        params.dtype = s->dtype;
        CHECK_OK(check_fit(&config, &params));
        CHECK_OK(par_trainer_create(transport, &params, &trainer));
        CHECK_OK(par_replicas_create(trainer, &replicas));
        if (harness_failed()) return;
        for (int step = 0; step < 2; step++)
            CHECK_OK(par_trainer_step(trainer, &source, 1e-3f, false, &vote));
        expect_equal(s->name, replicas);
        bool mine = par_transport_rank(transport) == s->culprit;
        if (mine) flip(trainer, s->param);
        expect_found(s, replicas);
        if (mine) flip(trainer, s->param);
        expect_equal(s->name, replicas);
        CHECK_OK(par_trainer_step_begin(trainer, &source, 1e-3f, false));
        par_replicas_result found;
        CHECK_FAILS(par_replicas_check(replicas, &found), PAR_ERR_ARG, "step");
        CHECK_OK(par_trainer_step_end(trainer, &vote));
        par_replicas_destroy(&replicas);
        par_trainer_destroy(&trainer);
        par_transformer_destroy(&model);
    }
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {{"flipped-bits", NULL, 4, run, 0}};
    return harness_main_mpi("replicas", cases, HARNESS_COUNT(cases), argc, argv);
}
