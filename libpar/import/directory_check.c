/*
 * The tensors of a directory against its configuration, before any is read: each one that the model
 * needs is there with its shape and a floating type, and each one that is there is known.
 */
#include <inttypes.h>
#include <stdio.h>
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

/* What follows `prefix` in a name; NULL: it begins otherwise. */
static const char *without(const char *name, const char *prefix) {
    size_t n = strlen(prefix);
    return strncmp(name, prefix, n) == 0 ? name + n : NULL;
}

/* A tensor that holds no parameter. */
static bool is_ignored(const par_import *import, const char *name) {
    int64_t layer;
    const char *base = without(name, import->prefix);
    for (const char *const *pattern = import->family->ignored; base && *pattern; pattern++)
        if (par__name_match(*pattern, base, &layer)) return true;
    return false;
}

par_dtype par__import_dtype(const par_import *import) {
    const par__st_type *type = NULL;
    for (int f = 0; f < import->n_files; f++)
        for (int i = 0; i < import->files[f]->n; i++) {
            const par__st_entry *e = &import->files[f]->entries[i];
            if (is_ignored(import, e->name)) continue;
            if (type && type != e->type) return PAR_F32;
            type = e->type;
        }
    return type ? (par_dtype)type->dtype : PAR_F32;
}

par_status par__mapping_check(const par_transformer_config *c, const par__mapping *m,
                              const par_safetensors *file, const par__st_entry *e) {
    /* What the family stores for a row of the table: fused parts together, transposed as they
     * lie. */
    int64_t rows = par__dim_size(c, m->rows) * m->parts, cols = par__dim_size(c, m->cols);
    const int64_t want[2] = {m->transposed ? cols : rows, m->transposed ? rows : cols};
    int ndim = m->cols == PAR__DIM_ONE ? 1 : 2;
    char is[100], legal[100];
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

/* Names of a model's attributes in the tools that save it within another one. */
static bool is_wrapping(const char *text, size_t n) {
    static const char *const words[] = {
        "module.", "_orig_mod.",       "base_model.",           "transformer.",
        "model.",  "_forward_module.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."};
    while (n > 0) {
        size_t i = 0, length = 0;
        for (; i < sizeof words / sizeof *words; i++) {
            length = strlen(words[i]);
            if (length <= n && strncmp(text, words[i], length) == 0) break;
        }
        if (i == sizeof words / sizeof *words) return false;
        text += length;
        n -= length;
    }
    return true;
}

/* What tools write before a name; false: no tensor's is that. */
static bool find_wrapped(const par_import *import, const char *wanted, char *before, size_t nbytes,
                         int *f, int *i) {
    size_t n_wanted = strlen(wanted);
    for (*f = 0; *f < import->n_files; ++*f)
        for (*i = 0; *i < import->files[*f]->n; ++*i) {
            const char *name = import->files[*f]->entries[*i].name;
            size_t n = strlen(name);
            if (n < n_wanted || strcmp(name + n - n_wanted, wanted) != 0) continue;
            n -= n_wanted;
            if (n >= nbytes || !is_wrapping(name, n)) continue;
            snprintf(before, nbytes, "%.*s", (int)n, name);
            return true;
        }
    return false;
}

/* Of two names of one tensor a file may keep the head's (safetensors' save_model does): it gets the
 * embedding's. */
static par_status name_embedding(const par_import *import) {
    const par__family *family = import->family;
    const par__mapping *head = &family->table[family->n - 1];
    char before[96], name[256];
    int f, i;
    if (!import->config.tied ||
        !find_wrapped(import, head->theirs, before, sizeof before, &f, &i) ||
        snprintf(name, sizeof name, "%s%s%s", before, family->prefix, family->table[0].theirs) >=
            (int)sizeof name)
        return PAR_OK;
    return par__safetensors_rename(import->files[f], i, name);
}

/* save_pretrained's names have the family's prefix, the hub's older files do not, and tools write
 * theirs before all: the token embedding tells. The head has what tools write, and no more. */
static par_status find_prefix(par_import *import) {
    const char *own = import->family->prefix, *table = import->family->table[0].theirs;
    size_t n_own = strlen(own);
    int f, i;
    bool found = find_wrapped(import, table, import->prefix, sizeof import->prefix, &f, &i);
    if (!found) PAR_TRY(name_embedding(import));
    if (!found) found = find_wrapped(import, table, import->prefix, sizeof import->prefix, &f, &i);
    if (!found)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: tensor \"%s%s\" is missing, also without \"%s\"",
                 import->directory, own, table, own);
    size_t n = strlen(import->prefix);
    bool ends = n >= n_own && strcmp(import->prefix + n - n_own, own) == 0;
    snprintf(import->outer, sizeof import->outer, "%.*s", (int)(ends ? n - n_own : n),
             import->prefix);
    return PAR_OK;
}

