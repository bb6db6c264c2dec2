/*
 * The inside of the cuda module, for C and CUDA C++: streams, checks of foreign calls, and what
 * each topic adds to the backend's table. Everything of libpar that the module uses is in module.c
 * or inline, so that it links nothing of it; PAR_FAIL and PAR_TRY work as everywhere.
 */
#ifndef PAR__CUDA_H
#define PAR__CUDA_H

#include <cuda_runtime_api.h>

#include "kernels/module.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Behind every par_stream and par_event of this backend. */
typedef struct {
    par_stream base;
    cudaStream_t stream; /* non-blocking */
} par__cuda_stream_of;

struct par_event {
    cudaEvent_t event; /* with timing only where elapsed shall read it */
};

/* The default stream for NULL. */
cudaStream_t par__cuda_stream(par_stream *stream);

/* Every call of the CUDA runtime goes through here: its error text, the call, and the device's
 * state. */
#define PAR__CUDA_TRY(call)                                                                        \
    do {                                                                                           \
        cudaError_t par_cuda_error_ = (call);                                                      \
        if (par_cuda_error_ != cudaSuccess) return par__cuda_failed(par_cuda_error_, #call);       \
    } while (0)
par_status par__cuda_failed(cudaError_t error, const char *call);

/* After a launch of an own kernel: PAR_OK, or the launch's error with the kernel's name. */
par_status par__cuda_launched(const char *kernel);

/* What the device is, asked once. */
typedef struct {
    int device;       /* number among the visible ones */
    int major, minor; /* compute capability */
    int n_multiprocessors;
    size_t nbytes;       /* of its memory */
    int driver, runtime; /* 13000 for 13.0 */
    char bus_id[32], name[256];
} par__cuda_device;
const par__cuda_device *par__cuda_device_get(void);

/* device.c: memory, streams, events, copies; opens the device. */
par_status par__cuda_device_init(const par_device_params *params, par_backend *backend);

/* One a topic: fills its operations of the table. Those that make handles may fail. */
void par__cuda_norm_init(par_backend *backend);
void par__cuda_rope_init(par_backend *backend);
void par__cuda_activation_init(par_backend *backend);
void par__cuda_residual_init(par_backend *backend);
void par__cuda_column_sum_init(par_backend *backend);
void par__cuda_embedding_init(par_backend *backend);
void par__cuda_xent_init(par_backend *backend);
void par__cuda_update_init(par_backend *backend); /* adamw, sgd, norm2, cast */
void par__cuda_vote_init(par_backend *backend);
par_status par__cuda_gemm_init(const par_device_params *params, par_backend *backend);
par_status par__cuda_attention_init(const par_device_params *params, par_backend *backend);

/* collectives/nccl/nccl.c: what CUDA and NCCL read from the environment, before their first call;
 * and the const par__nccl * that libpar gets. */
void par__cuda_environment(const par_device_params *params);
const void *par__cuda_link(const par_device_params *params);

#ifdef __cplusplus
}
#endif
#endif
