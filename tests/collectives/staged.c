/* Device data through pinned host memory. */
#include "device_comm.h"

int main(int argc, char **argv) {
    static const harness_case cases[] = {DEVICE_CASES};
    device_choose(argv[0], PAR_LINK_STAGED);
    return harness_main_mpi("staged", cases, HARNESS_COUNT(cases), argc, argv);
}
