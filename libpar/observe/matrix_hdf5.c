/*
 * The communication matrix as HDF5: a data set /AXIS/PURPOSE [from, to] per line, whose elements
 * have the quantities as fields. The file is made in memory and written as all others are, so that
 * nobody sees half of it.
 */
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/file.h"
#include "matrix_columns.h"

/* libhdf5's macros end the process when its release is not that of the header: we compare, and
 * return. */
#undef H5CHECK
#define H5CHECK

enum { CHUNK = 64, GROWTH = 1 << 20 };

/* Fields of par_matrix_cell, those that are known. */
static hid_t cell_type(const par_matrix *m) {
    hid_t type = H5Tcreate(H5T_COMPOUND, sizeof(par_matrix_cell));
    for (int q = 0; type >= 0 && q < PAR_MATRIX_QUANTITIES; q++)
        if (m->known[q] &&
            H5Tinsert(type, par__matrix_columns[q].name, par__matrix_columns[q].offset,
                      par__matrix_columns[q].real ? H5T_NATIVE_DOUBLE : H5T_NATIVE_INT64) < 0) {
            H5Tclose(type);
            return -1;
        }
    return type;
}

/* Most cells are 0, and take no room. */
static hid_t creation_list(const par_matrix *m) {
    hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    hsize_t side = (hsize_t)(m->size < CHUNK ? m->size : CHUNK), chunk[2] = {side, side};
    bool packs = H5Zfilter_avail(H5Z_FILTER_DEFLATE) > 0;
    if (list < 0) return -1;
    if (H5Pset_chunk(list, 2, chunk) < 0 || H5Pset_obj_track_times(list, 0) < 0 ||
        (packs && (H5Pset_shuffle(list) < 0 || H5Pset_deflate(list, 1) < 0))) {
        H5Pclose(list);
        return -1;
    }
    return list;
}

static bool write_line(hid_t file, hid_t type, const par_matrix *m, const par_matrix_line *line,
                       par_matrix_cell *dense) {
    hsize_t shape[2] = {(hsize_t)m->size, (hsize_t)m->size};
    hid_t links = H5Pcreate(H5P_LINK_CREATE), list = creation_list(m),
          space = H5Screate_simple(2, shape, NULL), set = -1;
    char path[64];
    int n = snprintf(path, sizeof path, "/%s", line->axis);
    snprintf(path + n, sizeof path - (size_t)n, "/%s", line->purpose);
    for (char *c = path + 1; *c; c++) /* a slash within a name would be a group */
        if (*c == '/' && c != path + n) *c = '_';
    memset(dense, 0, (size_t)m->size * (size_t)m->size * sizeof *dense);
    for (int64_t i = 0; i < line->n; i++)
        dense[(int64_t)line->cells[i].from * m->size + line->cells[i].to] = line->cells[i];
    bool made =
        links >= 0 && list >= 0 && space >= 0 && H5Pset_create_intermediate_group(links, 1) >= 0;
    if (made) set = H5Dcreate2(file, path, type, space, links, list, H5P_DEFAULT);
    bool written = set >= 0 && H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, dense) >= 0;
    if (set >= 0) H5Dclose(set);
    if (space >= 0) H5Sclose(space);
    if (list >= 0) H5Pclose(list);
    if (links >= 0) H5Pclose(links);
    return written;
}

/* The file's bytes, malloc'ed; NULL: libhdf5 failed, or there is no memory. */
static void *make(const par_matrix *m, par_matrix_cell *dense, size_t *nbytes) {
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), file = -1, type = -1;
    void *image = NULL;
    if (access >= 0 && H5Pset_fapl_core(access, GROWTH, 0) >= 0)
        file = H5Fcreate("matrix", H5F_ACC_TRUNC, H5P_DEFAULT, access);
    if (file >= 0) type = cell_type(m);
    bool filled = type >= 0;
    for (int i = 0; filled && i < m->n; i++)
        filled = write_line(file, type, m, &m->lines[i], dense);
    if (type >= 0) H5Tclose(type);
    if (filled && H5Fflush(file, H5F_SCOPE_GLOBAL) >= 0) {
        ssize_t size = H5Fget_file_image(file, NULL, 0);
        if (size > 0) image = malloc((size_t)size);
        if (image && H5Fget_file_image(file, image, (size_t)size) != size) {
            free(image);
            image = NULL;
        }
        *nbytes = size > 0 ? (size_t)size : 0;
    }
    if (file >= 0) H5Fclose(file);
    if (access >= 0) H5Pclose(access);
    return image;
}

par_status par_matrix_write_hdf5(const par_matrix *m, const char *path) {
    H5E_auto2_t print = NULL;
    void *user = NULL;
    size_t nbytes = 0;
    unsigned major = 0, minor = 0, release = 0;
    PAR_REQUIRE(m && path && m->size > 0);
    H5dont_atexit(); /* before any other call */
    if (H5get_libversion(&major, &minor, &release) < 0 || major != H5_VERS_MAJOR ||
        minor != H5_VERS_MINOR)
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "HDF5: libhdf5 is %u.%u, and libpar was built for %d.%d: build it "
                 "again",
                 major, minor, H5_VERS_MAJOR, H5_VERS_MINOR);
    par_matrix_cell *dense = malloc((size_t)m->size * (size_t)m->size * sizeof *dense);
    if (!dense) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for %d x %d cells", m->size, m->size);
    H5Eget_auto2(H5E_DEFAULT, &print, &user);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    void *image = make(m, dense, &nbytes);
    H5Eset_auto2(H5E_DEFAULT, print, user);
    par_status st = image ? par__replace_file(path, image, nbytes)
                          : par_error_set(PAR_ERR_MEMORY, "%s: libhdf5 could not make it", path);
    free(image);
    free(dense);
    return st;
}
