/*
 * Any layout in, any layout out: a trainer of each of ten layouts of 8 ranks saves, and trainers of
 * others resume. Master weights and both moments, gathered to global shape, must be the same bits,
 * and the next sample the same. A layout resumes as the next one and the one after three; all 100
 * ordered pairs with PAR_RESHARD_ALL=1. Precisions go round: fp32, bf16, fp16.
 *
 * A trainer for inference resumes each third of them, with the weights of a trainer that can train.
 *
 * Then the library alone: a user's own matrix, vector and blobs, saved by 8 ranks as rows and
 * loaded as columns, and read without MPI; and tensors that the ranks do not hold once.
 */
#define _GNU_SOURCE
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../harness.h"
#include "../train/check.h"

enum { LAYOUTS = 10, STATES = 3 };

static const struct {
    int tp, pp, dp, zero, chunks;
} layouts[LAYOUTS] = {{8, 1, 1, 0, 1}, {4, 2, 1, 0, 1}, {4, 1, 2, 1, 1}, {2, 4, 1, 0, 1},
                      {2, 2, 2, 1, 2}, {2, 1, 4, 0, 1}, {1, 8, 1, 0, 1}, {1, 4, 2, 1, 1},
                      {1, 2, 4, 1, 2}, {1, 1, 8, 1, 1}};

typedef struct {
    MPI_Comm comm;
    par_transport *transport;
    par_model *model;
    par_transformer_config config;
    check_data data;
    check_table table;
    char directory[300];
    float *saved[STATES], *loaded[STATES];
} experiment;

static par_trainer_params params_of(const experiment *e, int layout, par_dtype dtype) {
    par_trainer_params p =
        check_params(e->model, layouts[layout].tp, layouts[layout].pp, layouts[layout].dp, 1, 8);
    p.zero = layouts[layout].zero;
    p.chunks = layouts[layout].chunks;
    if (p.chunks > 1) p.schedule = PAR_SCHEDULE_INTERLEAVED;
    p.bucket_n = 3000;
    p.dtype = dtype;
    return p;
}

static par_status gather(par_trainer *t, experiment *e, float **out) {
    static const par_state states[STATES] = {PAR_STATE_WEIGHT, PAR_STATE_M, PAR_STATE_V};
    for (int i = 0; i < STATES; i++) PAR_TRY(check_gather(t, &e->table, states[i], out[i]));
    return PAR_OK;
}

/* Two steps, then a checkpoint; its state stays in e->saved. */
static par_status save(experiment *e, int layout, par_dtype dtype) {
    static par_checkpoint_result result;
    par_trainer_params p = params_of(e, layout, dtype);
    par_trainer *t = NULL;
    par_vote vote;
    par_source source = check_source(&e->data);
    const par_checkpoint_params to = {.directory = e->directory, .keep = 1, .step = 2, .loss = 1};
    PAR_TRY(check_fit(&e->config, &p));
    PAR_TRY(par_trainer_create(e->transport, &p, &t));
    par_status st = PAR_OK;
    for (int i = 0; st == PAR_OK && i < 2; i++)
        st = par_trainer_step(t, &source, 0.01f, false, &vote);
    if (st == PAR_OK) st = par_trainer_save(t, &to, &result);
    if (st == PAR_OK) st = gather(t, e, e->saved);
    par_trainer_destroy(&t);
    return st;
}

static par_status resume(experiment *e, int layout, par_dtype dtype, int64_t *consumed) {
    static par_checkpoint_result result;
    par_trainer_params p = params_of(e, layout, dtype);
    par_trainer *t = NULL;
    const par_checkpoint_about about = {0};
    p.seed = 99; /* other initial weights, so that nothing is right by chance */
    PAR_TRY(check_fit(&e->config, &p));
    PAR_TRY(par_trainer_create(e->transport, &p, &t));
    par_status st = par_trainer_resume(t, e->directory, &about, &result);
    if (st == PAR_OK) st = gather(t, e, e->loaded);
    *consumed = par_trainer_consumed(t);
    par_trainer_destroy(&t);
    return st;
}

