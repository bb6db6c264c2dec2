/*
 * Steps as graphs on the cuda stand-ins: over 20 steps losses, norms, skipped steps, the whole
 * state, times and what the recorder counted are those of steps that run call by call, bit for bit,
 * with evaluations, generated text and a checkpoint in between. The stand-in runs a graph with the
 * arguments of its capture, so an argument that changes is a wrong result. In a step that is a
 * graph nothing but it is launched; what cannot be captured says so and trains all the same.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../cuda/acts.h"
#include "../harness.h"
#include "check.h"
#include "collectives/internal.h"

enum {
    STEPS = 20,
    EVALUATE = 6,
    GENERATE = 9,
    RESUME = 13,
    MAX_ROWS = 32,
    MAX_ENTRIES = 256,
    N_NEW = 4
};

typedef struct {
    const char *name;
    bool llama, no_graph, resume, host_model, apart;
    par_dtype dtype;
    int pp, dp, zero;
} setting;

typedef struct {
    par_vote votes[STEPS];
    double evaluation[2];
    int32_t ids[N_NEW];
    uint64_t state; /* of all that a checkpoint holds */
    par_recorder_row rows[MAX_ROWS];
    par_recorder_cell cells[MAX_ROWS][2]; /* by rank of two */
    par_recorder_entry entries[MAX_ENTRIES];
    int64_t sent_to[2];
    int n_rows, n_entries;
    int64_t n_gathers, n_settled; /* of weights: in steps, and what steps owed outside of them */
    char why[256];                /* no graph */
} outcome;

static const par_backend *cuda;
static const long *acts;

/* FNV-1a of what a checkpoint of the rank holds. */
typedef struct {
    const par_trainer *trainer;
    uint64_t hash;
} digest;

