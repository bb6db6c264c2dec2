/*
 * Times of phases and of walks, against what they must be. On the far backend a kernel takes
 * FAR_KERNEL_S by the stream's clock and nothing else does, so times are numbers of kernels,
 * exactly: sums of a few powers of two times small integers are exact in double. On the host the
 * clock is real, and the bounds are what the test itself waited for and measured around it.
 */
#include <string.h>

#include "../harness.h"
#include "../train/far.h"
#include "libpar/base/clock.h"
#include "libpar/pipeline/executor.h"
#include "libpar/pipeline/timer.h"

enum { N = 16, M = 3, FORWARDS = 2, BACKWARDS = 5 };

/* A far stream with something for kernels to work on. */
typedef struct {
    const par_backend *backend;
    par_stream *stream;
    void *data;
} world;

static void open_world(world *w, bool eager) {
    w->backend = far_backend(eager);
    CHECK_OK(w->backend->stream_create(&w->stream));
    CHECK_OK(w->backend->memory.alloc(2 * N * sizeof(float), &w->data));
}

static void close_world(world *w) {
    CHECK_OK(w->backend->sync(w->stream));
    w->backend->memory.release(w->data, 2 * N * sizeof(float));
    w->backend->stream_destroy(w->stream);
    CHECK(far_alive() == 0, "%d blocks, streams or events left", far_alive());
}

static par_status kernels(const world *w, int n) {
    float *x = w->data;
    par_cast args = {
        .dtype_x = PAR_F32, .dtype_y = PAR_F32, .n = N, .scale = 1, .x = x, .y = x + N};
    for (int i = 0; i < n; i++) PAR_TRY(par_cast_run(w->backend, w->stream, &args, NULL));
    return PAR_OK;
}

static void span(const world *w, par__timer *t, int phase, int n) {
    CHECK_OK(par__timer_begin(t, phase, w->stream));
    CHECK_OK(kernels(w, n));
    CHECK_OK(par__timer_end(t, phase, w->stream));
}

static void expect(const par__timer *t, int64_t round, const int counts[PAR__TIMER_PHASES]) {
    double seconds[PAR__TIMER_PHASES];
    CHECK_OK(par__timer_read(t, round, seconds));
    for (int p = 0; p < PAR__TIMER_PHASES; p++)
        CHECK(seconds[p] == counts[p] * FAR_KERNEL_S, "round %lld, phase %d: %g kernels, not %d",
              (long long)round, p, seconds[p] / FAR_KERNEL_S, counts[p]);
}

/* Phase 0 is around all; 1 comes twice; between them is what belongs to no other; 3 never comes. */
static void run_sums(void) {
    for (int eager = 0; eager < 2; eager++) {
        world w;
        par__timer *t = NULL;
        open_world(&w, eager);
        CHECK_OK(par__timer_create(w.backend, 4, &t));
        for (int64_t round = 0; round < 5; round++) {
            int k = (int)round;
            CHECK(par__timer_round(t) == round, "another number than %d", k);
            CHECK_OK(par__timer_begin(t, 0, w.stream));
            span(&w, t, 1, 3 + k);
            CHECK_OK(kernels(&w, 7));
            span(&w, t, 2, 0);
            span(&w, t, 1, 11);
            CHECK_OK(par__timer_end(t, 0, w.stream));
            CHECK_OK(w.backend->sync(w.stream));
            expect(t, round, (int[PAR__TIMER_PHASES]){21 + k, 14 + k, 0, 0});
        }
        par__timer_destroy(&t);
        close_world(&w);
    }
}

/* A round is read while the next one is under way, without a wait; the next one is not there
 * yet. */
static void run_two_rounds(void) {
    world w;
    par__timer *t = NULL;
    par_event *behind = NULL;
    double seconds[PAR__TIMER_PHASES];
    bool done = false;
    open_world(&w, false);
    CHECK_OK(w.backend->event_create(&behind));
    CHECK_OK(par__timer_create(w.backend, 1, &t));
    for (int64_t round = 0; round < 6; round++) {
        par__timer_round(t);
        span(&w, t, 0, (int)round + 1);
        if (round > 0) {
            for (done = false; !done;) CHECK_OK(w.backend->event_query(behind, &done));
            far_counts_reset();
            expect(t, round - 1, (int[PAR__TIMER_PHASES]){(int)round, 0, 0, 0});
            CHECK_FAILS(par__timer_read(t, round, seconds), PAR_ERR_UNSUPPORTED, "not done");
            CHECK(far_counts_get().syncs == 0 && far_counts_get().queries == 0, "reading waited");
        }
        if (round > 1)
            CHECK_FAILS(par__timer_read(t, round - 2, seconds), PAR_ERR_INTERNAL, "the last 2");
        CHECK_OK(w.backend->event_record(w.stream, behind));
    }
    CHECK_OK(w.backend->sync(w.stream));
    par__timer_destroy(&t);
    w.backend->event_destroy(behind);
    close_world(&w);
}

