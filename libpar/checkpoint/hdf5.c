/*
 * The structure of a shard, by libhdf5: groups by kind, one contiguous data set per run, space
 * allocated early and never filled, newest format (its structure carries checksums). Only structure
 * goes through libhdf5: it syncs nothing, and after a failed write it may crash in its exit
 * handler, which H5dont_atexit keeps away. The host's error printing is put back after each call
 * here; no other setting of the host is touched. Files are not locked, as many file systems cannot.
 * One thread of libpar at a time calls libhdf5.
 */
#define _GNU_SOURCE
#include "libpar/checkpoint/hdf5.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "libpar/base/file.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* from begin to end */

/* Data sets from 64 KiB on begin at pages. */
enum { ALIGN_FROM = 1 << 16, ALIGN = 4096 };

/* 16-bit floats: sign 15, exponent of `bits` behind a fraction that fills the rest. */
static hid_t half_type(size_t bits, size_t bias) {
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    if (type < 0) return type;
    if (H5Tset_fields(type, 15, 15 - bits, bits, 0, 15 - bits) < 0 || H5Tset_size(type, 2) < 0 ||
        H5Tset_precision(type, 16) < 0 || H5Tset_ebias(type, bias) < 0) {
        H5Tclose(type);
        return -1;
    }
    return type;
}

hid_t par__hdf5_type(par_dtype dtype) {
    switch (dtype) {
    case PAR_F32: return H5Tcopy(H5T_IEEE_F32LE);
    case PAR_BF16: return half_type(8, 127);
    case PAR_F16: return half_type(5, 15);
    case PAR_I32: return H5Tcopy(H5T_STD_I32LE);
    case PAR_I64: return H5Tcopy(H5T_STD_I64LE);
    default: return H5Tcopy(H5T_STD_U8LE);
    }
}

/* Locks are for programs that share a file while it is written; nobody shares ours. */
static herr_t set_unlocked(hid_t list) {
#if H5_VERSION_GE(1, 10, 7)
    return H5Pset_file_locking(list, 0, 1);
#else
    return list < 0 ? -1 : 0;
#endif
}

