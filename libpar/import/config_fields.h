/*
 * What reads fields of config.json: each takes a field of one type, and adds a problem where it is
 * another one, so that all problems come in one message.
 */
#ifndef PAR__IMPORT_CONFIG_FIELDS_H
#define PAR__IMPORT_CONFIG_FIELDS_H

#include <jansson.h>

#include "libpar/import/directory.h"

typedef struct {
    const char *path;
    json_t *root;
    par_transformer_config *c;
    par_problems problems;
    par_status status; /* of the problems: FORMAT before UNSUPPORTED */
} par__config_reader;

#define MALFORMED(r, ...) ((r)->status = PAR_ERR_FORMAT, par_problem(&(r)->problems, __VA_ARGS__))
#define UNSUPPORTED(r, ...)                                                                        \
    ((r)->status = (r)->status == PAR_OK ? PAR_ERR_UNSUPPORTED : (r)->status,                      \
     par_problem(&(r)->problems, __VA_ARGS__))

/* A file that is a JSON object, with jansson's flags. */
par_status par__config_object(const char *path, const char *text, size_t nbytes, size_t flags,
                              json_t **out);
/* NULL also for null, which the configuration classes take for "the default". */
json_t *par__config_field(json_t *object, const char *key);
/* An integer of 1 or more; fallback 0: required. */
int64_t par__config_size(par__config_reader *r, json_t *object, const char *key, int64_t fallback);
/* A number from low to high; fallback NAN: required. */
double par__config_number(par__config_reader *r, json_t *object, const char *key, double fallback,
                          double low, double high);
bool par__config_bool(par__config_reader *r, const char *key, bool fallback);
/* The name of an activation. */
const char *par__config_activation(par__config_reader *r, const char *key, const char *fallback);
/* A value as JSON, cut off where text [nbytes] is full. */
void par__config_text(json_t *value, char *text, size_t nbytes);

/* The families' own fields, into r->c. */
void par__config_gpt2(par__config_reader *r);
void par__config_llama(par__config_reader *r, const par__family *family);

#endif
