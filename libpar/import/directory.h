/* An open directory inside: its files and, for a sharded one, the index, parsed from memory so that
 * tests can feed it. */
#ifndef PAR__IMPORT_DIRECTORY_H
#define PAR__IMPORT_DIRECTORY_H

#include "libpar/import/family.h"
#include "libpar/import/safetensors.h"

enum { PAR__MAX_ENDS = 32 };

typedef struct {
    char *name; /* of a tensor, owned */
    int file;   /* number in `files` */
} par__index_entry;

/* model.safetensors.index.json */
typedef struct {
    int n, n_files;
    par__index_entry *entries;
    char **files; /* plain names in the index's directory, owned */
} par__index;

par_status par__index_parse(const char *path, const char *text, size_t nbytes, par__index *out);
void par__index_free(par__index *index);
/* eos_token_id of a JSON object, a number or a list of them: those that are ids of the
 * vocabulary. */
par_status par__ends_parse(const char *path, const char *text, size_t nbytes, int64_t vocab,
                           int32_t ends[PAR__MAX_ENDS], int *n_ends);

/* What is kept of a config.json, as text; "": longer than that. */
par_status par__kept_parse(const char *path, const char *text, size_t nbytes,
                           char out[PAR_IMPORT_KEPT]);

struct par_import {
    char *directory; /* owned */
    const par__family *family;
    par_transformer_config config;
    char outer[96];  /* what tools have put before all names here: "module." or so */
    char prefix[96]; /* of the base model's names here, with that */
    int n_files;
    par_safetensors **files;
    int32_t ends[PAR__MAX_ENDS]; /* tokens that end a text */
    int n_ends;
    char kept[PAR_IMPORT_KEPT];
};

/* The tensors against the configuration: all there with their shapes, and no unknown one. */
par_status par__import_check(par_import *import);
/* The row's name in this directory; false if it does not fit. */
bool par__import_name(const par_import *import, const par__mapping *m, int64_t layer, char *name,
                      size_t nbytes);
/* File and entry of a tensor; NULL if there is none. */
const par__st_entry *par__import_find(const par_import *import, const char *name,
                                      const par_safetensors **file);
/* The type that all parameters are stored in; fp32, which holds the others, where types differ. */
par_dtype par__import_dtype(const par_import *import);
/* A tensor in the family's shape for one row of the table, or what is wrong with it. */
par_status par__mapping_check(const par_transformer_config *config, const par__mapping *m,
                              const par_safetensors *file, const par__st_entry *entry);

#endif
