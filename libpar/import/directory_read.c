/*
 * Reading one rectangle of one logical parameter, widened to fp32: row `i`, column `j` of the
 * parameter is row part · rows + i of the stored tensor, or its column if that is transposed. Only
 * the bytes of the rectangle are touched.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "kernels/half.h"
#include "libpar/base/checked.h"
#include "libpar/import/directory.h"

enum { BLOCK = 256 };

/* n elements from an unaligned address. */
static void widen(const uint8_t *src, int dtype, int64_t n, float *dst) {
    uint16_t h;
    if (dtype == PAR_F32) memcpy(dst, src, (size_t)n * sizeof *dst);
    for (int64_t i = 0; i < n && dtype != PAR_F32; i++) {
        memcpy(&h, src + 2 * i, sizeof h);
        dst[i] = dtype == PAR_BF16 ? par__bf16_to_f32(h) : par__f16_to_f32(h);
    }
}

typedef struct {
    const uint8_t *data; /* of the stored tensor */
    const par__st_type *type;
    int64_t stride;   /* elements between stored rows */
    int64_t row, col; /* where the rectangle begins in the parameter's own orientation, fused rows
                         before included */
    int64_t rows, cols;
} rectangle;

static void read_straight(const rectangle *r, float *dst, int64_t dst_stride) {
    for (int64_t i = 0; i < r->rows; i++)
        widen(r->data + (size_t)((r->row + i) * r->stride + r->col) * r->type->nbytes,
              r->type->dtype, r->cols, dst + i * dst_stride);
}

/* Stored rows are the parameter's columns: read runs of them and scatter. */
static void read_transposed(const rectangle *r, float *dst, int64_t dst_stride) {
    float run[BLOCK];
    for (int64_t j = 0; j < r->cols; j++)
        for (int64_t i = 0; i < r->rows; i += BLOCK) {
            int64_t n = r->rows - i < BLOCK ? r->rows - i : BLOCK;
            widen(r->data + (size_t)((r->col + j) * r->stride + r->row + i) * r->type->nbytes,
                  r->type->dtype, n, run);
            for (int64_t k = 0; k < n; k++) dst[(i + k) * dst_stride + j] = run[k];
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

static void read_rectangle(const par_transformer_config *c, const par__mapping *m,
                           const par_safetensors *file, const par__st_entry *e, const par_param *p,
                           float *dst) {
    int64_t rows = par__dim_size(c, m->rows), cols = par__dim_size(c, m->cols);
    bool vector = p->ndim == 1;
    int64_t dst_stride = vector ? 1 : p->local[1];
    rectangle r = {.data = file->data + e->begin,
                   .type = e->type,
                   .stride = m->transposed ? rows * m->parts : cols,
                   .row = m->part * rows + p->offset[0],
                   .col = vector ? 0 : p->offset[1],
                   .rows = p->extent[0],
                   .cols = vector ? 1 : p->extent[1]};
    memset(dst, 0, (size_t)(p->local[0] * dst_stride) * sizeof *dst);
    if (m->transposed)
        read_transposed(&r, dst, dst_stride);
    else
        read_straight(&r, dst, dst_stride);
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
    char name[128];
    int64_t layer;
    const par_safetensors *file;
    PAR_REQUIRE(import && param && dst);
    const par__mapping *m = find_mapping(import, param, &layer);
    if (!m) return no_mapping(import, param);
    PAR_TRY(check_param(&import->config, m, param));
    if (!par__name_make(name, sizeof name, m->head ? "" : import->prefix, m->theirs, layer))
        return no_mapping(import, param);
    const par__st_entry *e = par__import_find(import, name, &file);
    if (!e)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: tensor \"%s\" for %s is missing", import->directory, name,
                 param->name);
    /* Shape and type were checked when the directory was opened; a tied head was checked against
     * the embedding. */
    read_rectangle(&import->config, m, file, e, param, dst);
    return par__map_check(&file->map, file->path);
}

par_status par_import_read_from(const par_import *import, const par_safetensors *file,
                                const char *prefix, const par_param *param, float *dst) {
    char with[256], without[256];
    int64_t layer;
    PAR_REQUIRE(import && file && prefix && param && dst);
    const par__mapping *m = find_mapping(import, param, &layer);
    if (!m) return no_mapping(import, param);
    PAR_TRY(check_param(&import->config, m, param));
    size_t n =
        (size_t)snprintf(with, sizeof with, "%s%s", prefix, m->head ? "" : import->family->prefix);
    if (n >= sizeof with || !par__name_make(with + n, sizeof with - n, "", m->theirs, layer) ||
        !par__name_make(without, sizeof without, prefix, m->theirs, layer))
        PAR_FAIL(PAR_ERR_ARG, "prefix \"%.100s\" is too long", prefix);
    const par__st_entry *e = par__safetensors_find(file, with);
    if (!e) e = par__safetensors_find(file, without);
    if (!e)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: tensor \"%s\" (or \"%s\") for %s is missing", file->path,
                 with, without, param->name);
    PAR_TRY(par__mapping_check(&import->config, m, file, e));
    read_rectangle(&import->config, m, file, e, param, dst);
    return par__map_check(&file->map, file->path);
}
