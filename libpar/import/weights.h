/* What the writers of whole models share. */
#ifndef PAR__IMPORT_WEIGHTS_H
#define PAR__IMPORT_WEIGHTS_H

#include <jansson.h>

#include "libpar/import/family.h"
#include "par/weights.h"

/* The family that computes what the configuration says; NULL: none. */
const par__family *par__family_of(const par_transformer_config *config);
/* Row of the table and layer of parameter i, in the order of the network; NULL: there are fewer. */
const par__mapping *par__weights_row(const par_transformer_config *config,
                                     const par__family *family, int i, int64_t *layer);
/* Bytes of a whole parameter; 0: they do not fit into a size_t. */
size_t par__param_nbytes(const par_param *param, par_dtype dtype);
/* n values as `dtype`, rounded to nearest even; dst may be where src is. */
void par__narrow(const float *src, int64_t n, par_dtype dtype, void *dst);

/* The first magnitude that rounds to infinity in a type. */
float par__weight_limit(par_dtype dtype);
/* A value of a tensor that is not below that: an error. */
par_status par__weight_refuse(const char *path, const char *name, int ndim, const int64_t index[2],
                              double value, par_dtype dtype);

/* Those fields of a config.json that are kept, where they have a legal value; a new object, or
 * NULL: no memory. */
json_t *par__config_kept(json_t *root);

/* A new config.json; NULL: no memory. */
json_t *par__config_make(const par__family *family, const par_weights *from, par_dtype dtype);

#endif
