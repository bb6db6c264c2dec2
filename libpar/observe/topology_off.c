/* The machine in a build without hwloc: refused, with the reason. */
#include "topology.h"

par_status par_topology_read(par_topology **out) {
    (void)out;
    PAR_FAIL(PAR_ERR_UNSUPPORTED, "this build has no hwloc, by which a machine is read; install "
                                  "libhwloc-dev and build again");
}
