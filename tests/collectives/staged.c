/*
 * Device data through pinned memory against the host engine's results: every operation, types that sum
 * exactly, counts that are no multiple of a window, many operations under way. The device is the stand-in of
 * the cuda module: its streams run as late as they may and its memory is closed to the host, so a missing
 * wait shows.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "par/comm.h"
#include "tests/harness.h"

enum { MAX_N = 5000, BUCKETS = 40 };

static const par_backend *cuda;
static const par_tag tag = {"test", -1, -1, -1};

typedef struct {
    par_memory *memory;
    par_comm *device, *host;
    par_stream *stream;
    int p, r;
} fixture;

/* A comm on the device and one on the host of the same ranks. */
static bool begin(par_transport *t, fixture *f) {
    int ranks[64];
    *f = (fixture){.p = par_transport_size(t), .r = par_transport_rank(t)};
    if (!cuda) {
        harness_skip("this build has no stand-in of the cuda module");
        return false;
    }
    for (int i = 0; i < f->p; i++) ranks[i] = i;
    par_comm_params params = {.axis = "device", .ranks = ranks, .n = f->p, .device = cuda, .pairs = true};
    par_transport *measuring = NULL;
    par_memory *plan = NULL;
    par_comm *unused = NULL;
    CHECK_OK(par_transport_create_measuring(NULL, f->p, f->r, &measuring));
    CHECK_OK(par_memory_create_measuring(&plan));
    CHECK_OK(par_comm_create(measuring, &params, plan, &unused));
    par_comm_destroy(&unused);
    par_transport_destroy(&measuring);
    CHECK_OK(par_memory_create(&cuda->memory, &cuda->host_memory, plan, &f->memory));
    par_memory_destroy(&plan);
    CHECK_OK(par_comm_create(t, &params, f->memory, &f->device));
    params.axis = "host";
    params.device = NULL;
    CHECK_OK(par_comm_create(t, &params, NULL, &f->host));
    CHECK_OK(cuda->stream_create(&f->stream));
    return !harness_failed();
}

static void end(fixture *f) {
    cuda->stream_destroy(f->stream);
    par_comm_destroy(&f->device);
    par_comm_destroy(&f->host);
    par_memory_destroy(&f->memory);
}

/* Small integers: every order of additions gives the same. */
static void fill(float *x, int64_t n, int r, int seed) {
    for (int64_t i = 0; i < n; i++) x[i] = (float)((i * 7 + r * 13 + seed * 5) % 101 - 50);
}

static float *device_floats(int64_t n) {
    void *block = NULL;
    CHECK_OK(cuda->memory.alloc((size_t)(n + 1) * sizeof(float), &block));
    return block;
}

typedef par_status collective(par_comm *, const void *, void *, int64_t, par_dtype, par_tag, par_stream *,
                              par_work *);

/* One collective on the device, asynchronously or in the stream's order, against the host's. */
static void compare(fixture *f, collective *run, const char *name, int64_t n, int64_t n_in, int64_t n_out,
                    bool asynchronous) {
    static float in[MAX_N], theirs[MAX_N], ours[MAX_N];
    float *src = device_floats(n_in), *dst = device_floats(n_out);
    par_work work = {0};
    fill(in, n_in, f->r, (int)n);
    CHECK_OK(run(f->host, in, theirs, n, PAR_F32, tag, NULL, NULL));
    CHECK_OK(cuda->copy(f->stream, src, in, (size_t)n_in * sizeof *in));
    CHECK_OK(run(f->device, src, dst, n, PAR_F32, tag, f->stream, asynchronous ? &work : NULL));
    CHECK_OK(par_work_wait(work, f->stream));
    CHECK_OK(cuda->copy(f->stream, ours, dst, (size_t)n_out * sizeof *ours));
    CHECK_OK(cuda->sync(f->stream));
    CHECK(memcmp(ours, theirs, (size_t)n_out * sizeof *ours) == 0, "%s of %lld on %d ranks differs", name,
          (long long)n, f->p);
    cuda->memory.release(src, 0);
    cuda->memory.release(dst, 0);
}

static void test_collectives(par_transport *t) {
    static const int64_t counts[] = {1, 7, 64, 501};
    fixture f;
    if (!begin(t, &f)) return;
    for (int i = 0; i < 8 && !harness_failed(); i++) {
        int64_t n = counts[i / 2], all = n * f.p;
        compare(&f, par_comm_all_reduce, "all_reduce", all, all, all, i % 2);
        compare(&f, par_comm_reduce_scatter, "reduce_scatter", n, all, n, i % 2);
        compare(&f, par_comm_all_gather, "all_gather", n, n, all, i % 2);
    }
    end(&f);
}

