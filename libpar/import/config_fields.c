/* Fields of config.json by type. */
#include "libpar/import/config_fields.h"

#include <math.h>

#include "par/text.h"

#define SIZE_LIMIT 2147483647

par_status par__config_object(const char *path, const char *text, size_t nbytes, size_t flags,
                              json_t **out) {
    json_error_t error;
    PAR_TRY(par_text_skip_mark(path, &text, &nbytes));
    if (nbytes == 0) PAR_FAIL(PAR_ERR_FORMAT, "%s: is empty; legal: a JSON object", path);
    json_t *root = json_loadb(text, nbytes, flags, &error);
    if (!root)
        PAR_FAIL(PAR_ERR_FORMAT, "%s: line %d column %d: %s", path, error.line, error.column,
                 error.text);
    if (!json_is_object(root)) {
        json_decref(root);
        PAR_FAIL(PAR_ERR_FORMAT, "%s: is not a JSON object", path);
    }
    *out = root;
    return PAR_OK;
}

json_t *par__config_field(json_t *object, const char *key) {
    json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

int64_t par__config_size(par__config_reader *r, json_t *object, const char *key, int64_t fallback) {
    json_t *value = par__config_field(object, key);
    if (!value && fallback > 0) return fallback;
    if (!json_is_integer(value) || json_integer_value(value) < 1 ||
        json_integer_value(value) > SIZE_LIMIT) {
        MALFORMED(r, "%s: %s: %s; legal: an integer from 1 to %d", r->path, key,
                  value ? "is out of range or not an integer" : "is missing", SIZE_LIMIT);
        return 1;
    }
    return json_integer_value(value);
}

double par__config_number(par__config_reader *r, json_t *object, const char *key, double fallback,
                          double low, double high) {
    json_t *value = par__config_field(object, key);
    if (!value && !isnan(fallback)) return fallback;
    double x = json_number_value(value);
    if (!json_is_number(value) || !(x >= low && x <= high)) {
        MALFORMED(r, "%s: %s: %s; legal: a number from %g to %g", r->path, key,
                  value ? "is out of range or not a number" : "is missing", low, high);
        return low;
    }
    return x;
}

bool par__config_bool(par__config_reader *r, const char *key, bool fallback) {
    json_t *value = par__config_field(r->root, key);
    if (value && !json_is_boolean(value))
        MALFORMED(r, "%s: %s: is not a boolean; legal: true, false", r->path, key);
    return json_is_boolean(value) ? json_is_true(value) : fallback;
}

void par__config_text(json_t *value, char *text, size_t nbytes) {
    size_t n = json_dumpb(value, text, nbytes - 1, JSON_COMPACT | JSON_ENCODE_ANY);
    text[n < nbytes - 1 ? n : nbytes - 1] = '\0';
}

const char *par__config_activation(par__config_reader *r, const char *key, const char *fallback) {
    json_t *value = par__config_field(r->root, key);
    if (value && !json_is_string(value)) {
        MALFORMED(r, "%s: %s: is not a string", r->path, key);
        return fallback;
    }
    return value ? json_string_value(value) : fallback;
}
