/*
 * Graphs of the cuda backend: what is captured does not run, each launch runs it with the arguments
 * of the capture and records its timed events, and what a graph could not repeat is refused, with
 * the stream as good as before. PAR_TEST_GPU=1: the same on a GPU.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "par/kernels.h"
#include "tests/harness.h"

enum { N = 64, NBYTES = N * sizeof(float) };

static const par_backend *cuda;
static bool on_gpu;

typedef struct {
    par_stream *streams[2];
    par_event *events[2], *timed[2];
    float *host, *device; /* [N] pinned, [2][N] */
} world;

static bool open_world(world *w) {
    void *host = NULL, *device = NULL;
    *w = (world){.host = NULL};
    if (!cuda) {
        harness_skip("this build has no stand-in of the cuda module");
        return false;
    }
    for (int i = 0; i < 2; i++) {
        CHECK_OK(cuda->stream_create(&w->streams[i]));
        CHECK_OK(cuda->event_create(&w->events[i]));
        CHECK_OK(cuda->timed_event_create(&w->timed[i]));
    }
    CHECK_OK(cuda->host_memory.alloc(NBYTES, &host));
    CHECK_OK(cuda->memory.alloc(2 * NBYTES, &device));
    w->host = host;
    w->device = device;
    return true;
}

static void close_world(world *w) {
    for (int i = 0; i < 2; i++) CHECK_OK(cuda->sync(w->streams[i]));
    for (int i = 0; i < 2; i++) {
        cuda->event_destroy(w->events[i]);
        cuda->event_destroy(w->timed[i]);
        cuda->stream_destroy(w->streams[i]);
    }
    cuda->host_memory.release(w->host, NBYTES);
    cuda->memory.release(w->device, 2 * NBYTES);
}

/* x times `scale` to the device's second half. */
static par_status multiply(const world *w, int stream, float scale) {
    const par_cast args = {.dtype_x = PAR_F32,
                           .dtype_y = PAR_F32,
                           .n = N,
                           .scale = scale,
                           .x = w->device,
                           .y = w->device + N};
    return par_cast_run(cuda, w->streams[stream], &args, NULL);
}

/* In: from pinned memory, times 3 on the other stream, and back. */
static par_status put_all(const world *w) {
    PAR_TRY(cuda->event_record(w->streams[0], w->timed[0]));
    PAR_TRY(cuda->copy(w->streams[0], w->device, w->host, NBYTES));
    PAR_TRY(cuda->event_record(w->streams[0], w->events[0]));
    PAR_TRY(cuda->wait(w->streams[1], w->events[0]));
    PAR_TRY(multiply(w, 1, 3));
    PAR_TRY(cuda->event_record(w->streams[1], w->events[1]));
    PAR_TRY(cuda->wait(w->streams[0], w->events[1]));
    PAR_TRY(cuda->copy(w->streams[0], w->host, w->device + N, NBYTES));
    return cuda->event_record(w->streams[0], w->timed[1]);
}

static void test_launches(void) {
    world w;
    par_graph *graph = NULL;
    if (!open_world(&w)) return;
    for (int i = 0; i < N; i++) w.host[i] = (float)i;
    CHECK_OK(multiply(&w, 0, 1)); /* kernels are loaded */
    CHECK_OK(cuda->sync(w.streams[0]));
    CHECK_OK(cuda->capture_begin(w.streams[0]));
    CHECK_OK(put_all(&w));
    CHECK_OK(cuda->capture_end(w.streams[0], &graph));
    CHECK_OK(cuda->sync(w.streams[0]));
    CHECK(w.host[5] == 5, "it ran while it was captured");
    for (int k = 0, factor = 3; k < 3 && graph; k++, factor *= 3) {
        double seconds = -1;
        CHECK_OK(cuda->graph_launch(graph, w.streams[0]));
        CHECK_OK(cuda->sync(w.streams[0]));
        CHECK(w.host[5] == (float)(5 * factor), "launch %d: %g", k, (double)w.host[5]);
        CHECK_OK(cuda->elapsed(w.timed[0], w.timed[1], &seconds));
        CHECK(seconds >= 0, "launch %d took %g s", k, seconds);
        CHECK_OK(put_all(&w)); /* the same calls beside it, with events of their own */
        CHECK_OK(cuda->sync(w.streams[0]));
        factor *= 3;
    }
    cuda->graph_destroy(graph);
    close_world(&w);
}

