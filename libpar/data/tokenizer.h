/*
 * Tokenizers inside: the vocabulary (id to bytes and back), the merges, the splitter and the byte
 * alphabet. Parsers work on memory alone, so that tests can feed them any bytes.
 */
#ifndef PAR__DATA_TOKENIZER_H
#define PAR__DATA_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "par/tokenizer.h"

#define PAR__END_OF_TEXT "<|endoftext|>"

/* GPT-2's alphabet: printable bytes of Latin-1 are themselves, the other 68 are U+0100 and up, in
 * order. */
enum { PAR__ALPHABET_CODES = 256 + 68 };
typedef struct {
    uint16_t code[256];                /* of a byte */
    int16_t byte[PAR__ALPHABET_CODES]; /* of a code point; -1: none */
} par__alphabet;

void par__alphabet_make(par__alphabet *out);
/* Bytes of a word in the alphabet (UTF-8); the number of bytes, at most n, or -1 where the word is
 * outside of it. */
int64_t par__alphabet_decode(const par__alphabet *a, const char *word, size_t n, uint8_t *out);
/* The word of bytes; at most 2 n characters are written. Returns how many. */
size_t par__alphabet_encode(const par__alphabet *a, const uint8_t *bytes, size_t n, char *out);

typedef struct {
    int32_t n;
    uint8_t *bytes; /* of all ids, one after the other */
    size_t *first;  /* [n + 1] into bytes */
    int32_t *slots; /* hash of bytes to id; -1: free */
    size_t mask;    /* slots - 1, a power of two minus 1 */
} par__vocab;

/* words[id] in the alphabet, or, where plain[id], as they are; path: for messages. */
par_status par__vocab_create(const char *path, const char *const *words, const bool *plain,
                             int32_t n, par__vocab *out);
par_status par__vocab_bytes(const uint8_t *bytes, int32_t n,
                            par__vocab *out); /* id i is the byte bytes[i] */
void par__vocab_destroy(par__vocab *v);
int32_t par__vocab_find(const par__vocab *v, const uint8_t *bytes, size_t n);

typedef struct {
    uint64_t key; /* left id << 32 | right id; UINT64_MAX: free */
    int32_t rank;
} par__merge_slot;

typedef struct {
    int32_t n;
    int32_t *id; /* [n] of a rank's result */
    par__merge_slot *slots;
    size_t mask;
} par__merges;

/* Merges are read one after the other, in the order of their ranks. */
typedef struct {
    const char *path, *unit; /* for messages: the file, and what `at` counts: "line" or "merge" */
    int64_t at;
    const par__vocab *vocab;
    par__alphabet alphabet;
    uint8_t *bytes; /* of the two words, decoded */
} par__merge_reader;

/* Room for `max` merges whose two words have up to nbytes together. */
par_status par__merges_begin(par__merge_reader *r, size_t max, size_t nbytes, par__merges *out);
par_status par__merges_add(const par__merge_reader *r, const char *left_word, size_t n_left_word,
                           const char *right_word, size_t n_right_word, par__merges *m);
/* "LEFT RIGHT" */
par_status par__merges_add_line(const par__merge_reader *r, const char *line, size_t n,
                                par__merges *m);
void par__merges_end(par__merge_reader *r);
void par__merges_destroy(par__merges *m);
/* Rank of a pair; -1: the two are never merged. */
int32_t par__merges_rank(const par__merges *m, int32_t left, int32_t right);

/* Pieces of a text, as a pattern gives them; together they are the text. */
typedef par_status par__piece_visitor(void *user, const uint8_t *piece, size_t n);
typedef struct par__splitter par__splitter;
enum { PAR__SPLIT_GPT2, PAR__SPLIT_LLAMA3, PAR__N_SPLITS };
/* Which pattern a regular expression in a tokenizer.json is; -1: none of those. */
int par__splitter_which(const char *regex);
par_status par__splitter_create(int which, par__splitter **out);
void par__splitter_destroy(par__splitter **splitter);
par_status par__splitter_run(par__splitter *splitter, const uint8_t *text, size_t n,
                             par__piece_visitor *visit, void *user);

