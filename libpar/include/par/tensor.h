/* Element types, and a tensor as a view: pointer, type and shape, row-major and contiguous. It owns
 * nothing. */
#ifndef PAR_TENSOR_H
#define PAR_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#include "par/export.h"
#include "par/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The type of an element. */
typedef enum { PAR_F32, PAR_BF16, PAR_F16, PAR_I32, PAR_I64, PAR_U8, PAR_DTYPE_COUNT } par_dtype;

/* A view: row-major, contiguous. */
typedef struct {
    void *data; /* on the backend's device; NULL while a configuration is only measured */
    par_dtype dtype;
    int ndim;
    int64_t shape[4]; /* row-major; entries from ndim on are 1 */
} par_tensor;

/** Bytes that an element of `dtype` takes; 0 for a value that is not a par_dtype. Not
 * collective. */
PAR_API size_t par_dtype_nbytes(par_dtype dtype);
/** "fp32", "bf16", "fp16", "int32", "int64", "uint8". Not collective. */
PAR_API const char *par_dtype_name(par_dtype dtype);
/** Elements of a tensor: the product of its shape. Not collective. */
PAR_API int64_t par_tensor_n(const par_tensor *t);
/** Bytes of a tensor. Not collective. */
PAR_API size_t par_tensor_nbytes(const par_tensor *t);
/** A view of `data` with up to four dimensions; shape entries from ndim on are set to 1. Not
 * collective. */
PAR_API par_tensor par_tensor_make(void *data, par_dtype dtype, int ndim, int64_t s0, int64_t s1,
                                   int64_t s2, int64_t s3);

#ifdef __cplusplus
}
#endif
#endif
