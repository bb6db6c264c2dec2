/*
 * The device, for C and CUDA C++: streams, checks of foreign calls, what it is. The parts of this
 * folder, each using those before it: device.c, graph.c, plan_cache.c, methods.c; own/, the own
 * kernels; gemm/, products by cuBLASLt; attention/, by cuDNN or own kernels; init.c, which fills
 * the backend.
 *
 * All of it lives in a module that libpar loads (libpar/module) and that links nothing of libpar:
 * beside what is inline it uses par_error_set and par_error alone, which the module defines.
 */
#ifndef PAR__CUDA_H
#define PAR__CUDA_H

#include <cuda_runtime_api.h>

#include "par/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Behind every par_stream and par_event of this backend. */
typedef struct {
    par_stream base;
    cudaStream_t stream; /* non-blocking */
} par__cuda_stream_of;

struct par_event {
    cudaEvent_t event;
    bool timed; /* elapsed may read it, in a graph too */
};

/* The default stream for NULL. */
cudaStream_t par__cuda_stream(par_stream *stream);

/* What the device is, asked once. */
typedef struct {
    bool recorded;    /* it is not here (recorded.h): operations are prepared, nothing runs */
    int device;       /* number among the visible ones */
    int major, minor; /* compute capability */
    int n_multiprocessors;
    size_t nbytes;       /* of its memory */
    int driver, runtime; /* 13000 for 13.0 */
    char bus_id[32], name[256];
} par__cuda_device;
const par__cuda_device *par__cuda_device_get(void);

/* Every call of the CUDA runtime goes through here: its error text, the call, and the device's
 * state. Errors: PAR_ERR_MEMORY; PAR_ERR_UNSUPPORTED if driver, device or build lack something;
 * PAR_ERR_ARG and PAR_ERR_INTERNAL for what CUDA was told; else PAR_ERR_DEVICE. On a recorded
 * device nothing is called, as there it could only set a kernel up. */
#define PAR__CUDA_TRY(call)                                                                        \
    do {                                                                                           \
        cudaError_t par_cuda_error_ = par__cuda_device_get()->recorded ? cudaSuccess : (call);     \
        if (par_cuda_error_ != cudaSuccess) return par__cuda_failed(par_cuda_error_, #call);       \
    } while (0)
par_status par__cuda_failed(cudaError_t error, const char *call);

/* After a launch of an own kernel: PAR_OK, or the launch's error with the kernel's name. */
par_status par__cuda_launched(const char *kernel);

/* "bf16" */
static inline const char *par__type_name(par_dtype dtype) {
    return dtype == PAR_F32 ? "fp32" : dtype == PAR_BF16 ? "bf16" : "fp16";
}

/* device.c: memory, streams, events, copies; opens the device. */
par_status par__cuda_device_init(const par_device_params *params, par_backend *backend);

/* device.c is told when a capture begins and ends, as it records timed events otherwise. */
void par__cuda_capturing(bool now);
/* graph.c: capturing and launching graphs. */
void par__cuda_graph_init(par_backend *backend);

/* init.c: the whole backend. Errors: PAR_ERR_UNSUPPORTED with what is missing on this machine. */
par_status par__cuda_init(const par_device_params *params, par_backend *backend);

#ifdef __cplusplus
}
#endif
#endif
