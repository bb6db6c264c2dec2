/*
 * The Hugging Face families as data: a table from libpar's parameter names to the family's, with
 * shape, transposition and fusion; and the configuration that a config.json describes.
 */
#ifndef PAR__IMPORT_FAMILY_H
#define PAR__IMPORT_FAMILY_H

#include <stdbool.h>
#include <stdint.h>

#include "par/transformer.h"

/* A dimension as a symbol, see par__dim_size. */
typedef enum {
    PAR__DIM_ONE,
    PAR__DIM_V,
    PAR__DIM_P,
    PAR__DIM_C,
    PAR__DIM_Q,
    PAR__DIM_KV,
    PAR__DIM_F
} par__dim;

/* '*' in both patterns is the layer's number. */
typedef struct {
    const char *name;    /* libpar's */
    const char *theirs;  /* the family's, without the prefix of the base model */
    par__dim rows, cols; /* logical shape [out, in]; cols ONE: one dimension */
    bool transposed;     /* stored [in, out] */
    int part, parts;     /* rows are part `part` of `parts` equal ones, stored as one tensor */
    bool head;           /* only if not tied; never has the prefix */
} par__mapping;

typedef struct {
    const char *model_type, *architecture;
    const char *
        prefix; /* of all but the head, in save_pretrained's files; the hub's older files lack it */
    const par__mapping *table;
    int n;
    const char *const *ignored; /* patterns of tensors that hold no parameter; NULL ends */
} par__family;

extern const par__family par__gpt2, par__llama;

int64_t par__dim_size(const par_transformer_config *config, par__dim dim);
/* Does `text` match `pattern`, '*' a number without leading zeros? Its value goes to *number (-1
 * without
 * '*'). */
bool par__name_match(const char *pattern, const char *text, int64_t *number);
/* prefix + pattern with '*' replaced; false if it does not fit. */
bool par__name_make(char *out, size_t nbytes, const char *prefix, const char *pattern,
                    int64_t number);
/* Row of the table for libpar's name, with the layer's number; NULL if there is none. */
const par__mapping *par__mapping_find(const par__family *family, const char *name, int64_t *layer);

/* config.json → family and configuration. All problems in one message. */
par_status par__config_parse(const char *path, const char *text, size_t nbytes,
                             const par__family **family, par_transformer_config *out);

#endif
