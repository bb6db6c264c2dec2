/*
 * model.safetensors.index.json: which file of a sharded model holds which tensor. File names must
 * be plain names, so that an index cannot point out of its directory. Its metadata are not read:
 * tools write a total_size that is wrong or zero, and what the tensors take stands in the files.
 */
#define _POSIX_C_SOURCE 200809L
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "libpar/import/config_fields.h"

enum { MOST_FILES = 10000 }; /* of a model: hubs cut the largest into hundreds */

static par_status add_file(const char *path, const char *name, par__index *index, int *number) {
    for (int i = 0; i < index->n_files; i++)
        if (strcmp(index->files[i], name) == 0) {
            *number = i;
            return PAR_OK;
        }
    size_t n = strlen(name), m = strlen(".safetensors");
    if (strchr(name, '/') || name[0] == '.' || n <= m || strcmp(name + n - m, ".safetensors") != 0)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: weight_map: file \"%.200s\"; legal: a name in this directory that ends in "
                 ".safetensors",
                 path, name);
    if (index->n_files == MOST_FILES)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: weight_map: names more than %d files; legal: at most that",
                 path, MOST_FILES);
    char **files = realloc(index->files, (size_t)(index->n_files + 1) * sizeof *files);
    if (!files) PAR_FAIL(PAR_ERR_MEMORY, "%s: no memory for its files", path);
    index->files = files;
    files[index->n_files] = strdup(name);
    if (!files[index->n_files]) PAR_FAIL(PAR_ERR_MEMORY, "%s: no memory for its files", path);
    *number = index->n_files++;
    return PAR_OK;
}

static par_status parse_map(const char *path, json_t *map, par__index *index) {
    const char *name;
    json_t *value;
    if (!json_is_object(map) || json_object_size(map) == 0)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: weight_map: is missing, empty or not an object", path);
    index->entries = calloc(json_object_size(map), sizeof *index->entries);
    if (!index->entries) PAR_FAIL(PAR_ERR_MEMORY, "%s: no memory for its entries", path);
    json_object_foreach(map, name, value) {
        par__index_entry *e = &index->entries[index->n];
        if (!json_is_string(value))
            PAR_FAIL(PAR_ERR_FORMAT, "%s: weight_map: \"%.200s\" has no string for its file", path,
                     name);
        PAR_TRY(add_file(path, json_string_value(value), index, &e->file));
        e->name = strdup(name);
        if (!e->name) PAR_FAIL(PAR_ERR_MEMORY, "%s: no memory for its entries", path);
        index->n++;
    }
    return PAR_OK;
}

par_status par__index_parse(const char *path, const char *text, size_t nbytes, par__index *out) {
    json_t *root;
    par__index index = {0};
    PAR_TRY(par__config_object(path, text, nbytes, JSON_REJECT_DUPLICATES, &root));
    par_status st = parse_map(path, json_object_get(root, "weight_map"), &index);
    json_decref(root);
    if (st != PAR_OK) {
        par__index_free(&index);
        return st;
    }
    *out = index;
    return PAR_OK;
}

void par__index_free(par__index *index) {
    for (int i = 0; i < index->n; i++) free(index->entries[i].name);
    for (int i = 0; i < index->n_files; i++) free(index->files[i]);
    free(index->entries);
    free(index->files);
    *index = (par__index){0};
}
