/*
 * Reader of .safetensors: u64 n, n bytes of JSON, data. Nothing is believed: the header's length,
 * its JSON, every entry's type, shape and offsets are checked before an entry is used, and the
 * entries must cover the data exactly, so that two of them cannot share bytes and none can hide
 * between them.
 */
#define _POSIX_C_SOURCE 200809L
#include "libpar/import/safetensors.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/checked.h"

#define HEADER_MAX 100000000u

static const par__st_type types[] = {
    {"F32", 4, PAR_F32}, {"BF16", 2, PAR_BF16}, {"F16", 2, PAR_F16}, {"I32", 4, PAR_I32},
    {"I64", 8, PAR_I64}, {"U8", 1, PAR_U8},     {"BOOL", 1, -1},     {"F64", 8, -1},
    {"I8", 1, -1},       {"I16", 2, -1},        {"U16", 2, -1},      {"U32", 4, -1},
    {"U64", 8, -1},      {"F8_E4M3", 1, -1},    {"F8_E5M2", 1, -1},
};

const par__st_type *par__st_type_of(par_dtype dtype) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].dtype == (int)dtype) return &types[i];
    return NULL;
}

const char *par__shape_text(char *text, size_t nbytes, int ndim, const int64_t *shape) {
    size_t n = (size_t)snprintf(text, nbytes, "[");
    for (int i = 0; i < ndim && i < 4 && n < nbytes; i++)
        n += (size_t)snprintf(text + n, nbytes - n, "%s%" PRId64, i ? ", " : "", shape[i]);
    if (n < nbytes) snprintf(text + n, nbytes - n, ndim > 4 ? ", ...]" : "]");
    return text;
}

static par_status check_keys(const char *path, const char *name, json_t *value) {
    const char *key;
    json_t *field;
    if (!json_is_object(value))
        PAR_FAIL(PAR_ERR_FORMAT, "%s: entry \"%.200s\": is not an object", path, name);
    json_object_foreach(value, key, field) if (strcmp(key, "dtype") != 0 &&
                                               strcmp(key, "shape") != 0 &&
                                               strcmp(key, "data_offsets") != 0)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: entry \"%.200s\": unknown key \"%.100s\"; legal: dtype, shape, data_offsets",
                 path, name, key);
    return PAR_OK;
}

/* Shape, and the bytes that it takes. */
static par_status parse_shape(const char *path, json_t *value, par__st_entry *e, size_t *nbytes) {
    json_t *shape = json_object_get(value, "shape");
    if (!json_is_array(shape))
        PAR_FAIL(PAR_ERR_FORMAT, "%s: entry \"%.200s\": shape is missing or not an array", path,
                 e->name);
    size_t ndim = json_array_size(shape);
    if (ndim > 64)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: entry \"%.200s\": %zu dimensions; legal: at most 64", path,
                 e->name, ndim);
    e->ndim = (int)ndim;
    *nbytes = e->type->nbytes;
    for (size_t i = 0; i < ndim; i++) {
        json_t *item = json_array_get(shape, i);
        if (!json_is_integer(item) || json_integer_value(item) < 0)
            PAR_FAIL(PAR_ERR_FORMAT,
                     "%s: entry \"%.200s\": dimension %zu is not an integer of 0 or more", path,
                     e->name, i);
        if (!par__mul(*nbytes, (size_t)json_integer_value(item), nbytes))
            PAR_FAIL(PAR_ERR_FORMAT, "%s: entry \"%.200s\": its shape takes more than 2^64 bytes",
                     path, e->name);
        if (i < 4) e->shape[i] = json_integer_value(item);
    }
    for (size_t i = ndim; i < 4; i++) e->shape[i] = 1;
    return PAR_OK;
}

static par_status parse_offsets(const char *path, json_t *value, size_t data_nbytes, size_t need,
                                par__st_entry *e) {
    json_t *offsets = json_object_get(value, "data_offsets");
    json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 || !json_is_integer(begin) ||
        !json_is_integer(end))
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: entry \"%.200s\": data_offsets is missing or not [begin, end]", path,
                 e->name);
    int64_t b = json_integer_value(begin), f = json_integer_value(end);
    if (b < 0 || f < b || (uint64_t)f > data_nbytes)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: entry \"%.200s\": data_offsets [%" PRId64 ", %" PRId64
                 "]; legal: within [0, %zu]",
                 path, e->name, b, f, data_nbytes);
    if ((uint64_t)(f - b) != need)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: entry \"%.200s\": data_offsets span %" PRId64
                 " bytes, %s and its shape take %zu",
                 path, e->name, f - b, e->type->name, need);
    e->begin = (size_t)b;
    e->end = (size_t)f;
    return PAR_OK;
}

