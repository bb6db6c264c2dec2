#include "kernels/cuda/device.cuh"

extern "C" void par__cuda_xent_init(par_backend *backend) {
    (void)backend;
}