static void run_misuse(void) {
    world w;
    par__timer *t = NULL;
    double seconds[PAR__TIMER_PHASES];
    open_world(&w, true);
    CHECK_OK(par__timer_create(w.backend, 1, &t));
    CHECK_FAILS(par__timer_read(t, 0, seconds), PAR_ERR_INTERNAL, "round 0 of 0");
    CHECK_FAILS(par__timer_begin(t, 0, w.stream), PAR_ERR_INTERNAL, "before the first round");
    CHECK_FAILS(par__timer_end(t, 0, w.stream), PAR_ERR_INTERNAL, "has begun");
    par__timer_round(t);
    CHECK_OK(par__timer_begin(t, 0, w.stream));
    CHECK_FAILS(par__timer_begin(t, 0, w.stream), PAR_ERR_INTERNAL, "has not ended");
    CHECK_FAILS(par__timer_begin(t, 1, w.stream), PAR_ERR_INTERNAL, "more than the 1");
    CHECK_FAILS(par__timer_end(t, 1, w.stream), PAR_ERR_INTERNAL, "no span of phase 1");
    CHECK_FAILS(par__timer_read(t, 0, seconds), PAR_ERR_INTERNAL, "has not ended");
    par__timer_round(t); /* a round that failed is left behind */
    span(&w, t, 0, 2);
    expect(t, 1, (int[PAR__TIMER_PHASES]){2, 0, 0, 0});
    par__timer_destroy(&t);
    close_world(&w);
}

static void wait_for(double seconds) {
    for (double begin = par__seconds(); par__seconds() - begin < seconds;) continue;
}

/* A host backend has no events that tell: the clock, which the test reads too, inside and
 * around. */
static void run_host(void) {
    const par_backend *cpu = NULL;
    par__timer *t = NULL;
    double seconds[PAR__TIMER_PHASES], begin = par__seconds();
    CHECK_OK(par_backend_get("cpu", &cpu));
    CHECK(!cpu->elapsed && !cpu->timed_event_create, "the cpu's events tell times");
    CHECK_OK(par__timer_create(cpu, 2, &t));
    par__timer_round(t);
    for (int i = 0; i < 2; i++) {
        CHECK_OK(par__timer_begin(t, 1, NULL));
        wait_for(0.004);
        CHECK_OK(par__timer_end(t, 1, NULL));
        wait_for(0.002);
    }
    double all = par__seconds() - begin;
    CHECK_OK(par__timer_read(t, 0, seconds));
    CHECK(seconds[1] >= 0.008 && seconds[1] <= all - 0.004 && seconds[0] == 0, "%g and %g s of %g",
          seconds[1], seconds[0], all);
    par__timer_destroy(&t);
}

/* One module: forward and backward are so many kernels, the loss is what the input holds. */
typedef struct {
    par_module base;
    world *w;
} work;

static par_status forward(par_module *m, const par_call *call, const par_tensor *x, par_tensor *y) {
    (void)call;
    (void)x;
    (void)y;
    return kernels(((work *)m)->w, FORWARDS);
}

static par_status backward(par_module *m, const par_call *call, const par_tensor *x,
                           const par_tensor *dy, par_tensor *dx) {
    (void)call;
    (void)x;
    (void)dy;
    (void)dx;
    return kernels(((work *)m)->w, BACKWARDS);
}

/* Neither phase: what belongs to the walk alone. */
static par_status load(void *user, int micro, void *x, void *targets, void *documents) {
    (void)micro;
    (void)x;
    (void)targets;
    (void)documents;
    return kernels(user, 1);
}
static par_status bucket(void *user, int number) {
    (void)user;
    (void)number;
    return PAR_OK;
}

static void no_progress(void *user) {
    (void)user;
}

/* An executor of one rank over `w`, that is enough of a mesh and a model. */
typedef struct {
    par_module_ops ops;
    work module;
    par_module *modules[1];
    par_tensor x[2];
    size_t stash_nbytes[1];
    par__chunk chunk;
    par_transport *transport;
    par_memory *memory;
    par_mesh *mesh;
    par_model model;
    par_schedule *schedules[2]; /* training, forward only */
    par__executor *executor;
} stage;

static void make_schedules(stage *s) {
    static const int no_buckets[2] = {0, 0};
    par_schedule_params p = {
        .kind = PAR_SCHEDULE_1F1B, .p = 1, .m = M, .v = 1, .first_bucket = no_buckets};
    CHECK_OK(par_schedule_create(&p, &s->schedules[0]));
    p.kind = PAR_SCHEDULE_FORWARD_ONLY;
    CHECK_OK(par_schedule_create(&p, &s->schedules[1]));
}

/* On a measuring memory, then on one of that size. */
static void make_executor(stage *s, const par__executor_params *params) {
    par_memory *measuring = NULL;
    par__executor *unused = NULL;
    CHECK_OK(par_memory_create_measuring(&measuring));
    CHECK_OK(par__executor_create(params, measuring, &unused));
    par__executor_destroy(&unused);
    CHECK_OK(par_memory_create(&params->backend->memory, &params->backend->host_memory, measuring,
                               &s->memory));
    par_memory_destroy(&measuring);
    CHECK_OK(par__executor_create(params, s->memory, &s->executor));
}

