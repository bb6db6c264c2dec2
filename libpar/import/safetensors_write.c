/*
 * Writer of .safetensors. The header is padded with spaces to a multiple of 8 bytes, so that
 * readers which map the file find the data aligned; the file appears under its name only when it is
 * complete.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/base/checked.h"
#include "libpar/base/json_text.h"
#include "libpar/import/safetensors.h"

static par_status check_tensor(const char *path, const char *name, const par_tensor *t,
                               bool fetched, size_t *nbytes) {
    *nbytes = par_dtype_nbytes(t->dtype);
    if (*nbytes == 0 || t->ndim < 0 || t->ndim > 4)
        PAR_FAIL(PAR_ERR_ARG,
                 "%s: tensor \"%.200s\": dtype %d, %d dimensions; legal: a par_dtype, 0 to 4", path,
                 name, (int)t->dtype, t->ndim);
    for (int i = 0; i < t->ndim; i++)
        if (t->shape[i] < 0 || !par__mul(*nbytes, (size_t)t->shape[i], nbytes) ||
            *nbytes > INT64_MAX)
            PAR_FAIL(PAR_ERR_ARG,
                     "%s: tensor \"%.200s\": dimension %d is %" PRId64
                     "; legal: 0 or more, below 2^63 bytes in all",
                     path, name, i, t->shape[i]);
    if (!fetched && !t->data && *nbytes > 0)
        PAR_FAIL(PAR_ERR_ARG, "%s: tensor \"%.200s\": has no data", path, name);
    return PAR_OK;
}

static par_status add_entry(const char *path, json_t *header, const char *name, const par_tensor *t,
                            bool fetched, size_t *at) {
    size_t nbytes, end;
    if (!name || strcmp(name, "__metadata__") == 0 || json_object_get(header, name))
        PAR_FAIL(PAR_ERR_ARG, "%s: tensor name \"%.200s\" is reserved or there twice", path,
                 name ? name : "(none)");
    PAR_TRY(check_tensor(path, name, t, fetched, &nbytes));
    if (!par__add(*at, nbytes, &end) || end > INT64_MAX)
        PAR_FAIL(PAR_ERR_ARG, "%s: more than 2^63 bytes", path);
    json_t *shape = json_array();
    for (int i = 0; i < t->ndim; i++) json_array_append_new(shape, json_integer(t->shape[i]));
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", par__st_type_of(t->dtype)->name,
                              "shape", shape, "data_offsets", (json_int_t)*at, (json_int_t)end);
    *at = end;
    if (json_object_set_new(header, name, entry) != 0)
        PAR_FAIL(PAR_ERR_ARG,
                 "%s: tensor name \"%.200s\" is not UTF-8, or there is no memory for it", path,
                 name);
    return PAR_OK;
}

static par_status write_file(const char *path, const json_t *header, int n,
                             const par_tensor *tensors, par__st_fetch *fetch, void *user) {
    static const char spaces[8] = "        ";
    par__writer file;
    const void *data;
    PAR_TRY(par__writer_open(path, &file));
    char *text = par__json_text(header, JSON_COMPACT | JSON_PRESERVE_ORDER);
    par_status st =
        text ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "%s: no memory for its header", path);
    size_t n_text = text ? strlen(text) : 0, pad = (8 - n_text % 8) % 8;
    uint64_t length = n_text + pad;
    if (st == PAR_OK) st = par__writer_write(&file, &length, sizeof length);
    if (st == PAR_OK) st = par__writer_write(&file, text, n_text);
    if (st == PAR_OK) st = par__writer_write(&file, spaces, pad);
    free(text);
    for (int i = 0; i < n && st == PAR_OK; i++) {
        st = fetch(user, i, &data);
        if (st == PAR_OK) st = par__writer_write(&file, data, par_tensor_nbytes(&tensors[i]));
    }
    if (st == PAR_OK) return par__writer_commit(&file);
    par__writer_abort(&file);
    return st;
}

static par_status data_of(void *user, int i, const void **data) {
    *data = ((const par_tensor *)user)[i].data;
    return PAR_OK;
}

/* fetch NULL: the tensors have their data. */
static par_status write_tensors(const char *path, json_t *header, int n, const char *const *names,
                                const par_tensor *tensors, par__st_fetch *fetch, void *user) {
    size_t at = 0;
    par_status st = PAR_OK;
    if (!header) PAR_FAIL(PAR_ERR_MEMORY, "%s: no memory for its header", path);
    for (int i = 0; i < n && st == PAR_OK; i++)
        st = add_entry(path, header, names[i], &tensors[i], fetch != NULL, &at);
    if (st == PAR_OK)
        st = fetch ? write_file(path, header, n, tensors, fetch, user)
                   : write_file(path, header, n, tensors, data_of, (void *)(uintptr_t)tensors);
    json_decref(header);
    return st;
}

par_status par__safetensors_stream(const char *path, int n, const char *const *names,
                                   const par_tensor *tensors, par__st_fetch *fetch, void *user) {
    return write_tensors(path, json_pack("{s:{s:s}}", "__metadata__", "format", "pt"), n, names,
                         tensors, fetch, user);
}

par_status par_safetensors_write(const char *path, int n, const char *const *names,
                                 const par_tensor *tensors) {
    PAR_REQUIRE(path && n >= 0 && (n == 0 || (names && tensors)));
    return write_tensors(path, json_object(), n, names, tensors, NULL, NULL);
}
