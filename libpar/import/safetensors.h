/*
 * A safetensors file inside: entries that are checked completely, over one block of memory. The
 * parser works on memory alone, so that tests can feed it any bytes.
 */
#ifndef PAR__IMPORT_SAFETENSORS_H
#define PAR__IMPORT_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libpar/base/file.h"
#include "par/import.h"

typedef struct {
    const char *name; /* in the dtype table */
    size_t nbytes;    /* of an element */
    int dtype;        /* a par_dtype; -1: can lie in a file, cannot be used */
} par__st_type;

typedef struct {
    char *name; /* owned */
    const par__st_type *type;
    int ndim;
    int64_t shape[4];  /* the first four */
    size_t begin, end; /* bytes in the data */
} par__st_entry;

struct par_safetensors {
    char *path;          /* owned; for messages */
    par__map map;        /* data NULL if parsed from memory */
    const uint8_t *data; /* behind the header; possibly unaligned */
    int n;
    par__st_entry *entries; /* sorted by name */
};

/* Borrows `file`. */
par_status par__safetensors_parse(const char *path, const uint8_t *file, size_t nbytes,
                                  par_safetensors **out);
/* Takes out of names what tools put within them around a block that they compile, shard or
 * recompute; what stands before a whole name stays. */
par_status par__safetensors_unwrap(par_safetensors *file);
/* Entry i has another name. */
par_status par__safetensors_rename(par_safetensors *file, int i, const char *name);
/* NULL if there is none. */
const par__st_entry *par__safetensors_find(const par_safetensors *file, const char *name);
/* n elements of F32, BF16 or F16 from an unaligned address, as fp32. */
void par__widen(const uint8_t *src, int dtype, int64_t n, float *dst);
/* "[3, 4]" for messages. */
const char *par__shape_text(char *text, size_t nbytes, int ndim, const int64_t *shape);
const par__st_type *par__st_type_of(par_dtype dtype);

/* Data of tensor i, valid until the next call. */
typedef par_status par__st_fetch(void *user, int i, const void **data);
/* par_safetensors_write of tensors whose data is fetched, one at a time; with the metadata that
 * transformers asks for, {"format": "pt"}. */
par_status par__safetensors_stream(const char *path, int n, const char *const *names,
                                   const par_tensor *tensors, par__st_fetch *fetch, void *user);

#endif
