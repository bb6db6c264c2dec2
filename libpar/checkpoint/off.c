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

par_status par_checkpoint_save_begin(par_comm *world, const par_checkpoint_params *params,
                                     const par_checkpoint_run *runs, int n_runs,
                                     par_checkpoint_saving **out) {
    (void)world, (void)params, (void)runs, (void)n_runs, (void)out;
    PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s", reason);
}

par_status par_checkpoint_save_poll(par_checkpoint_saving *saving, bool *ended) {
    (void)saving, (void)ended;
    PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s", reason);
}

par_status par_checkpoint_save_end(par_checkpoint_saving **saving, par_checkpoint_result *out) {
    (void)saving, (void)out;
    PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s", reason);
}

par_status par_checkpoint_load(par_comm *world, const char *directory,
                               const par_checkpoint_about *about, const par_checkpoint_run *runs,
                               int n_runs, par_checkpoint_result *out) {
    (void)world, (void)directory, (void)about, (void)runs, (void)n_runs, (void)out;
    PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s", reason);
}

par_status par_checkpoint_open(const char *directory, par_problems *notes, par_checkpoint **out) {
    (void)directory, (void)notes, (void)out;
    PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s", reason);
}

void par_checkpoint_close(par_checkpoint **checkpoint) {
    if (checkpoint) *checkpoint = NULL;
}

const par_checkpoint_result *par_checkpoint_info(const par_checkpoint *c) {
    (void)c;
    return NULL;
}

const par_checkpoint_pair *par_checkpoint_pairs(const par_checkpoint *c, int *n) {
    (void)c;
    *n = 0;
    return NULL;
}

const par_checkpoint_tensor *par_checkpoint_tensors(const par_checkpoint *c, int *n) {
    (void)c;
    *n = 0;
    return NULL;
}

const par_checkpoint_tensor *par_checkpoint_find(const par_checkpoint *c, const char *kind,
                                                 const char *name) {
    (void)c, (void)kind, (void)name;
    return NULL;
}

par_status par_checkpoint_read(const par_checkpoint *c, const par_checkpoint_tensor *tensor,
                               const int64_t offset[2], const int64_t extent[2], par_dtype dtype,
                               void *dst) {
    (void)c, (void)tensor, (void)offset, (void)extent, (void)dtype, (void)dst;
    PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s", reason);
}

par_status par_checkpoint_verify(const par_checkpoint *c, int rank) {
    (void)c, (void)rank;
    PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s", reason);
}
