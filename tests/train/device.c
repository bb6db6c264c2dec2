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
#include "check.h"
#include "far.h"
#include "par/mpi.h"
#include "par/verify.h"

enum { STEPS = 5, AHEAD_STEPS = 12, MAX_LOGITS = 1 << 19 };

typedef struct {
    const char *name;
    bool llama, sgd;
    par_dtype dtype;
    par_recompute recompute;
    int64_t vocab, batch; /* vocab 0: the tiny model's */
    int tp, pp, dp, chunks, zero;
} setting;

/* What a run leaves behind; tensors in global shape, on rank 0. */
typedef struct {
    double loss[STEPS], norm[STEPS], evaluation, other;
    float *tensors[4]; /* gradients of step 1; weights, first and second moments at the end */
    float *logits;     /* of the last stage's ranks */
    int64_t n_logits;
} outcome;

typedef struct {
    MPI_Comm comm;
    par_transport *transport;
    const setting *set;
    par_transformer_config config;
    par_model *model;
    par_trainer_params params; /* on the cpu */
    check_data data;
    check_table table;
    char directory[512];
} experiment;

static void begin(experiment *e, par_transport *transport, const setting *set) {
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

static void end(experiment *e) {
    check_table_destroy(&e->table);
    par_transformer_destroy(&e->model);
    MPI_Comm_free(&e->comm);
}

static par_trainer_params on(const experiment *e, const par_backend *backend) {
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
    par_trainer_params params = on(e, backend);
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
    begin(&e, transport, set);
    train(&e, NULL, &cpu);
    for (int eager = 0; eager < 2 && !harness_failed(); eager++) {
        train(&e, far_backend(eager), &far);
        compare(&e, eager ? "eager" : "lazy", 0, &far, &cpu);
        CHECK(far_alive() == 0, "%s: %d blocks, streams or events left", set->name, far_alive());
        outcome_free(&far);
    }
    outcome_free(&cpu);
    end(&e);
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
    par_trainer_params first = on(e, from), second = on(e, to);
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
    begin(&e, transport, set);
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
    end(&e);
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
    par_trainer_params params = on(e, backend);
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
        begin(&e, transport, &settings[i]);
        outcome_take(&cpu, &e.table);
        outcome_take(&far, &e.table);
        CHECK_OK(load_and_train(&e, NULL, &cpu));
        CHECK_OK(load_and_train(&e, far_backend(false), &far));
        compare(&e, "loaded", 0, &far, &cpu);
        outcome_free(&cpu);
        outcome_free(&far);
        end(&e);
    }
}

/* A weight that is inf: the same parameter is named with the same count, and the step is
 * skipped. */
static par_status overflow(experiment *e, const par_backend *backend, par_vote votes[2]) {
    static const uint16_t inf = 0x7c00;
    par_trainer_params params = on(e, backend);
    par_trainer *t = NULL;
    par_source source = check_source(&e->data);
    uint16_t kept;
    PAR_TRY(par_trainer_create(e->transport, &params, &t));
    void *weight = par_trainer_param(t, par_trainer_n_params(t) - 1)->weight;
    par_status st = par_trainer_copy(t, &kept, weight, sizeof kept);
    if (st == PAR_OK) st = par_trainer_copy(t, weight, &inf, sizeof inf);
    if (st == PAR_OK) st = par_trainer_step(t, &source, 1e-2f, false, &votes[0]);
    if (st == PAR_OK) st = par_trainer_copy(t, weight, &kept, sizeof kept);
    if (st == PAR_OK) st = par_trainer_step(t, &source, 1e-2f, false, &votes[1]);
    par_trainer_destroy(&t);
    return st;
}

static void run_overflow(par_transport *transport) {
    const setting set = {"fp16", true, false, PAR_F16, PAR_RECOMPUTE_NONE, 0, 8, 1, 1, 1, 1, 0};
    experiment e;
    par_vote cpu[2] = {{0}}, far[2] = {{0}};
    begin(&e, transport, &set);
    CHECK_OK(overflow(&e, NULL, cpu));
    CHECK_OK(overflow(&e, far_backend(false), far));
    CHECK(far[0].skipped && far[0].n_nonfinite == cpu[0].n_nonfinite &&
              !strcmp(far[0].where, cpu[0].where),
          "skipped %d, %lld and %lld non-finite, \"%s\" and \"%s\"", far[0].skipped,
          (long long)far[0].n_nonfinite, (long long)cpu[0].n_nonfinite, far[0].where, cpu[0].where);
    CHECK(!far[1].skipped && far[1].loss == cpu[1].loss, "then loss %.17g and %.17g", far[1].loss,
          cpu[1].loss);
    end(&e);
}