typedef enum { SYNC, QUERY, ALLOC, DEFAULT_STREAM, OUTSIDE, UNJOINED, PAGEABLE } act;
enum { ACTS = PAGEABLE + 1 };

static par_status do_act(world *w, act what, void **block) {
    static float pageable[N];
    bool done;
    switch (what) {
    case SYNC: return cuda->sync(w->streams[0]);
    case QUERY: return cuda->event_query(w->events[1], &done);
    case ALLOC: return cuda->host_memory.alloc(16, block);
    case DEFAULT_STREAM: return cuda->zero(NULL, w->device, NBYTES);
    case OUTSIDE: return cuda->wait(w->streams[0], w->events[1]);
    case UNJOINED:
        PAR_TRY(cuda->event_record(w->streams[0], w->events[0]));
        PAR_TRY(cuda->wait(w->streams[1], w->events[0]));
        return multiply(w, 1, 2);
    default: return cuda->copy(w->streams[0], w->device, pageable, NBYTES);
    }
}

/* CUDA allows these in some versions or modes; libpar does without them. */
static bool stricter_than_cuda(act what) {
    return what == ALLOC || what == DEFAULT_STREAM || what == PAGEABLE;
}

static void refuse(act what) {
    world w;
    void *block = NULL;
    par_graph *graph = NULL;
    if (!open_world(&w)) return;
    CHECK_OK(cuda->event_record(w.streams[1], w.events[1]));
    CHECK_OK(multiply(&w, 0, 1));
    CHECK_OK(cuda->sync(w.streams[0]));
    CHECK_OK(cuda->capture_begin(w.streams[0]));
    CHECK_OK(multiply(&w, 0, 2));
    bool seen = do_act(&w, what, &block) != PAR_OK;
    CHECK(seen == (what != UNJOINED), "act %d: %s", (int)what, seen ? par_error() : "no error");
    CHECK(cuda->capture_end(w.streams[0], &graph) != PAR_OK && !graph,
          "act %d: there is a graph all the same", (int)what);
    CHECK_OK(multiply(&w, 0, 1));
    CHECK_OK(cuda->sync(w.streams[0]));
    if (block) cuda->host_memory.release(block, 16);
    close_world(&w);
}

static void test_refusals(void) {
    for (int what = 0; what < ACTS; what++)
        if (!on_gpu || !stricter_than_cuda((act)what)) refuse((act)what);
}

/* Events that were recorded in a capture alone tell nothing afterwards; a capture that is dropped
 * leaves nothing. */
static void test_dropped(void) {
    world w;
    bool done = false;
    if (!open_world(&w)) return;
    for (int i = 0; i < N; i++) w.host[i] = 1;
    CHECK_OK(multiply(&w, 0, 1));
    CHECK_OK(cuda->sync(w.streams[0]));
    CHECK_OK(cuda->capture_begin(w.streams[0]));
    CHECK_OK(put_all(&w));
    CHECK_OK(cuda->capture_end(w.streams[0], NULL));
    CHECK_OK(cuda->sync(w.streams[0]));
    CHECK(w.host[5] == 1, "it ran");
    CHECK_OK(put_all(&w));
    CHECK_OK(cuda->sync(w.streams[0]));
    CHECK(w.host[5] == 3, "%g", (double)w.host[5]);
    CHECK_OK(cuda->event_query(w.events[0], &done));
    CHECK_OK(cuda->capture_begin(w.streams[0]));
    CHECK_OK(put_all(&w));
    CHECK_OK(cuda->capture_end(w.streams[0], NULL));
    CHECK(on_gpu || cuda->event_query(w.events[0], &done) != PAR_OK,
          "the graph's event can be asked for");
    close_world(&w);
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {.name = "launches", .run = test_launches},
        {.name = "refusals", .run = test_refusals},
        {.name = "dropped", .run = test_dropped},
    };
    const par_device_params params = {.local_size = 1, .device = -1};
    char path[1024];
    const char *slash = strrchr(argv[0], '/'), *gpu = getenv("PAR_TEST_GPU");
    on_gpu = gpu && strcmp(gpu, "1") == 0;
    snprintf(path, sizeof path, "%.*s/cuda", slash ? (int)(slash - argv[0]) : 1,
             slash ? argv[0] : ".");
    if (!on_gpu) setenv("PAR_MODULE_PATH", path, 1);
    if (par_device_select(&params) != PAR_OK || par_backend_get("cuda", &cuda) != PAR_OK)
        cuda = NULL;
    return harness_main("cuda_graphs", cases, HARNESS_COUNT(cases), argc, argv);
}
