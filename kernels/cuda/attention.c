#include "kernels/cuda/cuda.h"

par_status par__cuda_attention_init(par_backend *backend) {
    (void)backend;
    return PAR_OK;
}