/* The host's part of a step in steady state: no wait, no question, all copies with pinned memory,
 * no allocation, and with one step begun before it its calls are those of two steps ago in every
 * byte (buffers of micro-batches change in turn), as a recording of them that is played again
 * needs. */
static void check_begin(int step, uint64_t traces[]) {
    far_counts c = far_counts_get();
    CHECK(c.syncs == 0, "step %d: the host waited %lld times", step, (long long)c.syncs);
    CHECK(c.queries == 0, "step %d: the host polled %lld times", step, (long long)c.queries);
    CHECK(c.unpinned == 0, "step %d: %lld copies of %lld with memory that is not pinned", step,
          (long long)c.unpinned, (long long)c.copies);
    /* 8 micro-batches of 6 blocks, and the update: nothing was run in between */
    CHECK(c.most_queued > 1000, "step %d: at most %lld items were queued", step,
          (long long)c.most_queued);
    traces[step] = c.trace;
    if (step == 3 && !c.trace)
        printf("# this compiler leaves padding in arguments: they are not compared\n");
    if (step >= 3)
        CHECK(traces[step] == traces[step - 2], "steps %d and %d enqueue other calls", step - 2,
              step);
}

static void run_waits(par_transport *transport) {
    const setting set = {"gpt", false, false, PAR_BF16, PAR_RECOMPUTE_NONE, 0, 16, 1, 1, 1, 1, 0};
    experiment e;
    par_trainer *t = NULL;
    par_vote vote;
    uint64_t traces[8];
    begin(&e, transport, &set);
    par_source source = check_source(&e.data);
    par_trainer_params params = on(&e, far_backend(false));
    CHECK_OK(par_trainer_create(transport, &params, &t));
    for (int i = 0; i < 8 && t; i++) {
        allocations_count allocated = {0};
        far_counts_reset();
        allocations_begin();
        CHECK_OK(par_trainer_step_begin(t, &source, 1e-3f / (float)(i + 1), false));
        check_begin(i, traces);
        if (i > 0) CHECK_OK(par_trainer_step_end(t, &vote));
        allocations_end(&allocated);
        CHECK(far_counts_get().syncs == 0, "step %d: its end waited for all of the stream", i);
        CHECK(allocated.n[BY_LIBPAR] == 0, "step %d: libpar allocated %lld times", i,
              (long long)allocated.n[BY_LIBPAR]);
    }
    if (t) CHECK_OK(par_trainer_step_end(t, &vote));
    par_trainer_destroy(&t);
    CHECK(far_alive() == 0, "%d blocks, streams or events left", far_alive());
    end(&e);
}

/* Weights that overflow in fp16 in some steps and not in others: the loss scale falls from 2^28. */
static par_status run_ahead(experiment *e, const par_backend *backend, int ahead,
                            par_vote votes[]) {
    par_trainer *t = NULL;
    par_source source = check_source(&e->data);
    par_trainer_params params = on(e, backend);
    params.scaler.init = 0x1p28;
    params.scaler.hysteresis = 1;
    params.scaler.interval = 3;
    PAR_TRY(par_trainer_create(e->transport, &params, &t));
    par_status st = PAR_OK;
    for (int begun = 0, ended = 0; ended < AHEAD_STEPS && st == PAR_OK;) {
        bool more = begun < AHEAD_STEPS && begun - ended <= ahead;
        begun += more;
        if (more)
            st = par_trainer_step_begin(t, &source, 1e-2f / (float)begun, begun == 7);
        else
            st = par_trainer_step_end(t, &votes[ended++]);
    }
    if (st == PAR_OK && par_trainer_consumed(t) != AHEAD_STEPS * e->set->batch)
        st = par_error_set(PAR_ERR_INTERNAL, "%lld samples were consumed",
                           (long long)par_trainer_consumed(t));
    par_trainer_destroy(&t);
    return st;
}

static bool votes_differ(const par_vote *a, const par_vote *b) {
    return a->loss != b->loss || a->grad_norm != b->grad_norm || a->loss_scale != b->loss_scale ||
           a->n_skipped != b->n_skipped || a->skipped != b->skipped || a->stop != b->stop ||
           a->n_nonfinite != b->n_nonfinite || strcmp(a->where, b->where) != 0;
}

/* The vote lies on the device, so a step behind one that overflows is right before the host knows
 * of it. */
