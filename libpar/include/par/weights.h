/*
 * Whole models in the files of other programs. Weights go by libpar's names from any source (a
 * checkpoint, a Hugging Face directory, a model file of llm.c) to a Hugging Face directory or a
 * model file of llm.c. One parameter lies in memory at a time.
 */
#ifndef PAR_WEIGHTS_H
#define PAR_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "par/export.h"
#include "par/import.h"
#include "par/model.h"
#include "par/status.h"
#include "par/tensor.h"
#include "par/transformer.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { PAR_WEIGHTS_ENDS = 32 };

/* A model's weights. */
typedef struct {
    par_transformer_config config;
    int32_t ends[PAR_WEIGHTS_ENDS]; /* ids that end a text, [n_ends] */
    int n_ends;                     /* 0: not known */
    const char
        *kept;       /* what par_import_kept said of the model's config.json; NULL, "": not known */
    par_dtype dtype; /* that they are stored in: fp32, bf16, fp16 */
    /* The whole parameter as `dtype` into dst [global], row-major. `param` is one of
     * par_weights_param. */
    par_status (*read)(void *user, const par_param *param, par_dtype dtype, void *dst);
    void *user;
    /* Puts what else belongs into a Hugging Face directory there, before it is complete; files that
     * it leaves there need not be synced. NULL: nothing. */
    par_status (*beside)(void *user, const char *directory);
    void *beside_user;
} par_weights;

/**
 * The model type of Hugging Face that computes what this configuration does: "gpt2", "llama",
 * "mistral", "qwen2", "qwen3"; NULL: none that libpar imports. Not collective.
 */
PAR_API const char *par_weights_family(const par_transformer_config *config);

/**
 * Parameter i of such a model, whole: name, ndim, global, extent and local; false: there are fewer.
 * Not collective.
 */
PAR_API bool par_weights_param(const par_transformer_config *config, int i, par_param *out);

/** An open directory as a source, which must stay open; *out needs no closing. Not collective.
 * Errors of its reads: as par_import_read. */
PAR_API void par_weights_of_import(const par_import *import, par_weights *out);

/**
 * Write config.json and model.safetensors as `dtype`, or, above shard_nbytes of weights (0:
 * 5 · 10^9), files of about that size and model.safetensors.index.json. config.json comes last; its
 * eos_token_id is the ends, one or a list, or, where none are known, that of GPT-2's vocabulary.
 * What `kept` has stands there as it was, and what it has not is absent, as it was. A
 * directory that is imported and written in its own type has the same tensors byte for byte.
 *
 * A directory that a killed process left is written anew; after an error it is gone.
 *
 * Not collective. Errors: PAR_ERR_IO: also when `directory` is there already; PAR_ERR_UNSUPPORTED:
 * no family computes what the configuration says; PAR_ERR_MEMORY; those of `read` and `beside`.
 */
PAR_API par_status par_weights_write_hf(const par_weights *from, const char *directory,
                                        par_dtype dtype, size_t shard_nbytes);

/* A model file of llm.c, mapped. */
typedef struct par_llmc par_llmc;

/**
 * Open one. It has a header of 256 int32 with magic 20240326 and version 3 (fp32) or 5 (bf16), then
 * the weights of GPT-2, each stacked over layers. Linear weights are [out, in]; the vocabulary is
 * padded with rows that are not read. Numbers and length are checked before anything is used.
 *
 * Not collective. Errors: PAR_ERR_IO, PAR_ERR_FORMAT with path and cause; PAR_ERR_MEMORY.
 */
PAR_API par_status par_llmc_open(const char *path, par_llmc **out);
/** NULL is accepted. Not collective. */
PAR_API void par_llmc_close(par_llmc **file);
/** As par_weights_of_import. Not collective. */
PAR_API void par_weights_of_llmc(const par_llmc *file, par_weights *out);
/**
 * Write one, version 3 for fp32 and 5 for bf16, the vocabulary padded to a multiple of 128 with
 * zeros: temporary name, fsync, rename.
 *
 * Not collective. Errors: PAR_ERR_UNSUPPORTED: another type, or a model that llm.c does not
 * compute, with the reason; PAR_ERR_IO: also when `path` is there already; PAR_ERR_MEMORY; those of
 * `read`.
 */
PAR_API par_status par_weights_write_llmc(const par_weights *from, const char *path,
                                          par_dtype dtype);

#ifdef __cplusplus
}
#endif
#endif
