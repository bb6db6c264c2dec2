#include "kernels/cuda/cuda.h"

par_status par__cuda_gemm_init(par_backend *backend) {
    (void)backend;
    return PAR_OK;
}