/* As a trainer does: many reductions in place on a stream that goes on computing, waited for at the end. */
static void test_many_under_way(par_transport *t) {
    enum { N = 60 };
    float host[N], ours[BUCKETS][N];
    float *data[BUCKETS];
    par_work work[BUCKETS];
    fixture f;
    if (!begin(t, &f)) return;
    for (int b = 0; b < BUCKETS; b++) {
        data[b] = device_floats(N);
        fill(ours[b], N, f.r, b);
        CHECK_OK(cuda->copy(f.stream, data[b], ours[b], sizeof ours[b]));
        CHECK_OK(par_comm_all_reduce(f.device, data[b], data[b], N, PAR_F32, tag, f.stream, &work[b]));
    }
    for (int b = 0; b < BUCKETS; b++) {
        fill(host, N, f.r, b);
        CHECK_OK(par_comm_all_reduce(f.host, host, host, N, PAR_F32, tag, NULL, NULL));
        CHECK_OK(par_work_wait(work[b], f.stream));
        CHECK_OK(cuda->copy(f.stream, ours[b], data[b], sizeof ours[b]));
        CHECK_OK(cuda->sync(f.stream));
        CHECK(memcmp(ours[b], host, sizeof host) == 0, "reduction %d of %d differs", b, BUCKETS);
        cuda->memory.release(data[b], 0);
    }
    end(&f);
}

/* At least 3 ranks, as channels are FIFO. Receives are posted long before their sends, and a receive in the
 * other direction must not hold them up. */
static void test_pairs(par_transport *t) {
    enum { N = 700 };
    float in[N], expected[N], ours[N];
    fixture f;
    if (!begin(t, &f)) return;
    int next = (f.r + 1) % f.p, previous = (f.r + f.p - 1) % f.p;
    float *from_previous = device_floats(N), *from_next = device_floats(N), *mine = device_floats(N);
    par_work work[4];
    CHECK_OK(par_comm_recv(f.device, from_next, N, PAR_F32, next, tag, f.stream, &work[0]));
    CHECK_OK(par_comm_recv(f.device, from_previous, N, PAR_F32, previous, tag, f.stream, &work[1]));
    fill(in, N, f.r, 1);
    CHECK_OK(cuda->copy(f.stream, mine, in, sizeof in));
    CHECK_OK(par_comm_send(f.device, mine, N, PAR_F32, next, tag, f.stream, &work[2]));
    CHECK_OK(par_work_wait(work[1], f.stream));
    CHECK_OK(cuda->copy(f.stream, ours, from_previous, sizeof ours));
    CHECK_OK(cuda->sync(f.stream));
    fill(expected, N, previous, 1);
    CHECK(memcmp(ours, expected, sizeof ours) == 0, "what rank %d sent differs", previous);
    /* back what came */
    CHECK_OK(par_comm_send(f.device, from_previous, N, PAR_F32, previous, tag, f.stream, &work[3]));
    CHECK_OK(par_work_wait(work[0], f.stream));
    CHECK_OK(cuda->copy(f.stream, ours, from_next, sizeof ours));
    CHECK_OK(cuda->sync(f.stream));
    CHECK(memcmp(ours, in, sizeof ours) == 0, "what went round to rank %d differs", next);
    for (int i = 2; i < 4; i++) CHECK_OK(par_work_wait(work[i], f.stream));
    CHECK_OK(cuda->sync(f.stream));
    par_comm_barrier(f.device, tag);
    float *const blocks[] = {from_previous, from_next, mine};
    for (int i = 0; i < 3; i++) cuda->memory.release(blocks[i], 0);
    end(&f);
}

static void test_broadcast(par_transport *t) {
    float in[300], ours[300];
    fixture f;
    if (!begin(t, &f)) return;
    float *data = device_floats(300);
    for (int root = 0; root < f.p; root++) {
        fill(in, 300, f.r, 3);
        CHECK_OK(cuda->copy(f.stream, data, in, sizeof in));
        CHECK_OK(par_comm_broadcast(f.device, data, 300, PAR_F32, root, tag, f.stream, NULL));
        CHECK_OK(cuda->copy(f.stream, ours, data, sizeof ours));
        CHECK_OK(cuda->sync(f.stream));
        fill(in, 300, root, 3);
        CHECK(memcmp(ours, in, sizeof in) == 0, "broadcast from %d differs", root);
    }
    cuda->memory.release(data, 0);
    end(&f);
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        {.name = "collectives-1", .ranks = 1, .run_mpi = test_collectives},
        {.name = "collectives-2", .ranks = 2, .run_mpi = test_collectives},
        {.name = "collectives-3", .ranks = 3, .run_mpi = test_collectives},
        {.name = "collectives-4", .ranks = 4, .run_mpi = test_collectives},
        {.name = "many-under-way", .ranks = 4, .run_mpi = test_many_under_way},
        {.name = "pairs-3", .ranks = 3, .run_mpi = test_pairs},
        {.name = "pairs-4", .ranks = 4, .run_mpi = test_pairs},
        {.name = "broadcast", .ranks = 3, .run_mpi = test_broadcast},
    };
    char path[1024];
    const char *slash = strrchr(argv[0], '/');
    snprintf(path, sizeof path, "%.*s/cuda", slash ? (int)(slash - argv[0]) : 1, slash ? argv[0] : ".");
    setenv("PAR_MODULE_PATH", path, 1);
    if (par_backend_get("cuda", &cuda) != PAR_OK) cuda = NULL;
    return harness_main_mpi("staged", cases, HARNESS_COUNT(cases), argc, argv);
}