static void stage_open(stage *s, world *w, par_recompute recompute) {
    const par_layout layout = {.size = {1, 1, 1, 1}};
    *s = (stage){.ops = {.forward = forward, .backward = backward},
                 .module = {.base.ops = &s->ops, .w = w}};
    w->stream->progress = no_progress;
    s->modules[0] = &s->module.base;
    s->x[0] = par_tensor_make(NULL, PAR_F32, 1, N, 1, 1, 1);
    s->x[1] = par_tensor_make(NULL, PAR_F32, 1, 2, 1, 1, 1);
    s->model.targets = s->x[0];
    s->chunk = (par__chunk){
        .n_modules = 1, .modules = s->modules, .x = s->x, .stash_nbytes = s->stash_nbytes};
    CHECK_OK(par_transport_create_self(NULL, &s->transport));
    CHECK_OK(par_mesh_create(s->transport, &layout, NULL, NULL, &s->mesh));
    make_schedules(s);
    const par__executor_params params = {.mesh = s->mesh,
                                         .backend = w->backend,
                                         .stream = w->stream,
                                         .chunks = &s->chunk,
                                         .n_chunks = 1,
                                         .recompute = recompute,
                                         .model = &s->model,
                                         .micro_batch = 1,
                                         .schedules = s->schedules,
                                         .n_schedules = 2,
                                         .hooks = {w, load, w, bucket, bucket}};
    make_executor(s, &params);
}

static void stage_close(stage *s) {
    par__executor_destroy(&s->executor);
    for (int i = 0; i < 2; i++) par_schedule_destroy(&s->schedules[i]);
    par_mesh_destroy(&s->mesh);
    par_memory_destroy(&s->memory);
    par_transport_destroy(&s->transport);
}

static void expect_walk(stage *s, int64_t walk, int forwards, int backwards) {
    par__walk_result r = {.loss_sum = 7};
    CHECK_OK(par__executor_times(s->executor, walk, &r));
    double ticks[] = {r.forward / FAR_KERNEL_S, r.backward / FAR_KERNEL_S, r.wait / FAR_KERNEL_S,
                      r.total / FAR_KERNEL_S};
    CHECK(ticks[0] == forwards && ticks[1] == backwards && ticks[2] == M &&
              ticks[3] == forwards + backwards + M,
          "walk %lld: forward %g, backward %g, wait %g, total %g; not %d, %d, %d", (long long)walk,
          ticks[0], ticks[1], ticks[2], ticks[3], forwards, backwards, M);
    CHECK(r.walk == walk && r.loss_sum == 7 && r.load > 0, "walk %lld: not its result",
          (long long)walk);
}

/* Training and evaluation in turn, each read when the next one has been enqueued; and what is
 * refused. */
static void walks(par_recompute recompute, int backwards) {
    world w;
    stage s;
    par_event *behind = NULL;
    par__walk_result result;
    open_world(&w, false);
    stage_open(&s, &w, recompute);
    CHECK_OK(w.backend->event_create(&behind));
    for (int k = 0; k < 6 && !harness_failed(); k++) {
        const par__walk walk = {.training = k % 2 == 0, .sample_stride = 1};
        bool done = false;
        CHECK_OK(par__executor_walk(s.executor, s.schedules[k % 2], &walk, &result));
        CHECK(result.walk == k, "walk %lld, not %d", (long long)result.walk, k);
        CHECK_FAILS(par__executor_times(s.executor, k, &result), PAR_ERR_UNSUPPORTED, "not done");
        CHECK_FAILS(par__executor_times(s.executor, k + 1, &result), PAR_ERR_INTERNAL,
                    "the last 2");
        while (k > 0 && !done) CHECK_OK(w.backend->event_query(behind, &done));
        if (k > 0) expect_walk(&s, k - 1, FORWARDS * M, k % 2 ? backwards * M : 0);
        if (k > 1)
            CHECK_FAILS(par__executor_times(s.executor, k - 2, &result), PAR_ERR_INTERNAL,
                        "the last 2");
        CHECK_OK(w.backend->event_record(w.stream, behind));
    }
    CHECK_OK(w.backend->sync(w.stream));
    expect_walk(&s, 5, FORWARDS * M, 0);
    w.backend->event_destroy(behind);
    stage_close(&s);
    close_world(&w);
}

static void run_walks(void) {
    walks(PAR_RECOMPUTE_NONE, BACKWARDS);
}

/* A forward that is computed again is part of the backward. */
static void run_recompute(void) {
    walks(PAR_RECOMPUTE_FULL, FORWARDS + BACKWARDS);
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {.name = "sums", .run = run_sums},     {.name = "two-rounds", .run = run_two_rounds},
        {.name = "misuse", .run = run_misuse}, {.name = "host", .run = run_host},
        {.name = "walks", .run = run_walks},   {.name = "recompute", .run = run_recompute},
    };
    return harness_main("times", cases, HARNESS_COUNT(cases), argc, argv);
}
