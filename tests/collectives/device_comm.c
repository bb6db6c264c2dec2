/*
 * Device data against the host engine's results, for either link: every operation and type, counts
 * that are not multiples of a window, many operations under way. The device is the stand-in of the
 * cuda module: its streams run as late as they may and its memory is closed to the host, so a
 * missing wait shows. Values are small integers, whose sums are exact in every type and order.
 */
#define _POSIX_C_SOURCE 200809L
#include "device_comm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/half.h"

enum { MAX_N = 1501, MAX_RANKS = 7, BUCKETS = 40 };

static const par_backend *cuda;
static par_link chosen;
static const par_tag tag = {"test", -1, -1, -1};

void device_choose(const char *program, par_link link, bool shared) {
    char path[1024];
    const char *slash = strrchr(program, '/');
    snprintf(path, sizeof path, "%.*s/cuda", slash ? (int)(slash - program) : 1,
             slash ? program : ".");
    setenv("PAR_MODULE_PATH", path, 1);
    chosen = link;
    CHECK_OK(
        par_device_select(&(par_device_params){.local_size = 1, .device = -1, .shared = shared}));
    if (par_backend_get("cuda", &cuda) != PAR_OK) cuda = NULL;
}

const par_backend *device_backend(void) {
    return cuda;
}

/* Staging as planned: a measuring comm first. */
static void plan(const par_comm_params *params, device_world *w) {
    par_transport *measuring = NULL;
    par_memory *measured = NULL;
    par_comm *unused = NULL;
    CHECK_OK(par_transport_create_measuring(NULL, w->p, w->r, &measuring));
    CHECK_OK(par_memory_create_measuring(&measured));
    CHECK_OK(par_comm_create(measuring, params, measured, &unused));
    par_comm_destroy(&unused);
    par_transport_destroy(&measuring);
    CHECK_OK(par_memory_create(&cuda->memory, &cuda->host_memory, measured, &w->memory));
    par_memory_destroy(&measured);
}

bool device_open(par_transport *t, device_world *w) {
    *w = (device_world){.transport = t, .p = par_transport_size(t), .r = par_transport_rank(t)};
    if (!cuda) {
        harness_skip("this build has no stand-in of the cuda module");
        return false;
    }
    par_comm_params params = {.axis = "device", .device = cuda, .pairs = true, .link = chosen};
    plan(&params, w);
    CHECK_OK(par_comm_create(t, &params, w->memory, &w->device));
    if (harness_failed()) return false;
    CHECK(w->p == 1 ||
              !strcmp(par_comm_link(w->device), chosen == PAR_LINK_NCCL ? "nccl" : "staged"),
          "the link is %s", par_comm_link(w->device));
    params.axis = "host";
    params.device = NULL;
    CHECK_OK(par_comm_create(t, &params, NULL, &w->host));
    CHECK_OK(cuda->stream_create(&w->stream));
    return !harness_failed();
}

void device_close(device_world *w) {
    cuda->stream_destroy(w->stream);
    par_comm_destroy(&w->device);
    par_comm_destroy(&w->host);
    par_memory_destroy(&w->memory);
}

void *device_bytes(int64_t nbytes) {
    void *block = NULL;
    CHECK_OK(cuda->memory.alloc((size_t)nbytes + 8, &block));
    return block;
}

/* Sums of 7 ranks are at most 126: exact in bf16's 8 bits. */
static void fill(par_dtype type, void *x, int64_t n, int r, int seed) {
    for (int64_t i = 0; i < n; i++) {
        int v = (int)((i * 7 + r * 13 + seed * 5) % 19);
        switch (type) {
        case PAR_F32: ((float *)x)[i] = (float)v; break;
        case PAR_BF16: ((uint16_t *)x)[i] = par__f32_to_bf16((float)v); break;
        case PAR_F16: ((uint16_t *)x)[i] = par__f32_to_f16((float)v); break;
        case PAR_I32: ((int32_t *)x)[i] = v; break;
        case PAR_I64: ((int64_t *)x)[i] = v; break;
        default: ((uint8_t *)x)[i] = (uint8_t)v; break;
        }
    }
}

typedef par_status collective(par_comm *, const void *, void *, int64_t, par_dtype, par_tag,
                              par_stream *, par_work *);

/* One collective on the device, asynchronously or in the stream's order, in place or not, against
 * the host's. In place `own` says where the one buffer lies in the other: elements. */
