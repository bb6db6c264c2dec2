/*
 * The structure of a shard, by libhdf5: groups by kind, one contiguous data set a run, space
 * allocated early and never filled, newest format (its structure carries checksums). Only structure
 * goes through libhdf5: it syncs nothing, and after a failed write it may crash in its exit
 * handler, which H5dont_atexit keeps away. The host's error printing is put back after each call
 * here; no other setting of the host is touched.
 */
#include <hdf5.h>
#include <string.h>

#include "libpar/checkpoint/checkpoint.h"

/* Data sets from 64 KiB on begin at pages. */
enum { ALIGN_FROM = 1 << 16, ALIGN = 4096 };

static hid_t type_of(par_dtype dtype) {
    switch (dtype) {
    case PAR_F32: return H5T_IEEE_F32LE;
    case PAR_BF16:
    case PAR_F16: return H5T_STD_U16LE; /* bits; HDF5 1.10 has no names for them */
    case PAR_I32: return H5T_STD_I32LE;
    case PAR_I64: return H5T_STD_I64LE;
    default: return H5T_STD_U8LE;
    }
}

static hid_t access_list(void) {
    hid_t list = H5Pcreate(H5P_FILE_ACCESS);
    if (list < 0) return list;
    if (H5Pset_libver_bounds(list, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST) < 0 ||
        H5Pset_alignment(list, ALIGN_FROM, ALIGN) < 0 ||
        H5Pset_fclose_degree(list, H5F_CLOSE_STRONG) < 0) {
        H5Pclose(list);
        return -1;
    }
    return list;
}

static hid_t creation_list(void) {
    hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    if (list < 0) return list;
    if (H5Pset_layout(list, H5D_CONTIGUOUS) < 0 ||
        H5Pset_alloc_time(list, H5D_ALLOC_TIME_EARLY) < 0 ||
        H5Pset_fill_time(list, H5D_FILL_TIME_NEVER) < 0 || H5Pset_obj_track_times(list, 0) < 0) {
        H5Pclose(list);
        return -1;
    }
    return list;
}

/* No times: the same state makes the same file. For groups, and for a file, whose root is one. */
static hid_t timeless_list(hid_t class) {
    hid_t list = H5Pcreate(class);
    if (list >= 0 && H5Pset_obj_track_times(list, 0) < 0) {
        H5Pclose(list);
        return -1;
    }
    return list;
}

/* One data set; its offset, or HADDR_UNDEF. */
static haddr_t add_set(hid_t group, hid_t list, const par_checkpoint_run *run) {
    hsize_t n = (hsize_t)run->n;
    haddr_t at = HADDR_UNDEF;
    hid_t space = H5Screate_simple(1, &n, NULL);
    hid_t set = space < 0 ? -1
                          : H5Dcreate2(group, run->name, type_of(run->dtype), space, H5P_DEFAULT,
                                       list, H5P_DEFAULT);
    if (set >= 0) at = H5Dget_offset(set);
    if (set >= 0 && H5Dclose(set) < 0) at = HADDR_UNDEF;
    if (space >= 0) H5Sclose(space);
    return at;
}

static hid_t open_group(hid_t file, const char *kind) {
    htri_t there = H5Lexists(file, kind, H5P_DEFAULT);
    if (there < 0) return -1;
    if (there > 0) return H5Gopen2(file, kind, H5P_DEFAULT);
    hid_t list = timeless_list(H5P_GROUP_CREATE);
    if (list < 0) return -1;
    hid_t group = H5Gcreate2(file, kind, H5P_DEFAULT, list, H5P_DEFAULT);
    H5Pclose(list);
    return group;
}

/* Number of runs that got a span; n if all did. */
static int add_sets(hid_t file, hid_t list, const par_checkpoint_run *runs, int n,
                    par__span *spans) {
    for (int i = 0; i < n; i++) {
        hid_t group = open_group(file, runs[i].kind);
        if (group < 0) return i;
        haddr_t at = add_set(group, list, &runs[i]);
        if (H5Gclose(group) < 0 || at == HADDR_UNDEF) return i;
        spans[i].offset = (int64_t)at;
    }
    return n;
}

static par_status lay_out(const char *path, const par_checkpoint_run *runs, int n,
                          par__span *spans) {
    hid_t access = access_list(), list = creation_list(), root = timeless_list(H5P_FILE_CREATE),
          file = -1;
    int done = 0;
    if (access >= 0 && list >= 0 && root >= 0) file = H5Fcreate(path, H5F_ACC_EXCL, root, access);
    bool made = file >= 0;
    if (made) done = add_sets(file, list, runs, n, spans);
    bool closed = made && H5Fclose(file) >= 0;
    if (access >= 0) H5Pclose(access);
    if (list >= 0) H5Pclose(list);
    if (root >= 0) H5Pclose(root);
    if (!made) PAR_FAIL(PAR_ERR_IO, "%s: HDF5 cannot create the file", path);
    if (done < n)
        PAR_FAIL(PAR_ERR_IO, "%s: HDF5 cannot make the data set %s/%s", path, runs[done].kind,
                 runs[done].name);
    if (!closed)
        PAR_FAIL(PAR_ERR_IO, "%s: HDF5 cannot write the file's structure (is the disk full?)",
                 path);
    return PAR_OK;
}

par_status par__shard_layout(const char *path, const par_checkpoint_run *runs, int n,
                             par__span *spans) {
    H5E_auto2_t print;
    void *user;
    H5dont_atexit(); /* without effect when the host has used libhdf5 already */
    if (H5Eget_auto2(H5E_DEFAULT, &print, &user) < 0)
        PAR_FAIL(PAR_ERR_IO, "%s: HDF5 does not start", path);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    par_status st = lay_out(path, runs, n, spans);
    H5Eset_auto2(H5E_DEFAULT, print, user);
    return st;
}
