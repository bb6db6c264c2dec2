/* A build without HDF5. */
#include "par/matrix.h"

par_status par_matrix_write_hdf5(const par_matrix *m, const char *path) {
    PAR_REQUIRE(m && path);
    PAR_FAIL(
        PAR_ERR_UNSUPPORTED,
        "%s: this build has no HDF5; on Debian install libhdf5-dev and libxxhash-dev and build "
        "again, or write CSV or JSON",
        path);
}
