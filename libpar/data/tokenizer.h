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
    int32_t rank, id;
} par__merge_slot;

typedef struct {
    int32_t n;
    par__merge_slot *slots;
    size_t mask;
} par__merges;

par_status par__merges_allocate(size_t max, par__merges *out);
/* False: the pair was there before, with rank *rank. */
bool par__merges_put(par__merges *m, int32_t left, int32_t right, int32_t id, int32_t *rank);
/* The slot of a pair; its rank is -1: the two are never merged. */
const par__merge_slot *par__merges_find(const par__merges *m, int32_t left, int32_t right);

/* Merges are read one after the other, in the order of their ranks. */
typedef struct {
    const char *path, *unit; /* for messages: the file, and what `at` counts: "line" or "merge" */
    int64_t at;
    const par__vocab *vocab;
    bool plain; /* words are as they are, not in the byte alphabet */
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
/* All lines of a merges.txt; *out is to be destroyed also after an error. */
par_status par__merges_read(const char *path, const char *text, size_t n, const par__vocab *vocab,
                            par__merges *out);
void par__merges_destroy(par__merges *m);

/* ---- characters ---- */

/* Classes of a character, as sets. A letter is one of the three kinds. */
enum {
    PAR__UPPER = 1,    /* Lu, Lt */
    PAR__LOWER = 2,    /* Ll */
    PAR__CASELESS = 4, /* Lm, Lo */
    PAR__LETTER = 7,
    PAR__MARK = 8,
    PAR__NUMBER = 16, /* Nd, Nl, No */
    PAR__SPACE = 32,  /* White_Space */
    PAR__LINE_END = 64,
    PAR__PUNCTUATION = 128,
    PAR__WORD = 256 /* \w of Unicode's TR 18 */
};
/* Classes of the character at the front, and its length: 1 and no class for a byte that is not
 * UTF-8. n > 0. */
unsigned par__class_at(const uint8_t *p, size_t n, size_t *length);

/* ---- regular expressions ---- */

/* An expression in Oniguruma's spelling, which tokenizer.json has, run by PCRE2. */
typedef struct par__regex par__regex;
typedef struct par__match par__match; /* memory of one thread */
/* element: "Split", for messages */
par_status par__regex_create(const char *path, const char *element, const char *expression,
                             par__regex **out);
void par__regex_destroy(par__regex **regex);
par_status par__match_create(par__match **out);
void par__match_destroy(par__match **match);
/* The first match at or behind `from` that is not empty; *begin = n: there is none. The text is
 * sound UTF-8. */
par_status par__regex_find(const par__regex *regex, par__match *match, const uint8_t *text,
                           size_t n, size_t from, size_t *begin, size_t *end);

/* ---- normalizers ---- */

typedef struct {
    uint8_t *data;
    size_t n, max;
} par__grown;
par_status par__grown_append(par__grown *text, const void *bytes, size_t n);

/* SentencePiece's table of characters and what they become: a trie in a double array (Aoe 1989;
 * Darts-clone's units) and the texts, each with a zero behind it. */
typedef struct {
    uint8_t *blob; /* owned; units, then texts */
    size_t n_units, n_texts;
} par__charsmap;
par_status par__charsmap_read(const char *path, const uint8_t *bytes, size_t n, par__charsmap *out);
/* What the text at the front becomes: the longest entry, or with `first` the shortest; *length: of
 * the entry, 0: there is none. */
const char *par__charsmap_find(const par__charsmap *map, const uint8_t *text, size_t n, bool first,
                               size_t *length);

typedef enum {
    PAR__NORMALIZE_UNICODE, /* NFC and so on, by utf8proc's options */
    PAR__NORMALIZE_PREPEND,
    PAR__NORMALIZE_REPLACE,
    PAR__NORMALIZE_LOWERCASE,
    PAR__NORMALIZE_STRIP,
    PAR__NORMALIZE_PRECOMPILED,  /* a charsmap by grapheme, as the tokenizers library does */
    PAR__NORMALIZE_SENTENCEPIECE /* the whole normalizer of a tokenizer.model */
} par__normalizer_kind;

typedef struct {
    par__normalizer_kind kind;
    int options;                                             /* UNICODE: utf8proc's */
    bool left, right;                                        /* STRIP */
    char *from, *to;                                         /* owned; REPLACE: text, PREPEND: to */
    par__regex *regex;                                       /* REPLACE: instead of from */
    par__charsmap map;                                       /* empty: none */
    bool dummy_prefix, remove_spaces, escape_spaces, suffix; /* SENTENCEPIECE */
    const struct par__added *symbols; /* SENTENCEPIECE: user-defined, taken as they are */
} par__normalizer;

enum { PAR__MAX_STEPS = 16 }; /* normalizers, and stages of a pre-tokenizer */
typedef struct {
    int n;
    par__normalizer list[PAR__MAX_STEPS];
} par__normalizers;
void par__normalizers_destroy(par__normalizers *all);
/* The text, or what it becomes in one of two buffers. */
par_status par__normalize(const par__normalizers *all, par__match *match, const uint8_t *text,
                          size_t n, par__grown buffers[2], const uint8_t **out, size_t *n_out);

/* ---- pre-tokenizers ---- */

/* Patterns that have a scanner of their own. */
enum { PAR__SPLIT_GPT2, PAR__SPLIT_LLAMA3, PAR__SPLIT_QWEN2, PAR__SPLIT_O200K, PAR__N_SPLITS };
/* Which of them an expression of a tokenizer.json is; -1: none. */
int par__scanner_which(const char *regex);
/* Length of the pattern's first match, which begins at the front. n > 0; sound UTF-8. */
size_t par__scan(int which, const uint8_t *text, size_t n);

typedef enum {
    PAR__STAGE_SCAN, /* a pattern of PAR__SPLIT_ */
    PAR__STAGE_REGEX,
    PAR__STAGE_STRING,
    PAR__STAGE_CLASS,     /* characters of some class */
    PAR__STAGE_WORDS,     /* runs of \w, runs of what is neither \w nor space */
    PAR__STAGE_PREFIX,    /* a space in front where there is none */
    PAR__STAGE_METASPACE, /* spaces become ▁, one in front, split before each */
} par__stage_kind;

typedef enum {
    PAR__ISOLATED,
    PAR__REMOVED,
    PAR__CONTIGUOUS,
    PAR__MERGED_WITH_PREVIOUS,
    PAR__MERGED_WITH_NEXT
} par__behavior;

typedef enum { PAR__PREPEND_NEVER, PAR__PREPEND_FIRST, PAR__PREPEND_ALWAYS } par__prepend;

typedef struct {
    par__stage_kind kind;
    par__behavior behavior;
    bool invert; /* what does not match is the match */
    int scan;
    unsigned classes;     /* CLASS: any of them is a match */
    par__regex *regex;    /* owned */
    char *text;           /* owned; STRING; METASPACE: what spaces become */
    par__prepend prepend; /* METASPACE */
    bool split;           /* METASPACE */
} par__stage;

typedef struct {
    int n;
    par__stage list[PAR__MAX_STEPS];
} par__splitter;
void par__splitter_destroy(par__splitter *splitter);

/* Memory of one thread that splits. */
typedef struct {
    par__match *match;
    par__grown buffers[PAR__MAX_STEPS]; /* of stages that change the text */
} par__split_memory;
par_status par__split_memory_create(par__split_memory *out);
void par__split_memory_destroy(par__split_memory *memory);

/* Pieces of a text; together they are the text, but for what stages remove or add. A run of bytes
 * that is not UTF-8 is a piece of its own. first: the text begins at the front of what was
 * given. */
typedef par_status par__piece_visitor(void *user, const uint8_t *piece, size_t n);
par_status par__splitter_run(const par__splitter *splitter, par__split_memory *memory,
                             const uint8_t *text, size_t n, bool first, par__piece_visitor *visit,
                             void *user);

/* ---- added tokens ---- */

typedef struct {
    int32_t id;
    char *text; /* owned */
    size_t n;
    bool left, right, single; /* takes spaces before it, behind it; stands alone as a word */
} par__added_token;

/* Tokens that are recognised in a text before it is split: the leftmost, of several there the
 * longest. */
typedef struct par__added {
    int32_t n;
    par__added_token *list;
    uint8_t begins[8192]; /* bits: with these two bytes */
} par__added;
/* The text is copied. */
par_status par__added_put(par__added *added, const par__added_token *token);
void par__added_destroy(par__added *added);
/* The token at the front; NULL: there is none. */
const par__added_token *par__added_at(const par__added *added, const uint8_t *text, size_t n);
/* Tokens and the texts between them, in order; token NULL: a text. */
typedef par_status par__added_visitor(void *user, const par__added_token *token,
                                      const uint8_t *text, size_t n);
par_status par__added_run(const par__added *added, const uint8_t *text, size_t n,
                          par__added_visitor *visit, void *user);

/* ---- models ---- */

/* Merging of one piece: a linked list of ids and a heap of its pairs, memory that grows to the
 * longest piece. */
typedef struct {
    int32_t id, before, after; /* neighbours; -1: none. id -1: merged away */
    bool frozen;               /* never merged */
} par__bpe_node;
typedef struct {
    int32_t rank, at, left, right;
} par__bpe_pair;
typedef struct {
    par__bpe_node *nodes;
    par__bpe_pair *heap;
    size_t n, max, n_heap; /* nodes; the heap has room for 3 times as many */
} par__bpe;

/* Symbols are put, then merged: the lowest rank first, the leftmost among equals. What is left are
 * the nodes from 0 on, by `after`. */
par_status par__bpe_begin(par__bpe *bpe, size_t max);
void par__bpe_put(par__bpe *bpe, int32_t id, bool frozen);
void par__bpe_merge(par__bpe *bpe, const par__merges *merges);
void par__bpe_destroy(par__bpe *bpe);

/* The pieces of a unigram model (Kudo 2018): scores by id, and a trie of the pieces. */
typedef struct {
    double *scores; /* [vocab] */
    bool *skipped;  /* [vocab] not found in texts: control, unknown, byte pieces */
    bool *defined;  /* [vocab] by the user; NULL: none */
    double unknown; /* score of a character without a piece */
    bool single;    /* sums are kept in single precision, as SentencePiece does */
    uint64_t *keys; /* [mask + 1] (node << 8 | byte) + 1; 0: free */
    int32_t *next;  /* [mask + 1] node */
    int32_t *ids;   /* [n_nodes] -1: no piece ends there */
    size_t mask;
    int32_t n_nodes;
} par__unigram;
par_status par__unigram_build(par__unigram *u, const par__vocab *vocab);
void par__unigram_destroy(par__unigram *u);

/* Best path to each byte of a text. */
typedef struct {
    double score;
    int32_t begin, id;
} par__unigram_cell;
typedef struct {
    par__unigram_cell *cells;
    size_t max;
} par__unigram_memory;
/* Pieces of the best path, the last one first: id (-1: unknown) and range. */
par_status par__unigram_run(const par__unigram *u, par__unigram_memory *m, const uint8_t *text,
                            size_t n);

typedef enum {
    PAR__MODEL_TABLE,      /* a byte is an id */
    PAR__MODEL_BYTES,      /* BPE that begins with bytes */
    PAR__MODEL_CHARACTERS, /* BPE that begins with characters */
    PAR__MODEL_UNIGRAM
} par__model;

enum { PAR__MAX_FRAME = 8 };
/* Ids in front of a document and behind it. */
typedef struct {
    int n_begin, n_end;
    int32_t begin[PAR__MAX_FRAME], end[PAR__MAX_FRAME];
} par__frame;

typedef struct par__encoder par__encoder;

struct par_tokenizer {
    par__model model;
    par__vocab vocab;
    /* id of a byte: alone, or as what stands for a character without a token; -1: there is none */
    int32_t of_byte[256];
    int32_t unknown; /* id of what has no other; -1: it is left out */
    bool fuse_unknown;
    bool whole_pieces; /* a piece that is a token is not merged ("ignore_merges") */
    bool by_words; /* CHARACTERS: no token goes on behind a ▁ that follows another character */
    par__merges merges;
    par__unigram unigram;
    par__normalizers normalizers;
    par__splitter splitter;
    par__added added, normalized_added; /* found before normalizing, and after it */
    par__added symbols;                 /* user-defined pieces of a tokenizer.model */
    par__frame frame;
    int32_t end;           /* that ends a document; -1: none */
    bool spaces;           /* ▁ in a token stands for a space */
    bool strip_first;      /* decoding leaves out a space at the front, encoding put it there */
    char *note;            /* what whoever opens it should know; NULL: nothing */
    par__encoder *encoder; /* of the calls that take no other */
};

/* Id i is the byte bytes[i]. */
par_status par__tokenizer_create_table(const uint8_t *bytes, int32_t n, par_tokenizer **out);
/* A byte-level BPE from the text of its two files. */
par_status par__tokenizer_parse(const char *vocab_path, const char *vocab, size_t vocab_nbytes,
                                const char *merges_path, const char *merges, size_t merges_nbytes,
                                par_tokenizer **out);
/* A table of characters, a tokenizer.json (an object with "model"), or a tokenizer.model of
 * SentencePiece. */
par_status par__tokenizer_parse_file(const char *path, const char *text, size_t n,
                                     par_tokenizer **out);

/* ---- what the parsers share ---- */

struct json_t;
par_status par__tokenizer_create(par_tokenizer **out); /* all zero, but for ids that are -1 */
void par__tokenizer_free(par_tokenizer **tokenizer);
/* What is known when all of it was read: the end of a document, an encoder. */
par_status par__tokenizer_finish(par_tokenizer *t);
/* The JSON object that a text is. */
par_status par__tokenizer_load(const char *path, const char *text, size_t n, struct json_t **out);
/* The vocabulary {"word": id} with added tokens {"id", "content"} (NULL: none); ids are 0 to n - 1,
 * once each. all_plain: no word is in the byte alphabet. */
par_status par__vocab_read(const char *path, struct json_t *words, const struct json_t *added,
                           bool all_plain, par__vocab *out);
/* From here on every byte has an id, and every longer token a merge, or it is added or special. */
par_status par__tokenizer_complete(par_tokenizer *t, const char *vocab_path,
                                   const char *merges_path);
/* A table of characters: an object with "bytes". */
par_status par__tokenizer_read_table(const char *path, const struct json_t *root,
                                     par_tokenizer **out);
/* Elements of a tokenizer.json. */
par_status par__normalizers_read(const char *path, const struct json_t *element,
                                 par__normalizers *out);
par_status par__splitter_read(const char *path, const struct json_t *element, bool *byte_level,
                              par__splitter *out);
par_status par__added_read(const char *path, const struct json_t *list, par_tokenizer *t);
par_status par__frame_read(const char *path, const struct json_t *element, par_tokenizer *t);
/* Id of the added token with this text; -1: there is none. */
int32_t par__added_find(const par_tokenizer *t, const char *token);
/* Ids of bytes <0x00> to <0xFF>; false: one of them is not there. */
bool par__find_byte_tokens(par_tokenizer *t);
/* Whether CHARACTERS may be merged word by word. */
void par__find_words(par_tokenizer *t);
/* A tokenizer.model. */
par_status par__sentencepiece_parse(const char *path, const uint8_t *bytes, size_t n,
                                    par_tokenizer **out);

/* ---- encoding ---- */

/* Ids go to `visit` in blocks. An encoder is one thread's; the tokenizer may have several. */
typedef par_status par__id_visitor(void *user, const int32_t *ids, size_t n);
par_status par__encoder_create(const par_tokenizer *t, par__encoder **out);
void par__encoder_destroy(par__encoder **encoder);
par_status par__encoder_run(par__encoder *encoder, const uint8_t *bytes, size_t n,
                            par__id_visitor *visit, void *user);
/* As par_tokenizer_encode, ids in blocks. */
par_status par__tokenizer_stream(par_tokenizer *t, const uint8_t *bytes, size_t n,
                                 par__id_visitor *visit, void *user);

/* ---- documents on all threads ---- */

/* Ids of documents, in the order of par__batch_add: those of a document, then its end. */
typedef struct {
    par__id_visitor *ids;
    par_status (*end)(void *user);
    void *user;
} par__document_sink;
/* Documents wait in a batch, are encoded side by side, and go to the sink with what the tokenizer's
 * frame puts around them. Ids are the same for every number of threads. */
typedef struct par__batch par__batch;
par_status par__batch_open(par_tokenizer *t, const par__document_sink *sink, par__batch **out);
par_status par__batch_add(par__batch *batch, const uint8_t *text, size_t n);
/* What waits is encoded. */
par_status par__batch_flush(par__batch *batch);
void par__batch_close(par__batch **batch);

typedef par_status par__document_visitor(void *user, const uint8_t *text, size_t n);
/* Documents of the corpus in order, empty ones left out. PAR_ERR_FORMAT when there is none. */
par_status par__corpus_run(const par_corpus *corpus, par__document_visitor *visit, void *user);
par_status par__jsonl_parse(const char *path, const char *text, size_t n, const char *field,
                            par__document_visitor *visit, void *user);

#endif
