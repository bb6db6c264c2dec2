/*
 * Tokenizers: text to ids and back. Bytes, characters (a table of the bytes that occur), byte-level
 * BPE from GPT-2's files, what a tokenizer.json or a tokenizer.model says; a trainer of a
 * byte-level BPE; and corpora of text or JSON Lines made into token files.
 */
#ifndef PAR_TOKENIZER_H
#define PAR_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "par/export.h"
#include "par/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Used by one thread at a time: encoding works in memory of the tokenizer's own. */
typedef struct par_tokenizer par_tokenizer;

/**
 * Open a tokenizer. `path` is the word "bytes" (id = byte, 256 ids); a .vocab file of
 * par_corpus_write_tokens; a tokenizer.json of Hugging Face's tokenizers (BPE or Unigram); a
 * tokenizer.model of SentencePiece (BPE or unigram); or a directory with one of the two, or with a
 * byte-level BPE: vocab.json or encoder.json, and merges.txt or vocab.bpe. A tokenizer.json there
 * decides, since it says how texts are split. All of it is checked. Ids are exactly 0 .. n - 1. In
 * a byte-level BPE every byte has a token, and every merge joins two tokens to a third. Every
 * longer token has a merge, unless it is in <> or [] (special), added, or the file ignores merges.
 *
 * Not collective. Errors: PAR_ERR_IO: a file is missing or cannot be read; PAR_ERR_FORMAT:
 * malformed, with path, line or token, and what would be right; PAR_ERR_UNSUPPORTED: a
 * tokenizer.json that asks for what is not there, so that its ids would differ; PAR_ERR_ARG: a name
 * that is too long; PAR_ERR_MEMORY.
 */
PAR_API par_status par_tokenizer_open(const char *path, par_tokenizer **out);
/** NULL is accepted. Not collective. */
PAR_API void par_tokenizer_close(par_tokenizer **tokenizer);
/** Number of ids. Not collective. */
PAR_API int64_t par_tokenizer_vocab(const par_tokenizer *);
/** Id of the token that stands for exactly this text, "<|endoftext|>" say; -1: there is none.
 * Not collective. */
PAR_API int32_t par_tokenizer_id(const par_tokenizer *, const char *token);

/** Id that ends a document: the first that the template puts behind a text, else the end of a
 * tokenizer.model, else <|endoftext|>, <|end_of_text|>, </s> or <eos>; -1: there is none.
 * Not collective. */
PAR_API int32_t par_tokenizer_end(const par_tokenizer *);

/**
 * Ids that stand in front of a document, or, with `behind`, behind it: as a tokenizer.json's
 * post_processor says, in front of a tokenizer.model's its begin; and behind at least
 * par_tokenizer_end where there is one. par_corpus_write_tokens puts them, encoding does not.
 * Returns how many; *ids [n] is the tokenizer's.
 *
 * Not collective.
 */
PAR_API size_t par_tokenizer_frame(const par_tokenizer *, bool behind, const int32_t **ids);

/** What whoever opened it should know, in one line without a full stop; NULL: nothing.
 * Not collective. */
PAR_API const char *par_tokenizer_note(const par_tokenizer *);

/**
 * Ids of n bytes, in [0, vocab). In tables and byte-level BPE without a normalizer or a prefix
 * n_ids is never above n. The text is normalized and split as the files say, GPT-2's two files as
 * GPT-2 does (Radford et al. 2019); BPE merges lowest rank first, leftmost first. Special tokens in
 * the text are text, but the added tokens of a tokenizer.json are recognised, as Hugging Face does;
 * none is put in front or behind (par_tokenizer_frame). The bytes may be anything: a longest run
 * that is not UTF-8 is a piece of its own, and the text on each side of it is split as if it stood
 * alone; where nothing changes the text, decoding gives the same bytes back. ids [max].
 *
 * Not collective. Errors: PAR_ERR_ARG: max is too small, and n_ids is what is needed;
 * PAR_ERR_FORMAT: a byte that a table of characters lacks, with its offset; PAR_ERR_MEMORY.
 */
PAR_API par_status par_tokenizer_encode(par_tokenizer *, const void *bytes, size_t n, int32_t *ids,
                                        size_t max, size_t *n_ids);

/**
 * Bytes of n ids into bytes [max], without a zero at the end; they need not be UTF-8. The space
 * that encoding put in front of a text (Llama 2) is left out where the first id begins with it.
 *
 * Not collective. Errors: PAR_ERR_ARG: max is too small, and n_bytes is what is needed, or an id
 * outside [0, vocab), with its index.
 */
PAR_API par_status par_tokenizer_decode(const par_tokenizer *, const int32_t *ids, size_t n,
                                        void *bytes, size_t max, size_t *n_bytes);

/* What a file that may be a text is, by its first 4096 bytes. */
typedef enum {
    PAR_TEXT_USUAL,   /* as far as they tell */
    PAR_TEXT_EMPTY,   /* without a byte */
    PAR_TEXT_UTF16,   /* without a byte order mark, which is refused when it is read */
    PAR_TEXT_FOREIGN, /* a PDF, an archive, a token file, UTF-32 ..., refused then, too */
    PAR_TEXT_BINARY   /* something else with zero bytes; it is taken as it is then, and counted */
} par_text_kind;

