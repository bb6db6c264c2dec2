/*
 * Reading one rectangle of one logical parameter, widened to fp32: row `i`, column `j` of the
 * parameter is row part · rows + i of the stored tensor, or its column if that is transposed. Only
 * the bytes of the rectangle are touched. A value that is not finite, or would not be in the type
 * that the parameter has in the model, is refused here: in a training it would look like a fault
 * of the learning rate.
 */
#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "kernels/half.h"
#include "libpar/base/checked.h"
#include "libpar/base/threads.h"
#include "libpar/import/directory.h"
#include "libpar/import/weights.h"

enum { TILE = 64 };

typedef struct {
    const uint8_t *data; /* of the stored tensor */
    const par__st_type *type;
    int64_t stride;   /* elements between stored rows */
    int64_t row, col; /* where the rectangle begins in the parameter's own orientation, fused rows
                         before included */
    int64_t rows, cols;
    bool transposed;
    float *dst; /* [rows, dst_stride] */
    int64_t dst_stride;
    float limit;           /* values must be smaller: what rounds to infinity in the model's type */
    _Atomic int64_t first; /* element of dst [rows, cols] that is not; rows · cols: none */
} rectangle;

static const uint8_t *stored_at(const rectangle *r, int64_t i, int64_t j) {
    return r->data + (size_t)(i * r->stride + j) * r->type->nbytes;
}

/* Stored rows are the parameter's columns: runs of them are scattered over a tile of dst, which
 * stays in the cache. */
static void read_tile(const rectangle *r, int64_t begin, int64_t end, int64_t j) {
    float run[TILE];
    int64_t j_end = j + TILE < r->cols ? j + TILE : r->cols;
    for (; j < j_end; j++) {
        par__widen(stored_at(r, r->col + j, r->row + begin), r->type->dtype, end - begin, run);
        for (int64_t i = begin; i < end; i++) r->dst[i * r->dst_stride + j] = run[i - begin];
    }
}

static void check_row(rectangle *r, int64_t i) {
    const float *x = r->dst + i * r->dst_stride, limit = r->limit;
    int bad = 0;
    for (int64_t j = 0, n = r->cols; j < n; j++) bad |= !(fabsf(x[j]) < limit);
    if (!bad) return;
    int64_t j = 0, known = atomic_load(&r->first);
    while (fabsf(x[j]) < limit) j++;
    int64_t found = i * r->cols + j;
    while (found < known && !atomic_compare_exchange_weak(&r->first, &known, found)) {
    }
}

/* Rows of dst, TILE at a time. */
static void read_rows(const void *user, int slot, int64_t begin_tile, int64_t end_tile) {
    rectangle *r = (rectangle *)(uintptr_t)user;
    for (int64_t begin = begin_tile * TILE; begin < end_tile * TILE && begin < r->rows;
         begin += TILE) {
        int64_t end = begin + TILE < r->rows ? begin + TILE : r->rows;
        for (int64_t j = 0; r->transposed && j < r->cols; j += TILE) read_tile(r, begin, end, j);
        for (int64_t i = begin; i < end; i++) {
            if (!r->transposed)
                par__widen(stored_at(r, r->row + i, r->col), r->type->dtype, r->cols,
                           r->dst + i * r->dst_stride);
            check_row(r, i);
        }
    }
}

static par_status check_param(const par_transformer_config *c, const par__mapping *m,
                              const par_param *p) {
    int64_t shape[2] = {par__dim_size(c, m->rows), par__dim_size(c, m->cols)}, end;
    int ndim = m->cols == PAR__DIM_ONE ? 1 : 2;
    if (p->ndim != ndim)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: has %d dimensions; the model gives %d", p->name, p->ndim,
                 ndim);
    for (int d = 0; d < ndim; d++) {
        if (p->global[d] != shape[d])
            PAR_FAIL(PAR_ERR_FORMAT,
                     "%s: dimension %d is %" PRId64 "; the configuration gives %" PRId64, p->name,
                     d, p->global[d], shape[d]);
        if (p->offset[d] < 0 || p->extent[d] < 0 || !par__add64(p->offset[d], p->extent[d], &end) ||
            end > shape[d] || p->local[d] < p->extent[d])
            PAR_FAIL(PAR_ERR_ARG,
                     "%s: dimension %d: offset %" PRId64 ", extent %" PRId64 ", local %" PRId64
                     "; legal: within %" PRId64 ", local at least extent",
                     p->name, d, p->offset[d], p->extent[d], p->local[d], shape[d]);
    }
    return PAR_OK;
}

