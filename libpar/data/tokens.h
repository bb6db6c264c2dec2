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

/* A file as it was at some time; a mapping stays on its inode. */
typedef struct {
    uint64_t device, inode;
    int64_t nbytes, time_ns;
} par__file_state;

/* What `par data`, or the first check of a file, leaves beside it. */
typedef struct {
    par__file_state of; /* nbytes and time_ns alone */
    par_tokens_form form;
    par__token_type type;
    int64_t n, vocab, n_documents, max;
    uint64_t fingerprint;
} par__stamp;

struct par_tokens {
    char *path;            /* owned; of the file with the tokens */
    par__map map;          /* of it; data NULL if parsed from memory */
    par__file_state state; /* when it was opened */
    const uint8_t *first;  /* possibly unaligned */
    size_t offset;         /* of the first token in the file */
    int64_t n, n_documents;
    par_tokens_form form;
    par__token_type type;
    int64_t vocab;                /* of par_tokens_params */
    bool has_stamp, only_stamped; /* one of the file's size; nothing else told its form */
    par__stamp stamp;
};

/*
 * What the bytes of a token file mean; index: of a Megatron .idx, NULL if there is none; stamp:
 * NULL if there is none. Borrows data alone. Sets first, offset, n, n_documents, form, type and
 * only_stamped of `out`.
 */
par_status par__tokens_parse(const char *path, const par_tokens_params *params, const uint8_t *data,
                             size_t nbytes, const uint8_t *index, size_t index_nbytes,
                             const par__stamp *stamp, par_tokens *out);
/* Without a magic or an index. */
par_status par__tokens_parse_raw(const char *path, const par_tokens_params *params,
                                 const uint8_t *data, size_t nbytes, const par__stamp *stamp,
                                 par_tokens *out);
/* LitGPT's packed files. */
bool par__tokens_is_litgpt(const uint8_t *data, size_t nbytes);
par_status par__tokens_parse_litgpt(const char *path, const uint8_t *data, size_t nbytes,
                                    par_tokens *out);
/* What a file that is not of tokens is, "a NumPy file (.npy)"; NULL: not known. *remedy, what to do
 * with it, stands behind that: ": ...". */
const char *par__tokens_foreign(const uint8_t *data, size_t nbytes, const char **remedy);
/* The same by magic numbers alone, also of what is no text; n bytes from its begin are enough. */
const char *par__magic(const uint8_t *data, size_t nbytes, bool text, const char **remedy);

/* tokens_stamp.c */
par_status par__file_state_of(const char *path, par__file_state *out);
/* *read false: there is none, or what is there is none. */
par_status par__stamp_read(const char *path, bool *read, par__stamp *out);
par_status par__stamp_write(const char *path, const par__stamp *stamp);
/* tokens_check.c: of a file that was just written, by a tokenizer of `vocab` ids. Without a stamp
 * it is as good. */
void par__tokens_leave_stamp(const char *path, par_tokens_form form, int64_t vocab,
                             int64_t n_documents);

/* Token i as it is, a negative one as a number that is too large for any vocabulary. */
int64_t par__token_at(const par_tokens *tokens, int64_t i);

/* The index alone: number of tokens and documents, and the tokens' type. nbytes: size of the
 * .bin. */
par_status par__tokens_parse_index(const char *path, const uint8_t *index, size_t index_nbytes,
                                   size_t nbytes, par_tokens *out);
static inline size_t par__token_nbytes(par__token_type type) {
    static const size_t nbytes[] = {
        [PAR__TOKEN_U8] = 1,  [PAR__TOKEN_I8] = 1,  [PAR__TOKEN_U16] = 2, [PAR__TOKEN_I16] = 2,
        [PAR__TOKEN_I32] = 4, [PAR__TOKEN_U32] = 4, [PAR__TOKEN_I64] = 8,
    };
    return nbytes[type];
}

/* The type by its code in Megatron's indexes and LitGPT's files; false: not one for tokens. */
#define PAR__TOKEN_CODES "1 u8, 2 i8, 3 i16, 4 i32, 5 i64, 8 u16"
static inline bool par__token_type_of(uint8_t code, par__token_type *out) {
    static const int types[] = {
        -1, PAR__TOKEN_U8, PAR__TOKEN_I8, PAR__TOKEN_I16, PAR__TOKEN_I32, PAR__TOKEN_I64, -1,
        -1, PAR__TOKEN_U16};
    if (code > 8 || types[code] < 0) return false;
    *out = (par__token_type)types[code];
    return true;
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