static void one_pair(experiment *e, int from, int to, par_dtype dtype) {
    int64_t consumed = 0;
    CHECK_OK(resume(e, to, dtype, &consumed));
    CHECK(consumed == 16, "%d to %d: %lld samples", from, to, (long long)consumed);
    for (int i = 0; i < STATES && e->table.rank == 0; i++)
        CHECK(memcmp(e->saved[i], e->loaded[i], (size_t)e->table.total * sizeof(float)) == 0,
              "%d to %d in %s: state %d differs", from, to, par_dtype_name(dtype), i);
}

static int64_t count(const par_param *p) {
    return p->local[0] * p->local[1];
}

/* The bytes of this rank's weights after a resume; malloc'ed. */
static par_status weights(experiment *e, int layout, par_dtype dtype, bool inference, char **out,
                          size_t *nbytes) {
    static par_checkpoint_result result;
    par_trainer_params p = params_of(e, layout, dtype);
    par_trainer *t = NULL;
    const par_checkpoint_about about = {0};
    p.undrawn = p.inference = inference;
    if (inference) p.optimizer = PAR_SGD; /* which it does not have */
    PAR_TRY(check_fit(&e->config, &p));
    PAR_TRY(par_trainer_create(e->transport, &p, &t));
    par_status st = par_trainer_resume(t, e->directory, &about, &result);
    *nbytes = 0;
    for (int i = 0; i < par_trainer_n_params(t); i++)
        *nbytes += (size_t)count(par_trainer_param(t, i)) * par_dtype_nbytes(dtype);
    char *to = *out = malloc(*nbytes);
    for (int i = 0; i < par_trainer_n_params(t); i++) {
        const par_param *param = par_trainer_param(t, i);
        size_t n = (size_t)count(param) * par_dtype_nbytes(dtype);
        memcpy(to, param->weight, n);
        to += n;
    }
    par_trainer_destroy(&t);
    return st;
}

static void one_inference(experiment *e, int from, int to, par_dtype dtype) {
    char *bytes[2] = {NULL};
    size_t n[2] = {0};
    for (int i = 0; i < 2; i++) CHECK_OK(weights(e, to, dtype, i == 1, &bytes[i], &n[i]));
    CHECK(n[0] == n[1] && bytes[0] && bytes[1] && memcmp(bytes[0], bytes[1], n[0]) == 0,
          "%d to %d in %s, for inference: weights differ", from, to, par_dtype_name(dtype));
    for (int i = 0; i < 2; i++) free(bytes[i]);
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *where) {
    (void)info, (void)type, (void)where;
    return remove(path);
}

static void make_directory(MPI_Comm comm, char *directory, int nbytes) {
    const char *root = getenv("TMPDIR");
    int rank;
    MPI_Comm_rank(comm, &rank);
    snprintf(directory, (size_t)nbytes, "%.200s/par-reshard-XXXXXX", root && *root ? root : "/tmp");
    if (rank == 0 && !mkdtemp(directory)) harness_fail(__FILE__, __LINE__, "no directory");
    MPI_Bcast(directory, nbytes, MPI_CHAR, 0, comm);
}

