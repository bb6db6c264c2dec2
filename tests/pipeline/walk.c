/*
 * The executor does what its list says, in that order: modules and hooks write down what they are
 * asked for, and the list alone tells what must have been written.
 */
#include <stdio.h>
#include <string.h>

#include "../harness.h"
#include "libpar/pipeline/executor.h"

enum { N_MODULES = 3, M = 2, NBYTES = 512 };

/* "f2.1 " is a forward of module 2 on micro-batch 1, "b" a backward, "F" and "B" those of its
 * sublayer 1, "r0 " a reduction, "g0 " the wait for a bucket's weights. */
static char written[NBYTES];

static void write_down(char what, int number, int micro) {
    size_t used = strlen(written);
    if (micro < 0)
        snprintf(written + used, sizeof written - used, "%c%d ", what, number);
    else
        snprintf(written + used, sizeof written - used, "%c%d.%d ", what, number, micro);
}

static par_status forward(par_module *m, const par_call *call, const par_tensor *x, par_tensor *y) {
    CHECK(call->sublayer < 2, "sublayer %d", call->sublayer);
    write_down(call->sublayer ? 'F' : 'f', m->layer, call->micro);
    return PAR_OK;
}

static par_status backward(par_module *m, const par_call *call, const par_tensor *x,
                           const par_tensor *dy, par_tensor *dx) {
    CHECK((dy == NULL) == (m->layer == N_MODULES - 1) && (dx == NULL) == (m->layer == 0),
          "module %d: dy %p, dx %p", m->layer, (const void *)dy, (void *)dx);
    CHECK(call->sublayer < 2, "sublayer %d", call->sublayer);
    write_down(call->sublayer ? 'B' : 'b', m->layer, call->micro);
    return PAR_OK;
}

static par_status load(void *user, int micro, void *x, void *targets, void *documents) {
    return PAR_OK;
}
static par_status reduce(void *user, int bucket) {
    write_down('r', bucket, -1);
    return PAR_OK;
}
static par_status gather(void *user, int bucket) {
    write_down('g', bucket, -1);
    return PAR_OK;
}
static void no_progress(void *user) {}

/* One rank, one chunk of three modules. */
typedef struct {
    par_module modules[N_MODULES], *list[N_MODULES];
    par_tensor x[N_MODULES + 1];
    size_t stash_nbytes[N_MODULES];
    par__chunk chunk;
    par_model model;
    const par_backend *backend;
    par_stream *stream;
    par_transport *transport;
    par_mesh *mesh;
    par_memory *memory;
    par_schedule *schedule;
    par__executor *executor;
} stage;

static void make_executor(stage *s, par_recompute recompute) {
    par_memory *measuring = NULL;
    const par__executor_params params = {.mesh = s->mesh,
                                         .backend = s->backend,
                                         .stream = s->stream,
                                         .chunks = &s->chunk,
                                         .n_chunks = 1,
                                         .recompute = recompute,
                                         .model = &s->model,
                                         .micro_batch = 1,
                                         .schedules = &s->schedule,
                                         .n_schedules = 1,
                                         .hooks = {NULL, load, NULL, reduce, gather}};
    CHECK_OK(par_memory_create_measuring(&measuring));
    CHECK_OK(par__executor_create(&params, measuring, &s->executor));
    par__executor_destroy(&s->executor);
    CHECK_OK(
        par_memory_create(&s->backend->memory, &s->backend->host_memory, measuring, &s->memory));
    par_memory_destroy(&measuring);
    CHECK_OK(par__executor_create(&params, s->memory, &s->executor));
}

/* Module `twofold` has two sublayers; -1: none has. */
static void stage_open(stage *s, const par_schedule_params *schedule, par_recompute recompute,
                       int twofold) {
    static const par_module_ops ops[] = {
        {.forward = forward, .backward = backward},
        {.forward = forward, .backward = backward, .n_sublayers = 2}};
    const par_layout layout = {.size = {1, 1, 1, 1}};
    *s = (stage){0};
    for (int i = 0; i < N_MODULES; i++) {
        s->modules[i] = (par_module){.ops = &ops[i == twofold], .layer = (int16_t)i};
        s->list[i] = &s->modules[i];
    }
    for (int i = 0; i <= N_MODULES; i++) s->x[i] = par_tensor_make(NULL, PAR_F32, 1, 2, 1, 1, 1);
    s->model.targets = s->x[0];
    s->chunk = (par__chunk){
        .n_modules = N_MODULES, .modules = s->list, .x = s->x, .stash_nbytes = s->stash_nbytes};
    CHECK_OK(par_backend_get("ref", &s->backend));
    CHECK_OK(s->backend->stream_create(&s->stream));
    s->stream->progress = no_progress;
    CHECK_OK(par_transport_create_self(NULL, &s->transport));
    CHECK_OK(par_mesh_create(s->transport, &layout, NULL, NULL, &s->mesh));
    CHECK_OK(par_schedule_create(schedule, &s->schedule));
    CHECK_OK(par_schedule_check(&s->schedule, 1));
    make_executor(s, recompute);
}

