/* What the two files that call libhdf5 share; the only header that includes its. */
#ifndef PAR__CHECKPOINT_HDF5_H
#define PAR__CHECKPOINT_HDF5_H

#include <hdf5.h>

#include "libpar/checkpoint/checkpoint.h"

/* libhdf5's macros end the process when its release is not that of the header; par__hdf5_missing
 * has compared them before, and returns. */
#undef H5CHECK
#define H5CHECK

/* The host's printing of errors, off between begin and end; other threads wait meanwhile. */
typedef struct {
    H5E_auto2_t print;
    void *user;
} par__hdf5;

/* PAR_ERR_UNSUPPORTED where par__hdf5_missing says why. */
par_status par__hdf5_begin(const char *path, par__hdf5 *out);
void par__hdf5_end(const par__hdf5 *host);

/* To be closed; negative: an error. */
hid_t par__hdf5_type(par_dtype dtype);
/* No times: the same state makes the same file. For groups, and for a file, whose root is one. */
hid_t par__hdf5_timeless(hid_t class);
hid_t par__hdf5_group(hid_t file, const char *name);
/* A new file. */
hid_t par__hdf5_create(const char *path);
/* libhdf5 could not do `what` with the file, and does not say why. The error to return: what a file
 * of our own beside it meets, else what it may be. */
par_status par__hdf5_failed(const char *path, const char *what);

#endif
