/*
 * index.h5: every logical tensor of a checkpoint as one virtual data set of its whole shape, whose
 * parts are rectangles of the ranks' files beside it. It is for people and tools: loading goes by
 * the manifest. It is a function of the manifest alone, so that what an index.h5 says is verified
 * without reading it: another one is made elsewhere, and has the same bytes. HDF5 1.10.8 and 1.14.2
 * make the same.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libpar/base/file.h"
#include "libpar/checkpoint/hdf5.h"

/* One stored run as parts of a virtual data set. */
static herr_t add_run(hid_t list, hid_t target, const par__stored *stored) {
    char file[PAR__NAME], set[600];
    par__rect rects[PAR__RECTS];
    const par_checkpoint_run *r = &stored->run;
    hsize_t n = (hsize_t)r->n;
    int count = par__run_rects(r, rects);
    hid_t source = H5Screate_simple(1, &n, NULL);
    herr_t st = source < 0 ? -1 : 0;
    par__shard_name(stored->file, file);
    snprintf(set, sizeof set, "%s/%s", r->kind, r->name);
    for (int i = 0; st >= 0 && i < count; i++) {
        const par__rect *q = &rects[i];
        const hsize_t at = (hsize_t)q->at, pitch = (hsize_t)q->pitch, rows = (hsize_t)q->rows;
        const hsize_t width = (hsize_t)q->columns, area = rows * width, one = 1;
        const hsize_t begin[2] = {(hsize_t)q->row, (hsize_t)q->column}, shape[2] = {rows, width};
        st = q->columns == q->pitch
                 ? H5Sselect_hyperslab(source, H5S_SELECT_SET, &at, NULL, &one, &area)
                 : H5Sselect_hyperslab(source, H5S_SELECT_SET, &at, &pitch, &rows, &width);
        if (st >= 0) st = H5Sselect_hyperslab(target, H5S_SELECT_SET, begin, NULL, shape, NULL);
        if (st >= 0) st = H5Pset_virtual(list, target, file, set, source);
    }
    if (source >= 0) H5Sclose(source);
    return st;
}

/* Tensor i, whose runs are those of `order`. */
static herr_t add_tensor(hid_t file, const par_checkpoint *c, int i, par__stored *const *order,
                         int n) {
    const par_checkpoint_tensor *t = &c->tensors[i];
    const hsize_t shape[2] = {(hsize_t)t->global[0], (hsize_t)t->global[1]};
    hid_t group = par__hdf5_group(file, t->kind), space = H5Screate_simple(t->ndim, shape, NULL);
    hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    herr_t st = group < 0 || space < 0 || list < 0 ? -1 : H5Pset_obj_track_times(list, 0);
    for (int k = 0; st >= 0 && k < n; k++) st = add_run(list, space, order[k]);
    if (st >= 0) st = H5Sselect_all(space);
    hid_t type = st >= 0 ? par__hdf5_type(t->dtype) : -1, set = -1;
    if (type >= 0) set = H5Dcreate2(group, t->name, type, space, H5P_DEFAULT, list, H5P_DEFAULT);
    if (type >= 0) H5Tclose(type);
    if (st >= 0) st = set < 0 ? -1 : H5Dclose(set);
    if (list >= 0) H5Pclose(list);
    if (space >= 0) H5Sclose(space);
    if (group >= 0 && H5Gclose(group) < 0) st = -1;
    return st;
}

static int by_tensor(const void *a, const void *b) {
    const par__stored *x = *(par__stored *const *)a, *y = *(par__stored *const *)b;
    if (x->tensor != y->tensor) return x->tensor < y->tensor ? -1 : 1;
    return x < y ? -1 : x > y;
}

static par_status no_set(const char *path, const par_checkpoint_tensor *t) {
    char what[600];
    snprintf(what, sizeof what, "make the virtual data set %s/%s", t->kind, t->name);
    return par__hdf5_failed(path, what);
}

static par_status add_tensors(const char *path, hid_t file, const par_checkpoint *c) {
    par__stored **order = malloc(((size_t)c->n_stored + 1) * sizeof *order);
    par_status st = PAR_OK;
    if (!order) PAR_FAIL(PAR_ERR_MEMORY, "%s: no host memory for a list of runs", path);
    for (int i = 0; i < c->n_stored; i++) order[i] = &c->stored[i];
    qsort(order, (size_t)c->n_stored, sizeof *order, by_tensor);
    for (int i = 0, k = 0, n = 0; st == PAR_OK && i < c->n_tensors; i++, k += n, n = 0) {
        while (k + n < c->n_stored && order[k + n]->tensor == i) n++;
        if (c->tensors[i].ndim > 0 && add_tensor(file, c, i, order + k, n) < 0)
            st = no_set(path, &c->tensors[i]);
    }
    free(order);
    return st;
}

par_status par__index_layout(const char *path, const par_checkpoint *c) {
    par__hdf5 host;
    PAR_TRY(par__hdf5_begin(path, &host));
    hid_t file = par__hdf5_create(path);
    par_status st =
        file < 0 ? par__hdf5_failed(path, "create the file") : add_tensors(path, file, c);
    if (file >= 0 && H5Fclose(file) < 0 && st == PAR_OK)
        st = par__hdf5_failed(path, "write the file's structure");
    par__hdf5_end(&host);
    return st;
}

/* In a new folder, which goes again. */
par_status par__index_again(const par_checkpoint *c, char **out, size_t *nbytes) {
    char folder[PAR__PATH], path[PAR__PATH];
    const char *root = getenv("TMPDIR");
    PAR_TRY(par__path(folder, root && *root ? root : "/tmp", "par-index-XXXXXX"));
    if (!mkdtemp(folder)) return par__write_error(folder, "made (legal: another TMPDIR)");
    par_status st = par__path(path, folder, "index.h5");
    if (st == PAR_OK) st = par__index_layout(path, c);
    if (st == PAR_OK) st = par__read_file(path, PAR__MANIFEST_MAX, out, nbytes);
    unlink(path);
    rmdir(folder);
    return st;
}

par_status par__index_same(const char *path, const char *data, size_t nbytes, const char *made,
                           size_t n_made) {
    size_t at = 0; /* where they begin to differ */
    while (at < n_made && at < nbytes && made[at] == data[at]) at++;
    if (at == n_made && at == nbytes) return PAR_OK;
    PAR_FAIL(PAR_ERR_FORMAT,
             "%s: is not the index that this libhdf5 makes of its manifest, from byte %lld on: "
             "another version wrote it, or somebody changed it; then do not open it with other "
             "tools (loading does not read it)",
             path, (long long)at);
}

par_status par__index_compare(const char *path, const char *data, size_t nbytes,
                              const par_checkpoint *c) {
    char *made = NULL;
    size_t n = 0;
    par_status st = par__index_again(c, &made, &n);
    if (st == PAR_ERR_IO) st = PAR_ERR_UNSUPPORTED; /* of the folder: the checkpoint may be whole */
    if (st != PAR_OK)
        return par_error_set(st, "%s: cannot be compared with the manifest: %s", path, par_error());
    st = par__index_same(path, data, nbytes, made, n);
    free(made);
    return st;
}