static void run_ahead_of_votes(par_transport *transport) {
    const setting set = {"gpt", false, false, PAR_F16, PAR_RECOMPUTE_NONE, 0, 8, 2, 2, 1, 1, 0};
    par_vote cpu[AHEAD_STEPS] = {0}, far[AHEAD_STEPS] = {0};
    experiment e;
    int skipped = 0;
    begin(&e, transport, &set);
    CHECK_OK(run_ahead(&e, NULL, 0, cpu));
    CHECK_OK(run_ahead(&e, far_backend(false), 1, far));
    for (int i = 0; i < AHEAD_STEPS; i++) {
        skipped += cpu[i].skipped;
        CHECK(!votes_differ(&cpu[i], &far[i]), "step %d: loss %.17g and %.17g, scale %g and %g", i,
              cpu[i].loss, far[i].loss, cpu[i].loss_scale, far[i].loss_scale);
    }
    CHECK(skipped > 2 && skipped < AHEAD_STEPS - 2, "%d of %d steps were skipped", skipped,
          AHEAD_STEPS);
    CHECK(far[6].stop && !far[5].stop, "the wish to stop is in step 7's vote");
    end(&e);
}

/* A step that ends the training, with another begun behind it: that one changes nothing, everything
 * but steps was refused, and afterwards both backends go on alike. */
static par_status halted(experiment *e, const par_backend *backend, par_vote votes[3]) {
    par_trainer *t = NULL;
    double loss;
    par_source source = check_source(&e->data);
    par_trainer_params params = on(e, backend);
    params.scaler.constant = 0x1p31; /* overflows, and the policy is to stop */
    PAR_TRY(par_trainer_create(e->transport, &params, &t));
    CHECK_OK(par_trainer_step_begin(t, &source, 1e-2f, false));
    CHECK_FAILS(par_trainer_evaluate(t, &source, 0, 8, &loss), PAR_ERR_ARG, "1 steps were begun");
    if (backend) CHECK_OK(par_trainer_step_begin(t, &source, 1e-2f, false));
    if (backend)
        CHECK_FAILS(par_trainer_step_begin(t, &source, 1, false), PAR_ERR_ARG, "2 steps are begun");
    CHECK_FAILS(par_trainer_step_end(t, &votes[0]), PAR_ERR_NUMERIC, "weights are unchanged");
    CHECK_FAILS(par_trainer_step_end(t, &votes[1]), PAR_ERR_ARG, "no step was begun");
    CHECK(par_trainer_consumed(t) == e->set->batch, "%lld samples were consumed",
          (long long)par_trainer_consumed(t));
    CHECK_FAILS(par_trainer_step(t, &source, 1e-2f, false, &votes[1]), PAR_ERR_NUMERIC,
                "unchanged");
    par_status st = par_trainer_evaluate(t, &source, 0, 8, &votes[2].loss);
    par_trainer_destroy(&t);
    return st;
}

static void run_halted(par_transport *transport) {
    const setting set = {"gpt", false, false, PAR_F16, PAR_RECOMPUTE_NONE, 0, 8, 1, 2, 1, 1, 0};
    par_vote cpu[3] = {0}, far[3] = {0};
    experiment e;
    begin(&e, transport, &set);
    CHECK_OK(halted(&e, NULL, cpu));
    CHECK_OK(halted(&e, far_backend(false), far));
    for (int i = 0; i < 3; i++)
        CHECK(!votes_differ(&cpu[i], &far[i]), "%d: loss %.17g and %.17g", i, cpu[i].loss,
              far[i].loss);
    end(&e);
}

/* By the device's clock a training step's forward is the kernels of as many micro-batches evaluated
 * but for the head's four of each, which are the backward's: norm, logits, statistics, loss. A
 * recomputed forward is the backward's, too, and one rank stands still for nobody. Without dropout,
 * as evaluation has none. */