static void remove_directory(MPI_Comm comm, const char *directory) {
    int rank;
    MPI_Barrier(comm);
    MPI_Comm_rank(comm, &rank);
    if (rank == 0) nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void pairs(par_transport *transport, bool llama) {
    static const par_dtype dtypes[] = {PAR_F32, PAR_BF16, PAR_F16};
    const char *missing = par_checkpoint_missing();
    bool all = getenv("PAR_RESHARD_ALL") != NULL;
    if (missing) {
        harness_skip("%s", missing);
        return;
    }
    experiment e = {.transport = transport, .comm = check_comm(transport)};
    check_config(llama, &e.config);
    CHECK_OK(par_transformer_create(&e.config, &e.model));
    e.data = (check_data){.vocab = e.config.vocab, .T = e.config.tokens};
    par_trainer_params first = params_of(&e, LAYOUTS - 1, PAR_F32);
    CHECK_OK(check_table_create(&first, e.comm, &e.table));
    for (int i = 0; i < STATES; i++) {
        e.saved[i] = calloc((size_t)e.table.total, sizeof(float));
        e.loaded[i] = calloc((size_t)e.table.total, sizeof(float));
    }
    make_directory(e.comm, e.directory, (int)sizeof e.directory);
    for (int from = 0; from < LAYOUTS && !harness_failed(); from++) {
        if (!all && (from % 2 == 0) != llama) continue;
        CHECK_OK(save(&e, from, dtypes[from % 3]));
        for (int k = 0; k < LAYOUTS && !harness_failed(); k++)
            if (all || k == 1 || k == 3)
                one_pair(&e, from, (from + k) % LAYOUTS, dtypes[(from + (k == 3)) % 3]);
        if (from % 3 == 0 && !harness_failed())
            for (int k = 0; k < 3; k++) one_inference(&e, from, (from + 5) % LAYOUTS, dtypes[k]);
    }
    remove_directory(e.comm, e.directory);
    for (int i = 0; i < STATES; i++) free(e.saved[i]), free(e.loaded[i]);
    check_table_destroy(&e.table);
    par_transformer_destroy(&e.model);
    MPI_Comm_free(&e.comm);
}

static void gpt(par_transport *transport) {
    pairs(transport, false);
}
static void llama(par_transport *transport) {
    pairs(transport, true);
}

enum { ROWS = 19, COLUMNS = 8 };

static float value(int64_t row, int64_t column) {
    return (float)(row * 100 + column) + 0.5f;
}

/* This rank's rows of the matrix, or its columns, with a column of padding. */
static par_checkpoint_run matrix(int rank, int size, bool by_rows, float *data) {
    int64_t first = rank * ROWS / size, end = (rank + 1) * ROWS / size;
    par_checkpoint_run run = {.kind = "mine", .name = "matrix", .data = data, .ndim = 2};
    int64_t *extent = run.extent, *local = run.local;
    run.global[0] = ROWS;
    run.global[1] = COLUMNS;
    run.offset[0] = by_rows ? first : 0;
    run.offset[1] = by_rows ? 0 : rank * COLUMNS / size;
    extent[0] = by_rows ? end - first : ROWS;
    extent[1] = by_rows ? COLUMNS : (rank + 1) * COLUMNS / size - run.offset[1];
    local[0] = extent[0];
    local[1] = extent[1] + 1;
    run.n = local[0] * local[1];
    return run;
}

static void check_matrix(const par_checkpoint_run *run, const float *data) {
    for (int64_t i = 0; i < run->local[0]; i++)
        for (int64_t k = 0; k < run->local[1]; k++) {
            float want = k < run->extent[1] ? value(run->offset[0] + i, run->offset[1] + k) : 0;
            CHECK(data[i * run->local[1] + k] == want, "element %lld, %lld is %g", (long long)i,
                  (long long)k, (double)data[i * run->local[1] + k]);
        }
}

/* Any rectangle, without MPI. */
static void read_alone(const char *directory, int size) {
    par_checkpoint *c = NULL;
    int n = 0;
    float out[5 * 3];
    int64_t numbers[2] = {0};
    const int64_t offset[2] = {7, 2}, extent[2] = {5, 3}, first[2] = {0, 0}, one[2] = {1, 1};
    CHECK_OK(par_checkpoint_open(directory, NULL, &c));
    const par_checkpoint_tensor *t = par_checkpoint_find(c, "mine", "matrix");
    const par_checkpoint_tensor *blob = par_checkpoint_find(c, "mine", "number");
    const par_checkpoint_tensor *column = par_checkpoint_find(c, "mine", "column");
    CHECK(t && t->ndim == 2 && t->global[0] == ROWS && blob && blob->ndim == 0, "not found");
    CHECK(column && column->ndim == 2 && column->global[0] == size && column->global[1] == 1,
          "a matrix of one column is another tensor");
    CHECK_OK(par_checkpoint_read(c, t, offset, extent, PAR_F32, out));
    for (int i = 0; i < 15; i++)
        CHECK(out[i] == value(7 + i / 3, 2 + i % 3), "element %d is %g", i, (double)out[i]);
    CHECK_OK(par_checkpoint_read(c, blob, first, one, PAR_I64, numbers));
    CHECK(numbers[0] == 1000 && numbers[1] == 0, "blob %lld", (long long)numbers[0]);
    for (int r = 0; r <= par_checkpoint_info(c)->n_ranks; r++)
        CHECK_OK(par_checkpoint_verify(c, r));
    const par_checkpoint_pair *p = par_checkpoint_pairs(c, &n);
    CHECK(n == 1 && strcmp(p->name, "color") == 0 && strcmp(p->value, "blue") == 0, "%d pairs", n);
    par_checkpoint_close(&c);
}

static void own(par_transport *transport) {
    if (par_checkpoint_missing()) {
        harness_skip("%s", par_checkpoint_missing());
        return;
    }
    static par_checkpoint_result result;
    const par_comm_params world = {.axis = "world"};
    MPI_Comm comm = check_comm(transport);
    char directory[300];
    int rank = par_transport_rank(transport), size = par_transport_size(transport);
    float data[ROWS * (COLUMNS + 1)];
    int64_t number = 1000 + rank;
    const par_checkpoint_pair color = {"color", "blue", PAR_CHECKPOINT_EQUAL};
    const par_checkpoint_about about = {.pairs = &color, .n = 1};
    par_comm *group = NULL;
    make_directory(comm, directory, (int)sizeof directory);
    CHECK_OK(par_comm_create(transport, &world, NULL, &group));
    par_checkpoint_run runs[3] = {matrix(rank, size, true, data),
                                  {.kind = "mine", .name = "number", .dtype = PAR_I64, .n = 1},
                                  {.kind = "mine",
                                   .name = "column",
                                   .dtype = PAR_I64,
                                   .n = 1,
                                   .ndim = 2,
                                   .global = {size, 1},
                                   .offset = {rank, 0},
                                   .extent = {1, 1},
                                   .local = {1, 1}}};
    runs[1].data = runs[2].data = &number;
    for (int64_t i = 0; i < runs[0].n; i++)
        data[i] = value(runs[0].offset[0] + i / (COLUMNS + 1), i % (COLUMNS + 1));
    par_checkpoint_params params = {.directory = directory, .step = 1, .loss = 0, .about = about};
    CHECK_OK(par_checkpoint_save(group, &params, runs, 3, &result));
    runs[0] = matrix(rank, size, false, data);
    memset(data, 0xff, sizeof data);
    number = 0;
    CHECK_OK(par_checkpoint_load(group, directory, &about, runs, 2, &result));
    CHECK(number == 1000 + rank, "the blob of another rank: %lld", (long long)number);
    check_matrix(&runs[0], data);
    if (rank == 0 && !harness_failed()) read_alone(directory, size);
    /* A rank that has a name twice: refused on all, also by a check, and not as an error of the
     * disk. */
    runs[2] = runs[1];
    params.step = 2;
    params.check_only = true;
    CHECK_FAILS(par_checkpoint_save(group, &params, runs, rank == size - 1 ? 3 : 2, &result),
                PAR_ERR_ARG, "mine/number: is twice");
    const par_checkpoint_pair latin = {"color", "br\xFBn", PAR_CHECKPOINT_STATED};
    params.about.pairs = &latin;
    CHECK_FAILS(par_checkpoint_save(group, &params, runs, 2, &result), PAR_ERR_ARG,
                "color: what is said of the checkpoint is not UTF-8");
    params.about = about;
    runs[1].name = "num\xFFo";
    CHECK_FAILS(par_checkpoint_save(group, &params, runs, 2, &result), PAR_ERR_ARG, "of UTF-8");
    runs[1].name = runs[2].name;
    params.check_only = false;
    CHECK_FAILS(par_checkpoint_save(group, &params, runs, rank == size - 1 ? 3 : 2, &result),
                PAR_ERR_ARG, "mine/number: is twice");
    /* Two ranks that hold the same element: refused on all. */
    runs[0].extent[1]++;
    runs[0].offset[1] = 0;
    params.step = 2;
    CHECK_FAILS(par_checkpoint_save(group, &params, runs, 2, &result), PAR_ERR_ARG, "each of them");
    par_comm_destroy(&group);
    remove_directory(comm, directory);
    MPI_Comm_free(&comm);
}

/* Tensors that the ranks do not have each element of once: what each of two ranks holds of one of 8
 * elements, [first, end), and which copy that is; the second one may say another shape. */
static const struct {
    const char *what, *message;
    struct {
        int first, end, replica;
    } holds[2];
    int other;
} wrong[] = {
    {"copies alone", "mine/vector: would not be saved", {{0, 8, 1}, {0, 8, 2}}, 0},
    {"copies of parts", "mine/vector: would not be saved", {{0, 4, 1}, {4, 8, 3}}, 0},
    {"twice", "mine/vector: the ranks hold 16 elements of [8, 1]", {{0, 8, 0}, {0, 8, 0}}, 0},
    {"a part twice",
     "mine/vector: the ranks hold 10 elements of [8, 1]",
     {{0, 5, 0}, {3, 8, 0}},
     0},
    {"a gap", "mine/vector: the ranks hold 6 elements of [8, 1]", {{0, 3, 0}, {5, 8, 0}}, 0},
    {"a gap behind a copy", "the ranks hold 4 elements of [8, 1]", {{0, 4, 0}, {4, 8, 1}}, 0},
    {"a part twice and a gap", "the ranks hold 8 elements of [8, 1]", {{0, 4, 0}, {0, 4, 0}}, 0},
    {"another copy", "rank 1 has a copy of [9, 1] in fp32", {{0, 8, 0}, {0, 8, 1}}, 9},
};

typedef enum { CHECK, AT_ONCE, BEHIND, WAYS } way;

static par_status save_either(par_comm *group, const par_checkpoint_params *params,
                              const par_checkpoint_run *runs, int n, way how) {
    static par_checkpoint_result result;
    par_checkpoint_saving *saving = NULL;
    par_checkpoint_params check = *params;
    check.check_only = true;
    if (how == CHECK) return par_checkpoint_save(group, &check, runs, n, &result);
    if (how == AT_ONCE) return par_checkpoint_save(group, params, runs, n, &result);
    PAR_TRY(par_checkpoint_save_begin(group, params, runs, n, &saving));
    return par_checkpoint_save_end(&saving, &result);
}

/* Each is refused on every rank with its name, by a check already, at once and in the background;
 * so is a blob of which all are copies. What is right is saved beside them, and nothing else is
 * left; a check leaves nothing. */
static void own_wrong(par_transport *transport) {
    if (par_checkpoint_missing()) {
        harness_skip("%s", par_checkpoint_missing());
        return;
    }
    const par_comm_params world = {.axis = "world"};
    MPI_Comm comm = check_comm(transport);
    int rank = par_transport_rank(transport);
    char directory[300], path[400];
    float data[8] = {0.5f};
    par_comm *group = NULL;
    make_directory(comm, directory, (int)sizeof directory);
    CHECK_OK(par_comm_create(transport, &world, NULL, &group));
    for (int i = 0; i < WAYS * HARNESS_COUNT(wrong); i++) {
        way how = (way)(i % WAYS);
        int k = i / WAYS, first = wrong[k].holds[rank].first, end = wrong[k].holds[rank].end;
        par_checkpoint_run runs[2] = {{.kind = "mine", .name = "here", .dtype = PAR_F32, .n = 1},
                                      {.kind = "mine", .name = "vector", .dtype = PAR_F32}};
        const par_checkpoint_params params = {.directory = directory, .step = i};
        runs[0].data = runs[1].data = data;
        runs[1].n = runs[1].extent[0] = runs[1].local[0] = end - first;
        runs[1].offset[0] = first;
        runs[1].replica = wrong[k].holds[rank].replica;
        runs[1].global[0] = wrong[k].other && rank ? wrong[k].other : 8;
        runs[1].ndim = 1;
        runs[1].global[1] = runs[1].extent[1] = runs[1].local[1] = 1;
        CHECK_FAILS(save_either(group, &params, runs, 2, how), PAR_ERR_ARG, wrong[k].message);
        snprintf(path, sizeof path, "%s/step_%08d", directory, i);
        CHECK(access(path, F_OK) != 0, "%s: %s is there", wrong[k].what, path);
        runs[1].ndim = 0;
        runs[1].replica = 1 + rank;
        CHECK_FAILS(save_either(group, &params, runs, 2, how), PAR_ERR_ARG,
                    "mine/vector: would not be saved");
        CHECK_OK(save_either(group, &params, runs, 1, how));
        CHECK((access(path, F_OK) == 0) == (how != CHECK), "%s", path);
    }
    par_comm_destroy(&group);
    remove_directory(comm, directory);
    MPI_Comm_free(&comm);
}

/* On the last rank one thing is another: refused on all ranks, by name. */
static void own_unequal(par_transport *transport) {
    if (par_checkpoint_missing()) {
        harness_skip("%s", par_checkpoint_missing());
        return;
    }
    static const char *const names[] = {"directory",  "keep",      "keep_every", "keep_best",
                                        "step",       "consumed",  "updates",    "loss",
                                        "validation", "check_only"};
    const par_comm_params world = {.axis = "world"};
    const par_checkpoint_about about = {0};
    MPI_Comm comm = check_comm(transport);
    const bool other = par_transport_rank(transport) == par_transport_size(transport) - 1;
    char directory[300];
    float data[1] = {0.5f};
    par_checkpoint_run run = {
        .kind = "mine", .name = "here", .dtype = PAR_F32, .n = 1, .data = data};
    par_checkpoint_result result;
    par_comm *group = NULL;
    make_directory(comm, directory, (int)sizeof directory);
    CHECK_OK(par_comm_create(transport, &world, NULL, &group));
    for (int i = 0; i < WAYS * HARNESS_COUNT(names); i++) {
        par_checkpoint_params p = {.directory = directory, .step = 1};
        int k = i / WAYS;
        if (other && k == 0) p.directory = "elsewhere";
        if (other && k == 1) p.keep = -1; /* not even legal, which is said first */
        if (other && k == 2) p.keep_every = 2;
        if (other && k == 3) p.keep_best = 2;
        if (other && k == 4) p.step = 2;
        if (other && k == 5) p.consumed = 3;
        if (other && k == 6) p.updates = 3;
        if (other && k == 7) p.loss = 1.5;
        if (other && k == 8) p.validation = 1.5;
        if (other && k == 9) p.check_only = true;
        if (k == 9 && i % WAYS != AT_ONCE) continue;
        par_status st = save_either(group, &p, &run, 1, (way)(i % WAYS));
        CHECK(st == (k == 1 ? PAR_ERR_ARG : PAR_ERR_OPTION) && strstr(par_error(), names[k]),
              "%s: %d, \"%s\"", names[k], (int)st, par_error());
    }
    CHECK_OK(save_either(group, &(par_checkpoint_params){.directory = directory, .step = 1}, &run,
                         1, AT_ONCE));
    CHECK_FAILS(
        par_checkpoint_load(group, other ? "elsewhere" : directory, &about, &run, 1, &result),
        PAR_ERR_OPTION, "the load's directory is \"elsewhere\" here and \"");
    par_comm_destroy(&group);
    remove_directory(comm, directory);
    MPI_Comm_free(&comm);
}

static const harness_case cases[] = {
    {"own-tensors", NULL, 8, own, 60},
    {"own-wrong", NULL, 2, own_wrong, 60},
    {"own-unequal", NULL, 2, own_unequal, 60},
    {"gpt", NULL, 8, gpt, 600},
    {"llama", NULL, 8, llama, 600},
};

int main(int argc, char **argv) {
    return harness_main_mpi("reshard", cases, HARNESS_COUNT(cases), argc, argv);
}