static par_status add_run(void *user, const par_checkpoint_run *run) {
    digest *d = user;
    size_t nbytes = (size_t)run->n * par_dtype_nbytes(run->dtype);
    unsigned char *bytes = malloc(nbytes);
    if (!bytes) return par_error_set(PAR_ERR_MEMORY, "no memory for %zu bytes", nbytes);
    par_status st = run->staging ? par_trainer_copy(d->trainer, bytes, run->data, nbytes) : PAR_OK;
    if (!run->staging) memcpy(bytes, run->data, nbytes);
    for (size_t i = 0; i < nbytes; i++) d->hash = (d->hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    free(bytes);
    return st;
}

static par_status generate(par_trainer *t, int64_t vocab, int32_t *ids) {
    static const int32_t prompt[] = {3, 5};
    const par_generator_params params = {.sequences = 1, .capacity = 8, .vocab = vocab};
    const par_generation run = {
        .prompt = prompt, .n_prompt = 2, .n_new = N_NEW, .temperature = 1, .seed = 7};
    par_generator *g = NULL;
    PAR_TRY(par_generator_create(t, &params, &g));
    par_status st = par_generator_run(g, &run, ids);
    par_generator_destroy(&g);
    return st;
}

/* In a step that is a graph: one launch, and nothing else. */
static par_status begin_step(par_trainer *t, const par_source *source, int i, int from) {
    long launches = acts[STANDIN_LAUNCHES], graphs = acts[STANDIN_GRAPHS];
    float lr = 1e-3f * (float)(1 + i % 5);
    bool is_graph = !par_trainer_no_graph(t) && i - from >= 2;
    PAR_TRY(par_trainer_step_begin(t, source, lr, false));
    is_graph = is_graph && !par_trainer_no_graph(t);
    launches = acts[STANDIN_LAUNCHES] - launches;
    graphs = acts[STANDIN_GRAPHS] - graphs;
    CHECK(graphs == is_graph && (launches == 0) == is_graph, "step %d: %ld graphs, %ld launches", i,
          graphs, launches);
    return PAR_OK;
}

/* Steps `from` to `to`, one begun while the one before has not ended, as train_llm does. */
static par_status steps(par_trainer *t, const par_source *source, int from, int to, int first,
                        par_vote *votes) {
    for (int i = from; i < to; i++) {
        PAR_TRY(begin_step(t, source, i, first));
        if (i > from) PAR_TRY(par_trainer_step_end(t, &votes[i - 1]));
        const par_step_times *times = par_trainer_times(t);
        CHECK(i == from || (times->total > 0 && times->forward > 0 && times->backward > 0 &&
                            times->update > 0 && times->total >= times->forward + times->backward),
              "step %d: times %g, %g, %g, %g", i, times->total, times->forward, times->backward,
              times->update);
    }
    return par_trainer_step_end(t, &votes[to - 1]);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at) {
    (void)st, (void)type, (void)at;
    return remove(path);
}

/* Save, and go on in a new trainer. */
static par_status resume(par_transport *transport, const par_trainer_params *params,
                         par_trainer **t) {
    char directory[] = "/tmp/par-graphs-XXXXXX";
    par_checkpoint_result result;
    MPI_Comm comm = check_comm(transport);
    int rank = par_transport_rank(transport);
    if (rank == 0 && !mkdtemp(directory)) return PAR_ERR_MEMORY;
    MPI_Bcast(directory, (int)sizeof directory, MPI_CHAR, 0, comm);
    const par_checkpoint_params save = {
        .directory = directory, .keep = 1, .step = RESUME, .loss = 1};
    par_status st = par_trainer_save(*t, &save, &result);
    par_trainer_destroy(t);
    if (st == PAR_OK) st = par_trainer_create(transport, params, t);
    const par_checkpoint_about about = {0};
    if (st == PAR_OK) st = par_trainer_resume(*t, directory, &about, &result);
    MPI_Barrier(comm);
    if (rank == 0) nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    MPI_Comm_free(&comm);
    return st;
}

static par_status train(par_transport *transport, const par_trainer_params *params,
                        const setting *s, const check_data *data, par_trainer **t, outcome *o) {
    par_source source = check_source(data);
    int64_t unit = params->micro_batch * params->layout.size[PAR_DP];
    int first = 0;
    PAR_TRY(steps(*t, &source, 0, EVALUATE, first, o->votes));
    PAR_TRY(par_trainer_evaluate(*t, &source, 3, unit, &o->evaluation[0])); /* one walk */
    PAR_TRY(steps(*t, &source, EVALUATE, GENERATE, first, o->votes));
    if (!s->llama) PAR_TRY(generate(*t, data->vocab, o->ids));
    PAR_TRY(steps(*t, &source, GENERATE, RESUME, first, o->votes));
    if (s->resume) {
        PAR_TRY(resume(transport, params, t));
        first = RESUME;
    }
    PAR_TRY(steps(*t, &source, RESUME, STEPS, first, o->votes));
    PAR_TRY(par_trainer_settle(*t));
    PAR_TRY(par_trainer_evaluate(*t, &source, 3, 3 * unit, &o->evaluation[1]));
    digest d = {*t, UINT64_C(0xcbf29ce484222325)};
    PAR_TRY(par_trainer_state_runs(*t, add_run, &d));
    o->state = d.hash;
    const char *why = par_trainer_no_graph(*t);
    snprintf(o->why, sizeof o->why, "%s", why ? why : "");
    return PAR_OK;
}

static void take_counts(const par_recorder *recorder, int size, outcome *o) {
    const par_recorder_row *rows;
    const par_recorder_entry *entries;
    bool complete;
    o->n_rows = par_recorder_rows(recorder, &rows);
    o->n_entries = par_recorder_entries(recorder, &entries, &complete);
    CHECK(complete && o->n_rows <= MAX_ROWS && o->n_entries <= MAX_ENTRIES, "%d rows, %d entries",
          o->n_rows, o->n_entries);
    for (int i = 0; i < o->n_rows && i < MAX_ROWS; i++) {
        o->rows[i] = rows[i];
        memcpy(o->cells[i], par_recorder_row_cells(recorder, i), (size_t)size * sizeof **o->cells);
    }
    for (int i = 0; i < o->n_entries && i < MAX_ENTRIES; i++) o->entries[i] = entries[i];
    memcpy(o->sent_to, par_recorder_sent_to(recorder), (size_t)size * sizeof *o->sent_to);
}

/* Graphs alone owe gathers; without them the counts are those of steps call by call. */
static void drop_settled(outcome *o, int size) {
    int at = 0, n = 0;
    for (int i = 0; i < o->n_rows; i++)
        if (strcmp(o->rows[i].purpose, "parameters") == 0) o->n_gathers = o->rows[i].n_ops;
    while (at < o->n_rows && strcmp(o->rows[at].purpose, "settle") != 0) at++;
    if (at == o->n_rows) return;
    o->n_settled = o->rows[at].n_ops;
    for (int r = 0; r < size; r++) o->sent_to[r] -= o->cells[at][r].nbytes;
    o->n_rows--;
    memmove(&o->rows[at], &o->rows[at + 1], (size_t)(o->n_rows - at) * sizeof *o->rows);
    memmove(&o->cells[at], &o->cells[at + 1], (size_t)(o->n_rows - at) * sizeof *o->cells);
    for (int i = 0; i < o->n_entries; i++) {
        if (o->entries[i].row == at) continue;
        o->entries[n] = o->entries[i];
        o->entries[n++].row -= o->entries[i].row > at;
    }
    memset(&o->rows[o->n_rows], 0, sizeof *o->rows);
    memset(&o->cells[o->n_rows], 0, sizeof *o->cells);
    memset(&o->entries[n], 0, (size_t)(o->n_entries - n) * sizeof *o->entries);
    o->n_entries = n;
}

static par_status run(par_transport *transport, const setting *s, outcome *o) {
    par_transformer_config config;
    par_model *model = NULL;
    par_trainer *t = NULL;
    check_config(s->llama, &config);
    config.layers = s->pp; /* the emulator takes its time */
    config.tokens = 8;
    config.dropout = 0.1f;
    memset(o, 0, sizeof *o);
    PAR_TRY(par_transformer_create(&config, &model));
    par_model own = *model;
    own.no_graph = s->host_model;
    par_trainer_params params = check_params(&own, 1, s->pp, s->dp, 1, 2 * s->pp * s->dp);
    const check_data data = {.vocab = config.vocab, .T = config.tokens, .ignore = 7};
    params.device = cuda;
    params.dtype = s->dtype;
    params.zero = s->zero;
    params.bucket_n = 2000; /* several buckets of a small model */
    params.no_graph = s->no_graph;
    params.documents_apart = s->apart;
    params.document_end = 10; /* what follows from 1 */
    params.clip = 1;
    /* soon more than fp16 can hold, again and again */
    params.scaler = (par_scaler_params){.growth = 64, .interval = 2, .hysteresis = 1};
    par_recorder *recorder = par_transport_recorder(transport);
    par_status st = check_fit(&config, &params);
    if (st == PAR_OK) st = par_trainer_create(transport, &params, &t);
    par_recorder_reset(recorder);
    if (st == PAR_OK) st = train(transport, &params, s, &data, &t, o);
    take_counts(recorder, par_transport_size(transport), o);
    drop_settled(o, par_transport_size(transport));
    par_trainer_destroy(&t);
    par_transformer_destroy(&model);
    return st;
}

static void compare_votes(const outcome *a, const outcome *b) {
    for (int i = 0; i < STEPS; i++) {
        const par_vote *x = &a->votes[i], *y = &b->votes[i];
        CHECK(x->loss == y->loss && x->grad_norm == y->grad_norm && x->skipped == y->skipped &&
                  x->loss_scale == y->loss_scale && x->n_targets == y->n_targets,
              "step %d: loss %.9g, norm %.9g, scale %g, skipped %d; call by call %.9g, %.9g, %g, "
              "%d",
              i, x->loss, x->grad_norm, x->loss_scale, x->skipped, y->loss, y->grad_norm,
              y->loss_scale, y->skipped);
    }
}

static void compare_rows(const outcome *a, const outcome *b) {
    CHECK(a->n_rows == b->n_rows, "%d rows, not %d", a->n_rows, b->n_rows);
    for (int i = 0; i < a->n_rows && i < MAX_ROWS; i++) {
        const par_recorder_row *x = &a->rows[i], *y = &b->rows[i];
        CHECK(x->n_ops == y->n_ops && x->sent_nbytes == y->sent_nbytes &&
                  x->received_nbytes == y->received_nbytes && x->n_messages == y->n_messages &&
                  x->logical_nbytes == y->logical_nbytes && x->bus_nbytes == y->bus_nbytes,
              "%s %s %s: %lld operations, %lld bytes sent; call by call %lld, %lld", x->axis,
              x->purpose, x->op, (long long)x->n_ops, (long long)x->sent_nbytes,
              (long long)y->n_ops, (long long)y->sent_nbytes);
    }
}

/* By peer, and by layer and phase. */
static void compare_tables(const outcome *a, const outcome *b) {
    CHECK(a->n_entries == b->n_entries, "%d entries, not %d", a->n_entries, b->n_entries);
    for (int i = 0; i < MAX_ROWS * 2; i++) {
        const par_recorder_cell *x = &a->cells[i / 2][i % 2], *y = &b->cells[i / 2][i % 2];
        CHECK(x->nbytes == y->nbytes && x->n_messages == y->n_messages &&
                  x->logical_nbytes == y->logical_nbytes,
              "row %d, rank %d: %lld bytes, %lld asked for; call by call %lld, %lld", i / 2, i % 2,
              (long long)x->nbytes, (long long)x->logical_nbytes, (long long)y->nbytes,
              (long long)y->logical_nbytes);
    }
    for (int i = 0; i < MAX_ENTRIES; i++) {
        const par_recorder_entry *x = &a->entries[i], *y = &b->entries[i];
        CHECK(x->row == y->row && x->layer == y->layer && x->n_ops == y->n_ops &&
                  x->nbytes == y->nbytes && x->n_messages == y->n_messages &&
                  strcmp(x->phase ? x->phase : "", y->phase ? y->phase : "") == 0,
              "entry %d: row %d, layer %d, %s: %lld operations, %lld bytes; call by call %lld, "
              "%lld",
              i, x->row, x->layer, x->phase, (long long)x->n_ops, (long long)x->nbytes,
              (long long)y->n_ops, (long long)y->nbytes);
    }
    CHECK(memcmp(a->sent_to, b->sent_to, sizeof a->sent_to) == 0, "bytes to ranks");
}

static void compare(const outcome *a, const outcome *b) {
    compare_votes(a, b);
    compare_rows(a, b);
    compare_tables(a, b);
    CHECK(a->state == b->state, "weights, moments or masters have other bits");
    CHECK(memcmp(a->evaluation, b->evaluation, sizeof a->evaluation) == 0, "validations differ");
    CHECK(memcmp(a->ids, b->ids, sizeof a->ids) == 0, "generated texts differ");
}

static bool ready(void) {
    if (!cuda) harness_skip("this build has no stand-in of the cuda module");
    return cuda;
}

static void pair(par_transport *t, setting s) {
    static outcome graphs, plain;
    if (!ready()) return;
    CHECK_OK(run(t, &s, &graphs));
    CHECK(!graphs.why[0], "no graphs: %s", graphs.why);
    s.no_graph = true;
    CHECK_OK(run(t, &s, &plain));
    CHECK(strcmp(plain.why, "it was asked for") == 0, "\"%s\"", plain.why);
    if (harness_failed()) return;
    compare(&graphs, &plain);
    /* Every step gathers each bucket once, a graph the first at its end and the others at its
     * begin. What the graph before owes is gathered by the first validation, and by the wait for
     * the end. */
    int64_t owed = graphs.n_gathers / STEPS - 1;
    CHECK(plain.n_settled == 0 && (s.zero == 0 || owed > 1), "%lld owed, %lld call by call",
          (long long)owed, (long long)plain.n_settled);
    CHECK(graphs.n_settled == (s.zero ? 2 * owed : 0), "%lld gathers outside of steps",
          (long long)graphs.n_settled);
    bool skipped = false, updated = false;
    for (int i = 3; i < STEPS; i++) {
        skipped = skipped || plain.votes[i].skipped;
        updated = updated || (skipped && !plain.votes[i].skipped);
    }
    CHECK(skipped == (s.dtype == PAR_F16) && (updated || s.dtype != PAR_F16), "skipped: %d",
          skipped);
}

static void one_rank(par_transport *t) {
    pair(t, (setting){.llama = true, .dtype = PAR_BF16, .pp = 1, .dp = 1});
}
static void overflows(par_transport *t) {
    pair(t, (setting){.dtype = PAR_F16, .pp = 1, .dp = 1});
}
static void resumed(par_transport *t) {
    if (par_checkpoint_missing())
        harness_skip("%s", par_checkpoint_missing());
    else
        pair(t, (setting){.resume = true, .pp = 1, .dp = 1});
}
static void data_parallel(par_transport *t) {
    pair(t, (setting){.dtype = PAR_BF16, .pp = 1, .dp = 2});
}
static void sharded(par_transport *t) {
    pair(t, (setting){.llama = true, .dtype = PAR_F16, .pp = 1, .dp = 2, .zero = 1});
}
static void pipeline(par_transport *t) {
    pair(t, (setting){.pp = 2, .dp = 1, .apart = true});
}

/* The host carries the data. */
static void staged(par_transport *t) {
    static outcome o;
    const setting s = {.pp = 1, .dp = 2};
    if (!ready()) return;
    t->params.link = PAR_LINK_STAGED;
    CHECK_OK(run(t, &s, &o));
    CHECK(strstr(o.why, "axis dp goes staged"), "\"%s\"", o.why);
}

/* Why there are none is said, and the steps have the same bits. */
static void refused(par_transport *t) {
    static outcome o, plain;
    setting s = {.pp = 1, .dp = 1, .host_model = true};
    if (!ready()) return;
    CHECK_OK(run(t, &s, &o));
    CHECK(strstr(o.why, "modules of tiny-gpt"), "\"%s\"", o.why);
    s = (setting){.pp = 1, .dp = 1};
    setenv("PAR_STANDIN_CAPTURE", "60", 1);
    CHECK_OK(run(t, &s, &o));
    unsetenv("PAR_STANDIN_CAPTURE");
    CHECK(strstr(o.why, "a step cannot be captured: "), "\"%s\"", o.why);
    s.no_graph = true;
    CHECK_OK(run(t, &s, &plain));
    if (!harness_failed()) compare(&o, &plain);
}

static bool find_module(const char *program) {
    char path[1100];
    const char *slash = strrchr(program, '/');
    int n = snprintf(path, sizeof path, "%.*s/cuda", slash ? (int)(slash - program) : 1,
                     slash ? program : ".");
    setenv("PAR_MODULE_PATH", path, 1);
    const char *rank = getenv("OMPI_COMM_WORLD_LOCAL_RANK");
    const par_device_params params = {
        .local_rank = rank ? atoi(rank) : 0, .local_size = 2, .device = -1};
    setenv("PAR_STANDIN_GPUS", "2", 1); /* NCCL wants one for each */
    if (par_device_select(&params) != PAR_OK || par_backend_get("cuda", &cuda) != PAR_OK)
        cuda = NULL;
    snprintf(path + n, sizeof path - (size_t)n, "/libpar_cuda.so");
    void *file = cuda ? dlopen(path, RTLD_NOW | RTLD_NOLOAD) : NULL;
    acts = file ? dlsym(file, "standin_acts") : NULL;
    return !cuda || acts;
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {.name = "one-rank", .ranks = 1, .run_mpi = one_rank, .deadline_s = 300},
        {.name = "overflows", .ranks = 1, .run_mpi = overflows, .deadline_s = 300},
        {.name = "resumed", .ranks = 1, .run_mpi = resumed, .deadline_s = 300},
        {.name = "refused", .ranks = 1, .run_mpi = refused, .deadline_s = 300},
        {.name = "data-parallel", .ranks = 2, .run_mpi = data_parallel, .deadline_s = 300},
        {.name = "sharded", .ranks = 2, .run_mpi = sharded, .deadline_s = 300},
        {.name = "pipeline", .ranks = 2, .run_mpi = pipeline, .deadline_s = 300},
        {.name = "staged", .ranks = 2, .run_mpi = staged, .deadline_s = 300},
    };
    if (!find_module(argv[0])) return 1;
    return harness_main_mpi("graphs", cases, HARNESS_COUNT(cases), argc, argv);
}
