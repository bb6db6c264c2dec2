/* Device data through pinned host memory, also in windows that are far smaller than the data. */
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

int main(int argc, char **argv) {
    static const harness_case cases[] = {
        DEVICE_CASES,
        {.name = "tiny-windows-2", .ranks = 2, .run_mpi = tiny_collectives},
        {.name = "tiny-windows-3", .ranks = 3, .run_mpi = tiny_collectives},
        {.name = "tiny-windows-7", .ranks = 7, .run_mpi = tiny_collectives},
        {.name = "tiny-pairs", .ranks = 3, .run_mpi = tiny_pairs},
    };
    device_choose(argv[0], PAR_LINK_STAGED, true);
    return harness_main_mpi("staged", cases, HARNESS_COUNT(cases), argc, argv);
}
