/*
 * What ends a generated text, from the files beside a model of the hub: an instruction-tuned model
 * ends its turn with a token of its own, and names it in generation_config.json.
 */
#include <jansson.h>
#include <stdio.h>

#include "libpar/base/file.h"
#include "libpar/data/tokenizer.h"

static par_status put_end(const char *path, const json_t *value, int32_t *ids, size_t max,
                          size_t *n) {
    json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
    if (id < 0 || id > INT32_MAX || *n == max)
        PAR_FAIL(PAR_ERR_FORMAT,
                 "%s: \"eos_token_id\" has another value; legal: an id, or a list of up to %zu",
                 path, max);
    ids[(*n)++] = (int32_t)id;
    return PAR_OK;
}

static par_status read_ends(const char *path, int32_t *ids, size_t max, size_t *n) {
    par__map map = {NULL, 0};
    json_t *root = NULL;
    PAR_TRY(par__map_open(path, &map));
    par_status st = par__tokenizer_load(path, (const char *)map.data, map.nbytes, &root);
    st = par__map_end(&map, path, st);
    if (st != PAR_OK) {
        json_decref(root);
        return st;
    }
    const json_t *ends = json_object_get(root, "eos_token_id");
    if (ends && !json_is_null(ends) && !json_is_array(ends)) st = put_end(path, ends, ids, max, n);
    for (size_t i = 0; st == PAR_OK && i < json_array_size(ends); i++)
        st = put_end(path, json_array_get(ends, i), ids, max, n);
    json_decref(root);
    return st;
}

par_status par_generation_ends(const char *directory, int32_t *ids, size_t max, size_t *n) {
    static const char *const names[] = {"generation_config.json", "config.json"};
    PAR_REQUIRE(directory && n && (ids || max == 0));
    size_t count = 0;
    for (int i = 0; i < 2 && count == 0; i++) {
        char path[4096];
        if (snprintf(path, sizeof path, "%s/%s", directory, names[i]) >= (int)sizeof path)
            PAR_FAIL(PAR_ERR_ARG, "%s: name is longer than %zu bytes", directory, sizeof path - 24);
        if (par__file_exists(path)) PAR_TRY(read_ends(path, ids, max, &count));
    }
    *n = count;
    return PAR_OK;
}