static void compare(device_world *w, collective *run, const char *name, par_dtype type, int64_t n,
                    int64_t n_in, int64_t n_out, int variant) {
    static int64_t in[MAX_N * MAX_RANKS], theirs[MAX_N * MAX_RANKS], ours[MAX_N * MAX_RANKS];
    bool asynchronous = variant & 1, in_place = variant & 2;
    size_t size = par_dtype_nbytes(type), nbytes = (size_t)n_out * size;
    char *src = device_bytes((int64_t)size * n_in), *dst = device_bytes((int64_t)nbytes),
         *into = dst, *from = src;
    par_work work = {0};
    if (in_place && n_in >= n_out) into = src + (n_in > n_out ? (size_t)(w->r * n) * size : 0);
    if (in_place && n_in < n_out) from = dst + (size_t)(w->r * n) * size;
    fill(type, in, n_in, w->r, (int)n);
    CHECK_OK(run(w->host, in, theirs, n, type, tag, NULL, NULL));
    CHECK_OK(cuda->copy(w->stream, from, in, (size_t)n_in * size));
    CHECK_OK(run(w->device, from, into, n, type, tag, w->stream, asynchronous ? &work : NULL));
    CHECK_OK(par_work_wait(work, w->stream));
    CHECK_OK(cuda->copy(w->stream, ours, into, nbytes));
    CHECK_OK(cuda->sync(w->stream));
    CHECK(memcmp(ours, theirs, nbytes) == 0, "%s of %lld %s on %d ranks, variant %d, differs", name,
          (long long)n, par_dtype_name(type), w->p, variant);
    cuda->memory.release(src, 0);
    cuda->memory.release(dst, 0);
}

static void check_broadcast(device_world *w, par_dtype type, int64_t n, int root) {
    int64_t in[64], ours[64];
    size_t nbytes = (size_t)n * par_dtype_nbytes(type);
    char *data = device_bytes((int64_t)nbytes);
    fill(type, in, n, w->r, 3);
    CHECK_OK(cuda->copy(w->stream, data, in, nbytes));
    CHECK_OK(par_comm_broadcast(w->device, data, n, type, root, tag, w->stream, NULL));
    CHECK_OK(cuda->copy(w->stream, ours, data, nbytes));
    CHECK_OK(cuda->sync(w->stream));
    fill(type, in, n, root, 3);
    CHECK(memcmp(ours, in, nbytes) == 0, "broadcast from %d differs", root);
    cuda->memory.release(data, 0);
}

void device_collectives(par_transport *t) {
    static const int64_t counts[] = {0, 1, 7, 501};
    device_world w;
    if (!device_open(t, &w)) return;
    for (int type = 0; type < PAR_DTYPE_COUNT; type++)
        for (int i = 0; i < 4 && !harness_failed(); i++) {
            int64_t n = counts[i], all = n * w.p;
            int v = (type + i) % 4;
            compare(&w, par_comm_all_gather, "all_gather", (par_dtype)type, n, n, all, v);
            if (type == PAR_U8) continue;
            compare(&w, par_comm_all_reduce, "all_reduce", (par_dtype)type, all + (i > 1),
                    all + (i > 1), all + (i > 1), v);
            compare(&w, par_comm_reduce_scatter, "reduce_scatter", (par_dtype)type, n, all, n, v);
        }
    for (int root = 0; root < w.p; root++)
        check_broadcast(&w, (par_dtype)(root % PAR_DTYPE_COUNT), 61, root);
    device_close(&w);
}

/* As a trainer does: many reductions in place on a stream that goes on computing, waited for at the
 * end. */
void device_many_under_way(par_transport *t) {
    enum { N = 60 };
    float host[N], ours[BUCKETS][N];
    float *data[BUCKETS];
    par_work work[BUCKETS];
    device_world w;
    if (!device_open(t, &w)) return;
    for (int b = 0; b < BUCKETS; b++) {
        data[b] = device_bytes(sizeof ours[b]);
        fill(PAR_F32, ours[b], N, w.r, b);
        CHECK_OK(cuda->copy(w.stream, data[b], ours[b], sizeof ours[b]));
        CHECK_OK(
            par_comm_all_reduce(w.device, data[b], data[b], N, PAR_F32, tag, w.stream, &work[b]));
    }
    for (int b = 0; b < BUCKETS; b++) {
        fill(PAR_F32, host, N, w.r, b);
        CHECK_OK(par_comm_all_reduce(w.host, host, host, N, PAR_F32, tag, NULL, NULL));
        CHECK_OK(par_work_wait(work[b], w.stream));
        CHECK_OK(cuda->copy(w.stream, ours[b], data[b], sizeof ours[b]));
        CHECK_OK(cuda->sync(w.stream));
        CHECK(memcmp(ours[b], host, sizeof host) == 0, "reduction %d of %d differs", b, BUCKETS);
        cuda->memory.release(data[b], 0);
    }
    device_close(&w);
}

static void expect_floats(device_world *w, const float *data, int64_t n, int from, int seed) {
    float expected[700], ours[700];
    CHECK_OK(cuda->copy(w->stream, ours, data, (size_t)n * sizeof *ours));
    CHECK_OK(cuda->sync(w->stream));
    fill(PAR_F32, expected, n, from, seed);
    CHECK(memcmp(ours, expected, (size_t)n * sizeof *ours) == 0,
          "what rank %d sent, number %d, differs", from, seed);
}

/* Round the ring and back. Receives are posted long before their sends; the one from the other
 * side, whose message is an answer to a later send, must hold up nothing. Channels are FIFO: two
 * messages each. */
