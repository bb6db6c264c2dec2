/*
 * Interrupted and resumed is uninterrupted: a run saves at a random step, once at once and once in
 * the background, with the same bytes, and goes on; a new trainer resumes from the second one.
 * Every later loss and norm, and at the end every byte of weights on every rank (copies along tp
 * and dp included) and of all moments, must be the same, over layouts, ZeRO, precisions and
 * dropout.
 */
#define _GNU_SOURCE
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness.h"
#include "../train/check.h"

enum { STEPS = 7 };

typedef struct {
    int tp, pp, dp, zero;
    bool llama, sgd;
    int chunks;
    par_dtype dtype;
} setting;

typedef struct {
    double loss[STEPS], norm[STEPS], evaluation;
    par_scaler scaler;
    float *weights; /* this rank's, one after the other */
    float *m, *v;   /* global, on rank 0 */
} outcome;

typedef struct {
    MPI_Comm comm;
    const setting *set;
    par_trainer_params params;
    check_data data;
    check_table table;
    char directory[512], behind[520]; /* saves at once; in the background */
    int save_after;
} experiment;

static int64_t local_n(const par_trainer *t) {
    int64_t n = 0;
    for (int i = 0; i < par_trainer_n_params(t); i++)
        n += par_trainer_param(t, i)->local[0] * par_trainer_param(t, i)->local[1];
    return n;
}

static void copy_weights(const par_trainer *t, float *to) {
    for (int i = 0; i < par_trainer_n_params(t); i++) {
        const par_param *p = par_trainer_param(t, i);
        int64_t n = p->local[0] * p->local[1];
        memcpy(to, p->weight, (size_t)n * par_dtype_nbytes(p->dtype));
        to += n;
    }
}

static par_status keep_outcome(experiment *e, par_trainer *t, outcome *o) {
    par_source source = check_source(&e->data);
    /* an evaluation also waits for gathers of weights that are still under way */
    PAR_TRY(par_trainer_evaluate(t, &source, 0, e->params.global_batch, &o->evaluation));
    o->weights = calloc((size_t)local_n(t), sizeof(float));
    o->m = calloc((size_t)e->table.total, sizeof(float));
    o->v = calloc((size_t)e->table.total, sizeof(float));
    copy_weights(t, o->weights);
    o->scaler = *par_trainer_scaler(t);
    PAR_TRY(check_gather(t, &e->table, PAR_STATE_M, o->m));
    return e->set->sgd ? PAR_OK : check_gather(t, &e->table, PAR_STATE_V, o->v);
}

/* Twice: at once, and in the background while the next steps change the state. */
static par_status save(experiment *e, par_trainer *t, int step, double loss) {
    par_checkpoint_result result;
    size_t nbytes;
    const par_checkpoint_params params = {
        .directory = e->directory, .keep = 1, .step = step, .loss = loss};
    par_checkpoint_params behind = params;
    behind.directory = e->behind;
    PAR_TRY(par_trainer_save(t, &params, &result));
    CHECK(par_trainer_saves_behind(t, &nbytes) && nbytes > 0, "no memory for a copy");
    PAR_TRY(par_trainer_save_begin(t, &behind));
    CHECK_FAILS(par_trainer_save_begin(t, &behind), PAR_ERR_ARG, "a save is under way");
    return PAR_OK;
}

static par_status await_save(par_trainer *t, bool saving) {
    par_checkpoint_result result;
    if (saving) return par_trainer_save_end(t, &result);
    CHECK_FAILS(par_trainer_save_end(t, &result), PAR_ERR_ARG, "no save is under way");
    return PAR_OK;
}

/* The files of both saves are the same, and nothing else is there. */
static void compare_saves(const experiment *e) {
    char command[1200];
    snprintf(command, sizeof command, "diff -rq '%s' '%s'", e->directory, e->behind);
    CHECK(system(command) == 0, "the save in the background differs");
}