static par_status parse_entry(par_safetensors *file, const char *name, json_t *value,
                              size_t data_nbytes) {
    size_t need = 0;
    par__st_entry *e = &file->entries[file->n];
    PAR_TRY(check_keys(file->path, name, value));
    e->name = strdup(name);
    if (!e->name) PAR_FAIL(PAR_ERR_MEMORY, "%s: no memory for its names", file->path);
    file->n++;
    const char *dtype = json_string_value(json_object_get(value, "dtype"));
    if (!dtype)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: entry \"%.200s\": dtype is missing or not a string",
                 file->path, e->name);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].name, dtype) == 0) e->type = &types[i];
    if (!e->type)
        PAR_FAIL(
            PAR_ERR_FORMAT,
            "%s: entry \"%.200s\": dtype \"%.40s\" is unknown; legal: F32, BF16, F16, I32, I64, U8 "
            "(BOOL, F64, I8, I16, U16, U32, U64, F8_E4M3, F8_E5M2 where they are ignored)",
            file->path, e->name, dtype);
    PAR_TRY(parse_shape(file->path, value, e, &need));
    return parse_offsets(file->path, value, data_nbytes, need, e);
}

/* Some writers put null where there is nothing to say. */
static par_status check_metadata(const char *path, json_t *value) {
    const char *key;
    json_t *field;
    if (json_is_null(value)) return PAR_OK;
    if (!json_is_object(value))
        PAR_FAIL(PAR_ERR_FORMAT, "%s: entry \"__metadata__\": is not an object", path);
    json_object_foreach(value, key, field) if (!json_is_string(field)) PAR_FAIL(
        PAR_ERR_FORMAT, "%s: entry \"__metadata__\": \"%.100s\" is not a string", path, key);
    return PAR_OK;
}

static int by_offset(const void *a, const void *b) {
    const par__st_entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const par__st_entry *)a)->name, ((const par__st_entry *)b)->name);
}

par_status par__safetensors_rename(par_safetensors *file, int i, const char *name) {
    char *copy = strdup(name);
    if (!copy) PAR_FAIL(PAR_ERR_MEMORY, "%s: no memory for its names", file->path);
    free(file->entries[i].name);
    file->entries[i].name = copy;
    qsort(file->entries, (size_t)file->n, sizeof *file->entries, by_name);
    return PAR_OK;
}

static bool cut_out(char *name, const char *word) {
    char *at = strstr(name, word);
    if (!at) return false;
    size_t n = strlen(word) - 1; /* its first point stays */
    memmove(at + 1, at + 1 + n, strlen(at + 1 + n) + 1);
    return true;
}

par_status par__safetensors_unwrap(par_safetensors *file) {
    static const char *const words[] = {"._orig_mod.", "._fsdp_wrapped_module.",
                                        "._checkpoint_wrapped_module."};
    bool cut = false;
    for (int i = 0; i < file->n; i++)
        for (size_t k = 0; k < sizeof words / sizeof *words; k++)
            while (cut_out(file->entries[i].name, words[k])) cut = true;
    if (!cut) return PAR_OK;
    qsort(file->entries, (size_t)file->n, sizeof *file->entries, by_name);
    for (int i = 1; i < file->n; i++)
        if (strcmp(file->entries[i - 1].name, file->entries[i].name) == 0)
            PAR_FAIL(PAR_ERR_FORMAT, "%s: tensor \"%.200s\" is there twice, once within a wrapper",
                     file->path, file->entries[i].name);
    return PAR_OK;
}

