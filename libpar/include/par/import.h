/*
 * Import of Hugging Face directories: config.json and safetensors, one file or sharded. Models are
 * GPT-2, Llama, Mistral, Qwen2, Qwen3, and what is one of these by another name, such as SmolLM2.
 */
#ifndef PAR_IMPORT_H
#define PAR_IMPORT_H

#include <stdint.h>

#include "par/export.h"
#include "par/model.h"
#include "par/status.h"
#include "par/tensor.h"
#include "par/transformer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One .safetensors file, mapped. */
typedef struct par_safetensors par_safetensors;

/**
 * Map one .safetensors file and check its header completely (size, JSON, duplicate keys, types,
 * shapes against bytes, no holes, no overlap, full cover) before anything is used.
 *
 * Not collective. Errors: PAR_ERR_IO, PAR_ERR_FORMAT, with path, entry and cause; PAR_ERR_MEMORY.
 */
PAR_API par_status par_safetensors_open(const char *path, par_safetensors **out);
/** NULL is accepted. Not collective. */
PAR_API void par_safetensors_close(par_safetensors **file);
/** Number of tensors. Not collective. */
PAR_API int par_safetensors_n(const par_safetensors *);
/** Name of tensor i in sorted order; NULL outside [0, n). Not collective. */
PAR_API const char *par_safetensors_name(const par_safetensors *, int i);
/**
 * The tensor called `name` as a view into the mapped file: read-only, possibly unaligned, valid
 * until the file is closed.
 *
 * Not collective. Errors: PAR_ERR_ARG: there is none, with the closest names; PAR_ERR_UNSUPPORTED:
 * a type that par_dtype does not have, or more than 4 dimensions.
 */
PAR_API par_status par_safetensors_get(const par_safetensors *, const char *name, par_tensor *out);

/**
 * Write n tensors, names[i] with tensors[i], to a .safetensors file: temporary name, fsync, rename.
 *
 * Not collective. Errors: PAR_ERR_IO; PAR_ERR_ARG: a name that is there twice, reserved or not
 * UTF-8, or a tensor without data or with an impossible shape; PAR_ERR_MEMORY.
 */
PAR_API par_status par_safetensors_write(const char *path, int n, const char *const *names,
                                         const par_tensor *tensors);

/* A directory with a model, its files mapped. */
typedef struct par_import par_import;

/**
 * Open a directory as save_pretrained writes it. Reads config.json (older and newer form) into a
 * configuration and maps model.safetensors or the files of model.safetensors.index.json. Every
 * tensor that the model needs must be there with its shape. Unknown ones are refused, except stored
 * causal masks (".attn.bias", ".attn.masked_bias"), rotary inv_freq and a duplicate tied head. What
 * tools write before all names ("module.", "_orig_mod.", "base_model.model.") is left out.
 * Features that change the mathematics and are not supported are refused by name.
 *
 * Not collective. Errors: PAR_ERR_IO, PAR_ERR_FORMAT, PAR_ERR_UNSUPPORTED, PAR_ERR_MEMORY.
 */
PAR_API par_status par_import_open(const char *directory, par_import **out);
/** NULL is accepted. Not collective. */
PAR_API void par_import_close(par_import **import);
/** What config.json says; lives as long as the import. Not collective. */
PAR_API const par_transformer_config *par_import_config(const par_import *);

/**
 * The i-th token that ends a text, from 0: eos_token_id of generation_config.json, or of
 * config.json where that says nothing, up to 32; -1: there are fewer. Not collective.
 */
PAR_API int32_t par_import_end(const par_import *, int i);

enum { PAR_IMPORT_KEPT = 512 };
/**
 * What config.json says for other programs and libpar does not need: an object of bos_token_id,
 * eos_token_id, pad_token_id and initializer_range, as far as they are there, null too. Lives as
 * long as the import; "": it is longer than PAR_IMPORT_KEPT. Not collective.
 */
PAR_API const char *par_import_kept(const par_import *);

/**
 * The rectangle of `param` as fp32 into dst [param->local], zero where padded. Splits fused tensors
 * (GPT-2's c_attn) and transposes as the family stores them.
 *
 * Not collective. Errors: PAR_ERR_FORMAT: the tensor is missing or has another shape, or an element
 * is NaN or infinite; PAR_ERR_UNSUPPORTED: one that rounds to infinity in param->dtype;
 * PAR_ERR_ARG: a rectangle outside of the tensor; PAR_ERR_IO: the file became shorter, or could not
 * be read.
 */
PAR_API par_status par_import_read(const par_import *, const par_param *param, float *dst);

/**
 * As par_import_read, but from any one safetensors file of the same family, with the family's names
 * prefixed by `prefix` ("", "m.", "v."): gradients and moments of reference results.
 *
 * Not collective. Errors: as par_import_read; PAR_ERR_UNSUPPORTED: not a floating type.
 */
PAR_API par_status par_import_read_from(const par_import *, const par_safetensors *file,
                                        const char *prefix, const par_param *param, float *dst);

#ifdef __cplusplus
}
#endif
#endif