void device_pairs(par_transport *t) {
    enum { N = 700 };
    float in[2][N], *mine[2], *there[2], *back[2];
    par_work from_previous[2], from_next[2], sent[2], answered[2];
    device_world w;
    if (!device_open(t, &w)) return;
    int next = (w.r + 1) % w.p, previous = (w.r + w.p - 1) % w.p;
    for (int k = 0; k < 2; k++) {
        mine[k] = device_bytes(sizeof in[k]);
        there[k] = device_bytes(sizeof in[k]);
        back[k] = device_bytes(sizeof in[k]);
    }
    /* with two ranks both come from the same one, in the order of its sends */
    for (int k = 0; k < 2; k++)
        CHECK_OK(par_comm_recv(w.device, there[k], N, PAR_F32, previous, tag, w.stream,
                               &from_previous[k]));
    for (int k = 0; k < 2; k++)
        CHECK_OK(par_comm_recv(w.device, back[k], N, PAR_F32, next, tag, w.stream, &from_next[k]));
    for (int k = 0; k < 2; k++) {
        fill(PAR_F32, in[k], N, w.r, k);
        CHECK_OK(cuda->copy(w.stream, mine[k], in[k], sizeof in[k]));
        CHECK_OK(par_comm_send(w.device, mine[k], N, PAR_F32, next, tag, w.stream, &sent[k]));
    }
    for (int k = 0; k < 2; k++) {
        CHECK_OK(par_work_wait(from_previous[k], w.stream));
        expect_floats(&w, there[k], N, previous, k);
        CHECK_OK(
            par_comm_send(w.device, there[k], N, PAR_F32, previous, tag, w.stream, &answered[k]));
    }
    for (int k = 0; k < 2; k++) {
        CHECK_OK(par_work_wait(from_next[k], w.stream));
        expect_floats(&w, back[k], N, w.r, k);
        CHECK_OK(par_work_wait(sent[k], w.stream));
        CHECK_OK(par_work_wait(answered[k], w.stream));
    }
    CHECK_OK(cuda->sync(w.stream));
    CHECK_OK(par_comm_barrier(w.device, tag));
    for (int k = 0; k < 2; k++) {
        cuda->memory.release(mine[k], 0);
        cuda->memory.release(there[k], 0);
        cuda->memory.release(back[k], 0);
    }
    device_close(&w);
}

static void rows_of(par_transport *t, const char *axis, const char *op, int64_t counts[2]) {
    const par_recorder_row *rows;
    int n = par_recorder_rows(par_transport_recorder(t), &rows);
    counts[0] = counts[1] = 0;
    for (int i = 0; i < n; i++)
        if (!strcmp(rows[i].axis, axis) && !strcmp(rows[i].op, op) &&
            !strcmp(rows[i].purpose, tag.purpose)) {
            counts[0] += rows[i].sent_nbytes;
            counts[1] += rows[i].received_nbytes;
        }
}

/* Bytes of every operation as the host form counts them, small and large, with a remainder. */
void device_recorder(par_transport *t) {
    static const char *const ops[] = {"all_reduce", "reduce_scatter", "all_gather",
                                      "broadcast",  "send",           "recv"};
    static float host[2][MAX_N * MAX_RANKS];
    device_world w;
    if (!device_open(t, &w)) return;
    float *x = device_bytes(sizeof host[0]), *y = device_bytes(sizeof host[0]);
    int next = (w.r + 1) % w.p, previous = (w.r + w.p - 1) % w.p;
    par_recorder_reset(par_transport_recorder(t));
    for (int k = 0; k < 2; k++) {
        par_comm *comm = k ? w.device : w.host;
        void *src = k ? x : host[0], *dst = k ? y : host[1];
        for (int64_t n = 5; n < MAX_N; n = n * 17 + 1) {
            par_work work;
            CHECK_OK(par_comm_all_reduce(comm, src, dst, n * 2 + 1, PAR_F32, tag, w.stream, NULL));
            CHECK_OK(par_comm_reduce_scatter(comm, src, dst, n, PAR_F32, tag, w.stream, NULL));
            CHECK_OK(par_comm_all_gather(comm, src, dst, n, PAR_F32, tag, w.stream, NULL));
            CHECK_OK(par_comm_broadcast(comm, dst, n, PAR_F32, 1, tag, w.stream, NULL));
            CHECK_OK(par_comm_send(comm, src, n, PAR_F32, next, tag, w.stream, &work));
            CHECK_OK(par_comm_recv(comm, dst, n, PAR_F32, previous, tag, w.stream, NULL));
            CHECK_OK(par_work_wait(work, w.stream));
        }
        CHECK_OK(cuda->sync(w.stream));
    }
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        int64_t a[2], b[2];
        rows_of(t, "host", ops[i], a);
        rows_of(t, "device", ops[i], b);
        CHECK(a[0] == b[0] && a[1] == b[1] && a[0] + a[1] > 0,
              "%s: %lld bytes sent, %lld received; the host's %lld and %lld", ops[i],
              (long long)b[0], (long long)b[1], (long long)a[0], (long long)a[1]);
    }
    cuda->memory.release(x, 0);
    cuda->memory.release(y, 0);
    device_close(&w);
}