static hid_t access_list(void) {
    hid_t list = H5Pcreate(H5P_FILE_ACCESS);
    if (list < 0) return list;
    if (H5Pset_libver_bounds(list, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST) < 0 ||
        H5Pset_alignment(list, ALIGN_FROM, ALIGN) < 0 || set_unlocked(list) < 0 ||
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

hid_t par__hdf5_timeless(hid_t class) {
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
    hid_t space = H5Screate_simple(1, &n, NULL), type = par__hdf5_type(run->dtype), set = -1;
    if (space >= 0 && type >= 0)
        set = H5Dcreate2(group, run->name, type, space, H5P_DEFAULT, list, H5P_DEFAULT);
    if (set >= 0) at = H5Dget_offset(set);
    if (set >= 0 && H5Dclose(set) < 0) at = HADDR_UNDEF;
    if (type >= 0) H5Tclose(type);
    if (space >= 0) H5Sclose(space);
    return at;
}

hid_t par__hdf5_group(hid_t file, const char *kind) {
    htri_t there = H5Lexists(file, kind, H5P_DEFAULT);
    if (there < 0) return -1;
    if (there > 0) return H5Gopen2(file, kind, H5P_DEFAULT);
    hid_t list = par__hdf5_timeless(H5P_GROUP_CREATE);
    if (list < 0) return -1;
    hid_t group = H5Gcreate2(file, kind, H5P_DEFAULT, list, H5P_DEFAULT);
    H5Pclose(list);
    return group;
}

hid_t par__hdf5_create(const char *path) {
    hid_t access = access_list(), root = par__hdf5_timeless(H5P_FILE_CREATE), file = -1;
    if (access >= 0 && root >= 0) file = H5Fcreate(path, H5F_ACC_EXCL, root, access);
    if (access >= 0) H5Pclose(access);
    if (root >= 0) H5Pclose(root);
    return file;
}

/* As libhdf5 writes: space that is reserved, then bytes here and there. 0 or errno's number. */
static int try_to_write(int fd) {
    int error = posix_fallocate(fd, 0, 1 << 12);
    if (error == ENOSPC || error == EDQUOT || error == EIO) return error;
    const off_t places[] = {0, 1 << 13, 1 << 12};
    for (int i = 0; i < 3; i++)
        if (pwrite(fd, "", 1, places[i]) < 0) return errno;
    return 0;
}

par_status par__hdf5_failed(const char *path, const char *what) {
    char beside[PAR__PATH + 8];
    snprintf(beside, sizeof beside, "%s" PAR__TEMPORARY, path);
    int fd = open(beside, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    int error = fd < 0 ? errno : try_to_write(fd);
    if (fd >= 0) close(fd);
    unlink(beside);
    if (error == EINVAL || error == ESPIPE || error == EOPNOTSUPP)
        PAR_FAIL(PAR_ERR_IO,
                 "%s: this file system only takes files that are written in order, from their "
                 "beginning to their end (%s), and HDF5 cannot do that; legal: a directory on "
                 "another file system",
                 path, strerror(error));
    errno = error;
    if (fd < 0) return par__write_error(path, "created");
    if (error) return par__write_error(path, "written");
    PAR_FAIL(PAR_ERR_IO,
             "%s: HDF5 cannot %s (is the disk full? Where the file system has no locks, set "
             "HDF5_USE_FILE_LOCKING=FALSE)",
             path, what);
}

static par_status lay_out(const char *path, const par_checkpoint_run *runs, int n,
                          par__span *spans) {
    hid_t list = creation_list(), file = par__hdf5_create(path);
    int done = 0; /* runs that got a span */
    for (; file >= 0 && list >= 0 && done < n; done++) {
        hid_t group = par__hdf5_group(file, runs[done].kind);
        if (group < 0) break;
        haddr_t at = add_set(group, list, &runs[done]);
        if (H5Gclose(group) < 0 || at == HADDR_UNDEF) break;
        spans[done].offset = (int64_t)at;
    }
    bool closed = file >= 0 && H5Fclose(file) >= 0;
    if (list >= 0) H5Pclose(list);
    if (file < 0) return par__hdf5_failed(path, "create the file");
    if (done < n) {
        char what[600];
        snprintf(what, sizeof what, "make the data set %s/%s", runs[done].kind, runs[done].name);
        return par__hdf5_failed(path, what);
    }
    return closed ? PAR_OK : par__hdf5_failed(path, "write the file's structure");
}

par_status par__hdf5_begin(const char *path, par__hdf5 *out) {
    pthread_mutex_lock(&lock);
    const char *missing = par__hdf5_missing();
    bool starts = !missing && H5Eget_auto2(H5E_DEFAULT, &out->print, &out->user) >= 0;
    if (starts) {
        H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
        return PAR_OK;
    }
    pthread_mutex_unlock(&lock);
    if (missing) PAR_FAIL(PAR_ERR_UNSUPPORTED, "%s", missing);
    PAR_FAIL(PAR_ERR_IO, "%s: HDF5 does not start", path);
}

void par__hdf5_end(const par__hdf5 *host) {
    H5Eset_auto2(H5E_DEFAULT, host->print, host->user);
    pthread_mutex_unlock(&lock);
}

par_status par__shard_layout(const char *path, const par_checkpoint_run *runs, int n,
                             par__span *spans) {
    par__hdf5 host;
    PAR_TRY(par__hdf5_begin(path, &host));
    par_status st = lay_out(path, runs, n, spans);
    par__hdf5_end(&host);
    return st;
}

bool par__hdf5_for_threads(void) {
    hbool_t is = 0;
    return H5is_library_threadsafe(&is) >= 0 && is;
}

/* Structures of libhdf5's calls differ between releases; it ends the process when it finds out. */
const char *par__hdf5_missing(void) {
    static char why[256];
    unsigned major, minor, release;
    H5dont_atexit(); /* without effect when the host has used libhdf5 already */
    if (H5get_libversion(&major, &minor, &release) < 0) return "libhdf5 does not start";
    if (major == H5_VERS_MAJOR && minor == H5_VERS_MINOR && release == H5_VERS_RELEASE) return NULL;
    snprintf(why, sizeof why,
             "the libhdf5 that is loaded is %u.%u.%u, and libpar was built against %d.%d.%d: "
             "set LD_LIBRARY_PATH so that it finds that one, or build libpar again",
             major, minor, release, H5_VERS_MAJOR, H5_VERS_MINOR, H5_VERS_RELEASE);
    return why;
}
