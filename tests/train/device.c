/*
 * Training on a device whose memory the host cannot touch gives the bits of the cpu backend:
 * losses, norms, gradients, weights, moments, evaluation, logits, checkpoints. The kernels are the
 * same ones, so equality is exact; what differs is where memory lies and when things run. A host
 * access to device memory ends the process, and a missing wait gives other numbers, as streams run
 * at the latest moment (lazy) or at once (eager): see far.h. Nothing here needs a GPU.
 */
#define _GNU_SOURCE
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness.h"
#include "allocations.h"
#include "device.h"
#include "far.h"
#include "par/mpi.h"
#include "par/verify.h"

enum { STEPS = 5, MAX_LOGITS = 1 << 19 };

/* What a run leaves behind; tensors in global shape, on rank 0. */
typedef struct {
    double loss[STEPS], norm[STEPS], evaluation, other;
    float *tensors[4]; /* gradients of step 1; weights, first and second moments at the end */
    float *logits;     /* of the last stage's ranks */
    int64_t n_logits;
} outcome;

void device_begin(experiment *e, par_transport *transport, const setting *set) {
    *e = (experiment){.comm = check_comm(transport), .transport = transport, .set = set};
    check_config(set->llama, &e->config);
    if (set->vocab) e->config.vocab = set->vocab;
    e->config.dropout = 0.1f;
    CHECK_OK(par_transformer_create(&e->config, &e->model));
    e->params = check_params(e->model, set->tp, set->pp, set->dp, 2, set->batch);
    e->params.dtype = set->dtype;
    e->params.recompute = set->recompute;
    e->params.keep_logits = true;
    e->params.zero = set->zero;
    e->params.bucket_n = 5000;
    if (set->sgd) e->params.optimizer = PAR_SGD;
    if (set->chunks > 1) {
        e->params.chunks = set->chunks;
        e->params.schedule = PAR_SCHEDULE_INTERLEAVED;
    }
    e->data = (check_data){.vocab = e->config.vocab, .T = e->config.tokens, .ignore = 7};
    CHECK_OK(check_fit(&e->config, &e->params));
    CHECK_OK(check_table_create(&e->params, e->comm, &e->table));
}

void device_end(experiment *e) {
    check_table_destroy(&e->table);
    par_transformer_destroy(&e->model);
    MPI_Comm_free(&e->comm);
}

par_trainer_params device_on(const experiment *e, const par_backend *backend) {
    par_trainer_params params = e->params;
    params.device = backend; /* NULL: the cpu */
    return params;
}

typedef struct {
    const par_trainer *trainer;
    outcome *out;
} logits_reader;

static par_status read_logits(void *user, const par_module *last, const void *stash) {
    const logits_reader *r = user;
    par_tensor logits;
    int64_t begin, valid;
    PAR_TRY(par_transformer_logits(last, stash, &logits, &begin, &valid));
    r->out->n_logits = par_tensor_n(&logits);
    if (r->out->n_logits > MAX_LOGITS)
        PAR_FAIL(PAR_ERR_ARG, "%lld logits are more than there is room for",
                 (long long)r->out->n_logits);
    return par_trainer_copy(r->trainer, r->out->logits, logits.data, par_tensor_nbytes(&logits));
}

static par_status run_steps(experiment *e, par_trainer *t, int first, outcome *out) {
    par_source source = check_source(&e->data);
    for (int i = first; i < STEPS; i++) {
        par_vote vote;
        PAR_TRY(par_trainer_step(t, &source, 1e-2f, false, &vote));
        out->loss[i] = vote.loss;
        out->norm[i] = vote.grad_norm;
        if (i == 0) PAR_TRY(check_gather(t, &e->table, PAR_STATE_GRADIENT, out->tensors[0]));
    }
    PAR_TRY(check_gather(t, &e->table, PAR_STATE_WEIGHT, out->tensors[1]));
    PAR_TRY(check_gather(t, &e->table, PAR_STATE_M, out->tensors[2]));
    return e->set->sgd ? PAR_OK : check_gather(t, &e->table, PAR_STATE_V, out->tensors[3]);
}

/* Evaluation of whole batches and of a rest, and the logits of one micro-batch. */
static par_status look(experiment *e, par_trainer *t, outcome *out) {
    int64_t unit = e->params.micro_batch * e->set->dp;
    int32_t x[64], targets[64];
    logits_reader reader = {t, out};
    par_source source = check_source(&e->data);
    PAR_TRY(par_trainer_evaluate(t, &source, 3, e->params.global_batch + unit, &out->evaluation));
    PAR_TRY(source.read(source.user, 100, e->params.micro_batch, x, targets));
    PAR_TRY(par_trainer_forward(t, x, targets, read_logits, &reader));
    return par_trainer_evaluate(t, &source, 40, unit, &out->other);
}

