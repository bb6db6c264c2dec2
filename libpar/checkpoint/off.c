/* Checkpoints in a build without HDF5 or XXH3: refused, with the reason. */
#include "par/checkpoint.h"

static const char reason[] =
    "this build has no HDF5 or no libxxhash, so it can neither save nor load "
    "checkpoints; install libhdf5-dev and libxxhash-dev and build again";

const char *par_checkpoint_missing(void) {
    return reason;
}

par_status par_checkpoint_save(par_comm *world, const par_checkpoint_params *params,
                               const par_checkpoint_run *runs, int n_runs,
                               par_checkpoint_result *out) {
    (void)world, (void)params, (void)runs, (void)n_runs, (void)out;
    PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s", reason);
}

par_status par_checkpoint_load(par_comm *world, const char *directory,
                               const par_checkpoint_about *about, const par_checkpoint_run *runs,
                               int n_runs, par_checkpoint_result *out) {
    (void)world, (void)directory, (void)about, (void)runs, (void)n_runs, (void)out;
    PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s", reason);
}