static par_status steps(experiment *e, par_trainer *t, int done, bool saving, outcome *o) {
    par_source source = check_source(&e->data);
    bool ended;
    for (int i = done; i < STEPS; i++) {
        par_vote vote;
        PAR_TRY(par_trainer_step(t, &source, 0.01f * (float)(i + 1), false, &vote));
        o->loss[i] = vote.loss;
        o->norm[i] = vote.grad_norm;
        PAR_TRY(par_trainer_save_poll(t, &ended));
        if (saving && i + 1 == e->save_after) PAR_TRY(save(e, t, i + 1, vote.loss));
    }
    PAR_TRY(await_save(t, saving));
    return keep_outcome(e, t, o);
}

/* The resumed trainer took a step of its own first, so that nothing is right by chance. */
static par_status run(experiment *e, par_transport *transport, bool resuming, outcome *o) {
    par_trainer *t = NULL;
    par_checkpoint_result result = {0};
    const par_checkpoint_about about = {0};
    int done = 0;
    PAR_TRY(par_trainer_create(transport, &e->params, &t));
    par_status st = PAR_OK;
    if (resuming) {
        par_vote vote;
        par_source source = check_source(&e->data);
        st = par_trainer_step(t, &source, 0.5f, false, &vote);
        if (st == PAR_OK) st = par_trainer_resume(t, e->behind, &about, &result);
        done = (int)result.step;
        CHECK(done == e->save_after && par_trainer_consumed(t) == done * e->params.global_batch,
              "resumed at step %d, %lld samples", done, (long long)par_trainer_consumed(t));
    }
    if (st == PAR_OK) st = steps(e, t, done, !resuming, o);
    par_trainer_destroy(&t);
    return st;
}

static void compare(const experiment *e, int64_t n_local, const outcome *a, const outcome *b) {
    for (int i = e->save_after; i < STEPS; i++)
        CHECK(a->loss[i] == b->loss[i] && a->norm[i] == b->norm[i], "step %d: loss %.17g and %.17g",
              i + 1, a->loss[i], b->loss[i]);
    CHECK(memcmp(&a->scaler, &b->scaler, sizeof a->scaler) == 0, "loss scale %g and %g",
          a->scaler.scale, b->scaler.scale);
    CHECK(a->evaluation == b->evaluation, "evaluation %.17g and %.17g", a->evaluation,
          b->evaluation);
    CHECK(memcmp(a->weights, b->weights, (size_t)n_local * sizeof(float)) == 0,
          "weights of a rank differ");
    if (e->table.rank != 0) return;
    size_t nbytes = (size_t)e->table.total * sizeof(float);
    CHECK(memcmp(a->m, b->m, nbytes) == 0, "first moments differ");
    CHECK(memcmp(a->v, b->v, nbytes) == 0, "second moments differ");
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *where) {
    (void)info, (void)type, (void)where;
    return remove(path);
}

static void make_directory(experiment *e, int number) {
    const char *root = getenv("TMPDIR");
    snprintf(e->directory, sizeof e->directory, "%.200s/par-resume-XXXXXX",
             root && *root ? root : "/tmp");
    if (e->table.rank == 0 && !mkdtemp(e->directory))
        harness_fail(__FILE__, __LINE__, "no directory");
    MPI_Bcast(e->directory, sizeof e->directory, MPI_CHAR, 0, e->comm);
    snprintf(e->behind, sizeof e->behind, "%s.behind", e->directory);
    e->save_after = 1 + (int)(par_random_u64(11, (uint64_t)number, 0) % (STEPS - 1));
}

static int64_t rank_n(const experiment *e, par_transport *transport) {
    par_trainer *t = NULL;
    if (par_trainer_create(transport, &e->params, &t) != PAR_OK) return 0;
    int64_t n = local_n(t);
    par_trainer_destroy(&t);
    return n;
}

static void free_outcome(outcome *o) {
    free(o->weights);
    free(o->m);
    free(o->v);
}

