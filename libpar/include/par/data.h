/*
 * Data: sources of samples that are a function of their global number, token files, and the
 * sampler.
 */
#ifndef PAR_DATA_H
#define PAR_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "par/export.h"
#include "par/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Where batches come from. `read` writes samples [first, first + n) of the endless training order,
 * x [n, x_shape...] and targets [n, t_shape...] as the model declares them. Same numbers, same
 * bytes, on every rank. A read is not collective.
 */
typedef struct {
    par_status (*read)(void *user, int64_t first, int64_t n, void *x, void *targets);
    void *user;
} par_source;

/* What the bytes of a token file mean. */
typedef enum {
    PAR_TOKENS_KNOWN,    /* what its magic, its index, its stamp or a proof says; else refused */
    PAR_TOKENS_MEGATRON, /* .bin with its .idx beside it */
    PAR_TOKENS_LLMC,     /* magic 20240520: u16, or 20240801: u32 */
    PAR_TOKENS_LITGPT,   /* magic LITPKDS */
    PAR_TOKENS_U16,      /* no header: nanoGPT's */
    PAR_TOKENS_U32       /* no header: u32, or i32 as old llm.c and a .bin that lost its .idx */
} par_tokens_form;

/* How a token file is opened; 0 means the default. */
typedef struct {
    par_tokens_form form;
    int64_t vocab; /* ids are below it, which can prove that raw ids are u16; 0: below 2^31 */
} par_tokens_params;

/* What is known of a token file. */
typedef struct {
    char form[32];        /* "llm.c u16", say */
    int64_t vocab;        /* of the tokenizer that wrote it; 0: not known */
    int64_t n_documents;  /* -1: not known */
    int64_t max;          /* the largest id; INT64_MAX: one is negative, or above 2^63 - 1 */
    uint64_t fingerprint; /* of the ids in their order, whatever the form */
    bool stamped;         /* the stamp beside the file said so; else all of it was read */
    char note[512];       /* why no stamp could be left, so that the next check reads all again */
} par_tokens_facts;

/* A token file, mapped. */
typedef struct par_tokens par_tokens;

/**
 * Open a token file read-only, with the defaults of par_tokens_params. Not collective. Errors: as
 * of par_tokens_open_as.
 */
PAR_API par_status par_tokens_open(const char *path, par_tokens **out);
/**
 * Open a token file read-only and check all of it that can be checked without reading every id.
 * Megatron's may be named with .bin or, as there, without. A file without a header must have a name
 * that ends in .bin, unless its form is given. It is u16 if it cannot be u32, as an id would be
 * outside of the vocabulary and 2^20 or more; else a stamp must tell which it is, or the form be
 * given.
 *
 * Not collective. Errors: PAR_ERR_IO; PAR_ERR_FORMAT, with path, offset and what would be right:
 * a file of another kind is called by its name; PAR_ERR_MEMORY.
 */
PAR_API par_status par_tokens_open_as(const char *path, const par_tokens_params *params,
                                      par_tokens **out);
/** NULL is accepted. Not collective. */
PAR_API void par_tokens_close(par_tokens **tokens);
/** Number of tokens. Not collective. */
PAR_API int64_t par_tokens_n(const par_tokens *);
/** Largest token id in the file; the caller compares it with the vocabulary. Reads the file once,
 * on par_threads() threads. Not collective. */
PAR_API int64_t par_tokens_max(const par_tokens *);
/**
 * What is known of the file: from its stamp, if that has the file's size and time. Else all of it
 * is read once, on par_threads() threads, and a stamp is left. That is path + ".stamp", one line of
 * JSON with form, size, time, largest id and fingerprint. A folder that cannot be written to is a
 * note. `progress` (may be NULL) is told of tokens read so far, about every GB.
 *
 * Not collective. Errors: PAR_ERR_FORMAT: only a stamp told the form, and the ids are not those
 * that it was written for; PAR_ERR_IO: the file was changed meanwhile; PAR_ERR_MEMORY.
 */
PAR_API par_status par_tokens_check(const par_tokens *,
                                    void (*progress)(void *user, int64_t done, int64_t n),
                                    void *user, par_tokens_facts *out);