static void outcome_take(outcome *o, const check_table *table) {
    *o = (outcome){.logits = calloc(MAX_LOGITS, sizeof(float))};
    for (int i = 0; i < 4; i++) o->tensors[i] = calloc((size_t)table->total + 1, sizeof(float));
    CHECK(o->logits && o->tensors[3], "no memory for tensors of %lld elements",
          (long long)table->total);
}

static void outcome_free(outcome *o) {
    for (int i = 0; i < 4; i++) free(o->tensors[i]);
    free(o->logits);
}

static void train(experiment *e, const par_backend *backend, outcome *out) {
    par_trainer *t = NULL;
    par_trainer_params params = device_on(e, backend);
    outcome_take(out, &e->table);
    CHECK_OK(par_trainer_create(e->transport, &params, &t));
    if (t) CHECK_OK(run_steps(e, t, 0, out));
    if (t && !harness_failed()) CHECK_OK(look(e, t, out));
    par_trainer_destroy(&t);
}

static bool same(const void *a, const void *b, size_t nbytes) {
    return memcmp(a, b, nbytes) == 0;
}

static void compare(const experiment *e, const char *how, int first, const outcome *a,
                    const outcome *b) {
    static const char *const names[] = {"gradients", "weights", "first moments", "second moments"};
    const char *name = e->set->name;
    size_t nbytes = (size_t)e->table.total * sizeof(float);
    for (int i = first; i < STEPS; i++)
        CHECK(a->loss[i] == b->loss[i] && a->norm[i] == b->norm[i],
              "%s, %s: step %d: loss %.17g and %.17g, norm %.17g and %.17g", name, how, i + 1,
              a->loss[i], b->loss[i], a->norm[i], b->norm[i]);
    for (int k = first ? 1 : 0; e->table.rank == 0 && k < 4; k++)
        CHECK(same(a->tensors[k], b->tensors[k], nbytes), "%s, %s: %s differ", name, how, names[k]);
    CHECK(a->evaluation == b->evaluation && a->other == b->other && isfinite(a->evaluation),
          "%s, %s: evaluation %.17g and %.17g", name, how, a->evaluation, b->evaluation);
    CHECK(a->n_logits == b->n_logits &&
              same(a->logits, b->logits, (size_t)a->n_logits * sizeof(float)),
          "%s, %s: logits differ", name, how);
}

/* Trained on the cpu, on the device lazily and eagerly. */
static void same_bits(par_transport *transport, const setting *set) {
    experiment e;
    outcome cpu, far;
    device_begin(&e, transport, set);
    train(&e, NULL, &cpu);
    for (int eager = 0; eager < 2 && !harness_failed(); eager++) {
        train(&e, far_backend(eager), &far);
        compare(&e, eager ? "eager" : "lazy", 0, &far, &cpu);
        CHECK(far_alive() == 0, "%s: %d blocks, streams or events left", set->name, far_alive());
        outcome_free(&far);
    }
    outcome_free(&cpu);
    device_end(&e);
}

static void run_single(par_transport *transport) {
    const setting settings[] = {
        {"gpt", false, false, PAR_F32, PAR_RECOMPUTE_NONE, 0, 8, 1, 1, 1, 1, 0},
        {"llama", true, false, PAR_F32, PAR_RECOMPUTE_SELECTIVE, 0, 8, 1, 1, 1, 1, 1},
        {"llama full sgd", true, true, PAR_F32, PAR_RECOMPUTE_FULL, 0, 8, 1, 1, 1, 1, 0},
        {"gpt bf16", false, false, PAR_BF16, PAR_RECOMPUTE_FULL, 0, 8, 1, 1, 1, 1, 0},
        {"llama fp16", true, false, PAR_F16, PAR_RECOMPUTE_NONE, 0, 8, 1, 1, 1, 1, 0},
        {"gpt fp16 selective", false, false, PAR_F16, PAR_RECOMPUTE_SELECTIVE, 0, 8, 1, 1, 1, 1, 0},
        /* a table larger than a piece of staging (1 MiB), and more micro-batches than batch buffers
           (32) */
        {"large table", true, false, PAR_F32, PAR_RECOMPUTE_NONE, 9001, 4, 1, 1, 1, 1, 0},
        {"large table bf16", false, false, PAR_BF16, PAR_RECOMPUTE_NONE, 9001, 4, 1, 1, 1, 1, 0},
        {"many micro-batches", false, false, PAR_F32, PAR_RECOMPUTE_NONE, 0, 80, 1, 1, 1, 1, 0},
    };
    for (int i = 0; i < HARNESS_COUNT(settings) && !harness_failed(); i++)
        same_bits(transport, &settings[i]);
}