/* Sorted by offset, each entry begins where the one before ends. */
static par_status check_cover(par_safetensors *file, size_t data_nbytes) {
    size_t at = 0;
    if (file->n > 0) qsort(file->entries, (size_t)file->n, sizeof *file->entries, by_offset);
    for (int i = 0; i < file->n; i++) {
        const par__st_entry *e = &file->entries[i];
        if (e->begin != at)
            PAR_FAIL(PAR_ERR_FORMAT,
                     "%s: entry \"%.200s\": begins at byte %zu of the data, the one before ends at "
                     "%zu: %s",
                     file->path, e->name, e->begin, at, e->begin < at ? "they overlap" : "a hole");
        at = e->end;
    }
    if (at != data_nbytes)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: its entries end at byte %zu of the data, the file has %zu",
                 file->path, at, data_nbytes);
    if (file->n > 0) qsort(file->entries, (size_t)file->n, sizeof *file->entries, by_name);
    return PAR_OK;
}

static par_status parse_entries(par_safetensors *file, json_t *header, size_t data_nbytes) {
    const char *name;
    json_t *value;
    if (!json_is_object(header))
        PAR_FAIL(PAR_ERR_FORMAT, "%s: offset 8: the header is not a JSON object", file->path);
    file->entries = calloc(json_object_size(header) + 1, sizeof *file->entries);
    if (!file->entries) PAR_FAIL(PAR_ERR_MEMORY, "%s: no memory for its entries", file->path);
    json_object_foreach(header, name, value) {
        if (strcmp(name, "__metadata__") == 0)
            PAR_TRY(check_metadata(file->path, value));
        else
            PAR_TRY(parse_entry(file, name, value, data_nbytes));
    }
    return check_cover(file, data_nbytes);
}

static par_status parse_header(par_safetensors *file, const uint8_t *bytes, size_t nbytes) {
    uint64_t n;
    json_error_t error;
    if (nbytes < 8)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: has %zu bytes; the length of the header alone takes 8",
                 file->path, nbytes);
    memcpy(&n, bytes, 8);
    bool text = n > HEADER_MAX;
    for (int i = 0; i < 8; i++)
        text = text && ((bytes[i] >= 32 && bytes[i] < 127) || (bytes[i] >= 9 && bytes[i] <= 13));
    if (text)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: begins with \"%.8s\": is text, not safetensors; a download may have brought "
                 "a page or a message in its place",
                 file->path, (const char *)bytes);
    if (n > HEADER_MAX || n > nbytes - 8)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: offset 0: header of %" PRIu64
                 " bytes; legal: at most %u, and %zu left in the file",
                 file->path, n, HEADER_MAX, nbytes - 8);
    if (n < 2 || bytes[8] != '{')
        PAR_FAIL(PAR_ERR_FORMAT, "%s: offset 8: the header does not begin with {", file->path);
    json_t *header = json_loadb((const char *)bytes + 8, (size_t)n, JSON_REJECT_DUPLICATES, &error);
    if (!header)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: offset %d: header: %s", file->path, 8 + error.position,
                 error.text);
    file->data = bytes + 8 + n;
    par_status st = parse_entries(file, header, nbytes - 8 - (size_t)n);
    json_decref(header);
    return st;
}

par_status par__safetensors_parse(const char *path, const uint8_t *bytes, size_t nbytes,
                                  par_safetensors **out) {
    par_safetensors *file = calloc(1, sizeof *file);
    if (file) file->path = strdup(path);
    if (!file || !file->path) {
        free(file);
        PAR_FAIL(PAR_ERR_MEMORY, "%s: no memory to open it", path);
    }
    par_status st = parse_header(file, bytes, nbytes);
    if (st != PAR_OK) {
        par_safetensors_close(&file);
        return st;
    }
    *out = file;
    return PAR_OK;
}

par_status par_safetensors_open(const char *path, par_safetensors **out) {
    par__map map;
    PAR_REQUIRE(path && out);
    PAR_TRY(par__map_open(path, &map));
    par_safetensors *file = NULL;
    par_status st = par__safetensors_parse(path, map.data, map.nbytes, &file);
    if (st != PAR_OK) return par__map_end(&map, path, st);
    file->map = map;
    st = par__map_check(&map, path);
    if (st == PAR_OK)
        *out = file;
    else
        par_safetensors_close(&file);
    return st;
}

void par_safetensors_close(par_safetensors **file) {
    if (!file || !*file) return;
    for (int i = 0; i < (*file)->n; i++) free((*file)->entries[i].name);
    free((*file)->entries);
    par__map_close(&(*file)->map);
    free((*file)->path);
    free(*file);
    *file = NULL;
}