/**
 * Look what a file is. What is packed by gzip or zstd is judged by its unpacked bytes.
 *
 * Not collective. Errors: PAR_ERR_IO; PAR_ERR_FORMAT: packed data that is damaged at its begin, or
 * a pointer of Git LFS; PAR_ERR_UNSUPPORTED: this build has not the library that unpacks it;
 * PAR_ERR_MEMORY.
 */
PAR_API par_status par_text_look(const char *path, par_text_kind *kind);

/* What a pass over a corpus found. Of a pass that failed, what it found up to there. */
typedef struct {
    int64_t documents, nbytes;   /* with text in them; their text, in UTF-8 */
    int64_t empty, nulls;        /* left out: without a byte, or null in JSON Lines */
    int64_t bad_lines;           /* left out by skip_bad_lines, or the one that was refused */
    int64_t bad_files;           /* the same of skip_bad_files */
    int64_t odd_files;           /* plain texts that are not UTF-8, or have a zero byte */
    int64_t surrogates;          /* halves of a UTF-16 pair that stood alone: U+FFFD now */
    int64_t unpacked, converted; /* files in gzip or zstd; in UTF-16 */
    /* what is wrong with the first of each, with its path; "" */
    char first_bad_line[512], first_bad_file[512], first_odd_file[512];
} par_corpus_counts;

/**
 * A text in files. Each file is a document. With `field`, each line of JSON Lines that is not blank
 * is one: the string of that name in the line's object; other fields do not matter. Empty documents
 * are left out. Files may be packed by gzip or zstd (then each is unpacked in memory), begin with a
 * byte order mark, or be UTF-16 with one; surrogates that stand alone become U+FFFD.
 */
typedef struct {
    int n_files;
    const char *const *paths;  /* borrowed */
    const char *field;         /* NULL: plain text */
    bool skip_bad_lines;       /* of JSON Lines: leave them out; else the first is an error */
    bool skip_bad_files;       /* the same of files that cannot be read as text: cut, damaged ... */
    par_corpus_counts *counts; /* NULL, or written by every pass over the corpus */
} par_corpus;

/**
 * Train a byte-level BPE on a corpus and write vocab.json and merges.txt into a directory, which is
 * made if it is not there. vocab = 256 bytes + merges + <|endoftext|> (the last id). Each step
 * merges the pair that occurs most; among equals the one with the lowest left id, then the lowest
 * right id. So the result depends on the text alone. Pieces longer than 1024 bytes are counted in
 * parts. *made (may be NULL): fewer ids than vocab when no pair occurs twice any more.
 *
 * Not collective. Errors: PAR_ERR_ARG: vocab is not in 257 .. 1048576; PAR_ERR_IO: a file cannot be
 * read or written, and nothing is left under a final name that is not complete; PAR_ERR_FORMAT: bad
 * JSON Lines (path, line and column), or a corpus without a byte; PAR_ERR_MEMORY.
 */
PAR_API par_status par_tokenizer_train(const par_corpus *corpus, int64_t vocab,
                                       const char *directory, int64_t *made);

/**
 * The tokenizer of a corpus's own characters: its distinct bytes, ids in sorted order, as nanoGPT's
 * table does for ASCII.
 *
 * Not collective. Errors: PAR_ERR_IO; PAR_ERR_FORMAT: bad JSON Lines (where and why), or a corpus
 * without a byte; PAR_ERR_MEMORY.
 */
PAR_API par_status par_tokenizer_of_text(const par_corpus *corpus, par_tokenizer **out);

/**
 * Write the ids of a corpus as a token file, on par_threads() threads; the same bytes for every
 * number of them. What par_tokenizer_frame says stands around each document. llm.c's form, or
 * Megatron's: `path` ends in .bin, the .idx is written beside it, a document is one sequence. A
 * tokenizer of bytes or characters leaves its table beside llm.c's form: path + ".vocab", one line
 * {"tokenizer": ..., "vocab": n, "bytes": [byte of id 0, ...]}. Temporary names, fsync, rename.
 * Memory: some 30 MB of text and ids per thread, and 4 bytes per document for Megatron. n_tokens
 * and n_documents may be NULL.
 *
 * Not collective. Errors: PAR_ERR_FORMAT: bad JSON Lines (where and why), a corpus without a byte,
 * or a byte that a table of characters lacks; PAR_ERR_IO: a file cannot be read or written, and
 * nothing is left behind; PAR_ERR_ARG: path does not end in .bin (Megatron), is too long, or a file
 * of more than 2^31 - 1 tokens (llm.c); PAR_ERR_MEMORY.
 */
PAR_API par_status par_corpus_write_tokens(const par_corpus *corpus, par_tokenizer *tokenizer,
                                           bool megatron, const char *path, int64_t *n_tokens,
                                           int64_t *n_documents);

#ifdef __cplusplus
}
#endif
#endif