/* Device data through the staged link: the host engine's sums, so the cpu's bits in the same
 * layout. */
static void run_two(par_transport *transport) {
    const setting settings[] = {
        {"tp 2", true, false, PAR_F32, PAR_RECOMPUTE_NONE, 0, 8, 2, 1, 1, 1, 0},
        {"pp 2", false, false, PAR_F32, PAR_RECOMPUTE_NONE, 0, 8, 1, 2, 1, 1, 0},
        {"dp 2", false, false, PAR_F32, PAR_RECOMPUTE_SELECTIVE, 0, 8, 1, 1, 2, 1, 0},
        {"dp 2 zero bf16", true, false, PAR_BF16, PAR_RECOMPUTE_NONE, 0, 8, 1, 1, 2, 1, 1},
    };
    for (int i = 0; i < HARNESS_COUNT(settings) && !harness_failed(); i++)
        same_bits(transport, &settings[i]);
}

static void run_four(par_transport *transport) {
    const setting settings[] = {
        {"tp 2 pp 2", false, false, PAR_F32, PAR_RECOMPUTE_NONE, 0, 8, 2, 2, 1, 1, 0},
        {"pp 2 dp 2 interleaved", true, false, PAR_F32, PAR_RECOMPUTE_FULL, 0, 8, 1, 2, 2, 2, 1},
        {"tp 2 dp 2 fp16", true, false, PAR_F16, PAR_RECOMPUTE_NONE, 0, 8, 2, 1, 2, 1, 1},
    };
    for (int i = 0; i < HARNESS_COUNT(settings) && !harness_failed(); i++)
        same_bits(transport, &settings[i]);
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *where) {
    return remove(path);
}

static void make_directory(experiment *e) {
    const char *root = getenv("TMPDIR");
    snprintf(e->directory, sizeof e->directory, "%.200s/par-device-XXXXXX",
             root && *root ? root : "/tmp");
    if (e->table.rank == 0 && !mkdtemp(e->directory))
        harness_fail(__FILE__, __LINE__, "no directory");
    MPI_Bcast(e->directory, sizeof e->directory, MPI_CHAR, 0, e->comm);
}

/* Two steps on one backend, saved; the rest on another one, whose own state was another before. */
static par_status cross(experiment *e, const par_backend *from, const par_backend *to,
                        outcome *out) {
    par_trainer_params first = device_on(e, from), second = device_on(e, to);
    par_trainer *t = NULL;
    par_source source = check_source(&e->data);
    par_checkpoint_result result;
    const par_checkpoint_about about = {0};
    par_vote vote = {0};
    PAR_TRY(par_trainer_create(e->transport, &first, &t));
    par_status st = PAR_OK;
    for (int i = 0; i < 2 && st == PAR_OK; i++)
        st = par_trainer_step(t, &source, 1e-2f, false, &vote);
    const par_checkpoint_params params = {
        .directory = e->directory, .keep = 1, .step = 2, .loss = vote.loss};
    if (st == PAR_OK) st = far_choose("far;of the run that saved");
    if (st == PAR_OK) st = par_trainer_save(t, &params, &result);
    par_trainer_destroy(&t);
    PAR_TRY(st);
    PAR_TRY(far_choose("far;of another run"));
    PAR_TRY(par_trainer_create(e->transport, &second, &t));
    st = par_trainer_step(t, &source, 0.5f, false, &vote);
    if (st == PAR_OK) st = par_trainer_resume(t, e->directory, &about, &result);
    const char *expected = from && to ? "far;of the run that saved" : "far;of another run";
    CHECK(!strcmp(far_backend(false)->choices(), expected), "the choices after resuming are \"%s\"",
          far_backend(false)->choices());
    if (st == PAR_OK) st = run_steps(e, t, (int)result.step, out);
    if (st == PAR_OK) st = look(e, t, out);
    par_trainer_destroy(&t);
    return st;
}