static par_status bad_value(const rectangle *r, const par_safetensors *file, const par__st_entry *e,
                            const par_param *p) {
    int64_t i = r->first / r->cols, j = r->first % r->cols;
    int64_t at[2] = {r->row + i, r->col + j};
    if (r->transposed) at[0] = r->col + j, at[1] = r->row + i;
    return par__weight_refuse(file->path, e->name, p->ndim, at,
                              (double)r->dst[i * r->dst_stride + j], p->dtype);
}

static par_status read_rectangle(const par_transformer_config *c, const par__mapping *m,
                                 const par_safetensors *file, const par__st_entry *e,
                                 const par_param *p, float *dst) {
    int64_t rows = par__dim_size(c, m->rows), cols = par__dim_size(c, m->cols);
    bool vector = p->ndim == 1;
    int64_t dst_stride = vector ? 1 : p->local[1];
    rectangle r = {.data = file->data + e->begin,
                   .type = e->type,
                   .stride = m->transposed ? rows * m->parts : cols,
                   .row = m->part * rows + p->offset[0],
                   .col = vector ? 0 : p->offset[1],
                   .rows = p->extent[0],
                   .cols = vector ? 1 : p->extent[1],
                   .transposed = m->transposed,
                   .dst = dst,
                   .dst_stride = dst_stride,
                   .limit = par__weight_limit(p->dtype)};
    int64_t n = r.rows * r.cols;
    atomic_init(&r.first, n);
    if (n < p->local[0] * dst_stride) /* padding */
        memset(dst, 0, (size_t)(p->local[0] * dst_stride) * sizeof *dst);
    if (n > 0) par__threads_run((r.rows + TILE - 1) / TILE, PAR_MAX_THREADS, read_rows, &r);
    PAR_TRY(par__map_check(&file->map, file->path));
    return atomic_load(&r.first) < n ? bad_value(&r, file, e, p) : PAR_OK;
}

static const par__mapping *find_mapping(const par_import *import, const par_param *p,
                                        int64_t *layer) {
    const par__mapping *m = par__mapping_find(import->family, p->name, layer);
    return m && *layer < import->config.layers ? m : NULL;
}

static par_status no_mapping(const par_import *import, const par_param *p) {
    return par_error_set(PAR_ERR_FORMAT, "%s: no parameter of %s with %" PRId64 " layers", p->name,
                         import->family->architecture, import->config.layers);
}

par_status par_import_read(const par_import *import, const par_param *param, float *dst) {
    char name[256];
    int64_t layer;
    const par_safetensors *file;
    PAR_REQUIRE(import && param && dst);
    const par__mapping *m = find_mapping(import, param, &layer);
    if (!m) return no_mapping(import, param);
    PAR_TRY(check_param(&import->config, m, param));
    if (!par__import_name(import, m, layer, name, sizeof name)) return no_mapping(import, param);
    const par__st_entry *e = par__import_find(import, name, &file);
    if (!e)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: tensor \"%s\" for %s is missing", import->directory, name,
                 param->name);
    /* Shape and type were checked when the directory was opened; a tied head was checked against
     * the embedding. */
    return read_rectangle(&import->config, m, file, e, param, dst);
}

par_status par_import_read_from(const par_import *import, const par_safetensors *file,
                                const char *prefix, const par_param *param, float *dst) {
    char with[256], without[256];
    int64_t layer;
    PAR_REQUIRE(import && file && prefix && param && dst);
    const par__mapping *m = find_mapping(import, param, &layer);
    if (!m) return no_mapping(import, param);
    PAR_TRY(check_param(&import->config, m, param));
    size_t n = (size_t)snprintf(with, sizeof with, "%s%s", prefix,
                                m->when == PAR__IF_UNTIED ? "" : import->family->prefix);
    if (n >= sizeof with || !par__name_make(with + n, sizeof with - n, "", m->theirs, layer) ||
        !par__name_make(without, sizeof without, prefix, m->theirs, layer))
        PAR_FAIL(PAR_ERR_ARG, "prefix \"%.100s\" is too long", prefix);
    const par__st_entry *e = par__safetensors_find(file, with);
    if (!e) e = par__safetensors_find(file, without);
    if (!e)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: tensor \"%s\" (or \"%s\") for %s is missing", file->path,
                 with, without, param->name);
    PAR_TRY(par__mapping_check(&import->config, m, file, e));
    return read_rectangle(&import->config, m, file, e, param, dst);
}
