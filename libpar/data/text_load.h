/*
 * Texts as people have them: a file's bytes without a byte order mark, unpacked, in UTF-8; and one
 * string of one line of JSON Lines.
 */
#ifndef PAR__DATA_TEXT_LOAD_H
#define PAR__DATA_TEXT_LOAD_H

#include <stdbool.h>

#include "libpar/base/file.h"

typedef struct {
    const uint8_t *data; /* NULL if there is none */
    size_t n;
    par__map map;             /* of the file */
    uint8_t *owned;           /* what was unpacked or converted */
    bool unpacked, converted; /* from gzip or zstd; from UTF-16 */
    int64_t surrogates;       /* of UTF-16 that stand alone: U+FFFD now */
} par__text;

/* Unpacks gzip and zstd, which are known by their first bytes, into memory. Errors: PAR_ERR_IO,
 * PAR_ERR_MEMORY; PAR_ERR_FORMAT: damaged, UTF-32, UTF-16 without a mark, a tar archive, or named
 * .gz or .zst and not that; PAR_ERR_UNSUPPORTED: this build has not the library that unpacks it. */
par_status par__text_load(const char *path, par__text *out);
void par__text_free(par__text *text);

/* UTF-8 of a code point into out; returns its bytes. Surrogates are the caller's affair. */
size_t par__utf8_put(uint32_t c, uint8_t out[4]);

/* A string that grows; free its bytes. */
typedef struct {
    uint8_t *bytes;
    size_t n, max;
} par__string;

/* What par__json_field found. */
typedef enum {
    PAR__JSON_STRING,
    PAR__JSON_NULL,
    PAR__JSON_BAD,
    PAR__JSON_NO_MEMORY
} par__json_kind;

typedef struct {
    par__string text;   /* used again by the next call */
    int64_t surrogates; /* that stand alone in it: U+FFFD now */
    size_t at;          /* of what is bad, from 0 */
    const char *why;
} par__json_text;

/*
 * The string `field` of the object in a line of n bytes (RFC 8259). Other fields are passed over:
 * their brackets and strings must end, and nothing else is asked of them, so that NaN, numbers of
 * any size and names that occur twice do not matter.
 */
par__json_kind par__json_field(const char *line, size_t n, const char *field, par__json_text *out);

#endif