static void resume_across(par_transport *transport, const setting *set) {
    experiment e;
    outcome straight, crossed;
    device_begin(&e, transport, set);
    make_directory(&e);
    train(&e, NULL, &straight);
    for (int way = 0; way < 3 && !harness_failed(); way++) {
        static const char *const names[] = {"cpu to far", "far to cpu", "far to far"};
        const par_backend *far = far_backend(false);
        outcome_take(&crossed, &e.table);
        CHECK_OK(cross(&e, way ? far : NULL, way == 1 ? NULL : far, &crossed));
        compare(&e, names[way], 2, &crossed, &straight);
        outcome_free(&crossed);
    }
    outcome_free(&straight);
    MPI_Barrier(e.comm);
    if (e.table.rank == 0) nftw(e.directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    device_end(&e);
}

static void run_resume(par_transport *transport) {
    const setting settings[] = {
        {"gpt", false, false, PAR_F32, PAR_RECOMPUTE_NONE, 0, 8, 1, 1, 1, 1, 0},
        {"llama fp16", true, false, PAR_F16, PAR_RECOMPUTE_NONE, 0, 8, 1, 1, 1, 1, 1},
        {"large table bf16", false, false, PAR_BF16, PAR_RECOMPUTE_NONE, 9001, 4, 1, 1, 1, 1, 0},
    };
    if (par_checkpoint_missing()) {
        harness_skip("%s", par_checkpoint_missing());
        return;
    }
    for (int i = 0; i < HARNESS_COUNT(settings) && !harness_failed(); i++)
        resume_across(transport, &settings[i]);
}

/* Weights that the host gives, a function of name and element; padding 0. */
static par_status give(void *user, const par_param *p, float *dst) {
    uint64_t stream = par_hash_name(p->name);
    for (int64_t k = 0; k < p->local[0] * p->local[1]; k++) {
        int64_t i = k / p->local[1], j = k % p->local[1];
        bool inside = i < p->extent[0] && j < p->extent[1];
        uint64_t at = (uint64_t)((p->offset[0] + i) * p->global[1] + p->offset[1] + j);
        dst[k] = inside ? 0.1f * harness_noise(stream, at) : 0;
    }
    return PAR_OK;
}

static par_status load_and_train(experiment *e, const par_backend *backend, outcome *out) {
    par_trainer_params params = device_on(e, backend);
    par_trainer *t = NULL;
    par_vote vote;
    par_source source = check_source(&e->data);
    PAR_TRY(par_trainer_create(e->transport, &params, &t));
    par_status st = par_trainer_step(t, &source, 0.5f, false, &vote);
    if (st == PAR_OK) st = par_trainer_load(t, give, NULL);
    if (st == PAR_OK) st = run_steps(e, t, 0, out);
    if (st == PAR_OK) st = look(e, t, out);
    par_trainer_destroy(&t);
    return st;
}

static void run_load(par_transport *transport) {
    const setting settings[] = {
        {"fp32", false, false, PAR_F32, PAR_RECOMPUTE_NONE, 0, 8, 1, 1, 1, 1, 0},
        {"bf16", true, false, PAR_BF16, PAR_RECOMPUTE_NONE, 0, 8, 1, 1, 1, 1, 0}};
    for (int i = 0; i < 2 && !harness_failed(); i++) {
        experiment e;
        outcome cpu, far;
        device_begin(&e, transport, &settings[i]);
        outcome_take(&cpu, &e.table);
        outcome_take(&far, &e.table);
        CHECK_OK(load_and_train(&e, NULL, &cpu));
        CHECK_OK(load_and_train(&e, far_backend(false), &far));
        compare(&e, "loaded", 0, &far, &cpu);
        outcome_free(&cpu);
        outcome_free(&far);
        device_end(&e);
    }
}

static const harness_case cases[] = {
    {"one-rank-has-the-cpu's-bits", NULL, 1, run_single, 0},
    {"two-ranks-staged", NULL, 2, run_two, 0},
    {"four-ranks-staged", NULL, 4, run_four, 0},
    {"resume-across-backends", NULL, 1, run_resume, 0},
    {"load", NULL, 1, run_load, 0},
    {"overflow", NULL, 1, device_run_overflow, 0},
    {"no-waits", NULL, 1, device_run_waits, 0},
    {"ahead-of-votes", NULL, 4, device_run_ahead_of_votes, 0},
    {"halted", NULL, 2, device_run_halted, 0},
    {"times-are-the-device's", NULL, 1, device_run_times, 0},
    {"plan-equals-run", NULL, 2, device_run_plan, 0},
    {"verify", NULL, 1, device_run_verify, 0},
};

int main(int argc, char **argv) {
    return harness_main_mpi("device", cases, HARNESS_COUNT(cases), argc, argv);
}