static void one_setting(par_transport *transport, MPI_Comm comm, const setting *set, int number) {
    experiment e = {.comm = comm, .set = set};
    par_transformer_config config;
    par_model *model = NULL;
    outcome straight = {0}, resumed = {0};
    check_config(set->llama, &config);
    config.dropout = config.attention_dropout = 0.1f;
    CHECK_OK(par_transformer_create(&config, &model));
    e.params = check_params(model, set->tp, set->pp, set->dp, 2, 8);
    e.params.zero = set->zero;
    e.params.bucket_n = 3000;
    e.params.save_memory = SIZE_MAX;
    e.params.dtype = set->dtype;
    if (set->dtype == PAR_F16) e.params.scaler.interval = 2; /* the scale moves within the run */
    if (set->sgd) e.params.optimizer = PAR_SGD;
    if (set->chunks) {
        e.params.chunks = set->chunks;
        e.params.schedule = PAR_SCHEDULE_INTERLEAVED;
    }
    e.data = (check_data){.vocab = config.vocab, .T = config.tokens};
    CHECK_OK(check_fit(&config, &e.params));
    CHECK_OK(check_table_create(&e.params, comm, &e.table));
    make_directory(&e, number);
    CHECK_OK(run(&e, transport, false, &straight));
    CHECK_OK(run(&e, transport, true, &resumed));
    if (e.table.rank == 0) compare_saves(&e);
    int64_t n = rank_n(&e, transport);
    if (!harness_failed()) compare(&e, n, &straight, &resumed);
    MPI_Barrier(comm);
    if (e.table.rank == 0) nftw(e.directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    if (e.table.rank == 0) nftw(e.behind, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free_outcome(&straight);
    free_outcome(&resumed);
    check_table_destroy(&e.table);
    par_transformer_destroy(&model);
}

static void all_of(par_transport *transport, const setting *settings, int n) {
    const char *missing = par_checkpoint_missing();
    if (missing) {
        harness_skip("%s", missing);
        return;
    }
    MPI_Comm comm = check_comm(transport);
    for (int i = 0; i < n && !harness_failed(); i++) one_setting(transport, comm, &settings[i], i);
    MPI_Comm_free(&comm);
}

static void one_rank(par_transport *transport) {
    const setting settings[] = {{1, 1, 1, 0, false, false, 0, PAR_F32},
                                {1, 1, 1, 1, true, true, 0, PAR_F32},
                                {1, 1, 1, 0, true, false, 0, PAR_F16}};
    all_of(transport, settings, 3);
}

static void two_ranks(par_transport *transport) {
    const setting settings[] = {
        {2, 1, 1, 0, false, false, 0, PAR_F32}, {1, 2, 1, 0, false, false, 0, PAR_F32},
        {1, 1, 2, 0, false, false, 0, PAR_F32}, {1, 1, 2, 1, true, false, 0, PAR_F32},
        {1, 1, 2, 0, true, false, 0, PAR_BF16}, {1, 1, 2, 1, false, false, 0, PAR_F16}};
    all_of(transport, settings, 6);
}

static void four_ranks(par_transport *transport) {
    const setting settings[] = {{2, 1, 2, 1, true, false, 0, PAR_F32},
                                {1, 2, 2, 1, false, false, 0, PAR_F32},
                                {2, 2, 1, 0, true, false, 2, PAR_F32}};
    all_of(transport, settings, 3);
}

static void eight_ranks(par_transport *transport) {
    const setting settings[] = {{2, 2, 2, 0, false, true, 0, PAR_F32},
                                {2, 2, 2, 1, true, false, 0, PAR_F32},
                                {2, 2, 2, 1, true, false, 0, PAR_BF16},
                                {2, 2, 2, 1, false, false, 0, PAR_F16}};
    all_of(transport, settings, 4);
}

static const harness_case cases[] = {
    {"one-rank", NULL, 1, one_rank, 120},
    {"two-ranks", NULL, 2, two_ranks, 180},
    {"four-ranks", NULL, 4, four_ranks, 180},
    {"eight-ranks", NULL, 8, eight_ranks, 240},
};

int main(int argc, char **argv) {
    return harness_main_mpi("resume", cases, HARNESS_COUNT(cases), argc, argv);
}