static const char *prefix_of(const par_import *import, const par__mapping *m) {
    return m->when == PAR__IF_UNTIED ? import->outer : import->prefix;
}

bool par__import_name(const par_import *import, const par__mapping *m, int64_t layer, char *name,
                      size_t nbytes) {
    return par__name_make(name, nbytes, prefix_of(import, m), m->theirs, layer);
}

static par_status check_row(const par_import *import, const par__mapping *m, int64_t layer) {
    char name[256];
    const par_safetensors *file;
    if (!par__import_name(import, m, layer, name, sizeof name))
        PAR_FAIL(PAR_ERR_INTERNAL, "name of %s does not fit", m->theirs);
    const par__st_entry *e = par__import_find(import, name, &file);
    if (!e && m->when == PAR__IF_UNTIED) /* older files leave the head out, and do not say so */
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: tensor \"%s\" is missing, and config.json does not say that head and token "
                 "embedding are one; if they are, write \"tie_word_embeddings\": true into it",
                 import->directory, name);
    if (!e)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: tensor \"%s\" is missing; the configuration has %" PRId64 " layers",
                 import->directory, name, import->config.layers);
    return par__mapping_check(&import->config, m, file, e);
}

/* n elements that may be of two types. */
static bool same_numbers(const uint8_t *a, const par__st_type *type_a, const uint8_t *b,
                         const par__st_type *type_b, int64_t n) {
    enum { PART = 256 };
    float x[PART], y[PART];
    if (type_a == type_b) return memcmp(a, b, (size_t)n * type_a->nbytes) == 0;
    for (int64_t at = 0; at < n; at += PART) {
        int64_t k = n - at < PART ? n - at : PART;
        par__widen(a + (size_t)at * type_a->nbytes, type_a->dtype, k, x);
        par__widen(b + (size_t)at * type_b->nbytes, type_b->dtype, k, y);
        for (int64_t i = 0; i < k; i++)
            if (x[i] != y[i]) return false;
    }
    return true;
}

/* A tied model may store its head again. If that is another matrix, the file and its configuration
 * disagree. */
static par_status check_tied_head(const par_import *import, const par__mapping *m,
                                  const par_safetensors *file, const par__st_entry *head) {
    char name[256];
    const par_safetensors *other;
    PAR_TRY(par__mapping_check(&import->config, m, file, head));
    par__name_make(name, sizeof name, import->prefix, import->family->table[0].theirs, 0);
    const par__st_entry *e = par__import_find(import, name, &other);
    if (!same_numbers(other->data + e->begin, e->type, file->data + head->begin, head->type,
                      e->shape[0] * e->shape[1]))
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: tensor \"%s\" differs from \"%s\", but tie_word_embeddings makes them one",
                 file->path, head->name, name);
    return PAR_OK;
}

static par_status check_known(const par_import *import, const par_safetensors *file,
                              const par__st_entry *e) {
    int64_t layer;
    for (int i = 0; i < import->family->n; i++) {
        const par__mapping *m = &import->family->table[i];
        const char *name = without(e->name, prefix_of(import, m));
        if (!name || !par__name_match(m->theirs, name, &layer) || layer >= import->config.layers)
            continue;
        if (par__mapping_applies(&import->config, m)) return PAR_OK;
        if (m->when == PAR__IF_UNTIED) return check_tied_head(import, m, file, e);
    }
    if (is_ignored(import, e->name)) return PAR_OK;
    PAR_FAIL(PAR_ERR_FORMAT, "%s: tensor \"%.200s\" is unknown to %s with %" PRId64 " layers",
             file->path, e->name, import->family->architecture, import->config.layers);
}

par_status par__import_check(par_import *import) {
    PAR_TRY(find_prefix(import));
    for (int i = 0; i < import->family->n; i++) {
        const par__mapping *m = &import->family->table[i];
        int64_t n = strchr(m->theirs, '*') ? import->config.layers : 1;
        if (!par__mapping_applies(&import->config, m)) continue;
        for (int64_t layer = 0; layer < n; layer++) PAR_TRY(check_row(import, m, layer));
    }
    for (int f = 0; f < import->n_files; f++)
        for (int i = 0; i < import->files[f]->n; i++)
            PAR_TRY(check_known(import, import->files[f], &import->files[f]->entries[i]));
    return PAR_OK;
}
