/*
 * The cuda backend's timed events. On the stand-in, by its virtual clock, where a kernel takes one
 * tick and nothing else does: what lies between two events is a number of ticks, exactly, also
 * where a stream stands still for another one. With PAR_TEST_GPU=1 on a GPU: no less than nothing,
 * and no more than the host saw. Both refuse events that cannot tell.
 */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/clock.h"
#include "par/kernels.h"
#include "tests/harness.h"

#define TICK      (1.0 / 1024)
#define TICK_TEXT "0.0009765625"

enum { N = 64, EVENTS = 4 };

static const par_backend *cuda;
static bool on_gpu;

static bool ready(void) {
    if (!cuda) harness_skip("this build has no stand-in of the cuda module");
    return cuda;
}

typedef struct {
    par_stream *streams[2];
    par_event *events[EVENTS], *untimed;
    void *data;
} world;

static void open_world(world *w) {
    *w = (world){.data = NULL};
    for (int i = 0; i < 2; i++) CHECK_OK(cuda->stream_create(&w->streams[i]));
    for (int i = 0; i < EVENTS; i++) CHECK_OK(cuda->timed_event_create(&w->events[i]));
    CHECK_OK(cuda->event_create(&w->untimed));
    CHECK_OK(cuda->memory.alloc(2 * N * sizeof(float), &w->data));
}

static void close_world(world *w) {
    for (int i = 0; i < 2; i++) CHECK_OK(cuda->sync(w->streams[i]));
    cuda->memory.release(w->data, 0);
    cuda->event_destroy(w->untimed);
    for (int i = 0; i < EVENTS; i++) cuda->event_destroy(w->events[i]);
    for (int i = 0; i < 2; i++) cuda->stream_destroy(w->streams[i]);
}

static void kernels(const world *w, int stream, int n) {
    float *x = w->data;
    par_cast args = {
        .dtype_x = PAR_F32, .dtype_y = PAR_F32, .n = N, .scale = 1, .x = x, .y = x + N};
    for (int i = 0; i < n; i++) CHECK_OK(par_cast_run(cuda, w->streams[stream], &args, NULL));
}

static void record(const world *w, int stream, int event) {
    CHECK_OK(cuda->event_record(w->streams[stream], w->events[event]));
}

static void expect(const world *w, int from, int to, int ticks) {
    double s = -1;
    CHECK_OK(cuda->elapsed(w->events[from], w->events[to], &s));
    CHECK(on_gpu ? s >= 0 : s == ticks * TICK, "from %d to %d: %.9g ticks, not %d", from, to,
          s / TICK, ticks);
}

static void test_refusals(void) {
    world w;
    double s;
    if (!ready()) return;
    open_world(&w);
    CHECK_OK(cuda->event_record(w.streams[0], w.untimed));
    record(&w, 0, 0);
    CHECK_OK(cuda->sync(w.streams[0]));
    CHECK_FAILS(cuda->elapsed(w.events[0], w.events[1], &s), PAR_ERR_ARG, "cudaEventElapsedTime");
    CHECK_FAILS(cuda->elapsed(w.untimed, w.events[0], &s), PAR_ERR_ARG, "cudaEventElapsedTime");
    CHECK_OK(cuda->elapsed(w.events[0], w.events[0], &s));
    kernels(&w, 0, 1);
    record(&w, 0, 1);
    if (!on_gpu) /* there the kernel may have ended */
        CHECK_FAILS(cuda->elapsed(w.events[0], w.events[1], &s), PAR_ERR_ARG,
                    "cudaEventElapsedTime");
    kernels(&w, 0, 1); /* a launch looks for errors that were left behind */
    CHECK_OK(cuda->sync(w.streams[0]));
    CHECK_OK(cuda->elapsed(w.events[0], w.events[1], &s));
    close_world(&w);
}

static void test_one_stream(void) {
    float host[N];
    world w;
    if (!ready()) return;
    open_world(&w);
    CHECK_OK(cuda->zero(w.streams[0], w.data, sizeof host));
    for (int round = 0; round < 3; round++) { /* events may be recorded again */
        double begin = par__seconds(), s = 0;
        record(&w, 0, 0);
        kernels(&w, 0, 3 + round);
        record(&w, 0, 1);
        CHECK_OK(cuda->copy(w.streams[0], host, w.data, sizeof host));
        record(&w, 0, 2);
        kernels(&w, 0, 20);
        record(&w, 0, 3);
        CHECK_OK(cuda->sync(w.streams[0]));
        double all = par__seconds() - begin;
        expect(&w, 0, 1, 3 + round);
        expect(&w, 1, 2, 0);
        expect(&w, 0, 3, 23 + round);
        CHECK_OK(cuda->elapsed(w.events[0], w.events[3], &s));
        CHECK(!on_gpu || (s > 0 && s <= all), "%g s, of which the host saw %g", s, all);
    }
    close_world(&w);
}

/* Stream 1 has 2 kernels, then waits for the first 9 of stream 0's, then has 1; stream 0's later
 * ones, and a record of the same event behind them, do not matter. */
static void test_waiting(void) {
    world w;
    if (!ready()) return;
    open_world(&w);
    kernels(&w, 0, 9);
    CHECK_OK(cuda->event_record(w.streams[0], w.untimed));
    record(&w, 1, 0);
    kernels(&w, 1, 2);
    record(&w, 1, 1);
    CHECK_OK(cuda->wait(w.streams[1], w.untimed));
    record(&w, 1, 2);
    kernels(&w, 0, 30);
    CHECK_OK(cuda->event_record(w.streams[0], w.untimed));
    kernels(&w, 1, 1);
    record(&w, 1, 3);
    CHECK_OK(cuda->sync(w.streams[0]));
    CHECK_OK(cuda->sync(w.streams[1]));
    expect(&w, 0, 1, 2);
    expect(&w, 1, 2, 7);
    expect(&w, 2, 3, 1);
    expect(&w, 0, 3, 10);
    close_world(&w);
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {.name = "refusals", .run = test_refusals},
        {.name = "one_stream", .run = test_one_stream},
        {.name = "waiting", .run = test_waiting},
    };
    const par_device_params params = {.local_size = 1, .device = -1};
    char path[1024];
    const char *slash = strrchr(argv[0], '/'), *gpu = getenv("PAR_TEST_GPU");
    on_gpu = gpu && strcmp(gpu, "1") == 0;
    snprintf(path, sizeof path, "%.*s/cuda", slash ? (int)(slash - argv[0]) : 1,
             slash ? argv[0] : ".");
    if (!on_gpu) setenv("PAR_MODULE_PATH", path, 1);
    setenv("PAR_STANDIN", "lazy", 1); /* what has been enqueued is not done */
    setenv("PAR_STANDIN_TICK", TICK_TEXT, 1);
    if (par_device_select(&params) != PAR_OK || par_backend_get("cuda", &cuda) != PAR_OK)
        cuda = NULL;
    return harness_main("cuda_times", cases, HARNESS_COUNT(cases), argc, argv);
}
