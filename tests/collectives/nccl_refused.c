/* Ranks that were not told to share a GPU and do: NCCL is refused on all of them. */
#include <string.h>

#include "device_comm.h"

static void one_gpu(par_transport *t) {
    const par_backend *cuda = device_backend();
    par_comm *comm = NULL;
    if (!cuda) {
        harness_skip("this build has no stand-in of the cuda module");
        return;
    }
    /* the default is NCCL where ranks do not share by intent */
    const par_comm_params params = {.axis = "device", .device = cuda};
    CHECK_FAILS(par_comm_create(t, &params, NULL, &comm), PAR_ERR_UNSUPPORTED,
                "ranks 0 and 1 are on one GPU");
    CHECK(comm == NULL, "a comm was made");
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {{.name = "one-gpu", .ranks = 2, .run_mpi = one_gpu}};
    device_choose(argv[0], PAR_LINK_DEFAULT, false);
    return harness_main_mpi("nccl-refused", cases, HARNESS_COUNT(cases), argc, argv);
}
