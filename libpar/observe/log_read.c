/*
 * A log read back, see par/log.h. A record is one JSON object (RFC 8259) that lives for one visit,
 * so that the memory does not grow with the log.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "libpar/base/file.h"
#include "libpar/base/number.h"
#include "par/log.h"

struct par_log_record {
    json_t *object;
    const char *event;
};

par_status par_log_read(const char *path,
                        par_status (*visit)(void *user, const par_log_record *record, int64_t line),
                        void *user, par_log_reading *out) {
    par__map map;
    par_log_reading reading = {0};
    PAR_REQUIRE(path && visit && out);
    PAR_TRY(par__map_open(path, &map));
    const char *text = (const char *)map.data;
    par_status st = PAR_OK;
    int64_t line = 1;
    for (size_t at = 0, n; st == PAR_OK && at < map.nbytes; at += n + 1, line++) {
        const char *end = memchr(text + at, '\n', map.nbytes - at);
        n = end ? (size_t)(end - text) - at : map.nbytes - at;
        par_log_record record = {.object = json_loadb(text + at, n, 0, NULL)};
        record.event = json_string_value(json_object_get(record.object, "event"));
        if (record.event) {
            reading.n_records++;
            st = visit(user, &record, line);
        } else {
            if (reading.n_left_out++ == 0) reading.left_out = line;
        }
        json_decref(record.object);
    }
    *out = reading;
    return par__map_end(&map, path, st);
}

const char *par_log_event(const par_log_record *record) {
    return record->event;
}

/* NULL: the record has none. */
static const json_t *find(const par_log_record *record, const char *field) {
    char object[64];
    const char *dot = strchr(field, '.');
    if (!dot) return json_object_get(record->object, field);
    snprintf(object, sizeof object, "%.*s", (int)(dot - field), field);
    return json_object_get(json_object_get(record->object, object), dot + 1);
}

double par_log_number(const par_log_record *record, const char *field) {
    const json_t *value = find(record, field);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

int64_t par_log_whole(const par_log_record *record, const char *field, int64_t otherwise) {
    const json_t *value = find(record, field);
    return json_is_integer(value) ? json_integer_value(value) : otherwise;
}

bool par_log_flag(const par_log_record *record, const char *field) {
    return json_is_true(find(record, field));
}

const char *par_log_string(const par_log_record *record, const char *field) {
    return json_string_value(find(record, field));
}

/* NULL: an object or a list. `number` has room for a number. */
static const char *text_of(const json_t *value, char number[PAR__NUMBER_NBYTES]) {
    switch (json_typeof(value)) {
    case JSON_STRING: return json_string_value(value);
    case JSON_TRUE: return "on";
    case JSON_FALSE: return "off";
    case JSON_NULL: return "";
    case JSON_REAL:
        par__exact(number, json_real_value(value));
        for (char *c = strchr(number, ','); c; c = NULL) *c = '.'; /* a locale's decimal comma */
        return number;
    case JSON_INTEGER:
        snprintf(number, PAR__NUMBER_NBYTES, "%lld", (long long)json_integer_value(value));
        return number;
    default: return NULL;
    }
}

void par_log_fields(const par_log_record *record, const char *object,
                    void (*visit)(void *user, const char *name, const char *value), void *user) {
    char number[PAR__NUMBER_NBYTES];
    const char *name;
    json_t *value, *of = object ? json_object_get(record->object, object) : record->object;
    json_object_foreach(of, name, value) {
        const char *text = text_of(value, number);
        if (text) visit(user, name, text);
    }
}
