/* Device data by NCCL's stand-in, and what NCCL alone refuses or reports. */
#define _POSIX_C_SOURCE 200809L
#include <stdlib.h>
#include <string.h>

#include "device_comm.h"

static const par_tag tag = {"test", -1, -1, -1};

/* The pairs of a comm are neighbours on its ring. */
static void refusals(par_transport *t) {
    device_world w;
    if (!device_open(t, &w)) return;
    float *x = device_bytes(16);
    CHECK_FAILS(par_comm_send(w.device, x, 1, PAR_F32, (w.r + 2) % w.p, tag, w.stream, NULL),
                PAR_ERR_UNSUPPORTED, "the next and the previous rank alone");
    CHECK_FAILS(par_comm_all_reduce(w.device, x, x, 4, PAR_U8, tag, w.stream, NULL), PAR_ERR_ARG,
                "uint8");
    CHECK_FAILS(par_comm_all_gather_as(w.device, x, x, 1, PAR_BF16, tag, w.stream, NULL),
                PAR_ERR_UNSUPPORTED, "rounds at every hop");
    device_backend()->memory.release(x, 0);
    device_close(&w);
}

/* An asynchronous error ends the transport with rank, axis, and NCCL's text; later calls say the
 * same. */
static void asynchronous_error(par_transport *t) {
    device_world w;
    par_work work;
    if (!device_open(t, &w)) return;
    float *x = device_bytes(16);
    CHECK_OK(device_backend()->zero(w.stream, x, 16));
    CHECK_OK(par_comm_all_reduce(w.device, x, x, 4, PAR_F32, tag, w.stream, &work));
    CHECK_OK(par_work_wait(work, w.stream));
    CHECK_OK(device_backend()->sync(w.stream));
    /* a rank may still be in there when the other one breaks the transport */
    par_status st = par_comm_barrier(w.host, tag);
    CHECK(st == PAR_OK || (st == PAR_ERR_TRANSPORT && strstr(par_error(), "told by the stand-in")),
          "%s", par_error());
    setenv("PAR_STANDIN_NCCL", "error", 1);
    CHECK_FAILS(par_transport_progress(t), PAR_ERR_TRANSPORT,
                "axis device: an operation under way: remote");
    unsetenv("PAR_STANDIN_NCCL");
    CHECK_FAILS(par_comm_all_reduce(w.device, x, x, 4, PAR_F32, tag, w.stream, NULL),
                PAR_ERR_TRANSPORT, "remote process exited");
    CHECK_FAILS(par_work_wait(work, w.stream), PAR_ERR_TRANSPORT, "told by the stand-in");
    device_backend()->memory.release(x, 0);
    device_close(&w);
}

/* What fails on one rank while pairs are connected is refused by all, in the same step. */
static void refused_on_one_rank(par_transport *t) {
    const par_comm_params params = {
        .axis = "device", .device = device_backend(), .pairs = true, .link = PAR_LINK_NCCL};
    const char *folder = getenv("TMPDIR");
    par_comm *comm = NULL;
    if (!params.device) {
        harness_skip("this build has no stand-in of the cuda module");
        return;
    }
    char *before = strdup(folder ? folder : "/tmp");
    if (par_transport_rank(t) == 1) setenv("TMPDIR", "/nonexistent", 1);
    CHECK_FAILS(par_comm_create(t, &params, NULL, &comm), PAR_ERR_TRANSPORT,
                "rank 1: ncclGetUniqueId");
    setenv("TMPDIR", before, 1);
    CHECK_OK(par_comm_create(t, &params, NULL, &comm));
    par_comm_destroy(&comm);
    free(before);
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        DEVICE_CASES,
        {.name = "refusals", .ranks = 4, .run_mpi = refusals},
        {.name = "refused-on-one-rank", .ranks = 3, .run_mpi = refused_on_one_rank},
        {.name = "asynchronous-error", .ranks = 2, .run_mpi = asynchronous_error},
    };
    device_choose(argv[0], PAR_LINK_NCCL, true);
    return harness_main_mpi("nccl", cases, HARNESS_COUNT(cases), argc, argv);
}
