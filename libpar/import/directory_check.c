/*
 * The tensors of a directory against its configuration, before any is read: each one that the model
 * needs is there with its shape and a floating type, and each one that is there is known.
 */
#include <inttypes.h>
#include <string.h>

#include "libpar/import/directory.h"

const par__st_entry *par__import_find(const par_import *import, const char *name,
                                      const par_safetensors **file) {
    for (int i = 0; i < import->n_files; i++) {
        const par__st_entry *e = par__safetensors_find(import->files[i], name);
        if (e) {
            *file = import->files[i];
            return e;
        }
    }
    return NULL;
}

/* What the family stores for a row of the table: fused parts together, transposed as they lie. */
static int stored_shape(const par_transformer_config *c, const par__mapping *m, int64_t shape[2]) {
    int64_t rows = par__dim_size(c, m->rows) * m->parts, cols = par__dim_size(c, m->cols);
    shape[0] = m->transposed ? cols : rows;
    shape[1] = m->transposed ? rows : cols;
    return m->cols == PAR__DIM_ONE ? 1 : 2;
}

par_status par__mapping_check(const par_transformer_config *c, const par__mapping *m,
                              const par_safetensors *file, const par__st_entry *e) {
    int64_t want[2];
    char is[100], legal[100];
    int ndim = stored_shape(c, m, want);
    if (e->ndim != ndim || e->shape[0] != want[0] || (ndim == 2 && e->shape[1] != want[1]))
        PAR_FAIL(PAR_ERR_FORMAT, "%s: tensor \"%.200s\": shape %s; the configuration gives %s",
                 file->path, e->name, par__shape_text(is, sizeof is, e->ndim, e->shape),
                 par__shape_text(legal, sizeof legal, ndim, want));
    if (e->type->dtype != PAR_F32 && e->type->dtype != PAR_BF16 && e->type->dtype != PAR_F16)
        PAR_FAIL(PAR_ERR_UNSUPPORTED,
                 "%s: tensor \"%.200s\": dtype %s; supported for weights: F32, BF16, F16",
                 file->path, e->name, e->type->name);
    return PAR_OK;
}

/* save_pretrained's names have the prefix, the hub's older files do not: the token embedding
 * tells. */
static par_status find_prefix(par_import *import) {
    const char *const prefixes[] = {import->family->prefix, ""};
    const par_safetensors *file;
    char name[128];
    for (int i = 0; i < 2; i++) {
        par__name_make(name, sizeof name, prefixes[i], import->family->table[0].theirs, 0);
        if (!par__import_find(import, name, &file)) continue;
        import->prefix = prefixes[i];
        return PAR_OK;
    }
    PAR_FAIL(PAR_ERR_FORMAT, "%s: tensor \"%s%s\" is missing, also without \"%s\"",
             import->directory, import->family->prefix, import->family->table[0].theirs,
             import->family->prefix);
}

static par_status check_row(const par_import *import, const par__mapping *m, int64_t layer) {
    char name[128];
    const par_safetensors *file;
    if (!par__name_make(name, sizeof name, m->head ? "" : import->prefix, m->theirs, layer))
        PAR_FAIL(PAR_ERR_INTERNAL, "name of %s does not fit", m->theirs);
    const par__st_entry *e = par__import_find(import, name, &file);
    if (!e)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: tensor \"%s\" is missing; the configuration has %" PRId64 " layers",
                 import->directory, name, import->config.layers);
    return par__mapping_check(&import->config, m, file, e);
}

static par_status check_needed(const par_import *import) {
    for (int i = 0; i < import->family->n; i++) {
        const par__mapping *m = &import->family->table[i];
        int64_t n = strchr(m->theirs, '*') ? import->config.layers : 1;
        if (m->head && import->config.tied) continue;
        for (int64_t layer = 0; layer < n; layer++) PAR_TRY(check_row(import, m, layer));
    }
    return PAR_OK;
}

/* A tied model may store its head again. If that is another matrix, the file and its configuration
 * disagree. */
static par_status check_tied_head(const par_import *import, const par__mapping *m,
                                  const par_safetensors *file, const par__st_entry *head) {
    char name[128];
    const par_safetensors *other;
    PAR_TRY(par__mapping_check(&import->config, m, file, head));
    par__name_make(name, sizeof name, import->prefix, import->family->table[0].theirs, 0);
    const par__st_entry *e = par__import_find(import, name, &other);
    if (e->type != head->type ||
        memcmp(other->data + e->begin, file->data + head->begin, e->end - e->begin) != 0)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: tensor \"%s\" differs from \"%s\", but tie_word_embeddings makes them one",
                 file->path, head->name, name);
    return PAR_OK;
}

static par_status check_known(const par_import *import, const par_safetensors *file,
                              const par__st_entry *e) {
    int64_t layer;
    size_t n = strlen(import->prefix);
    const char *base = strncmp(e->name, import->prefix, n) == 0 ? e->name + n : NULL;
    for (int i = 0; i < import->family->n; i++) {
        const par__mapping *m = &import->family->table[i];
        const char *name = m->head ? e->name : base;
        if (!name || !par__name_match(m->theirs, name, &layer) || layer >= import->config.layers)
            continue;
        return m->head && import->config.tied ? check_tied_head(import, m, file, e) : PAR_OK;
    }
    for (const char *const *pattern = import->family->ignored; base && *pattern; pattern++)
        if (par__name_match(*pattern, base, &layer)) return PAR_OK;
    PAR_FAIL(PAR_ERR_FORMAT, "%s: tensor \"%.200s\" is unknown to %s with %" PRId64 " layers",
             file->path, e->name, import->family->architecture, import->config.layers);
}

par_status par__import_check(par_import *import) {
    PAR_TRY(find_prefix(import));
    PAR_TRY(check_needed(import));
    for (int f = 0; f < import->n_files; f++)
        for (int i = 0; i < import->files[f]->n; i++)
            PAR_TRY(check_known(import, import->files[f], &import->files[f]->entries[i]));
    return PAR_OK;
}