/**
 * Whether the file still is what was opened; one that another file replaced under the same name
 * stays as it was. Not collective. Errors: PAR_ERR_IO when its size or time is another.
 */
PAR_API par_status par_tokens_unchanged(const par_tokens *);
/**
 * Tokens [first, first + n) as int32 into out [n].
 *
 * Not collective. Errors: PAR_ERR_ARG: out of range; PAR_ERR_FORMAT: an id is negative or above
 * 2^31 - 1; PAR_ERR_IO: the file became shorter, or could not be read.
 */
PAR_API par_status par_tokens_read(const par_tokens *, int64_t first, int64_t n, int32_t *out);

/**
 * Write an llm.c token file (u16 if vocab <= 65536, else u32 in the 20240801 form): temporary name,
 * fsync, rename.
 *
 * Not collective. Errors: PAR_ERR_IO with path and cause, nothing is left behind; PAR_ERR_ARG: an
 * id outside of [0, vocab), or more than 2^31 - 1 of them; PAR_ERR_MEMORY.
 */
PAR_API par_status par_tokens_write(const char *path, const int32_t *tokens, int64_t n,
                                    int64_t vocab);

/* What a sampler draws, and how. */
typedef struct {
    const par_tokens *tokens;
    int64_t T;          /* x = T tokens, targets = the same shifted by one */
    int64_t begin, end; /* token range to draw from (a train/validation split); 0, 0: all */
    uint64_t seed;
    bool shuffle; /* an epoch is a keyed permutation of its sequences; else in order */
} par_sampler_params;

/* Sequences of a token file in the training's order. */
typedef struct par_sampler par_sampler;

/**
 * Sequences of T tokens at offsets begin + i · T, i < n_sequences; sample number n is entry n mod
 * n_sequences of the permutation of epoch n / n_sequences. The tokens must outlive the sampler.
 *
 * Not collective. Errors: PAR_ERR_ARG: the range is not within the tokens, or holds less than T +
 * 1; PAR_ERR_MEMORY.
 */
PAR_API par_status par_sampler_create(const par_sampler_params *, par_sampler **out);
/** NULL is accepted. Not collective. */
PAR_API void par_sampler_destroy(par_sampler **);
/** Sequences in an epoch. Not collective. */
PAR_API int64_t par_sampler_n_sequences(const par_sampler *);
/** The sampler as a source: x [n, T], targets [n, T], int32. A read fails when the file was changed
 * since it was opened, which is looked at once per second. Borrows it. Not collective. */
PAR_API par_source par_sampler_source(par_sampler *);

/* One of the sources that a blend draws from: of every W samples, W the sum of all weights,
 * `weight` are of it, in its own order. */
typedef struct {
    par_source source;
    int64_t weight; /* at least 1; W is at most 2^31 - 1 */
} par_blend_entry;

/* Several sources in exact proportions, as one. Where a sample comes from is a function of its
 * number. */
typedef struct par_blend par_blend;

/**
 * x_nbytes, targets_nbytes: of one sample. The entries are copied; what they point to must outlive
 * the blend.
 *
 * Not collective. Errors: PAR_ERR_ARG: no entry, a weight below 1, or W too large; PAR_ERR_MEMORY.
 */
PAR_API par_status par_blend_create(const par_blend_entry *entries, int n, size_t x_nbytes,
                                    size_t targets_nbytes, par_blend **out);
/** NULL is accepted. Not collective. */
PAR_API void par_blend_destroy(par_blend **);
/** Sample number `sample`, from 0, is sample *index of entry *entry. Not collective. */
PAR_API void par_blend_find(const par_blend *, int64_t sample, int *entry, int64_t *index);
/** How many of the first n samples each entry gives, into counts [entries]. That is n · weight / W
 * where W divides n; elsewhere it differs by less than one per entry before it. Not collective. */
PAR_API void par_blend_counts(const par_blend *, int64_t n, int64_t *counts);
/** The blend as a source. Borrows it. Not collective. */
PAR_API par_source par_blend_source(par_blend *);

#ifdef __cplusplus
}
#endif
#endif
