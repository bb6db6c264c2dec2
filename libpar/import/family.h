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
    PAR__DIM_D,
    PAR__DIM_F
} par__dim;

/* Which configurations have a tensor. */
typedef enum { PAR__ALWAYS, PAR__IF_UNTIED, PAR__IF_QKV_BIAS, PAR__IF_QK_NORM } par__condition;

/* '*' in both patterns is the layer's number. */
typedef struct {
    const char *name;    /* libpar's */
    const char *theirs;  /* the family's, without the prefix of the base model */
    par__dim rows, cols; /* logical shape [out, in]; cols ONE: one dimension */
    bool transposed;     /* stored [in, out] */
    int part, parts;     /* rows are part `part` of `parts` equal ones, stored as one tensor */
    par__condition when; /* UNTIED: the head, which never has the family's prefix */
} par__mapping;

typedef struct {
    const char *model_type;
    const char *architecture, *base; /* the classes: with a head, and without */
    const char *
        prefix; /* of all but the head, in save_pretrained's files; the hub's older files lack it */
    const par__mapping *table;
    int n;
    const char *const *ignored; /* patterns of tensors that hold no parameter; NULL ends */
} par__family;

/* All there are; NULL ends. The first one is GPT-2. */
extern const par__family *const par__families[];

/* Does a model with this configuration have the row's tensor? */
bool par__mapping_applies(const par_transformer_config *config, const par__mapping *m);
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
