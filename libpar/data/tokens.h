/*
 * Token files inside: tokens of one element type, in one block of memory. The parser works on
 * memory alone, so that tests can feed it any bytes. The files are little-endian, and so is every
 * machine that libpar supports.
 */
#ifndef PAR__DATA_TOKENS_H
#define PAR__DATA_TOKENS_H

#include <stddef.h>
#include <stdint.h>

#include "libpar/base/file.h"
#include "par/data.h"

typedef enum {
    PAR__TOKEN_U8,
    PAR__TOKEN_I8,
    PAR__TOKEN_U16,
    PAR__TOKEN_I16,
    PAR__TOKEN_I32,
    PAR__TOKEN_U32,
    PAR__TOKEN_I64
} par__token_type;

enum { PAR__TOKENS_HEADER = 1024, PAR__TOKENS_MAGIC16 = 20240520, PAR__TOKENS_MAGIC32 = 20240801 };

struct par_tokens {
    char *path;           /* owned; for messages */
    par__map map;         /* of the file with the tokens; data NULL if parsed from memory */
    const uint8_t *first; /* possibly unaligned */
    size_t offset;        /* of the first token in the file */
    int64_t n;
    par__token_type type;
};

/*
 * What the bytes of a token file mean; index: of a Megatron .idx, NULL if there is none. Borrows
 * data, not index. Sets first, offset, n and type of `out` only.
 */
par_status par__tokens_parse(const char *path, const uint8_t *data, size_t nbytes,
                             const uint8_t *index, size_t index_nbytes, par_tokens *out);
/* The index alone: number of tokens and their type. nbytes: size of the .bin. */
par_status par__tokens_parse_index(const char *path, const uint8_t *index, size_t index_nbytes,
                                   size_t nbytes, par_tokens *out);
static inline size_t par__token_nbytes(par__token_type type) {
    static const size_t nbytes[] = {
        [PAR__TOKEN_U8] = 1,  [PAR__TOKEN_I8] = 1,  [PAR__TOKEN_U16] = 2, [PAR__TOKEN_I16] = 2,
        [PAR__TOKEN_I32] = 4, [PAR__TOKEN_U32] = 4, [PAR__TOKEN_I64] = 8,
    };
    return nbytes[type];
}

/* A token file that grows: the count goes into the header at the end. */
typedef struct {
    par__writer file;
    int64_t n;
    int wide; /* u32 tokens */
} par__tokens_writer;

par_status par__tokens_begin(const char *path, int64_t vocab, par__tokens_writer *out);
/* Each token is in [0, vocab): the caller checked. */
par_status par__tokens_append(par__tokens_writer *writer, const int32_t *tokens, int64_t n);
/* Commits or, on failure, removes the file. */
par_status par__tokens_end(par__tokens_writer *writer);
/* The same with a complete file of another writer, whose name appears first; both or, on a full
 * disk, none. */
par_status par__tokens_end_with(par__tokens_writer *w, par__writer *before);

#endif