static void stage_close(stage *s) {
    par__executor_destroy(&s->executor);
    par_schedule_destroy(&s->schedule);
    par_mesh_destroy(&s->mesh);
    par_memory_destroy(&s->memory);
    par_transport_destroy(&s->transport);
    s->backend->stream_destroy(s->stream);
}

/* Two buckets that are complete with these sublayers. Twice, since a walk must leave nothing
 * behind. */
static void walk(par_recompute recompute, int twofold, const int16_t sublayers[2],
                 const char *expected) {
    static const int first[] = {0, 2};
    const par_schedule_params params = {.kind = PAR_SCHEDULE_1F1B,
                                        .p = 1,
                                        .m = M,
                                        .v = 1,
                                        .first_bucket = first,
                                        .bucket_sublayer = sublayers,
                                        .n_last_buckets = 1};
    stage s;
    stage_open(&s, &params, recompute, twofold);
    for (int k = 0; k < 2; k++) {
        const par__walk w = {.training = true, .sample_stride = 1};
        par__walk_result result;
        written[0] = 0;
        CHECK_OK(par__executor_walk(s.executor, s.schedule, &w, &result));
        CHECK(strcmp(written, expected) == 0, "walk %d: %s", k, written);
        CHECK_OK(par__executor_times(s.executor, k, &result));
    }
    stage_close(&s);
}

/* Bucket 0 is read from module 2 on and complete with it, bucket 1 with module 1; bucket 2 is tied,
 * the first to be read and the last of all. */
static void buckets(void) {
    walk(PAR_RECOMPUTE_NONE, -1, (int16_t[]){2, 1},
         "g2 f0.0 g1 f1.0 g0 f2.0 b2.0 b1.0 b0.0 f0.1 f1.1 f2.1 "
         "b2.1 r0 b1.1 r1 b0.1 r2 ");
}

/* Computed again once, in front of the first part. */
static void recomputed(void) {
    walk(PAR_RECOMPUTE_FULL, -1, (int16_t[]){2, 1},
         "g2 f0.0 g1 f1.0 g0 f2.0 f0.0 f1.0 f2.0 b2.0 b1.0 b0.0 "
         "f0.1 f1.1 f2.1 f0.1 f1.1 f2.1 b2.1 r0 b1.1 r1 b0.1 r2 ");
}

/* Sublayers 1 and 2 are module 1's. Its forward and its backward are cut between them. */
static void cut_within(void) {
    walk(PAR_RECOMPUTE_NONE, 1, (int16_t[]){2, 1},
         "g2 f0.0 g1 f1.0 g0 F1.0 f2.0 b2.0 B1.0 b1.0 b0.0 "
         "f0.1 f1.1 F1.1 f2.1 b2.1 B1.1 r0 b1.1 r1 b0.1 r2 ");
}

/* The same in the chunk's first module, whose recomputation is not cut. */
static void cut_within_first(void) {
    walk(PAR_RECOMPUTE_FULL, 0, (int16_t[]){1, 0},
         "g2 g1 f0.0 g0 F0.0 f1.0 f2.0 f0.0 F0.0 f1.0 f2.0 b2.0 "
         "b1.0 B0.0 b0.0 f0.1 F0.1 f1.1 f2.1 f0.1 F0.1 f1.1 f2.1 b2.1 b1.1 B0.1 r0 b0.1 "
         "r1 r2 ");
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {.name = "buckets", .run = buckets},
        {.name = "recomputed", .run = recomputed},
        {.name = "cut-within", .run = cut_within},
        {.name = "cut-within-first", .run = cut_within_first},
    };
    return harness_main("walk", cases, HARNESS_COUNT(cases), argc, argv);
}
