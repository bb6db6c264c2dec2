/*
 * What a device is that is not here, for plans alone (par_device_params.plan_only): what workspaces
 * depend on, as NVIDIA's tools print it on one; the memory is rounded down to whole GiB.
 */
#ifndef PAR__CUDA_RECORDED_H
#define PAR__CUDA_RECORDED_H

#include "kernels/cuda/cuda.h"

static const par__cuda_device par__cuda_recorded = {.recorded = true,
                                                    .major = 9,
                                                    .minor = 0,
                                                    .n_multiprocessors = 132,
                                                    .nbytes = (size_t)79 << 30,
                                                    .name = "NVIDIA H100 80GB HBM3"};

#endif