/* Merging of one piece: a linked list of ids and a heap of its pairs, memory that grows to the
 * longest piece. */
typedef struct {
    int32_t id, before, after; /* neighbours; -1: none. id -1: merged away */
} par__bpe_node;
typedef struct {
    int32_t rank, at, left, right;
} par__bpe_pair;
typedef struct {
    par__bpe_node *nodes;
    par__bpe_pair *heap;
    size_t max, n_heap; /* nodes; the heap has room for 3 times as many */
} par__bpe;

/* Ids of a piece go to `visit`. of_byte: id of each byte. */
typedef par_status par__id_visitor(void *user, const int32_t *ids, size_t n);
par_status par__bpe_run(par__bpe *bpe, const par__merges *merges, const int32_t *of_byte,
                        const uint8_t *piece, size_t n, par__id_visitor *visit, void *user);
void par__bpe_destroy(par__bpe *bpe);

/* Tokens that are recognised in a text before it is split: the leftmost, of several there the
 * longest. */
typedef struct {
    int32_t n;
    int32_t *ids;
    bool begins[256]; /* with this byte */
} par__added;

struct par_tokenizer {
    par__vocab vocab;
    int32_t of_byte[256];    /* id of a byte alone; -1: a table of characters lacks it */
    par__splitter *splitter; /* NULL: a table, no merges */
    par__merges merges;
    bool whole_pieces; /* a piece that is a token is not merged ("ignore_merges") */
    par__added added;
    par__bpe bpe;
};

/* Id i is the byte bytes[i]. */
par_status par__tokenizer_create_table(const uint8_t *bytes, int32_t n, par_tokenizer **out);
/* A byte-level BPE from the text of its two files. */
par_status par__tokenizer_parse(const char *vocab_path, const char *vocab, size_t vocab_nbytes,
                                const char *merges_path, const char *merges, size_t merges_nbytes,
                                par_tokenizer **out);
/* A table of characters, or a tokenizer.json: an object with "model". */
par_status par__tokenizer_parse_file(const char *path, const char *text, size_t n,
                                     par_tokenizer **out);

/* ---- what the parsers share ---- */

struct json_t;
par_status par__tokenizer_create(par_tokenizer **out); /* all zero */
void par__tokenizer_free(par_tokenizer **tokenizer);
/* The JSON object that a text is. */
par_status par__tokenizer_load(const char *path, const char *text, size_t n, struct json_t **out);
/* The vocabulary {"word": id} with added tokens {"id", "content"} (NULL: none); ids are 0 to n - 1,
 * once each. */
par_status par__vocab_read(const char *path, struct json_t *words, const struct json_t *added,
                           par__vocab *out);
/* From here on every byte has an id, and every longer token a merge, or it is added or special. */
par_status par__tokenizer_complete(par_tokenizer *t, const char *vocab_path,
                                   const char *merges_path);
/* A table of characters: an object with "bytes". */
par_status par__tokenizer_read_table(const char *path, const struct json_t *root,
                                     par_tokenizer **out);

/* As par_tokenizer_encode, ids in blocks. */
par_status par__tokenizer_stream(par_tokenizer *t, const uint8_t *bytes, size_t n,
                                 par__id_visitor *visit, void *user);

typedef par_status par__document_visitor(void *user, const uint8_t *text, size_t n);
/* Documents of the corpus in order, empty ones left out. PAR_ERR_FORMAT when there is none. */
par_status par__corpus_run(const par_corpus *corpus, par__document_visitor *visit, void *user);
par_status par__jsonl_parse(const char *path, const char *text, size_t n, const char *field,
                            par__document_visitor *visit, void *user);

#endif
