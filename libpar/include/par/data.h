/*
 * Data: sources of samples that are a function of their global number, token files, and the
 * sampler.
 */
#ifndef PAR_DATA_H
#define PAR_DATA_H

#include <stdbool.h>
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

/* A token file, mapped. */
typedef struct par_tokens par_tokens;

/**
 * Open a token file read-only and check all of it that can be checked before use. Formats, told
 * apart by their magic: Megatron .bin with its .idx beside it, llm.c (20240520 u16, 20240801 u32),
 * and nanoGPT's raw u16 (a name that ends in .bin, no header, no .idx).
 *
 * Not collective. Errors: PAR_ERR_IO; PAR_ERR_FORMAT, with path, offset and what would be right;
 * PAR_ERR_MEMORY.
 */
PAR_API par_status par_tokens_open(const char *path, par_tokens **out);
/** NULL is accepted. Not collective. */
PAR_API void par_tokens_close(par_tokens **tokens);
/** Number of tokens. Not collective. */
PAR_API int64_t par_tokens_n(const par_tokens *);
/** Largest token id in the file; the caller compares it with the vocabulary. Reads the file once.
 * Not collective. */
PAR_API int64_t par_tokens_max(const par_tokens *);
/**
 * Tokens [first, first + n) as int32 into out [n].
 *
 * Not collective. Errors: PAR_ERR_ARG: out of range; PAR_ERR_FORMAT: an id is negative or above
 * 2^31 - 1.
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
/** The sampler as a source: x [n, T], targets [n, T], int32. Borrows it. Not collective. */
PAR_API par_source par_sampler_source(par_sampler *);

#ifdef __cplusplus
}
#endif
#endif
