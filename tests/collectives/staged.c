/* Device data through pinned host memory, also in windows that are far smaller than the data. */
#define _POSIX_C_SOURCE 200809L
#include <string.h>
#include <time.h>

#include "device_comm.h"
#include "world.h"

static void run_with_pieces(par_transport *t, int64_t piece_nbytes, void (*run)(par_transport *)) {
    world w = {0};
    if (!world_open(&w, par_transport_size(t), piece_nbytes, true)) return;
    run(w.transport);
    world_close(&w);
}

static void tiny_collectives(par_transport *t) {
    run_with_pieces(t, 64, device_collectives);
}

static void tiny_pairs(par_transport *t) {
    run_with_pieces(t, 64, device_pairs);
}

/* fp32 that travels as bf16: the host's bits, of values that bf16 rounds. The buffer holds what is
 * reduced, then what is gathered, as a bucket's does. */
static void rounded(par_transport *t) {
    enum { N = 1501, MAX_RANKS = 7 };
    static float host[N * MAX_RANKS], back[N * MAX_RANKS];
    static const par_tag tag = {"test", -1, -1, -1};
    const par_backend *cuda = device_backend();
    device_world w;
    par_work work;
    if (!device_open(t, &w)) return;
    size_t nbytes = (size_t)(N * w.p) * sizeof *host;
    float *x = device_bytes((int64_t)nbytes);
    for (int i = 0; i < N * w.p; i++) host[i] = harness_noise((uint64_t)w.r, (uint64_t)i);
    CHECK_OK(cuda->copy(w.stream, x, host, nbytes));
    CHECK_OK(cuda->sync(w.stream));
    float *own = x + w.r * N, *mine = host + w.r * N;
    CHECK_OK(par_comm_reduce_scatter_as(w.host, host, mine, N, PAR_BF16, tag, NULL, NULL));
    CHECK_OK(par_comm_all_gather_as(w.host, mine, host, N, PAR_BF16, tag, NULL, NULL));
    CHECK_OK(par_comm_reduce_scatter_as(w.device, x, own, N, PAR_BF16, tag, w.stream, NULL));
    CHECK_OK(par_comm_all_gather_as(w.device, own, x, N, PAR_BF16, tag, w.stream, &work));
    CHECK_OK(par_work_wait(work, w.stream));
    CHECK_OK(cuda->copy(w.stream, back, x, nbytes));
    CHECK_OK(cuda->sync(w.stream));
    CHECK(memcmp(host, back, nbytes) == 0, "the device's bits are not the host's");
    cuda->memory.release(x, nbytes + 8);
    device_close(&w);
}

static void tiny_rounded(par_transport *t) {
    run_with_pieces(t, 64, rounded);
}

/* On a comm a moment is waited for or hidden, never both: here rank 1 waits 0.5 s for a barrier,
 * while a receive that was put before it begins on the host and ends. */
static void waits(par_transport *t) {
    enum { N = 1 << 12 };
    static const par_tag tag = {"test", -1, -1, -1};
    const struct timespec nap = {.tv_nsec = 500000000};
    const par_recorder_row *rows;
    device_world w;
    par_work work;
    double waited = 0, hidden = 0;
    if (!device_open(t, &w)) return;
    float *x = device_bytes(N * sizeof *x);
    par_recorder_reset(par_transport_recorder(t));
    if (w.r == 0) {
        CHECK_OK(par_comm_send(w.device, x, N, PAR_F32, 1, tag, w.stream, NULL));
        nanosleep(&nap, NULL);
    } else {
        CHECK_OK(par_comm_recv(w.device, x, N, PAR_F32, 0, tag, w.stream, &work));
    }
    CHECK_OK(par_comm_barrier(w.device, tag));
    if (w.r == 1) CHECK_OK(par_work_wait(work, w.stream));
    int n = par_recorder_rows(par_transport_recorder(t), &rows);
    for (int i = 0; i < n; i++) {
        if (strcmp(rows[i].axis, "device") != 0) continue;
        waited += rows[i].wait_s;
        hidden += rows[i].hidden_s;
    }
    CHECK(w.r == 0 || (waited > 0.25 && hidden < 0.25), "%g s waited, %g s hidden", waited, hidden);
    CHECK_OK(device_backend()->sync(w.stream));
    device_backend()->memory.release(x, 0);
    device_close(&w);
}

/* A barrier, and an agreement, behind a collective that some ranks have moved on before they come
 * there, and others not. */
static void barriers(par_transport *t) {
    enum { N = 1000 };
    static const par_tag tag = {"test", -1, -1, -1};
    static float host[N];
    const par_backend *cuda = device_backend();
    device_world w;
    if (!device_open(t, &w)) return;
    float *x = device_bytes(sizeof host);
    for (int round = 0; round < 4 && !harness_failed(); round++) {
        par_work work;
        for (int i = 0; i < N; i++) host[i] = (float)(i % 5 + w.r);
        CHECK_OK(cuda->copy(w.stream, x, host, sizeof host));
        CHECK_OK(par_comm_all_reduce(w.device, x, x, N, PAR_F32, tag, w.stream, &work));
        for (int i = 0; i < 100 && w.r == round % w.p; i++) par_work_done(work);
        CHECK_OK(round % 2 ? par_comm_agree(w.device, PAR_OK) : par_comm_barrier(w.device, tag));
        CHECK_OK(par_work_wait(work, w.stream));
        CHECK_OK(cuda->copy(w.stream, host, x, sizeof host));
        CHECK_OK(cuda->sync(w.stream));
        for (int i = 0; i < N; i++) {
            int sum = w.p * (i % 5) + w.p * (w.p - 1) / 2;
            CHECK(host[i] == (float)sum, "round %d: sum %d is %g, not %d", round, i,
                  (double)host[i], sum);
        }
    }
    cuda->memory.release(x, 0);
    device_close(&w);
}

static void tiny_barriers(par_transport *t) {
    run_with_pieces(t, 64, barriers);
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        DEVICE_CASES,
        {.name = "tiny-windows-2", .ranks = 2, .run_mpi = tiny_collectives},
        {.name = "tiny-windows-3", .ranks = 3, .run_mpi = tiny_collectives},
        {.name = "tiny-windows-7", .ranks = 7, .run_mpi = tiny_collectives},
        {.name = "rounded-2", .ranks = 2, .run_mpi = rounded},
        {.name = "rounded-7", .ranks = 7, .run_mpi = rounded},
        {.name = "tiny-rounded", .ranks = 3, .run_mpi = tiny_rounded},
        {.name = "tiny-pairs", .ranks = 3, .run_mpi = tiny_pairs},
        {.name = "barriers-3", .ranks = 3, .run_mpi = barriers},
        {.name = "tiny-barriers", .ranks = 3, .run_mpi = tiny_barriers},
        {.name = "waits", .ranks = 2, .run_mpi = waits},
    };
    device_choose(argv[0], PAR_LINK_STAGED, true);
    return harness_main_mpi("staged", cases, HARNESS_COUNT(cases), argc, argv);
}