static void run_times(par_transport *transport) {
    setting set = {"gpt", false, false, PAR_BF16, PAR_RECOMPUTE_NONE, 0, 16, 1, 1, 1, 1, 0};
    par_step_times times[2] = {{0}};
    double forward = 0;
    for (int full = 0; full < 2 && !harness_failed(); full++) {
        experiment e;
        par_trainer *t = NULL;
        par_vote vote;
        double loss;
        set.recompute = full ? PAR_RECOMPUTE_FULL : PAR_RECOMPUTE_NONE;
        begin(&e, transport, &set);
        par_transformer_destroy(&e.model);
        e.config.dropout = 0;
        CHECK_OK(par_transformer_create(&e.config, &e.model));
        e.params.model = e.model;
        par_source source = check_source(&e.data);
        par_trainer_params params = on(&e, far_backend(false));
        CHECK_OK(par_trainer_create(transport, &params, &t));
        far_counts_reset();
        CHECK_OK(par_trainer_evaluate(t, &source, 0, set.batch, &loss));
        forward = FAR_KERNEL_S * (double)(far_counts_get().kernels - 4 * par_trainer_n_micro(t));
        CHECK_OK(par_trainer_step(t, &source, 1e-3f, false, &vote));
        times[full] = *par_trainer_times(t);
        CHECK(times[full].forward == forward, "forward takes %g kernels, evaluated %g",
              times[full].forward / FAR_KERNEL_S, forward / FAR_KERNEL_S);
        CHECK(times[full].wait_pipeline == 0 && times[full].bubble == 0,
              "one stage waits for %g kernels", times[full].wait_pipeline / FAR_KERNEL_S);
        par_trainer_destroy(&t);
        end(&e);
    }
    CHECK(times[0].backward > forward && times[1].backward == times[0].backward + forward,
          "backward takes %g kernels, with a recomputed forward of %g %g",
          times[0].backward / FAR_KERNEL_S, forward / FAR_KERNEL_S,
          times[1].backward / FAR_KERNEL_S);
}

/* What the host reads and writes is the host's; the rest, the device's, and as much as planned,
 * with whatever pieces the transport has: the staging of the staged link and of the pipeline are
 * made of those. */
static void run_plan(par_transport *transport) {
    const setting set = {"gpt", false, false, PAR_BF16, PAR_RECOMPUTE_NONE, 0, 16, 1, 2, 1, 1, 0};
    const par_transport_params settings[] = {{.link = PAR_LINK_STAGED},
                                             {.link = PAR_LINK_STAGED, .piece_nbytes = 8192}};
    size_t comm[2] = {0};
    experiment e;
    begin(&e, transport, &set);
    for (int i = 0; i < 2; i++) {
        par_transport *own = NULL;
        par_trainer *t = NULL;
        par_memory *plan = NULL;
        par_trainer_params params = on(&e, far_backend(false));
        CHECK_OK(par_transport_create_mpi(e.comm, &settings[i], &own));
        CHECK_OK(par_trainer_plan(&params, &settings[i], 2, par_transport_rank(own), &plan));
        CHECK_OK(par_trainer_create(own, &params, &t));
        for (int kind = 0; kind < PAR_MEM_COUNT && t; kind++) {
            size_t planned = par_memory_nbytes(plan, (par_memory_kind)kind);
            size_t taken = par_memory_nbytes(par_trainer_memory(t), (par_memory_kind)kind);
            CHECK(planned == taken, "%s: %zu bytes planned, %zu taken",
                  par_memory_kind_name((par_memory_kind)kind), planned, taken);
        }
        comm[i] = plan ? par_memory_nbytes(plan, PAR_MEM_COMM) : 0;
        par_memory_destroy(&plan);
        par_trainer_destroy(&t);
        par_transport_destroy(&own);
    }
    CHECK(comm[1] < comm[0], "staging does not depend on chunks: %zu and %zu bytes", comm[0],
          comm[1]);
    end(&e);
}

static void run_verify(par_transport *transport) {
    const setting set = {"llama", true, false, PAR_F32, PAR_RECOMPUTE_FULL, 0, 8, 1, 1, 1, 1, 1};
    experiment e;
    par_verify_result result = {0};
    begin(&e, transport, &set);
    par_source source = check_source(&e.data);
    par_trainer_params params = on(&e, far_backend(false));
    CHECK_OK(par_verify(transport, &params, &source, 2, 1e-2f, 0, NULL, &result));
    CHECK(result.passed && result.gradient < 1e-6, "gradients differ by %g at %s", result.gradient,
          result.worst);
    end(&e);
}

static const harness_case cases[] = {
    {"one-rank-has-the-cpu's-bits", NULL, 1, run_single, 0},
    {"two-ranks-staged", NULL, 2, run_two, 0},
    {"four-ranks-staged", NULL, 4, run_four, 0},
    {"resume-across-backends", NULL, 1, run_resume, 0},
    {"load", NULL, 1, run_load, 0},
    {"overflow", NULL, 1, run_overflow, 0},
    {"no-waits", NULL, 1, run_waits, 0},
    {"ahead-of-votes", NULL, 4, run_ahead_of_votes, 0},
    {"halted", NULL, 2, run_halted, 0},
    {"times-are-the-device's", NULL, 1, run_times, 0},
    {"plan-equals-run", NULL, 2, run_plan, 0},
    {"verify", NULL, 1, run_verify, 0},
};

int main(int argc, char **argv) {
    return harness_main_mpi("device", cases, HARNESS_COUNT(cases), argc, argv);
}
