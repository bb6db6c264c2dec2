/* Element types and tensor views. */
#include "par/tensor.h"

static const struct {
    size_t nbytes;
    const char *name;
} dtypes[PAR_DTYPE_COUNT] = {
    [PAR_F32] = {4, "fp32"},  [PAR_BF16] = {2, "bf16"}, [PAR_F16] = {2, "fp16"},
    [PAR_I32] = {4, "int32"}, [PAR_I64] = {8, "int64"}, [PAR_U8] = {1, "uint8"},
};

static int is_dtype(par_dtype dtype) {
    return (int)dtype >= 0 && dtype < PAR_DTYPE_COUNT;
}

size_t par_dtype_nbytes(par_dtype dtype) {
    return is_dtype(dtype) ? dtypes[dtype].nbytes : 0;
}

const char *par_dtype_name(par_dtype dtype) {
    return is_dtype(dtype) ? dtypes[dtype].name : "unknown type";
}

int64_t par_tensor_n(const par_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++) n *= t->shape[i];
    return n;
}

size_t par_tensor_nbytes(const par_tensor *t) {
    return (size_t)par_tensor_n(t) * par_dtype_nbytes(t->dtype);
}

par_tensor par_tensor_make(void *data, par_dtype dtype, int ndim, int64_t s0, int64_t s1,
                           int64_t s2, int64_t s3) {
    par_tensor t = {data, dtype, ndim, {s0, s1, s2, s3}};
    for (int i = ndim; i < 4; i++) t.shape[i] = 1;
    return t;
}
